"""The memory to ask for first, and after each failure, so that the least is wasted in expectation."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

__all__ = ["USUAL_EXCESS", "Ladders", "build", "excess_of"]

Floats = NDArray[np.float64]
Ints = NDArray[np.intp]

_BODY: Final = 24
"""Candidates at the most within what was seen."""
_TAIL: Final = np.array([0.15, 0.4, 0.8, 1.3, 2.0, 3.0, 4.5])
"""Candidates beyond it, in mean excesses."""
_BETWEEN: Final = np.concatenate(([0.0], (_TAIL[1:] + _TAIL[:-1]) / 2, [np.inf]))
_TAIL_MASS: Final = np.exp(-_BETWEEN[:-1]) - np.exp(-_BETWEEN[1:])
_TAIL_FROM: Final = 0.6
_NARROWEST: Final = 5e-4
_WIDEST: Final = 2.5
_FARTHEST: Final = float(np.log(4.0))
USUAL_EXCESS: Final = 0.2
"""By how much, in logarithms, the upper part of a sample exceeds its beginning, where nothing is known of it."""
_USUAL_WEIGHT: Final = 2.0
_NEVER: Final = 1e-9
_FAILURE: Final = 1.05
"""What a failed attempt costs, as a multiple of what it held: the worker starts again, and what waits for it waits."""


@dataclass(frozen=True, slots=True, eq=False)
class Ladders:
    """For each of several tasks the sizes to try one after the other.

    Attributes
    ----------
    sizes : array, tasks by candidates
        Candidates in ascending order, in units of the task's location.
    reached : array, tasks by candidates
        Probability that a candidate suffices.
    following : array, tasks by candidates + 1
        Which candidate comes after a failure at each; at last, which comes first.
    """

    sizes: Floats
    reached: Floats
    following: Ints

    def first(self) -> tuple[Floats, Floats]:
        """Return each task's first size, and the probability that it suffices."""
        row = np.arange(len(self.sizes))
        chosen = self.following[:, -1]
        return self.sizes[row, chosen], self.reached[row, chosen]

    def sufficing(self, size: float) -> float:
        """Return the probability that a size suffices for the first task."""
        place = int(np.searchsorted(self.sizes[0], size * (1 + _NEVER), side="right")) - 1
        return float(self.reached[0, place]) if place >= 0 else 0.0

    def after(self, failed: float) -> float | None:
        """Return the size to try after one that was too small, for the first task; ``None`` above all candidates."""
        sizes = self.sizes[0]
        place = int(np.searchsorted(sizes, failed * (1 + _NEVER), side="right")) - 1
        if place >= len(sizes) - 1:
            return None
        return float(sizes[self.following[0, place]])

    def waste(self, needs: Floats) -> Floats:
        """Return what each task wastes that needs so much, as a multiple of its location.

        Parameters
        ----------
        needs : array
            One peak a task, in units of its location.
        """
        row = np.arange(len(needs))
        last = self.sizes.shape[1] - 1
        at = self.following[:, -1].copy()
        size = self.sizes[row, at]
        total = np.zeros(len(needs))
        live = np.ones(len(needs), dtype=bool)
        while True:
            fits = live & (size >= needs)
            total[fits] += size[fits] - needs[fits]
            live &= ~fits
            if not live.any():
                return total
            total[live] += size[live]
            above = live & (at >= last)
            size = np.where(above, 2 * size, size)
            move = live & ~above
            at = np.where(move, self.following[row, at], at)
            size = np.where(move, self.sizes[row, at], size)


def build(
    ratios: Floats, weights: Floats, caution: float = 1.0, least: float = 0.0, usual: float = USUAL_EXCESS
) -> Ladders:
    """Return the ladders that waste least in expectation.

    A task with peak y that is given a wastes ``a - y``, or, if a is too small, all of a, and is
    tried again with more. With candidates ``c_1 < ... < c_m`` and the probability P of needing
    more than a candidate, what is wasted after a failure at ``c_i`` is, but for a constant,
    ``G(i) = min over k > i of c_k * P(i) + G(k)``, with ``G(m) = 0``: the best ladder from the
    last candidate down to the first. A failed attempt is counted as long as a whole one.

    The candidates are those of the sample, and some beyond it: the next of n + 1 exchangeable
    values is the largest with probability ``1 / (n + 1)``, and by how much is taken to be
    exponential in logarithms, with the mean excess of the upper part of the sample (Hill's
    estimator), where n is the effective number ``(sum w)**2 / sum w**2`` (Kish). Of few tasks
    that mean says little: its logarithm is averaged with that of the usual one, which counts
    as two tasks. Nothing beyond four times the largest is tried.

    Parameters
    ----------
    ratios : array
        What tasks needed in units of their location, ascending.
    weights : array, tasks by ratios
        How much each counts for each task.
    caution : float
        Factor on the probability that a size is too small, for where the past was not like the present.
    least : float
        Probability with which the first size is to suffice at the least.
    usual : float
        Mean excess of other tasks, in logarithms.
    """
    total = weights.sum(axis=1)
    share = weights / total[:, None]
    effective = 1.0 / np.maximum((share * share).sum(axis=1), _NEVER)
    beyond = 1.0 / (effective + 1.0)
    reached = np.cumsum(share, axis=1)
    logs = np.log(ratios)
    top, excess = _upper(logs, share, reached, effective)
    own = effective / (effective + _USUAL_WEIGHT)
    excess = np.exp(own * np.log(excess) + (1 - own) * np.log(usual))
    body = _places(len(ratios))
    sizes = np.concatenate(
        [
            np.broadcast_to(ratios[body], (len(weights), len(body))),
            np.exp(top[:, None] + np.minimum(excess[:, None] * _TAIL, _FARTHEST)),
        ],
        axis=1,
    )
    mass = np.concatenate(
        [np.diff(reached[:, body], axis=1, prepend=0.0) * (1 - beyond)[:, None], beyond[:, None] * _TAIL_MASS], axis=1
    )
    order = np.argsort(sizes, axis=1)
    sizes = np.take_along_axis(sizes, order, axis=1)
    suffices = np.cumsum(np.take_along_axis(mass, order, axis=1), axis=1)
    if caution != 1.0:
        suffices = np.maximum(1.0 - caution * (1.0 - suffices), 0.0)
    return Ladders(sizes, suffices, _best(sizes, suffices, least))


def excess_of(values: Floats) -> float:
    """Return the mean excess of the upper part of a sample, in logarithms.

    Parameters
    ----------
    values : array
        What tasks needed; positive.
    """
    share = np.full((1, len(values)), 1.0 / len(values))
    _, excess = _upper(np.log(np.sort(values)), share, np.cumsum(share, axis=1), np.array([float(len(values))]))
    return float(excess[0])


@functools.lru_cache(maxsize=256)
def _places(count: int) -> Ints:
    """Return which of so many sorted values are candidates: evenly, and more of them near the largest."""
    if count <= _BODY:
        return np.arange(count)
    even = np.linspace(0, count - 1, _BODY * 2 // 3)
    upper = count - np.geomspace(1, count, _BODY // 2)
    return np.unique(np.concatenate([even, upper]).round().astype(np.intp).clip(0, count - 1))


def _upper(logs: Floats, share: Floats, reached: Floats, effective: Floats) -> tuple[Floats, Floats]:
    """Return the logarithm of the largest value that counts, and the mean excess of the upper part, by task."""
    row = np.arange(len(share))
    start = np.argmax(reached >= _TAIL_FROM, axis=1)
    last = np.argmax(reached >= 1 - 0.02 / np.maximum(effective, 1.0)[:, None], axis=1)
    sums = np.cumsum(share * logs, axis=1)
    rest = 1.0 - reached[row, start]
    excess = (sums[:, -1] - sums[row, start]) / np.maximum(rest, _NEVER) - logs[start]
    return logs[last], np.clip(np.where(rest > 1e-6, excess, 0.0), _NARROWEST, _WIDEST)


def _best(sizes: Floats, suffices: Floats, least: float) -> Ints:
    """Return which candidate follows on a failure at each, and at last which comes first."""
    tasks, count = sizes.shape
    row = np.arange(tasks)
    following = np.full((tasks, count + 1), count - 1, dtype=np.intp)
    left = 1.0 - suffices
    # What each candidate costs after it was tried: the restarts of those for which it is too small, and their way on.
    later = sizes * (_FAILURE - 1.0) * left
    for place in range(count - 2, -1, -1):
        cost = sizes[:, place + 1 :] * left[:, place, None] + later[:, place + 1 :]
        best = cost.argmin(axis=1)
        following[:, place] = best + place + 1
        later[:, place] += cost[row, best]
    first = sizes + later
    if least > 0:
        first = np.where((suffices >= least) | (np.arange(count) == count - 1), first, np.inf)
    following[:, -1] = first.argmin(axis=1)
    return following
