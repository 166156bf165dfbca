"""From what a target says of scaling to the controller of a run."""

from __future__ import annotations

import time
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

from scalable.pools.cluster import PoolCluster
from scalable.pools.routing import Router
from scalable.pricing.meter import base_rate
from scalable.scaling.beforehand import Beforehand
from scalable.scaling.choice import policy_of
from scalable.scaling.controller import Controller, Means
from scalable.scaling.guard import Guard, PoolRules
from scalable.scaling.observer import Observer
from scalable.spec import DeploymentSpec
from scalable.telemetry.recorder import Recorder

if TYPE_CHECKING:
    from scalable.planning import Plan
    from scalable.pricing import Meter, Rate

__all__ = ["controller_of"]

_BATCH: Final = frozenset({"slurm", "pbs", "lsf", "sge", "htcondor", "oar"})


def controller_of(
    cluster: PoolCluster,
    router: Router,
    spec: DeploymentSpec,
    plan: Plan,
    recorder: Recorder,
    *,
    rates: Mapping[str, Rate],
    meter: Meter | None = None,
    runs_dir: Path | None = None,
) -> Controller:
    """Return the controller of a run.

    Parameters
    ----------
    cluster, router, spec, plan, recorder
        Of the run.
    rates : mapping of str to Rate
        Price of a worker, by pool, where it is known.
    meter : Meter, optional
        Who knows what has been spent.
    runs_dir : Path, optional
        Where past runs lie, for policies that learn from them.
    """
    policy = policy_of(spec, plan.objective)
    learns = policy.name not in {"no", "share"}
    known = Beforehand.of(spec, rates, runs_dir if learns else None)
    most = {} if plan.policy == "manual" else plan.counts
    observer = Observer(cluster, router, plan.limits, known, most=most, groups=policy.wants_groups)
    queue = PoolRules.batch_queue()
    rules = {name: queue for name, pool in cluster.pools.items() if _provider_of(spec, pool.adapter) in _BATCH}
    hours = spec.objectives.deadline_hours
    budget_usd = None if meter is None else spec.objectives.budget_usd
    means = Means(budget_usd, None if hours is None else hours * 3600, partial(_spent, meter), partial(_paid, rates))
    return Controller(cluster, observer, policy, Guard(rules), recorder, means=means, at_end=known.recalled.wait)


def _spent(meter: Meter | None) -> float | None:
    return None if meter is None else meter.spent_usd(time.time())


def _paid(rates: Mapping[str, Rate], pool: str) -> bool:
    rate = base_rate(rates, pool)
    return rate is None or rate.usd_per_s > 0


def _provider_of(spec: DeploymentSpec, target: str) -> str:
    part = getattr(spec, "parts", {}).get(target)
    return spec.provider if part is None else str(part.provider)
