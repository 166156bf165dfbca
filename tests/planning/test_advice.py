"""Advice taken: what a deployment becomes, and that it is one that can be."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from scalable.advisors import Recommendation, worker_bytes
from scalable.planning import Advice, Bounds, make_plan, take_advice
from scalable.providers.options.batch import SlurmOptions
from scalable.spec import ComponentSpec, DeploymentSpec, Limits, ResourceRequest, TaskSpec

MIB, GIB = 2**20, 2**30


def spec(*tasks: TaskSpec, memory: int | None = 8 * GIB, walltime: float | None = None) -> DeploymentSpec:
    options: BaseModel = SlurmOptions.model_validate({"walltime": walltime} if walltime else {})
    components = {
        name: ComponentSpec(name, ResourceRequest(1, memory if name == "demeter" else GIB))
        for name in ("demeter", "postprocess")
    }
    return DeploymentSpec("p", "hpc", "slurm", options, components, {task.name: task for task in tasks})


def advised(
    task: str, memory: float | None = GIB, s: float = 60.0, component: str = "demeter", **more: Any
) -> Recommendation:
    evidence = {"method": "order statistic", "peaks": "exclusive", "threads": 1, "durations": "own target", **more}
    size = None if memory is None else int(memory)
    return Recommendation(
        task,
        "hpc",
        {component: 1},
        {component: {}},
        0.95,
        evidence,
        memory_bytes=size,
        duration_s=s,
        duration_high_s=2 * s,
    )


BOUNDS = Bounds({"demeter": 1, "postprocess": 1}, None, 4)
SIMULATE = TaskSpec("simulate", "demeter", retries=1)
PREPARE = TaskSpec("prepare", "demeter")
RANK = TaskSpec("rank", "postprocess")


def memory(advice: Advice, component: str = "demeter") -> int | None:
    return advice.spec.components[component].resources.memory_bytes


def test_a_component_has_what_its_largest_task_needs() -> None:
    made = take_advice(
        spec(SIMULATE, PREPARE), {"simulate": advised("simulate", GIB), "prepare": advised("prepare", 2 * GIB)}, BOUNDS
    )
    assert memory(made) == worker_bytes(2 * GIB)
    assert made.notes == ("components.demeter: memory 2560M, as advised, in place of 8G",)


def test_a_worker_has_room_for_as_many_as_it_runs_at_a_time_and_what_was_shared_counts_once() -> None:
    bounds = Bounds({"demeter": 4, "postprocess": 1}, None, 4)
    alone = take_advice(spec(SIMULATE), {"simulate": advised("simulate")}, bounds)
    shared = take_advice(spec(SIMULATE), {"simulate": advised("simulate", peaks="shared")}, bounds)
    wide = take_advice(spec(SIMULATE), {"simulate": advised("simulate", threads=2)}, bounds)
    assert [memory(one) for one in (alone, shared, wide)] == [
        worker_bytes(GIB, 4),
        worker_bytes(GIB),
        worker_bytes(GIB, 2),
    ]


def test_a_task_without_advice_keeps_its_component_as_it_is_but_for_more() -> None:
    nothing = {"prepare": "there is no history"}
    less = take_advice(spec(SIMULATE, PREPARE), {"simulate": advised("simulate"), **nothing}, BOUNDS)
    more = take_advice(spec(SIMULATE, PREPARE), {"simulate": advised("simulate", 16 * GIB), **nothing}, BOUNDS)
    assert (memory(less), memory(more)) == (8 * GIB, worker_bytes(16 * GIB))
    assert str(less.tasks[1]) == "prepare: as the manifest says; there is no history"


def test_too_little_history_takes_no_memory_away_and_adds_none_by_itself() -> None:
    few = {"method": "asked plus headroom"}
    assert memory(take_advice(spec(SIMULATE), {"simulate": advised("simulate", **few)}, BOUNDS)) == 8 * GIB
    large = take_advice(spec(SIMULATE), {"simulate": advised("simulate", 16 * GIB, **few)}, BOUNDS)
    assert memory(large) == worker_bytes(16 * GIB)


def test_a_task_that_the_manifest_does_not_name_counts_where_it_ran() -> None:
    made = take_advice(spec(SIMULATE), {"simulate": advised("simulate"), "stray": advised("stray", 3 * GIB)}, BOUNDS)
    assert memory(made) == worker_bytes(3 * GIB)


def test_memory_that_is_left_to_the_machine_stays_so() -> None:
    assert memory(take_advice(spec(SIMULATE, memory=None), {"simulate": advised("simulate")}, BOUNDS)) is None


def test_durations_are_the_measured_ones_of_this_target_and_others_only_where_there_are_none() -> None:
    own = advised("simulate", s=30.0)
    other = advised("simulate", s=30.0, durations="other targets")
    hinted = TaskSpec("simulate", "demeter", duration_s=5.0)
    cases = [(SIMULATE, own), (hinted, own), (SIMULATE, other), (hinted, other)]
    found = [take_advice(spec(task), {"simulate": one}, BOUNDS).spec.tasks["simulate"] for task, one in cases]
    assert [one.duration_s for one in found] == [30.0, 30.0, 30.0, 5.0]
    assert [one.duration_high_s for one in found] == [60.0, 60.0, None, None]


def test_the_walltime_is_enough_for_several_tasks_and_never_more_than_the_manifests() -> None:
    both = {"simulate": advised("simulate", s=60.0), "rank": advised("rank", s=1.0, component="postprocess")}
    made = take_advice(spec(SIMULATE, RANK, walltime=48 * 3600), both, BOUNDS)
    assert made.spec.options.walltime == 24 * 60  # type: ignore[attr-defined]
    assert "targets.hpc: walltime 24m00s, as advised, in place of 48h00m00s" in made.notes
    short = take_advice(spec(SIMULATE, RANK, walltime=900), both, BOUNDS)
    assert short.spec.options.walltime == 900  # type: ignore[attr-defined]


def test_the_walltime_is_long_enough_for_the_work_that_a_worker_is_to_do() -> None:
    many = TaskSpec("simulate", "demeter", count=2_000)
    both = {"simulate": advised("simulate", s=60.0), "rank": advised("rank", s=1.0, component="postprocess")}
    made = take_advice(spec(many, RANK, walltime=48 * 3600), both, BOUNDS)
    # 2,000 minutes for two of four workers, and a fifth more.
    assert made.spec.options.walltime == 1_200 * 60  # type: ignore[attr-defined]


def test_the_walltime_stays_while_it_is_not_known_how_long_all_tasks_take() -> None:
    other = advised("rank", component="postprocess", durations="other targets")
    for rank in ("there is no history", other):
        made = take_advice(
            spec(SIMULATE, RANK, walltime=48 * 3600), {"simulate": advised("simulate"), "rank": rank}, BOUNDS
        )
        assert made.spec.options.walltime == 48 * 3600  # type: ignore[attr-defined]


def test_more_than_there_is_is_not_asked_for_and_said() -> None:
    made = take_advice(spec(SIMULATE), {"simulate": advised("simulate", 64 * GIB)}, Bounds({"demeter": 1}, 32 * GIB, 4))
    assert memory(made) == 32 * GIB
    assert "32G is the most there is" in made.notes[0]


_SIZES = st.one_of(st.none(), st.floats(MIB, 2**44))


@given(
    sizes=st.lists(_SIZES, min_size=2, max_size=2),
    seconds=st.floats(0, 1e7),
    asked=st.integers(MIB, 2**40),
    most=st.one_of(st.none(), st.integers(2**30, 2**42)),
    walltime=st.floats(60, 1e6),
    method=st.sampled_from(["order statistic", "asked plus headroom", "conformal"]),
    threads=st.integers(1, 64),
)
def test_whatever_is_advised_the_deployment_is_one_that_can_be(
    *,
    sizes: list[float | None],
    seconds: float,
    asked: int,
    most: int | None,
    walltime: float,
    method: str,
    threads: int,
) -> None:
    before = spec(SIMULATE, PREPARE, RANK, memory=asked, walltime=walltime)
    given_ = {
        "simulate": advised("simulate", sizes[0], seconds, method=method),
        "prepare": advised("prepare", sizes[1], seconds, method=method),
        "rank": advised("rank", MIB, seconds, component="postprocess"),
    }
    made = take_advice(before, given_, Bounds({"demeter": threads, "postprocess": 1}, most, 4))
    found = memory(made)
    assert found is not None
    assert found >= MIB
    assert most is None or found <= max(most, asked)
    after = made.spec.options.walltime  # type: ignore[attr-defined]
    assert 60 <= after <= walltime
    for task in made.spec.tasks.values():
        assert task.duration_s is not None
        assert 0 < task.duration_s <= after
        assert task.duration_high_s is not None
        assert task.duration_high_s <= after


def test_the_plan_tells_what_was_advised_for_each_task_and_plan_json_too() -> None:
    before = spec(SIMULATE, PREPARE)
    advice = take_advice(before, {"simulate": advised("simulate"), "prepare": "there is no history"}, BOUNDS)
    plan = make_plan(advice.spec, Limits(2, 2), advice=advice)
    found = plan.to_json()["advice"]
    assert [(one["task"], one["memory_bytes"], one["why"]) for one in found] == [
        ("simulate", worker_bytes(GIB), "suffices for 95.0% (quantile, 0 tasks of 0 runs)"),
        ("prepare", None, "there is no history"),
    ]
    assert "advice" not in make_plan(before, Limits(2, 2)).to_json()


@pytest.mark.parametrize("advice", [{}, {"simulate": "no"}])
def test_without_advice_everything_is_as_before(advice: dict[str, Any]) -> None:
    before = spec(SIMULATE, walltime=3600)
    assert take_advice(before, advice, BOUNDS).spec == before
