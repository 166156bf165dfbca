"""A run's report for other programs of this process, such as the adapters of workflow engines."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from scalable.report.as_markdown import render_markdown
from scalable.report.as_text import render_text
from scalable.report.assemble import build
from scalable.report.model import Report
from scalable.report.picture import draw_run

__all__ = ["RunReport", "run_report"]


@dataclass(frozen=True, slots=True)
class RunReport:
    """What happened in a run.

    Attributes
    ----------
    figures : Report
        The numbers.
    """

    figures: Report

    def to_text(self) -> str:
        """Return it as ``scalable report`` prints it."""
        return render_text(self.figures)

    def to_markdown(self, *, plot: bool = True) -> str:
        """Return it as Markdown, by default with the picture inside, which is some ten kilobytes."""
        return render_markdown(self.figures, plot=plot)

    def plot(self) -> str | None:
        """Return an SVG of workers and tasks over time; ``None`` if there were none."""
        return draw_run(self.figures)


def run_report(run_dir: str | os.PathLike[str]) -> RunReport:
    """Return the report of a run, also of one that is under way.

    Parameters
    ----------
    run_dir : path
        The run's directory, such as :attr:`scalable.ScalableSession.run_dir`.

    Raises
    ------
    ScalableError
        If it is not a run's directory, or a file of it cannot be read.
    """
    return RunReport(build(Path(run_dir)))
