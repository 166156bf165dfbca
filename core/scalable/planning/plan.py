"""The plan: how many workers each pool is to have, what that would take and cost, and why."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final

from scalable.errors import PlanError
from scalable.planning.advice import TaskAdvice
from scalable.planning.choice import Interval, Point
from scalable.planning.foresee import USD
from scalable.planning.workload import TaskGroup, Workload
from scalable.spec import DeploymentSpec, Limits, ResourceRequest, ScalePlan

__all__ = ["Origin", "Plan", "fingerprint"]

_FRONT: Final = 15


@dataclass(frozen=True, slots=True)
class Origin:
    """What a plan was made for: project, target, provider, and the SHA-256 of the manifest."""

    project: str = ""
    target: str = ""
    provider: str = ""
    manifest: str = ""

    @classmethod
    def of(cls, spec: DeploymentSpec) -> Origin:
        """Return what plans of a deployment are for."""
        return cls(spec.project, spec.target, spec.provider, spec.fingerprint)


@dataclass(frozen=True, slots=True)
class Plan:
    """What is asked of the provider, and what is expected of it.

    Attributes
    ----------
    scale_plan : ScalePlan
        Workers by pool when the run starts: those of pools that have work at once.
    limits : Limits
        Bounds on all pools together for the whole run.
    policy : str
        ``"manual"``: the manifest's numbers, untouched; ``"safe"`` or ``"aggressive"``.
    notes : tuple of str
        What a reader of the plan should know.
    advice : tuple of TaskAdvice, or None
        What past runs advise for each task, or why nothing; ``None`` if they were not asked.
    objective : str or None
        What was aimed at.
    counts : mapping of str to int
        Workers that each pool is to have at the most.
    resources : mapping of str to ResourceRequest
        What one worker of each pool is given.
    time_s : Interval or None
        Seconds from the start of the workers until all tasks are done; ``None`` if nothing
        is known of the tasks.
    cost : Interval or None
        What the workers cost, in :attr:`unit`.
    unit : str
        ``"USD"``, or ``"core-hours"`` where no price is known or nothing is paid.
    price_source : str
        Where prices are from.
    worker_hours : Interval or None
        Hours of workers that are paid for.
    front : tuple of Point
        Choices of which none is both faster and cheaper, the fastest first.
    why, limited_by : str
        Why this choice, and what keeps it from being better.
    workload : Workload or None
        What it was planned for.
    budget_usd, deadline_hours : float or None
        Bounds that it was to keep.
    origin : Origin
        What it was made for.
    """

    scale_plan: ScalePlan
    limits: Limits
    policy: str = "manual"
    notes: tuple[str, ...] = ()
    advice: tuple[TaskAdvice, ...] | None = None
    objective: str | None = None
    counts: Mapping[str, int] = field(default_factory=dict)
    resources: Mapping[str, ResourceRequest] = field(default_factory=dict)
    time_s: Interval | None = None
    cost: Interval | None = None
    unit: str = USD
    price_source: str = ""
    worker_hours: Interval | None = None
    front: tuple[Point, ...] = ()
    why: str = ""
    limited_by: str = ""
    workload: Workload | None = None
    budget_usd: float | None = None
    deadline_hours: float | None = None
    origin: Origin = field(default_factory=Origin)

    @property
    def cost_usd(self) -> Interval | None:
        """The cost in US dollars; ``None`` if no price is known."""
        return self.cost if self.unit == USD else None

    @property
    def fingerprint(self) -> str:
        """SHA-256 of all that it says, as hexadecimal text: two plans are the same if it is."""
        return fingerprint(self._content())

    def check(self, spec: DeploymentSpec, limits: Limits | None = None) -> None:
        """Refuse a deployment that the plan is not for, or that cannot be as it says.

        Parameters
        ----------
        spec : DeploymentSpec
            What is to run.
        limits : Limits, optional
            The provider's bounds on all pools together.

        Raises
        ------
        PlanError
            If it was made for another target or manifest, names pools that are not there,
            contradicts itself, or has more workers than there may be.
        """
        own, given = self.origin, Origin.of(spec)
        again = "plan again with `scalable plan --format json`"
        if own.target and own.target != given.target:
            raise PlanError(
                f"the plan is for target '{own.target}', this is target '{given.target}'; "
                f"run it with --target {own.target}, or {again}"
            )
        if own.manifest and given.manifest and own.manifest != given.manifest:
            raise PlanError(
                f"the plan is for a manifest with fingerprint {own.manifest[:12]}, {spec.manifest_path or 'this one'} "
                f"has {given.manifest[:12]}: it was changed since, or is another one; {again}"
            )
        if strangers := (self.scale_plan.keys() | self.counts.keys()) - spec.components.keys():
            raise PlanError(f"the plan is for other pools ({', '.join(sorted(strangers))}) than this target has")
        if wrong := self._contradiction(spec, limits):
            raise PlanError(f"the plan cannot be: {wrong}; correct that, or {again}")

    def _contradiction(self, spec: DeploymentSpec, limits: Limits | None) -> str:
        """Return in words which numbers of workers cannot be; empty if all can."""
        own = self.limits
        counts = {name: request.count for name, request in self.scale_plan.items()}
        planned = (*counts.items(), *self.counts.items())
        if negative := sorted({f"{count} workers of pool {name}" for name, count in planned if count < 0}):
            return f"{negative[0]} are less than none"
        if not 0 <= own.minimum <= own.maximum:
            return f"limits.minimum {own.minimum} is not between 0 and limits.maximum {own.maximum}"
        if sum(counts.values()) > own.maximum:
            return f"it starts with {sum(counts.values())} workers, which is more than limits.maximum {own.maximum}"
        if limits is not None and own.maximum > limits.maximum:
            return (
                f"limits.maximum {own.maximum} is more than the {limits.maximum} workers that target "
                f"'{spec.target}' may have"
            )
        return ""

    def fitted(self, spec: DeploymentSpec) -> DeploymentSpec:
        """Return a deployment whose workers are given what the plan says."""
        resources = {**self.resources, **{name: one.resources for name, one in self.scale_plan.items()}}
        components = {
            name: replace(component, resources=resources.get(name, component.resources))
            for name, component in spec.components.items()
        }
        return spec if components == spec.components else replace(spec, components=components)

    def to_json(self) -> dict[str, Any]:
        """Return the plan as ``plan.json`` has it."""
        content = self._content()
        return {**content, "fingerprint": fingerprint(content)}

    def _content(self) -> dict[str, Any]:
        asked = {} if self.advice is None else {"advice": [one.to_json() for one in self.advice]}
        return {
            "schema": 1,
            "project": self.origin.project,
            "target": self.origin.target,
            "provider": self.origin.provider,
            "manifest": self.origin.manifest,
            "pools": {
                tag: {"count": request.count, **_resources(request.resources)}
                for tag, request in self.scale_plan.items()
            },
            "most": {tag: {"count": count, **_resources(self._of(tag))} for tag, count in self.counts.items()},
            "limits": {"minimum": self.limits.minimum, "maximum": self.limits.maximum},
            "objective": self.objective,
            "policy": self.policy,
            "objectives": {"budget_usd": self.budget_usd, "deadline_hours": self.deadline_hours},
            "time_s": _interval(self.time_s),
            "cost": self._cost(),
            "core_hours": None if self.unit == USD else _interval(self.cost),
            "unit": self.unit,
            "price_source": self.price_source,
            "worker_hours": _interval(self.worker_hours),
            "why": self.why,
            "limited_by": self.limited_by,
            "front": [
                {
                    "counts": dict(point.counts),
                    "time_s": _interval(point.time_s),
                    "cost": _interval(point.cost),
                }
                for point in self.shown_front
            ],
            "workload": [] if self.workload is None else [_group(group) for group in self.workload.groups],
            "notes": list(self.notes),
            **asked,
        }

    @property
    def shown_front(self) -> tuple[Point, ...]:
        """At most 15 points of the front, evenly spread, with both ends and the choice itself."""
        last = len(self.front) - 1
        if last < _FRONT:
            return self.front
        own = [place for place, point in enumerate(self.front) if point.counts == self.counts]
        spread = {round(step * last / (_FRONT - 2)) for step in range(_FRONT - 1)}
        return tuple(self.front[place] for place in sorted({*spread, *own}))

    def _of(self, tag: str) -> ResourceRequest:
        return self.scale_plan[tag].resources if tag in self.scale_plan else self.resources[tag]

    def _cost(self) -> dict[str, Any] | None:
        cost = self.cost_usd
        if cost is None:
            return None
        bounds = {"low": _rounded(cost.low), "high": _rounded(cost.high)}
        return {"usd": _rounded(cost.median), **bounds, "source": self.price_source}


def fingerprint(content: Mapping[str, Any]) -> str:
    """Return the SHA-256 of JSON data, as hexadecimal text."""
    text = json.dumps(_canonical(content), sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def _canonical(value: Any) -> Any:
    """Return JSON data in which a whole number is one however it is written: others may write 1 for 1.0."""
    if isinstance(value, Mapping):
        return {key: _canonical(one) for key, one in value.items()}
    if isinstance(value, list):
        return [_canonical(one) for one in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _resources(resources: ResourceRequest) -> dict[str, Any]:
    return {"cpus": resources.cpus, "memory_bytes": resources.memory_bytes, "gpus": resources.gpus}


def _interval(interval: Interval | None) -> dict[str, float] | None:
    if interval is None:
        return None
    values = {"median": interval.median, "low": interval.low, "high": interval.high, "mean": interval.mean}
    return {name: _rounded(value) for name, value in values.items()}


def _rounded(value: float) -> float:
    """Return a number without digits that mean nothing, and that another machine may have otherwise."""
    return float(f"{value:.6g}")


def _group(group: TaskGroup) -> dict[str, Any]:
    return {
        "task": group.name,
        "pool": group.pool,
        "count": group.count,
        "after": list(group.after),
        "each": list(group.each),
        "slots": group.slots,
        "cpus": group.cpus,
        "memory_bytes": group.memory_bytes,
        "mean_s": _rounded(group.mean_s),
        "source": group.source,
    }
