"""Counting tasks as Dask's scheduler moves them."""

from __future__ import annotations

import itertools
from types import SimpleNamespace
from typing import Any

from scalable.pools.demand import DemandCounter, Kind, Sample, size_of_step, step_of_size


def state(name: str, *dependencies: Any, tag: str = "a", state: str = "waiting") -> Any:
    return SimpleNamespace(
        prefix=SimpleNamespace(name=name), resource_restrictions={tag: 1.0}, dependencies=dependencies, state=state
    )


def counter(**tasks: Any) -> DemandCounter:
    made = DemandCounter()
    made._scheduler = SimpleNamespace(tasks=tasks)  # type: ignore[assignment]
    return made


FIT = Kind((("a", 1.0),), "fit")


def ran(seconds: float, worker: str = "w") -> dict[str, Any]:
    return {"worker": worker, "startstops": [{"action": "compute", "start": 10.0, "stop": 10.0 + seconds}]}


def test_a_task_is_counted_once_wherever_it_is() -> None:
    counts = counter(one=state("fit"))
    steps = ["released", "waiting", "no-worker", "processing", "memory", "released", "forgotten"]
    seen = []
    for start, finish in itertools.pairwise(steps):
        counts.transition("one", start, finish)
        demand = counts.kinds[FIT]
        seen.append((demand.blocked, demand.ready, demand.arrived, demand.done))
    assert seen == [(1, 0, 1, 0), (0, 1, 1, 0), (0, 1, 1, 0), (0, 0, 1, 1), (0, 0, 1, 1), (0, 0, 1, 1)]


def test_tasks_of_another_name_or_with_other_needs_are_of_another_kind() -> None:
    counts = counter(one=state("fit"), two=state("load"), three=state("fit", tag="b"))
    for key in ("one", "two", "three"):
        counts.transition(key, "released", "waiting")
    assert [(kind.requirement[0][0], kind.name) for kind in counts.kinds] == [("a", "fit"), ("a", "load"), ("b", "fit")]
    assert counts.by_requirement() == {(("a", 1.0),): (2, 0), (("b", 1.0),): (1, 0)}


def test_names_without_end_become_one_kind_so_that_looking_stays_cheap() -> None:
    counts = counter(**{f"t{i}": state(f"name{i}") for i in range(600)})
    for i in range(600):
        counts.transition(f"t{i}", "released", "waiting")
    assert len(counts.kinds) == 501
    assert counts.kinds[Kind((("a", 1.0),), "(others)")].blocked == 100


def test_what_a_task_waits_for_is_known_by_its_kind() -> None:
    parent, ready = state("load"), state("old", state="memory")
    counts = counter(one=state("fit", parent, ready))
    counts.transition("one", "released", "waiting")
    assert counts.kinds[FIT].parents == {Kind((("a", 1.0),), "load")}


def test_durations_and_sizes_of_ended_tasks_are_handed_over_once() -> None:
    counts = counter(one=state("fit"), two=state("fit"))
    counts.size_of = {"one": 64.0}.get
    for key, seconds in (("one", 2.0), ("two", 3.0)):
        counts.transition(key, "waiting", "processing")
        counts.transition(key, "processing", "memory", **ran(seconds))
    assert counts.kinds[FIT].durations.take() == [(64.0, 2.0), (None, 3.0)]
    assert counts.kinds[FIT].durations.take() == []


def test_sizes_of_ready_tasks_are_counted_by_steps_until_they_end() -> None:
    counts = counter(one=state("fit"), two=state("fit"), three=state("fit"))
    counts.size_of = {"one": 64.0, "two": 65.0, "three": 4096.0}.get
    for key in ("one", "two", "three"):
        counts.transition(key, "waiting", "processing")
    steps = counts.kinds[FIT].steps
    assert {size_of_step(step): count for step, count in steps.items()} == {64.0: 2, 4096.0: 1}
    counts.transition("one", "processing", "memory", **ran(1))
    counts.transition("three", "processing", "erred")
    assert dict(steps) == {step_of_size(64.0): 1}


def test_a_worker_has_been_idle_since_its_last_task_ended() -> None:
    counts = counter(one=state("fit"))
    counts.add_worker(None, "w")  # type: ignore[arg-type]
    came = counts.active_at["w"] = counts.active_at["w"] - 5
    counts.transition("one", "waiting", "processing")
    assert counts.active_at["w"] == came
    counts.transition("one", "processing", "memory", **ran(1))
    assert counts.active_at["w"] >= came + 5
    counts.remove_worker(None, "w")  # type: ignore[arg-type]
    assert counts.active_at == {}


def test_a_sample_of_many_is_spread_evenly_over_them_all() -> None:
    sample = Sample()
    for number in range(10_000):
        sample.add((None, float(number)))
    kept = [seconds for _, seconds in sample.take()]
    gaps = {later - earlier for earlier, later in itertools.pairwise(kept)}
    assert 32 <= len(kept) <= 64
    assert len(gaps) == 1
    assert kept[-1] + gaps.pop() > 9_500
