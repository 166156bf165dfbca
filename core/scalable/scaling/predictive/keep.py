"""How long a worker may have nothing to do: each level of demand has its own ski rental."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

__all__ = ["Levels"]

GAPS = 12
"""Gaps that are remembered of a level."""

IMAGINED_S = np.geomspace(5.0, 100_000.0, 8)
"""Gaps that are taken for equally likely before any is seen: any order of magnitude is."""

TRUST = 1.0
"""How many seen gaps all the imagined ones weigh."""

ASKED = 64
"""Levels that are asked one by one."""

_LONGER = 1.05  # than the longest gap worth bridging, so that the next one like it is bridged too

_Array = NDArray[np.float64]


class Levels:
    """When each level of a pool's demand was busy last, and how long it was not, before.

    Level 5 is busy while five workers or more have work. Of a level that goes quiet, nobody
    knows for how long; to keep its worker costs by the second, to get one again costs once.
    That is the ski rental problem. The time to keep is the one that would have been cheapest
    over the gaps seen at that level.

    Levels, not workers, are watched, because where idle workers take turns none is idle for long.
    """

    def __init__(self) -> None:
        self._since = np.zeros(0)
        self._gaps = np.zeros((0, GAPS))
        self._count = np.zeros(0, dtype=int)
        self._demand = 0
        self._seen: float | None = None

    @property
    def demand(self) -> int:
        """How many workers had work at the last look."""
        return self._demand

    def see(self, now: float, demand: int) -> None:
        """Take note of how many workers have work."""
        self._grow(max(demand, self._demand))
        # What changed did so at some moment since the look before.
        when = now if self._seen is None else (now + self._seen) / 2
        self._seen = now
        if demand < self._demand:
            self._since[demand : self._demand] = when
        elif demand > self._demand:
            rows = np.arange(self._demand, demand)
            rows = rows[self._since[rows] > -np.inf]
            self._gaps[rows, self._count[rows] % GAPS] = when - self._since[rows]
            self._count[rows] += 1
        self._demand = demand

    def expired(self, now: float, workers: int, again_s: float, until: _Array | None = None) -> int:
        """Return how many workers have been kept for long enough.

        Parameters
        ----------
        now : float
            The time.
        workers : int
            Workers there are.
        again_s : float
            What getting a worker again costs, in seconds of keeping one.
        until : array, optional
            When each level above the demand may lose its worker at the soonest.
        """
        self._grow(workers)
        if workers <= self._demand:
            return 0
        rows = np.arange(self._demand, workers)
        # Of very many levels only every so many-th is asked: neighbours have seen much the same.
        step = math.ceil(len(rows) / ASKED)
        keep = np.repeat(self._keep(rows[::step], again_s), step)[: len(rows)]
        gone = now - self._since[rows] >= keep
        return int((gone if until is None else gone & (now >= until)).sum())

    def _keep(self, rows: NDArray[np.int64], again_s: float) -> _Array:
        gaps, count = self._gaps[rows], np.minimum(self._count[rows], GAPS)
        n = len(count)
        gaps = np.concatenate((gaps, np.broadcast_to(IMAGINED_S, (n, len(IMAGINED_S)))), axis=1)
        weight = np.concatenate(
            ((np.arange(GAPS) < count[:, None]).astype(float), np.full((n, len(IMAGINED_S)), TRUST / len(IMAGINED_S))),
            axis=1,
        )
        # Who keeps for t pays for the gaps up to t in full, and for each longer one t and a new worker.
        order = np.argsort(gaps, axis=1)
        gaps, weight = np.take_along_axis(gaps, order, 1), np.take_along_axis(weight, order, 1)
        short = np.cumsum(weight * gaps, axis=1)
        longer = weight.sum(axis=1)[:, None] - np.cumsum(weight, axis=1)
        cost = np.concatenate((again_s * weight.sum(axis=1)[:, None], short + longer * (gaps + again_s)), axis=1)
        tries = np.concatenate((np.zeros((n, 1)), gaps), axis=1)
        best: _Array = tries[np.arange(n), cost.argmin(axis=1)]
        return best * _LONGER

    def _grow(self, size: int) -> None:
        more = size - len(self._since)
        if more > 0:
            more = max(more, len(self._since))
            self._since = np.concatenate((self._since, np.full(more, -np.inf)))
            self._gaps = np.concatenate((self._gaps, np.zeros((more, GAPS))))
            self._count = np.concatenate((self._count, np.zeros(more, dtype=int)))
