"""A report for people."""

from __future__ import annotations

from collections.abc import Iterator

from scalable.report import rows
from scalable.report.model import Report
from scalable.units import format_duration

__all__ = ["render_text"]


def render_text(report: Report) -> str:
    """Return a report as lines of text, such as ``Tasks: 20 completed, 0 failed``."""
    return "\n".join(rows.plain(line).rstrip() for line in _lines(report)) + "\n"


def _lines(report: Report) -> Iterator[str]:
    run, workers = report.run, report.workers
    yield f"Run: {run.run_id}"
    yield f"Status: {rows.status(report)}"
    yield f"Target: {run.target} (provider: {run.provider})"
    if run.overlay:
        yield f"Overlay: {run.overlay}"
    yield f"Workers: peak={workers.peak}, avg={workers.average:.1f}"
    for pool in workers.pools:
        yield f"  {pool.tag}: {pool.started} started, {pool.removed} removed, {pool.final} final"
    yield f"Scaling events: {report.scaling.up} scale-up, {report.scaling.down} scale-down"
    yield f"Tasks: {rows.counts(report)}"
    if report.by_name:
        yield from _aligned(rows.task_table(report))
        yield from (f"  {note}" for note in rows.task_notes(report))
    yield f"Duration: {format_duration(report.duration_s)}"
    yield "Efficiency: " + rows.percent(report.efficiency, "not known") + " (worker utilization)"
    for place, line in enumerate(rows.cost_lines(report.cost)):
        yield f"  {line}" if place else f"Cost: {line}"
    if workers.pools:
        yield "Pools:"
        yield from _aligned(rows.pool_table(report))
    if report.failures:
        yield "Failures:"
        yield from (f"  {rows.failure_line(group)}" for group in report.failures)
    yield f"Files: {report.path}"


def _aligned(table: rows.Table) -> Iterator[str]:
    """Yield aligned lines: the first column to the left, numbers to the right."""
    lines = [table.header, *table.rows]
    widths = [max(len(line[column]) for line in lines) for column in range(len(table.header))]
    for first, *others in lines:
        cells = (cell.rjust(width) for cell, width in zip(others, widths[1:], strict=True))
        yield "  " + "  ".join([first.ljust(widths[0]), *cells])
