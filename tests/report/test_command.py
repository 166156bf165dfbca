"""``scalable report``."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from scalable.cli.report import report
from scalable.errors import ScalableError
from tests.report.runs import START, SampleRun

OLD, NEW = "run-20260520T100000Z-demeter-aaa", "run-20260521T100000Z-demeter-bbb"


@pytest.fixture
def runs_dir(tmp_path: Path) -> Path:
    SampleRun(tmp_path / "runs", OLD).end(1)
    SampleRun(tmp_path / "runs", NEW, started_at=START + 86_400).end(2)
    return tmp_path / "runs"


@pytest.mark.parametrize("options", [{}, {"latest": True}, {"last": True}, {"latest": True, "last": True}])
def test_the_newest_run_is_reported_by_default(
    runs_dir: Path, options: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    assert report(runs_dir=runs_dir, **options) == 0
    assert capsys.readouterr().out.startswith(f"Run: {NEW}\nStatus: completed\n")


def test_a_run_is_found_by_the_beginning_of_its_name(runs_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    report(runs_dir=runs_dir, run_id="run-20260520")

    assert capsys.readouterr().out.startswith(f"Run: {OLD}\n")


def test_json_goes_to_the_screen_or_into_a_file(
    runs_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    report(runs_dir=runs_dir, format="json")
    report(runs_dir=runs_dir, format="json", output=tmp_path / "report.json")

    printed = capsys.readouterr().out
    assert json.loads(printed)["run"]["run_id"] == NEW
    assert (tmp_path / "report.json").read_text() == printed


def test_a_file_that_cannot_be_written_is_one_clear_error(runs_dir: Path, tmp_path: Path) -> None:
    with pytest.raises(ScalableError, match=r"cannot write the report to .*: No such file or directory"):
        report(runs_dir=runs_dir, output=tmp_path / "nowhere" / "report.txt")


def test_one_run_and_the_newest_cannot_both_be_asked_for(runs_dir: Path) -> None:
    with pytest.raises(ScalableError, match="give one of them"):
        report(runs_dir=runs_dir, run_id=OLD, latest=True)


def test_the_runs_are_where_the_environment_says(
    runs_dir: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SCALABLE_RUNS_DIR", str(runs_dir))

    report()

    assert NEW in capsys.readouterr().out


def test_the_command_line_takes_the_documented_options(
    runs_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from cyclopts import App

    app = App(result_action="return_value")
    app.command(report, name="report")
    where: Callable[..., list[str]] = lambda *more: ["report", *more, "--runs-dir", str(runs_dir)]  # noqa: E731

    assert app(where("--latest")) == 0
    assert app(where("--last", "--format", "json")) == 0
    assert app(where("--run-id", OLD, "--output", str(tmp_path / "out.txt"))) == 0
    assert "--no-latest" not in capsys.readouterr().out
    assert (tmp_path / "out.txt").read_text().startswith(f"Run: {OLD}")
