"""When demand comes again: starts ahead of what recurs regularly."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

__all__ = ["Onsets"]

REGULAR = 0.08
"""Share of levels of demand that are taken to recur regularly before any is seen to."""

JITTER = 0.02
"""Relative scatter of regular intervals, before any is seen."""

_IRREGULAR = 1.2  # scatter of the logarithm of intervals that follow no rule
_FADING = 0.8  # of what an interval said, at the next one
_SURE = 3.0  # logarithm of odds beyond which more evidence does not count
_NAMES = ("quiet", "at", "size", "mean", "count", "square", "odds", "until")

_HOLDS = (6, 9, 11)  # points until which to hold a worker

_Array = NDArray[np.float64]

ASKED = 64
"""Levels that are asked one by one."""


class Onsets:
    """When each level of a pool's demand began to be busy, and how regularly it does.

    The logarithm of the intervals between onsets is either about the same each time or scatters
    widely. Which of both, is told by how well each interval was predicted by those before. Where it
    is regular, a worker is started ahead if the seconds of waiting that this saves are worth
    more than the seconds that it is likely to idle: the newsvendor's choice, as a function of time.
    """

    def __init__(self) -> None:
        self._of = np.zeros((len(_NAMES), 0))
        self._demand = 0
        self._seen: float | None = None

    def see(self, now: float, demand: int, shortest_s: float) -> None:
        """Take note of how many workers have work; a level that was quiet for shorter has not begun anew."""
        self._grow(demand)
        when = now if self._seen is None else (now + self._seen) / 2
        self._seen = now
        quiet, at, size, *_ = self._of
        if demand < self._demand:
            quiet[demand : self._demand] = when
        elif demand > self._demand:
            rows = np.arange(self._demand, demand)
            rows = rows[when - quiet[rows] >= shortest_s]
            self._learn(rows[np.isfinite(at[rows])], when)
            at[rows], size[rows] = when, demand
        self._demand = demand

    def ahead(self, now: float, workers: int, startups_s: _Array, boot_s: float, waiting: float) -> int:
        """Return how many workers more are to be started for demand that is about to come.

        Parameters
        ----------
        now : float
            The time.
        workers : int
            Workers there are.
        startups_s : array
            Equally likely seconds from asking for a worker to its being up.
        boot_s : float
            Seconds of these that are paid for.
        waiting : float
            What a second of waiting for all workers that an onset takes is worth, in seconds of one worker.
        """
        first = max(workers, self._demand)
        if self._of[6, first:].max(initial=0.0) <= 0:
            return 0
        _, at, size, mean, count, square, odds, until = self._of[:, first:]
        # A few onsets of a level may be regular by chance: those of all levels below must be as well.
        telling = np.where(self._of[4] > 0, self._of[6], np.inf)
        odds = np.minimum(odds, np.minimum.accumulate(telling)[first:])
        rows = np.flatnonzero(odds > 0)
        if not len(rows):
            return 0
        step = math.ceil(len(rows) / ASKED)
        some, startups_s = rows[::step], startups_s[1::3]
        scale = _scale(count[some], square[some])
        left = np.exp(mean[some, None] + scale[:, None] * _POINTS) - (now - at[some])[:, None]
        near = (left[:, -1] > 0) & (left[:, 0] < startups_s[-1])
        if not near.any():
            return 0
        worth = waiting / size[some]
        z = np.log(np.maximum(now - at[some], 1e-9)) - mean[some]
        # What has not come yet speaks against its coming as usual.
        usual, irregular = (1 - _below(z / scale)) * np.exp(odds[some]), 1 - _below(z / _IRREGULAR)
        gain, hold_s = _gain(left, startups_s, boot_s, worth, usual / np.maximum(usual + irregular, 1e-9))
        start = np.flatnonzero(near & (gain > 0))
        for one in start:
            until[rows[one * step : (one + 1) * step]] = now + hold_s[one]
        return int(sum(len(rows[one * step : (one + 1) * step]) for one in start))

    def until(self, first: int, workers: int) -> _Array:
        """Return until when each level is to have its worker, as it was started ahead."""
        self._grow(workers)
        return self._of[-1, first:workers]

    def _learn(self, rows: NDArray[np.int64], when: float) -> None:
        _, at, _, mean, count, square, odds, _ = self._of
        interval = np.log(np.maximum(when - at[rows], 1e-9))
        n, off = count[rows], interval - mean[rows]
        scale = _scale(n, square[rows])
        known = n > 0
        for_it = _log_density(off / scale) - np.log(scale)
        against = _log_density(off / _IRREGULAR) - math.log(_IRREGULAR)
        said = np.where(known, for_it - against, 0.0)
        odds[rows] = np.clip(odds[rows] + said, -4 * _SURE, _SURE)
        count[rows] = n * _FADING + 1
        square[rows] = _FADING * (square[rows] + np.where(known, off**2 * n / (n + 1), 0.0))
        mean[rows] += off / count[rows]

    def _grow(self, size: int) -> None:
        more = size - self._of.shape[1]
        if more > 0:
            fresh = np.zeros((len(_NAMES), max(more, self._of.shape[1])))
            fresh[_NAMES.index("quiet")] = -np.inf
            fresh[_NAMES.index("at")] = -np.inf
            fresh[_NAMES.index("odds")] = math.log(REGULAR / (1 - REGULAR))
            self._of = np.concatenate((self._of, fresh), axis=1)


def _gain(left: _Array, startups_s: _Array, boot_s: float, worth: _Array, usual: _Array) -> tuple[_Array, _Array]:
    """Return what starting a worker now saves on the mean, in its seconds, and for how long to hold it for that.

    Not more than zero where a later start is as good.
    """
    alive = left > 0
    n = np.maximum(alive.sum(axis=1), 1)
    late = ((left[:, :, None] <= startups_s) & alive[:, :, None]).mean(axis=2).sum(axis=1) / n
    saved = np.minimum(left[:, :, None], startups_s).mean(axis=2) * worth[:, None]
    best, best_s = np.full(len(left), -np.inf), np.zeros(len(left))
    for hold_s in left[:, _HOLDS].T:
        until_s = np.minimum(left, hold_s[:, None])
        idle_s = np.maximum(until_s[:, :, None] - startups_s, 0.0).mean(axis=2)
        come = np.where(left <= hold_s[:, None], saved - idle_s, -boot_s - idle_s)
        never = -boot_s - np.maximum(hold_s[:, None] - startups_s, 0.0).mean(axis=1)
        gain = usual * np.where(alive, come, 0.0).sum(axis=1) / n + (1 - usual) * never
        best_s = np.where(gain > best, hold_s, best_s)
        best = np.maximum(best, gain)
    return np.where(late >= 1 / (1 + worth), best, 0.0), best_s


def _scale(count: _Array, square: _Array) -> _Array:
    return np.sqrt((JITTER**2 + square) / np.maximum(count, 1.0) * (1 + 1 / np.maximum(count, 1.0)))


def _log_density(z: _Array) -> _Array:
    """Return the logarithm of Student's density with three degrees of freedom, but for a constant."""
    return -2.0 * np.log1p(z**2 / 3.0)


def _below(z: _Array) -> _Array:
    """Return the probability that Student's variable with three degrees of freedom is below."""
    y = z / math.sqrt(3.0)
    return 0.5 + (y / (1 + y**2) + np.arctan(y)) / math.pi


_GRID = np.linspace(-20.0, 20.0, 4001)
_POINTS = np.interp((np.arange(12) + 0.5) / 12, _below(_GRID), _GRID)
