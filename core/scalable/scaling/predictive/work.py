"""How long tasks of one kind take: what history says, put right by what this run shows."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from scalable.scaling.model import TagInfo, TagView
from scalable.scaling.predictive.forecast import EVER_S

__all__ = ["GUESS_S", "Durations", "sampled"]

GUESS_S = 30.0
"""Seconds of a task of which nothing is known."""

SAMPLE = 48
"""Running tasks that are looked at one by one; of more, every so many-th."""

_HISTORY_KEPT = 400
_RECENT_KEPT = 100
_FORGETTING = 0.98  # of what a completion said, at the next one: the last fifty or so count
_DRIFT, _HINT, _GUESS = 0.15, 1.0, 2.5  # by how much the logarithm of what was known beforehand is usually wrong
_LEAST, _MOST = math.log(1e-3), math.log(1e7)  # seconds of a task
_WIDEST = 6.0  # logarithm of how much longer or shorter than said a task may count
_GUESSED_SPREAD = 0.7
_LOGISTIC = math.sqrt(3) / math.pi  # scale of a logistic distribution of unit standard deviation
_TAIL = 1.5  # index of the power law by which tasks beyond all seen go on

_Array = NDArray[np.float64]

_NOTHING: _Array = np.zeros((0, 2))


class Durations:
    """Seconds of tasks of one kind.

    The logarithm of the seconds is a line in the logarithm of the input's size, plus a shift of
    this run against the past, plus scatter. The shift is the median of its posterior: a prior with
    heavy tails around no shift, so that a history that is wrong by much is soon given up; tasks
    that have ended; and tasks that run still, of which only is known how long they took at least.
    Without the latter the first to end, which are the short ones, would speak for all.

    Parameters
    ----------
    info : TagInfo
        History and hint.

    Attributes
    ----------
    mean_s : float
        The expected seconds of a task of which the size is not known.
    """

    def __init__(self, info: TagInfo) -> None:
        past = _logs(info.history)[-_HISTORY_KEPT:]
        self._known = len(past)
        self.source = "history" if self._known else "hint" if info.prior_s else "guess"
        self.seen = 0
        self.recent = past[:0]
        self._past_line = _Line(past)
        start = _log(info.prior_s if info.prior_s and info.prior_s > 0 else GUESS_S)
        self._level = self._past_line.level if self._known else start
        self._grid = 7.0 * np.sinh(np.linspace(-3.0, 3.0, 61)) / math.sinh(3.0)
        self._steps = np.gradient(self._grid)
        self._told = np.zeros_like(self._grid)
        self.slope = self._past_line.slope
        self.shift = 0.0
        self._spread_by(past)
        # What history says may have changed a little; where nothing is known, the shift may be of any size.
        sure = _DRIFT + self._width / math.sqrt(self._known) if self._known else _HINT if info.prior_s else _GUESS
        self._prior = -1.5 * np.log1p((self._grid / sure) ** 2)
        self.mean_s = self.mean()

    # ---- learning

    def learn(self, view: TagView) -> None:
        """Take note of tasks that ended and of how long others have run."""
        fresh = _logs(view.completions) if view.completions else _NOTHING
        if len(fresh):
            self.seen += len(fresh)
            self.recent = np.concatenate((self.recent, fresh))[-_RECENT_KEPT:]
            self._refit()
            fresh = fresh[-_RECENT_KEPT:]
            gone = fresh[:, 1] - self._lines(fresh[:, 0])
            age = _FORGETTING ** np.arange(len(gone))[::-1]
            self._told *= _FORGETTING ** len(gone)
            self._told += age @ self._log_density(gone)
        if len(fresh) or (view.running_for and self.seen < _RECENT_KEPT // 2):
            self._believe(view)
            self.mean_s = self.mean()

    def _believe(self, view: TagView) -> None:
        total = self._prior + self._told
        running, weight = sampled(view)
        late = _logs([(size, elapsed) for elapsed, size in running])
        if len(late):
            total = total + weight * self._log_survival(late[:, 1] - self._lines(late[:, 0])).sum(axis=0)
        posterior = np.exp(total - total.max()) * self._steps
        # The median, as a tail that nothing speaks against yet should not count by its length.
        below = posterior.cumsum()
        self.shift = float(np.interp(0.5 * below[-1], below, self._grid))

    def _refit(self) -> None:
        """Slope and scatter, from the past and this run alike."""
        line = _Line(self.recent)
        weight = self._past_line.spread + line.spread
        if weight > 0:
            self.slope = (self._past_line.slope * self._past_line.spread + line.slope * line.spread) / weight
        if not self._known and line.about is not None and self._past_line.about is None:
            self._past_line.about = line.about
        if self.seen >= 8:
            self._spread_by(self.recent)
            self.source = "this run"

    def _spread_by(self, tasks: _Array) -> None:
        """Take the ratios of seconds to what the line says, with a mean logarithm of zero, for the scatter."""
        if len(tasks) < 5:
            points = (np.arange(20) + 0.5) / 20
            logs = _GUESSED_SPREAD * _LOGISTIC * np.log(points / (1 - points))
        else:
            logs = tasks[:, 1] - self._lines(tasks[:, 0])
            logs = np.minimum(np.maximum(logs - logs.mean(), -_WIDEST), _WIDEST)
        logs.sort()
        self._scatter: _Array = np.exp(logs)
        self._beyond = np.concatenate((self._scatter[::-1].cumsum()[::-1], [0.0]))
        self._mean_ratio = float(self._scatter.mean())
        self._longest_ratio = float((self._scatter**2).mean()) / self._mean_ratio**2
        self._width = _LOGISTIC * max(0.1, float(logs.std()))

    def _lines(self, log_sizes: _Array) -> _Array | float:
        about = self._past_line.about
        if about is None:
            return self._level
        # Far beyond what was seen a line says anything.
        lines = np.clip(self._level + self.slope * (log_sizes - about), _LEAST, _MOST)
        return np.where(np.isnan(log_sizes), self._level, lines)

    def _log_density(self, logs: _Array) -> _Array:
        z = (logs[:, None] - self._grid) / self._width
        return -np.abs(z) - 2.0 * np.log1p(np.exp(-np.abs(z)))

    def _log_survival(self, logs: _Array) -> _Array:
        return -np.logaddexp(0.0, (logs[:, None] - self._grid) / self._width)

    # ---- telling

    @property
    def known(self) -> float:
        """How much is known, from 0 to 1."""
        n = self._known + self.seen
        return n / (n + 5.0)

    def mean(self, size: float | None = None) -> float:
        """Return the expected seconds of a task."""
        known = self._past_line.about is not None and size is not None and size > 0
        line = float(np.asarray(self._lines(np.array(math.log(size))))) if known and size else self._level
        return math.exp(line + self.shift) * self._mean_ratio

    def longest(self) -> float:
        """Return the expected seconds of a task that is found running: long ones are found more often."""
        return self.mean_s * self._longest_ratio

    def work(self, count: float, sizes: Sequence[tuple[float, int]] | None) -> float:
        """Return the expected seconds of queued tasks together."""
        if not sizes:
            return count * self.mean_s
        counts = np.array([n for _, n in sizes], dtype=float)
        total = counts.sum()
        if not total:
            return count * self.mean_s
        lines = self._lines(_log_sizes([size for size, _ in sizes]))
        return float((counts * np.exp(lines + self.shift)).sum() * self._mean_ratio * count / total)

    def ending(self, running: Sequence[tuple[float, float | None]], within_s: float) -> _Array:
        """Return the probability of each running task to end within some seconds, given how long it has run."""
        elapsed, scale = self._scaled(running)
        ratios = self._scatter
        before = np.searchsorted(ratios, elapsed / scale, side="right")
        within = np.searchsorted(ratios, (elapsed + within_s) / scale, side="right")
        left = len(ratios) - before
        beyond = 1 - (elapsed / (elapsed + within_s)) ** _TAIL
        return np.where(left > 0, (within - before) / np.maximum(left, 1), beyond)

    def residual(self, running: Sequence[tuple[float, float | None]]) -> _Array:
        """Return the expected seconds that running tasks still take, given how long they have run."""
        elapsed, scale = self._scaled(running)
        ratios = self._scatter
        beyond = self._beyond
        at = ratios.searchsorted(elapsed / scale, side="right")
        left = len(ratios) - at
        expected = scale * beyond[at] / np.maximum(left, 1) - elapsed
        return np.where(left > 0, expected, np.maximum(elapsed / _TAIL, 0.5 * scale))

    def _scaled(self, running: Sequence[tuple[float, float | None]]) -> tuple[_Array, _Array]:
        elapsed = np.minimum(np.array([one for one, _ in running], dtype=float), EVER_S)
        lines = (
            self._lines(_log_sizes([size for _, size in running])) if self._past_line.about is not None else self._level
        )
        return elapsed, np.exp(np.broadcast_to(lines + self.shift, elapsed.shape))


class _Line:
    """Least squares of log seconds on log size."""

    def __init__(self, tasks: _Array) -> None:
        self.slope, self.spread, self.level = 0.0, 0.0, 0.0
        self.about: float | None = None
        if not len(tasks):
            return
        self.level = float(tasks[:, 1].mean())
        sized = tasks[~np.isnan(tasks[:, 0])]
        if len(sized) < 5:
            return
        x, y = sized.T
        self.about = float(x.mean())
        self.level = float(y.mean())
        self.spread = float(((x - self.about) ** 2).sum())
        if self.spread > 0:
            self.slope = float((x - self.about) @ (y - self.level)) / (self.spread + 0.5)


def _log(seconds: float) -> float:
    return math.log(min(max(seconds, 1 / EVER_S), EVER_S))


def _log_sizes(sizes: Sequence[float | None]) -> _Array:
    return np.array([math.log(size) if size is not None and size > 0 else math.nan for size in sizes])


def _logs(tasks: Sequence[tuple[float | None, float]]) -> _Array:
    """Return a row of log size, which may not be a number, and log seconds for each task of any seconds at all."""
    rows = [
        (math.log(size) if size is not None and size > 0 else math.nan, _log(seconds))
        for size, seconds in tasks
        if seconds > 0
    ]
    return np.array(rows).reshape(-1, 2)


def sampled(view: TagView) -> tuple[Sequence[tuple[float, float | None]], float]:
    """Return at most `SAMPLE` of the running tasks, and how many each of them stands for."""
    running = view.running_for
    some = running[:: max(1, math.ceil(len(running) / SAMPLE))]
    return some, view.running / max(1, len(some))
