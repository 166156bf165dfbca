"""A report as Markdown, for pages that show it, such as an artifact of a workflow engine."""

from __future__ import annotations

import base64
import re
from collections.abc import Iterator

from scalable.report import rows
from scalable.report.model import Report
from scalable.report.picture import draw_run
from scalable.units import format_duration

__all__ = ["render_markdown"]

_MEANS_SOMETHING = re.compile(r"([\\`*_{}\[\]<>|~#&$!])")


def render_markdown(report: Report, *, plot: bool = True) -> str:
    """Return a report as Markdown with tables.

    Parameters
    ----------
    report : Report
        Of the run.
    plot : bool
        Whether workers and tasks over time are in it as a picture: an SVG of some ten
        kilobytes, inside the text itself.
    """
    return "\n".join(_lines(report, plot=plot)) + "\n"


def _lines(report: Report, *, plot: bool) -> Iterator[str]:
    run, workers = report.run, report.workers
    yield f"# Run {_text(run.run_id)}"
    yield ""
    yield f"- Status: {_text(rows.status(report))}"
    overlay = f", overlay {_text(run.overlay)}" if run.overlay else ""
    yield f"- Target: {_text(run.target)} (provider {_text(run.provider)}{overlay})"
    yield f"- Tasks: {rows.counts(report)}"
    yield f"- Workers: at most {workers.peak}, on average {workers.average:.1f}"
    yield f"- Scaling decisions: {report.scaling.up} up, {report.scaling.down} down"
    yield f"- Duration: {format_duration(report.duration_s)}"
    yield f"- Efficiency: {rows.percent(report.efficiency, 'not known')} of the workers' time"
    for place, line in enumerate(rows.cost_lines(report.cost)):
        yield f"  - {_text(line)}" if place else f"- Cost: {_text(line)}"
    picture = draw_run(report) if plot else None
    if picture is not None:
        data = base64.b64encode(picture.encode()).decode()
        yield from ("", f"![Workers and tasks over time](data:image/svg+xml;base64,{data})")
    if workers.pools:
        yield from ("", "## Pools", "", *_table(rows.pool_table(report)))
    if report.by_name:
        yield from ("", "## Tasks", "", *_table(rows.task_table(report)))
        for note in rows.task_notes(report):
            yield from ("", _text(note))
    if report.failures:
        yield from ("", "## Failures", "")
        yield from (f"- {_text(rows.failure_line(group))}" for group in report.failures)
    yield from ("", f"Files: {_text(report.path)}")


def _table(table: rows.Table) -> Iterator[str]:
    yield _row(table.header)
    yield _row(["---", *["---:"] * (len(table.header) - 1)], escape=False)
    yield from (_row(cells) for cells in table.rows)


def _row(cells: rows.Cells, *, escape: bool = True) -> str:
    return f"| {' | '.join(_text(cell) if escape else cell for cell in cells)} |"


def _text(words: str) -> str:
    """Return words that Markdown shows as they are; names and errors are the user's."""
    return _MEANS_SOMETHING.sub(r"\\\1", rows.plain(words))
