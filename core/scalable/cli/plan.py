"""``scalable plan``: what would be asked for, and what would come of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from scalable.planning import Interval, Plan, Point

__all__ = ["objectives_of", "plan"]


def plan(
    manifest: Path | None = None,
    *,
    target: str | None = None,
    overlay: str | None = None,
    objective: str | None = None,
    policy: str | None = None,
    budget_usd: float | None = None,
    deadline_hours: float | None = None,
    advise: bool | None = None,
    plot: Path | None = None,
    format: Literal["text", "json"] = "text",  # noqa: A002  (the option's name)
) -> int:
    """Print the workers that a run would have, what it would take and cost, and why; nothing is started.

    Parameters
    ----------
    manifest
        The manifest; default is $SCALABLE_MANIFEST, or scalable.yaml here.
    target
        Name of the target; default is $SCALABLE_TARGET, or the manifest's only one.
    overlay
        Name of an overlay, or a file of one (.yaml), in place of the one that the target names.
    objective
        What to aim at: 'minimize cost', 'minimize time' or 'balance'; default is the manifest's numbers.
    policy
        How to get there: 'safe', with headroom, 'aggressive', by medians, or 'manual', the manifest's numbers.
    budget_usd
        US dollars that it may cost, in place of the manifest's.
    deadline_hours
        Hours that it may take, in place of the manifest's.
    advise
        Take the advice of past runs, or not; default is what the manifest says.
    plot
        File to draw the choices of time and cost in (.svg).
    format
        For people or for programs; 'json' is what `scalable run --plan` reads.
    """
    from scalable.planning.picture import check_picture, draw_front  # noqa: PLC0415  (help must not wait for it)
    from scalable.session import ScalableSession  # noqa: PLC0415  (as above)

    if plot is not None:
        check_picture(plot)
    session = ScalableSession.from_yaml(
        manifest, target=target, overlay=overlay, advise=advise, objectives=objectives_of(budget_usd, deadline_hours)
    )
    made = session.plan(dry_run=True, objective=objective, policy=policy)
    if plot is not None:
        draw_front(made, plot)
    print(json.dumps(made.to_json(), indent=1) if format == "json" else "\n".join(_lines(made)))  # noqa: T201
    return 0


def objectives_of(budget_usd: float | None, deadline_hours: float | None) -> dict[str, float] | None:
    """Return the bounds that options gave; ``None`` without any, which leaves those of the manifest."""
    given: dict[str, Any] = {"budget_usd": budget_usd, "deadline_hours": deadline_hours}
    return {name: value for name, value in given.items() if value is not None} or None


def _lines(made: Plan) -> list[str]:
    lines = [f"Target: {made.origin.target} (provider: {made.origin.provider})"]
    if made.objective is not None or made.policy != "manual":
        lines.append(f"Objective: {made.objective or 'none'} (policy: {made.policy})")
    lines.append("Workers:")
    lines += [f"  {tag}: {request.count} x {request.resources!r}" for tag, request in made.scale_plan.items()]
    later = {tag: count for tag, count in made.counts.items() if tag not in made.scale_plan}
    if made.policy != "manual":
        lines += [f"  {tag}: {count} x {made.resources[tag]!r}, when it has work" for tag, count in later.items()]
    lines.append(f"Limits: {made.limits.minimum} to {made.limits.maximum} workers")
    lines += _expected(made)
    lines += [f"Advice: {one}" for one in made.advice or ()]
    lines += [f"Note: {note}" for note in made.notes]
    return lines


def _expected(made: Plan) -> list[str]:
    if made.time_s is None or made.cost is None or made.worker_hours is None:
        return []
    lines = [
        f"Time: {_duration(made.time_s)}",
        f"Cost: {_cost(made.cost, made.unit)}" + (f" ({made.price_source})" if made.price_source else ""),
        f"Paid: {_number(made.worker_hours)} worker-hours",
    ]
    lines += [f"Why: {made.why}"] if made.front else []
    lines += [f"Limited by: {made.limited_by}"] if made.limited_by else []
    if len(made.front) > 1:
        lines += ["Choices, the fastest first:", *_table(made)]
    return [*lines, f"Fingerprint: {made.fingerprint}"]


def _table(made: Plan) -> list[str]:
    titles = ["TIME", "COST", *(name.upper() for name in made.front[0].counts)]
    rows = [titles, *(_row(point, made.unit) for point in made.shown_front)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(titles))]
    marks = ["", *("<" if point.counts == made.counts else "" for point in made.shown_front)]
    lines = ("  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)) for row in rows)
    return [f"  {line} {mark}".rstrip() for line, mark in zip(lines, marks, strict=True)]


def _row(point: Point, unit: str) -> list[str]:
    from scalable.units import format_duration  # noqa: PLC0415  (help must not wait for it)

    cost = f"${point.cost.mean:.4g}" if unit == "USD" else f"{point.cost.mean:.4g}"
    return [format_duration(point.time_s.mean), cost, *map(str, point.counts.values())]


def _duration(interval: Interval) -> str:
    from scalable.units import format_duration  # noqa: PLC0415  (as above)

    low, median, high = (format_duration(value) for value in (interval.low, interval.median, interval.high))
    return f"{median} ({low} to {high})"


def _cost(interval: Interval, unit: str) -> str:
    return f"${_number(interval)}" if unit == "USD" else f"{_number(interval)} {unit}"


def _number(interval: Interval) -> str:
    return f"{interval.median:.3g} ({interval.low:.3g} to {interval.high:.3g})"
