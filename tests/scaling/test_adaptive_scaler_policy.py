"""The policy ``adaptive``: the same from what the controller sees."""

from __future__ import annotations

from scalable.scaling.adaptive_policy import AdaptivePolicy
from tests.scaling.seen import pool, see, tag


def test_tasks_count_for_the_pool_that_is_meant_for_them() -> None:
    decision = AdaptivePolicy().decide(see([pool("a"), pool("b")], [tag("x", ["b", "a"], queued=3)], now=7.0))
    assert decision.workers_to_add == {"b": 3}
    assert decision.timestamp == 7.0


def test_tasks_of_a_broken_pool_go_to_the_next_that_can_run_them() -> None:
    pools = [pool("a", broken="no image"), pool("b")]
    assert AdaptivePolicy().decide(see(pools, [tag("x", queued=3), tag("y", ["a", "b"], queued=1)])).workers_to_add == {
        "b": 1
    }


def test_a_worker_that_runs_several_at_a_time_is_one_worker() -> None:
    decision = AdaptivePolicy().decide(see([pool()], [tag("x", queued=9, slots={"a": 4}, prior_s=600.0)]))
    assert decision.workers_to_add == {"a": 3}


def test_history_tells_how_long_tasks_take_before_any_has_ended() -> None:
    short = tag("x", queued=2000, history=[(None, 0.1)] * 20)
    assert AdaptivePolicy().decide(see([pool(limit=50)], [short])).workers_to_add == {"a": 11}


def test_sizes_tell_how_long_the_queued_tasks_take() -> None:
    history = [(float(size), 0.01 * size) for size in range(1, 100)]
    large = tag("x", queued=50, history=history, queued_sizes=[(90.0, 49), (1.0, 1)])
    decision = AdaptivePolicy(max_workers={"a": 1}).decide(see([pool(busy=1)], [large]))
    assert decision.predicted_completion_time is not None
    assert 40.0 < decision.predicted_completion_time < 50.0


def test_bounds_are_the_narrower_of_the_pools_and_the_users() -> None:
    policy = AdaptivePolicy(min_workers={"a": 1}, max_workers={"a": 30})
    assert policy.decide(see([pool(limit=5, minimum=2)])).workers_to_add == {"a": 2}
    assert policy.decide(see([pool(limit=5)], [tag("x", queued=50)])).workers_to_add == {"a": 5}


def test_a_pool_kept_busy_by_tasks_of_others_keeps_its_workers() -> None:
    policy = AdaptivePolicy()
    for now in (0.0, 100.0):
        decision = policy.decide(see([pool("a"), pool("b", busy=3)], [tag("x", ["a", "b"], running=3)], now=now))
        assert decision.workers_to_remove == {}
