"""Reading runs back: which there are, and how each stands."""

from __future__ import annotations

import contextlib
import re
import socket
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import groupby
from pathlib import Path
from typing import Final, Literal, TypeVar

from pydantic import FiniteFloat, TypeAdapter, ValidationError

from scalable.errors import ScalableError, did_you_mean
from scalable.telemetry.recorder import boot_id
from scalable.telemetry.tables import Tables, open_tables

__all__ = [
    "INTERNAL",
    "PlannedCost",
    "PlannedPool",
    "RunFacts",
    "RunHistory",
    "RunRef",
    "RunState",
    "find_run",
    "list_runs",
    "read_run",
]

RunState = Literal["completed", "failed", "cancelled", "running", "killed", "unknown"]
"""How a run stands.

``running``: its process is alive. ``killed``: its process is gone and wrote no summary.
``unknown``: it wrote no summary, and ran on another machine, which cannot be asked from here.
"""

INTERNAL: Final = "scalable_internal"
"""Part of the names of this package's own tasks, which are recorded, and which nobody learns from."""

_SCHEMA: Final = 1
_LISTED: Final = 5
_STAMP: Final = re.compile(r"run-(\d{8}T\d{6})Z?-", re.ASCII)
# A process that started this much later than the run has the run's number by chance; clocks are adjusted by less.
_CLOCK_SLACK_S: Final = 60.0
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class RunFacts:
    """What ``run.json`` says: what was started, where and when (unix seconds)."""

    run_id: str
    started_at: FiniteFloat
    schema: int = _SCHEMA
    project: str = ""
    target: str = ""
    provider: str = ""
    overlay: str | None = None
    pid: int | None = None
    host: str = ""
    boot_id: str = ""
    scalable_version: str = ""
    manifest_path: str | None = None
    fingerprint: str | None = None
    objectives: Mapping[str, float | None] | None = None


@dataclass(frozen=True, slots=True)
class PlannedPool:
    """One pool as ``plan.json`` asked for it; ``memory_bytes`` is of one worker."""

    count: int = 0
    cpus: float = 1.0
    memory_bytes: int | None = None
    gpus: int = 0


@dataclass(frozen=True, slots=True)
class PlannedCost:
    """What ``plan.json`` expected a run to cost, in US dollars; ``low`` and ``high`` bound it where that was said."""

    usd: FiniteFloat | None = None
    low: FiniteFloat | None = None
    high: FiniteFloat | None = None
    source: str = ""


@dataclass(frozen=True, slots=True)
class _Plan:
    pools: dict[str, PlannedPool] = field(default_factory=dict)
    cost: PlannedCost | None = None


@dataclass(frozen=True, slots=True)
class _Summary:
    status: Literal["completed", "failed", "cancelled"]
    ended_at: FiniteFloat


@dataclass(frozen=True, slots=True)
class RunRef:
    """A run that has a directory: its identifier, which is the directory's name, and its path."""

    run_id: str
    path: Path


@dataclass(frozen=True, slots=True)
class RunHistory:
    """One run, read back.

    Attributes
    ----------
    path : Path
        The run's directory.
    facts : RunFacts
        What was started.
    status : str
        See :data:`RunState`.
    ended_at : float or None
        Unix seconds; ``None`` if the run wrote no summary.
    planned : mapping of str to PlannedPool
        The plan's pools by tag; empty if no plan was written.
    estimated : PlannedCost or None
        What the plan expected it to cost; ``None`` if it expected nothing.
    """

    path: Path
    facts: RunFacts
    status: RunState
    ended_at: float | None
    planned: Mapping[str, PlannedPool]
    estimated: PlannedCost | None = None

    @contextlib.contextmanager
    def tables(self) -> Iterator[Tables]:
        """Open the run's records for queries.

        Raises
        ------
        ScalableError
            If a file is there and cannot be read.
        """
        with open_tables(self.path) as tables:
            yield tables


def list_runs(runs_dir: Path) -> list[RunRef]:
    """Return the runs that have a directory in a folder, newest first.

    Parameters
    ----------
    runs_dir : Path
        The folder; one that does not exist holds no runs.

    Raises
    ------
    ScalableError
        If the folder cannot be read.
    """
    try:
        found = [path for path in runs_dir.iterdir() if (path / "run.json").is_file()]
    except FileNotFoundError:
        return []
    except OSError as error:
        raise ScalableError(f"cannot list the runs in {runs_dir}: {error.strerror}") from error
    ordered: list[Path] = []
    # Names tell the second of the start; only runs of one second need to be opened, which counts on slow disks.
    for _, same in groupby(sorted(found, key=_stamp, reverse=True), key=_stamp):
        paths = list(same)
        ordered += paths if len(paths) == 1 else sorted(paths, key=_started, reverse=True)
    return [RunRef(path.name, path) for path in ordered]


def _stamp(path: Path) -> float:
    if match := _STAMP.match(path.name):
        with contextlib.suppress(ValueError):
            return datetime.strptime(match[1], "%Y%m%dT%H%M%S").replace(tzinfo=UTC).timestamp()
    return float(int(_started(path)[0]))


def _started(path: Path) -> tuple[float, str]:
    try:
        return _facts(path).started_at, path.name
    except ScalableError:
        return 0.0, path.name


def find_run(runs_dir: Path, run_id: str | None = None) -> RunRef:
    """Return one run of a folder.

    Parameters
    ----------
    runs_dir : Path
        Where the runs are.
    run_id : str, optional
        The run's identifier, or as much of its beginning as no other run shares.
        By default the newest run.

    Raises
    ------
    ScalableError
        If there is no such run, or more than one.
    """
    runs = list_runs(runs_dir)
    if not runs:
        raise ScalableError(
            f"there are no runs in {runs_dir}; start one with `scalable run`, "
            "or name another folder with --runs-dir or SCALABLE_RUNS_DIR"
        )
    if run_id is None:
        return runs[0]
    fitting = [run for run in runs if run.run_id == run_id] or [
        run for run in runs if run_id and run.run_id.startswith(run_id)
    ]
    if len(fitting) == 1:
        return fitting[0]
    if fitting:
        raise ScalableError(f"{len(fitting)} runs in {runs_dir} begin with '{run_id}': {_names(fitting)}; give more")
    hint = did_you_mean(run_id, [run.run_id for run in runs])
    raise ScalableError(
        f"there is no run '{run_id}' in {runs_dir}; newest: {_names(runs)}" + (f"; {hint}" if hint else "")
    )


def _names(runs: list[RunRef]) -> str:
    names = ", ".join(run.run_id for run in runs[:_LISTED])
    return f"{names} and {len(runs) - _LISTED} more" if len(runs) > _LISTED else names


def read_run(run_dir: Path) -> RunHistory:
    """Return what a run's directory tells of the run.

    Parameters
    ----------
    run_dir : Path
        A run's directory; the run may still be under way.

    Raises
    ------
    ScalableError
        If it is not a run's directory, or a file of it cannot be understood.
    """
    facts = _facts(run_dir)
    summary = _read(run_dir / "summary.json", _Summary)
    status: RunState = summary.status if summary else _without_summary(facts)
    if status == "killed":
        # It may have ended well between the two looks.
        summary = _read(run_dir / "summary.json", _Summary)
        status = summary.status if summary else status
    plan = _read(run_dir / "plan.json", _Plan) or _Plan()
    return RunHistory(run_dir, facts, status, summary.ended_at if summary else None, plan.pools, plan.cost)


def _facts(run_dir: Path) -> RunFacts:
    facts = _read(run_dir / "run.json", RunFacts)
    if facts is None:
        raise ScalableError(f"{run_dir} is not a run's directory: it holds no run.json")
    if facts.schema > _SCHEMA:
        raise ScalableError(
            f"{run_dir} was written by a newer Scalable (schema {facts.schema}, this one reads {_SCHEMA}); "
            "pip install --upgrade scalable-workflows"
        )
    return facts


def _read(path: Path, kind: type[_T]) -> _T | None:
    """Return a JSON file as an object, or ``None`` if there is no such file."""
    try:
        return TypeAdapter(kind).validate_json(path.read_bytes())
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise ScalableError(f"cannot read {path}: {error.strerror}") from error
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        raise ScalableError(f"cannot read {path}: {where + ': ' if where else ''}{first['msg']}") from error


def _without_summary(facts: RunFacts) -> RunState:
    if facts.host and facts.host != socket.gethostname():
        return "unknown"
    boot = boot_id()
    if facts.boot_id and boot and facts.boot_id != boot:
        return "killed"
    return "running" if facts.pid is not None and _lives(facts.pid, facts.started_at) else "killed"


def _lives(pid: int, since: float) -> bool:
    """Return whether a process that was there at a time (unix seconds) still is."""
    import psutil  # noqa: PLC0415  (import cost)

    try:
        process = psutil.Process(pid)
        return bool(process.status() != psutil.STATUS_ZOMBIE and process.create_time() <= since + _CLOCK_SLACK_S)
    except psutil.AccessDenied:
        return True
    except (psutil.Error, ValueError, OverflowError):
        return False
