"""What the guard says of single decisions; its rules over histories are properties of their own."""

from __future__ import annotations

from typing import Any

import pytest

from scalable.scaling.guard import Guard, PoolRules
from scalable.scaling.model import Observation, PoolView, ScaleDecision
from tests.scaling.seen import group, pool, see, tag


def cut(seen: Observation, rules: dict[str, PoolRules] | None = None, **wanted: Any) -> ScaleDecision:
    return Guard(rules).check(seen, ScaleDecision(**wanted))


def add(**counts: int) -> dict[str, dict[str, int]]:
    return {"workers_to_add": counts}


def test_what_is_safe_goes_through_untouched() -> None:
    wanted = ScaleDecision(
        {"a": 2}, {"b": 1}, reasoning="because", reasons={"a": "work"}, confidence=0.3, timestamp=7.0
    )
    seen = see([pool("a"), pool("b", idle=2)], [tag("x", ["a"], queued=5)])
    assert Guard().check(seen, wanted) == wanted


def test_a_cut_is_told_beside_the_reason() -> None:
    decision = cut(see([pool(limit=3)]), **add(a=9), reasons={"a": "much work"}, reasoning="a: much work")
    assert decision.workers_to_add == {"a": 3}
    assert decision.reasons == {"a": "much work; 3 of 9 come: its limit is 3"}
    assert decision.reasoning == "a: much work; a: 3 of 9 come: its limit is 3"


def test_workers_that_are_about_to_leave_still_take_their_places_in_a_pool() -> None:
    assert cut(see([pool(limit=5, idle=1, draining=3)]), **add(a=4)).workers_to_add == {"a": 1}


def test_places_among_all_pools_go_to_those_without_workers_first() -> None:
    seen = see([pool("a", busy=2), pool("b")], limit=4)
    assert cut(seen, **add(a=9, b=1)).workers_to_add == {"a": 1, "b": 1}


def test_a_place_may_change_pools_in_a_run_of_a_fixed_size() -> None:
    seen = see([pool("a", busy=4), pool("b")], limit=4, minimum=4)
    decision = cut(seen, **add(b=1), workers_to_drain={"a": 1})
    assert (decision.workers_to_add, decision.workers_to_drain) == ({"b": 1}, {"a": 1})


def test_nobody_leaves_for_a_worker_that_may_not_come() -> None:
    seen = see([pool("a", busy=4), pool("b", broken="no image")], limit=4, minimum=4)
    assert not cut(seen, **add(b=1), workers_to_drain={"a": 1}).has_changes


def test_what_is_missing_of_a_minimum_is_added_whatever_the_policy_says() -> None:
    assert cut(see([pool(minimum=3, idle=1)])).workers_to_add == {"a": 2}
    seen = see([pool("a"), pool("b", busy=1)], [tag("x", ["b"], queued=4)], minimum=3)
    # Where there is work a worker that has to be there is of most use.
    assert cut(seen).workers_to_add == {"b": 2}


def test_removals_stop_at_a_minimum() -> None:
    assert cut(see([pool(minimum=3, idle=5)]), workers_to_remove={"a": 5}).workers_to_remove == {"a": 2}
    seen = see([pool("a", idle=3), pool("b", idle=3)], minimum=4)
    decision = cut(seen, workers_to_remove={"a": 3, "b": 3})
    assert sum(decision.workers_to_remove.values()) == 2


def test_busy_workers_are_not_removed() -> None:
    assert cut(see([pool(idle=1, busy=3)]), workers_to_remove={"a": 4}).workers_to_remove == {"a": 1}


@pytest.mark.parametrize(("work", "left"), [({"queued": 1}, 1), ({"running": 1}, 1), ({}, 0)])
def test_the_last_worker_for_work_that_is_there_stays(work: dict[str, int], left: int) -> None:
    seen = see([pool("a", idle=2), pool("b", idle=1)], [tag("x", ["a"], **work)])
    decision = cut(seen, workers_to_remove={"a": 2, "b": 1})
    assert decision.workers_to_remove == {"a": 2 - left, "b": 1}


def test_the_last_worker_for_tasks_that_wait_for_running_ones_stays() -> None:
    pools = [pool("a", idle=1), pool("b", busy=1)]
    waiting = tag("x", ["a"], blocked=1, parents=("y",))
    assert not cut(see(pools, [waiting, tag("y", ["b"], running=1)]), workers_to_remove={"a": 1}).has_changes
    assert cut(see(pools, [waiting, tag("y", ["b"])]), workers_to_remove={"a": 1}).has_changes


def test_tasks_that_have_no_worker_at_all_come_before_those_that_only_wait() -> None:
    pools = [pool("a", idle=1), pool("b", busy=1), pool("c")]
    tags = [tag("x", ["a"], blocked=1), tag("y", ["b"], running=1), tag("z", ["c"], queued=1)]
    assert cut(see(pools, tags), workers_to_remove={"a": 1}).workers_to_remove == {"a": 1}


def test_groups_stop_whole_and_only_those_that_are_there() -> None:
    groups = [group("one", 2), group("two", 2)]
    seen = see([pool(group_size=2, groups=groups)], [tag("x", queued=1)])
    assert cut(seen, groups_to_stop={"a": ("two", "none")}).groups_to_stop == {"a": ("two",)}
    assert cut(seen, groups_to_stop={"a": ("two", "one")}).groups_to_stop in ({"a": ("two",)}, {"a": ("one",)})


def test_whole_groups_come_and_leave() -> None:
    assert cut(see([pool(limit=11, group_size=4)]), **add(a=5)).workers_to_add == {"a": 8}
    seen = see([pool(group_size=4, idle=7, busy=1)])
    assert cut(seen, workers_to_remove={"a": 7}).workers_to_remove == {"a": 4}


def test_no_part_of_a_group_comes_for_the_places_that_are_left() -> None:
    assert cut(see([pool(limit=11, group_size=4)]), **add(a=11)).workers_to_add == {"a": 8}
    assert cut(see([pool(limit=20, group_size=4)], limit=7), **add(a=8)).workers_to_add == {"a": 4}


def test_a_pool_gains_or_loses_the_difference() -> None:
    seen = see([pool(idle=4)])
    assert cut(seen, **add(a=3), workers_to_remove={"a": 1}).workers_to_add == {"a": 2}
    decision = cut(seen, **add(a=1), workers_to_remove={"a": 3})
    assert (decision.workers_to_add, decision.workers_to_remove) == ({}, {"a": 2})


def test_a_pool_gains_64_or_doubles_in_one_step() -> None:
    assert cut(see([pool(limit=900)]), **add(a=500)).workers_to_add == {"a": 64}
    assert cut(see([pool(limit=900, busy=300)]), **add(a=500)).workers_to_add == {"a": 300}


def test_a_step_can_be_bounded_both_ways() -> None:
    rules = {"a": PoolRules(max_step=3)}
    assert cut(see([pool(idle=5)]), rules, **add(a=5)).workers_to_add == {"a": 3}
    assert cut(see([pool(idle=5)]), rules, workers_to_remove={"a": 5}).workers_to_remove == {"a": 3}


def test_a_batch_queue_holds_sixty_four_starts_and_they_never_expire() -> None:
    rules = {"a": PoolRules.batch_queue()}
    seen = see([pool(limit=500, busy=100, starting=60, start_ages=[9e4] * 60)])
    assert cut(seen, rules, **add(a=90)).workers_to_add == {"a": 4}
    assert cut(seen, rules).workers_to_expire == {}


def test_without_a_budget_only_what_is_free_comes() -> None:
    pools = [pool("paid", usd_per_s=0.01), pool("free", usd_per_s=0.0), pool("unknown")]
    assert cut(see(pools, budget_usd=0.0), **add(paid=1, free=1, unknown=1)).workers_to_add == {"free": 1}


def test_a_budget_holds_what_runs_for_five_minutes_and_what_a_start_costs() -> None:
    seen = see([pool(busy=1, usd_per_s=0.01, min_bill_s=600.0)], budget_usd=16.0)
    # Three dollars for the one that runs; two starts are paid for ten minutes each.
    assert cut(seen, **add(a=5)).workers_to_add == {"a": 2}


def failing(guard: Guard, now: float, failed: int = 0, **facts: Any) -> int:
    """Return how many of five workers the guard lets come."""
    view: PoolView = pool(failed=failed, **facts)
    return guard.check(see([view], now=now), ScaleDecision({"a": 5})).workers_to_add.get("a", 0)


def test_three_failed_starts_in_a_row_stop_a_pool_until_one_that_is_tried_comes_up() -> None:
    guard = Guard()
    assert failing(guard, 0.0) == 5
    assert failing(guard, 1.0, failed=3) == 0
    assert failing(guard, 30.0) == 0
    assert failing(guard, 32.0) == 1
    # It fails, too: twice as long.
    assert failing(guard, 33.0, failed=1) == 0
    assert failing(guard, 92.0) == 0
    assert failing(guard, 94.0) == 1
    assert failing(guard, 95.0, idle=1, startups=[1.0]) == 5


def test_starts_that_were_asked_for_before_a_pool_was_stopped_do_not_stop_it_for_longer() -> None:
    guard = Guard()
    failing(guard, 0.0)
    assert failing(guard, 1.0, failed=3, starting=2) == 0
    assert failing(guard, 2.0, failed=2) == 0
    assert failing(guard, 32.0) == 1


def test_failures_are_forgiven_once_a_worker_comes_up() -> None:
    guard = Guard()
    failing(guard, 0.0)
    failing(guard, 1.0, failed=2)
    failing(guard, 2.0, idle=1, startups=[2.0])
    assert failing(guard, 3.0, failed=2, idle=1) == 5


def test_workers_that_are_lost_later_are_no_failed_starts() -> None:
    guard = Guard()
    guard.check(see([pool(busy=9)]), ScaleDecision())
    assert failing(guard, 1.0, failed=9) == 5


def test_starts_that_take_three_times_as_long_as_nine_of_ten_are_given_up() -> None:
    guard = Guard()
    guard.check(see([pool(idle=9, limit=30, startups=[300.0] * 9 + [1000.0])]), ScaleDecision())
    seen = see([pool(starting=2, limit=30, start_ages=[901.0, 899.0])])
    decision = guard.check(seen, ScaleDecision({"a": 1}))
    assert decision.workers_to_expire == {"a": 1}
    assert decision.workers_to_add == {}
    assert decision.reasons == {"a": "1 starts took longer than 900 s and are given up"}


def test_a_start_that_is_given_up_is_not_cancelled_besides() -> None:
    seen = see([pool(starting=2, start_ages=[601.0, 1.0])])
    decision = cut(seen, workers_to_cancel={"a": 2})
    assert (decision.workers_to_expire, decision.workers_to_cancel) == ({"a": 1}, {"a": 1})


def test_no_start_is_given_up_within_ten_minutes() -> None:
    assert not cut(see([pool(starting=1, start_ages=[599.0], wait_s=1.0, boot_s=1.0)])).has_changes


def test_pools_that_do_not_exist_are_told() -> None:
    decision = cut(see([pool()]), **add(b=1))
    assert decision.workers_to_add == {}
    assert decision.reasons == {"b": "there is no such pool"}
