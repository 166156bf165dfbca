"""``scalable clean``: ends what dead runs left behind."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from scalable.errors import ScalableError, did_you_mean

if TYPE_CHECKING:
    from scalable.providers.batch.runs import UserRun

__all__ = ["clean"]

_Flag = Annotated[bool, Parameter(negative="")]


def clean(*, run: str | None = None, dry_run: _Flag = False, runs_dir: Path | None = None) -> int:
    """End what dead runs left behind: jobs, certificates, open records.

    A run is dead when its process is gone and did not end it. A run that was started on another
    machine is ended only when it is named.

    Parameters
    ----------
    run
        The run of this name, and no other; its beginning will do.
    dry_run
        Say what would be ended, and end nothing.
    runs_dir
        The folder of the runs; default is $SCALABLE_RUNS_DIR, or .scalable/runs here.
    """
    from scalable.providers.batch.runs import ask_queue, join_runs  # noqa: PLC0415  (help must not wait for it)
    from scalable.settings import Settings  # noqa: PLC0415

    folder = Settings.from_environ().runs_dir if runs_dir is None else runs_dir
    jobs = ask_queue()
    runs = join_runs(folder, jobs or (), all_runs=run is not None)
    chosen = (
        [one for one in runs if one.standing == "dead" or one.ended] if run is None else [_named(run, runs, folder)]
    )
    code, ended = _end(chosen, slurm_asked=jobs is not None, dry_run=dry_run)
    if run is None:
        for one in runs:
            if one.standing in {"elsewhere", "unknown", "unreadable"}:
                print(f"{one.run_id}: left alone, {_why(one)}")  # noqa: T201
    if not ended and not code:
        print("nothing is left of " + ("dead runs" if run is None else chosen[0].run_id))  # noqa: T201
    return code


def _end(runs: Sequence[UserRun], *, slurm_asked: bool, dry_run: bool) -> tuple[int, int]:
    """End what is left of the runs, one after the other; return the exit code and of how many there was any."""
    from scalable.providers.batch.leftovers import find_leftovers  # noqa: PLC0415  (help must not wait for it)

    code = ended = 0
    for run in runs:
        try:
            left = find_leftovers(run, slurm_asked=slurm_asked)
            if left and not dry_run:
                left.end()
        except ScalableError as error:
            print(f"scalable: {run.run_id}: {error}", file=sys.stderr)  # noqa: T201
            code = code or error.exit_code
            continue
        if left:
            ended += 1
            print(f"{run.run_id}: {'would end' if dry_run else 'ended'} {left.told()}")  # noqa: T201
    return code, ended


def _why(run: UserRun) -> str:
    if run.standing == "unreadable":
        return run.problem
    where = f"it was started on {run.host}" if run.standing == "elsewhere" else "it is not known who started it"
    return f"{where}; if that is over, `scalable clean --run {run.run_id}`"


def _named(name: str, runs: Sequence[UserRun], folder: Path) -> UserRun:
    fitting = [run for run in runs if run.run_id == name] or [
        run for run in runs if name and run.run_id.startswith(name)
    ]
    if len(fitting) > 1:
        raise ScalableError(f"{len(fitting)} runs begin with '{name}'; give more")
    if not fitting:
        hint = did_you_mean(name, [run.run_id for run in runs])
        raise ScalableError(
            f"there is no run '{name}' in {folder}, nor among your jobs in Slurm" + (f"; {hint}" if hint else "")
        )
    (run,) = fitting
    if run.standing == "running":
        raise ScalableError(f"{run.run_id} is under way; end its process, {run.pid}, and it takes its jobs along")
    if run.standing == "unreadable":
        raise ScalableError(run.problem)
    return run
