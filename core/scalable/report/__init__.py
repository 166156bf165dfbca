"""A run as text or JSON: what ran, on which workers, how well they were used."""

from __future__ import annotations

from scalable.report.as_json import render_json
from scalable.report.as_text import render_text
from scalable.report.assemble import build
from scalable.report.model import (
    CostUse,
    FailureGroup,
    PoolCost,
    PoolUse,
    Report,
    ScalingEvents,
    TaskTotals,
    TaskUse,
    WorkerUse,
)

__all__ = [
    "CostUse",
    "FailureGroup",
    "PoolCost",
    "PoolUse",
    "Report",
    "ScalingEvents",
    "TaskTotals",
    "TaskUse",
    "WorkerUse",
    "build",
    "render_json",
    "render_text",
]
