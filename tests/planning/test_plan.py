from __future__ import annotations

from dataclasses import replace

import pytest
from pydantic import BaseModel

from scalable.errors import Infeasible, PlanError
from scalable.planning import TaskGroup, make_plan
from scalable.planning.foresee import foresee
from scalable.providers.options.local import LocalOptions
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


def told(policy: str, **parameters: object) -> LocalOptions:
    return LocalOptions.model_validate({"scaling": {"policy": policy, **parameters}})


def test_where_nobody_starts_workers_later_every_pool_with_tasks_gets_its_own_at_once() -> None:
    tasks = (TaskSpec("a", "demeter"), TaskSpec("b", "postprocess", after=("a",)))
    for text in ("no", "allocate=capability; scaling=no"):
        made = replace(spec(*tasks), options=told(text))
        assert counts(made, 4) == {"demeter": 2, "postprocess": 2}
        with pytest.raises(Infeasible, match="max_workers is 1, but 2 pools have work"):
            make_plan(made, Limits(1, 1))
    assert counts(replace(spec(*tasks), options=told("share")), 1) == {"demeter": 1}


def test_a_plan_tells_of_pools_that_a_policy_may_pass_over() -> None:
    tasks = (TaskSpec("a", "demeter"), TaskSpec("b", "postprocess", after=("a",)))
    (note,) = make_plan(replace(spec(*tasks), options=told("vanilla")), Limits(2, 2)).notes
    assert "'vanilla' may never start workers of postprocess" in note
    served = replace(spec(*tasks), options=told("vanilla", serve_every_tag=True))
    assert make_plan(served, Limits(2, 2)).notes == ()


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
    with pytest.raises(PlanError, match="objective 'cheap' is not known; there are minimize cost"):
        make_plan(spec(), Limits(2, 2), objective="cheap")
    with pytest.raises(PlanError, match="did you mean 'manual'"):
        make_plan(spec(), Limits(2, 2), policy="manaul")


def test_an_objective_needs_tasks_to_size_pools_for() -> None:
    with pytest.raises(PlanError, match=r"nothing is known of the tasks.*or run the workflow once"):
        make_plan(spec(), Limits(2, 2), objective="balance")


SIMULATE = TaskSpec("simulate", "demeter", count=40, duration_s=60)
ANALYZE = TaskSpec("analyze", "postprocess", count=2, duration_s=30, after=("simulate",))


def test_an_objective_sizes_pools_by_the_work_and_a_later_pool_starts_with_none() -> None:
    plan = make_plan(spec(SIMULATE, ANALYZE), Limits(0, 100), objective="minimize time")
    assert plan.counts["demeter"] >= 35
    assert plan.counts["postprocess"] == 2
    assert set(plan.scale_plan) == {"demeter"}
    assert plan.scale_plan["demeter"].count == plan.counts["demeter"]
    assert plan.limits == Limits(0, plan.counts["demeter"])
    assert (plan.objective, plan.policy) == ("minimize time", "safe")


def test_workers_of_a_fixed_target_may_leave_once_an_objective_has_sized_it() -> None:
    assert make_plan(spec(SIMULATE), Limits(8, 8), objective="minimize cost").limits.minimum == 0
    assert make_plan(spec(SIMULATE), Limits(3, 8), objective="minimize time").limits.minimum == 3


def test_a_deadline_is_kept_with_headroom_or_without() -> None:
    bounded = spec(SIMULATE, objectives=Objectives(deadline_hours=0.2))
    safe = make_plan(bounded, Limits(0, 100), objective="minimize cost")
    bold = make_plan(bounded, Limits(0, 100), objective="minimize cost", policy="aggressive")
    assert safe.time_s is not None
    assert bold.time_s is not None
    assert safe.time_s.high * 1.2 <= 720
    assert bold.time_s.median <= 720


def test_what_cannot_be_met_is_infeasible_with_which_how_much_and_the_nearest_plan() -> None:
    bounded = spec(SIMULATE, objectives=Objectives(deadline_hours=0.05))
    with pytest.raises(
        Infeasible,
        match=r"target 'local': deadline_hours 0.05 is missed by \d+m\d+s; the nearest plan is 4 of demeter, "
        r"which takes 1\dm\d+s and costs .* core-hours; .*'manual'",
    ):
        make_plan(bounded, Limits(0, 4), objective="minimize cost")


def test_bounds_alone_size_pools_where_nothing_of_the_tasks_is_a_guess() -> None:
    bounded = Objectives(deadline_hours=1)
    sized = make_plan(spec(SIMULATE, objectives=bounded), Limits(4, 4))
    assert (sized.objective, sized.policy) == ("balance", "safe")
    guessed = make_plan(spec(TaskSpec("simulate", "demeter", count=3), objectives=bounded), Limits(4, 4))
    assert guessed.policy == "manual"
    assert guessed.notes == (
        "pools are not sized by the bounds (deadline_hours 1); name an objective, or more of the tasks",
    )


def test_the_policy_manual_leaves_the_numbers_alone_and_says_what_comes_of_them() -> None:
    bounded = spec(SIMULATE, objectives=Objectives(deadline_hours=0.05))
    plan = make_plan(bounded, Limits(4, 4), policy="manual")
    assert {tag: one.count for tag, one in plan.scale_plan.items()} == {"demeter": 4}
    assert plan.limits == Limits(4, 4)
    assert plan.time_s is not None
    assert 580 < plan.time_s.median < 680  # ten rounds of a minute
    assert any("longer than deadline_hours" in note for note in plan.notes)


def test_guesses_are_said_where_a_plan_rests_on_them_and_predict_nothing_where_it_does_not() -> None:
    vague = spec(TaskSpec("simulate", "demeter"))
    plan = make_plan(vague, Limits(4, 4), objective="minimize time")
    assert plan.notes[0].startswith("tasks.simulate: guessed to be 4, as many as there may be workers")
    assert plan.notes[1].startswith("tasks.simulate: guessed to take 30.0s each")
    assert make_plan(vague, Limits(4, 4)).time_s is None


def test_an_engines_tasks_on_more_pools_than_there_may_be_workers_are_refused() -> None:
    both = [TaskGroup("a", "demeter", 5, (1.0,)), TaskGroup("b", "postprocess", 5, (1.0,))]
    one = spec(TaskSpec("a", "demeter"))
    with pytest.raises(Infeasible, match=r"2 pools have work \(demeter, postprocess\)"):
        make_plan(one, Limits(1, 1), objective="balance", foresight=foresee(one, 1, tasks=both))


def test_the_choice_is_on_the_front_and_explained() -> None:
    plan = make_plan(spec(SIMULATE), Limits(0, 100))
    assert plan.front == ()
    plan = make_plan(spec(SIMULATE), Limits(0, 100), objective="balance")
    assert plan.counts in [point.counts for point in plan.shown_front]
    assert "the next cheaper one takes +" in plan.why
    cheap = make_plan(spec(SIMULATE), Limits(0, 100), objective="minimize cost")
    assert "the next faster one takes -" in cheap.why
    assert plan.limited_by
