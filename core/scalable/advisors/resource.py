"""The deterministic advisor: upper quantiles of what was measured, with the confidence that the sample gives."""

from __future__ import annotations

import math
import os
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from statistics import median
from typing import Any, Final, Self

from scalable.advisors.base import ASKED_PLUS_HEADROOM, ORDER_STATISTIC, Observation, Recommendation
from scalable.advisors.order import upper
from scalable.advisors.sample import Sample
from scalable.advisors.sizing import HEADROOM, ideal_workers, round_up, walltime_s, walltime_text, worker_bytes
from scalable.errors import ScalableError, did_you_mean
from scalable.telemetry.past import Past, PastRun, read_past
from scalable.units import format_bytes

__all__ = ["ResourceAdvisor"]

_LATEST_RUNS: Final = 10
_STARTUP_S: Final = 10.0
_CLEARLY: Final = 1.25
# Above a whole number of cores by so little is the interpreter's own work.
_IDLE_CORES: Final = 0.1


class ResourceAdvisor:
    """Say what a task needs from what past runs measured of it; nothing is fitted, nothing is assumed.

    Memory is the smallest measured peak that bounds the next one with the confidence that is
    asked for (:func:`scalable.advisors.order.rank`). Of too few peaks for that, the answer is
    what was asked for and a fifth more, and says so. The latest 50 runs and 10,000 attempts
    of a task count.

    Parameters
    ----------
    past : Past
        What past runs measured.

    Examples
    --------
    >>> advisor = ResourceAdvisor.from_history(".scalable/runs")  # doctest: +SKIP
    >>> advisor.recommend("simulate", target="hpc").resources  # doctest: +SKIP
    {'demeter': {'cpus': 8, 'memory': '32G', 'walltime': '02:30:00'}}
    """

    model_type: Final = "quantile"

    def __init__(self, past: Past) -> None:
        self._past = past
        self._runs = {run.run_id: run for run in past.runs}
        self._histories: dict[str, _History] = {}
        self._lock = threading.RLock()

    @classmethod
    def from_history(cls, runs_dir: str | os.PathLike[str] | Sequence[str | os.PathLike[str]]) -> Self:
        """Read one or several folders of runs.

        Parameters
        ----------
        runs_dir : path, or sequence of paths
            The folders; one that does not exist holds no runs.

        Raises
        ------
        ScalableError
            If a folder cannot be read.
        """
        return cls(read_past(runs_dir))

    @property
    def tasks(self) -> tuple[str, ...]:
        """Names of the tasks of which there is a history, those with the most attempts first."""
        with self._lock:
            return tuple(dict.fromkeys((*self._past.tasks, *self._histories)))

    def recommend(
        self,
        task: str,
        target: str | None = None,
        *,
        confidence: float = 0.95,
        features: Mapping[str, Any] | None = None,
    ) -> Recommendation:
        """Return what a task needs.

        Parameters
        ----------
        task : str
            Its name.
        target : str, optional
            Where it is to run; default is anywhere. Of a target without enough history of its
            own, memory is taken from all: it is the task's.
        confidence : float
            The share of tasks for which the memory is to suffice; default 0.95.
        features : mapping, optional
            Not used: this advisor knows a task by its name.

        Raises
        ------
        ScalableError
            If there is no history of the task, or the confidence is none.
        """
        if not 0 < confidence < 1:
            raise ScalableError(f"confidence must be more than 0 and less than 1, such as 0.95, not {confidence}")
        with self._lock:
            return _Question(self, self._history(task), target, confidence).answer()

    def retry_bytes(
        self,
        task: str,
        failed_bytes: int,
        *,
        target: str | None = None,
        features: Mapping[str, Any] | None = None,
    ) -> int:
        """Return the bytes with which a task is tried again that ran out of memory.

        That is the largest peak ever seen, if this is at least a quarter more than what did not
        suffice, and else twice that.

        Parameters
        ----------
        task : str
            Its name.
        failed_bytes : int
            Bytes that one task had when it failed.
        target, features : optional
            Not used: the largest was the largest anywhere.

        Raises
        ------
        ScalableError
            If there is no history of the task.
        """
        with self._lock:
            largest = self._history(task).everywhere.largest_bytes
        return math.ceil(largest) if largest >= _CLEARLY * failed_bytes else 2 * failed_bytes

    def observe(self, attempt: Observation) -> None:
        """Take note of an attempt that ended just now.

        Parameters
        ----------
        attempt : Observation
            What was measured of it.
        """
        with self._lock:
            history = self._histories.get(attempt.task)
            if history is None:
                history = self._histories[attempt.task] = _History(attempt.task, self._past)
            history.observe(attempt)

    def close(self) -> None:
        """Do nothing: nothing goes on in the background."""

    def run(self, run_id: str) -> PastRun | None:
        """Return a run of the history; nothing if it has not ended."""
        return self._runs.get(run_id)

    @property
    def skipped(self) -> Mapping[str, int]:
        """What of the history could not be used, by reason."""
        return self._past.skipped

    def _history(self, task: str) -> _History:
        found = self._histories.get(task)
        if found is None:
            if task not in self._past.tasks:
                known = self.tasks
                hint = did_you_mean(task, known) or f"known: {', '.join(known[:10]) or 'none'}"
                raise ScalableError(f"there is no history of a task '{task}'; {hint}")
            found = self._histories[task] = _History(task, self._past)
        return found


class _History:
    """The samples of one task: of each target, and of all."""

    def __init__(self, task: str, past: Past) -> None:
        self.task = task
        self._past = past
        self.everywhere = Sample.of(past.of(task), past.runs)
        self._by_target: dict[str, Sample] = {}

    def on(self, target: str) -> Sample:
        """Return what was measured on one target."""
        found = self._by_target.get(target)
        if found is None:
            found = self._by_target[target] = Sample.of(self._past.of(self.task, target), self._past.runs)
        return found

    def observe(self, attempt: Observation) -> None:
        unknown = float("nan")
        numbers = ("asked_bytes", "peak_bytes", "duration_s", "cpu_s")
        facts: dict[str, Any] = {
            name: unknown if (value := getattr(attempt, name)) is None else value for name in numbers
        }
        facts |= {"component": attempt.component, "exclusive": attempt.exclusive}
        now = time.time()
        for sample in (self.everywhere, self.on(attempt.target)):
            sample.observe(attempt.run_id, now, attempt.outcome, facts)


@dataclass(frozen=True, slots=True)
class _Memory:
    """What one task needs, and what its worker does."""

    task_bytes: int | None
    worker_bytes: int | None
    confidence: float
    method: str


class _Question:
    """One question to the advisor, and what is looked up for its answer."""

    def __init__(self, advisor: ResourceAdvisor, history: _History, target: str | None, confidence: float) -> None:
        self._advisor = advisor
        self._history = history
        self._target = target
        self._confidence = confidence
        self._reasons: list[str] = []
        everywhere = history.everywhere
        own = everywhere if target is None else history.on(target)
        # Times are the target's own; memory is the task's.
        self._times = own
        if not own.durations and everywhere.durations:
            self._times = everywhere
            self._reasons.append(f"there is no history on target '{target}': durations are those of other targets")
        self._peaks = own
        if own is not everywhere and not own.enough(confidence, own=False):
            self._peaks = everywhere
            count = own.count(own=False)
            self._reasons.append(f"memory is that of all targets, as '{target}' has {count} measured tasks of its own")
        self._place = own if own.component else everywhere

    def answer(self) -> Recommendation:
        times, place = self._times, self._place
        shared = self._shared()
        memory = self._memory(shared=shared)
        high = upper(times.durations, self._confidence)[0] if times.durations else None
        resources: dict[str, Any] = {"cpus": self._cpus()} if times.durations else {}
        if memory.worker_bytes is not None:
            resources["memory"] = format_bytes(memory.worker_bytes)
        if high is not None:
            resources["walltime"] = walltime_text(walltime_s(high))
        name = place.component or "default"
        return Recommendation(
            self._history.task,
            self._target,
            {name: self._workers()},
            {name: resources},
            memory.confidence,
            self._evidence(memory, shared=shared),
            memory_bytes=memory.task_bytes,
            duration_s=times.durations[len(times.durations) // 2] if times.durations else None,
            duration_high_s=high,
        )

    def _shared(self) -> bool:
        """Return whether peaks must do of which it is not known what of them was the task's own."""
        peaks = self._peaks
        if peaks.enough(self._confidence, own=True) or len(peaks.own_peaks) == len(peaks.peaks):
            return False
        return not peaks.own_peaks or peaks.enough(self._confidence, own=False)

    def _memory(self, *, shared: bool) -> _Memory:
        peaks = self._peaks
        bounds = peaks.bounds(own=not shared)
        # A peak that was shared holds all tasks of its worker already.
        tasks = 1 if shared else self._at_a_time()
        if shared:
            self._reasons.append("peaks are of workers that ran several tasks at a time, of which none is known alone")
        if peaks.unmatched:
            self._reasons.append(
                f"{len(peaks.unmatched)} attempts ran out of memory and count as larger than what they had"
            )
        if peaks.enough(self._confidence, own=not shared):
            bound, sure = upper(bounds, self._confidence)
            return _Memory(math.ceil(bound), worker_bytes(bound, tasks), sure, ORDER_STATISTIC)
        return self._too_few(bounds, tasks)

    def _too_few(self, bounds: list[float], tasks: int) -> _Memory:
        count = len(bounds)
        self._reasons.append(
            f"{count} measured peaks are too few for a confidence of {self._confidence:g}: "
            f"at least {math.ceil(self._confidence / (1 - self._confidence) - 1e-9)} are needed"
        )
        needed = math.ceil(bounds[-1] * HEADROOM) if bounds else None
        sizes = [] if needed is None else [worker_bytes(needed, tasks)]
        if self._peaks.peaks:
            # Among those that were shared may be a larger one.
            sizes.append(worker_bytes(self._peaks.peaks[-1] * HEADROOM))
        if self._place.asked_bytes:
            sizes.append(round_up(self._place.asked_bytes * HEADROOM))
        return _Memory(needed, max(sizes, default=None), count / (count + 1), ASKED_PLUS_HEADROOM)

    def _latest(self) -> list[PastRun]:
        """Return the latest runs with times of the task, the latest first."""
        found = (self._advisor.run(name) for name in self._times.work)
        known = sorted((run for run in found if run is not None), key=lambda run: -run.started_at)
        return known[:_LATEST_RUNS]

    def _at_a_time(self) -> int:
        """Return how many of the task a worker ran at a time."""
        component = self._place.component
        runs = (self._advisor.run(name) for name in self._place.work)
        for run in sorted((run for run in runs if run is not None), key=lambda run: -run.started_at):
            planned = run.planned.get(component)
            threads = run.threads.get(component) or (math.floor(planned.cpus) if planned is not None else 0)
            if threads:
                return max(1, threads // self._place.threads)
        return 1

    def _cpus(self) -> int:
        """Return the cores of a worker: what a task keeps busy, for as many as it runs at a time."""
        cores = self._times.cores
        each = math.ceil(upper(cores, self._confidence)[0] - _IDLE_CORES) if cores else 1
        return max(1, each) * self._at_a_time()

    def _workers(self) -> int:
        tasks = self._at_a_time()
        runs = self._latest()
        done = [self._times.work[run.run_id] for run in runs] or list(self._times.work.values())[-1:]
        done = [work for work in done if work.tasks]
        if not done:
            return 1
        component = self._place.component
        startups = [run.startup_s[component] for run in runs if component in run.startup_s]
        if not startups:
            self._reasons.append(f"how long a worker takes to start is not known; {_STARTUP_S:g} s are assumed")
        return ideal_workers(
            median(work.seconds for work in done) / tasks,
            median(startups) if startups else _STARTUP_S,
            median(work.longest_s for work in done),
            math.ceil(median(work.tasks for work in done) / tasks),
        )

    def _evidence(self, memory: _Memory, *, shared: bool) -> dict[str, Any]:
        sample = self._peaks
        span = sample.span
        runs = len(sample.work)
        return {
            "runs_analyzed": runs,
            "tasks_analyzed": sample.attempts,
            "method": memory.method,
            "percentile": round(100 * memory.confidence, 2),
            "failures": dict(sample.failures),
            "skipped": dict(self._advisor.skipped),
            "window": {
                "from": None if span is None else _moment(span[0]),
                "to": None if span is None else _moment(span[1]),
                "runs": runs,
                "attempts": sample.attempts,
            },
            "peaks": "shared" if shared else "exclusive",
            "threads": self._place.threads,
            "tasks_at_a_time": self._at_a_time(),
            "durations": "other targets" if self._target and self._times is self._history.everywhere else "own target",
            "reasons": list(self._reasons),
        }


def _moment(at: float) -> str | None:
    return None if at != at else datetime.fromtimestamp(at, UTC).isoformat(timespec="seconds")  # noqa: PLR0124  (NaN)
