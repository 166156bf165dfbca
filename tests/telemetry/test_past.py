"""Reading what past runs measured."""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pytest

from scalable import ScalableSession
from scalable.report import build
from scalable.telemetry.history import find_run, list_runs
from scalable.telemetry.kept import AttemptTable
from scalable.telemetry.past import COMPLETED, FAILED, LOST, OUT_OF_MEMORY, Attempts, Past, read_past
from scalable.telemetry.probe import Submission, TaskProbe
from scalable.telemetry.recorder import Recorder
from scalable_snakemake.facts import features_of as features_of_job
from tests.report.runs import START, SampleRun

MiB = 2**20
NOBODY = 2**22 + 1


def ended(runs_dir: Path, run_id: str = "run-a", count: int = 1, **facts: Any) -> SampleRun:
    run = SampleRun(runs_dir, run_id, **facts)
    for index in range(count):
        run.task(f"f-{index}", "f", index, 1.0 + index)
    return run.end(100)


def everything(past: Past) -> list[Any]:
    """Return all that a snapshot says, in a form that can be compared."""
    rows = []
    for task in past.tasks:
        attempts = past.of(task)
        columns = [getattr(attempts, name).tolist() for name in Attempts.__slots__ if name not in {"name", "features"}]
        rows.append((task, str(columns), list(attempts.features)))
    return [past.runs, past.skipped, past.fingerprint, rows]


@pytest.fixture
def parsed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the runs whose lines are parsed from here on."""
    names: list[str] = []
    parse = AttemptTable.parse

    def spy(self: AttemptTable, files: Mapping[int, Path]) -> set[int]:
        names.extend(path.parent.name for path in files.values())
        return parse(self, files)

    monkeypatch.setattr(AttemptTable, "parse", spy)
    return names


class TestAttempts:
    def test_an_attempt_has_what_was_measured_and_what_was_known_before(self, tmp_path: Path) -> None:
        more = {"n_inputs": 3, "input_bytes": 7, "threads": 2, "features": {"years": 30}, "cpu_s": 1.5, "n_args": 4}
        SampleRun(tmp_path).task("f-1", "f", 1, 2.0, **more).end(9)
        attempts = read_past(tmp_path).of("f")

        assert (attempts.name, len(attempts), attempts.run.tolist()) == ("f", 1, [0])
        assert (attempts.started_at[0], attempts.ended_at[0], attempts.duration_s[0]) == (START + 1, START + 3, 2.0)
        assert (attempts.peak_bytes[0], attempts.asked_bytes[0], attempts.exclusive[0]) == (100 * MiB, 2**30, True)
        assert (attempts.n_inputs[0], attempts.input_bytes[0], attempts.threads[0]) == (3, 7, 2)
        assert (attempts.cpu_s[0], attempts.n_args[0], attempts.arg_bytes[0]) == (1.5, 4, 28)
        assert (attempts.component[0], attempts.outcome[0]) == ("demeter", COMPLETED)
        assert list(attempts.features) == [{"years": 30}]

    def test_one_that_ran_out_of_memory_tells_something_if_only_what_it_had_is_known(self, tmp_path: Path) -> None:
        nothing = {"peak_bytes": None, "outcome": "failed"}
        out = {**nothing, "error_type": "TaskOutOfMemory"}
        run = SampleRun(tmp_path).task("f-1", "f", 1, None, **out, asked_bytes=5 * MiB)
        run.task("f-2", "f", 2, None, **out, worker="demeter+3-0", asked_bytes=5 * MiB)
        run.task("f-3", "f", 3, None, **out, asked_bytes=None).task("f-4", "f", 4, None, **nothing)
        run.task("f-5", "f", 5, None, **out | {"peak_bytes": MiB}, asked_bytes=None).end(9)
        for _ in ("parsed", "kept"):
            attempts = read_past(tmp_path).of("f")
            assert attempts.asked_bytes.tolist()[:2] == [5 * MiB, 8 * MiB]
            assert attempts.outcome.tolist() == [OUT_OF_MEMORY] * 3
            assert np.isnan(attempts.peak_bytes).tolist() == [True, True, False]

    def test_what_this_package_ran_for_itself_is_not_learned_from(self, tmp_path: Path) -> None:
        run = SampleRun(tmp_path).task("f-1", "f", 1, 2.0)
        run.task("a-1", "batch_of_scalable_internal_score_1_calls", 1, 2.0).end(9)
        past = read_past(tmp_path)

        assert (past.tasks, past.skipped) == (("f",), {})

    def test_columns_have_the_same_kinds_whether_there_are_attempts_or_none(self, tmp_path: Path) -> None:
        ended(tmp_path)
        some, none = read_past(tmp_path).of("f"), read_past(tmp_path).of("g")

        for name in Attempts.__slots__:
            if name not in {"name", "features"}:
                assert getattr(some, name).dtype == getattr(none, name).dtype
        assert some.duration_s.dtype == np.float64
        assert some.run.dtype == np.int32
        assert some.outcome.dtype == np.int8

    def test_attempts_are_in_the_order_of_their_end(self, tmp_path: Path) -> None:
        SampleRun(tmp_path, "run-b", started_at=START + 50).task("f-9", "f", 0, 4.0).end(9)
        SampleRun(tmp_path, "run-a").task("f-1", "f", 5, 3.0).task("f-2", "f", 0, 2.0).end(9)
        past = read_past(tmp_path)

        assert past.of("f").duration_s.tolist() == [2.0, 3.0, 4.0]
        assert [past.runs[number].run_id for number in past.of("f").run] == ["run-a", "run-a", "run-b"]

    def test_of_a_task_that_never_ran_there_are_none(self, tmp_path: Path) -> None:
        ended(tmp_path)
        for past in (read_past(tmp_path), read_past(tmp_path / "nowhere"), Past()):
            nothing = past.of("g", "local")
            assert (len(nothing), list(nothing.features), nothing.component.tolist()) == (0, [], [])
            assert len(nothing.where(np.zeros(0, dtype=bool))) == 0

    def test_they_can_be_had_for_one_target(self, tmp_path: Path) -> None:
        ended(tmp_path, "run-a", 2, target="local")
        ended(tmp_path, "run-b", 3, target="hpc")
        past = read_past(tmp_path)

        assert [len(past.of("f", target)) for target in (None, "local", "hpc", "moon")] == [5, 2, 3, 0]

    def test_some_of_them_are_as_good_as_all(self, tmp_path: Path) -> None:
        run = SampleRun(tmp_path)
        for index in range(4):
            run.task(f"f-{index}", "f", index, float(index), features={"n": index})
        run.end(9)
        attempts = read_past(tmp_path).of("f")

        some = attempts.where(attempts.duration_s >= 2)
        assert (some.duration_s.tolist(), list(some.features)) == ([2.0, 3.0], [{"n": 2}, {"n": 3}])
        assert some.where(np.array([1])).features[0] == {"n": 3}
        by_hand = Attempts(**{n: getattr(attempts, n) for n in Attempts.__slots__} | {"features": [{"n": 9}] * 4})
        assert list(by_hand.where(np.array([0, 1])).features) == [{"n": 9}] * 2

    def test_tasks_are_named_the_most_frequent_first(self, tmp_path: Path) -> None:
        run = SampleRun(tmp_path)
        for index, name in enumerate("cabbaa"):
            run.task(f"k-{index}", name, index, 1.0)
        run.end(9)

        assert read_past(tmp_path).tasks == ("a", "b", "c")


class TestWhatBecameOfThem:
    def test_failures_of_memory_are_told_from_others(self, tmp_path: Path) -> None:
        run = SampleRun(tmp_path).task("f-1", "f", 1, 1.0)
        run.task("f-2", "f", 2, 1.0, outcome="failed", error_type="ValueError")
        run.task("f-3", "f", 3, None, outcome="failed", error_type="TaskOutOfMemory")
        run.task("f-4", "f", 4, None, outcome="lost", error_type="WorkerLost").end(9)

        assert read_past(tmp_path).of("f").outcome.tolist() == [COMPLETED, FAILED, OUT_OF_MEMORY, LOST]

    def test_what_was_cancelled_or_measured_nothing_is_left_out(self, tmp_path: Path) -> None:
        run = SampleRun(tmp_path).task("f-1", "f", 1, 1.0, outcome="cancelled")
        run.task("f-2", "f", 2, None, peak_bytes=None).task("f-3", "f", 3, 7.0, peak_bytes=None)
        run.task("g-1", "g", 3, None, peak_bytes=None).end(9)
        past = read_past(tmp_path)

        assert past.of("f").duration_s.tolist() == [7.0]
        assert (past.tasks, past.skipped) == (("f",), {})

    def test_an_attempt_in_a_larger_pool_had_more_memory(self, tmp_path: Path) -> None:
        run = SampleRun(tmp_path).task("f-1", "f", 1, 1.0, worker="sim-2025-1", asked_bytes=MiB)
        run.task("f-2", "f", 2, 1.0, worker="sim-2025+400-12", asked_bytes=MiB)
        run.task("f-3", "f", 3, 1.0, worker="sim-2025+800-1~-0", asked_bytes=MiB)
        run.task("f-4", "f", 4, 1.0, worker="sim+400-0", asked_bytes=None).end(9)

        asked = read_past(tmp_path).of("f").asked_bytes / MiB
        assert asked[:3].tolist() == [1, 401, 801]
        assert np.isnan(asked[3])

    @pytest.mark.parametrize("value", [-1.0, 1e300, float("nan"), float("inf"), -float("inf"), "much", None, [1]])
    @pytest.mark.parametrize("column", ["peak_bytes", "duration_s", "cpu_s", "asked_bytes", "arg_bytes", "input_bytes"])
    def test_what_cannot_be_true_is_not_known(self, tmp_path: Path, column: str, value: Any) -> None:
        SampleRun(tmp_path).task("f-1", "f", 1, 1.0).task("f-2", "f", 2, 1.0, **{column: value}).end(9)
        past = read_past(tmp_path)

        assert np.isnan(getattr(past.of("f"), column)).any()
        assert not [name for name in ("n_args", "threads", "n_inputs") if (getattr(past.of("f"), name) < 0).any()]

    @pytest.mark.parametrize("value", [-1, 0, 1e300, float("nan"), "two", None])
    def test_a_task_takes_one_thread_at_least(self, tmp_path: Path, value: Any) -> None:
        SampleRun(tmp_path).task("f-1", "f", 1, 1.0, threads=value).end(9)
        assert read_past(tmp_path).of("f").threads.tolist() == [1]


class TestFeatures:
    @pytest.mark.parametrize("value", [None, [1], "{}", 3, True, {}])
    def test_what_is_no_object_is_none(self, tmp_path: Path, value: Any) -> None:
        SampleRun(tmp_path).task("f-1", "f", 1, 1.0, features=value).end(9)
        assert list(read_past(tmp_path).of("f").features) == [{}]

    def test_they_come_back_as_they_were(self, tmp_path: Path) -> None:
        given = {"x": [1, {"y": "é\n\"'"}], "wildcards.sample": "ä", "big": 10**30, "empty": ""}
        SampleRun(tmp_path).task("f-1", "f", 1, 1.0, features=given).task("f-2", "f", 2, 1.0).end(9)
        features = read_past(tmp_path).of("f").features

        assert (features[0], features[1], features[0:1], len(features)) == (given, {}, (given,), 2)

    def test_one_that_python_cannot_read_does_not_cost_the_others(self, tmp_path: Path) -> None:
        deep = '{"x":' + "[" * 100_000 + "]" * 100_000 + "}"
        run = SampleRun(tmp_path).task("f-1", "f", 1, 1.0, features={"n": 1})
        for key, text in (("f-2", deep), ("f-3", '{"x":nan}')):
            line = {"key": key, "name": "f", "duration_s": 1, "outcome": "completed", "ended_at": START + 9}
            run.text("tasks", json.dumps(line)[:-1] + f',"features":{text}}}\n')
        run.end(9)
        features = list(read_past(tmp_path).of("f").features)

        assert {"n": 1} in features
        assert all(isinstance(one, dict) for one in features)


class TestRuns:
    def test_a_run_has_its_facts_its_plan_and_what_its_workers_were_like(self, tmp_path: Path) -> None:
        run = SampleRun(tmp_path, "run-a", project="p", target="t", provider="slurm").plan(demeter=2)
        run.worker("demeter-0", 1, threads=4, startup_s=10.0).worker("demeter-1", 1, threads=4, startup_s=30.0)
        run.worker("demeter-2", 2, threads=4, startup_s=11.0).worker("post-0", 1, threads=2).end(7, "failed")
        (past,) = read_past(tmp_path).runs

        assert (past.run_id, past.path, past.status) == ("run-a", run.path, "failed")
        assert (past.project, past.target, past.provider) == ("p", "t", "slurm")
        assert (past.started_at, past.ended_at) == (START, START + 7)
        assert (past.planned["demeter"].count, past.planned["demeter"].memory_bytes) == (2, 2**30)
        assert past.threads == {"demeter": 4, "post": 2}
        assert past.startup_s == {"demeter": 11.0}

    def test_only_runs_that_have_ended_are_learned_from(self, tmp_path: Path) -> None:
        ended(tmp_path, "run-whole")
        SampleRun(tmp_path, "run-now", started_at=time.time()).task("f-1", "f", 1, 1.0)
        SampleRun(tmp_path, "run-dead", pid=NOBODY).task("f-1", "f", 1, 1.0)
        SampleRun(tmp_path, "run-far", host="another").task("f-1", "f", 1, 1.0)
        closed = ended(tmp_path, "run-closed", pid=NOBODY).path / "summary.json"
        closed.write_text(json.dumps(json.loads(closed.read_text()) | {"killed": True}))
        past = read_past(tmp_path)

        assert [run.run_id for run in past.runs] == ["run-whole"]
        assert past.skipped == {"running": 1, "killed": 2, "unknown": 1}
        assert len(past.of("f")) == 1

    def test_a_run_of_a_newer_version_or_one_that_is_damaged_is_left_out(self, tmp_path: Path) -> None:
        ended(tmp_path, "run-whole")
        ended(tmp_path, "run-newer", schema=99)
        (ended(tmp_path, "run-no-facts").path / "run.json").write_text("{")
        (ended(tmp_path, "run-no-end").path / "summary.json").write_text("[]")
        (ended(tmp_path, "run-no-plan").path / "plan.json").write_text("?")
        lines = ended(tmp_path, "run-no-lines").path / "tasks.jsonl"
        lines.unlink()
        lines.mkdir()
        for _ in range(2):
            past = read_past(tmp_path)
            assert [run.run_id for run in past.runs] == ["run-whole"]
            assert past.skipped == {"newer": 1, "unreadable": 4}

    def test_lines_that_are_torn_or_of_another_kind_are_counted(self, tmp_path: Path) -> None:
        run = ended(tmp_path, "run-a", 2)
        run.text("tasks", 'null\n3\n[]\n\n{}\nwhat?\n{"key":"x"}\n{"key":"x","name":"f","outcome":"new"}\n')
        with (run.path / "tasks.jsonl").open("ab") as out:
            out.write(b'\xff\xfe\n\0\0\0\n{"key":"f-9","name":"f","dura')
        ended(tmp_path, "run-b", 1)
        for _ in range(2):
            past = read_past(tmp_path)
            assert len(past.of("f")) == 3
            assert past.skipped == {"torn": 10}

    def test_one_line_that_cannot_be_read_at_all_costs_its_own_run_only(self, tmp_path: Path) -> None:
        ended(tmp_path, "run-a")
        ended(tmp_path, "run-b").text("tasks", '{"key":"' + "x" * 40_000_000 + '"}\n')
        past = read_past(tmp_path)

        assert ([run.run_id for run in past.runs], past.skipped) == (["run-a"], {"unreadable": 1})

    def test_workers_that_cannot_be_read_cost_only_what_they_would_have_told(self, tmp_path: Path) -> None:
        (ended(tmp_path, "run-a").worker("demeter-0", 0).path / "workers.jsonl").write_bytes(b"\0\n{}\nnonsense")
        ended(tmp_path, "run-b").worker("demeter-0", 0)
        past = read_past(tmp_path)

        assert [run.threads for run in past.runs] == [{}, {"demeter": 1}]
        assert len(past.of("f")) == 2

    def test_a_run_without_tasks_is_a_run(self, tmp_path: Path) -> None:
        SampleRun(tmp_path).end(1)
        for _ in range(2):
            assert len(read_past(tmp_path).runs) == 1

    def test_several_folders_are_one_history(self, tmp_path: Path) -> None:
        ended(tmp_path / "mine", "run-a", 1)
        ended(tmp_path / "theirs", "run-b", 2, started_at=START + 1)
        (tmp_path / "link").symlink_to(tmp_path / "mine")
        past = read_past([tmp_path / "mine", str(tmp_path / "theirs"), tmp_path / "link", tmp_path / "none"])

        assert [run.run_id for run in past.runs] == ["run-a", "run-b"]
        assert past.of("f").run.tolist() == [0, 1, 1]
        assert past.skipped == {}

    def test_a_copy_of_a_run_is_not_counted_twice(self, tmp_path: Path) -> None:
        for folder in ("here", "copy"):
            ended(tmp_path / folder, "run-a", 2)
        ended(tmp_path / "copy", "run-b", 1, started_at=START + 1)
        for _ in range(2):
            past = read_past([tmp_path / "here", tmp_path / "copy"])
            assert past.of("f").run.tolist() == [0, 1, 0]
            assert past.skipped == {"repeated": 1}

    @pytest.mark.parametrize("folder", ["a b", "it's", "[x]", "a*b?", "key=zzz", 'é"\\', "new\nline", "run=3"])
    def test_any_folder_name_will_do(self, tmp_path: Path, folder: str, parsed: list[str]) -> None:
        ended(tmp_path / folder, "run-a")
        first, second = read_past(tmp_path / folder), read_past(tmp_path / folder)

        assert everything(first) == everything(second)
        assert (len(second.of("f")), parsed) == (1, ["run-a"])

    def test_what_was_recorded_before_there_were_these_columns_can_be_read(self, tmp_path: Path) -> None:
        run = SampleRun(tmp_path)
        line = {"key": "f-1", "name": "f", "worker": None, "ended_at": START, "duration_s": 1, "outcome": "completed"}
        run.line("tasks", line | {"features": {"input_files": 2, "input_bytes": 8}}).line("tasks", line | {"name": "g"})
        past = read_past(run.end(1).path.parent)

        assert (past.of("f").n_inputs[0], past.of("f").input_bytes[0]) == (2, 8)
        assert (past.of("g").n_inputs[0], past.of("g").threads[0]) == (0, 1)
        assert np.isnan(past.of("g").input_bytes[0])
        assert np.isnan(past.of("g").peak_bytes[0])


class TestWhatIsKept:
    def test_only_runs_that_are_new_are_parsed(self, tmp_path: Path, parsed: list[str]) -> None:
        ended(tmp_path, "run-a", 2)
        ended(tmp_path, "run-b")
        read_past(tmp_path)
        assert sorted(parsed) == ["run-a", "run-b"]
        ended(tmp_path, "run-c", started_at=START + 1)
        assert len(read_past(tmp_path).of("f")) == 4
        assert sorted(parsed) == ["run-a", "run-b", "run-c"]

    def test_another_process_finds_it_too(self, tmp_path: Path, parsed: list[str]) -> None:
        ended(tmp_path, "run-a", 2)
        program = f"from scalable.telemetry.past import read_past; read_past({str(tmp_path)!r})"
        subprocess.run([sys.executable, "-c", program], check=True, timeout=60)

        assert len(read_past(tmp_path).of("f")) == 2
        assert parsed == []

    def test_it_says_the_same_as_the_records_themselves(self, tmp_path: Path) -> None:
        for name in ("run-a", "run-b", "run-c"):
            run = ended(tmp_path, name, 5).plan(demeter=1).worker("demeter-0", 0, threads=3, startup_s=2.5)
            run.task("g", "g", 1, None, peak_bytes=7, component=None, tag=None, features={"a": "b"})
            run.text("tasks", "torn")
        first, second, fresh = read_past(tmp_path), read_past(tmp_path), read_past(tmp_path, keep=False)

        assert everything(first) == everything(second) == everything(fresh)
        assert first.skipped == {"torn": 3}

    def test_nothing_is_kept_where_that_is_not_wanted(self, tmp_path: Path, parsed: list[str]) -> None:
        ended(tmp_path)
        for _ in range(2):
            read_past(tmp_path, keep=False)
        assert [path.name for path in tmp_path.iterdir()] == ["run-a"]
        assert parsed == ["run-a", "run-a"]

    @pytest.mark.parametrize("file", ["run.json", "summary.json", "tasks.jsonl", "workers.jsonl", "plan.json"])
    def test_a_run_that_has_changed_is_parsed_again(self, tmp_path: Path, parsed: list[str], file: str) -> None:
        run = ended(tmp_path).plan(demeter=1).worker("demeter-0", 0)
        before = read_past(tmp_path)
        with (run.path / file).open("a") as out:
            out.write("\n")
        after = read_past(tmp_path)

        assert parsed == ["run-a", "run-a"]
        assert before.fingerprint != after.fingerprint
        assert len(list((tmp_path / ".past").iterdir())) == 1

    def test_the_fingerprint_is_that_of_what_is_read(self, tmp_path: Path) -> None:
        ended(tmp_path)
        first = read_past(tmp_path).fingerprint
        SampleRun(tmp_path, "run-now").task("f-1", "f", 1, 1.0)
        assert read_past(tmp_path).fingerprint == first
        ended(tmp_path, "run-b")
        assert read_past(tmp_path).fingerprint != first

    def test_what_is_damaged_is_read_anew(self, tmp_path: Path, parsed: list[str]) -> None:
        for name in ("run-a", "run-b", "run-c", "run-d"):
            ended(tmp_path, name, 2)
        whole = everything(read_past(tmp_path))
        kept = sorted((tmp_path / ".past").iterdir())
        kept[0].write_bytes(kept[0].read_bytes()[:-20])
        kept[1].write_bytes(b"")
        duckdb.sql("SELECT 1 AS x").write_parquet(str(kept[2]))
        parsed.clear()

        assert everything(read_past(tmp_path)) == whole
        assert sorted(parsed) == ["run-a", "run-b", "run-c"]
        parsed.clear()
        assert everything(read_past(tmp_path)) == whole
        assert parsed == []

    def test_one_without_what_is_known_of_the_run_is_read_anew(self, tmp_path: Path, parsed: list[str]) -> None:
        ended(tmp_path, count=3)
        whole = everything(read_past(tmp_path))
        (kept,) = (tmp_path / ".past").iterdir()
        duckdb.sql(f"SELECT * FROM read_parquet('{kept}') WHERE head IS NULL").write_parquet(str(kept) + ".new")
        Path(str(kept) + ".new").replace(kept)

        assert everything(read_past(tmp_path)) == whole
        assert parsed == ["run-a", "run-a"]

    @pytest.mark.parametrize("mode", [0o770, 0o707])
    def test_what_others_could_have_kept_is_not_used(self, tmp_path: Path, parsed: list[str], mode: int) -> None:
        ended(tmp_path)
        read_past(tmp_path)
        folder = tmp_path / ".past"
        assert folder.stat().st_mode & 0o077 == 0
        folder.chmod(mode)
        parsed.clear()
        assert len(read_past(tmp_path).of("f")) == 1
        assert parsed == ["run-a"]

    def test_a_link_in_the_place_of_what_is_kept_is_not_followed(self, tmp_path: Path) -> None:
        ended(tmp_path / "runs")
        (tmp_path / "elsewhere").mkdir()
        (tmp_path / "runs" / ".past").symlink_to(tmp_path / "elsewhere")
        assert len(read_past(tmp_path / "runs").of("f")) == 1
        assert not list((tmp_path / "elsewhere").iterdir())

    def test_what_is_of_no_use_any_more_is_removed_and_nothing_else(self, tmp_path: Path) -> None:
        run = ended(tmp_path, "run-a")
        ended(tmp_path, "run-b")
        read_past(tmp_path)
        folder = tmp_path / ".past"
        old, young = folder / ".old.draft", folder / ".young.draft"
        other, notes = folder / f"run-b-99-{'0' * 16}.parquet", folder / "notes.txt"
        for path in (old, young, other, notes):
            path.touch()
        os.utime(old, (0, 0))
        for path in run.path.iterdir():
            path.unlink()
        run.path.rmdir()
        read_past(tmp_path)

        left = sorted(path.name for path in folder.iterdir())
        assert left[:3] == [young.name, "notes.txt", left[2]]
        assert left[2].startswith("run-b-2-")
        assert left[3:] == [other.name]

    def test_a_folder_that_cannot_be_written_to_is_read_each_time(self, tmp_path: Path, parsed: list[str]) -> None:
        ended(tmp_path)
        (tmp_path / ".past").write_text("in the way")
        for _ in range(2):
            assert len(read_past(tmp_path).of("f")) == 1
        assert parsed == ["run-a", "run-a"]

    @pytest.mark.skipif(os.geteuid() == 0, reason="nothing is read-only to the superuser")
    def test_a_folder_that_is_read_only_is_read_each_time(self, tmp_path: Path) -> None:
        ended(tmp_path)
        tmp_path.chmod(0o500)
        try:
            assert len(read_past(tmp_path).of("f")) == 1
        finally:
            tmp_path.chmod(0o700)

    def test_several_may_read_at_once(self, tmp_path: Path) -> None:
        for number in range(8):
            ended(tmp_path, f"run-{number}", 20, started_at=START + number)
        program = f"""
from scalable.telemetry.past import read_past
for _ in range(5):
    past = read_past({str(tmp_path)!r})
    assert len(past.of("f")) == 160, len(past.of("f"))
"""
        with ThreadPoolExecutor(4) as pool:
            readers = [pool.submit(_run, program) for _ in range(3)]
            for number in range(20):
                # As somebody does whose records have just changed.
                for path in (tmp_path / ".past").glob("run-*"):
                    path.unlink(missing_ok=True)
                assert len(read_past(tmp_path).of("f")) == 160, number
            assert [reader.result() for reader in readers] == [""] * 3
        assert not list((tmp_path / ".past").glob(".*"))

    def test_those_who_look_for_runs_do_not_see_it(self, tmp_path: Path) -> None:
        run = ended(tmp_path)
        read_past(tmp_path)

        assert [ref.run_id for ref in list_runs(tmp_path)] == ["run-a"]
        assert find_run(tmp_path).path == run.path
        assert build(run.path).tasks.completed == 1

    def test_a_snapshot_can_be_sent_to_another_process(self, tmp_path: Path) -> None:
        ended(tmp_path, count=3)
        past = read_past(tmp_path)
        assert everything(pickle.loads(pickle.dumps(past))) == everything(past)


def _run(program: str) -> str:
    command = [sys.executable, "-c", program]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False).stderr


class _State:
    def __init__(self, required: Mapping[str, float] | None) -> None:
        self.resource_restrictions = required
        self.metadata, self.retries = None, 0


class _Scheduler:
    def __init__(self, required: Mapping[str, float] | None) -> None:
        self.tasks = {"f-1": _State(required)}


@pytest.fixture
def recorded(tmp_path: Path) -> Callable[..., Attempts]:
    def record(required: Mapping[str, float] | None, **known: Any) -> Attempts:
        run = SampleRun(tmp_path, "facts")
        recorder = Recorder(tmp_path / "run-a")
        probe = TaskProbe(recorder)
        probe._scheduler = _Scheduler(required)  # type: ignore[assignment]
        probe.register("f-1", Submission("f", "demeter", {}, 1, 28, None, START, **known))
        spans = [{"action": "compute", "start": START, "stop": START + 1}]
        probe.transition("f-1", "processing", "memory", startstops=spans)
        recorder.finish("completed", {})
        (run.path / "run.json").replace(tmp_path / "run-a" / "run.json")
        return read_past(tmp_path).of("f")

    return record


class TestWhatIsRecorded:
    @pytest.mark.parametrize(
        ("required", "threads"),
        [(None, 1), ({}, 1), ({"demeter": 1.0}, 1), ({"threads": 3.0}, 3), ({"threads": 0.5}, 1)],
    )
    def test_the_threads_that_a_task_took(
        self, recorded: Callable[..., Attempts], required: Mapping[str, float] | None, threads: int
    ) -> None:
        assert recorded(required).threads.tolist() == [threads]

    def test_number_and_size_of_its_input_files(self, recorded: Callable[..., Attempts]) -> None:
        attempts = recorded(None, n_inputs=3, input_bytes=10**12)
        assert (attempts.n_inputs[0], attempts.input_bytes[0]) == (3, 1e12)

    def test_the_columns_of_a_run_that_was_recorded_here(self, manifest: Callable[..., Path], tmp_path: Path) -> None:
        with ScalableSession.from_yaml(manifest(), target="threads") as session:
            client = session.start()
            known = {"input_files": 2, "input_bytes": 5e9, "years": 30}
            client.submit(pow, 2, 3, tag="postprocess", capabilities={"threads": 2}, features=known).result()
            client.submit(pow, 2, 4, tag="simulate", features={"input_bytes": "5G", "input_files": -1}).result()
            client.submit(pow, 2, 5, tag="simulate").result()
        past = read_past(tmp_path / "runs")
        big, other, plain = (past.of("pow").where(np.array([place])) for place in range(3))

        assert (big.n_inputs[0], big.input_bytes[0], big.threads[0], big.n_args[0]) == (2, 5e9, 2, 2)
        assert (big.component[0], big.features[0], big.outcome[0]) == ("postprocess", known, COMPLETED)
        assert big.peak_bytes[0] > MiB
        assert (other.n_inputs[0], np.isnan(other.input_bytes[0]), other.threads[0]) == (0, True, 1)
        assert (plain.features[0], plain.asked_bytes[0]) == ({}, 2**30)
        assert past.runs[0].threads == {"simulate": 1, "postprocess": 2}


class _Job:
    """A job of Snakemake's, as far as telemetry looks at it."""

    threads, attempt = 2, 1
    resources: Mapping[str, Any] = {}

    def __init__(self, *files: object, jobs: tuple[_Job, ...] = (), **wildcards: str) -> None:
        self.input = [str(file) for file in files]
        self.jobs = jobs
        self.wildcards_dict = wildcards

    def is_group(self) -> bool:
        return bool(self.jobs)


class TestWhatEnginesKnow:
    def test_a_job_of_snakemake_has_the_size_of_its_files_and_its_wildcards(self, tmp_path: Path) -> None:
        (tmp_path / "a").write_bytes(b"12345")
        known = features_of_job(_Job(tmp_path / "a", tmp_path / "not there", "bad\0name", sample="A", part="1"))

        assert (known["input_files"], known["input_bytes"], known["threads"]) == (3, 5, 2)
        assert (known["wildcards.sample"], known["wildcards.part"]) == ("A", "1")

    def test_a_group_has_the_wildcards_on_which_its_jobs_agree(self) -> None:
        known = features_of_job(_Job(jobs=(_Job(sample="A", part="1"), _Job(sample="A", part="2"), _Job())))

        assert known["wildcards.sample"] == "A"
        assert "wildcards.part" not in known

    @pytest.mark.engine
    def test_a_call_of_prefect_has_its_small_parameters_and_no_secrets(self) -> None:
        from scalable_prefect.payload import features_of

        small = {"n": 3, "x": 0.5, "fast": True, "name": "a" * 64}
        rest = {"long": "a" * 65, "data": [1], "inf": float("inf"), "none": None, "odd": np.float64(1)}
        assert features_of(small | rest | {"api_key": "a", "Password": "b"}) == small
