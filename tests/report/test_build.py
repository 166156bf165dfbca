"""What a report says of a run."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from scalable.errors import ScalableError
from scalable.report import Report, TaskUse, build
from tests.report.runs import SampleRun, documented_run

Sample = Callable[..., SampleRun]


def only(report: Report) -> TaskUse:
    (use,) = report.by_name
    return use


def test_the_documented_run_has_the_documented_figures(tmp_path: Path) -> None:
    report = build(documented_run(tmp_path).path)

    assert [(pool.tag, pool.started, pool.removed, pool.final) for pool in report.workers.pools] == [
        ("demeter", 5, 3, 2),
        ("postprocess", 2, 0, 2),
    ]
    assert (report.scaling.up, report.scaling.down) == (3, 1)
    assert (report.tasks.completed, report.tasks.failed) == (20, 0)
    assert (report.status, report.duration_s) == ("completed", 10)


def test_the_last_attempt_of_a_task_decides_what_became_of_it(sample: Sample) -> None:
    run = sample().end(9)
    run.task("a", "f", 0, 1, outcome="failed").task("a", "f", 1, 1, attempt=2)
    run.task("b", "f", 0, None, outcome="lost").task("b", "f", 1, 1, attempt=2, outcome="failed")
    run.task("c", "f", 0, 1).task("d", "f", 0, None, outcome="cancelled").task("e", "f", 0, None, outcome="lost")

    use = only(build(run.path))

    assert (use.completed, use.failed, use.cancelled, use.lost) == (2, 1, 1, 1)
    assert (use.retried, use.attempts) == (2, 7)


def test_the_order_of_the_lines_decides_where_clocks_of_workers_differ(sample: Sample) -> None:
    run = sample().end(9).task("a", "f", 5, 1, outcome="failed").task("a", "f", 1, 1, attempt=2)

    assert only(build(run.path)).completed == 1


def test_two_tasks_submitted_under_one_key_are_two_tasks(sample: Sample) -> None:
    run = sample().end(9).task("mine", "f", 0, 1, outcome="failed").task("mine", "f", 2, 1)

    use = only(build(run.path))

    assert (use.completed, use.failed, use.retried) == (1, 1, 0)


def test_durations_are_of_the_attempts_that_completed(sample: Sample) -> None:
    run = sample().end(900)
    for index in range(101):
        run.task(f"f-{index}", "f", 0, float(index))
    run.task("f-x", "f", 0, 5000.0, outcome="failed").task("f-y", "f", 0, None, outcome="cancelled")

    use = only(build(run.path))

    assert (use.median_s, use.p95_s) == (50, 95)


def test_peaks_are_of_all_attempts_for_the_one_that_failed_may_have_needed_most(sample: Sample) -> None:
    run = sample().end(9)
    for index in range(100):
        run.task(f"f-{index}", "f", 0, 1, peak_bytes=1000 + 10 * index)
    run.task("f-x", "f", 0, 1, peak_bytes=2000, outcome="failed", asked_bytes=4096)

    use = only(build(run.path))

    assert (use.peak_p95_bytes, use.peak_max_bytes) == (1950, 2000)
    assert use.asked_bytes == 2**30


def test_a_peak_that_tasks_share_is_marked(sample: Sample) -> None:
    run = sample().end(9).task("a", "alone", 0, 1).task("b", "shared", 1, 1).task("c", "shared", 1, 1, exclusive=False)
    run.task("d", "unmeasured", 2, None, peak_bytes=None, exclusive=False, outcome="lost")

    shared = {use.name: use.peak_shared for use in build(run.path).by_name}

    assert shared == {"alone": False, "shared": True, "unmeasured": False}


def test_names_come_in_the_order_of_their_first_tasks(sample: Sample) -> None:
    run = sample().end(9).task("z", "zoning", 1, 1).task("b", "blending", 3, 1).task("a", "zoning", 5, 1)

    assert [use.name for use in build(run.path).by_name] == ["zoning", "blending"]


def test_many_names_are_counted_and_only_the_first_listed(sample: Sample) -> None:
    run = sample().end(9)
    for index in range(600):
        run.task(f"f-{index}", f"name-{index}", 0, 0.01)

    report = build(run.path)

    assert (report.tasks.completed, report.task_names, len(report.by_name)) == (600, 600, 500)


def test_efficiency_is_the_busy_share_of_the_slots_that_were_paid(sample: Sample) -> None:
    run = sample().end(10).worker("demeter-0", 0, 10, threads=2).worker("demeter-1", 5, 10, threads=2)
    run.task("a", "f", 0, 9).task("b", "f", 0, 6, outcome="failed").task("c", "f", 0, None, outcome="cancelled")

    report = build(run.path)

    assert report.efficiency == pytest.approx(15 / 30)
    assert report.workers.pools[0].efficiency == pytest.approx(15 / 30)


def test_a_pool_has_the_efficiency_of_the_tasks_that_ran_on_it(sample: Sample) -> None:
    run = sample().end(10).worker("demeter-0", 0, 10).worker("gpu-0", 0, 10)
    run.task("a", "f", 0, 8, tag="demeter", component="gpu")

    assert [pool.efficiency for pool in build(run.path).workers.pools] == [0, pytest.approx(0.8)]


def test_efficiency_is_unknown_without_workers_and_never_above_one(sample: Sample) -> None:
    run = sample().end(10).task("a", "f", 0, 10.01)
    assert build(run.path).efficiency is None

    run.worker("demeter-0", 0, 10)
    assert build(run.path).efficiency == 1


def test_workers_are_averaged_over_the_run_and_their_peak_is_of_one_moment(sample: Sample) -> None:
    run = sample().end(10).worker("demeter-0", 0, 4, "scaled down").worker("demeter-1", 4, 10)
    run.worker("other-0", 2, 6, "scaled down")

    workers = build(run.path).workers

    assert workers.peak == 2
    assert workers.average == pytest.approx(1.4)
    assert [(pool.tag, pool.peak) for pool in workers.pools] == [("demeter", 1), ("other", 1)]
    assert [pool.average for pool in workers.pools] == pytest.approx([1.0, 0.4])


def test_a_worker_that_died_and_came_back_was_removed_once_and_started_twice(sample: Sample) -> None:
    run = sample().end(10).worker("demeter-0", 0, 4, "lost").worker("demeter-0", 5, 10)

    (pool,) = build(run.path).workers.pools

    assert (pool.started, pool.removed, pool.final, pool.peak) == (2, 1, 1, 1)
    assert pool.average == pytest.approx(0.9)


def test_a_worker_that_came_back_unseen_to_leave_counts_as_removed(sample: Sample) -> None:
    run = sample().end(10).worker("demeter-0", 0).worker("demeter-0", 5, 10)

    (pool,) = build(run.path).workers.pools

    assert (pool.started, pool.removed, pool.peak) == (2, 1, 1)


def test_a_pool_that_got_no_worker_is_there_with_zeros(sample: Sample) -> None:
    run = sample().plan(demeter=1, postprocess=0).end(10).worker("demeter-0", 0, 10)

    pools = {pool.tag: (pool.started, pool.peak, pool.efficiency) for pool in build(run.path).workers.pools}

    assert pools == {"demeter": (1, 1, 0), "postprocess": (0, 0, None)}


def test_workers_without_a_limit_of_their_own_have_the_planned_memory(sample: Sample) -> None:
    run = sample().plan(demeter=1).end(9).worker("demeter-0", 0, 9, memory_bytes=None)
    run.worker("other-0", 0, 9, memory_bytes=None)

    assert [pool.memory_bytes for pool in build(run.path).workers.pools] == [2**30, None]


def test_cost_is_the_sum_of_what_was_priced_and_unknown_where_nothing_was(sample: Sample) -> None:
    run = sample().end(10)
    assert build(run.path).cost_usd is None

    run.paid("demeter", 1, 0.25).paid("x", 1, 0.5)
    assert build(run.path).cost_usd == pytest.approx(0.75)


def test_failures_are_grouped_by_name_and_type_with_the_most_frequent_first(sample: Sample) -> None:
    run = sample().end(10)
    run.task("a", "f", 0, 1, outcome="failed", error_type="ValueError", error="first")
    run.task("a", "f", 1, 1, attempt=2)
    for key in "bcd":
        run.task(key, "f", 0, 1, outcome="failed", error_type="ValueError", error=f"of {key}")
    for index in range(7):
        run.task(f"o-{index}", "g", 0, 1, outcome="failed", error_type=f"Error{index}", error=None)

    failures = build(run.path).failures

    assert (failures[0].name, failures[0].error_type, failures[0].tasks) == ("f", "ValueError", 3)
    assert (failures[0].key, failures[0].error) == ("b", "of b")
    assert len(failures) == 5


def test_a_run_under_way_is_reported_up_to_now(sample: Sample) -> None:
    run = sample(started_at=time.time()).worker("demeter-0", 0).worker("demeter-1", 2, 6, "scaled down")
    run.task("a", "f", 0, 4)

    report = build(run.path, now=run.start + 10)

    assert report.status == "running"
    assert report.duration_s == pytest.approx(10)
    assert report.workers.peak == 2
    assert report.workers.average == pytest.approx(1.4)
    assert report.efficiency == pytest.approx(4 / 14)
    assert report.workers.pools[0].final == 1


def test_a_killed_run_is_reported_up_to_its_last_record(sample: Sample) -> None:
    run = sample(boot_id="an earlier boot").worker("demeter-0", 0).task("a", "f", 0, 4).scaled(6, "up")

    report = build(run.path)

    assert (report.status, report.duration_s) == ("killed", 6)
    assert report.workers.peak == 1


def test_a_run_that_was_killed_before_its_first_record_has_zeros(sample: Sample) -> None:
    report = build(sample(boot_id="an earlier boot").path)

    assert (report.status, report.duration_s, report.workers.average) == ("killed", 0, 0)
    assert report.by_name == ()


def test_what_is_no_number_is_left_out(sample: Sample) -> None:
    run = sample().end(10).task("a", "f", 0, 1).task("b", "f", 0, float("nan"), cpu_s=float("inf"))

    use = only(build(run.path))

    assert (use.completed, use.median_s, use.cpu_s) == (2, 1, 1)


def test_a_folder_that_is_no_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ScalableError, match=r"is not a run's directory: it holds no run\.json"):
        build(tmp_path)


@pytest.mark.slow
def test_a_million_tasks_are_counted_exactly(sample: Sample) -> None:
    run = sample().end(10).task("a", "f", 0, 1)
    whole = json.loads((run.path / "tasks.jsonl").read_text())
    template = json.dumps(whole | {"key": "KEY"}) + "\n"
    run.text("tasks", "".join(template.replace("KEY", f"f-{index}") for index in range(999_999)))
    run.text("tasks", template.replace("KEY", "f-7").replace('"attempt": 1', '"attempt": 2'))

    report = build(run.path)

    assert (report.tasks.completed, report.tasks.retried, report.tasks.attempts) == (1_000_000, 1, 1_000_001)
