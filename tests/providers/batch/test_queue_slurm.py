"""What a real Slurm prints is what the parser reads."""

from __future__ import annotations

import subprocess
import time
from collections import Counter
from collections.abc import Callable

import pytest

from scalable.providers.batch.queue import PERMANENT_REASONS, QueuedJob, comment_of, parse_squeue, squeue_command
from scalable.telemetry.owner import Owner
from scalable.telemetry.recorder import new_run_id
from tests.slurm.backend import Slurm

pytestmark = [pytest.mark.slow, pytest.mark.slurm]


@pytest.fixture
def run_id() -> str:
    return new_run_id("queue")


@pytest.fixture
def submit(queue: Slurm, run_id: str) -> Callable[..., str]:
    def submit(*options: str) -> str:
        mark = f"--comment={comment_of('simulate+1', Owner.mine())}"
        name = f"--job-name={run_id}"
        return queue.run("sbatch", "--parsable", "--output=/dev/null", name, mark, *options, "--wrap=sleep 300").strip()

    return submit


def ask(run_id: str) -> list[QueuedJob]:
    arguments, environment = squeue_command(run_id)
    return parse_squeue(subprocess.run(arguments, env=environment, check=True, capture_output=True, text=True).stdout)


def until(run_id: str, holds: Callable[[list[QueuedJob]], bool]) -> list[QueuedJob]:
    deadline = time.monotonic() + 20
    while not holds(jobs := ask(run_id)):
        assert time.monotonic() < deadline, jobs
        time.sleep(0.1)
    return jobs


def test_a_running_job_has_its_owner_its_node_and_its_end(
    queue: Slurm, run_id: str, submit: Callable[..., str]
) -> None:
    number = submit("--time=10")
    (job,) = until(run_id, lambda jobs: jobs[0].state == "RUNNING")
    assert (job.job_id, job.run_id, job.pool, job.owner) == (number, run_id, "simulate+1", Owner.mine())
    assert job.node in queue.nodes()
    assert job.ends_at == pytest.approx(time.time() + 600, abs=60)
    assert job.submitted_at == pytest.approx(time.time(), abs=60)
    queue.cancel(number)
    (job,) = until(run_id, lambda jobs: jobs[0].state == "CANCELLED")
    assert job.ends_at is None


def test_a_job_without_a_limit_has_no_end(queue: Slurm, run_id: str, submit: Callable[..., str]) -> None:
    number = submit("--time=UNLIMITED")
    (job,) = until(run_id, lambda jobs: jobs[0].state == "RUNNING")
    assert job.ends_at is None
    queue.cancel(number)


@pytest.mark.parametrize(
    "kept", [set(range(0, 31, 2)), {0, 3, 4, 6, 30}, set(range(31))], ids=["regular", "irregular", "all"]
)
def test_every_waiting_element_of_an_array_is_a_job(
    queue: Slurm, run_id: str, submit: Callable[..., str], kept: set[int]
) -> None:
    number = submit("--hold", "--array=0-30%4")
    if others := set(range(31)) - kept:
        queue.run("scancel", *(f"{number}_{element}" for element in sorted(others)))
    jobs = [job for job in ask(run_id) if job.state == "PENDING"]
    assert sorted(int(job.job_id.removeprefix(f"{number}_")) for job in jobs) == sorted(kept)
    assert {job.reason for job in jobs} == {"JobHeldUser"}
    queue.cancel(number)


def test_an_element_that_was_stopped_waits_with_the_others(
    queue: Slurm, run_id: str, submit: Callable[..., str]
) -> None:
    number = submit("--requeue", "--cpus-per-task=4", "--array=0-5")
    until(run_id, lambda jobs: Counter(job.state for job in jobs) == {"RUNNING": 4, "PENDING": 2})
    queue.requeue(f"{number}_1")
    jobs = until(run_id, lambda jobs: Counter(job.state for job in jobs) == {"RUNNING": 4, "PENDING": 2}
                 and {job.job_id: job.state for job in jobs}[f"{number}_1"] == "PENDING")  # fmt: skip
    assert sorted(job.job_id for job in jobs) == [f"{number}_{element}" for element in range(6)]
    queue.cancel(number)


def test_what_never_goes_away_is_told_from_what_others_hold(
    queue: Slurm, run_id: str, submit: Callable[..., str]
) -> None:
    first = submit("--nodelist=n1", "--exclusive")
    until(run_id, lambda jobs: jobs[0].state == "RUNNING")
    waits, never = submit("--nodelist=n1", "--exclusive"), submit("--partition=short", "--time=30")

    def reasons(jobs: list[QueuedJob]) -> dict[str, str]:
        return {job.job_id: job.reason for job in jobs}

    # Until the scheduler has looked at it, it is PartitionConfig, which may mean things that go away, too.
    found = until(run_id, lambda jobs: reasons(jobs)[never] == "PartitionTimeLimit" and bool(reasons(jobs)[waits]))
    assert reasons(found)[never] in PERMANENT_REASONS
    assert reasons(found)[waits] not in PERMANENT_REASONS
    queue.run("scancel", first, waits, never)


def test_settings_of_the_user_hide_nothing(
    queue: Slurm, run_id: str, submit: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    number = submit()
    for name, value in {
        "PARTITION": "spot",
        "STATES": "FAILED",
        "FORMAT": "%i",
        "USERS": "nobody",
        "QOS": "one",
    }.items():
        monkeypatch.setenv(f"SQUEUE_{name}", value)
    assert [job.job_id for job in ask(run_id)] == [number]
    queue.cancel(number)
