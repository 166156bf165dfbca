"""What clusters do to jobs that run: every task still ends once, and no job is left or too many."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.providers.batch.faulty import Run, manifest_text, nap, running
from tests.providers.batch.real import until
from tests.slurm.backend import Slurm

pytestmark = [pytest.mark.slow, pytest.mark.slurm]


def test_a_busy_worker_whose_job_is_cancelled_is_replaced_and_its_task_runs_again(queue: Slurm, tmp_path: Path) -> None:
    with running(manifest_text(), tmp_path, queue) as run:
        futures = run.give(nap, range(16), [1.0] * 16)
        victim = run.busy(2)[0]
        queue.cancel(run.job_of(victim).id)
        assert run.client.gather(futures) == list(range(16))
        until(lambda: len(set(run.came())) == 3, "a worker in its place")
        assert victim not in run.workers()
        assert len(run.jobs()) == 2
        assert run.attempts()["lost"] <= 1
    assert run.submitted() == 3


def test_tasks_of_a_node_that_is_set_down_finish_elsewhere(queue: Slurm, tmp_path: Path) -> None:
    # A whole node each, so that only one worker is lost.
    with running(manifest_text(cpus=4), tmp_path, queue) as run:
        futures = run.give(nap, range(24), [1.0] * 24)
        victim = run.busy(2)[0]
        node = run.job_of(victim).node
        queue.node(node, "down")
        assert run.client.gather(futures) == list(range(24))
        until(lambda: len(set(run.came())) == 3, "a worker in its place")
        jobs = run.jobs()
        assert len(jobs) == 2
        assert node not in {job.node for job in jobs}


def requeued(run: Run) -> None:
    run.slurm.requeue(run.job_of(run.busy(2)[0]).id)


def preempted(run: Run) -> None:
    """Take all nodes but for one CPU each from jobs of lower priority, for a moment."""
    run.busy(2)
    for _ in range(4):
        run.slurm.run("sbatch", "--account=science", "--partition=main", "--exclusive", "--time=5", "--output=/dev/null",
                      "--wrap=sleep 3")


@pytest.mark.parametrize("requeue", [True, False], ids=["requeue", "no-requeue"])
@pytest.mark.parametrize("disturb", [requeued, preempted])
def test_a_job_that_is_put_back_into_the_queue_is_replaced_and_not_run_twice(
    queue: Slurm, tmp_path: Path, disturb: Callable[[Run], None], requeue: bool
) -> None:
    directives = ["--requeue"] if requeue else []
    with running(manifest_text(queue="spot", job_extra_directives=directives), tmp_path, queue) as run:
        futures = run.give(nap, range(16), [1.0] * 16)
        disturb(run)
        assert run.client.gather(futures) == list(range(16))
        until(lambda: len(set(run.came())) >= 3, "a worker in the place of the one that was lost")
        until(lambda: len(run.jobs()) == 2, "as many jobs as workers")
        # Longer than a job that was put back waits.
        time.sleep(7)
        assert len(run.jobs()) == 2
