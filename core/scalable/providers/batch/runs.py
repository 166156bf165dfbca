"""The runs of this user: those that have a directory, joined with those that Slurm's queue knows."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from scalable.errors import ScalableError
from scalable.providers.batch.command import call
from scalable.providers.batch.queue import ENDED_STATES, QueuedJob, parse_squeue, squeue_command
from scalable.telemetry.history import RunState, list_runs, read_run

__all__ = ["Standing", "UserRun", "ask_queue", "join_runs"]

Standing = Literal["running", "dead", "elsewhere", "unknown", "completed", "failed", "cancelled", "unreadable"]
"""How a run stands, seen from this machine.

``dead``: its process is gone and did not end it. ``elsewhere``: its process is, or was, on another
machine. ``unknown``: Slurm has jobs of it whose comment was replaced, so that its process is not known.
"""

_FROM_HISTORY: Final[Mapping[RunState, Standing]] = {
    "running": "running",
    "killed": "dead",
    "unknown": "elsewhere",
    "completed": "completed",
    "failed": "failed",
    "cancelled": "cancelled",
}


@dataclass(frozen=True, slots=True)
class UserRun:
    """One run.

    Attributes
    ----------
    run_id : str
        Its identifier.
    standing : str
        See :data:`Standing`.
    path : Path or None
        Its directory; ``None`` if only Slurm's queue knows it.
    provider, target : str
        What it runs on; the target is empty if only the queue knows it.
    host : str
        The machine of its process; may be empty.
    pid : int or None
        The process there; ``None`` if it is not known.
    jobs : tuple of QueuedJob
        Its jobs that Slurm knows.
    problem : str
        Why its directory cannot be read.
    """

    run_id: str
    standing: Standing
    path: Path | None = None
    provider: str = ""
    target: str = ""
    host: str = ""
    pid: int | None = None
    jobs: tuple[QueuedJob, ...] = ()
    problem: str = ""

    @property
    def live_jobs(self) -> tuple[QueuedJob, ...]:
        """The jobs that wait, run or are about to be over."""
        return tuple(job for job in self.jobs if job.state not in ENDED_STATES)

    @property
    def ended(self) -> bool:
        """Whether it was brought to an end, by itself or by another."""
        return self.standing in {"completed", "failed", "cancelled"}


def ask_queue() -> list[QueuedJob] | None:
    """Return all our jobs that Slurm knows, asked for at once; ``None`` if this machine has no ``squeue``.

    Raises
    ------
    ProviderError
        If Slurm does not answer.
    """
    arguments, environment = squeue_command()
    if shutil.which(arguments[0]) is None:
        return None
    answer = call(arguments, environment)
    if answer.code:
        raise answer.failure()
    return parse_squeue(answer.out)


def join_runs(runs_dir: Path, jobs: Sequence[QueuedJob], *, all_runs: bool = False) -> list[UserRun]:
    """Return the runs, newest first: those in a folder, then those that only the queue knows.

    Parameters
    ----------
    runs_dir : Path
        The folder.
    jobs : sequence of QueuedJob
        What :func:`ask_queue` returned.
    all_runs : bool
        Whether to return runs as well that have ended and have no job left.

    Raises
    ------
    ScalableError
        If the folder cannot be read.
    """
    by_run: dict[str, list[QueuedJob]] = {}
    for job in jobs:
        by_run.setdefault(job.run_id, []).append(job)
    found = []
    for ref in list_runs(runs_dir):
        theirs = tuple(by_run.pop(ref.run_id, ()))
        # A folder may hold thousands of ended runs, of which nothing more need be read.
        over = (ref.path / "summary.json").exists() and all(job.state in ENDED_STATES for job in theirs)
        if all_runs or not over:
            found.append(_recorded(ref.path, theirs))
    found += sorted(_queued(by_run), key=lambda run: run.run_id, reverse=True)
    return [run for run in found if all_runs or not run.ended or run.live_jobs]


def _recorded(path: Path, jobs: tuple[QueuedJob, ...]) -> UserRun:
    try:
        run = read_run(path)
    except ScalableError as error:
        return UserRun(path.name, "unreadable", path=path, jobs=jobs, problem=str(error))
    facts, standing = run.facts, _FROM_HISTORY[run.status]
    return UserRun(path.name, standing, path, facts.provider, facts.target, facts.host, facts.pid, jobs)


def _queued(by_run: Mapping[str, Sequence[QueuedJob]]) -> Iterator[UserRun]:
    """Yield the runs without a directory here: of another folder, or recorded nowhere."""
    for run_id, jobs in by_run.items():
        run = UserRun(run_id, "unknown", provider="slurm", jobs=tuple(jobs))
        if not run.live_jobs:
            continue
        owner = next((job.owner for job in jobs if job.owner is not None), None)
        if owner is None:
            yield run
            continue
        alive = owner.alive()
        standing: Standing = "elsewhere" if alive is None else "running" if alive else "dead"
        yield UserRun(run_id, standing, provider="slurm", host=owner.host, pid=owner.pid, jobs=run.jobs)
