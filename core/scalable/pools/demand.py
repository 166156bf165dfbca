"""How much work waits for which workers, counted as tasks move and never by walking a queue."""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from distributed.diagnostics.plugin import SchedulerPlugin

if TYPE_CHECKING:
    from distributed.scheduler import Scheduler, TaskState

__all__ = ["Demand", "DemandCounter", "Kind", "Requirement", "Sample", "size_of_step", "step_of_size"]

Requirement = tuple[tuple[str, float], ...]
"""What a task takes of a worker, sorted by name."""

_COUNTED = frozenset({"waiting", "processing", "queued", "no-worker"})
_MOST_KINDS: Final = 500
_OTHERS: Final = "(others)"
_PARENTS_LOOKED_AT: Final = 8
_SAMPLE: Final = 64
_STEPS_PER_OCTAVE: Final = 2


class Kind(NamedTuple):
    """Tasks that take the same of a worker and have the same name."""

    requirement: Requirement
    name: str


def step_of_size(size: float) -> int:
    """Return the step of a size on a scale with two to each doubling."""
    return round(_STEPS_PER_OCTAVE * math.log2(max(size, 1.0)))


def size_of_step(step: int) -> float:
    """Return the size in the middle of a step."""
    return float(2.0 ** (step / _STEPS_PER_OCTAVE))


class Sample:
    """Evenly spaced ones of what came since it was last taken: at most 64, however many there were."""

    __slots__ = ("_every", "_kept", "_seen")

    def __init__(self) -> None:
        self._kept: list[tuple[float | None, float]] = []
        self._every = 1
        self._seen = 0

    def add(self, one: tuple[float | None, float]) -> None:
        """Take note of one."""
        if self._seen % self._every == 0:
            self._kept.append(one)
            if len(self._kept) == 2 * _SAMPLE:
                self._kept = self._kept[::2]
                self._every *= 2
        self._seen += 1

    def take(self) -> list[tuple[float | None, float]]:
        """Return those that were kept, and begin anew."""
        kept, self._kept = self._kept, []
        self._every, self._seen = 1, 0
        return kept if len(kept) <= _SAMPLE else kept[::2]


@dataclass(slots=True)
class Demand:
    """Tasks of one kind.

    Attributes
    ----------
    blocked : int
        Waiting for other tasks.
    ready : int
        Handed to a worker, whether running or in line there, or waiting for one to come.
    arrived, done : int
        Those that have come, and that have ended, so far.
    steps : Counter of int
        How many of the ready ones have an input of about which size, by :func:`step_of_size`.
    durations : Sample
        Size of the input, or ``None``, and seconds of tasks that have ended.
    parents : set of Kind
        Kinds whose tasks they were seen to wait for.
    """

    blocked: int = 0
    ready: int = 0
    arrived: int = 0
    done: int = 0
    steps: Counter[int] = field(default_factory=Counter)
    durations: Sample = field(default_factory=Sample)
    parents: set[Kind] = field(default_factory=set)


class DemandCounter(SchedulerPlugin):
    """Count live tasks by what they are; reading costs one step a kind of task.

    Attributes
    ----------
    size_of : callable
        Bytes of the input of a task, given by its key, or ``None`` if that is not known. The
        session's part.
    active_at : dict of str to float
        When a task last ended on a worker, by its address; seconds of ``time.monotonic``.
    """

    name = "scalable-demand"

    def __init__(self) -> None:
        self.size_of: Callable[[Any], float | None] = lambda _key: None
        self.active_at: dict[str, float] = {}
        self._kinds: dict[Kind, Demand] = {}
        # As tasks say it, which may be in any order.
        self._told: dict[tuple[str, Requirement], Kind] = {}
        self._scheduler: Scheduler | None = None

    async def start(self, scheduler: Scheduler) -> None:
        """Remember the scheduler; called by Dask when the plugin is added."""
        self._scheduler = scheduler

    @property
    def kinds(self) -> Mapping[Kind, Demand]:
        """Live counts, by kind; not a copy."""
        return self._kinds

    def by_requirement(self) -> dict[Requirement, tuple[int, int]]:
        """Return how many tasks are blocked and how many are ready, by what they take of a worker."""
        sums: dict[Requirement, tuple[int, int]] = {}
        for kind, demand in list(self._kinds.items()):
            blocked, ready = sums.get(kind.requirement, (0, 0))
            sums[kind.requirement] = (blocked + demand.blocked, ready + demand.ready)
        return sums

    def kind_of(self, task: TaskState) -> Kind:
        """Return of which kind a task is."""
        restrictions = task.resource_restrictions
        told = (task.prefix.name, tuple(restrictions.items()) if restrictions else ())
        kind = self._told.get(told)
        return self._kind(told) if kind is None else kind

    def _kind(self, told: tuple[str, Requirement]) -> Kind:
        name, takes = told
        kind = Kind(tuple(sorted(takes)), name)
        if kind not in self._kinds and len(self._kinds) >= _MOST_KINDS:
            return Kind(kind.requirement, _OTHERS)
        self._told[told] = kind
        return kind

    def transition(self, key: Any, start: str, finish: str, *args: Any, stimulus_id: str = "", **kwargs: Any) -> None:
        """Move one task from one count to another."""
        before, after = start in _COUNTED, finish in _COUNTED
        if not before and not after:
            return
        assert self._scheduler is not None
        task = self._scheduler.tasks[key]
        kind = self.kind_of(task)
        demand = self._kinds.get(kind)
        if demand is None:
            demand = self._kinds[kind] = Demand()
        was_ready, is_ready = before and start != "waiting", after and finish != "waiting"
        demand.blocked += (after and not is_ready) - (before and not was_ready)
        if was_ready != is_ready:
            self._readiness(key, demand, ready=is_ready)
        if not before:
            self._came(task, demand)
        elif not after:
            demand.done += 1
        if start == "processing":
            self._left(key, demand, kwargs)

    def _came(self, task: TaskState, demand: Demand) -> None:
        demand.arrived += 1
        for parent in islice(task.dependencies, _PARENTS_LOOKED_AT):
            if parent.state != "memory":
                demand.parents.add(self.kind_of(parent))

    def _readiness(self, key: Any, demand: Demand, *, ready: bool) -> None:
        change = 1 if ready else -1
        demand.ready += change
        size = self.size_of(key)
        if size is not None:
            step = step_of_size(size)
            demand.steps[step] += change
            if not demand.steps[step]:
                del demand.steps[step]

    def _left(self, key: Any, demand: Demand, facts: Mapping[str, Any]) -> None:
        """Note what is known of a task that has left a worker."""
        worker = facts.get("worker")
        if worker in self.active_at:
            self.active_at[worker] = time.monotonic()
        for span in facts.get("startstops") or ():
            if span["action"] == "compute":
                demand.durations.add((self.size_of(key), span["stop"] - span["start"]))
                return

    def add_worker(self, scheduler: Scheduler, worker: str) -> None:
        """Note a worker that came."""
        self.active_at[worker] = time.monotonic()

    def remove_worker(self, scheduler: Scheduler, worker: str, **_: Any) -> None:
        """Forget a worker that is gone."""
        self.active_at.pop(worker, None)
