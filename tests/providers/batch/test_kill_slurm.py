"""However the process that submits ends, its jobs end with it."""

from __future__ import annotations

import json
import os
import signal
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from scalable.cli import main
from tests.providers.batch.real import certificates, manifest_text, marked, script, until
from tests.slurm.backend import Slurm

pytestmark = [pytest.mark.slow, pytest.mark.slurm]

Write = Callable[..., Path]

# Nodes have four processors each, so that of six workers of three some have to wait.
COMPONENTS = """\
components:
  simulate: {cpus: 3, memory: 500M}
"""

WORK = """\
import time

def nap(seconds):
    time.sleep(seconds)

futures = client.map(nap, [600] * 30, tag="simulate")
while sum(one.workers for one in session.progress()) < 4:
    time.sleep(0.1)
print(session.run_id, client.dask.scheduler_info()["address"], flush=True)
time.sleep(600)
"""

START = """\
from scalable import ScalableSession

session = ScalableSession.from_yaml("scalable.yaml")
client = session.start()
"""


@pytest.fixture
def crowded(manifest: Write) -> Path:
    text = manifest_text(max_workers=6, n_workers=6)
    return manifest(text[: text.index("components:")] + COMPONENTS)


def counts(queue: Slurm) -> Counter[str]:
    return Counter(job.state for job in queue.jobs())


def state_of(capsys: pytest.CaptureFixture[str], run_id: str) -> Any:
    capsys.readouterr()
    assert main(["ps", "--all", "--format", "json"]) == 0
    return {run["run_id"]: run["state"] for run in json.loads(capsys.readouterr().out)["runs"]}.get(run_id)


def status_of(folder: Path, run_id: str) -> Any:
    return json.loads((folder / "runs" / run_id / "summary.json").read_text())["status"]


@pytest.mark.usefixtures("crowded")
def test_when_it_is_killed_nothing_is_left_and_the_run_shows_as_dead_until_it_is_cleaned(
    queue: Slurm, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with script(START + WORK, tmp_path) as process:
        assert process.stdout is not None
        run_id, address = process.stdout.readline().split()
        until(lambda: counts(queue) == {"RUNNING": 4, "PENDING": 2}, "four jobs run and two wait")
        (watchdog,) = (one for one in psutil.Process(process.pid).children() if "watchdog" in " ".join(one.cmdline()))
        assert len(certificates(tmp_path)) == 1
        assert len(marked(address)) >= 4
        process.kill()
        process.wait()
    until(lambda: not queue.jobs(), "all jobs are gone")
    until(lambda: not marked(address), "no worker is left")
    until(lambda: not certificates(tmp_path), "the certificates are gone")
    until(lambda: not watchdog.is_running() or watchdog.status() == psutil.STATUS_ZOMBIE, "the watchdog has ended")

    assert state_of(capsys, run_id) == "dead"
    assert main(["clean"]) == 0
    assert run_id in capsys.readouterr().out
    assert state_of(capsys, run_id) != "dead"
    assert status_of(tmp_path, run_id) == "failed"


def submitting(folder: Path, lines: list[str]) -> str:
    """Return the beginning of a script that finds these lines of shell for `sbatch`."""
    (folder / "bin").mkdir()
    stand_in = folder / "bin" / "sbatch"
    stand_in.write_text("\n".join(["#!/bin/sh", *lines]) + "\n")
    stand_in.chmod(0o755)
    return (
        "import os\nos.environ['REAL_PATH'] = os.environ['PATH']\n"
        f"os.environ['PATH'] = '{stand_in.parent}:' + os.environ['PATH']\n"
    )


@pytest.mark.usefixtures("crowded")
def test_what_was_being_submitted_when_it_was_killed_ends_as_well(queue: Slurm, tmp_path: Path) -> None:
    # It is on its way for some seconds, as on a busy cluster.
    lines = [f'echo $$ >"{tmp_path}/under-way"', "sleep 4", 'PATH="$REAL_PATH" exec sbatch "$@"']
    with script(submitting(tmp_path, lines) + START, tmp_path) as process:
        sbatch = until(lambda: (tmp_path / "under-way").exists() and (tmp_path / "under-way").read_text(), "submitting")
        process.kill()
        process.wait()
    until(lambda: not psutil.pid_exists(int(sbatch)), "the submission is over")
    until(lambda: not certificates(tmp_path), "the watchdog has done its work")
    assert not queue.jobs()


@pytest.mark.usefixtures("crowded")
def test_a_watchdog_that_outlives_an_orderly_end_would_do_nothing(queue: Slurm, tmp_path: Path) -> None:
    text = (
        START
        + "import psutil\nprint(psutil.Process().children()[0].pid, session.run_id)\nsession.close()\nprint('closed')"
    )
    with script(text, tmp_path) as process:
        out, _ = process.communicate(timeout=100)
    watchdog, run_id, said = out.split()
    assert said == "closed"
    assert process.returncode == 0
    assert not psutil.pid_exists(int(watchdog))
    assert status_of(tmp_path, run_id) == "completed"
    assert not queue.jobs()


@pytest.mark.parametrize(
    ("number", "status"), [(signal.SIGTERM, "failed"), (signal.SIGINT, "cancelled")], ids=["terminated", "interrupted"]
)
def test_an_orderly_end_takes_the_jobs_along(
    queue: Slurm, crowded: Path, tmp_path: Path, number: signal.Signals, status: str
) -> None:
    before = ("-m", "scalable.cli", "run", str(crowded), "--workflow")
    with script(WORK, tmp_path, *before) as process:
        assert process.stdout is not None
        run_id, address = process.stdout.readline().split()
        assert len(queue.jobs()) == 6
        # To the whole group, as a terminal does.
        os.killpg(process.pid, number)
        assert process.wait(timeout=60) == 128 + number
    assert status_of(tmp_path, run_id) == status
    until(lambda: not queue.jobs(), "all jobs are gone")
    until(lambda: not marked(address), "no worker is left")
    assert certificates(tmp_path) == []


@pytest.mark.usefixtures("crowded")
@pytest.mark.parametrize("moment", ["before", "after"])
def test_an_interrupt_while_jobs_are_submitted_leaves_nothing(queue: Slurm, tmp_path: Path, moment: str) -> None:
    real = 'PATH="$REAL_PATH" sbatch "$@"'
    lines = [f"echo >>{tmp_path}/called; kill -INT $PPID; sleep 1", real]
    with script(submitting(tmp_path, lines if moment == "before" else lines[::-1]) + START, tmp_path) as process:
        process.communicate(timeout=100)
    assert (tmp_path / "called").read_text().count("\n") == 1
    assert process.returncode == -signal.SIGINT
    until(lambda: not queue.jobs(), "all jobs are gone")
    assert certificates(tmp_path) == []
    assert [json.loads(path.read_text())["status"] for path in tmp_path.glob("runs/*/summary.json")] == ["cancelled"]
