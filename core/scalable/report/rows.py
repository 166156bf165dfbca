"""What the renderings of a report have in common: its tables, and its numbers in words."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

from scalable.pricing import NOT_PAID
from scalable.report.model import CostUse, FailureGroup, PoolCost, Report, TaskUse
from scalable.telemetry.history import PlannedCost, RunState
from scalable.units import format_duration

__all__ = [
    "Cells",
    "Table",
    "cost_lines",
    "counts",
    "failure_line",
    "percent",
    "plain",
    "pool_table",
    "status",
    "task_notes",
    "task_table",
]

_MOST_ROWS: Final = 40
_MOST_ERROR: Final = 160

_REMARKS: Final[dict[RunState, str]] = {
    "running": "what is known so far",
    "killed": "its process is gone and wrote no summary; what follows ends with its last record",
    "unknown": "no summary yet, and it ran on {host}: running or killed; what follows ends with its last record",
}


Cells: TypeAlias = Sequence[str]
"""A line of a table."""


@dataclass(frozen=True, slots=True)
class Table:
    """The first column is a name, the others are numbers."""

    header: Cells
    rows: Sequence[Cells]


def status(report: Report) -> str:
    """Return how the run stands."""
    remark = _REMARKS.get(report.status, "").format(host=report.run.host)
    return report.status + (f" ({remark})" if remark else "")


def counts(report: Report) -> str:
    """Return how many tasks there were."""
    tasks = report.tasks
    rare = {name: getattr(tasks, name) for name in ("cancelled", "lost", "retried")}
    return ", ".join(
        [
            f"{tasks.completed} completed",
            f"{tasks.failed} failed",
            *(f"{count} {name}" for name, count in rare.items() if count),
        ]
    )


def task_table(report: Report) -> Table:
    """Return the tasks by name, the first few dozen names."""
    rare = [name for name in ("cancelled", "lost") if getattr(report.tasks, name)]
    header = ["task", "completed", "failed", *rare, "retried", "median", "p95", "peak p95", "peak max", "asked"]
    return Table(header, [[*_task_cells(use, rare)] for use in report.by_name[:_MOST_ROWS]])


def task_notes(report: Report) -> Iterator[str]:
    """Yield what is to be said below the table of tasks."""
    shown = report.by_name[:_MOST_ROWS]
    if report.task_names > len(shown):
        yield f"and {report.task_names - len(shown)} more names"
    if any(use.peak_shared for use in shown):
        yield "* tasks shared a process: the peak is of all of them, an upper bound for each"


def _task_cells(use: TaskUse, rare: Sequence[str]) -> Iterator[str]:
    yield use.name
    yield from (str(getattr(use, name)) for name in ("completed", "failed", *rare, "retried"))
    yield from (_seconds(use.median_s), _seconds(use.p95_s))
    mark = "*" if use.peak_shared else ""
    yield from (_size(use.peak_p95_bytes, mark), _size(use.peak_max_bytes, mark), _size(use.asked_bytes))


def pool_table(report: Report) -> Table:
    """Return the pools' workers and how well they were used."""
    rows = [
        [
            pool.tag,
            str(pool.peak),
            f"{pool.average:.1f}",
            "-" if pool.threads is None else str(pool.threads),
            _size(pool.memory_bytes),
            percent(pool.efficiency, "-"),
        ]
        for pool in report.workers.pools
    ]
    return Table(["pool", "peak", "avg", "threads", "memory", "efficiency"], rows)


def cost_lines(cost: CostUse | None) -> Iterator[str]:
    """Yield what the run costs, then what each pool does; nothing where nobody sends a bill."""
    sources = dict.fromkeys(pool.source for pool in cost.pools if pool.source) if cost is not None else {}
    if cost is None or list(sources) == [NOT_PAID.source]:
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
        yield metered + _estimate(cost.estimated) + (f" ({'; '.join(sources)})" if sources else "")
        return
    yield metered + _estimate(cost.estimated)
    for pool in cost.pools:
        yield f"{pool.tag}: {_paid(pool)}"


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


def failure_line(group: FailureGroup) -> str:
    """Return what failed, how often, and the first error."""
    error = " ".join(group.error.split())
    shown = error if len(error) <= _MOST_ERROR else error[: _MOST_ERROR - 3] + "..."
    return f"{group.tasks} x {group.error_type} in {group.name}, first {group.key}: {shown}"


def percent(share: float | None, unknown: str) -> str:
    """Return a share in per cent."""
    return unknown if share is None else f"{share:.0%}"


def plain(line: str) -> str:
    """Return a line without what would steer a terminal; names and errors are the user's."""
    return "".join(sign if sign.isprintable() else "?" for sign in line)


def _seconds(value: float | None) -> str:
    return "-" if value is None else format_duration(value)


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
