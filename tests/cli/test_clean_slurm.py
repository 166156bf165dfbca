"""`scalable ps` and `scalable clean` after a run's process was killed, on a real Slurm."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from scalable.cli import main
from tests.slurm.backend import Slurm

pytestmark = [pytest.mark.slow, pytest.mark.slurm]

# Eight jobs of which some run and some have to wait, as a run would submit them; then it sleeps.
RUN = """\
import subprocess, sys, time
from pathlib import Path
from scalable.providers.batch.queue import comment_of
from scalable.telemetry.owner import Owner
from scalable.telemetry.recorder import Recorder, new_run_id

run_id = new_run_id("tests")
if sys.argv[1] == "recorded":
    recorder = Recorder(Path(sys.argv[2]) / run_id)
    recorder.start({"run_id": run_id, "provider": "slurm", "target": "hpc"})
for pool in ("simulate", "rank"):
    subprocess.run(
        ["sbatch", "--parsable", "--output=/dev/null", f"--job-name={run_id}", "--array=0-3", "--cpus-per-task=3",
         f"--comment={comment_of(pool, Owner.mine())}", "--wrap=sleep 300"],
        check=True, stdout=subprocess.DEVNULL,
    )
print(run_id, flush=True)
time.sleep(300)
"""


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[[str], tuple[str, subprocess.Popen[str]]]]:
    started = []

    def start(how: str) -> tuple[str, subprocess.Popen[str]]:
        command = [sys.executable, "-c", RUN, how, str(tmp_path / "runs")]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        started.append(process)
        assert process.stdout is not None
        return process.stdout.readline().strip(), process

    yield start
    for process in started:
        process.kill()
        process.communicate()


def states(capsys: pytest.CaptureFixture[str]) -> dict[str, str]:
    capsys.readouterr()
    assert main(["ps", "--format", "json"]) == 0
    return {run["run_id"]: run["state"] for run in json.loads(capsys.readouterr().out)["runs"]}


def test_the_jobs_of_a_killed_run_are_shown_and_ended_with_one_call_each(
    queue: Slurm,
    start: Callable[[str], tuple[str, subprocess.Popen[str]]],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    run_id, process = start("recorded")
    assert states(capsys) == {run_id: "running"}
    assert main(["clean"]) == 0
    assert len(queue.jobs()) == 8

    process.send_signal(signal.SIGKILL)
    process.wait()
    assert states(capsys) == {run_id: "dead"}
    assert main(["ps"]) == 0
    shown = [line.split()[1:3] for line in capsys.readouterr().out.splitlines()[3:]]
    assert sorted({pool for pool, _ in shown}) == ["rank", "simulate"]
    assert len(shown) == 8
    assert {state for _, state in shown} <= {"RUNNING", "PENDING"}

    with queue.counted() as calls:
        assert main(["clean"]) == 0
        assert (calls["squeue"], calls["scancel"]) == (1, 1)
    assert f"{run_id}: ended 2 jobs" in capsys.readouterr().out
    queue.wait_empty()
    assert states(capsys) == {}
    assert json.loads((tmp_path / "runs" / run_id / "summary.json").read_text())["status"] == "failed"


def test_a_killed_run_that_has_no_directory_is_found_by_its_jobs(
    queue: Slurm,
    start: Callable[[str], tuple[str, subprocess.Popen[str]]],
    capsys: pytest.CaptureFixture[str],
) -> None:
    killed, process = start("unrecorded")
    living, _ = start("unrecorded")
    process.kill()
    process.wait()
    assert states(capsys) == {killed: "dead", living: "running"}

    assert main(["clean"]) == 0
    deadline = time.monotonic() + 30
    while {job.name for job in queue.jobs()} != {living}:
        assert time.monotonic() < deadline, queue.jobs()
        time.sleep(0.1)
    assert len(queue.jobs()) == 8
    queue.run("scancel", f"--user={os.getuid()}", f"--name={living}")
