"""What was measured of one task in the window that counts, kept in order so that bounds cost nothing."""

from __future__ import annotations

import bisect
from collections import Counter, deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numpy as np

from scalable.advisors.order import rank

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from scalable.telemetry.past import Attempts, PastRun

__all__ = ["ATTEMPTS", "RUNS", "Sample", "Work"]

RUNS: Final = 50
ATTEMPTS: Final = 10_000
"""The latest runs and attempts that count: enough for the 99.9th percentile, and soon rid of what was changed."""

_KINDS: Final = ("completed", "failed", "out_of_memory", "lost")  # as `Attempts.outcome` counts them
_COMPLETED, _OUT_OF_MEMORY = 0, 2
# Processor time is counted in clock ticks of some 10 ms, which says nothing of what took no longer.
_SHORTEST_S: Final = 0.1


class _Seen(NamedTuple):
    """One attempt; NaN where something is not known."""

    run: str
    at: float
    out_of_memory: bool
    peak_bytes: float
    exclusive: bool
    duration_s: float
    cores: float


@dataclass(slots=True)
class Work:
    """What a run did of a task: tasks completed, their seconds, and those of the longest."""

    tasks: int = 0
    seconds: float = 0.0
    longest_s: float = 0.0

    def add(self, duration_s: float) -> None:
        """Count one more."""
        self.tasks += 1
        self.seconds += duration_s
        self.longest_s = max(self.longest_s, duration_s)


class Sample:
    """The attempts of one task that count, and how they are distributed.

    Peaks come from completed attempts only: one that raised may have done so before it took
    its memory. An attempt that ran out of memory tells that the peak is above what it
    reached. It stands for a larger one until a completed attempt of the same run has a
    larger peak: that was its next attempt, for the other workers of its pool would not have
    let such a task live.

    Attributes
    ----------
    peaks, own_peaks, durations, cores : list of float
        Sorted: bytes, bytes of those attempts that had their process to themselves, seconds,
        and processor seconds by second.
    unmatched : list
        Run and bytes of attempts that ran out of memory, and of which no more is known.
    failures : Counter
        Attempts that did not complete, by kind.
    work : dict
        By run, the latest last.
    component : str
        Where the task ran last; empty if that is not known.
    asked_bytes : float
        Memory of a worker at the last; 0 if not known.
    threads : int
        Places of a worker that a task mostly took: one that is to be alone takes all of them.
    largest_bytes : float
        The largest peak ever seen, outside the window too.
    """

    def __init__(self) -> None:
        self.peaks: list[float] = []
        self.own_peaks: list[float] = []
        self.durations: list[float] = []
        self.cores: list[float] = []
        self.unmatched: list[tuple[str, float]] = []
        self.failures: Counter[str] = Counter()
        self.work: dict[str, Work] = {}
        self.component = ""
        self.asked_bytes = 0.0
        self.threads = 1
        self.largest_bytes = 0.0
        self._seen: deque[_Seen] = deque()

    @classmethod
    def of(cls, attempts: Attempts, runs: Sequence[PastRun]) -> Sample:
        """Return the sample of a task's past attempts.

        Parameters
        ----------
        attempts : Attempts
            In the order of their end.
        runs : sequence of PastRun
            Those to which :attr:`Attempts.run` points.
        """
        made = cls()
        if not len(attempts):
            return made
        made.largest_bytes = float(np.nanmax(np.append(_completed_peaks(attempts), 0.0)))
        latest = _latest_runs(attempts.run, runs)
        attempts = attempts.where(np.isin(attempts.run, latest))
        made.failures.update(_failures(attempts.outcome))
        counted = np.flatnonzero((attempts.outcome == _COMPLETED) | (attempts.outcome == _OUT_OF_MEMORY))[-ATTEMPTS:]
        mask = np.zeros(len(attempts), dtype=bool)
        mask[counted] = True
        made._fill(attempts.where(mask), runs)
        # Where a task ran, and with what, is known of one that never came to its end, too.
        made._place(attempts.where(mask) if len(counted) else attempts)
        return made

    def _fill(self, attempts: Attempts, runs: Sequence[PastRun]) -> None:
        names = [runs[index].run_id for index in attempts.run.tolist()]
        out = attempts.outcome == _OUT_OF_MEMORY
        peaks = np.where(out & ~(attempts.peak_bytes > 0), attempts.asked_bytes, attempts.peak_bytes)
        cores = _cores(attempts.cpu_s, attempts.duration_s)
        columns = (attempts.ended_at, out, peaks, attempts.exclusive, attempts.duration_s, cores)
        self._seen.extend(_Seen(*row) for row in zip(names, *(one.tolist() for one in columns), strict=True))
        self.peaks = _sorted(peaks[~out])
        self.own_peaks = _sorted(peaks[~out & attempts.exclusive])
        self.durations = _sorted(attempts.duration_s[~out])
        self.cores = _sorted(cores[~out])
        for one in self._seen if out.any() else ():
            self._match(one)
        for name, duration_s in zip(names, np.where(out, np.nan, attempts.duration_s).tolist(), strict=True):
            work = self.work.setdefault(name, Work())
            if duration_s == duration_s:  # noqa: PLR0124  (not a NaN)
                work.add(duration_s)

    def _place(self, attempts: Attempts) -> None:
        placed = np.flatnonzero(attempts.component != "")
        if len(placed):
            last = placed[-1]
            self.component = str(attempts.component[last])
            self.asked_bytes = max(0.0, float(np.nan_to_num(attempts.asked_bytes[last])))
        self.threads = max(1, int(np.bincount(np.clip(attempts.threads, 0, 1 << 16)).argmax()))

    def observe(self, run: str, at: float, outcome: str, facts: Mapping[str, Any]) -> None:
        """Add one attempt that ended.

        Parameters
        ----------
        run : str
            Identifier of its run.
        at : float
            When it ended; unix seconds.
        outcome : str
            ``"completed"`` or ``"out_of_memory"``.
        facts : mapping
            ``component``, ``asked_bytes``, ``peak_bytes``, ``exclusive``,
            ``duration_s`` and ``cpu_s``; NaN where something is not known.
        """
        out = outcome == "out_of_memory"
        peak = facts["asked_bytes"] if out and not facts["peak_bytes"] > 0 else facts["peak_bytes"]
        duration = facts["duration_s"]
        cores = facts["cpu_s"] / duration if duration >= _SHORTEST_S else float("nan")
        one = _Seen(run, at, out, peak, facts["exclusive"], duration, cores)
        self._seen.append(one)
        if out:
            self.failures["out_of_memory"] += 1
        else:
            self.largest_bytes = max(self.largest_bytes, peak if peak > 0 else 0.0)
            for ordered, value in self._lists(one):
                bisect.insort(ordered, value)
        self._match(one)
        work = self.work.setdefault(run, Work())
        if not out and duration >= 0:
            work.add(duration)
        if facts["component"]:
            self.component = facts["component"]
            self.asked_bytes = facts["asked_bytes"] if facts["asked_bytes"] > 0 else self.asked_bytes
        while len(self._seen) > ATTEMPTS:
            self._forget(self._seen.popleft())

    def _lists(self, one: _Seen) -> list[tuple[list[float], float]]:
        """Return where a completed attempt is kept, with what."""
        places = [(self.peaks, one.peak_bytes), (self.durations, one.duration_s), (self.cores, one.cores)]
        if one.exclusive:
            places.append((self.own_peaks, one.peak_bytes))
        return [(ordered, value) for ordered, value in places if value >= 0]

    def _match(self, one: _Seen) -> None:
        if one.out_of_memory:
            if one.peak_bytes > 0:
                self.unmatched.append((one.run, one.peak_bytes))
            return
        below = [entry for entry in self.unmatched if entry[0] == one.run and entry[1] < one.peak_bytes]
        if below:
            self.unmatched.remove(max(below, key=lambda entry: entry[1]))

    def _forget(self, one: _Seen) -> None:
        if one.out_of_memory:
            if (one.run, one.peak_bytes) in self.unmatched:
                self.unmatched.remove((one.run, one.peak_bytes))
            return
        for ordered, value in self._lists(one):
            del ordered[bisect.bisect_left(ordered, value)]

    def count(self, *, own: bool) -> int:
        """Return how many peaks are known, or known to be above something."""
        return len(self.own_peaks if own else self.peaks) + len(self.unmatched)

    def enough(self, confidence: float, *, own: bool) -> bool:
        """Return whether the peaks are enough for that confidence; ``own``: of those that are a task's own."""
        count = self.count(own=own)
        return rank(count, confidence) <= count

    def bounds(self, *, own: bool) -> list[float]:
        """Return the peaks in order, with what stands for attempts that ran out of memory.

        Such an attempt counts as the largest peak above what it had, or else as twice that.
        """
        peaks = self.own_peaks if own else self.peaks
        if not self.unmatched:
            return peaks
        most = peaks[-1] if peaks else 0.0
        return peaks + sorted(most if had < most else 2 * had for _, had in self.unmatched)

    @property
    def attempts(self) -> int:
        """Attempts that count."""
        return len(self._seen)

    @property
    def span(self) -> tuple[float, float] | None:
        """When the first and the last of the attempts ended, in unix seconds."""
        return (self._seen[0].at, self._seen[-1].at) if self._seen else None


def _completed_peaks(attempts: Attempts) -> NDArray[np.float64]:
    found: NDArray[np.float64] = attempts.peak_bytes[attempts.outcome == _COMPLETED]
    return found


def _latest_runs(indices: NDArray[np.int32], runs: Sequence[PastRun]) -> NDArray[np.int64]:
    order = sorted(np.unique(indices).tolist(), key=lambda index: runs[index].started_at)
    return np.array(order[-RUNS:], dtype=np.int64)


def _failures(outcomes: NDArray[np.int8]) -> dict[str, int]:
    counts = np.bincount(outcomes, minlength=len(_KINDS)).tolist()
    return {kind: count for kind, count in zip(_KINDS[1:], counts[1:], strict=False) if count}


def _cores(cpu_s: NDArray[np.float64], duration_s: NDArray[np.float64]) -> NDArray[np.float64]:
    cores: NDArray[np.float64] = np.full(len(cpu_s), np.nan)
    long = duration_s >= _SHORTEST_S
    cores[long] = cpu_s[long] / duration_s[long]
    return cores


def _sorted(values: NDArray[np.float64]) -> list[float]:
    """Return the values that are known, in order."""
    found: list[float] = np.sort(values[values >= 0]).tolist()
    return found
