"""Advice taken: a deployment with the memory, durations and walltime that history suggests; pure."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from pydantic import BaseModel

from scalable.advisors.base import ASKED_PLUS_HEADROOM, Recommendation
from scalable.advisors.sizing import HEADROOM, worker_bytes
from scalable.spec import ComponentSpec, DeploymentSpec, TaskSpec
from scalable.units import format_bytes, format_duration

__all__ = ["Advice", "Bounds", "TaskAdvice", "take_advice"]

_TASKS_OF_A_JOB: Final = 10
_SHORTEST_WALLTIME_S: Final = 600.0
_SHORTEST_TASK_S: Final = 0.001


@dataclass(frozen=True, slots=True)
class Bounds:
    """What the provider can give.

    Attributes
    ----------
    threads : mapping of str to int
        Tasks that a worker runs at a time, by component.
    memory_bytes : int or None
        Bytes of the largest worker there can be; ``None`` if that is not known.
    workers : int
        Workers of all pools together, at the most.
    """

    threads: Mapping[str, int]
    memory_bytes: int | None = None
    workers: int = 1


@dataclass(frozen=True, slots=True)
class TaskAdvice:
    """What was made of the advice for one task.

    Attributes
    ----------
    task, component : str
        The task, and where it runs.
    worker_bytes : int or None
        Bytes of a worker that this task needs; ``None`` if nothing was advised.
    duration_s : float or None
        Seconds it takes; ``None`` if nothing was advised.
    confidence : float or None
        That the memory suffices.
    why : str
        What the advice rests on, or why there is none.
    """

    task: str
    component: str
    worker_bytes: int | None
    duration_s: float | None
    confidence: float | None
    model_type: str
    why: str

    def __str__(self) -> str:
        if self.worker_bytes is None and self.duration_s is None:
            return f"{self.task}: as the manifest says; {self.why}"
        parts = []
        if self.worker_bytes is not None:
            parts.append(f"{format_bytes(self.worker_bytes)} for a worker of {self.component}")
        if self.duration_s is not None:
            parts.append(format_duration(self.duration_s))
        return f"{self.task}: {', '.join(parts)}; {self.why}"

    def to_json(self) -> dict[str, Any]:
        """Return it as ``plan.json`` has it."""
        return {
            "task": self.task,
            "component": self.component,
            "memory_bytes": self.worker_bytes,
            "duration_s": self.duration_s,
            "confidence": self.confidence,
            "model_type": self.model_type,
            "why": self.why,
        }


@dataclass(frozen=True, slots=True)
class Advice:
    """A deployment that follows advice.

    Attributes
    ----------
    spec : DeploymentSpec
        What is to run.
    tasks : tuple of TaskAdvice
        What was advised for each task, or why nothing was.
    notes : tuple of str
        What changed by it.
    """

    spec: DeploymentSpec
    tasks: tuple[TaskAdvice, ...] = ()
    notes: tuple[str, ...] = ()


def take_advice(spec: DeploymentSpec, advised: Mapping[str, Recommendation | str], bounds: Bounds) -> Advice:
    """Return a deployment with what was advised in place of what the manifest says.

    The memory of a component becomes the most that any of its tasks needs; a task without
    advice, or with too little history, needs what the manifest says. The walltime of jobs
    only becomes shorter, and only if it is known how long all tasks take. Nothing becomes
    more than the provider can give, and no task longer than a job may be.

    Parameters
    ----------
    spec : DeploymentSpec
        As the manifest says.
    advised : mapping
        By task: the advice, or why there is none. Tasks that the manifest does not name count
        for the component on which they ran.
    bounds : Bounds
        What the provider can give.
    """
    taken = [_Taken.of(spec, name, advice, bounds) for name, advice in advised.items()]
    taken = [one for one in taken if one.component in spec.components]
    notes: list[str] = []
    components = {
        name: _component(component, [one for one in taken if one.component == name], bounds, notes)
        for name, component in spec.components.items()
    }
    durations = {one.task: one for one in taken}
    longest = _walltime(spec.options)
    tasks = {
        name: _with_duration(task, durations[name], longest) if name in durations else task
        for name, task in spec.tasks.items()
    }
    made = replace(spec, components=components, tasks=tasks)
    options = _with_walltime(made, taken, bounds, notes)
    return Advice(replace(made, options=options), tuple(one.told() for one in taken), tuple(notes))


@dataclass(frozen=True, slots=True)
class _Taken:
    """Advice for one task, as far as it can be used."""

    task: str
    component: str
    advice: Recommendation | None
    worker_bytes: int | None
    certain: bool
    why: str

    @classmethod
    def of(cls, spec: DeploymentSpec, name: str, advice: Recommendation | str, bounds: Bounds) -> _Taken:
        known = spec.tasks.get(name)
        if isinstance(advice, str):
            return cls(name, known.component if known is not None else "", None, None, certain=False, why=advice)
        component = known.component if known is not None else next(iter(advice.resources), "")
        size = None
        if advice.memory_bytes is not None:
            at_a_time = bounds.threads.get(component, 1) // max(1, advice.evidence.get("threads", 1))
            # A peak that was shared holds all tasks of its worker already.
            size = worker_bytes(advice.memory_bytes, 1 if advice.evidence.get("peaks") == "shared" else at_a_time)
        certain = size is not None and advice.evidence.get("method") != ASKED_PLUS_HEADROOM
        return cls(name, component, advice, size, certain=certain, why=_why(advice, certain=certain))

    @property
    def own_times(self) -> bool:
        """Whether its durations were measured on the same target."""
        return self.advice is not None and self.advice.evidence.get("durations") != "other targets"

    def told(self) -> TaskAdvice:
        """Return what people are told of it."""
        advice = self.advice
        return TaskAdvice(
            self.task,
            self.component,
            self.worker_bytes if self.certain else None,
            advice.duration_s if advice is not None else None,
            advice.confidence if advice is not None and self.certain else None,
            advice.model_type if advice is not None else "",
            self.why,
        )


def _why(advice: Recommendation, *, certain: bool) -> str:
    if certain:
        return f"suffices for {advice.confidence:.1%} ({advice.model_type}, {advice.seen})"
    return f"too little history to change its memory ({advice.seen})"


def _component(component: ComponentSpec, tasks: list[_Taken], bounds: Bounds, notes: list[str]) -> ComponentSpec:
    asked, name = component.resources.memory_bytes, component.name
    # A component whose memory is the machine's has no limit that could be wrong.
    if asked is None or not tasks:
        return component
    size = max(one.worker_bytes or asked if one.certain else max(asked, one.worker_bytes or 0) for one in tasks)
    most = None if bounds.memory_bytes is None else max(bounds.memory_bytes, asked)
    if most is not None and size > most:
        notes.append(
            f"components.{name}: {format_bytes(size)} would be needed, but {format_bytes(most)} is the most there is"
        )
        size = most
    if size == asked:
        return component
    notes.append(f"components.{name}: memory {format_bytes(size)}, as advised, in place of {format_bytes(asked)}")
    return replace(component, resources=replace(component.resources, memory_bytes=size))


def _with_duration(task: TaskSpec, taken: _Taken, longest_s: float) -> TaskSpec:
    advice = taken.advice
    # Those of another target say how tasks compare, which is better than nothing.
    if advice is None or advice.duration_s is None or not (taken.own_times or task.duration_s is None):
        return task
    duration = min(max(advice.duration_s, _SHORTEST_TASK_S), longest_s)
    high = advice.duration_high_s if taken.own_times else None
    return replace(task, duration_s=duration, duration_high_s=None if high is None else min(high, longest_s))


def _walltime(options: BaseModel) -> float:
    """Return the seconds that a worker may live, for ever where nothing ends it."""
    found = getattr(options, "walltime", None)
    return float(found) if found is not None else math.inf


def _with_walltime(spec: DeploymentSpec, tasks: Iterable[_Taken], bounds: Bounds, notes: list[str]) -> BaseModel:
    allowed, tasks = _walltime(spec.options), list(tasks)
    served = {one.component for one in tasks}
    if math.isinf(allowed) or not served.issuperset(spec.components):
        return spec.options
    needs = []
    for one in tasks:
        high = one.advice.duration_high_s if one.advice is not None and one.own_times else None
        if high is None:
            return spec.options
        needs.append(_TASKS_OF_A_JOB * high)
    needs += [_share_s(spec, name, bounds) for name in spec.components]
    needed = max(_SHORTEST_WALLTIME_S, math.ceil(max(needs) * HEADROOM / 60) * 60.0)
    if needed >= allowed:
        return spec.options
    notes.append(
        f"targets.{spec.target}: walltime {format_duration(needed)}, as advised, in place of {format_duration(allowed)}"
    )
    return spec.options.model_copy(update={"walltime": needed})


def _share_s(spec: DeploymentSpec, component: str, bounds: Bounds) -> float:
    """Return the seconds that a worker of a pool would work if all pools had equally many."""
    work = sum(
        task.count * task.duration_s
        for task in spec.tasks.values()
        if task.component == component and task.count is not None and task.duration_s is not None
    )
    workers = max(1, bounds.workers // max(1, len(spec.components)))
    return work / (workers * max(1, bounds.threads.get(component, 1)))
