"""`scalable ps`."""

from __future__ import annotations

import json
import re
import time
from pathlib import Path
from typing import Any

import pytest

from scalable.cli import main
from scalable.telemetry.owner import Owner
from tests.cli.batch import ELSEWHERE, NEW, OLD, FakeSlurm, dead
from tests.report.runs import START, SampleRun


@pytest.fixture
def runs_dir(tmp_path: Path) -> Path:
    return tmp_path / "runs"


def on_slurm(runs_dir: Path, run_id: str = NEW, **facts: Any) -> SampleRun:
    return SampleRun(runs_dir, run_id, provider="slurm", target="hpc", **facts)


def died(runs_dir: Path, run_id: str = NEW, **facts: Any) -> SampleRun:
    return on_slurm(runs_dir, run_id, pid=dead().pid, **facts)


def test_a_run_under_way_is_shown_with_its_jobs_and_what_they_wait_for(
    runs_dir: Path, fake_slurm: FakeSlurm, capsys: pytest.CaptureFixture[str]
) -> None:
    on_slurm(runs_dir, started_at=time.time())
    end = str(int(time.time()) + 3600 + 30)
    fake_slurm.job("17", NEW, Owner.mine(), end=end)
    fake_slurm.job("18_[0-1]", NEW, Owner.mine(), state="PENDING", reason="QOSMaxJobsPerUserLimit")
    fake_slurm.job("16", NEW, Owner.mine(), state="OUT_OF_MEMORY")
    assert main(["ps"]) == 0
    assert re.sub(r"1h00m\d\ds", "1h00m..s", capsys.readouterr().out).splitlines() == [
        "RUN                                    PROVIDER/TARGET  STATE",
        f"{NEW}  slurm/hpc        running",
        "  JOB   POOL      STATE    REASON                  NODE  ENDS",
        "  17    simulate  RUNNING  -                       n1    in 1h00m..s",
        "  18_0  simulate  PENDING  QOSMaxJobsPerUserLimit  -     -",
        "  18_1  simulate  PENDING  QOSMaxJobsPerUserLimit  -     -",
    ]


def test_slurm_is_asked_once_however_many_runs_there_are(runs_dir: Path, fake_slurm: FakeSlurm) -> None:
    died(runs_dir, OLD)
    died(runs_dir, NEW)
    assert main(["ps"]) == 0
    assert len(fake_slurm.calls) == 1


def test_dead_runs_and_those_of_other_machines_are_told_apart(
    runs_dir: Path, fake_slurm: FakeSlurm, capsys: pytest.CaptureFixture[str]
) -> None:
    died(runs_dir, NEW)
    on_slurm(runs_dir, OLD, host="login2.elsewhere")
    main(["ps"])
    assert [line.split()[2:] for line in capsys.readouterr().out.splitlines()[1:]] == [
        ["dead"],
        ["elsewhere:", "login2.elsewhere"],
    ]


def test_runs_that_only_the_queue_knows_are_judged_by_their_comments(
    fake_slurm: FakeSlurm, capsys: pytest.CaptureFixture[str]
) -> None:
    names = [f"run-20260520T10000{number}Z-demeter-0a0a0a0a" for number in range(4)]
    for number, owner in enumerate((Owner.mine(), dead(), ELSEWHERE)):
        fake_slurm.job(str(number), names[number], owner)
    fake_slurm.job("3", names[3], ELSEWHERE, mark="a comment of the site")
    main(["ps", "--format", "json"])
    runs = json.loads(capsys.readouterr().out)["runs"]
    assert [(run["run_id"], run["state"]) for run in runs] == list(
        zip(reversed(names), ["unknown", "elsewhere", "dead", "running"], strict=True)
    )
    assert runs[2]["path"] is None


def test_a_run_that_ended_and_left_a_job_is_shown(
    runs_dir: Path, fake_slurm: FakeSlurm, capsys: pytest.CaptureFixture[str]
) -> None:
    on_slurm(runs_dir, OLD).end(1)
    on_slurm(runs_dir, NEW).end(1)
    fake_slurm.job("7", OLD, dead(), state="COMPLETING")
    main(["ps"])
    out = capsys.readouterr().out
    assert OLD in out
    assert NEW not in out


def test_all_shows_runs_and_jobs_that_ended(
    runs_dir: Path, fake_slurm: FakeSlurm, capsys: pytest.CaptureFixture[str]
) -> None:
    on_slurm(runs_dir).end(1, "failed")
    fake_slurm.job("7", NEW, Owner.mine(), state="TIMEOUT")
    main(["ps"])
    assert "no runs are under way" in capsys.readouterr().out
    main(["ps", "--all", "--format", "json"])
    (run,) = json.loads(capsys.readouterr().out)["runs"]
    assert (run["state"], run["jobs"][0]["state"]) == ("failed", "TIMEOUT")


def test_as_json_a_job_has_all_that_is_known(
    runs_dir: Path, fake_slurm: FakeSlurm, capsys: pytest.CaptureFixture[str]
) -> None:
    on_slurm(runs_dir, started_at=time.time())
    fake_slurm.job("17_3", NEW, Owner.mine(), end="1795268693", reason="None")
    main(["ps", "--format", "json"])
    found = json.loads(capsys.readouterr().out)
    assert found["jobs_known"] is True
    assert found["runs"][0]["jobs"] == [
        {
            "job_id": "17_3",
            "pool": "simulate",
            "state": "RUNNING",
            "reason": "",
            "node": "n1",
            "ends_at": 1795268693.0,
        }
    ]


def test_a_slurm_that_does_not_answer_fails_the_command_and_the_runs_are_shown_all_the_same(
    runs_dir: Path, fake_slurm: FakeSlurm, capsys: pytest.CaptureFixture[str]
) -> None:
    died(runs_dir)
    fake_slurm.goes_down()
    assert main(["ps"]) == 4
    printed = capsys.readouterr()
    assert f"{NEW}  slurm/hpc        dead" in printed.out
    assert "exited with 1: slurm_load_jobs error: Unable to contact slurm controller" in printed.err


@pytest.mark.usefixtures("no_slurm")
def test_without_slurm_runs_are_shown_and_that_their_jobs_are_not(
    runs_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    SampleRun(runs_dir, OLD, started_at=time.time())
    assert main(["ps"]) == 0
    printed = capsys.readouterr()
    assert "local/local      running" in printed.out
    assert not printed.err
    on_slurm(runs_dir)
    assert main(["ps"]) == 0
    assert "no `squeue` on this machine's PATH" in capsys.readouterr().err


def test_a_run_that_cannot_be_read_does_not_hide_the_others(
    runs_dir: Path, fake_slurm: FakeSlurm, capsys: pytest.CaptureFixture[str]
) -> None:
    (runs_dir / OLD).mkdir(parents=True)
    (runs_dir / OLD / "run.json").write_text('{"run_id": ')
    died(runs_dir, NEW)
    assert main(["ps"]) == 0
    out = capsys.readouterr().out
    assert f"{NEW}  slurm/hpc        dead" in out
    assert f"cannot read {runs_dir / OLD / 'run.json'}" in out


def test_what_is_printed_cannot_steer_the_terminal(
    runs_dir: Path, fake_slurm: FakeSlurm, capsys: pytest.CaptureFixture[str]
) -> None:
    on_slurm(runs_dir, started_at=time.time())
    fake_slurm.job("7", NEW, Owner.mine(), state="PENDING", reason="\x1b[2JHeld")
    main(["ps"])
    assert "?[2JHeld" in capsys.readouterr().out


def test_the_folder_can_be_named(tmp_path: Path, fake_slurm: FakeSlurm, capsys: pytest.CaptureFixture[str]) -> None:
    died(tmp_path / "others", started_at=START)
    assert main(["ps", "--runs-dir", str(tmp_path / "others")]) == 0
    assert NEW in capsys.readouterr().out
