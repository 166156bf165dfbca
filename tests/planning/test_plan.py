from __future__ import annotations

import pytest
from pydantic import BaseModel

from scalable.errors import Infeasible, PlanError
from scalable.planning import make_plan
from scalable.spec import ComponentSpec, DeploymentSpec, Limits, Objectives, ResourceRequest, TaskSpec


class NoOptions(BaseModel):
    pass


def spec(*tasks: TaskSpec, **more: object) -> DeploymentSpec:
    components = {name: ComponentSpec(name, ResourceRequest(1, 2**30)) for name in ("demeter", "postprocess")}
    named = {task.name: task for task in tasks}
    return DeploymentSpec("p", "local", "local", NoOptions(), components, named, **more)  # type: ignore[arg-type]


def counts(made: DeploymentSpec, workers: int) -> dict[str, int]:
    return {tag: one.count for tag, one in make_plan(made, Limits(workers, workers)).scale_plan.items()}


def test_every_pool_with_work_gets_a_worker_and_the_rest_go_by_hinted_work() -> None:
    heavy = TaskSpec("simulate", "demeter", count=90, duration_s=60)
    light = TaskSpec("analyze", "postprocess", count=10, duration_s=60)
    assert counts(spec(heavy, light), 10) == {"demeter": 9, "postprocess": 1}


def test_without_hints_the_workers_are_divided_evenly() -> None:
    assert counts(spec(TaskSpec("a", "demeter"), TaskSpec("b", "postprocess")), 4) == {"demeter": 2, "postprocess": 2}


def test_a_component_that_no_task_names_gets_no_worker_at_first() -> None:
    assert counts(spec(TaskSpec("a", "demeter")), 3) == {"demeter": 3}


def test_a_pool_whose_tasks_all_come_after_others_gets_its_workers_later() -> None:
    assert counts(spec(TaskSpec("a", "demeter"), TaskSpec("b", "postprocess", after=("a",))), 1) == {"demeter": 1}


def test_without_tasks_every_component_has_work() -> None:
    assert counts(spec(), 2) == {"demeter": 1, "postprocess": 1}


def test_fewer_workers_than_pools_with_work_is_refused_with_the_number_that_would_do() -> None:
    with pytest.raises(
        Infeasible, match=r"max_workers is 1, but 2 pools have work \(demeter, postprocess\).*to 2 or more"
    ):
        make_plan(spec(), Limits(1, 1))


def test_an_adaptive_target_starts_with_its_minimum() -> None:
    plan = make_plan(spec(), Limits(0, 8))
    assert {tag: one.count for tag, one in plan.scale_plan.items()} == {"demeter": 0, "postprocess": 0}


def test_a_scale_plan_prints_as_the_tutorial_shows_it() -> None:
    plan = make_plan(spec(TaskSpec("a", "demeter")), Limits(4, 4))
    assert str(plan.scale_plan) == "{'demeter': ResourceRequest(cpus=1, memory='1G'), count=4}"


def test_an_objective_or_policy_that_is_not_known_is_refused_and_not_ignored() -> None:
    with pytest.raises(PlanError, match="objective 'minimize cost'"):
        make_plan(spec(), Limits(2, 2), objective="minimize cost")
    with pytest.raises(PlanError, match="did you mean 'manual'"):
        make_plan(spec(), Limits(2, 2), policy="manaul")


def test_objectives_of_the_manifest_are_noted_as_recorded_only() -> None:
    plan = make_plan(spec(objectives=Objectives(budget_usd=50)), Limits(2, 2))
    assert "does not size pools by them" in plan.notes[0]
