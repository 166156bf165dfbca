"""Plans as files: what ``scalable plan --format json`` prints, and ``scalable run --plan`` reads back."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from scalable.errors import PlanError
from scalable.planning.advice import TaskAdvice
from scalable.planning.choice import Interval, Objective, Point, Policy
from scalable.planning.plan import Origin, Plan, fingerprint
from scalable.planning.workload import TaskGroup, Workload
from scalable.spec import Limits, PoolRequest, ResourceRequest, ScalePlan

__all__ = ["read_plan"]


class _Edge(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class _Pool(_Edge):
    count: int = Field(ge=0)
    cpus: float = Field(gt=0)
    memory_bytes: int | None = Field(gt=0)
    gpus: int = Field(ge=0)

    def request(self) -> ResourceRequest:
        return ResourceRequest(self.cpus, self.memory_bytes, self.gpus)


class _Limits(_Edge):
    minimum: int = Field(ge=0)
    maximum: int = Field(ge=1)


class _Objectives(_Edge):
    budget_usd: float | None
    deadline_hours: float | None


class _Interval(_Edge):
    median: float
    low: float
    high: float
    mean: float

    def interval(self) -> Interval:
        return Interval(self.low, self.median, self.high, self.mean)


class _Cost(_Edge):
    usd: float
    low: float
    high: float
    source: str


class _Point(_Edge):
    counts: dict[str, int]
    time_s: _Interval
    cost: _Interval


class _Group(_Edge):
    task: str
    pool: str
    count: int = Field(ge=1)
    after: tuple[str, ...]
    each: tuple[str, ...]
    slots: int = Field(ge=1)
    cpus: float
    memory_bytes: int | None
    mean_s: float = Field(ge=0)
    source: str


class _Advice(_Edge):
    task: str
    component: str
    memory_bytes: int | None
    duration_s: float | None
    confidence: float | None
    model_type: str
    why: str


class _File(_Edge):
    schema_: Literal[1] = Field(alias="schema")
    project: str
    target: str
    provider: str
    manifest: str
    pools: dict[str, _Pool]
    most: dict[str, _Pool]
    limits: _Limits
    objective: Objective | None
    policy: Policy
    objectives: _Objectives
    time_s: _Interval | None
    cost: _Cost | None
    core_hours: _Interval | None
    unit: Literal["USD", "core-hours"]
    price_source: str
    worker_hours: _Interval | None
    why: str
    limited_by: str
    front: tuple[_Point, ...]
    workload: tuple[_Group, ...]
    notes: tuple[str, ...]
    advice: tuple[_Advice, ...] | None = None
    fingerprint: str | None = None


def read_plan(path: Path) -> Plan:
    """Return the plan that a file holds.

    Parameters
    ----------
    path : Path
        What ``scalable plan --format json`` printed.

    Raises
    ------
    PlanError
        If it cannot be read, is no plan, or does not hold what its fingerprint says.
    """
    again = "make one with `scalable plan --format json`"
    try:
        data = json.loads(path.read_bytes())
        file = _File.model_validate(data)
    except OSError as error:
        raise PlanError(f"cannot read the plan {path}: {error.strerror or error}; {again}") from error
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        raise PlanError(f"{path} is no plan: {where + ': ' if where else ''}{first['msg']}; {again}") from error
    except ValueError as error:
        raise PlanError(f"{path} is no plan: {error}; {again}") from error
    content: dict[str, Any] = {key: value for key, value in data.items() if key != "fingerprint"}
    if file.fingerprint is not None and file.fingerprint != fingerprint(content):
        raise PlanError(
            f"{path} was changed after it was made: its fingerprint is of another plan; {again}, "
            "or take the fingerprint out if the change is meant"
        )
    return _plan(file)


def _plan(file: _File) -> Plan:
    return Plan(
        ScalePlan({name: PoolRequest(pool.request(), pool.count) for name, pool in file.pools.items()}),
        Limits(file.limits.minimum, file.limits.maximum),
        file.policy,
        file.notes,
        None if file.advice is None else tuple(map(_advice, file.advice)),
        objective=file.objective,
        counts={name: pool.count for name, pool in file.most.items()},
        resources={name: pool.request() for name, pool in file.most.items()},
        time_s=_interval(file.time_s),
        cost=_cost(file),
        unit=file.unit,
        price_source=file.price_source,
        worker_hours=_interval(file.worker_hours),
        front=tuple(_point(one) for one in file.front),
        why=file.why,
        limited_by=file.limited_by,
        workload=_workload(file),
        budget_usd=file.objectives.budget_usd,
        deadline_hours=file.objectives.deadline_hours,
        origin=Origin(file.project, file.target, file.provider, file.manifest),
    )


def _interval(found: _Interval | None) -> Interval | None:
    return None if found is None else found.interval()


def _cost(file: _File) -> Interval | None:
    if file.cost is None:
        return _interval(file.core_hours)
    return Interval(file.cost.low, file.cost.usd, file.cost.high, file.cost.usd)


def _point(found: _Point) -> Point:
    return Point(found.counts, found.time_s.interval(), found.cost.interval(), sum(found.counts.values()))


def _workload(file: _File) -> Workload | None:
    groups = tuple(
        TaskGroup(
            one.task,
            one.pool,
            one.count,
            (one.mean_s,),
            one.after,
            one.each,
            slots=one.slots,
            cpus=one.cpus,
            memory_bytes=one.memory_bytes,
            source=one.source,
        )
        for one in file.workload
    )
    return Workload(groups) if groups else None


def _advice(one: _Advice) -> TaskAdvice:
    return TaskAdvice(
        one.task, one.component, one.memory_bytes, one.duration_s, one.confidence, one.model_type, one.why
    )
