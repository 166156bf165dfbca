from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from scalable.errors import ScalableError
from scalable.report import build
from scalable.telemetry.aftermath import close_records
from tests.report.runs import SampleRun


def test_the_time_since_the_death_is_no_part_of_the_run(tmp_path: Path) -> None:
    run = SampleRun(tmp_path, pid=2**22 + 1).worker("demeter-0", 0).task("a-1", "a", 1, 9)
    for path in run.path.iterdir():
        os.utime(path, (run.start + 10, run.start + 10))
    assert build(run.path).status == "killed"
    close_records(run.path)
    report = build(run.path)
    assert (report.status, report.ended_at, report.tasks.completed) == ("failed", run.start + 10, 1)


def test_a_run_that_wrote_its_own_summary_keeps_it(tmp_path: Path) -> None:
    run = SampleRun(tmp_path).end(5, "cancelled")
    close_records(run.path)
    assert json.loads((run.path / "summary.json").read_text())["status"] == "cancelled"


def test_a_summary_that_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    run = SampleRun(tmp_path)
    (run.path / f".summary.json.{os.getpid()}").mkdir()
    with pytest.raises(ScalableError, match=r"cannot write .*summary\.json: Is a directory"):
        close_records(run.path)
