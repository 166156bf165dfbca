"""The plan: how many workers each pool starts with, and within which bounds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from scalable.errors import Infeasible, PlanError, did_you_mean
from scalable.planning.advice import Advice, TaskAdvice
from scalable.spec import DeploymentSpec, Limits, PoolRequest, ScalePlan

__all__ = ["Plan", "make_plan", "working_pools"]

_POLICIES = ("manual",)


@dataclass(frozen=True, slots=True)
class Plan:
    """What is asked of the provider when the run starts.

    Attributes
    ----------
    scale_plan : ScalePlan
        Workers by pool.
    limits : Limits
        Bounds on all pools together for the whole run.
    policy : str
        ``"manual"``: the manifest's numbers, untouched.
    notes : tuple of str
        What a reader of the plan should know.
    advice : tuple of TaskAdvice, or None
        What past runs advise for each task, or why nothing; ``None`` if they were not asked.
    """

    scale_plan: ScalePlan
    limits: Limits
    policy: str = "manual"
    notes: tuple[str, ...] = ()
    advice: tuple[TaskAdvice, ...] | None = None

    def to_json(self) -> dict[str, Any]:
        """Return the plan as ``plan.json`` has it."""
        asked = {} if self.advice is None else {"advice": [one.to_json() for one in self.advice]}
        return {
            "schema": 1,
            "pools": {
                tag: {
                    "count": request.count,
                    "cpus": request.resources.cpus,
                    "memory_bytes": request.resources.memory_bytes,
                    "gpus": request.resources.gpus,
                }
                for tag, request in self.scale_plan.items()
            },
            "limits": {"minimum": self.limits.minimum, "maximum": self.limits.maximum},
            "objective": None,
            "policy": self.policy,
            "notes": list(self.notes),
            **asked,
        }


def make_plan(
    spec: DeploymentSpec,
    limits: Limits,
    *,
    objective: str | None = None,
    policy: str | None = None,
    advice: Advice | None = None,
) -> Plan:
    """Divide the workers among the pools that have work at once.

    Each such pool gets one; the others go by the work that the manifest's hints foresee
    (``count`` times ``duration``), a pool without hints weighing as much as the mean of
    the others.

    Parameters
    ----------
    spec : DeploymentSpec
        What is to run.
    limits : Limits
        The provider's bounds.
    objective, policy : str, optional
        ``None`` and ``"manual"`` are what this release knows.
    advice : Advice, optional
        What the specification follows, for the plan to tell of.

    Raises
    ------
    Infeasible
        If there are fewer workers than pools that have work.
    PlanError
        If the objective or the policy is not known.
    """
    if objective is not None:
        raise PlanError(
            f"objective '{objective}': this release plans by the manifest's numbers only; leave the objective out"
        )
    if policy is not None and policy not in _POLICIES:
        raise PlanError(
            f"policy '{policy}': this release knows {', '.join(_POLICIES)}; {did_you_mean(policy, _POLICIES)}".rstrip(
                "; "
            )
        )
    working = working_pools(spec)
    if len(working) > limits.maximum:
        raise Infeasible(
            f"target '{spec.target}': max_workers is {limits.maximum}, but {len(working)} pools have work "
            f"({', '.join(working)}) and each needs a worker; set max_workers to {len(working)} or more"
        )
    counts = _divide(max(limits.minimum, 0), _weights(spec, working))
    pools = {
        name: PoolRequest(component.resources, counts.get(name, 0))
        for name, component in spec.components.items()
        if name in counts
    }
    if advice is None:
        return Plan(ScalePlan(pools), limits, notes=_notes(spec))
    return Plan(ScalePlan(pools), limits, notes=(*_notes(spec), *advice.notes), advice=advice.tasks)


def working_pools(spec: DeploymentSpec) -> tuple[str, ...]:
    """Return the pools that have work at once: those of tasks that wait for no others.

    Without tasks that is every pool. A pool whose tasks all come ``after`` others gets its
    workers when they are ready.
    """
    at_once = {task.component for task in spec.tasks.values() if not task.after}
    return tuple(name for name in spec.components if not at_once or name in at_once)


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


def _notes(spec: DeploymentSpec) -> tuple[str, ...]:
    bounds = spec.objectives
    if bounds.budget_usd is None and bounds.deadline_hours is None:
        return ()
    note = (
        "objectives are recorded with the run; this release does not size pools by them "
        f"(budget_usd: {bounds.budget_usd}, deadline_hours: {bounds.deadline_hours})"
    )
    return (note,)
