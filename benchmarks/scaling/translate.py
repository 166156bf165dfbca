"""What the judge's simulator shows becomes an `Observation`; a `ScaleDecision` becomes what it takes."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from typing import Any

from scalable.scaling.model import GroupView, Observation, Policy, PoolInfo, PoolView, ScaleDecision, TagInfo, TagView

__all__ = ["Translated", "observed", "told"]

BINS_PER_OCTAVE = 4


class Translated:
    """A policy as the judge calls it.

    Parameters
    ----------
    policy : Policy
        Who decides.
    env : mapping
        What the judge says of pools and tags beforehand.
    """

    def __init__(self, policy: Policy, env: Mapping[str, Any]) -> None:
        self.policy = policy
        self.interval = policy.interval_s
        self._pools = {name: _pool(name, facts) for name, facts in env["pools"].items()}
        self._tags = {name: _tag(name, env) for name in env["tags"]}

    def decide(self, obs: Any) -> dict[str, Any]:
        """Return the decision in the judge's words."""
        seen = observed(obs, self._pools, self._tags, groups=self.policy.wants_groups)
        return told(self.policy.decide(seen))


def observed(
    obs: Any, pools: Mapping[str, PoolInfo], tags: Mapping[str, TagInfo], *, groups: bool = False
) -> Observation:
    """Return the judge's observation in our words; its workers are groups of one."""
    running: dict[str, list[tuple[float, float | None]]] = defaultdict(list)
    for tag, _, elapsed, size in obs.running():
        running[tag].append((elapsed, size))
    ended: dict[str, list[tuple[float | None, float]]] = defaultdict(list)
    for tag, duration, size, _ in obs.completions:
        ended[tag].append((size, duration))
    return Observation(
        now=obs.now,
        pools={
            name: PoolView(
                info=pools[name],
                idle=view.idle,
                busy=view.busy,
                starting=view.starting,
                draining=view.draining,
                unbilled=view.unbilled,
                idle_ages=tuple(view.idle_ages),
                start_ages=tuple(view.start_ages),
                startups=tuple(view.new_start_latencies),
                failed=view.failed,
                groups=tuple(_groups(view)) if groups else (),
            )
            for name, view in obs.pools.items()
        },
        tags={
            name: TagView(
                info=tags[name],
                queued=view.queued,
                running=view.running,
                blocked=view.blocked,
                arrived=view.arrived,
                done=view.done,
                queued_sizes=_binned(obs.queued_features(name)),
                running_for=tuple(running[name]),
                completions=tuple(ended[name]),
            )
            for name, view in obs.tags.items()
        },
    )


def told(decision: ScaleDecision) -> dict[str, Any]:
    """Return the decision in the judge's words."""
    remove, cancel = Counter(decision.workers_to_remove), Counter(decision.workers_to_cancel)
    for pool, names in decision.groups_to_stop.items():
        for name in names:
            (cancel if name.startswith("starting") else remove)[pool] += 1
    return {
        "add": dict(decision.workers_to_add),
        "remove": dict(remove),
        "cancel": dict(cancel),
        "mode": "drain" if decision.groups_to_stop else "idle",
        "reason": decision.reasoning,
    }


def _pool(name: str, facts: Mapping[str, Any]) -> PoolInfo:
    return PoolInfo(
        name=name,
        adapter=name,
        limit=facts["limit"],
        labels=dict.fromkeys(facts["tags"], 1.0),
        price_per_s=facts["price"],
        usd_per_s=facts["price"],
        min_bill_s=facts["min_bill_s"],
        wait_s=facts["wait_mean_s"],
        boot_s=facts["boot_mean_s"],
    )


def _tag(name: str, env: Mapping[str, Any]) -> TagInfo:
    return TagInfo(
        name=name,
        pools=tuple(env["tags"][name]["pools"]),
        requires={name: 1.0},
        parents=tuple(env["stages"].get(name, ())),
        history=tuple(env["history"].get(name, ())),
    )


def _groups(view: Any) -> Iterable[GroupView]:
    # The judge counts workers and does not name them; which of those alike is meant makes no difference to it.
    for number in range(view.busy):
        yield GroupView(f"busy-{number}", workers=1, running=1)
    for number, age in enumerate(view.idle_ages):
        yield GroupView(f"idle-{number}", workers=1, age_s=age)
    for number, age in enumerate(view.start_ages):
        yield GroupView(f"starting-{number}", age_s=age)


def _binned(sizes: Iterable[float | None] | None) -> tuple[tuple[float, int], ...] | None:
    """Return sizes with how many are about that, in bins of equal ratio."""
    if sizes is None:
        return None
    known = [size for size in sizes if size is not None]
    bins = Counter(round(BINS_PER_OCTAVE * math.log2(size)) for size in known if size > 0)
    small = sum(size <= 0 for size in known)
    return (
        *(((0.0, small),) if small else ()),
        *((2.0 ** (key / BINS_PER_OCTAVE), n) for key, n in sorted(bins.items())),
    )
