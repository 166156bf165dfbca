"""When queued work will be done, by the workers there are and by more of them."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from scalable.scaling.model import PoolInfo, PoolView

__all__ = ["EVER_S", "Capacity", "Drain", "Startups"]

GUESS_S = 60.0
"""Seconds from asking for a worker to its being up, if nothing is known."""

EVER_S = 1e12
"""Seconds that no start and no task takes; more counts as this."""

POINTS = 12
"""Quantiles that stand for a distribution."""

_KEPT = 60
_TAIL = 1.0  # a worker that is later than all seen takes as long again

_LEAST = 1e-9  # of a worker; less is nobody

_Array = NDArray[np.float64]

_NONE: _Array = np.zeros(0)
_ZERO: _Array = np.zeros(1)


@dataclass(frozen=True, slots=True)
class Capacity:
    """When how many workers come free.

    Attributes
    ----------
    at_s : array
        Seconds from now.
    workers : array
        How many of them then; fractions are slots of a worker.
    """

    at_s: _Array = field(default_factory=lambda: np.zeros(0))
    workers: _Array = field(default_factory=lambda: np.zeros(0))

    @classmethod
    def joined(cls, parts: Sequence[Capacity]) -> Capacity:
        """Return all of them together."""
        if not parts:
            return cls()
        return cls(np.concatenate([part.at_s for part in parts]), np.concatenate([part.workers for part in parts]))

    @property
    def total(self) -> float:
        """Workers in all."""
        return float(self.workers.sum())

    def not_before(self, at_s: float) -> Capacity:
        """Return the same, busy until then at the least."""
        return Capacity(np.maximum(self.at_s, at_s), self.workers)


class Drain:
    """When queued tasks start, for each of some numbers of new workers.

    Every worker takes the next task when it is free, so that one that comes free after ``f``
    has begun ``(t - f) / task_s + 1`` tasks by ``t``.

    Parameters
    ----------
    present : Capacity
        Workers there are.
    task_s : float
        Worker-seconds that one task takes.
    fresh : array, optional
        Equally likely seconds until a new worker is up.
    counts : array, optional
        Numbers of new workers to try; none but 0 if omitted.
    """

    def __init__(self, present: Capacity, task_s: float, fresh: _Array = _NONE, counts: _Array = _ZERO) -> None:
        at = np.concatenate((present.at_s, fresh))
        order = at.argsort(kind="stable")
        self._at = at = at[order]
        # Workers that are there, new ones, and both times their moments: one running sum for all.
        parts = np.zeros((4, len(at)))
        parts[0, : len(present.at_s)] = present.workers
        parts[1, len(present.at_s) :] = 1.0 / max(1, len(fresh))
        parts[:2] = parts[:2, order]
        np.multiply(parts[:2], at, out=parts[2:])
        old, new, old_moment, new_moment = parts.cumsum(axis=1)
        many = counts[:, None]
        workers = old + many * new
        there = workers > _LEAST
        self._each = np.divide(1.0, workers, out=np.full_like(workers, np.inf), where=there)
        self._less = np.multiply(old_moment + many * new_moment, self._each, out=np.zeros_like(workers), where=there)
        self._less -= task_s

    def starts(self, works_s: _Array) -> _Array:
        """Return the seconds until amounts of queued work are begun: a row for each number of new workers.

        Parameters
        ----------
        works_s : array
            Worker-seconds, each more than zero.
        """
        # With those alone that are free by some moment it is begun at that moment or later: the soonest counts.
        ends = works_s[:, None] * self._each[:, None, :] + self._less[:, None, :]
        soonest: _Array = np.maximum(ends, self._at).min(axis=2, initial=np.inf)
        return soonest


class Startups:
    """How long workers of one pool take to come up.

    Parameters
    ----------
    info : PoolInfo
        What was seen before or is usual.

    Attributes
    ----------
    quantiles : array
        Equally likely seconds from asking for a worker to its being up.
    mean_s : float
        The mean of these.
    """

    def __init__(self, info: PoolInfo) -> None:
        self.told = info.wait_s is not None or info.boot_s is not None
        boot_s = min(info.boot_s or 0.0, EVER_S)
        self._usual = min(info.wait_s or 0.0, EVER_S) + boot_s if self.told else GUESS_S
        self._paid = 1.0 if not self.told else boot_s / max(self._usual, 1e-9)
        self._boot = boot_s if info.boot_s is not None else None
        self._seen: deque[float] = deque(maxlen=_KEPT)
        self._learned()

    def learn(self, view: PoolView) -> None:
        """Take note of workers that came up."""
        if view.startups:
            self._seen.extend(min(one, EVER_S) for one in view.startups)
            self._learned()

    @property
    def source(self) -> str:
        """Where the figures are from."""
        return "seen" if self._seen else "told" if self.told else "guess"

    @property
    def boot_s(self) -> float:
        """Seconds of these that are paid for."""
        return self._boot if self._boot is not None else self.mean_s * self._paid

    def left(self, ages: _Array) -> tuple[_Array, _Array]:
        """Return the seconds until starting workers are up, expected and at the soonest, given their ages."""
        known, ages = self.quantiles, np.minimum(ages, EVER_S)
        longer = known[None, :] > ages[:, None]
        n = longer.sum(axis=1)
        mean = np.where(longer, known, 0.0).sum(axis=1) / np.maximum(n, 1) - ages
        beyond = np.maximum(ages * _TAIL, 1.0)
        soonest = known[np.minimum(len(known) - n, len(known) - 1)] - ages
        return np.where(n > 0, mean, beyond), np.where(n > 0, soonest, 0.0)

    def _learned(self) -> None:
        # What was told beforehand counts as five that were seen, from three fifths of it to seven fifths.
        told = self._usual * np.array([0.6, 0.8, 1.0, 1.2, 1.4])
        seen = np.array(self._seen)
        some = np.concatenate((told, seen)) if len(seen) < 15 else seen
        self.quantiles: _Array = np.quantile(some, (np.arange(POINTS) + 0.5) / POINTS)
        self.mean_s = float(self.quantiles.mean())
