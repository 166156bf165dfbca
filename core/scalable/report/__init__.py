"""A run as text, Markdown, JSON or a picture: what ran, on which workers, how well they were used."""

from __future__ import annotations

from scalable.report.as_json import render_json
from scalable.report.as_markdown import render_markdown
from scalable.report.as_text import render_text
from scalable.report.assemble import build
from scalable.report.face import RunReport, run_report
from scalable.report.model import (
    CostUse,
    FailureGroup,
    PoolCost,
    PoolUse,
    Report,
    ScalingEvents,
    TaskTotals,
    TaskUse,
    Timeline,
    WorkerUse,
)
from scalable.report.picture import draw_run

__all__ = [
    "CostUse",
    "FailureGroup",
    "PoolCost",
    "PoolUse",
    "Report",
    "RunReport",
    "ScalingEvents",
    "TaskTotals",
    "TaskUse",
    "Timeline",
    "WorkerUse",
    "build",
    "draw_run",
    "render_json",
    "render_markdown",
    "render_text",
    "run_report",
]
