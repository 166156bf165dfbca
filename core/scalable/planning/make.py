"""Making a plan: the manifest's numbers, or those that an objective asks for; pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from scalable.errors import Infeasible, PlanError
from scalable.planning.advice import Advice
from scalable.planning.choice import OBJECTIVES, POLICIES, Chosen, Interval, Point, known
from scalable.planning.foresee import USD, Foresight, foresee
from scalable.planning.plan import Origin, Plan
from scalable.spec import DeploymentSpec, Limits, PoolRequest, ScalePlan
from scalable.units import format_duration

if TYPE_CHECKING:
    from scalable.planning.simulate import Worlds

__all__ = ["make_plan", "working_pools"]

_BLIND: Final = frozenset({"vanilla", "fixed_elastic"})


def make_plan(
    spec: DeploymentSpec,
    limits: Limits,
    *,
    objective: str | None = None,
    policy: str | None = None,
    advice: Advice | None = None,
    foresight: Foresight | None = None,
) -> Plan:
    """Return the workers that each pool is to have.

    Without objective, policy and bounds, or with the policy ``manual``, these are the
    manifest's numbers: the workers there are to be, divided among the pools that have work
    at once, or, where the target's policy never starts any, among all that have work. Each
    such pool gets one; the others go by the work that the manifest's hints
    foresee (``count`` times ``duration``), a pool without hints weighing as much as the mean
    of the others.

    Else they are those that the objective asks for, see :func:`scalable.planning.search`.
    Without an objective it is ``balance``, without a policy ``safe``. Bounds of the manifest
    alone size pools only where nothing of the tasks is a guess.

    Parameters
    ----------
    spec : DeploymentSpec
        What is to run.
    limits : Limits
        The provider's bounds.
    objective : {"minimize cost", "minimize time", "balance"}, optional
        What to aim at.
    policy : {"safe", "aggressive", "manual"}, optional
        How to get there.
    advice : Advice, optional
        What the specification follows, for the plan to tell of.
    foresight : Foresight, optional
        What is to run and with which workers; default is what the specification says.

    Raises
    ------
    Infeasible
        If there are fewer workers than pools that have work, or the bounds cannot be kept:
        the message says which, by how much, and what the nearest plan would be.
    PlanError
        If the objective or the policy is not known, or nothing is known of the tasks.
    """
    if objective is not None:
        known("objective", objective, OBJECTIVES)
    if policy is not None:
        known("policy", policy, POLICIES)
    working = working_pools(spec)
    if len(working) > limits.maximum:
        raise Infeasible(_too_few(spec, limits, working))
    seen = foresight or foresee(spec, limits.maximum)
    bounds = spec.objectives
    bare = Plan(
        ScalePlan({}),
        limits,
        objective=objective,
        notes=(*_passed_over(spec), *(() if advice is None else advice.notes)),
        advice=None if advice is None else advice.tasks,
        resources={name: component.resources for name, component in spec.components.items()},
        unit=seen.unit,
        price_source=seen.price_source,
        budget_usd=bounds.budget_usd,
        deadline_hours=bounds.deadline_hours,
        workload=seen.workload if seen.workload.groups else None,
        origin=Origin.of(spec),
    )
    if policy == "manual" or (objective is None and policy is None and not _bounded(spec, seen)):
        return _manual(bare, spec, seen, working)
    return _sized(bare, spec, seen, objective or "balance", policy or "safe")


def _too_few(spec: DeploymentSpec, limits: Limits, working: tuple[str, ...]) -> str:
    return (
        f"target '{spec.target}': max_workers is {limits.maximum}, but {len(working)} pools have work "
        f"({', '.join(working)}) and each needs a worker; set max_workers to {len(working)} or more"
    )


def working_pools(spec: DeploymentSpec) -> tuple[str, ...]:
    """Return the pools that have work at once: those of tasks that wait for no others.

    Without tasks that is every pool. A pool whose tasks all come ``after`` others gets its
    workers when they are ready, unless the target's policy is ``no``, which never starts any.
    """
    fixed = _policy(spec) == "no"
    at_once = {task.component for task in spec.tasks.values() if fixed or not task.after}
    return tuple(name for name in spec.components if not at_once or name in at_once)


def _policy(spec: DeploymentSpec) -> str:
    """Return the name of the policy that the target says; empty if it says none."""
    choice = getattr(spec.options, "scaling", None)
    text = (choice and choice.policy) or ""
    said = re.search(r"\bscaling\s*=\s*(\w+)", text)
    return said[1] if said else text.strip()


def _passed_over(spec: DeploymentSpec) -> tuple[str, ...]:
    """Return a note if pools may wait for ever, because the policy does not look at what tasks require."""
    policy = _policy(spec)
    if policy not in _BLIND or spec.options.scaling.parameters.get("serve_every_tag"):  # type: ignore[attr-defined]
        return ()
    begun = working_pools(spec)
    later = dict.fromkeys(task.component for task in spec.tasks.values() if task.component not in begun)
    if not later:
        return ()
    return (f"policy '{policy}' may never start workers of {', '.join(later)}; set `serve_every_tag: true`",)


def _bounded(spec: DeploymentSpec, seen: Foresight) -> bool:
    """Return whether bounds are to size pools though nobody named an objective."""
    bounds = spec.objectives
    said = bounds.deadline_hours is not None or (bounds.budget_usd is not None and seen.unit == USD)
    return said and seen.workload.known and bool(seen.workload.groups)


def _manual(bare: Plan, spec: DeploymentSpec, seen: Foresight, working: tuple[str, ...]) -> Plan:
    limits = bare.limits
    total = max(limits.minimum, 0)
    if total and _policy(spec) == "no":
        # Nobody starts one later for those that have none.
        total = max(total, len(working))
    counts = _divide(total, _weights(spec, working))
    made = replace(
        bare,
        scale_plan=_requests(spec, {name: counts[name] for name in spec.components if name in counts}),
        counts=dict.fromkeys(spec.components, limits.maximum),
        why="the manifest's numbers",
    )
    if bare.workload is None or not bare.workload.known:
        # What would come of guesses is no prediction.
        return replace(made, workload=None, notes=(*_unsized(spec), *bare.notes))
    from scalable.planning.simulate import Simulator  # noqa: PLC0415  (numpy is only for those who predict)

    simulator = Simulator(bare.workload, seen.pools)
    # What an adaptive target starts with says nothing; it becomes what there is work for.
    there = counts if limits.minimum == limits.maximum else _divide(limits.maximum, _weights(spec, working))
    full = {name: min(there.get(name) or limits.maximum, simulator.most(name)) for name in simulator.pools}
    worlds = simulator.run(full)
    predicted = replace(
        made,
        time_s=Interval.of(worlds.time_s.tolist()),
        cost=Interval.of(worlds.cost.tolist()),
        worker_hours=_worker_hours(worlds),
    )
    return replace(predicted, notes=(*_unsized(spec), *_not_kept(predicted), *seen.notes, *bare.notes))


def _worker_hours(worlds: Worlds) -> Interval:
    return Interval.of((sum(worlds.worker_s.values()) / 3600).tolist())  # type: ignore[union-attr]


def _sized(bare: Plan, spec: DeploymentSpec, seen: Foresight, objective: str, policy: str) -> Plan:
    if bare.workload is None:
        raise PlanError(
            f"objective '{objective}': nothing is known of the tasks; name them in the manifest's `tasks` "
            "with `count` and `duration`, or run the workflow once"
        )
    from scalable.planning.explore import search  # noqa: PLC0415  (numpy is only for those who plan)

    deadline_s = None if bare.deadline_hours is None else bare.deadline_hours * 3600
    walltime_s = getattr(spec.options, "walltime", None) if objective == "minimize cost" else None
    chosen = search(
        bare.workload,
        seen.pools,
        objective=objective,
        policy=policy,
        budget=bare.budget_usd if seen.unit == USD else None,
        deadline_s=walltime_s if deadline_s is None else deadline_s,
        limit=bare.limits.maximum,
    )
    plan = _chosen(replace(bare, objective=objective, policy=policy), spec, chosen)
    if "budget" in chosen.missed or ("deadline_s" in chosen.missed and deadline_s is not None):
        raise Infeasible(_infeasible(plan, spec, chosen, bare.limits.maximum))
    notes = list(seen.notes)
    if chosen.missed:
        notes.append(f"it takes longer than the walltime of a job, {format_duration(walltime_s or 0)}")
    elif not chosen.within:
        notes.append("what is predicted keeps the bounds, but not with the headroom that policy 'safe' wants")
    return replace(plan, notes=(*notes, *bare.notes))


def _chosen(bare: Plan, spec: DeploymentSpec, chosen: Chosen) -> Plan:
    point, limits = chosen.point, bare.limits
    assert bare.workload is not None
    at_once = {group.pool for group in bare.workload.groups if not group.parents}
    fixed = _policy(spec) == "no"
    begin = {name: count for name, count in point.counts.items() if fixed or name in at_once}
    if fixed and len(begin) <= limits.maximum < sum(begin.values()):
        begin = _divide(limits.maximum, begin)
    if sum(begin.values()) > limits.maximum:
        raise Infeasible(_too_few(spec, limits, tuple(begin)))
    # Workers that nobody needs leave, unless the manifest's own minimum keeps them.
    least = 0 if limits.minimum == limits.maximum else limits.minimum
    most = max(1, min(limits.maximum, max(point.peak, sum(begin.values()))), least)
    return replace(
        bare,
        scale_plan=_requests(spec, {name: begin[name] for name in spec.components if name in begin}),
        limits=Limits(least, most),
        counts=dict(point.counts),
        time_s=point.time_s,
        cost=point.cost,
        worker_hours=_sum(point.worker_s).times(1 / 3600),
        front=chosen.front,
        why=_why(bare, chosen),
        limited_by=chosen.limited_by,
    )


def _sum(intervals: Mapping[str, Interval]) -> Interval:
    values = intervals.values()
    return Interval(
        sum(one.low for one in values),
        sum(one.median for one in values),
        sum(one.high for one in values),
        sum(one.mean for one in values),
    )


def _why(plan: Plan, chosen: Chosen) -> str:
    """Return why a choice was made, against its neighbours on the front."""
    what = {
        "minimize cost": "the cheapest that keeps the bounds, to 0.1 %",
        "minimize time": "the fastest that keeps the bounds, to 1 %",
        "balance": "the least cost times time, the knee of the front",
    }[plan.objective or "balance"]
    own = chosen.point
    faster = [point for point in chosen.front if point.time_s.mean < own.time_s.mean * 0.99]
    cheaper = [point for point in chosen.front if point.cost.mean < own.cost.mean * 0.99]
    parts = [f"{what}, of {chosen.tried} choices"]
    if faster:
        parts.append(f"the next faster one {_against(faster[-1], own)}")
    if cheaper:
        parts.append(f"the next cheaper one {_against(cheaper[0], own)}")
    return "; ".join(parts)


def _against(point: Point, own: Point) -> str:
    """Return how a choice compares with another."""
    time, cost = point.time_s.mean / own.time_s.mean - 1, point.cost.mean / max(own.cost.mean, 1e-12) - 1
    return f"takes {time:+.0%} time and costs {cost:+.0%}"


def _infeasible(plan: Plan, spec: DeploymentSpec, chosen: Chosen, most: int) -> str:
    point = chosen.point
    missed = []
    if "deadline_s" in chosen.missed and plan.deadline_hours is not None:
        over = chosen.missed["deadline_s"]
        missed.append(f"deadline_hours {plan.deadline_hours:g} is missed by {format_duration(over)}")
    if "budget" in chosen.missed and plan.budget_usd is not None:
        missed.append(f"budget_usd {plan.budget_usd:g} is exceeded by {chosen.missed['budget']:.2f}")
    workers = ", ".join(f"{count} of {name}" for name, count in point.counts.items())
    cost = f"{point.cost.median:.2f} {plan.unit}"
    more = "raise max_workers, " if point.peak >= most else ""
    return (
        f"target '{spec.target}': {' and '.join(missed)}; the nearest plan is {workers}, which takes "
        f"{format_duration(point.time_s.median)} and costs {cost}; set the bounds to that, "
        f"{more}or take the policy 'manual'"
    )


def _requests(spec: DeploymentSpec, counts: Mapping[str, int]) -> ScalePlan:
    return ScalePlan({name: PoolRequest(spec.components[name].resources, count) for name, count in counts.items()})


def _weights(spec: DeploymentSpec, working: tuple[str, ...]) -> dict[str, float]:
    hinted: dict[str, float] = {}
    for task in spec.tasks.values():
        if task.count is not None and task.component in working:
            hinted[task.component] = hinted.get(task.component, 0.0) + task.count * (task.duration_s or 1.0)
    mean = sum(hinted.values()) / len(hinted) if hinted else 1.0
    return {name: hinted.get(name, mean) for name in working}


def _divide(total: int, weights: Mapping[str, float]) -> dict[str, int]:
    """Give each one while there are any, then the rest by weight (largest quotient, as D'Hondt divides seats)."""
    counts = dict.fromkeys(weights, 0)
    for _ in range(total):
        without = [name for name, count in counts.items() if count == 0]
        chosen = without[0] if without else max(weights, key=lambda name: weights[name] / (counts[name] + 1))
        counts[chosen] += 1
    return counts


def _unsized(spec: DeploymentSpec) -> tuple[str, ...]:
    bounds = spec.objectives
    if bounds.budget_usd is None and bounds.deadline_hours is None:
        return ()
    said: dict[str, Any] = {"budget_usd": bounds.budget_usd, "deadline_hours": bounds.deadline_hours}
    given = ", ".join(f"{name} {value:g}" for name, value in said.items() if value is not None)
    return (f"pools are not sized by the bounds ({given}); name an objective, or more of the tasks",)


def _not_kept(plan: Plan) -> tuple[str, ...]:
    notes = []
    if plan.deadline_hours is not None and plan.time_s is not None and plan.time_s.median > plan.deadline_hours * 3600:
        notes.append(f"it takes longer than deadline_hours: {format_duration(plan.time_s.median)}")
    if plan.budget_usd is not None and plan.cost_usd is not None and plan.cost_usd.median > plan.budget_usd:
        notes.append(f"it costs more than budget_usd: {plan.cost_usd.median:.2f}")
    return tuple(notes)
