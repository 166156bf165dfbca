"""How long tasks of one kind take: what history says, put right by what this run shows."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from scalable.scaling.model import TagInfo, TagView

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
    """

    def __init__(self, info: TagInfo) -> None:
        past = [(size, seconds) for size, seconds in info.history if seconds > 0][-_HISTORY_KEPT:]
        self.source = "history" if past else "hint" if info.prior_s else "guess"
        self.seen = 0
        self.recent: deque[tuple[float | None, float]] = deque(maxlen=_RECENT_KEPT)
        self._past_line = _Line(past)
        self._known = len(past)
        start = math.log(info.prior_s if info.prior_s and info.prior_s > 0 else GUESS_S)
        self._level = self._past_line.level if past else start
        self._grid = 7.0 * np.sinh(np.linspace(-3.0, 3.0, 61)) / math.sinh(3.0)
        self._told = np.zeros_like(self._grid)
        self.slope = self._past_line.slope
        self.shift = 0.0
        self._spread_by(past)
        # What history says may have changed a little; where nothing is known, the shift may be of any size.
        sure = _DRIFT + self._width / math.sqrt(len(past)) if past else _HINT if info.prior_s else _GUESS
        self._prior = -1.5 * np.log1p((self._grid / sure) ** 2)

    # ---- learning

    def learn(self, view: TagView) -> None:
        """Take note of tasks that ended and of how long others have run."""
        for size, seconds in view.completions:
            if seconds > 0:
                self.recent.append((size, seconds))
                self.seen += 1
        fresh = [one for one in view.completions if one[1] > 0][-_RECENT_KEPT:]
        if fresh:
            self._refit()
            gone = np.array([math.log(seconds) - self._line(size) for size, seconds in fresh])
            age = _FORGETTING ** np.arange(len(gone))[::-1]
            self._told *= _FORGETTING ** len(gone)
            self._told += age @ self._log_density(gone)
        if fresh or (view.running_for and self.seen < _RECENT_KEPT // 2):
            self._believe(view)

    def _believe(self, view: TagView) -> None:
        total = self._prior + self._told
        running, weight = sampled(view.running_for)
        late = [(math.log(elapsed) - self._line(size)) for elapsed, size in running if elapsed > 0]
        if late:
            total = total + weight * self._log_survival(np.array(late)).sum(axis=0)
        posterior = np.exp(total - total.max()) * np.gradient(self._grid)
        # The median, as a tail that nothing speaks against yet should not count by its length.
        self.shift = float(np.interp(0.5, np.cumsum(posterior) / posterior.sum(), self._grid))

    def _refit(self) -> None:
        """Slope and scatter, from the past and this run alike."""
        line = _Line(self.recent)
        weight = self._past_line.spread + line.spread
        if weight > 0:
            self.slope = (self._past_line.slope * self._past_line.spread + line.slope * line.spread) / weight
        if not self._known and line.about is not None and self._past_line.about is None:
            self._past_line.about = line.about
        if self.seen >= 8:
            self._spread_by(list(self.recent))
            self.source = "this run"

    def _spread_by(self, tasks: Sequence[tuple[float | None, float]]) -> None:
        """Take the ratios of seconds to what the line says, with a mean logarithm of zero, for the scatter."""
        if len(tasks) < 5:
            points = (np.arange(20) + 0.5) / 20
            ratios = np.exp(_GUESSED_SPREAD * _LOGISTIC * np.log(points / (1 - points)))
        else:
            logs = np.array([math.log(seconds) - self._line(size) for size, seconds in tasks])
            ratios = np.exp(np.clip(logs - logs.mean(), -_WIDEST, _WIDEST))
        self._scatter: _Array = np.sort(ratios)
        self._mean_ratio = float(ratios.mean())
        self._longest_ratio = float((ratios**2).mean()) / self._mean_ratio**2
        self._width = _LOGISTIC * max(0.1, float(np.log(ratios).std()))

    def _line(self, size: float | None) -> float:
        about = self._past_line.about
        if size is None or size <= 0 or about is None:
            return self._level
        # Far beyond what was seen a line says anything.
        return min(_MOST, max(_LEAST, self._level + self.slope * (math.log(size) - about)))

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
        return math.exp(self._line(size) + self.shift) * self._mean_ratio

    def longest(self) -> float:
        """Return the expected seconds of a task that is found running: long ones are found more often."""
        return self.mean() * self._longest_ratio

    def work(self, count: float, sizes: Sequence[tuple[float, int]] | None) -> float:
        """Return the expected seconds of queued tasks together."""
        if not sizes:
            return count * self.mean()
        total = sum(n for _, n in sizes)
        known = sum(n * self.mean(size) for size, n in sizes)
        return known * count / total if total else count * self.mean()

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
        beyond = np.concatenate((np.cumsum(ratios[::-1])[::-1], [0.0]))
        at = np.searchsorted(ratios, elapsed / scale, side="right")
        left = len(ratios) - at
        expected = scale * beyond[at] / np.maximum(left, 1) - elapsed
        return np.where(left > 0, expected, np.maximum(elapsed / _TAIL, 0.5 * scale))

    def _scaled(self, running: Sequence[tuple[float, float | None]]) -> tuple[_Array, _Array]:
        elapsed = np.array([one for one, _ in running], dtype=float)
        return elapsed, np.array([math.exp(self._line(size) + self.shift) for _, size in running])


class _Line:
    """Least squares of log seconds on log size."""

    def __init__(self, tasks: Sequence[tuple[float | None, float]] | deque[tuple[float | None, float]]) -> None:
        self.slope, self.spread, self.level = 0.0, 0.0, 0.0
        self.about: float | None = None
        if not tasks:
            return
        y = np.log([seconds for _, seconds in tasks])
        self.level = float(y.mean())
        sized = [(math.log(size), math.log(seconds)) for size, seconds in tasks if size is not None and size > 0]
        if len(sized) < 5:
            return
        x, y = np.array(sized).T
        self.about = float(x.mean())
        self.level = float(y.mean())
        self.spread = float(((x - self.about) ** 2).sum())
        if self.spread > 0:
            self.slope = float((x - self.about) @ (y - self.level)) / (self.spread + 0.5)


def sampled(
    running: Sequence[tuple[float, float | None]],
) -> tuple[Sequence[tuple[float, float | None]], float]:
    """Return at most `SAMPLE` of the running tasks, and how many each of them stands for."""
    step = max(1, math.ceil(len(running) / SAMPLE))
    some = running[::step]
    return some, len(running) / max(1, len(some))
