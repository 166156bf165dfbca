"""What clusters do to jobs that run: every task still ends once, and no job is left or too many."""

from __future__ import annotations

import re
import time
from collections import Counter
from pathlib import Path

import pytest
from distributed.scheduler import KilledWorker

from tests.conftest import records
from tests.providers.batch.faulty import Run, die, manifest_text, nap, running
from tests.providers.batch.real import until
from tests.slurm.backend import Slurm

pytestmark = [pytest.mark.slow, pytest.mark.slurm]


def await_replacement(run: Run) -> None:
    """Wait until a third worker has come, and there are no more jobs than workers are wanted."""
    until(lambda: len(set(run.came())) >= 3, "a worker in the place of the one that was lost")
    until(lambda: len(run.jobs()) == 2, "as many jobs as workers")


def test_a_busy_worker_whose_job_is_cancelled_is_replaced_and_its_task_runs_again(queue: Slurm, tmp_path: Path) -> None:
    with running(manifest_text(), tmp_path, queue) as run:
        futures = run.give(nap, range(16), [1.0] * 16)
        victim = run.busy(2)[0]
        queue.cancel(run.job_of(victim).id)
        assert run.client.gather(futures) == list(range(16))
        await_replacement(run)
        assert victim not in run.workers()
    assert run.attempts()["lost"] <= 1
    assert run.submitted() == 3


def test_tasks_of_a_node_that_is_set_down_finish_elsewhere(queue: Slurm, tmp_path: Path) -> None:
    # A whole node each, so that only one worker is lost.
    with running(manifest_text(cpus=4), tmp_path, queue) as run:
        futures = run.give(nap, range(24), [1.0] * 24)
        node = run.job_of(run.busy(2)[0]).node
        queue.node(node, "down")
        assert run.client.gather(futures) == list(range(24))
        await_replacement(run)
        assert node not in {job.node for job in run.jobs()}
    assert run.submitted() == 3


def test_a_job_that_is_put_back_into_the_queue_makes_way_for_the_one_in_its_place(queue: Slurm, tmp_path: Path) -> None:
    with running(manifest_text(job_extra_directives=["--requeue"]), tmp_path, queue) as run:
        futures = run.give(nap, range(16), [1.0] * 16)
        victim = run.job_of(run.busy(2)[0]).id
        # It is held, or it might be there again before anybody has noticed.
        queue.run("scontrol", "requeuehold", victim)
        assert run.client.gather(futures) == list(range(16))
        await_replacement(run)
        assert victim not in {job.id for job in run.jobs()}
    assert run.submitted() == 3


@pytest.mark.parametrize("directives", [[], ["--requeue"]], ids=["cancelled", "requeued"])
def test_tasks_of_a_job_that_is_preempted_finish_elsewhere(queue: Slurm, tmp_path: Path, directives: list[str]) -> None:
    with running(manifest_text(cpus=4, queue="spot", job_extra_directives=directives), tmp_path, queue) as run:
        futures = run.give(nap, range(24), [1.0] * 24)
        victim = run.job_of(run.busy(2)[0])
        asked = ("--account=science", "--partition=main", f"--nodelist={victim.node}", "--exclusive", "--parsable")
        usurper = queue.run("sbatch", *asked, "--output=/dev/null", "--wrap=sleep 300").strip()
        assert run.client.gather(futures) == list(range(24))
        await_replacement(run)
        assert victim.id not in {job.id for job in run.jobs()}
        queue.cancel(usurper)
    assert run.submitted() == 3


def test_a_task_that_keeps_killing_its_workers_is_stopped_and_named_and_others_go_on(
    queue: Slurm, tmp_path: Path
) -> None:
    with running(manifest_text(), tmp_path, queue) as run:
        before = run.give(nap, range(10), [0.2] * 10)
        (killer,) = run.give(die, [0], name="deadly")
        after = run.give(nap, range(10), [0.2] * 10)
        with pytest.raises(KilledWorker, match=re.escape(str(killer.key))):
            killer.result(timeout=120)
        assert run.client.gather(before + after) == [*range(10), *range(10)]
    tried = [one["outcome"] for one in records(run.session.run_dir, "tasks") if one["key"] == str(killer.key)]
    assert tried == ["lost", "lost", "lost", "failed"]
    (failure,) = records(run.session.run_dir, "failures")
    assert (failure["name"], failure["error_type"]) == ("deadly", "KilledWorker")


def test_workers_of_one_job_come_together_and_leave_together(queue: Slurm, tmp_path: Path) -> None:
    with running(manifest_text(max_workers=4, workers_per_job=2), tmp_path, queue) as run:
        futures = run.give(nap, range(16), [0.5] * 16)
        names = {"simulate-0~-0", "simulate-0~-1", "simulate-1~-0", "simulate-1~-1"}
        until(lambda: set(run.workers()) == names, "four workers")
        assert [job.cpus for job in run.jobs()] == [2, 2]
        assert run.client.gather(futures) == list(range(16))
        run.scale(2)
        until(lambda: len(run.jobs()) == 1, "one job less")
        kept = set(run.workers())
        assert kept in ({"simulate-0~-0", "simulate-0~-1"}, {"simulate-1~-0", "simulate-1~-1"})
        # What the others had computed has come over, and is not computed again.
        assert run.client.gather(futures) == list(range(16))
        # A job stays for as long as one of its workers does.
        run.scale(1)
        until(lambda: len(run.workers()) == 1, "one worker less")
        assert run.client.gather(run.give(nap, range(4), [0.1] * 4)) == list(range(4))
        assert len(run.jobs()) == 1
    assert run.attempts() == Counter(completed=20)


def test_both_workers_of_a_lost_job_are_replaced_by_one_job(queue: Slurm, tmp_path: Path) -> None:
    with running(manifest_text(max_workers=2, workers_per_job=2), tmp_path, queue) as run:
        futures = run.give(nap, range(12), [1.0] * 12)
        victim = run.job_of(run.busy(2)[0]).id
        queue.cancel(victim)
        assert run.client.gather(futures) == list(range(12))
        until(lambda: set(run.workers()) == {"simulate-1~-0", "simulate-1~-1"}, "two workers in their place")
    assert run.submitted() == 2


@pytest.mark.timeout(300)
def test_a_queue_longer_than_the_walltime_goes_on_with_workers_that_are_replaced_before_their_end(
    queue: Slurm, tmp_path: Path
) -> None:
    with running(manifest_text(walltime="00:01:00"), tmp_path, queue) as run:
        futures = run.give(nap, range(60), [2.0] * 60)
        assert run.client.gather(futures) == list(range(60))
    assert run.attempts() == Counter(completed=60)
    left = [one for one in records(run.session.run_dir, "workers") if one["event"] == "worker_removed"]
    assert [one["reason"] for one in left[:2]] == ["walltime", "walltime"]
    assert len(set(run.came())) >= 4


@pytest.mark.timeout(300)
def test_nothing_is_begun_that_could_not_finish_even_if_nobody_takes_over(queue: Slurm, tmp_path: Path) -> None:
    ends: dict[str, float] = {}

    def note() -> None:
        for name, member in list(run.pool.members.items()):
            if member.up and member.remote is not None and member.remote.ends_at is not None:
                ends.setdefault(name, member.remote.ends_at)

    with running(manifest_text(max_workers=1, walltime="00:01:00", duration="30s"), tmp_path, queue) as run:
        futures = run.give(nap, range(10), [4.0] * 10)
        until(lambda: note() or ends, "a worker whose end is known")
        (first,) = ends
        for node in queue.nodes():
            queue.node(node, "drain")
        until(lambda: time.time() > ends[first] - 20, "20 s before the end")
        (waiting,) = run.pool.waiting
        assert waiting.startswith("PENDING (")
        for node in queue.nodes():
            queue.node(node, "resume")
        until(lambda: note() or all(future.done() for future in futures), "all tasks", 150)
        assert run.client.gather(futures) == list(range(10))
    assert run.attempts() == Counter(completed=10)
    for task in records(run.session.run_dir, "tasks"):
        assert task["started_at"] < ends[task["worker"]] - 30
