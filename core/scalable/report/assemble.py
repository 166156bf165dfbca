"""Building a report: DuckDB counts, this module puts the answers together."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from scalable.report import queries
from scalable.report.cost import cost_of
from scalable.report.model import FailureGroup, PoolUse, Report, ScalingEvents, TaskTotals, TaskUse, WorkerUse
from scalable.report.timeline import timeline_of
from scalable.telemetry.history import PlannedPool, RunHistory, read_run
from scalable.telemetry.tables import Tables

__all__ = ["build"]

_MOST_NAMES: Final = 500
_MOST_FAILURES: Final = 5


@dataclass(frozen=True, slots=True)
class _Names:
    names: int


@dataclass(frozen=True, slots=True)
class _Moment:
    at: float | None


@dataclass(frozen=True, slots=True)
class _Pool:
    tag: str
    started: int
    removed: int
    threads: int
    memory_bytes: int | None
    worker_s: float
    slot_s: float


@dataclass(frozen=True, slots=True)
class _Peak:
    tag: str | None
    peak: int


@dataclass(frozen=True, slots=True)
class _Busy:
    tag: str | None
    busy_s: float


def build(run_dir: Path, *, now: float | None = None) -> Report:
    """Return the report of a run.

    Parameters
    ----------
    run_dir : Path
        The run's directory; the run may still be under way.
    now : float, optional
        Unix seconds up to which a run that is under way is reported; by default the
        present.

    Raises
    ------
    ScalableError
        If it is not a run's directory, or a file of it cannot be read.
    """
    history = read_run(run_dir)
    with history.tables() as tables:
        tables.keep("attempts", queries.ATTEMPTS)
        ended_at = _end(history, tables, time.time() if now is None else now)
        tables.keep("spans", queries.SPANS, until=ended_at)
        pools = tables.ask(queries.POOLS, _Pool)
        busy = {line.tag: line.busy_s for line in tables.ask(queries.BUSY, _Busy)}
        return Report(
            path=str(run_dir),
            run=history.facts,
            status=history.status,
            ended_at=ended_at,
            tasks=tables.ask(queries.TOTALS, TaskTotals)[0],
            task_names=tables.ask(queries.NAMES, _Names)[0].names,
            by_name=tuple(tables.ask(queries.BY_NAME, TaskUse, most=_MOST_NAMES)),
            workers=_workers(tables, pools, history, busy, ended_at - history.facts.started_at),
            scaling=tables.ask(queries.SCALING, ScalingEvents)[0],
            efficiency=_share(sum(busy.values()), sum(pool.slot_s for pool in pools)),
            cost=cost_of(history, tables, ended_at),
            failures=tuple(tables.ask(queries.FAILURES, FailureGroup, most=_MOST_FAILURES)),
            timeline=timeline_of(tables, history.facts.started_at, ended_at),
        )


def _end(history: RunHistory, tables: Tables, now: float) -> float:
    if history.ended_at is not None:
        return history.ended_at
    if history.status == "running":
        return now
    last = tables.ask(queries.LAST_RECORD, _Moment)[0].at
    return max(history.facts.started_at, last or 0.0)


def _workers(
    tables: Tables, pools: list[_Pool], history: RunHistory, busy: Mapping[str | None, float], duration_s: float
) -> WorkerUse:
    peaks = {line.tag: line.peak for line in tables.ask(queries.PEAKS, _Peak)}
    seen = {pool.tag: pool for pool in pools}
    order = [*history.planned, *(tag for tag in seen if tag not in history.planned)]
    return WorkerUse(
        peak=peaks.get(None, 0),
        average=_mean(sum(pool.worker_s for pool in pools), duration_s),
        pools=tuple(
            _pool(seen[tag], history.planned.get(tag), peaks[tag], busy.get(tag, 0.0), duration_s)
            if tag in seen
            else _idle(tag, history.planned[tag])
            for tag in order
        ),
    )


def _pool(pool: _Pool, planned: PlannedPool | None, peak: int, busy_s: float, duration_s: float) -> PoolUse:
    return PoolUse(
        tag=pool.tag,
        started=pool.started,
        removed=pool.removed,
        peak=peak,
        average=_mean(pool.worker_s, duration_s),
        threads=pool.threads,
        memory_bytes=planned.memory_bytes if pool.memory_bytes is None and planned else pool.memory_bytes,
        efficiency=_share(busy_s, pool.slot_s),
    )


def _idle(tag: str, planned: PlannedPool) -> PoolUse:
    return PoolUse(tag, 0, 0, 0, 0.0, None, planned.memory_bytes, None)


def _mean(worker_s: float, duration_s: float) -> float:
    return worker_s / duration_s if duration_s > 0 else 0.0


def _share(busy_s: float, slot_s: float) -> float | None:
    # Two clocks measure them, so that a full slot can come out a little fuller.
    return min(1.0, busy_s / slot_s) if slot_s > 0 else None
