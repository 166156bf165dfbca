"""A run over time, and its picture."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scalable.report import Timeline, build, draw_run
from tests.report.runs import START, SampleRun, documented_run

Sample = Callable[..., SampleRun]

moments = st.floats(0, 120, allow_nan=False)


def timeline(run: SampleRun) -> Timeline:
    made = build(run.path).timeline
    assert made is not None
    return made


def test_each_step_tells_the_average_of_what_waited_ran_and_was_there(sample: Sample) -> None:
    run = sample().end(120).worker("demeter-0", 30.5, 60)
    run.task("a", "f", 0, 0, queued_at=START + 10, started_at=START + 30.5, ended_at=START + 32)

    over = timeline(run)

    assert over.step_s == 1
    assert (over.waiting[9], over.waiting[10], over.waiting[30], over.waiting[31]) == (0, 1, 0.5, 0)
    assert (over.running[29], over.running[30], over.running[31], over.running[32]) == (0, 0.5, 1, 0)
    workers = over.workers["demeter"]
    assert (workers[29], workers[30], workers[59], workers[60]) == (0, 0.5, 1, 0)


def test_a_task_that_was_cancelled_before_it_began_only_waited(sample: Sample) -> None:
    run = sample().end(120).task("a", "f", 20, 20, started_at=None, outcome="cancelled")
    run.task("b", "f", 20, 20, started_at=None, outcome="lost")

    over = timeline(run)

    assert (over.waiting[25], over.waiting[45]) == (1, 0)
    assert set(over.running) == {0}


@settings(deadline=None, max_examples=25)
@given(st.lists(st.tuples(moments, moments, moments), max_size=20))
def test_the_time_of_all_tasks_is_in_the_steps_whenever_they_ran(
    tmp_path_factory: pytest.TempPathFactory, tasks: list[tuple[float, float, float]]
) -> None:
    run = SampleRun(tmp_path_factory.mktemp("runs")).end(120)
    for index, times in enumerate(tasks):
        queued, started, ended = (START + moment for moment in sorted(times))
        run.task(f"{index}", "f", 0, 0, queued_at=queued, started_at=started, ended_at=ended)

    over = timeline(run)

    waited = sum(sorted(times)[1] - min(times) for times in tasks)
    ran = sum(sorted(times)[2] - sorted(times)[1] for times in tasks)
    assert sum(over.waiting) == pytest.approx(waited, abs=1e-3)
    assert sum(over.running) == pytest.approx(ran, abs=1e-3)
    assert min(*over.waiting, *over.running) >= 0


def test_a_clock_of_a_worker_that_is_late_makes_no_negative_numbers(sample: Sample) -> None:
    run = sample().end(120).task("a", "f", 0, 0, queued_at=START + 50, started_at=START + 40, ended_at=START + 60)

    over = timeline(run)

    assert set(over.waiting) == {0}
    assert (over.running[45], over.running[55], over.running[65]) == (0, 1, 0)


def test_the_picture_names_every_pool_and_is_well_formed(tmp_path_factory: pytest.TempPathFactory) -> None:
    picture = draw_run(build(documented_run(tmp_path_factory.mktemp("runs")).path))

    assert picture is not None
    words = [element.text for element in ET.fromstring(picture).iter("{http://www.w3.org/2000/svg}text")]
    assert {"workers", "demeter", "postprocess", "tasks", "running", "waiting", "10.0s"} <= set(words)


def test_a_run_with_nothing_in_it_has_no_picture(sample: Sample) -> None:
    assert draw_run(build(sample().end(10).path)) is None
    assert draw_run(build(sample("run-b").task("a", "f", 0, 1).end(0).path)) is None


def test_many_pools_and_busy_times_make_no_larger_picture(sample: Sample) -> None:
    run = sample().end(1000)
    for pool in range(20):
        for index in range(100):
            run.worker(f"p<{pool:02}>-{index}", index * 7 % 900, index * 7 % 900 + 50 + pool)
    for index in range(2000):
        run.task(f"{index}", "f", index * 13 % 950, index % 31)

    picture = draw_run(build(run.path))

    assert picture is not None
    assert len(picture) < 20_000
    words = [element.text for element in ET.fromstring(picture).iter("{http://www.w3.org/2000/svg}text")]
    assert "others" in words
    assert "p<19>" in words
    assert "p<00>" not in words
