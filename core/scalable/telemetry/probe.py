"""Watching tasks from Dask's scheduler: what becomes of each attempt, at constant cost a transition."""

from __future__ import annotations

import math
import re
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal

from dask.utils import key_split
from distributed.diagnostics.plugin import SchedulerPlugin

from scalable.telemetry.measure import MEASURE, TOPIC, pool_of
from scalable.telemetry.recorder import Recorder

if TYPE_CHECKING:
    from distributed.scheduler import Scheduler
    from distributed.scheduler import TaskState as SchedulerTask

__all__ = ["ATTEMPT_LOST", "Outcome", "Submission", "TaskProbe", "pool_of"]

ATTEMPT_LOST: Final = "scalable-attempt-lost"
"""Dask event topic of attempts that ended with their worker, once it is known why that died."""

# The label of which a task takes as many as it uses of its worker's threads.
_THREADS: Final = "threads"
_MORE = re.compile(r"[@+]")  # another target than the run's, or larger workers

Outcome = Literal["completed", "failed", "cancelled", "lost"]


@dataclass(slots=True)
class Submission:
    """What only the submitting side knows of a task.

    Attributes
    ----------
    arg_bytes, n_args : int
        Size (bytes) and number of the arguments, futures not counted in the size.
    asked_bytes : int or None
        Memory of a worker of the task's pool, in bytes.
    n_inputs, input_bytes : int or None
        Number and size (bytes) of the input files, where somebody said so.
    """

    name: str
    tag: str
    features: Mapping[str, Any]
    n_args: int
    arg_bytes: int
    asked_bytes: int | None
    submitted_at: float
    n_inputs: int | None = None
    input_bytes: int | None = None

    @property
    def known(self) -> dict[str, Any]:
        """What is known of the task before it runs: its features, and number and size of its arguments and inputs."""
        sizes = {name: getattr(self, name) for name in ("n_args", "arg_bytes", "n_inputs", "input_bytes")}
        return {**self.features, **{name: value for name, value in sizes.items() if value is not None}}


@dataclass(slots=True)
class _Task:
    """A task that the scheduler knows.

    The submission is kept here from the first sight of the task: by the time a released
    task is forgotten, another with the same key may have been announced.
    """

    submission: Submission
    ready_at: float | None = None
    attempt: int = 1
    retries: int = 0
    outcome: Outcome | None = None
    failure: dict[str, Any] | None = None


class TaskProbe(SchedulerPlugin):
    """Write one record for each attempt of each task.

    Parameters
    ----------
    recorder : Recorder
        Where records go.

    Attributes
    ----------
    on_attempt : callable or None
        Called with each record, on the scheduler's loop; it must return at once.
    """

    name = "scalable-task-probe"

    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder
        self.on_attempt: Callable[[Mapping[str, Any]], None] | None = None
        self._submissions: dict[str, Submission] = {}
        self._tasks: dict[str, _Task] = {}
        self._workers: dict[str, Any] = {}
        self._counts: dict[str, Counter[str]] = {}
        self._longest: dict[str, float] = {}
        self._lost = 0
        self._over = False
        self._scheduler: Scheduler | None = None

    async def start(self, scheduler: Scheduler) -> None:
        """Remember the scheduler; called by Dask when the plugin is added."""
        self._scheduler = scheduler

    def register(self, key: str, submission: Submission) -> None:
        """Say what a task is, before it is submitted; from any thread."""
        self._submissions[key] = submission

    def unregister(self, key: str) -> None:
        """Say that a task was not submitted after all; from any thread."""
        self._submissions.pop(key, None)

    @property
    def counts(self) -> dict[str, int]:
        """Tasks by what became of them, ``lost`` counting attempts."""
        total: Counter[str] = Counter()
        for counts in list(self._counts.values()):
            total += counts
        return {name: total[name] for name in ("completed", "failed", "cancelled")} | {"lost": self._lost}

    @property
    def counts_by_tag(self) -> dict[str, Counter[str]]:
        """Ended tasks by tag and by what became of them; not a copy."""
        return self._counts

    def longest_s(self, pool: str) -> float:
        """Return the seconds that the longest completed task of a pool took; 0 if none has."""
        return self._longest.get(pool, 0.0)

    def submission_of(self, key: Any) -> Submission | None:
        """Return what the submitting side said of a live task."""
        task = self._tasks.get(key)
        return None if task is None else task.submission

    def size_of(self, key: Any) -> float | None:
        """Return the bytes of the input files of a live task, where somebody said so."""
        task = self._tasks.get(key)
        submission = self._submissions.get(key) if task is None else task.submission
        return None if submission is None or submission.input_bytes is None else float(submission.input_bytes)

    def finish(self) -> None:
        """Record every task that has not ended as cancelled; the run is over, and nothing is recorded after."""
        for key, task in list(self._tasks.items()):
            if task.outcome is None:
                self._settle(key, task, "cancelled", error_type="RunClosed")
        for key, submission in list(self._submissions.items()):
            if key not in self._tasks:
                self._settle(key, _Task(submission), "cancelled", error_type="RunClosed")
        self._over = True

    def add_worker(self, scheduler: Scheduler, worker: str) -> None:
        """Keep hold of the worker: when it dies, it alone knows what it was executing."""
        self._workers[worker] = scheduler.workers[worker]

    def remove_worker(self, scheduler: Scheduler, worker: str, **_: Any) -> None:
        """Let go of a worker that left."""
        self._workers.pop(worker, None)

    def log_event(self, topic: str, msg: Any) -> None:
        """Take a failed attempt's measurement, which arrives before the failure itself."""
        if topic == TOPIC:
            task = self._tasks.get(msg["key"])
            if task is not None:
                task.failure = {**msg, "worker": self._worker_name(msg["worker"])}
        elif topic == ATTEMPT_LOST and not self._over:
            task = self._tasks.get(msg["key"])
            if task is not None:
                self._attempt_lost(task, msg)

    def transition(self, key: Any, start: str, finish: str, *args: Any, stimulus_id: str = "", **kwargs: Any) -> None:
        """Follow one task from one of Dask's states to another."""
        if self._over:
            return
        if finish == "memory" and start == "processing":
            self._completed(key, kwargs)
        elif start == "processing":
            self._left_worker(key, finish, kwargs)
        elif start == "waiting" and finish in {"processing", "no-worker", "queued"}:
            self._reopen(key).ready_at = time.time()
        elif finish == "waiting":
            self._reopen(key)
        elif finish == "erred":
            self._failed(key, kwargs)
        elif finish == "forgotten":
            self._forgotten(key)

    def _reopen(self, key: str) -> _Task:
        """Return a task that is to run, perhaps again because its result was lost."""
        task = self._known(key)
        if task.outcome is not None:
            self._counts[task.submission.tag][task.outcome] -= 1
            task.outcome = None
        return task

    def _known(self, key: str) -> _Task:
        task = self._tasks.get(key)
        if task is None:
            state = self._state(key)
            submission = self._submissions.get(key) or _unannounced(key, state)
            task = self._tasks[key] = _Task(submission, retries=state.retries if state is not None else 0)
        return task

    def _completed(self, key: str, facts: Mapping[str, Any]) -> None:
        task = self._known(key)
        state = self._state(key)
        measurement = (facts.get("metadata") or {}).get(MEASURE)
        if measurement is None:
            measurement = _from_dask(facts)
        elif state is not None and len(state.metadata or ()) == 1:
            state.metadata = None
        worker = self._worker_name(facts.get("worker"))
        if worker is not None:
            pool, duration = pool_of(worker), measurement.get("duration_s") or 0.0
            if duration > self._longest.get(pool, 0.0):
                self._longest[pool] = duration
        if measurement.get("error_type"):
            self._record_failure(key, task, measurement)
            self._settle(key, task, "failed", measurement, worker=worker)
        else:
            self._settle(key, task, "completed", measurement, worker=worker)

    def _left_worker(self, key: str, finish: str, facts: Mapping[str, Any]) -> None:
        task = self._known(key)
        state = self._state(key)
        if finish == "erred":
            self._failed(key, facts)
        elif state is not None and state.retries < task.retries:
            task.retries = state.retries
            self._attempt_failed(key, task)
        elif finish == "forgotten":
            self._forgotten(key)

    def _attempt_lost(self, task: _Task, death: Mapping[str, Any]) -> None:
        """Record an attempt whose worker died under it; said by those who found out why."""
        key, worker = death["key"], death["worker"]
        if not death["out_of_memory"] and not death["final"]:
            self._lost += 1
            self._record(key, task, "lost", worker=worker, error_type=death["error_type"], error=death["error"])
            task.attempt += 1
            return
        task.failure = {name: death[name] for name in ("worker", "peak_bytes", "error_type", "error")}
        if not death["final"]:
            state = self._state(key)
            task.retries = state.retries if state is not None else 0
            self._attempt_failed(key, task)

    def _attempt_failed(self, key: str, task: _Task) -> None:
        failure, task.failure = task.failure or {}, None
        self._record(key, task, "failed", failure)
        self._record_failure(key, task, failure)
        task.attempt += 1

    def _failed(self, key: str, facts: Mapping[str, Any]) -> None:
        task = self._known(key)
        state = self._state(key)
        blame = state.exception_blame if state is not None else None
        if blame is not None and blame is not state:
            self._settle(key, task, "cancelled", error_type="DependencyFailed", error=f"its input {blame.key} failed")
            return
        failure, task.failure = task.failure, None
        if failure is None:
            text = str(facts.get("exception_text") or "")
            failure = _from_dask(facts) | {
                "error_type": text.split("(", 1)[0] or "KilledWorker",
                "error": text or "the workers that ran it died too often",
                "traceback": facts.get("traceback_text") or "",
                "worker": self._worker_name(facts.get("worker")),
            }
        self._record_failure(key, task, failure)
        self._settle(key, task, "failed", failure)

    def _forgotten(self, key: str) -> None:
        task = self._tasks.pop(key, None)
        if task is None:
            return
        if task.outcome is None:
            self._settle(key, task, "cancelled")
        if self._submissions.get(key) is task.submission:
            del self._submissions[key]

    def _state(self, key: str) -> SchedulerTask | None:
        return self._scheduler.tasks.get(key) if self._scheduler is not None else None

    def _worker_name(self, address: Any) -> str | None:
        worker = self._workers.get(address)
        return None if worker is None else str(worker.name)

    def _settle(self, key: str, task: _Task, outcome: Outcome, facts: Mapping[str, Any] = {}, **more: Any) -> None:
        task.outcome = outcome
        self._counts.setdefault(task.submission.tag, Counter())[outcome] += 1
        self._record(key, task, outcome, facts, **more)
        task.attempt += 1

    def _record(self, key: str, task: _Task, outcome: Outcome, facts: Mapping[str, Any] = {}, **more: Any) -> None:
        submission = task.submission
        worker = more.get("worker") or facts.get("worker")
        get = facts.get
        record = {
            "key": key,
            "name": submission.name,
            "tag": submission.tag,
            "component": _MORE.split(pool_of(worker))[0] if worker else None,
            "worker": worker,
            "attempt": task.attempt,
            "queued_at": task.ready_at or submission.submitted_at,
            "started_at": get("started_at"),
            "ended_at": get("ended_at") or time.time(),
            "duration_s": get("duration_s"),
            "cpu_s": get("cpu_s"),
            "peak_bytes": get("peak_bytes"),
            "exclusive": get("exclusive", False),
            "features": submission.features,
            "n_args": submission.n_args,
            "arg_bytes": submission.arg_bytes,
            "n_inputs": submission.n_inputs,
            "input_bytes": submission.input_bytes,
            "asked_bytes": submission.asked_bytes,
            "threads": self._threads_of(key),
            "outcome": outcome,
            "error_type": more.get("error_type") or get("error_type"),
            "error": more.get("error") or get("error"),
        }
        self._recorder.append("tasks", record)
        if self.on_attempt is not None:
            self.on_attempt(record)

    def _threads_of(self, key: str) -> int:
        """Return how many threads of its worker a task takes: one, unless it requires more."""
        state = self._state(key)
        required = state.resource_restrictions if state is not None else None
        return max(1, math.ceil(required.get(_THREADS, 1))) if required else 1

    def _record_failure(self, key: str, task: _Task, failure: Mapping[str, Any]) -> None:
        submission = task.submission
        self._recorder.append(
            "failures",
            {
                "key": key,
                "name": submission.name,
                "attempt": task.attempt,
                "at": failure.get("ended_at") or time.time(),
                "error_type": failure.get("error_type"),
                "error": failure.get("error"),
                "traceback": failure.get("traceback"),
            },
        )


def _unannounced(key: str, state: SchedulerTask | None) -> Submission:
    """Return what can be told of a task that came past our client, as from inside another task."""
    labels = list((state.resource_restrictions or {}) if state is not None else {})
    return Submission(key_split(key), labels[0] if labels else "", {}, 0, 0, None, time.time())


def _from_dask(facts: Mapping[str, Any]) -> dict[str, Any]:
    """Return what Dask itself measured on the worker, for tasks that carry no measurement."""
    for span in facts.get("startstops") or ():
        if span["action"] == "compute":
            return {
                "started_at": span["start"],
                "ended_at": span["stop"],
                "duration_s": span["stop"] - span["start"],
            }
    return {}
