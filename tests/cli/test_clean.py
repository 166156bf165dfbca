"""`scalable clean`."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

import pytest

from scalable.cli import main
from scalable.telemetry.owner import Owner
from tests.cli.batch import ELSEWHERE, NEW, OLD, FakeSlurm, dead
from tests.report.runs import SampleRun


@pytest.fixture
def runs_dir(tmp_path: Path) -> Path:
    return tmp_path / "runs"


def died(runs_dir: Path, run_id: str = NEW, provider: str = "slurm", **facts: Any) -> SampleRun:
    return SampleRun(runs_dir, run_id, provider=provider, target="hpc", pid=dead().pid, **facts)


def noted(run: SampleRun, event: str, *job_ids: str) -> None:
    run.line("jobs", {"event": event, "at": run.start, "system": "pbs", "pool": "simulate", "job_ids": job_ids})


def test_the_jobs_of_a_dead_run_are_ended_at_once_and_the_run_is_no_longer_dead(
    runs_dir: Path, fake_slurm: FakeSlurm, capsys: pytest.CaptureFixture[str]
) -> None:
    died(runs_dir)
    owner = dead()
    fake_slurm.job("17_0", NEW, owner)
    fake_slurm.job("17_[1-99]", NEW, owner, state="PENDING")
    fake_slurm.job("18", NEW, owner)
    fake_slurm.job("16", NEW, owner, state="COMPLETED")
    fake_slurm.job("15", NEW, owner, state="COMPLETING")
    assert main(["clean"]) == 0
    assert capsys.readouterr().out == f"{NEW}: ended 2 jobs (17, 18), its records\n"
    assert fake_slurm.called("scancel") == ["scancel 17 18"]
    assert len(fake_slurm.called("squeue")) == 1
    main(["ps"])
    assert f"{NEW}  slurm/hpc        failed" in capsys.readouterr().out
    assert main(["clean"]) == 0
    assert capsys.readouterr().out == "nothing is left of dead runs\n"


def test_a_dead_run_failed_when_it_wrote_its_last_record(runs_dir: Path, fake_slurm: FakeSlurm) -> None:
    run = died(runs_dir).task("a-1", "a", 1, 2)
    for file in run.path.iterdir():
        os.utime(file, (run.start, run.start))
    os.utime(run.path / "tasks.jsonl", (run.start + 60, run.start + 60))
    main(["clean"])
    summary = json.loads((run.path / "summary.json").read_text())
    assert (summary["status"], summary["ended_at"]) == ("failed", run.start + 60)


def test_a_dry_run_ends_nothing(runs_dir: Path, fake_slurm: FakeSlurm, capsys: pytest.CaptureFixture[str]) -> None:
    run = died(runs_dir)
    fake_slurm.job("17", NEW, dead())
    assert main(["clean", "--dry-run"]) == 0
    assert capsys.readouterr().out == f"{NEW}: would end 1 job (17), its records\n"
    assert not fake_slurm.called("scancel")
    assert not (run.path / "summary.json").exists()


def test_a_run_that_only_the_queue_knows_is_ended_if_its_process_is_gone(
    fake_slurm: FakeSlurm, capsys: pytest.CaptureFixture[str]
) -> None:
    fake_slurm.job("17", OLD, dead())
    fake_slurm.job("18", NEW, Owner.mine())
    assert main(["clean"]) == 0
    assert fake_slurm.called("scancel") == ["scancel 17"]
    assert capsys.readouterr().out == f"{OLD}: ended 1 job (17)\n"


def test_jobs_that_a_run_left_although_it_ended_are_ended(runs_dir: Path, fake_slurm: FakeSlurm) -> None:
    run = died(runs_dir).end(1)
    fake_slurm.job("17", NEW, dead())
    main(["clean"])
    assert fake_slurm.called("scancel") == ["scancel 17"]
    assert json.loads((run.path / "summary.json").read_text())["status"] == "completed"


def test_a_living_run_is_left_alone_and_refused_when_it_is_named(
    runs_dir: Path, fake_slurm: FakeSlurm, capsys: pytest.CaptureFixture[str]
) -> None:
    SampleRun(runs_dir, NEW, provider="slurm", started_at=time.time())
    fake_slurm.job("17", NEW, Owner.mine())
    assert main(["clean"]) == 0
    assert main(["clean", "--run", NEW]) == 1
    assert f"is under way; end its process, {os.getpid()}, and" in capsys.readouterr().err
    assert not fake_slurm.called("scancel")


def test_a_run_of_another_machine_is_ended_only_when_it_is_named(
    runs_dir: Path, fake_slurm: FakeSlurm, capsys: pytest.CaptureFixture[str]
) -> None:
    SampleRun(runs_dir, NEW, provider="slurm", host="login2.elsewhere")
    fake_slurm.job("17", NEW, ELSEWHERE)
    assert main(["clean"]) == 0
    assert not fake_slurm.called("scancel")
    assert f"it was started on login2.elsewhere; if that is over, `scalable clean --run {NEW}`" in (
        capsys.readouterr().out
    )
    assert main(["clean", "--run", "run-20260521"]) == 0
    assert fake_slurm.called("scancel") == ["scancel 17"]


def test_only_the_named_run_is_ended(runs_dir: Path, fake_slurm: FakeSlurm) -> None:
    died(runs_dir, OLD)
    died(runs_dir, NEW)
    assert main(["clean", "--run", OLD]) == 0
    assert (runs_dir / OLD / "summary.json").exists()
    assert not (runs_dir / NEW / "summary.json").exists()


def test_a_name_that_fits_no_run_or_several_is_an_error(
    runs_dir: Path, fake_slurm: FakeSlurm, capsys: pytest.CaptureFixture[str]
) -> None:
    died(runs_dir, OLD)
    died(runs_dir, NEW)
    assert main(["clean", "--run", "run-2026"]) == 1
    assert "2 runs begin with 'run-2026'" in capsys.readouterr().err
    assert main(["clean", "--run", OLD.replace("demeter", "demetre")]) == 1
    assert f"did you mean '{OLD}'?" in capsys.readouterr().err


def test_a_named_run_of_which_nothing_is_left_is_no_error(
    runs_dir: Path, fake_slurm: FakeSlurm, capsys: pytest.CaptureFixture[str]
) -> None:
    died(runs_dir).end(1)
    assert main(["clean", "--run", NEW]) == 0
    assert capsys.readouterr().out == f"nothing is left of {NEW}\n"


@pytest.mark.usefixtures("no_slurm")
def test_a_dead_local_run_has_its_records_closed(runs_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    died(runs_dir, provider="local")
    assert main(["clean"]) == 0
    assert capsys.readouterr().out == f"{NEW}: ended its records\n"


def test_jobs_of_other_systems_are_those_that_were_noted_and_not_yet_cancelled(
    runs_dir: Path, fake_slurm: FakeSlurm, capsys: pytest.CaptureFixture[str]
) -> None:
    run = died(runs_dir, provider="pbs")
    noted(run, "submitted", "7.server", "8.server")
    noted(run, "submitted", "9.server")
    noted(run, "cancelled", "8.server")
    run.text("jobs", '{"event": "subm')
    fake_slurm.program(
        "qdel", '#!/bin/sh\necho "qdel $*" >> {folder}/calls\necho "qdel: Unknown Job Id $1" >&2\nexit 153\n'
    )
    assert main(["clean"]) == 0
    assert fake_slurm.called("qdel") == ["qdel 7.server 9.server"]
    assert capsys.readouterr().out == f"{NEW}: ended 2 jobs (7.server, 9.server), its records\n"


def test_a_run_whose_jobs_could_not_be_ended_stays_dead_and_does_not_hinder_the_others(
    runs_dir: Path, fake_slurm: FakeSlurm, capsys: pytest.CaptureFixture[str]
) -> None:
    noted(died(runs_dir, NEW, provider="pbs"), "submitted", "7.server")
    died(runs_dir, OLD)
    fake_slurm.program("qdel", "#!/bin/sh\necho 'qdel: cannot connect to server' >&2\nexit 1\n")
    assert main(["clean"]) == 4
    assert f"{NEW}: `qdel 7.server` exited with 1: qdel: cannot connect to server" in capsys.readouterr().err
    assert not (runs_dir / NEW / "summary.json").exists()
    assert (runs_dir / OLD / "summary.json").exists()


def test_jobs_that_ended_meanwhile_are_no_error(runs_dir: Path, fake_slurm: FakeSlurm) -> None:
    died(runs_dir)
    fake_slurm.job("17", NEW, dead())
    fake_slurm.program(
        "scancel",
        "#!/bin/sh\necho 'scancel: error: Kill job error on job id 17: Invalid job id specified' >&2\nexit 1\n",
    )
    assert main(["clean"]) == 0


def test_settings_of_the_user_spare_no_job(
    runs_dir: Path, fake_slurm: FakeSlurm, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SCANCEL_STATE", "SUSPENDED")
    died(runs_dir)
    fake_slurm.job("17", NEW, dead())
    fake_slurm.program("scancel", '#!/bin/sh\necho "scancel $* $SCANCEL_STATE" >> {folder}/calls\n')
    assert main(["clean"]) == 0
    assert fake_slurm.called("scancel") == ["scancel 17 "]


def test_a_slurm_that_does_not_answer_is_an_error_and_nothing_is_ended(
    runs_dir: Path, fake_slurm: FakeSlurm, capsys: pytest.CaptureFixture[str]
) -> None:
    run = died(runs_dir)
    fake_slurm.goes_down()
    assert main(["clean"]) == 4
    assert "Unable to contact slurm controller" in capsys.readouterr().err
    assert not (run.path / "summary.json").exists()


@pytest.mark.usefixtures("no_slurm")
def test_jobs_in_slurm_cannot_be_ended_where_there_is_none(runs_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = died(runs_dir)
    noted(run, "submitted", "17_0")
    assert main(["clean"]) == 4
    assert "use a login node" in capsys.readouterr().err
    assert not (run.path / "summary.json").exists()


def tls(run: SampleRun, directory: Path) -> Path:
    directory.mkdir(parents=True)
    (directory / "key.pem").write_text("secret")
    (run.path / "batch.json").write_text(json.dumps({"system": "slurm", "tls_directory": str(directory)}))
    return directory


def test_certificates_are_removed(
    runs_dir: Path, tmp_path: Path, fake_slurm: FakeSlurm, capsys: pytest.CaptureFixture[str]
) -> None:
    directory = tls(died(runs_dir), tmp_path / "shared" / "scalable-tls-abc")
    assert main(["clean"]) == 0
    assert not directory.exists()
    assert directory.parent.exists()
    assert capsys.readouterr().out == f"{NEW}: ended its certificates in {directory}, its records\n"


def test_a_directory_that_was_not_made_for_certificates_is_never_removed(
    runs_dir: Path, tmp_path: Path, fake_slurm: FakeSlurm
) -> None:
    run = died(runs_dir)
    home = tls(run, tmp_path / "home")
    link = tmp_path / "scalable-tls-link"
    link.symlink_to(home)
    for named in (str(home), str(link), f"{link}/../home", f"{tmp_path}/scalable-tls-none", 7, None):
        (run.path / "batch.json").write_text(json.dumps({"system": "slurm", "tls_directory": named}))
        (run.path / "summary.json").unlink(missing_ok=True)
        assert main(["clean"]) == 0
        assert (home / "key.pem").exists()


def test_a_directory_of_another_user_is_never_removed(
    runs_dir: Path, tmp_path: Path, fake_slurm: FakeSlurm, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory = tls(died(runs_dir), tmp_path / "scalable-tls-abc")
    uid = os.getuid()
    monkeypatch.setattr(os, "getuid", lambda: uid + 1)
    assert main(["clean"]) == 0
    assert directory.exists()
