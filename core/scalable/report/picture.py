"""A run over time as a picture: a small SVG, of a size that does not grow with the run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from scalable import svg
from scalable.report.model import Report
from scalable.report.rows import plain
from scalable.units import format_duration

__all__ = ["draw_run"]

_WIDTH: Final = 720
_HEIGHT: Final = 400
_LEFT, _RIGHT = 60, 60
_PANEL: Final = 115
_TOPS: Final = (65, 235)
_WAITING: Final = "waiting"
_RUNNING: Final = "running"
_OTHERS: Final = "others"
# Told apart by the colour-blind, too: Okabe and Ito, Color Universal Design (2008).
_COLOURS: Final = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
_LONGEST: Final = 24


def draw_run(report: Report) -> str | None:
    """Return an SVG of the workers by pool, and of the tasks that waited and ran, over time.

    At most six pools have lines of their own; the smaller ones of more are drawn as one.

    Parameters
    ----------
    report : Report
        Of the run.

    Returns
    -------
    str or None
        The picture, of at most some 15 kB; ``None`` if there is nothing to draw.
    """
    timeline = report.timeline
    if timeline is None or not (timeline.workers or any(timeline.waiting) or any(timeline.running)):
        return None
    tasks = {_RUNNING: timeline.running, _WAITING: timeline.waiting}
    parts = [
        svg.text(_LEFT, 24, report.run.run_id, size=15),
        *_panel(_TOPS[0], "workers", _largest(timeline.workers), _COLOURS),
        *_panel(_TOPS[1], "tasks", tasks, (_COLOURS[2], svg.GREY)),
        *_times(timeline.step_s * len(timeline.waiting)),
    ]
    return svg.page(_WIDTH, _HEIGHT, report.run.run_id, parts)


def _largest(workers: Mapping[str, Sequence[float]]) -> dict[str, Sequence[float]]:
    most = len(_COLOURS)
    if len(workers) <= most:
        return dict(workers)
    order = sorted(workers, key=lambda pool: -sum(workers[pool]))
    rest = [workers[pool] for pool in order[most - 1 :]]
    return {
        **{pool: workers[pool] for pool in order[: most - 1]},
        _OTHERS: [sum(values) for values in zip(*rest, strict=True)],
    }


def _panel(top: int, what: str, series: Mapping[str, Sequence[float]], colours: Sequence[str]) -> list[str]:
    bottom = top + _PANEL
    highest = max((max(values) for values in series.values()), default=0.0)
    scale = _PANEL / (highest or 1.0)
    parts = [
        svg.line(_LEFT, bottom, _WIDTH - _RIGHT, bottom),
        svg.line(_LEFT, top, _LEFT, bottom),
        svg.text(_LEFT - 8, bottom, "0", anchor="end", colour=svg.GREY, size=11),
        svg.text(_LEFT - 8, top + 8, f"{highest:.3g}", anchor="end", colour=svg.GREY, size=11),
        svg.text(_LEFT, top - 10, what),
    ]
    across = _LEFT + 70.0
    for (name, values), colour in zip(series.items(), colours, strict=False):
        shown = plain(name if len(name) <= _LONGEST else name[: _LONGEST - 3] + "...")
        parts.append(svg.text(across, top - 10, shown, colour=colour, size=12))
        parts.append(f'<path d="{_steps(values, bottom, scale)}" fill="none" stroke="{colour}" stroke-width="1.5"/>')
        across += 7.0 * len(shown) + 16
    return parts


def _steps(values: Sequence[float], bottom: float, scale: float) -> str:
    """Return a line of steps, one for what stays the same."""
    step = (_WIDTH - _LEFT - _RIGHT) / len(values)
    path, last = f"M{_LEFT},{bottom}", ""
    for place, value in enumerate(values):
        height = f"{bottom - value * scale:.1f}"
        if height != last:
            path += f"H{_LEFT + place * step:.0f}V{height}"
            last = height
    return f"{path}H{_WIDTH - _RIGHT}"


def _times(duration_s: float) -> list[str]:
    bottom = _TOPS[1] + _PANEL
    width = _WIDTH - _LEFT - _RIGHT
    return [
        svg.text(
            _LEFT + width * part / 4,
            bottom + 20,
            format_duration(duration_s * part / 4),
            anchor="middle",
            colour=svg.GREY,
            size=11,
        )
        for part in range(5)
    ]
