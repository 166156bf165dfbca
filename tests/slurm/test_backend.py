"""The Slurm that tests are run against does what they rely on."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.slurm.backend import NODES, Job, Slurm

pytestmark = [pytest.mark.slow, pytest.mark.slurm]


def submit(*args: str, run: str = "sleep 300") -> str:
    """Submit a job and return its number."""
    done = subprocess.run(
        ["sbatch", "--parsable", "--output=/dev/null", *args, f"--wrap={run}"],
        check=True,
        capture_output=True,
        text=True,
    )
    return done.stdout.strip()


def until(queue: Slurm, job: str, holds: Callable[[Job], bool], seconds: float = 20) -> Job:
    """Wait until something holds of a job."""
    deadline = time.monotonic() + seconds
    while (found := queue.job(job)) is None or not holds(found):
        assert time.monotonic() < deadline, f"in vain: {queue.jobs()}"
        time.sleep(0.1)
    return found


def running(job: Job) -> bool:
    return job.state == "RUNNING"


def test_there_are_four_idle_nodes(queue: Slurm) -> None:
    assert queue.nodes() == dict.fromkeys(NODES, "idle")


def test_a_job_is_listed_with_what_it_asked_for(queue: Slurm) -> None:
    comment, name = "a | comment; with signs", "a name"
    job = submit(f"--comment={comment}", f"--job-name={name}", "--cpus-per-task=2", "--mem=1G", "--partition=spot")
    node = until(queue, job, running).node
    assert queue.jobs() == [Job(job, name, "RUNNING", "None", node, 2, 1024, "spot", comment)]
    queue.cancel(job)


@pytest.mark.parametrize("account", ["nobody", "other"])
def test_an_account_one_is_no_member_of_is_refused(queue: Slurm, account: str) -> None:
    with pytest.raises(subprocess.CalledProcessError) as refusal:
        submit(f"--account={account}")
    assert "Invalid account" in refusal.value.stderr


def test_a_limit_of_a_qos_leaves_a_job_pending(queue: Slurm) -> None:
    first, second = submit("--qos=one"), submit("--qos=one")
    until(queue, first, running)
    waiting = until(queue, second, lambda job: job.reason == "QOSMaxJobsPerUserLimit")
    assert (waiting.state, waiting.node) == ("PENDING", "")
    queue.cancel(first)
    queue.cancel(second)


def test_a_partitions_time_limit_leaves_a_job_pending(queue: Slurm) -> None:
    job = submit("--partition=short", "--time=5")
    until(queue, job, lambda job: job.reason == "PartitionTimeLimit")
    queue.cancel(job)


def test_a_gpu_is_where_the_gpus_are(queue: Slurm, tmp_path: Path) -> None:
    job = submit("--gres=gpu:1", f"--output={tmp_path}/out", run="echo $SLURMD_NODENAME $CUDA_VISIBLE_DEVICES")
    queue.wait_empty()
    assert (tmp_path / "out").read_text() == "n4 0\n", job


def _written(path: Path) -> str:
    return path.read_text().strip() if path.exists() else ""


def test_a_node_that_goes_down_takes_its_jobs_with_it(queue: Slurm, tmp_path: Path) -> None:
    job = submit("--no-requeue", "--nodelist=n3", run=f"echo $$ >{tmp_path}/pid; exec sleep 300")
    until(queue, job, running)
    deadline = time.monotonic() + 20
    # Slurm says that a job runs before its shell does.
    while not (pid := _written(tmp_path / "pid")):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    queue.node("n3", "down")
    queue.wait_empty()
    assert queue.nodes()["n3"] == "down"
    deadline = time.monotonic() + 10
    while Path(f"/proc/{pid}/cmdline").exists() and Path(f"/proc/{pid}/cmdline").read_bytes():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_a_requeued_job_begins_anew(queue: Slurm) -> None:
    job = submit("--requeue")
    until(queue, job, running)
    queue.requeue(job)
    until(queue, job, lambda job: job.state == "PENDING")
    until(queue, job, running)
    queue.cancel(job)


def test_a_job_of_higher_priority_displaces_a_lower_one(queue: Slurm) -> None:
    low = submit("--partition=spot", "--requeue", "--nodelist=n2", "--cpus-per-task=4")
    until(queue, low, running)
    high = submit("--nodelist=n2", "--cpus-per-task=4")
    until(queue, high, running)
    until(queue, low, lambda job: job.state == "PENDING")
    queue.cancel(high)
    queue.cancel(low)


def test_calls_are_counted_but_not_the_backends_own(queue: Slurm) -> None:
    with queue.counted() as calls:
        first, second = submit(), submit()
        subprocess.run(["squeue"], check=True, capture_output=True)
        assert len(queue.jobs()) == 2
        subprocess.run(["scancel", first, second], check=True)
        assert calls["sbatch"] == 2
    subprocess.run(["squeue"], check=True, capture_output=True)
    assert calls.counts() == {"sbatch": 2, "squeue": 1, "scancel": 1}
    assert calls["sacct"] == 0


def test_what_is_left_is_cleared(queue: Slurm) -> None:
    job = submit(run="trap '' TERM; sleep 300")
    until(queue, job, running)
    queue.node("n1", "drain")
    queue.node("n2", "down")
    queue.clear()
    assert queue.jobs() == []
    assert queue.nodes() == dict.fromkeys(NODES, "idle")


def test_a_job_may_run_in_a_container(queue: Slurm, container_image: str, tmp_path: Path) -> None:
    code = "import distributed, sys; print(len(distributed.__all__) > 0, sys.prefix)"
    submit(f"--output={tmp_path}/out", run=f'podman run --rm --network=host {container_image} python3 -c "{code}"')
    queue.wait_empty()
    assert (tmp_path / "out").read_text() == "True /opt/venv\n"
