"""What a report says: plain frozen data, which every rendering prints."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from scalable.telemetry.history import PlannedCost, RunFacts, RunState

__all__ = [
    "CostUse",
    "FailureGroup",
    "PoolCost",
    "PoolUse",
    "Report",
    "ScalingEvents",
    "TaskTotals",
    "TaskUse",
    "Timeline",
    "WorkerUse",
]


@dataclass(frozen=True, slots=True)
class TaskTotals:
    """How many tasks there were, by what became of each after its last attempt.

    Attributes
    ----------
    completed, failed, cancelled : int
        How the last attempt ended.
    lost : int
        The worker died during the last attempt, and nothing more is recorded.
    retried : int
        Tasks of all these that took more than one attempt.
    attempts : int
        Attempts of all tasks.
    """

    completed: int = 0
    failed: int = 0
    cancelled: int = 0
    lost: int = 0
    retried: int = 0
    attempts: int = 0


@dataclass(frozen=True, slots=True)
class TaskUse:
    """The tasks of one name; what was never measured is ``None``.

    Attributes
    ----------
    completed, failed, cancelled, lost, retried, attempts : int
        As in :class:`TaskTotals`.
    median_s, p95_s : float or None
        Duration of the completed attempts, in seconds.
    cpu_s : float or None
        Processor seconds of all attempts together.
    peak_p95_bytes, peak_max_bytes : int or None
        Peak memory of an attempt.
    asked_bytes : int or None
        Memory of a worker of the pool that was asked for.
    peak_shared : bool
        Other tasks ran in the same process, so that a peak is an upper bound.
    """

    name: str
    completed: int
    failed: int
    cancelled: int
    lost: int
    retried: int
    attempts: int
    median_s: float | None
    p95_s: float | None
    cpu_s: float | None
    peak_p95_bytes: int | None
    peak_max_bytes: int | None
    asked_bytes: int | None
    peak_shared: bool


@dataclass(frozen=True, slots=True)
class PoolUse:
    """The workers of one pool.

    Attributes
    ----------
    started : int
        Workers that came.
    removed : int
        Workers that left during the run; those that were closed with it do not count.
    peak : int
        Most workers at a time.
    average : float
        Workers, averaged over the run's duration.
    threads : int or None
        Tasks that a worker runs at a time; ``None`` if no worker came.
    memory_bytes : int or None
        Of one worker; as planned, where workers have no limit of their own.
    efficiency : float or None
        Share (0 to 1) of the slots' time in which a task ran.
    """

    tag: str
    started: int
    removed: int
    peak: int
    average: float
    threads: int | None
    memory_bytes: int | None
    efficiency: float | None

    @property
    def final(self) -> int:
        """Workers at the end of the run, before it was closed."""
        return self.started - self.removed


@dataclass(frozen=True, slots=True)
class WorkerUse:
    """The workers of all pools together; ``average`` is over the run's duration."""

    peak: int
    average: float
    pools: tuple[PoolUse, ...]


@dataclass(frozen=True, slots=True)
class ScalingEvents:
    """How often a pool was made larger, and smaller."""

    up: int = 0
    down: int = 0


@dataclass(frozen=True, slots=True)
class PoolCost:
    """What was paid for the workers of one pool.

    Attributes
    ----------
    workers : int
        How many there were.
    paid_s : float
        Worker-seconds that are paid for.
    core_s : float
        The same times the cores of a worker.
    usd : float or None
        US dollars; ``None`` if no price is known.
    source : str
        Where the price is from, and of which date; empty if none is known.
    """

    tag: str
    workers: int
    paid_s: float
    core_s: float
    usd: float | None
    source: str


@dataclass(frozen=True, slots=True)
class CostUse:
    """What a run costs.

    Attributes
    ----------
    usd : float or None
        US dollars of all paid worker time; ``None`` if a pool that had workers has no price,
        or prices were not recorded.
    final : bool
        Whether the run wrote it down when it ended; if not, it is counted up to the run's last record.
    estimated : PlannedCost or None
        What the plan expected.
    pools : tuple of PoolCost
        Those that had workers.
    """

    usd: float | None
    final: bool
    estimated: PlannedCost | None
    pools: tuple[PoolCost, ...]


@dataclass(frozen=True, slots=True)
class FailureGroup:
    """Tasks of one name that failed in the end, with errors of one type; ``key`` and ``error`` are of the first."""

    name: str
    error_type: str
    tasks: int
    key: str
    error: str


@dataclass(frozen=True, slots=True)
class Timeline:
    """A run over time, in steps of equal length, each number the average over its step.

    Attributes
    ----------
    step_s : float
        Seconds of a step.
    workers : mapping of str to tuple of float
        Workers by pool.
    waiting, running : tuple of float
        Tasks that waited for a worker, and that ran. Attempts that were lost with their worker
        are not in it: when they began is not known.
    """

    step_s: float
    workers: Mapping[str, tuple[float, ...]]
    waiting: tuple[float, ...]
    running: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Report:
    """What happened in a run.

    Attributes
    ----------
    path : str
        The run's directory.
    run : RunFacts
        What was started.
    status : str
        See :data:`scalable.telemetry.history.RunState`. Only a run that has ended is
        known as a whole; of the others, what is recorded so far.
    ended_at : float
        Unix seconds: when the run ended; now, if it is running; else when it wrote its
        last record.
    tasks : TaskTotals
        All tasks.
    task_names : int
        How many names the tasks have.
    by_name : tuple of TaskUse
        In the order of their first tasks; the first few hundred, if there are more.
    workers : WorkerUse
        All workers.
    scaling : ScalingEvents
        Decisions to scale.
    efficiency : float or None
        Seconds in which a slot ran a task, as a share (0 to 1) of the seconds in which
        there was the slot; ``None`` if no worker came.
    cost : CostUse or None
        What it costs; ``None`` if neither the plan nor the run says anything of that.
    failures : tuple of FailureGroup
        The most frequent first; the first few.
    timeline : Timeline or None
        Workers and tasks over time; ``None`` of a run that took no time.
    """

    path: str
    run: RunFacts
    status: RunState
    ended_at: float
    tasks: TaskTotals
    task_names: int
    by_name: tuple[TaskUse, ...]
    workers: WorkerUse
    scaling: ScalingEvents
    efficiency: float | None
    cost: CostUse | None
    failures: tuple[FailureGroup, ...]
    timeline: Timeline | None = None

    @property
    def cost_usd(self) -> float | None:
        """US dollars of all paid worker time; ``None`` if that is not known."""
        return None if self.cost is None else self.cost.usd

    @property
    def duration_s(self) -> float:
        """Seconds from the run's start to :attr:`ended_at`."""
        return max(0.0, self.ended_at - self.run.started_at)
