"""Tasks compared with the workers that can run them."""

from __future__ import annotations

import pytest

from scalable.errors import PlanError
from scalable.scaling.capability import CapabilityPolicy
from scalable.scaling.model import GroupView, PoolView, TagView
from tests.scaling.seen import group, pool, see, tag


def cpu(*groups: GroupView, **facts: int) -> PoolView:
    return pool("cpu", labels={"cpu": 1.0}, groups=groups, **facts)


def gpu(*groups: GroupView) -> PoolView:
    return pool("gpu", labels={"cpu": 1.0, "gpu": 2.0}, groups=groups)


def plain(queued: int, running: int = 0) -> TagView:
    return tag("plain", ["cpu", "gpu"], queued=queued, running=running, requires={"cpu": 1.0})


def on_gpu(queued: int, running: int = 0) -> TagView:
    return tag("on gpu", ["gpu"], queued=queued, running=running, requires={"gpu": 1.0, "cpu": 1.0})


def test_a_set_without_capable_workers_starts_a_group_where_it_can_be_run() -> None:
    decision = CapabilityPolicy().decide(see([cpu(group("c")), gpu()], [on_gpu(1)]))
    assert decision.workers_to_add == {"gpu": 1}


def test_a_set_that_a_starting_group_will_serve_starts_no_other() -> None:
    assert not CapabilityPolicy().decide(see([gpu(group("coming", 0))], [on_gpu(3)])).has_changes


def test_a_group_starts_above_five_tasks_for_each_capable_worker_those_with_more_included() -> None:
    pools = [cpu(group("c")), gpu(group("g"))]
    assert not CapabilityPolicy(ask="first").decide(see(pools, [plain(10)])).has_changes
    assert CapabilityPolicy(ask="first").decide(see(pools, [plain(11)])).workers_to_add == {"cpu": 1}


def test_sets_are_scaled_on_their_own() -> None:
    pools = [cpu(group("c"), group("d")), gpu(group("g", running=1))]
    decision = CapabilityPolicy().decide(see(pools, [plain(0), on_gpu(6)]))
    assert decision.workers_to_add == {"gpu": 1}
    # Those who can run nothing but cpu tasks leave meanwhile.
    assert decision.groups_to_stop == {"cpu": ("c",)}


def test_a_pool_starts_one_group_for_each_set_that_lacks_workers_and_not_beyond_its_limit() -> None:
    wide = pool("wide", labels={"one": 1.0, "two": 1.0}, limit=1)
    roomy = pool("wide", labels={"one": 1.0, "two": 1.0}, limit=4)
    tags = [tag(name, ["wide"], queued=1, requires={name: 1.0}) for name in ("one", "two")]
    assert CapabilityPolicy().decide(see([roomy], tags)).workers_to_add == {"wide": 2}
    assert CapabilityPolicy().decide(see([wide], tags)).workers_to_add == {"wide": 1}


@pytest.mark.parametrize(
    ("ask", "asked"),
    [("capable", {"cpu": 1, "gpu": 1}), ("first", {"cpu": 1}), ("all", {"cpu": 1, "gpu": 1, "io": 1})],
)
def test_who_is_asked_can_be_chosen(ask: str, asked: dict[str, int]) -> None:
    policy = CapabilityPolicy(ask=ask)  # type: ignore[arg-type]
    assert policy.decide(see([cpu(), gpu(), pool("io")], [plain(1)])).workers_to_add == asked


def test_a_group_stops_below_half_a_task_for_each_worker() -> None:
    three = [group("c"), group("d", running=1), group("e")]
    assert CapabilityPolicy().decide(see([cpu(*three)], [plain(0, 1)])).groups_to_stop == {"cpu": ("c",)}
    assert not CapabilityPolicy().decide(see([cpu(*three[:2])], [plain(0, 1)])).has_changes


def test_the_last_group_that_can_run_a_task_that_is_there_stays() -> None:
    wide = [group("wide", workers=4)]
    assert not CapabilityPolicy().decide(see([cpu(*wide, group_size=4)], [plain(1)])).has_changes
    assert CapabilityPolicy().decide(see([cpu(*wide, group_size=4)], [plain(0)])).groups_to_stop == {"cpu": ("wide",)}


def test_no_group_stops_where_the_next_look_would_start_one() -> None:
    groups = [group("wide", workers=30), group("narrow", workers=1, waiting=1)]
    # 14 tasks for 31 workers are few; for the one that would be left they are many.
    assert not CapabilityPolicy().decide(see([cpu(*groups)], [plain(14)])).has_changes


def test_one_group_a_pool_stops_in_one_look() -> None:
    groups = [group(f"c{number}") for number in range(5)]
    assert CapabilityPolicy().decide(see([cpu(*groups)], [plain(0)])).groups_to_stop == {"cpu": ("c0",)}


def test_an_unknown_way_to_ask_is_refused_by_name() -> None:
    with pytest.raises(PlanError, match=r"ask must be one of capable, first, all, not 'al'; did you mean 'all'\?"):
        CapabilityPolicy(ask="al")  # type: ignore[arg-type]
