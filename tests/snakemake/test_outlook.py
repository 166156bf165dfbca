"""What the plan is told of a workflow, read off jobs that wait for each other."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

import pytest

pytest.importorskip("snakemake_interface_executor_plugins")

from scalable import TaskGroup
from scalable_snakemake.outlook import outlook
from scalable_snakemake.placement import Placement

pytestmark = pytest.mark.engine


@dataclass(frozen=True, eq=False)
class Rule:
    name: str


@dataclass(frozen=True, eq=False)
class Job:
    rule: Rule
    needs: tuple[Job, ...] = field(default=())


def jobs(rule: str, *needs: Iterable[Job]) -> list[Job]:
    return [Job(Rule(rule), tuple(one)) for one in needs]


def told(*members: Job) -> dict[str, TaskGroup]:
    groups = outlook(members, lambda job: job.needs, lambda job: (Placement("work", ("work",), 2), 3))
    return {group.name: group for group in groups}


def test_rules_are_counted_and_wait_for_all_jobs_or_one_by_one() -> None:
    first = jobs("first", (), (), ())
    second = jobs("second", *((one,) for one in first))
    (total,) = jobs("total", second)
    found = told(*first, *second, total)
    assert {name: group.count for name, group in found.items()} == {"first": 3, "second": 3, "total": 1}
    assert (found["second"].each, found["second"].after) == (("first",), ())
    assert (found["total"].each, found["total"].after) == ((), ("second",))
    assert (found["first"].pool, found["first"].slots, found["first"].cpus) == ("work", 3, 2)


def test_jobs_that_do_not_run_on_workers_are_looked_through() -> None:
    first = jobs("first", (), ())
    (collect,) = jobs("collect", first)
    (last,) = jobs("last", (collect,))
    assert told(*first, last)["last"].after == ("first",)


def test_rules_that_wait_for_each_other_in_turns_make_no_circle() -> None:
    (one,) = jobs("odd", ())
    (two,) = jobs("even", (one,))
    (three,) = jobs("odd", (two,))
    (four,) = jobs("even", (three,))
    found = told(one, two, three, four)
    assert found["odd"].parents == ()
    assert found["even"].each == ("odd",)


def test_chains_may_be_longer_than_pythons_stack() -> None:
    chain = jobs("step", ())
    for _ in range(3000):
        chain += jobs("step", chain[-1:])
    (end,) = jobs("end", chain[-1:])
    assert told(*chain, end)["end"].each == ("step",)
