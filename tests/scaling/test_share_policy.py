"""Sharing by need, from what a policy sees."""

from __future__ import annotations

from scalable.scaling.share import SharePolicy
from tests.scaling.seen import pool, see, tag


def test_ready_tasks_start_workers_by_how_many_one_runs_at_a_time() -> None:
    decision = SharePolicy().decide(see([pool()], [tag("x", queued=6, running=2, slots={"a": 4})], limit=9))
    assert decision.workers_to_add == {"a": 2}
    assert decision.reasons == {"a": "8 tasks ready for 0 workers"}


def test_tasks_that_several_pools_can_run_are_divided_by_their_workers() -> None:
    pools = [pool("a", busy=1, limit=99), pool("b", busy=3, limit=99)]
    assert SharePolicy().decide(see(pools, [tag("x", ["a", "b"], queued=20)])).workers_to_add == {"a": 4, "b": 12}


def test_tasks_that_no_pool_has_workers_for_go_to_the_one_that_is_meant_for_them() -> None:
    decision = SharePolicy().decide(see([pool("a"), pool("b")], [tag("x", ["b", "a"], queued=2)]))
    assert decision.workers_to_add == {"b": 2}


def test_tasks_that_take_the_same_are_one_queue_whatever_their_names() -> None:
    pools = [pool("a", busy=1, limit=9), pool("b", busy=1, limit=9)]
    tags = [tag(name, ["a", "b"], queued=1) for name in ("x", "y", "z")]
    # Three tasks by halves are two for each; each kind on its own would be three for each.
    assert SharePolicy().decide(see(pools, tags)).workers_to_add == {"a": 1, "b": 1}


def test_a_pool_that_starves_gets_the_place_of_a_busy_worker_which_finishes_first() -> None:
    decision = SharePolicy().decide(
        see([pool("a", busy=4), pool("b")], [tag("x", queued=9), tag("y", ["b"], queued=1)], limit=4, minimum=4)
    )
    assert decision.workers_to_add == {"b": 1}
    assert decision.workers_to_drain == {"a": 1}
    assert decision.workers_to_remove == {}


def test_workers_on_their_way_leave_before_idle_ones() -> None:
    policy = SharePolicy()
    coming = [20.0] * 3
    policy.decide(see([pool(starting=3, idle=4, start_ages=coming)], now=100.0))
    decision = policy.decide(
        see([pool(starting=3, idle=4, start_ages=[age + 61 for age in coming])], now=161.0, minimum=2)
    )
    assert decision.workers_to_cancel == {"a": 3}
    assert decision.workers_to_remove == {"a": 2}


def test_workers_of_no_use_stay_for_three_times_as_long_as_the_last_one_took_to_come() -> None:
    policy = SharePolicy()
    policy.decide(see([pool(busy=2, startups=[90.0, 20.0])], [tag("x", running=2)]))
    policy.decide(see([pool(idle=2)], now=1.0))
    assert not policy.decide(see([pool(idle=2)], now=59.0)).has_changes
    assert policy.decide(see([pool(idle=2)], now=61.0)).workers_to_remove == {"a": 2}


def test_a_worker_that_still_waits_tells_of_the_time_before_it_was_unneeded_only() -> None:
    policy = SharePolicy()
    for now, changes in ((20.0, False), (79.0, False), (81.0, True)):
        seen = pool(idle=5, starting=5, startups=[2.0] if now == 20.0 else [], start_ages=[now] * 5)
        assert policy.decide(see([seen], now=now)).has_changes is changes


def test_broken_pools_take_no_part() -> None:
    decision = SharePolicy().decide(
        see([pool("a", broken="no image"), pool("b")], [tag("x", queued=3), tag("y", ["a", "b"], queued=1)], limit=5)
    )
    assert decision.workers_to_add == {"b": 1}
    assert not SharePolicy().decide(see([pool("a", broken="no image")], [tag("x", queued=3)])).has_changes
