"""Jobs that are refused, never start, or start for nothing: it is said why, and nothing is left behind."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from scalable import ScalableSession
from scalable.errors import SubmitFailed, WorkersLost
from scalable.providers.batch import jobs
from tests.conftest import records
from tests.providers.batch.faulty import manifest_text, nap, running
from tests.providers.batch.real import certificates, until
from tests.slurm.backend import Slurm

pytestmark = [pytest.mark.slow, pytest.mark.slurm]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"account": "nobody"}, "Invalid account or account/partition combination specified"),
        ({"queue": "nowhere"}, "invalid partition specified: nowhere"),
        ({"memory": "100G"}, "Requested node configuration is not available"),
    ],
    ids=["account", "partition", "memory"],
)
def test_what_sbatch_refuses_fails_the_start_in_its_words(
    queue: Slurm, tmp_path: Path, options: dict[str, str], words: str
) -> None:
    path = tmp_path / "scalable.yaml"
    path.write_text(manifest_text(**options))  # type: ignore[arg-type]
    before = {process.pid for process in psutil.Process().children()}
    session = ScalableSession.from_yaml(path)
    with pytest.raises(SubmitFailed, match=words):
        session.start()
    assert session.run_dir is not None
    assert json.loads((session.run_dir / "summary.json").read_text())["status"] == "failed"
    assert certificates(tmp_path) == []
    assert {process.pid for process in psutil.Process().children()} <= before
    assert queue.jobs() == []


@pytest.fixture
def closed(queue: Slurm) -> Iterator[Slurm]:
    """Slurm that takes no more jobs while it is closed; it is opened in the end."""
    try:
        yield queue
    finally:
        queue.run("scontrol", "update", "partitionname=main", "state=up")


def test_growth_that_is_refused_leaves_the_pool_with_the_workers_that_it_has(closed: Slurm, tmp_path: Path) -> None:
    with running(manifest_text(n_workers=1, max_workers=2), tmp_path, closed) as run:
        until(lambda: len(run.workers()) == 1, "the first worker")
        closed.run("scontrol", "update", "partitionname=main", "state=inactive")
        run.scale(2)
        until(lambda: run.pool.failures >= 4, "some refusals")
        assert run.client.gather(run.give(nap, range(4), [0.1] * 4)) == list(range(4))
        assert not run.pool.broken
        closed.run("scontrol", "update", "partitionname=main", "state=up")
        until(lambda: len(run.workers()) == 2, "the second worker, once it can be had")


def test_a_job_that_waits_says_why_and_the_work_goes_on_with_the_others(
    queue: Slurm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(jobs, "_SAY_AFTER_S", 1.0)
    with caplog.at_level(logging.WARNING), running(manifest_text(qos="one"), tmp_path, queue) as run:
        futures = run.give(nap, range(8), [0.5] * 8)
        until(lambda: run.pool.waiting == {"PENDING (QOSMaxJobsPerUserLimit)": 1}, "what the second job waits for")
        assert run.client.gather(futures) == list(range(8))
        until(lambda: "1 PENDING (QOSMaxJobsPerUserLimit)" in caplog.text, "a warning")
        assert len(run.workers()) == 1


@pytest.mark.parametrize("workers", [1, 3])
def test_a_job_that_can_never_start_fails_its_tasks_with_what_slurm_says(
    queue: Slurm, tmp_path: Path, workers: int
) -> None:
    text = manifest_text(queue="short", walltime="00:10:00", max_workers=workers)
    with running(text, tmp_path, queue) as run:
        for future in run.give(nap, range(3), [0.1] * 3):
            with pytest.raises(WorkersLost, match=r"job \S+ can never start: PartitionTimeLimit"):
                future.result(timeout=100)
        # It would begin after all if somebody raised the limit.
        until(lambda: run.jobs() == [], "no job that nobody waits for")
    assert run.submitted() == workers


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"job_script_prologue": ["echo no licence left", "exit 3"]}, "no licence left"),
        ({"python": "/nowhere/python"}, "/nowhere/python: No such file or directory"),
    ],
    ids=["prologue", "python"],
)
def test_jobs_that_end_before_their_workers_connect_are_given_up_with_the_end_of_their_log(
    queue: Slurm, tmp_path: Path, options: dict[str, object], words: str
) -> None:
    with running(manifest_text(max_workers=1, **options), tmp_path, queue) as run:  # type: ignore[arg-type]
        for future in run.give(nap, range(3), [0.1] * 3):
            with pytest.raises(WorkersLost, match="3 workers in a row did not start") as caught:
                future.result(timeout=100)
            assert words in str(caught.value)
        # What is handed in later is refused at once, for the same reason.
        with pytest.raises(WorkersLost, match="3 workers in a row did not start"):
            run.give(nap, [3], [0.1])
    assert run.submitted() == 3


def test_hundreds_of_jobs_cost_a_few_calls(queue: Slurm, tmp_path: Path) -> None:
    with queue.counted() as calls:
        began = time.monotonic()
        # Whole nodes, so that only four start.
        with running(manifest_text(cpus=4, max_workers=200), tmp_path, queue) as run:
            futures = run.give(nap, range(400), [0.01] * 400)
            assert run.client.gather(futures) == list(range(400))
            assert run.submitted() == 200
        seconds = time.monotonic() - began
    cancelled = [
        job for one in records(run.session.run_dir, "jobs") if one["event"] == "cancelled" for job in one["job_ids"]
    ]
    assert len(set(cancelled)) == len(cancelled) == 200
    assert calls["sbatch"] <= 3
    assert calls["scancel"] <= 3
    # Once a second at the most, however many are waited for.
    assert calls["squeue"] <= seconds + 2
