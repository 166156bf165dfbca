"""What Slurm's queue says of our jobs: asked once for all of them, read line by line."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final
from urllib.parse import quote, unquote

from scalable.telemetry.owner import Owner

__all__ = [
    "ENDED_STATES",
    "PERMANENT_REASONS",
    "QueuedJob",
    "comment_of",
    "parse_squeue",
    "read_comment",
    "squeue_command",
]

_FIELDS: Final = 8
# The reason comes last: it is the one field of our jobs in which a plugin may write whatever it likes.
_FORMAT: Final = "%i|%T|%N|%e|%V|%j|%k|%r"
_NOTHING: Final = frozenset({"", "None", "(null)", "N/A"})

# As new_run_id makes them.
_RUN_ID: Final = re.compile(r"run-\d{8}T\d{6}Z-[a-z0-9-]+-[0-9a-f]{8}", re.ASCII)
_COMMENT: Final = re.compile(r"scalable pool=(\S+) host=(\S+) pid=(\d+) started=(\d+)", re.ASCII)
# "123", "123_4", and elements that still wait together: "123_[0-3,7%2]", "123_[0-30:2]".
_JOB_ID: Final = re.compile(r"(?P<job>\d+)(_(?P<element>\d+)|_\[(?P<elements>[\d,:-]+)(%\d+)?\])?", re.ASCII)
_SPAN: Final = re.compile(r"(\d+)(?:-(\d+)(?::(\d+))?)?", re.ASCII)
_UNIX_SECONDS: Final = re.compile(r"\d+", re.ASCII)


def _permanent() -> Iterator[str]:
    """Yield the words of https://slurm.schedmd.com/job_reason_codes.html for a request that waiting does not help.

    Limits of a user, an account or a group are not among them, although a request may be larger
    than such a limit as a whole: the word is the same while others use the share up. Nor is
    ``PartitionConfig``, which stands for any other until the scheduler has looked at the job.
    """
    yield from ("InvalidAccount", "InvalidQOS", "AccountNotAllowed", "QOSNotAllowed")
    yield from ("BadConstraints", "PartitionTimeLimit", "PartitionNodeLimit", "MaxMemPerLimit")
    yield from ("AssocMaxWallDurationPerJobLimit", "QOSMaxWallDurationPerJobLimit", "QOSMinCpuNotSatisfied")
    yield from ("DependencyNeverSatisfied", "DeadLine", "ReservationDeleted", "ReservationInvalid")
    for what in ("BB", "Billing", "Cpu", "Energy", "GRES", "License", "Mem", "Memory", "Node", "Unknown"):
        yield f"QOSMin{what}"
        for whose in ("Assoc", "QOS"):
            for most in ("PerJob", "PerJobLimit", "PerNode", "MinutesPerJob", "MinutesPerJobLimit"):
                yield f"{whose}Max{what}{most}"


PERMANENT_REASONS: Final = frozenset(_permanent())
"""Reasons of a pending job that do not go away by waiting: what was asked for can never be had."""

ENDED_STATES: Final = frozenset(
    {
        "BOOT_FAIL",
        "CANCELLED",
        "COMPLETED",
        "DEADLINE",
        "FAILED",
        "NODE_FAIL",
        "OUT_OF_MEMORY",
        "PREEMPTED",
        "REVOKED",
        "TIMEOUT",
    }
)
"""States of a job that is over; one that is ``COMPLETING`` still has its node."""


@dataclass(frozen=True, slots=True)
class QueuedJob:
    """One of our jobs, as Slurm sees it.

    Attributes
    ----------
    job_id : str
        What ``scancel`` takes: ``"123"``, or ``"123_4"`` for an element of an array.
    state : str
        In Slurm's words: ``"PENDING"``, ``"RUNNING"``, ``"OUT_OF_MEMORY"``.
    reason : str
        Why it is in that state: ``"Resources"``, ``"QOSMaxJobsPerUserLimit"``; empty if Slurm gives none.
        Elements of an array that wait together have one for all: what never goes away, if any has
        that, or else all that there are, separated by commas.
    node : str
        Where it runs or ran; empty before.
    ends_at : float or None
        When its time is up, in unix seconds by Slurm's clock, if it runs and has a limit. (What is
        left of it would be no better: squeue subtracts the clock of the machine that it runs on.)
    run_id : str
        The run it belongs to.
    pool : str
        The pool; empty if the job's comment is not ours.
    owner : Owner or None
        The process that submitted it; ``None`` if the job's comment is not ours.
    submitted_at : float or None
        When it was submitted, or put back into the queue, in unix seconds by Slurm's clock.
    """

    job_id: str
    state: str
    reason: str
    node: str
    ends_at: float | None
    run_id: str
    pool: str
    owner: Owner | None
    submitted_at: float | None = None


def comment_of(pool: str, owner: Owner) -> str:
    """Return the comment that marks a job as ours.

    Examples
    --------
    >>> comment_of("simulate", Owner("login1", 4242, 123456))
    'scalable pool=simulate host=login1 pid=4242 started=123456'
    """
    return f"scalable pool={quote(pool, safe='+')} host={quote(owner.host)} pid={owner.pid} started={owner.started}"


def read_comment(comment: str) -> tuple[str, Owner] | None:
    """Return the pool and the owner that :func:`comment_of` wrote down; ``None`` for any other comment."""
    match = _COMMENT.fullmatch(comment)
    if match is None:
        return None
    pool, host, pid, started = match.groups()
    return unquote(pool), Owner(unquote(host), int(pid), int(started))


def squeue_command(run_id: str | None = None) -> tuple[list[str], dict[str, str]]:
    """Return the one command that tells of all jobs of this user, or of a run, whatever their state.

    Slurm forgets a job some minutes after its end, as ``MinJobAge`` of its configuration says, and
    at once those elements of an array that were cancelled before they started.

    Returns
    -------
    arguments : list of str
        The command.
    environment : dict
        The whole environment to run it in.
    """
    # Not `--array`: of waiting elements at regular distances, such as 0, 2, 4, it leaves out the last.
    # The parser does what it should do.
    arguments = ["squeue", "--me", "--all", "--states=all", "--noheader", f"--format={_FORMAT}"]
    if run_id is not None:
        arguments.append(f"--name={run_id}")
    # The user's own SQUEUE_PARTITION and the like would hide jobs.
    ours = {name: value for name, value in os.environ.items() if not name.startswith("SQUEUE_")}
    return arguments, ours | {"SLURM_TIME_FORMAT": "%s", "SLURM_BITSTR_LEN": "0"}


def parse_squeue(text: str) -> list[QueuedJob]:
    """Return our jobs from what the command of :func:`squeue_command` printed; other lines are left out."""
    return [job for line in text.splitlines() for job in _jobs(line)]


def _jobs(line: str) -> Iterator[QueuedJob]:
    fields = line.split("|", _FIELDS - 1)
    number = _JOB_ID.fullmatch(fields[0])
    if number is None or len(fields) < _FIELDS:
        return
    _, state, node, end, submitted, name, comment, reason = fields
    mark = read_comment(comment)
    if mark is None and not _RUN_ID.fullmatch(name):
        return
    pool, owner = mark or ("", None)
    for job_id in _job_ids(number):
        yield QueuedJob(
            job_id=job_id,
            state=state,
            reason=_reason(reason),
            node="" if node in _NOTHING else node,
            # A time is told of others, too: an estimate while they wait, and when they ended.
            ends_at=float(end) if state == "RUNNING" and _UNIX_SECONDS.fullmatch(end) else None,
            run_id=name,
            pool=pool,
            owner=owner,
            submitted_at=float(submitted) if _UNIX_SECONDS.fullmatch(submitted) else None,
        )


def _job_ids(number: re.Match[str]) -> Iterator[str]:
    if number["elements"] is None:
        yield number[0]
        return
    for span in number["elements"].split(","):
        if match := _SPAN.fullmatch(span):
            first, last, step = match.groups()
            for element in range(int(first), int(last or first) + 1, max(1, int(step or 1))):
                yield f"{number['job']}_{element}"


def _reason(text: str) -> str:
    words = [word for word in text.split(",") if word not in _NOTHING]
    return next((word for word in words if word in PERMANENT_REASONS), ",".join(words))
