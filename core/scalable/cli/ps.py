"""``scalable ps``: the runs of this user and their jobs."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter

from scalable.errors import ProviderError

if TYPE_CHECKING:
    from scalable.providers.batch.queue import QueuedJob
    from scalable.providers.batch.runs import UserRun

__all__ = ["ps"]

_Flag = Annotated[bool, Parameter(negative="")]


def ps(
    *,
    all: _Flag = False,  # noqa: A002  (the option's name)
    format: Literal["text", "json"] = "text",  # noqa: A002  (the option's name)
    runs_dir: Path | None = None,
) -> int:
    """List the runs that are under way or died, with their jobs and what these wait for.

    Parameters
    ----------
    all
        List runs and jobs as well that have ended.
    format
        For people or for programs.
    runs_dir
        The folder of the runs; default is $SCALABLE_RUNS_DIR, or .scalable/runs here.
    """
    from scalable.providers.batch.runs import ask_queue, join_runs  # noqa: PLC0415  (help must not wait for it)
    from scalable.settings import Settings  # noqa: PLC0415

    folder = Settings.from_environ().runs_dir if runs_dir is None else runs_dir
    failure: ProviderError | None = None
    try:
        jobs = ask_queue()
    except ProviderError as error:
        jobs, failure = None, error
    runs = join_runs(folder, jobs or (), all_runs=all)
    if format == "json":
        facts = {"runs": [_as_json(run, all_jobs=all) for run in runs], "jobs_known": jobs is not None}
        print(json.dumps(facts, indent=1))  # noqa: T201
    else:
        print("\n".join(_as_text(runs, folder, all_jobs=all)))  # noqa: T201
    if jobs is None and failure is None and any(run.provider == "slurm" for run in runs):
        print("scalable: jobs are not shown: there is no `squeue` on this machine's PATH", file=sys.stderr)  # noqa: T201
    if failure is not None:
        # The runs are shown all the same; of their jobs nothing is known.
        print(f"scalable: {failure}", file=sys.stderr)  # noqa: T201
        return failure.exit_code
    return 0


def _as_json(run: UserRun, *, all_jobs: bool) -> dict[str, Any]:
    return {
        "run_id": run.run_id,
        "state": run.standing,
        "host": run.host,
        "provider": run.provider,
        "target": run.target,
        "path": None if run.path is None else str(run.path),
        "jobs": [
            {
                "job_id": job.job_id,
                "pool": job.pool,
                "state": job.state,
                "reason": job.reason,
                "node": job.node,
                "ends_at": job.ends_at,
            }
            for job in (run.jobs if all_jobs else run.live_jobs)
        ],
    }


def _as_text(runs: Sequence[UserRun], folder: Path, *, all_jobs: bool) -> Iterator[str]:
    if not runs:
        yield f"no runs in {folder}" if all_jobs else f"no runs are under way, and none in {folder} died"
        return
    lines: list[Sequence[str]] = [("RUN", "PROVIDER/TARGET", "STATE")]
    tables: list[Sequence[Sequence[str]]] = []
    for run in runs:
        place = "/".join(part for part in (run.provider, run.target) if part)
        lines.append((run.run_id, place or "-", _state(run)))
        tables.append([_job_line(job) for job in (run.jobs if all_jobs else run.live_jobs)])
    header, *heads = _aligned(lines)
    yield header
    for head, table in zip(heads, tables, strict=True):
        yield head
        if table:
            yield from ("  " + line for line in _aligned([("JOB", "POOL", "STATE", "REASON", "NODE", "ENDS"), *table]))


def _state(run: UserRun) -> str:
    return {"elsewhere": f"elsewhere: {run.host}", "unreadable": run.problem}.get(run.standing, run.standing)


def _job_line(job: QueuedJob) -> Sequence[str]:
    from scalable.units import format_duration  # noqa: PLC0415  (help must not wait for it)

    ends = "" if job.ends_at is None else f"in {format_duration(max(0.0, job.ends_at - time.time()))}"
    return [value or "-" for value in (job.job_id, job.pool, job.state, job.reason, job.node, ends)]


def _aligned(lines: Sequence[Sequence[str]]) -> Iterator[str]:
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    for line in lines:
        text = "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        # Names and reasons are not ours: nothing of them may steer the terminal.
        yield "".join(sign if sign.isprintable() else "?" for sign in text)
