"""Where a job goes: its tag, else its rule's name in the manifest, else the default pool."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from scalable.errors import UnknownTag
from scalable_snakemake.placement import Member, Placement, PlacementError, Placer

_COMPONENTS = {
    "prepare": SimpleNamespace(tags=(), resources=SimpleNamespace(cpus=0.5)),
    "simulate": SimpleNamespace(tags=("heavy", "cpu"), resources=SimpleNamespace(cpus=4)),
    "analyse": SimpleNamespace(tags=("cpu",), resources=SimpleNamespace(cpus=2)),
}
_TASKS = {"regrid": SimpleNamespace(component="analyse"), "calibrate": SimpleNamespace(component="simulate")}


def placer(threads_per_worker: int | None = None) -> Placer:
    def route(tag: str | None) -> str:
        if tag is None:
            return "prepare"
        if tag in _COMPONENTS:
            return tag
        for name, component in _COMPONENTS.items():
            if tag in component.tags:
                return name
        if tag in _TASKS:
            return str(_TASKS[tag].component)
        raise UnknownTag(tag, _COMPONENTS)

    def threads(pool: str) -> int:
        return threads_per_worker or max(1, int(_COMPONENTS[pool].resources.cpus))

    return Placer(SimpleNamespace(components=_COMPONENTS, tasks=_TASKS), route, threads)


@pytest.mark.parametrize(
    ("rule", "tag", "pool"),
    [
        ("anything", "simulate", "simulate"),
        ("anything", "heavy", "simulate"),
        ("regrid", None, "analyse"),
        ("regrid", "simulate", "simulate"),
        ("anything", "regrid", "analyse"),
        ("anything", None, "prepare"),
    ],
)
def test_the_tag_goes_before_the_rules_name_and_that_before_the_default(rule: str, tag: str | None, pool: str) -> None:
    assert placer().place([Member(rule, tag)]) == Placement(pool, (pool,), 1)


def test_a_tag_that_pools_share_is_asked_for_as_such() -> None:
    assert placer().place([Member("any", "cpu")], 3) == Placement("cpu", ("simulate", "analyse"), 3)


def test_an_unknown_tag_is_refused_with_those_that_are_known() -> None:
    with pytest.raises(UnknownTag, match="did you mean 'simulate'"):
        placer().place([Member("any", "simulat")])


@pytest.mark.parametrize(("asked", "given"), [(1, 1), (3, 3), (4, 4), (9, 4), (0, 1)])
def test_a_job_is_given_no_more_threads_than_a_worker_has(asked: int, given: int) -> None:
    assert placer().place([Member("any", "simulate")], asked).threads == given


def test_threads_per_worker_go_before_the_components_cpus() -> None:
    assert placer(2).place([Member("any", "simulate")], 9).threads == 2


def test_a_worker_with_less_than_a_cpu_has_one_thread() -> None:
    assert placer().place([Member("any", "prepare")], 2).threads == 1


def test_members_of_a_group_that_say_nothing_follow_those_that_do() -> None:
    group = [Member("other"), Member("regrid"), Member("third")]
    assert placer().place(group).pools == ("analyse",)
    assert placer().place([*group, Member("last", "simulate")]).pools == ("simulate",)


@pytest.mark.parametrize(
    "group",
    [[Member("a", "simulate"), Member("b", "analyse")], [Member("regrid"), Member("calibrate")]],
)
def test_a_group_that_is_torn_between_pools_is_refused(group: list[Member]) -> None:
    with pytest.raises(PlacementError, match="analyse and simulate; give them the same scalable_tag"):
        placer().place(group)
