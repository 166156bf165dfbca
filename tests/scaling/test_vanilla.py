"""Tasks compared with workers, whatever they require."""

from __future__ import annotations

import pytest

from scalable.errors import PlanError
from scalable.scaling.guard import Guard
from scalable.scaling.model import Observation
from scalable.scaling.ratio import NoPolicy, VanillaPolicy
from tests.scaling.seen import group, pool, see, tag


def two_workers(tasks: int) -> Observation:
    return see([pool(groups=[group("one"), group("two")])], [tag("x", queued=tasks)])


def test_without_workers_any_task_starts_a_group() -> None:
    assert VanillaPolicy().decide(see([pool()], [tag("x", queued=1)])).workers_to_add == {"a": 1}
    assert not VanillaPolicy().decide(see([pool()], [tag("x")])).has_changes


def test_a_group_starts_above_ten_tasks_a_worker_and_not_at_ten() -> None:
    assert VanillaPolicy().decide(two_workers(21)).workers_to_add == {"a": 1}
    assert not VanillaPolicy().decide(two_workers(20)).has_changes


def test_a_group_stops_below_one_task_a_worker_and_not_at_one() -> None:
    assert VanillaPolicy().decide(two_workers(1)).groups_to_stop == {"a": ("one",)}
    assert not VanillaPolicy().decide(two_workers(2)).has_changes


def test_running_tasks_count_and_blocked_ones_do_not() -> None:
    seen = see([pool(groups=[group("one", running=1)])], [tag("x", running=1, blocked=50)])
    assert not VanillaPolicy().decide(seen).has_changes


def test_every_pool_starts_a_group_of_its_own_size_whatever_the_tasks_require() -> None:
    pools = [pool("a", group_size=2), pool("b", group_size=4)]
    assert VanillaPolicy().decide(see(pools, [tag("x", ["a"], queued=1)])).workers_to_add == {"a": 2, "b": 4}


def test_no_group_starts_beyond_the_most_that_a_pool_may_have() -> None:
    full = pool(limit=5, group_size=2, groups=[group("one", 2), group("two", 0)])
    assert not VanillaPolicy().decide(see([full], [tag("x", queued=500)])).has_changes


def test_the_group_with_the_least_in_line_stops_and_of_those_alike_the_oldest() -> None:
    groups = [group("long", waiting=2), group("old", running=1), group("young")]
    seen = see([pool(groups=groups)], [tag("x", queued=1)])
    assert VanillaPolicy().decide(seen).groups_to_stop == {"a": ("old",)}
    assert VanillaPolicy(prefer_idle=True).decide(seen).groups_to_stop == {"a": ("young",)}


def test_workers_on_their_way_count_only_where_that_is_asked_for() -> None:
    seen = see([pool(groups=[group("up"), group("coming", 0)])], [tag("x", queued=15)])
    assert VanillaPolicy().decide(seen).workers_to_add == {"a": 1}
    assert not VanillaPolicy(count_starting=True).decide(seen).has_changes


def test_tasks_that_no_worker_can_run_wait_unless_every_tag_is_to_be_served() -> None:
    pools = [pool("a", groups=[group("up")]), pool("b")]
    seen = see(pools, [tag("x", ["a"], queued=1), tag("y", ["b"], queued=1)])
    assert not VanillaPolicy().decide(seen).has_changes
    assert VanillaPolicy(serve_every_tag=True).decide(seen).workers_to_add == {"b": 1}


def test_serving_every_tag_makes_room_where_all_places_are_held_by_groups_without_work() -> None:
    pools = [pool("a", groups=[group("old"), group("young")]), pool("b")]
    seen = see(pools, [tag("x", ["b"], queued=30)], limit=2)
    decision = Guard().check(seen, VanillaPolicy(serve_every_tag=True).decide(seen))
    assert (decision.workers_to_add, decision.groups_to_stop) == ({"b": 1}, {"a": ("old",)})


def test_no_group_makes_room_that_runs_something_or_has_tasks_to_come() -> None:
    pools = [pool("a", groups=[group("one", running=1), group("two")]), pool("b")]
    seen = see(pools, [tag("x", ["b"], queued=30), tag("y", ["a"], running=1)], limit=2)
    assert VanillaPolicy(serve_every_tag=True).decide(seen).groups_to_stop == {}


def test_ratios_that_leave_no_room_between_them_are_refused() -> None:
    with pytest.raises(PlanError, match="lower_task_ratio must be less than upper_task_ratio"):
        VanillaPolicy(10, 1)


def test_no_policy_changes_nothing() -> None:
    assert not NoPolicy().decide(two_workers(1000)).has_changes
