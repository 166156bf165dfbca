"""A report for people."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Final

from scalable.pricing import NOT_PAID
from scalable.report.model import CostUse, FailureGroup, PoolCost, PoolUse, Report, TaskTotals, TaskUse
from scalable.telemetry.history import PlannedCost, RunState
from scalable.units import format_duration

__all__ = ["render_text"]

_MOST_ROWS: Final = 40
_MOST_ERROR: Final = 160

_REMARKS: Final[dict[RunState, str]] = {
    "running": "what is known so far",
    "killed": "its process is gone and wrote no summary; what follows ends with its last record",
    "unknown": "no summary yet, and it ran on {host}: running or killed; what follows ends with its last record",
}


def render_text(report: Report) -> str:
    """Return a report as lines of text, such as ``Tasks: 20 completed, 0 failed``."""
    return "\n".join(_plain(line).rstrip() for line in _lines(report)) + "\n"


def _lines(report: Report) -> Iterator[str]:
    run, workers = report.run, report.workers
    remark = _REMARKS.get(report.status, "").format(host=run.host)
    yield f"Run: {run.run_id}"
    yield f"Status: {report.status}" + (f" ({remark})" if remark else "")
    yield f"Target: {run.target} (provider: {run.provider})"
    if run.overlay:
        yield f"Overlay: {run.overlay}"
    yield f"Workers: peak={workers.peak}, avg={workers.average:.1f}"
    for pool in workers.pools:
        yield f"  {pool.tag}: {pool.started} started, {pool.removed} removed, {pool.final} final"
    yield f"Scaling events: {report.scaling.up} scale-up, {report.scaling.down} scale-down"
    yield f"Tasks: {_counts(report.tasks)}"
    yield from _tasks(report)
    yield f"Duration: {format_duration(report.duration_s)}"
    yield "Efficiency: " + _percent(report.efficiency, "not known") + " (worker utilization)"
    yield from _cost(report.cost)
    yield from _pools(workers.pools)
    yield from _failures(report.failures)
    yield f"Files: {report.path}"


def _counts(tasks: TaskTotals) -> str:
    rare = {name: getattr(tasks, name) for name in ("cancelled", "lost", "retried")}
    return ", ".join(
        [
            f"{tasks.completed} completed",
            f"{tasks.failed} failed",
            *(f"{count} {name}" for name, count in rare.items() if count),
        ]
    )


def _tasks(report: Report) -> Iterator[str]:
    shown = report.by_name[:_MOST_ROWS]
    if not shown:
        return
    rare = [name for name in ("cancelled", "lost") if getattr(report.tasks, name)]
    header = ["task", "completed", "failed", *rare, "retried", "median", "p95", "peak p95", "peak max", "asked"]
    yield from _table(header, ([*_task_cells(use, rare)] for use in shown))
    if report.task_names > len(shown):
        yield f"  and {report.task_names - len(shown)} more names"
    if any(use.peak_shared for use in shown):
        yield "  * tasks shared a process: the peak is of all of them, an upper bound for each"


def _task_cells(use: TaskUse, rare: Sequence[str]) -> Iterator[str]:
    yield use.name
    yield from (str(getattr(use, name)) for name in ("completed", "failed", *rare, "retried"))
    yield from (_seconds(use.median_s), _seconds(use.p95_s))
    mark = "*" if use.peak_shared else ""
    yield from (_size(use.peak_p95_bytes, mark), _size(use.peak_max_bytes, mark), _size(use.asked_bytes))


def _pools(pools: Iterable[PoolUse]) -> Iterator[str]:
    rows = [
        [
            pool.tag,
            str(pool.peak),
            f"{pool.average:.1f}",
            "-" if pool.threads is None else str(pool.threads),
            _size(pool.memory_bytes),
            _percent(pool.efficiency, "-"),
        ]
        for pool in pools
    ]
    if rows:
        yield "Pools:"
        yield from _table(["pool", "peak", "avg", "threads", "memory", "efficiency"], rows)


def _cost(cost: CostUse | None) -> Iterator[str]:
    sources = dict.fromkeys(pool.source for pool in cost.pools if pool.source) if cost is not None else {}
    if cost is None or list(sources) == [NOT_PAID.source]:
        # What nobody sends a bill for is no news.
        return
    without = [pool.tag for pool in cost.pools if pool.usd is None]
    if cost.usd is not None:
        metered = f"{_dollars(cost.usd)} " + ("metered" if cost.final else "so far, by the workers that were seen")
    elif without:
        what = "pool" if len(without) == 1 else "pools"
        metered = f"not known: no price known for {what} {', '.join(without)}: set `price:` in the target"
    else:
        metered = "not metered"
    if cost.usd == 0:
        # Said once: there is nothing to divide among the pools.
        yield f"Cost: {metered}" + _estimate(cost.estimated) + (f" ({'; '.join(sources)})" if sources else "")
        return
    yield f"Cost: {metered}" + _estimate(cost.estimated)
    for pool in cost.pools:
        yield f"  {pool.tag}: {_paid(pool)}"


def _estimate(planned: PlannedCost | None) -> str:
    if planned is None or planned.usd is None:
        return ""
    bounds = (
        f" ({_dollars(planned.low)} to {_dollars(planned.high)})" if None not in (planned.low, planned.high) else ""
    )
    return f"; estimated {_dollars(planned.usd)}{bounds}"


def _paid(pool: PoolCost) -> str:
    hours = f"{pool.paid_s / 3600:,.2f} paid worker-hours, {pool.core_s / 3600:,.2f} core-hours"
    return hours if pool.usd is None else f"{hours}, {_dollars(pool.usd)} ({pool.source})"


def _dollars(usd: float | None) -> str:
    """Return an amount in cents, or, of less than one, the digits that tell it from nothing."""
    if usd is None:
        return "-"
    return f"${usd:,.2f}" if usd == 0 or abs(usd) >= 0.01 else f"${usd:.2g}"


def _failures(groups: Sequence[FailureGroup]) -> Iterator[str]:
    if groups:
        yield "Failures:"
    for group in groups:
        error = " ".join(group.error.split())
        shown = error if len(error) <= _MOST_ERROR else error[: _MOST_ERROR - 3] + "..."
        yield f"  {group.tasks} x {group.error_type} in {group.name}, first {group.key}: {shown}"


def _table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterator[str]:
    """Yield aligned lines: the first column to the left, numbers to the right."""
    lines = [header, *rows]
    widths = [max(len(line[column]) for line in lines) for column in range(len(header))]
    for first, *others in lines:
        cells = (cell.rjust(width) for cell, width in zip(others, widths[1:], strict=True))
        yield "  " + "  ".join([first.ljust(widths[0]), *cells])


def _seconds(value: float | None) -> str:
    return "-" if value is None else format_duration(value)


def _percent(share: float | None, unknown: str) -> str:
    return unknown if share is None else f"{share:.0%}"


def _size(size: int | None, mark: str = "") -> str:
    """Return a size rounded for people, in the binary units that manifests use."""
    if size is None:
        return "-"
    value, unit = float(size), ""
    for larger in "KMGTP":
        if value < 1023.5:
            break
        value, unit = value / 1024, larger
    digits = 1 if unit and value < 9.95 and value != int(value) else 0
    return f"{value:.{digits}f}{unit}{mark}"


def _plain(line: str) -> str:
    """Return a line without what would steer a terminal; names and errors are the user's."""
    return "".join(sign if sign.isprintable() else "?" for sign in line)
