"""What a plan rests on: the manifest, past runs, prices, and what is said of guesses."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from scalable.planning import TaskGroup
from scalable.planning.foresee import Foresight, foresee
from scalable.spec import ComponentSpec, DeploymentSpec, Objectives, ResourceRequest, TaskSpec
from scalable.telemetry.past import read_past
from tests.advisors.history import run


class NoOptions(BaseModel):
    pass


@dataclass(frozen=True)
class Price:
    usd_per_s: float
    min_bill_s: float = 0.0
    source: str = "a test"
    boot_paid: bool = False


def spec(*tasks: TaskSpec, provider: str = "local", **more: Any) -> DeploymentSpec:
    components = {name: ComponentSpec(name, ResourceRequest(4, 2**30)) for name in ("demeter", "postprocess")}
    named = {task.name: task for task in tasks}
    return DeploymentSpec("demeter-lulcc", "local", provider, NoOptions(), components, named, **more)


def only(found: Foresight) -> TaskGroup:
    (group,) = found.workload.groups
    return group


def test_hints_are_taken_as_they_are() -> None:
    found = foresee(spec(TaskSpec("simulate", "demeter", count=9, duration_s=20)), 4, threads={"demeter": 4})
    group = only(found)
    assert (group.count, group.slots, group.cpus, group.source) == (9, 4, 1.0, "the manifest")
    assert group.mean_s == pytest.approx(20, rel=0.02)
    assert found.workload.known


def test_what_is_known_of_a_run_so_far_is_joined_by_what_is_expected_of_the_rest() -> None:
    tasks = (
        TaskSpec("simulate", "demeter", count=9, duration_s=20),
        TaskSpec("rank", "postprocess", count=1, duration_s=5, after=("simulate",)),
    )
    known = [TaskGroup("simulate", "demeter", 12), TaskGroup("check", "demeter", 2, after=("simulate",))]
    groups = {one.name: one for one in foresee(spec(*tasks), 4, tasks=known, partial=True).workload.groups}
    assert {name: (one.count, one.after) for name, one in groups.items()} == {
        "simulate": (12, ()),
        "check": (2, ("simulate",)),
        "rank": (1, ("simulate",)),
    }
    assert groups["simulate"].mean_s == pytest.approx(20, rel=0.02)
    fewer = foresee(spec(*tasks), 4, tasks=[TaskGroup("simulate", "demeter", 1)], partial=True)
    assert {one.name: one.count for one in fewer.workload.groups} == {"simulate": 9, "rank": 1}


def test_past_runs_go_before_hints_and_fill_in_how_many_there_are(tmp_path: Path) -> None:
    run(tmp_path, [{"s": 3.0}] * 5)
    run(tmp_path, [{"s": 4.0}] * 7, number=1)
    task = TaskSpec("simulate", "demeter", duration_s=20)
    group = only(foresee(spec(task), 4, past=read_past(tmp_path)))
    assert group.count == 7
    assert sorted(group.durations_s) == [3.0] * 5 + [4.0] * 7


def test_runs_of_other_projects_say_nothing(tmp_path: Path) -> None:
    run(tmp_path, [{"s": 3.0}] * 5, project="stranger")
    found = foresee(spec(TaskSpec("simulate", "demeter", duration_s=20)), 4, past=read_past(tmp_path))
    assert only(found).mean_s == pytest.approx(20, rel=0.02)
    assert any("guessed to be 4" in note for note in found.notes)


def test_tasks_that_only_the_latest_run_had_are_planned_for_in_their_order(tmp_path: Path) -> None:
    first = [{"s": 1.0, "started_at": 100.0, "ended_at": 200.0}] * 3
    then = [{"s": 2.0, "name": "summarize", "started_at": 300.0, "ended_at": 302.0}]
    run(tmp_path, [*first, *then])
    groups = {one.name: one for one in foresee(spec(), 4, past=read_past(tmp_path)).workload.groups}
    assert groups["simulate"].count == 3
    assert groups["summarize"].after == ("simulate",)


def test_what_the_manifest_says_of_the_order_of_tasks_holds_for_those_that_ran(tmp_path: Path) -> None:
    run(tmp_path, [{"s": 3.0}] * 5)
    tasks = TaskSpec("first", "demeter", count=1, duration_s=1), TaskSpec("simulate", "postprocess", after=("first",))
    groups = {one.name: one for one in foresee(spec(*tasks), 4, past=read_past(tmp_path)).workload.groups}
    assert (groups["simulate"].pool, groups["simulate"].after) == ("postprocess", ("first",))


def test_start_ups_are_those_of_past_runs_else_what_is_usual(tmp_path: Path) -> None:
    run(tmp_path, [{"s": 3.0}], startup_s=12.0)
    task = TaskSpec("simulate", "demeter", count=1, duration_s=1)
    demeter = foresee(spec(task), 4, past=read_past(tmp_path)).pools[0]
    assert demeter.boot_s == (12.0,)
    queued = foresee(spec(task, provider="slurm"), 4)
    assert queued.pools[0].startup_s > 30
    assert sum(queued.pools[0].boot_s) < 10
    assert any("guessed to start within 1m00s, as is usual for slurm" in note for note in queued.notes)


def test_prices_make_the_cost_dollars_with_the_least_bill_and_the_boot() -> None:
    task = TaskSpec("simulate", "demeter", count=1, duration_s=1)
    found = foresee(spec(task, provider="aws"), 4, rates={"demeter": Price(0.5, 60.0, boot_paid=True)})
    assert (found.unit, found.price_source) == ("USD", "a test")
    assert (found.pools[0].price_per_s, found.pools[0].min_bill_s) == (0.5, 60.0)
    assert found.pools[0].boot_s[0] > 30


@pytest.mark.parametrize("rates", [{}, {"demeter": None}])
def test_an_unknown_price_is_never_zero_and_a_budget_that_nobody_can_look_at_is_said(rates: dict[str, None]) -> None:
    task = TaskSpec("simulate", "demeter", count=1, duration_s=1)
    found = foresee(spec(task, objectives=Objectives(budget_usd=5)), 4, rates=rates)
    assert found.unit == "core-hours"
    assert found.pools[0].price_per_s == pytest.approx(4 / 3600)
    (note,) = found.notes
    assert note == (
        "no price is known of pool demeter, so cost is counted in core-hours, and the budget is not looked at; "
        "give `price:` in targets.local"
    )


def test_where_nothing_is_paid_cost_is_counted_in_core_hours_without_a_warning() -> None:
    task = TaskSpec("simulate", "demeter", count=1, duration_s=1)
    found = foresee(spec(task), 4, rates={"demeter": Price(0.0, source="this machine")})
    assert (found.unit, found.notes) == ("core-hours", ())


def test_what_an_engine_knows_goes_before_the_manifest() -> None:
    known = TaskGroup("map", "demeter", 12, slots=2)
    found = foresee(spec(TaskSpec("map", "demeter", count=1, duration_s=7)), 4, tasks=[known])
    assert (only(found).count, only(found).slots) == (12, 2)
    assert only(found).mean_s == pytest.approx(7, rel=0.02)
