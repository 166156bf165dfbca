"""A run on the Slurm of the tests that is disturbed, and the account that it must be able to give after it."""

from __future__ import annotations

import json
import os
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from distributed import Future

from scalable import ScalableClient, ScalableSession
from scalable.pools.cluster import PoolCluster
from scalable.pools.pool import Pool
from tests.conftest import records
from tests.providers.batch.real import until
from tests.slurm.backend import Job, Slurm

MANIFEST = """\
version: 1
project: {name: faults}
targets:
  hpc: {provider: slurm, OPTIONS}
components:
  simulate: {cpus: CPUS, memory: MEMORY}
tasks:
  nap: {component: simulate, DURATION}
"""


def manifest_text(cpus: int = 1, memory: str = "400M", duration: str = "", **options: object) -> str:
    """Return a manifest of one pool for the Slurm of the tests, with options of the target."""
    given = {"account": "science", "queue": "main", "interface": "lo", "max_workers": 2} | options
    lines = (f"{name}: {json.dumps(value)}" for name, value in given.items())
    text = MANIFEST.replace("OPTIONS", ", ".join(lines)).replace("CPUS", str(cpus)).replace("MEMORY", memory)
    return text.replace(", DURATION", f", duration: {duration}" if duration else "")


class Run:
    """A run, the jobs that it has in the queue, and the tasks that it was given."""

    def __init__(self, session: ScalableSession, slurm: Slurm) -> None:
        self.session = session
        self.slurm = slurm
        self.client: ScalableClient = session.start()
        assert session._run is not None
        self.cluster: PoolCluster = session._run.cluster
        self.controller = session._run.controller
        self.given: dict[str, Future[Any]] = {}
        self.statuses: dict[str, str] = {}

    @property
    def pool(self) -> Pool:
        return self.cluster.pools["simulate"]

    def give(self, function: Callable[..., Any], *arguments: Any, name: str = "nap") -> list[Future[Any]]:
        """Hand in one task for each argument."""
        futures = self.client.map(function, *arguments, name=name, tag="simulate")
        self.given |= {str(future.key): future for future in futures}
        return futures

    def scale(self, count: int) -> None:
        """Want so many workers from now on, whatever the tasks need."""
        self.controller.stop()
        self.cluster.soon(self.cluster.scale, {"simulate": count}, "by hand")

    def jobs(self) -> list[Job]:
        """Return its jobs that have not ended."""
        return [job for job in self.slurm.jobs() if job.name == self.session.run_id]

    def job_of(self, worker: str) -> Job:
        """Return the job in which a worker runs."""
        group = worker.partition("~")[0]
        found = self.cluster.pools["simulate"].members[worker].process._jobs.job(group)  # type: ignore[union-attr]
        job = self.slurm.job(found.id)
        assert job is not None
        return job

    def workers(self) -> dict[str, int]:
        """Return the workers that are up, by name, with how many tasks each runs or has in line."""
        scheduler = self.cluster.scheduler
        return {str(one.name): len(one.processing) for one in list(scheduler.workers.values())}

    def busy(self, count: int) -> list[str]:
        """Wait until so many workers have tasks, and return their names."""

        def names() -> list[str]:
            found = sorted(name for name, tasks in self.workers().items() if tasks)
            return found if len(found) >= count else []

        return until(names, f"{count} busy workers")  # type: ignore[no-any-return]

    def came(self) -> list[str]:
        """Return the names of all workers that ever were up."""
        return [one["worker"] for one in records(self.session.run_dir, "workers") if one["event"] == "worker_added"]

    def submitted(self) -> int:
        """Return how many jobs it has asked for in all."""
        return sum(len(one["job_ids"]) for one in records(self.session.run_dir, "jobs") if one["event"] == "submitted")

    def attempts(self) -> Counter[str]:
        """Return how many attempts of tasks ended in each way."""
        return Counter(one["outcome"] for one in records(self.session.run_dir, "tasks"))

    def account(self) -> None:
        """Check that each task has ended once, in one way, which its future said too; call it after the run.

        Only a result that was lost with its worker may have been computed before.
        """
        lost = {one["worker"] for one in records(self.session.run_dir, "workers") if one["reason"] == "lost"}
        ended: dict[str, str] = {}
        for one in records(self.session.run_dir, "tasks"):
            if one["outcome"] == "lost":
                continue
            before = ended.get(one["key"])
            assert before is None or before in lost, f"{one['key']} ended on {before} and again: {one}"
            ended[one["key"]] = one["worker"] if one["outcome"] == "completed" else one["outcome"]
        assert ended.keys() == self.statuses.keys(), ended.keys() ^ self.statuses.keys()
        failed = {key for key, status in self.statuses.items() if status == "error"}
        assert {key for key, how in ended.items() if how == "failed"} == failed, (ended, failed)
        assert "cancelled" not in ended.values(), ended


@contextmanager
def running(text: str, folder: Path, slurm: Slurm) -> Iterator[Run]:
    """Start a run; when the test is done with it, close it and have it account for its tasks."""
    path = folder / "scalable.yaml"
    path.write_text(text)
    with ScalableSession.from_yaml(path) as session:
        run = Run(session, slurm)
        yield run
        run.statuses = {key: str(future.status) for key, future in run.given.items()}
    run.account()


def nap(number: int, seconds: float) -> int:
    """Take some time."""
    time.sleep(seconds)
    return number


def die(number: int) -> int:
    """Take the worker along, once it has said in a heartbeat what it runs."""
    time.sleep(2)
    os.kill(os.getpid(), signal.SIGKILL)
    return number
