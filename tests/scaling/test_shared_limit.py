"""Pools of one adapter share its limit: what the guard grants, and what policies make of it."""

from __future__ import annotations

import pytest

from scalable.scaling.guard import Guard
from scalable.scaling.model import Observation, Policy, PoolView, ScaleDecision
from scalable.scaling.policies import make_policy
from tests.scaling.seen import group, pool, see, tag


def hpc(name: str, **facts: object) -> PoolView:
    return pool(name, adapter="hpc", limit=2, adapter_limit=2, **facts)  # type: ignore[arg-type]


def cloud(up: int = 0) -> PoolView:
    groups = [group(f"b@cloud-{one}") for one in range(up)]
    labels = {"b": 1.0, "b@cloud": 1.0}
    return pool("b@cloud", adapter="cloud", limit=2, adapter_limit=2, labels=labels, groups=groups)


def stage_two(now: float, idle: int, up: int = 0, *, at_cloud: int = 0) -> Observation:
    """Return what there is when all of stage a is done and stage b is ready, in a primary of two workers."""
    workers = hpc("a", groups=[group(f"a-{one}") for one in range(idle)], idle_ages=[now] * idle)
    own = hpc("b", groups=[group(f"b-{one}", waiting=9, running=1) for one in range(up)])
    ready = tag("tb", ["b", "b@cloud"], queued=20, requires={"b": 1.0}, prior_s=10.0)
    return see([workers, own, cloud(at_cloud)], [ready], now=now, limit=4, minimum=2)


@pytest.mark.parametrize("name", ["share", "adaptive", "predictive", "waterfall", "capability"])
def test_a_later_stage_gets_workers_though_an_earlier_one_has_all_places_of_the_primary(name: str) -> None:
    policy: Policy = make_policy("1,hpc\n2,cloud" if name == "waterfall" else name)
    guard, idle, up, at_cloud = Guard(), 2, 0, 0
    for look in range(100):
        seen = stage_two(1000 + look * policy.interval_s, idle, up, at_cloud=at_cloud)
        decision = guard.check(seen, policy.decide(seen))
        idle -= decision.workers_to_remove.get("a", 0) + len(decision.groups_to_stop.get("a", ()))
        up += decision.workers_to_add.get("b", 0)
        at_cloud += decision.workers_to_add.get("b@cloud", 0)
        assert idle + up <= 2
        if up + at_cloud:
            return
    raise AssertionError("stage b waits for ever")


def test_no_worker_is_promised_where_the_adapter_has_no_place() -> None:
    decision = Guard().check(stage_two(0.0, idle=2), ScaleDecision({"b": 2}))
    assert decision.workers_to_add == {}
    assert "no more places" in decision.reasons["b"]


def test_a_worker_that_leaves_gives_its_place_to_another_pool_of_the_adapter() -> None:
    decision = Guard().check(stage_two(0.0, idle=2), ScaleDecision({"b": 2}, {"a": 1}))
    assert (decision.workers_to_add, decision.workers_to_remove) == ({"b": 1}, {"a": 1})


def test_what_is_missing_of_the_runs_minimum_comes_where_there_is_a_place() -> None:
    full = hpc("a", busy=2)
    seen = see([full, hpc("b"), cloud()], [tag("tb", ["b", "b@cloud"], queued=9)], limit=4, minimum=4)
    assert Guard().check(seen, ScaleDecision({"b": 2})).workers_to_add == {"b@cloud": 2}


def test_sharing_sends_what_is_too_much_for_a_full_target_to_the_next() -> None:
    seen = see([hpc("a", busy=1), hpc("b", busy=1), cloud()], [tag("tb", ["b", "b@cloud"], queued=9)], limit=4)
    assert make_policy("share").decide(seen).workers_to_add == {"b@cloud": 2}


def test_a_waterfall_fills_a_target_once_however_many_pools_it_has() -> None:
    tags = [
        tag("ta", ["a"], queued=10, requires={"a": 1.0}),
        tag("tb", ["b", "b@cloud"], queued=20, requires={"b": 1.0}),
    ]
    decision = make_policy("1,hpc\n2,cloud").decide(see([hpc("a"), hpc("b"), cloud()], tags))
    assert decision.workers_to_add == {"a": 1, "b": 1, "b@cloud": 1}


def test_a_waterfall_holds_no_workers_whose_places_another_pool_of_the_target_wants() -> None:
    seen = stage_two(0.0, idle=2, at_cloud=1)
    assert make_policy("1,hpc\n2,cloud").decide(seen).groups_to_stop["a"] == ("a-0", "a-1")
