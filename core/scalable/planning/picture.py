"""The front of cost and time as a picture: a small SVG, which needs no library."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from scalable import svg
from scalable.errors import PlanError
from scalable.planning.plan import Plan
from scalable.units import format_duration

__all__ = ["check_picture", "draw_front"]

_WIDTH: Final = 720
_HEIGHT: Final = 480
_LEFT, _RIGHT, _TOP, _BOTTOM = 90, 30, 50, 70
_LINE: Final = "#3465a4"
_OWN: Final = "#cc4400"


def check_picture(path: Path) -> None:
    """Refuse a file that no picture can be drawn in.

    Raises
    ------
    PlanError
        If its name does not end in ``.svg``.
    """
    if path.suffix.lower() != ".svg":
        raise PlanError(f"--plot {path}: a picture of a plan is an SVG file; give it a name that ends in .svg")


def draw_front(plan: Plan, path: Path) -> None:
    """Draw time and cost of all choices, and which one was taken, on logarithmic axes.

    Parameters
    ----------
    plan : Plan
        One with a front.
    path : Path
        The SVG file to write.

    Raises
    ------
    PlanError
        If the plan has no front, or the file cannot be written.
    """
    check_picture(path)
    if len(plan.front) < 2 or plan.time_s is None or plan.cost is None:
        raise PlanError("there are no choices to draw: name an objective, and more of the tasks or of the limits")
    try:
        path.write_text(_svg(plan), encoding="utf-8")
    except OSError as error:
        raise PlanError(f"cannot write {path}: {error.strerror or error}") from error


def _svg(plan: Plan) -> str:
    assert plan.time_s is not None
    assert plan.cost is not None
    times = [point.time_s.mean for point in plan.front]
    costs = [point.cost.mean for point in plan.front]
    across = _scale([*times, plan.time_s.low, plan.time_s.high], _LEFT, _WIDTH - _RIGHT)
    up = _scale([*costs, plan.cost.low, plan.cost.high], _HEIGHT - _BOTTOM, _TOP)
    line = " ".join(f"{across(time):.1f},{up(cost):.1f}" for time, cost in zip(times, costs, strict=True))
    dots = [_dot(across(time), up(cost), 3, _LINE) for time, cost in zip(times, costs, strict=True)]
    x, y = across(plan.time_s.mean), up(plan.cost.mean)
    unit = "US dollars" if plan.unit == "USD" else plan.unit
    title = f"{plan.origin.project}, target {plan.origin.target}: {plan.objective} ({plan.policy})"
    workers = ", ".join(f"{count} {name}" for name, count in plan.counts.items())
    parts = [
        svg.text(_LEFT, 28, title, size=15),
        *_axis_below(_ticks(times), across),
        *_axis_left(_ticks(costs), up),
        svg.text((_LEFT + _WIDTH - _RIGHT) / 2, _HEIGHT - 20, "time", anchor="middle"),
        f'<g transform="rotate(-90 22 {_HEIGHT / 2})">{svg.text(22, _HEIGHT / 2, unit, anchor="middle")}</g>',
        f'<polyline points="{line}" fill="none" stroke="{_LINE}" stroke-width="1.5"/>',
        *dots,
        _bar(across(plan.time_s.low), y, across(plan.time_s.high), y),
        _bar(x, up(plan.cost.low), x, up(plan.cost.high)),
        _dot(x, y, 6, _OWN),
        svg.text(min(x + 10, _WIDTH - _RIGHT - 8 * len(workers)), y - 10, workers, colour=_OWN),
    ]
    return svg.page(_WIDTH, _HEIGHT, title, parts)


def _scale(values: Sequence[float], begin: float, end: float) -> Callable[[float], float]:
    low, high = math.log(max(min(values), 1e-12)), math.log(max(*values, 1e-12))
    low, high = low - 0.02, high + 0.02

    def place(value: float) -> float:
        return begin + (end - begin) * (math.log(max(value, 1e-12)) - low) / (high - low)

    return place


def _ticks(values: Sequence[float]) -> list[float]:
    low, high = math.log(max(min(values), 1e-12)), math.log(max(*values, 1e-12))
    return [math.exp(low + (high - low) * step / 4) for step in range(5)]


def _axis_below(ticks: Sequence[float], place: Callable[[float], float]) -> list[str]:
    bottom = _HEIGHT - _BOTTOM
    lines = [svg.line(_LEFT, bottom, _WIDTH - _RIGHT, bottom)]
    labels = ((place(tick), format_duration(tick)) for tick in ticks)
    return lines + [svg.text(x, bottom + 20, label, anchor="middle", colour=svg.GREY, size=11) for x, label in labels]


def _axis_left(ticks: Sequence[float], place: Callable[[float], float]) -> list[str]:
    lines = [svg.line(_LEFT, _TOP, _LEFT, _HEIGHT - _BOTTOM)]
    labels = ((place(tick) + 4, f"{tick:.3g}") for tick in ticks)
    return lines + [svg.text(_LEFT - 8, y, label, anchor="end", colour=svg.GREY, size=11) for y, label in labels]


def _dot(x: float, y: float, radius: int, colour: str) -> str:
    return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{radius}" fill="{colour}"/>'


def _bar(x1: float, y1: float, x2: float, y2: float) -> str:
    return svg.line(x1, y1, x2, y2, colour=_OWN, width=1.5)
