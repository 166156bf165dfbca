"""Targets filled in order and drained in reverse."""

from __future__ import annotations

import pytest

from scalable.errors import PlanError
from scalable.scaling.model import PoolView, TagView
from scalable.scaling.waterfall import Rule, WaterfallPolicy, parse_rules
from tests.scaling.seen import group, pool, see, tag

RULES = "1,hpc\n2,cloud"


def on(target: str, count: int, limit: int = 3) -> PoolView:
    groups = [group(f"{target}-{number}") for number in range(count)]
    return pool(target, limit=limit, labels={"x": 1.0}, groups=groups)


def tasks(count: int) -> TagView:
    return tag("t", ["hpc", "cloud"], queued=count, requires={"x": 1.0})


def test_rules_are_read_with_comments_and_sorted_by_priority() -> None:
    text = "# where work goes\n20, cloud, 50   # what is left\n\n10, hpc\n"
    assert parse_rules(text) == (Rule(10, "hpc"), Rule(20, "cloud", 50))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("1,hpc\n1", "line 2 of the waterfall: '1' is not priority,name"),
        ("1,hpc,5,6", "is not priority,name"),
        ("first,hpc", "priority in 'first,hpc' must be a whole number, not 'first'"),
        ("1,hpc,-1", "max in '1,hpc,-1' must be a whole number"),
        ("1,", "has no name"),
        ("1,hpc\n2,hpc", "line 2 of the waterfall: 'hpc' has a rule already"),
        ("# nothing", "needs at least one line"),
    ],
)
def test_a_line_that_cannot_be_read_is_told_by_its_number(text: str, said: str) -> None:
    with pytest.raises(PlanError, match=said):
        parse_rules(text)


def test_the_first_target_is_filled_before_the_next() -> None:
    policy = WaterfallPolicy(RULES)
    assert policy.decide(see([on("hpc", 0), on("cloud", 0)], [tasks(21)])).workers_to_add == {"hpc": 3}
    assert policy.decide(see([on("hpc", 0), on("cloud", 0)], [tasks(41)])).workers_to_add == {"hpc": 3, "cloud": 2}


def test_a_rules_own_maximum_holds_for_all_pools_of_its_target() -> None:
    small, large = (pool(name, adapter="hpc", labels={"x": 1.0}) for name in ("small", "large"))
    rest = tag("t", ["small", "large", "cloud"], queued=60, requires={"x": 1.0})
    policy = WaterfallPolicy("1,hpc,4\n2,cloud")
    assert policy.decide(see([small, large, on("cloud", 0)], [rest])).workers_to_add == {"small": 4, "cloud": 2}


def test_one_task_wants_a_worker_and_only_where_it_can_run() -> None:
    able = pool("cloud", labels={"x": 1.0, "gpu": 1.0})
    wants = tag("t", ["cloud"], queued=1, requires={"gpu": 1.0})
    assert WaterfallPolicy(RULES).decide(see([on("hpc", 0), able], [wants])).workers_to_add == {"cloud": 1}


def test_starting_groups_count() -> None:
    coming = pool("hpc", labels={"x": 1.0}, groups=[group("coming", 0)])
    assert not WaterfallPolicy(RULES).decide(see([coming, on("cloud", 0)], [tasks(9)])).has_changes


def test_a_target_that_gets_less_lets_its_oldest_groups_go() -> None:
    decision = WaterfallPolicy(RULES).decide(see([on("hpc", 3), on("cloud", 3)], [tasks(40)]))
    assert decision.groups_to_stop == {"cloud": ("cloud-0", "cloud-1")}


def test_groups_that_run_nothing_go_first_where_that_is_asked_for() -> None:
    busy = pool("hpc", labels={"x": 1.0}, groups=[group("old", running=1), group("idle")])
    policy = WaterfallPolicy(RULES, prefer_idle=True)
    assert policy.decide(see([busy], [tasks(1)])).groups_to_stop == {"hpc": ("idle",)}


def test_without_tasks_the_first_target_waits_for_the_next_to_drain() -> None:
    policy = WaterfallPolicy(RULES)
    assert policy.decide(see([on("hpc", 2), on("cloud", 1)], [tasks(0)])).groups_to_stop == {"cloud": ("cloud-0",)}
    assert policy.decide(see([on("hpc", 2), on("cloud", 0)], [tasks(0)])).groups_to_stop == {"hpc": ("hpc-0", "hpc-1")}


def test_pools_that_no_rule_names_are_left_alone() -> None:
    assert not WaterfallPolicy("1,hpc").decide(see([on("cloud", 2)], [tasks(100)])).has_changes
