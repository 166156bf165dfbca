"""What the deterministic advisor says, and on what it does not depend."""

from __future__ import annotations

import json
import math
import random
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from scalable.advisors import ResourceAdvisor, worker_bytes
from scalable.errors import ScalableError
from scalable.units import parse_bytes
from tests.advisors.history import GIB, MIB, advisor, ended, fresh, out_of_memory, peaks, run

STEPS = [index * 10 * MIB for index in range(1, 41)]  # 10M to 400M


def memory(recommendation: Any, component: str = "demeter") -> int:
    return parse_bytes(recommendation.resources[component]["memory"])


def test_memory_is_the_peak_that_bounds_the_next_one_with_the_confidence_stated(tmp_path: Path) -> None:
    run(tmp_path, peaks(STEPS))
    found = advisor(tmp_path).recommend("simulate", confidence=0.9)
    # The 37th of 40: 37 = ceil(41 * 0.9).
    assert found.memory_bytes == 370 * MIB
    assert found.confidence == 37 / 41
    assert memory(found) == worker_bytes(370 * MIB)
    assert found.evidence["method"] == "order statistic"
    assert (found.evidence["runs_analyzed"], found.evidence["tasks_analyzed"]) == (1, 40)


def test_with_enough_history_the_answer_does_not_depend_on_what_was_asked_for(tmp_path: Path) -> None:
    answers = []
    for number, asked in enumerate((GIB, 64 * GIB)):
        folder = tmp_path / str(number)
        run(folder, [*peaks(STEPS, asked_bytes=asked), out_of_memory(300 * MIB, asked_bytes=asked)])
        answers.append(advisor(folder).recommend("simulate", "local").to_json())
    assert answers[0] == answers[1]


def test_too_few_peaks_give_what_was_asked_for_and_a_fifth_more_and_say_so(tmp_path: Path) -> None:
    run(tmp_path, peaks(STEPS[:4], asked_bytes=5 * GIB))
    found = advisor(tmp_path).recommend("simulate")
    assert memory(found) == 6 * GIB
    assert found.confidence == 4 / 5
    assert found.evidence["method"] == "asked plus headroom"
    assert any("4 measured peaks are too few" in reason and "19" in reason for reason in found.evidence["reasons"])


def test_of_too_few_peaks_the_largest_with_headroom_has_room_whatever_was_asked_for(tmp_path: Path) -> None:
    run(tmp_path, peaks([10 * GIB], asked_bytes=GIB))
    assert memory(advisor(tmp_path).recommend("simulate")) == worker_bytes(12 * GIB)


def test_an_attempt_that_ran_out_of_memory_counts_as_larger_than_all_that_it_had(tmp_path: Path) -> None:
    run(tmp_path, [*peaks(STEPS), *[out_of_memory(500 * MIB) for _ in range(10)]])
    found = advisor(tmp_path).recommend("simulate")
    assert found.memory_bytes == 1000 * MIB
    assert found.evidence["failures"] == {"out_of_memory": 10}


def test_an_attempt_that_ran_out_of_memory_counts_as_larger_than_its_worker_if_nobody_saw_its_peak(
    tmp_path: Path,
) -> None:
    unseen = {"s": None, "asked_bytes": 500 * MIB}
    run(tmp_path, [*peaks(STEPS), *[out_of_memory(None, **unseen) for _ in range(10)]])
    found = advisor(tmp_path)
    assert found.recommend("simulate").memory_bytes == 1000 * MIB
    for _ in range(10):
        found.observe(ended(None, outcome="out_of_memory", duration_s=None, cpu_s=None, asked_bytes=700 * MIB))
    assert found.recommend("simulate").memory_bytes == 1400 * MIB


def test_an_attempt_that_ran_out_of_memory_is_known_once_it_completed_in_a_larger_worker(tmp_path: Path) -> None:
    again = [one for _ in range(2) for one in (out_of_memory(410 * MIB), {"peak": 600 * MIB})]
    run(tmp_path, [*peaks(STEPS * 5), *again])
    found = advisor(tmp_path).recommend("simulate")
    # Two of 202 are above: the 193rd smallest is among the others.
    assert found.memory_bytes == 390 * MIB


def test_another_run_cannot_tell_what_an_attempt_would_have_needed(tmp_path: Path) -> None:
    run(tmp_path, [out_of_memory(410 * MIB)] * 5, number=0)
    run(tmp_path, [*peaks(STEPS * 5), *peaks([600 * MIB] * 5)], number=1)
    assert advisor(tmp_path).recommend("simulate").memory_bytes == 600 * MIB


def test_peaks_that_others_shared_are_left_out_if_there_are_enough_without_them(tmp_path: Path) -> None:
    run(tmp_path, [*peaks([2 * GIB] * 100, exclusive=False), *peaks(STEPS)], threads=2)
    found = advisor(tmp_path).recommend("simulate")
    assert found.memory_bytes == 390 * MIB
    # Two at a time, each with its own.
    assert memory(found) == worker_bytes(390 * MIB, 2)
    assert found.evidence["peaks"] == "exclusive"


def test_peaks_that_others_shared_hold_the_whole_worker_where_they_are_all_there_is(tmp_path: Path) -> None:
    run(tmp_path, [*peaks([2 * GIB] * 100, exclusive=False), *peaks(STEPS[:3])], threads=2)
    found = advisor(tmp_path).recommend("simulate")
    assert memory(found) == worker_bytes(2 * GIB)
    assert found.evidence["peaks"] == "shared"
    assert any("several tasks at a time" in reason for reason in found.evidence["reasons"])


def test_a_task_that_takes_several_threads_leaves_room_for_fewer(tmp_path: Path) -> None:
    run(tmp_path, peaks(STEPS, threads=4), threads=8)
    assert memory(advisor(tmp_path).recommend("simulate")) == worker_bytes(390 * MIB, 2)


def test_a_failure_tells_nothing_of_the_memory_that_the_task_needs(tmp_path: Path) -> None:
    failed = peaks([MIB] * 1000, outcome="failed", error_type="ValueError")
    run(tmp_path, [*peaks(STEPS), *failed, *peaks([None] * 3, s=None, outcome="lost", error_type="WorkerLost")])  # type: ignore[list-item]
    found = advisor(tmp_path).recommend("simulate")
    assert found.memory_bytes == 390 * MIB
    assert found.evidence["failures"]["failed"] == 1000


def test_cpus_are_what_tasks_kept_busy_for_as_many_as_run_at_a_time(tmp_path: Path) -> None:
    run(tmp_path, [{"s": 10.0, "cpu_s": 25.0}] * 30, threads=2)
    assert advisor(tmp_path).recommend("simulate").resources["demeter"]["cpus"] == 6


def test_a_task_that_waits_needs_one_cpu_all_the_same_and_the_interpreter_none(tmp_path: Path) -> None:
    run(tmp_path, [{"s": 10.0, "cpu_s": 10.4}] * 30)
    run(tmp_path, [{"s": 10.0, "cpu_s": 0.1, "name": "fetch"}] * 30, number=1)
    made = advisor(tmp_path)
    assert made.recommend("simulate").resources["demeter"]["cpus"] == 1
    assert made.recommend("fetch").resources["demeter"]["cpus"] == 1


def test_walltime_is_longer_than_nearly_all_tasks_in_whole_minutes(tmp_path: Path) -> None:
    run(tmp_path, [{"s": 60.0 * index} for index in range(1, 41)])
    found = advisor(tmp_path).recommend("simulate")
    assert (found.duration_s, found.duration_high_s) == (21 * 60.0, 39 * 60.0)
    assert found.resources["demeter"]["walltime"] == "00:47:00"


def test_workers_work_as_long_as_they_take_to_start(tmp_path: Path) -> None:
    # 1,000 s of work for workers that do two at a time and take 50 s to start.
    run(tmp_path, [{"s": 10.0}] * 100, threads=2, startup_s=50.0)
    assert advisor(tmp_path).recommend("simulate").workers == {"demeter": 10}


def test_a_target_without_history_takes_memory_from_others_and_says_whose_durations_it_has(tmp_path: Path) -> None:
    run(tmp_path, peaks(STEPS), target="laptop")
    found = advisor(tmp_path).recommend("simulate", "hpc")
    assert found.memory_bytes == 390 * MIB
    assert found.evidence["durations"] == "other targets"
    assert any("durations are those of other targets" in reason for reason in found.evidence["reasons"])


def test_durations_are_the_targets_own_where_it_has_any(tmp_path: Path) -> None:
    run(tmp_path, peaks(STEPS, s=100.0), target="laptop", number=0)
    run(tmp_path, peaks(STEPS[:2], s=5.0), target="hpc", number=1)
    found = advisor(tmp_path).recommend("simulate", "hpc")
    assert found.duration_s == 5.0
    assert found.evidence["durations"] == "own target"
    assert found.memory_bytes == 390 * MIB


def test_only_the_latest_50_runs_count(tmp_path: Path) -> None:
    run(tmp_path, peaks([9 * GIB] * 40), number=0)
    for number in range(1, 51):
        run(tmp_path, peaks(STEPS[:2]), number=number)
    found = advisor(tmp_path).recommend("simulate")
    assert found.evidence["window"]["runs"] == 50
    assert found.memory_bytes == 20 * MIB


def test_the_json_has_the_keys_that_programs_rely_on(tmp_path: Path) -> None:
    run(tmp_path, peaks(STEPS))
    found = advisor(tmp_path).recommend("simulate").to_json()
    assert list(found) == ["task", "workers", "resources", "confidence", "model_type", "evidence"]
    assert {
        "runs_analyzed",
        "tasks_analyzed",
        "method",
        "percentile",
        "failures",
        "skipped",
        "window",
        "reasons",
    } <= set(found["evidence"])
    assert set(found["evidence"]["window"]) == {"from", "to", "runs", "attempts"}
    json.dumps(found)


def test_an_unknown_task_is_refused_with_those_that_are_known(tmp_path: Path) -> None:
    run(tmp_path, peaks(STEPS))
    with pytest.raises(ScalableError, match="no history of a task 'simulat'; did you mean 'simulate'"):
        advisor(tmp_path).recommend("simulat")
    with pytest.raises(ScalableError, match="known: none"):
        advisor(tmp_path / "nothing").recommend("simulate")


@pytest.mark.parametrize("confidence", [0.0, 1.0, -3.0, float("nan")])
def test_a_confidence_that_is_none_is_refused(tmp_path: Path, confidence: float) -> None:
    run(tmp_path, peaks(STEPS))
    with pytest.raises(ScalableError, match="more than 0 and less than 1"):
        advisor(tmp_path).recommend("simulate", confidence=confidence)


def test_a_retry_has_the_largest_ever_seen_or_twice_as_much(tmp_path: Path) -> None:
    run(tmp_path, peaks([*STEPS, 8 * GIB]))
    made = advisor(tmp_path)
    assert made.retry_bytes("simulate", GIB) == 8 * GIB
    assert made.retry_bytes("simulate", 8 * GIB) == 16 * GIB
    assert made.retry_bytes("simulate", 32 * GIB) == 64 * GIB


def test_what_is_observed_counts_as_if_it_had_been_read(tmp_path: Path) -> None:
    values = [random.Random(3).randrange(10 * MIB, GIB) for _ in range(200)]
    run(tmp_path, peaks(values), threads=1)
    read, told = advisor(tmp_path), fresh()
    for value in values:
        told.observe(ended(value))
    for confidence in (0.5, 0.9, 0.99):
        one, other = (made.recommend("simulate", "local", confidence=confidence) for made in (read, told))
        assert (one.memory_bytes, one.confidence) == (other.memory_bytes, other.confidence)
        assert (one.duration_s, one.duration_high_s) == (other.duration_s, other.duration_high_s)


def test_what_changed_is_believed_once_the_old_has_left_the_window() -> None:
    made = fresh()
    for _ in range(10_000):
        made.observe(ended(100 * MIB))
    for _ in range(10_000):
        made.observe(ended(50 * MIB))
    assert made.recommend("simulate").memory_bytes == 50 * MIB
    # The largest ever seen is still what a retry gets.
    assert made.retry_bytes("simulate", 60 * MIB) == 100 * MIB


def test_an_observed_lack_of_memory_is_settled_by_the_retry() -> None:
    made = fresh()
    for _ in range(100):
        made.observe(ended(100 * MIB))
    for _ in range(10):
        made.observe(ended(400 * MIB, outcome="out_of_memory"))
    assert made.recommend("simulate").memory_bytes == 800 * MIB
    for _ in range(10):
        made.observe(ended(500 * MIB))
    assert made.recommend("simulate").memory_bytes == 500 * MIB


class Counted(list[float]):
    """A list that counts how many of its values are looked at."""

    looks = 0

    def __getitem__(self, index: Any) -> Any:
        Counted.looks += 1
        return super().__getitem__(index)

    def __iter__(self) -> Iterator[float]:
        Counted.looks += len(self)
        return super().__iter__()

    def sort(self, **given: Any) -> None:
        Counted.looks += len(self)
        super().sort(**given)


def test_an_attempt_that_is_observed_and_an_answer_look_at_few_of_10_000_values() -> None:
    made = fresh()
    rng = random.Random(1)
    for _ in range(10_000):
        made.observe(ended(rng.randrange(MIB, GIB), duration_s=rng.random()))
    made.recommend("simulate", "local")
    history = made._histories["simulate"]
    for sample in (history.everywhere, history.on("local")):
        for name in ("peaks", "own_peaks", "durations", "cores"):
            setattr(sample, name, Counted(getattr(sample, name)))
    Counted.looks = 0
    made.observe(ended(rng.randrange(MIB, GIB), duration_s=rng.random()))
    made.recommend("simulate", "local")
    # Eight lists, in each of which two places are found by halving, and some more are read.
    assert 0 < Counted.looks < 500


def test_a_task_of_which_no_attempt_came_to_its_end_has_what_it_asked_for_and_a_fifth_more(tmp_path: Path) -> None:
    failed = {"outcome": "failed", "error_type": "ValueError", "asked_bytes": 5 * GIB}
    lost = {"peak": None, "outcome": "lost", "error_type": "WorkerLost", "asked_bytes": 5 * GIB}
    run(tmp_path, [failed, failed, lost])
    found = advisor(tmp_path).recommend("simulate", "local")
    assert memory(found) == 6 * GIB
    assert (found.evidence["method"], found.confidence) == ("asked plus headroom", 0)
    assert found.evidence["failures"] == {"failed": 2, "lost": 1}
    assert (found.memory_bytes, found.duration_s) == (None, None)


def test_the_json_holds_whatever_features_are(tmp_path: Path) -> None:
    run(tmp_path, peaks(STEPS))
    found = advisor(tmp_path).recommend("simulate")
    features = {"n": np.int64(3), "x": np.float32(0.5), "y": math.nan, "z": np.float64("inf"), "a": np.arange(2)}
    made = replace(found, evidence={"features": features, "when": (Path("x"), True)}, confidence=np.float64(0.5))
    data = json.loads(json.dumps(made.to_json(), allow_nan=False))
    assert data["evidence"]["features"] == {"n": 3, "x": 0.5, "y": None, "z": None, "a": [0, 1]}
    assert data["evidence"]["when"] == ["x", True]
    assert data["confidence"] == 0.5


def test_folders_are_given_as_any_kind_of_path(tmp_path: Path) -> None:
    class Folder:
        def __fspath__(self) -> str:
            return str(tmp_path)

    run(tmp_path, peaks(STEPS))
    for given in (Folder(), [Folder()], str(tmp_path)):
        assert ResourceAdvisor.from_history(given).tasks == ("simulate",)
