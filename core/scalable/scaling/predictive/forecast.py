"""When queued work will be done, by the workers there are and by more of them."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from scalable.scaling.model import PoolInfo, PoolView

__all__ = ["Capacity", "Drain", "Startups"]

GUESS_S = 60.0
"""Seconds from asking for a worker to its being up, if nothing is known."""

POINTS = 12
"""Quantiles that stand for a distribution."""

_KEPT = 60
_TAIL = 1.0  # a worker that is later than all seen takes as long again

_Array = NDArray[np.float64]


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
    fresh : array
        Equally likely seconds until a new worker is up.
    counts : array
        Numbers of new workers to try.
    task_s : float
        Worker-seconds that one task takes.
    """

    def __init__(self, present: Capacity, fresh: _Array, counts: _Array, task_s: float) -> None:
        at = np.concatenate((present.at_s, fresh))
        order = np.argsort(at, kind="stable")
        self._at = at[order]
        old = np.concatenate((present.workers, np.zeros(len(fresh))))[order]
        new = np.concatenate((np.zeros(len(present.at_s)), np.full(len(fresh), 1.0 / len(fresh))))[order]
        self._slope = np.cumsum(old) + counts[:, None] * np.cumsum(new)
        moment = np.cumsum(old * self._at) + counts[:, None] * np.cumsum(new * self._at)
        self._begun = self._slope * (self._at + task_s) - moment

    def starts(self, works_s: _Array) -> _Array:
        """Return the seconds until amounts of queued work are begun: a row for each number of new workers.

        Parameters
        ----------
        works_s : array
            Worker-seconds.
        """
        at, last = self._at, len(self._at) - 1
        works = works_s * (1 - 1e-9)
        first = (self._begun[:, None, :] < works[:, None]).sum(axis=2)
        rows = np.arange(len(self._begun))[:, None]
        before = np.maximum(first - 1, 0)
        lacking = np.maximum(works_s - self._begun[rows, before], 0.0)
        slope = self._slope[rows, before]
        more = np.divide(lacking, slope, out=np.where(lacking > 0, np.inf, 0.0), where=slope > 0)
        upper = np.where(first <= last, at[np.minimum(first, last)], np.inf)
        ends: _Array = np.where(first == 0, at[0], np.minimum(at[before] + more, upper))
        return ends


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
        self._usual = (info.wait_s or 0.0) + (info.boot_s or 0.0) if self.told else GUESS_S
        self._paid = 1.0 if not self.told else (info.boot_s or 0.0) / max(self._usual, 1e-9)
        self._boot = info.boot_s if self.told and info.boot_s is not None else None
        self._seen: deque[float] = deque(maxlen=_KEPT)
        self._learned()

    def learn(self, view: PoolView) -> None:
        """Take note of workers that came up."""
        if view.startups:
            self._seen.extend(view.startups)
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
        known = self.quantiles
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
