"""Reading runs back."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

from scalable.errors import InternalError, ScalableError
from scalable.telemetry.history import find_run, list_runs, read_run
from tests.report.runs import START, SampleRun


@dataclass(frozen=True)
class Count:
    n: int


@dataclass(frozen=True)
class Key:
    key: str


def keys(run: SampleRun) -> list[str]:
    with read_run(run.path).tables() as tables:
        return [row.key for row in tables.ask("SELECT key FROM tasks", Key)]


def names(runs_dir: Path) -> list[str]:
    return [run.run_id for run in list_runs(runs_dir)]


class TestWhichRunsThereAre:
    def test_runs_are_listed_newest_first(self, tmp_path: Path) -> None:
        for day in (20, 22, 21):
            SampleRun(tmp_path, f"run-202605{day}T100000Z-x-1")

        assert names(tmp_path) == [f"run-202605{day}T100000Z-x-1" for day in (22, 21, 20)]

    def test_runs_of_one_second_are_told_apart_by_their_records(self, tmp_path: Path) -> None:
        for name, started in (("b", 0.2), ("c", 0.1), ("a", 0.3)):
            SampleRun(tmp_path, f"run-20260520T100000Z-{name}", started_at=START + started)

        assert [name[-1] for name in names(tmp_path)] == ["a", "b", "c"]

    def test_a_run_that_was_renamed_keeps_its_place(self, tmp_path: Path) -> None:
        SampleRun(tmp_path, "run-20260519T100000Z-x")
        SampleRun(tmp_path, "baseline", started_at=START)
        SampleRun(tmp_path, "run-20260521T100000Z-x")

        assert names(tmp_path) == ["run-20260521T100000Z-x", "baseline", "run-20260519T100000Z-x"]

    def test_other_folders_and_files_are_not_runs(self, tmp_path: Path) -> None:
        SampleRun(tmp_path, "run-1")
        (tmp_path / "run-20260520T100000Z-just-made").mkdir()
        (tmp_path / "notes.txt").write_text("")

        assert names(tmp_path) == ["run-1"]

    def test_a_damaged_run_does_not_hide_the_others(self, tmp_path: Path) -> None:
        SampleRun(tmp_path, "run-20260520T100000Z-x")
        (SampleRun(tmp_path, "broken").path / "run.json").write_text("{")

        assert names(tmp_path) == ["run-20260520T100000Z-x", "broken"]

    def test_a_folder_that_does_not_exist_holds_no_runs(self, tmp_path: Path) -> None:
        assert list_runs(tmp_path / "none") == []
        with pytest.raises(ScalableError, match=r"there are no runs in .*none; start one with `scalable run`"):
            find_run(tmp_path / "none")


class TestFindingARun:
    def test_the_newest_is_found_without_a_name(self, tmp_path: Path) -> None:
        SampleRun(tmp_path, "run-20260520T100000Z-x")
        SampleRun(tmp_path, "run-20260521T100000Z-x")

        assert find_run(tmp_path).path == tmp_path / "run-20260521T100000Z-x"

    def test_a_beginning_will_do_if_no_other_run_shares_it(self, tmp_path: Path) -> None:
        SampleRun(tmp_path, "run-20260520T100000Z-x")
        SampleRun(tmp_path, "run-20260521T100000Z-x")

        assert find_run(tmp_path, "run-20260520").run_id == "run-20260520T100000Z-x"
        with pytest.raises(ScalableError, match=r"2 runs in .* begin with 'run-2026052': run-20260521T"):
            find_run(tmp_path, "run-2026052")

    def test_a_whole_name_wins_over_runs_that_begin_with_it(self, tmp_path: Path) -> None:
        SampleRun(tmp_path, "base")
        SampleRun(tmp_path, "baseline")

        assert find_run(tmp_path, "base").run_id == "base"

    @pytest.mark.parametrize("unknown", ["run-20260520T100000Z-y", "", "../runs"])
    def test_an_unknown_name_is_answered_with_the_known_ones(self, tmp_path: Path, unknown: str) -> None:
        SampleRun(tmp_path, "run-20260520T100000Z-x")

        with pytest.raises(ScalableError, match=f"no run '{unknown}' in .*; newest: run-20260520T100000Z-x"):
            find_run(tmp_path, unknown)

    def test_a_name_that_is_nearly_right_is_suggested(self, tmp_path: Path) -> None:
        for day in range(10, 20):
            SampleRun(tmp_path, f"run-202605{day}T100000Z-x")

        with pytest.raises(ScalableError, match=r"and 5 more; did you mean 'run-20260510T100000Z-x'\?"):
            find_run(tmp_path, "run-20260510T100000Z-y")


class TestHowARunStands:
    def test_a_summary_tells(self, tmp_path: Path) -> None:
        history = read_run(SampleRun(tmp_path, host="elsewhere").end(12.5, "cancelled").path)

        assert (history.status, history.ended_at) == ("cancelled", START + 12.5)

    def test_without_a_summary_a_living_process_is_running(self, tmp_path: Path) -> None:
        history = read_run(SampleRun(tmp_path, pid=os.getpid(), started_at=time.time()).path)

        assert (history.status, history.ended_at) == ("running", None)

    def test_without_a_summary_a_dead_process_was_killed(self, tmp_path: Path) -> None:
        process = subprocess.Popen([sys.executable, "-c", ""])
        process.wait()

        assert read_run(SampleRun(tmp_path, pid=process.pid, started_at=time.time()).path).status == "killed"

    def test_a_process_that_died_and_was_not_waited_for_was_killed(self, tmp_path: Path) -> None:
        with subprocess.Popen([sys.executable, "-c", ""], stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            process.stdout.read()
            run = SampleRun(tmp_path, pid=process.pid, started_at=time.time())
            deadline = time.monotonic() + 10
            while read_run(run.path).status == "running" and time.monotonic() < deadline:
                time.sleep(0.01)

            assert read_run(run.path).status == "killed"
            assert process.returncode is None

    def test_a_process_that_is_younger_than_the_run_has_its_number_by_chance(self, tmp_path: Path) -> None:
        assert read_run(SampleRun(tmp_path, started_at=time.time() - 10 * 365 * 86_400).path).status == "killed"

    def test_after_a_reboot_the_run_was_killed(self, tmp_path: Path) -> None:
        assert read_run(SampleRun(tmp_path, boot_id="an earlier boot").path).status == "killed"

    def test_a_process_of_another_machine_cannot_be_asked(self, tmp_path: Path) -> None:
        assert read_run(SampleRun(tmp_path, host="elsewhere").path).status == "unknown"

    @pytest.mark.parametrize("pid", [None, -1, 0, 2**70])
    def test_a_process_that_cannot_be_does_not_run(self, tmp_path: Path, pid: int | None) -> None:
        assert read_run(SampleRun(tmp_path, pid=pid, started_at=1.0).path).status == "killed"


class TestTheFactsOfARun:
    def test_facts_and_plan_are_read(self, tmp_path: Path) -> None:
        run = SampleRun(tmp_path, objectives={"budget_usd": 5.0}).plan(demeter=3)

        history = read_run(run.path)

        assert (history.facts.project, history.facts.objectives) == ("demeter-lulcc", {"budget_usd": 5.0})
        assert history.planned["demeter"].count == 3

    def test_fields_of_later_releases_are_ignored(self, tmp_path: Path) -> None:
        run = SampleRun(tmp_path, colour="blue").end(1).task("a", "f", 0, 1, colour={"deep": ["blue"]})
        (run.path / "plan.json").write_text('{"pools": {"a": {"count": 1, "disk": 5}}, "more": []}')

        assert read_run(run.path).planned["a"].count == 1
        assert keys(run) == ["a"]

    def test_a_run_of_another_schema_is_refused(self, tmp_path: Path) -> None:
        with pytest.raises(ScalableError, match=r"newer Scalable .schema 2, this one reads 1.; pip install"):
            read_run(SampleRun(tmp_path, schema=2).path)

    @pytest.mark.parametrize(
        ("file", "text", "complaint"),
        [
            ("run.json", "{", "cannot read .*run.json: Invalid JSON"),
            ("run.json", '{"run_id": "x"}', "cannot read .*run.json: started_at: Field required"),
            ("run.json", '{"run_id": "x", "started_at": NaN}', "cannot read .*run.json: started_at"),
            ("summary.json", '{"status": "fine", "ended_at": 1}', "cannot read .*summary.json: status: Input should"),
            ("plan.json", "[]", "cannot read .*plan.json"),
        ],
    )
    def test_a_damaged_file_is_one_clear_error(self, tmp_path: Path, file: str, text: str, complaint: str) -> None:
        run = SampleRun(tmp_path)
        (run.path / file).write_text(text)

        with pytest.raises(ScalableError, match=complaint):
            read_run(run.path)

    def test_a_path_that_is_no_run_is_refused(self, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("")
        for path in (tmp_path, tmp_path / "file", tmp_path / "none"):
            with pytest.raises(ScalableError, match="is not a run's directory"):
                read_run(path)


class TestTables:
    def test_files_that_were_never_written_are_empty_tables(self, tmp_path: Path) -> None:
        with read_run(SampleRun(tmp_path).path).tables() as tables:
            for table in ("tasks", "failures", "workers", "scaling", "artifacts", "cost"):
                assert tables.ask(f"SELECT count(*) AS n FROM {table}", Count) == [Count(0)]

    def test_an_empty_file_is_an_empty_table(self, tmp_path: Path) -> None:
        assert keys(SampleRun(tmp_path).text("tasks", "")) == []

    def test_every_file_can_be_read(self, tmp_path: Path) -> None:
        run = SampleRun(tmp_path).worker("a-0", 0).scaled(1, "up").task("k", "f", 0, 1)
        run.line("failures", {"key": "k"}).line("artifacts", {"name": "map"}).line("cost", {"event": "paid"})

        with read_run(run.path).tables() as tables:
            for table in ("tasks", "failures", "workers", "scaling", "artifacts", "cost"):
                assert tables.ask(f"SELECT count(*) AS n FROM {table}", Count) == [Count(1)]

    def test_a_torn_last_line_is_skipped_wherever_it_was_torn(self, tmp_path: Path) -> None:
        whole = json.dumps({"key": "b", "name": "f", "features": {"x": [1, "é"]}})
        for length in range(0, len(whole), 5):
            run = SampleRun(tmp_path, f"run-{length}").line("tasks", {"key": "a"})
            assert keys(run.text("tasks", whole[:length])) == ["a"]

    def test_a_last_line_that_lacks_only_its_end_of_line_is_whole(self, tmp_path: Path) -> None:
        assert keys(SampleRun(tmp_path).text("tasks", '{"key":"a"}\n{"key":"b"}')) == ["a", "b"]

    def test_lines_that_are_no_records_are_skipped(self, tmp_path: Path) -> None:
        lines = '{"key":"a"}\nnull\n3\n[]\n\n{}\nwhat?\n{"key":"b","attempt":"zz"}\n'

        assert keys(SampleRun(tmp_path).text("tasks", lines)) == ["a", "b"]

    def test_lines_keep_their_order(self, tmp_path: Path) -> None:
        run = SampleRun(tmp_path)
        expected = [f"k-{index}" for index in range(50_000)]
        run.text("tasks", "".join(f'{{"key":"{key}"}}\n' for key in expected))

        assert keys(run) == expected

    def test_features_can_be_asked_for(self, tmp_path: Path) -> None:
        run = SampleRun(tmp_path).task("a", "f", 0, 1, features={"years": 30})

        with read_run(run.path).tables() as tables:
            assert tables.ask("SELECT CAST(features->'years' AS INT) AS n FROM tasks", Count) == [Count(30)]

    def test_values_are_passed_apart_from_the_question(self, tmp_path: Path) -> None:
        run = SampleRun(tmp_path).task("o'brien", "f", 0, 1).task("b", "f", 0, 1)

        with read_run(run.path).tables() as tables:
            tables.keep("mine", "SELECT * FROM tasks WHERE key = $wanted", wanted="o'brien")
            assert tables.ask("SELECT count(*) AS n FROM mine", Count) == [Count(1)]

    @pytest.mark.parametrize("folder", ["a b", "it's", "[x]", "a*b?", "key=zzz", 'é"\\', "new\nline"])
    def test_any_folder_name_will_do(self, tmp_path: Path, folder: str) -> None:
        assert keys(SampleRun(tmp_path / folder).task("a", "f", 0, 1)) == ["a"]

    def test_a_question_that_is_wrong_is_our_own_fault(self, tmp_path: Path) -> None:
        with read_run(SampleRun(tmp_path).path).tables() as tables, pytest.raises(InternalError, match="nowhere"):
            tables.ask("SELECT count(*) AS n FROM nowhere", Count)
