"""A run over time, in as many steps as a picture can show: DuckDB counts, however many tasks there were."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import groupby
from typing import Final

from scalable.report.model import Timeline
from scalable.telemetry.tables import Tables

__all__ = ["timeline_of"]

_STEPS: Final = 120

# What lasts from one moment to another counts in each step by the share of the step that it lasts.
# Its coming is a change of +1 and its going of -1: in the step where it falls it changes the
# average by the share of the step that is left (`part`), in all later ones by the whole (`change`).
# Clocks of workers differ a little from the scheduler's, so that an attempt may seem to begin
# before it was ready; and of a cancelled task that never began, all of its time was waiting.
_CHANGES: Final = """
WITH lasting AS (
    SELECT 'waiting' AS what, '' AS tag, queued_at AS begin,
           greatest(queued_at, coalesce(started_at, ended_at)) AS until
    FROM attempts WHERE started_at IS NOT NULL OR outcome = 'cancelled'
    UNION ALL
    SELECT 'running', '', greatest(queued_at, started_at), greatest(queued_at, started_at, ended_at)
    FROM attempts WHERE started_at IS NOT NULL
    UNION ALL
    SELECT 'workers', tag, came, until FROM spans
),
moments AS (
    SELECT what, tag, 1 AS sign, (begin - $start) / $step AS moment FROM lasting
    UNION ALL SELECT what, tag, -1, (until - $start) / $step FROM lasting
),
placed AS (
    SELECT what, tag, sign, greatest(0, least(moment, $steps)) AS moment,
           greatest(0, least(floor(moment), $steps - 1)) AS place
    FROM moments WHERE moment IS NOT NULL
)
SELECT what, tag, CAST(place AS INTEGER) AS place, sum(sign) AS change,
       sum(sign * (place + 1 - moment)) AS part
FROM placed GROUP BY ALL ORDER BY what, tag, place
"""


@dataclass(frozen=True, slots=True)
class _Change:
    what: str
    tag: str
    place: int
    change: float
    part: float


def timeline_of(tables: Tables, started_at: float, ended_at: float) -> Timeline | None:
    """Return workers and tasks over time; ``None`` of a run that took no time.

    Parameters
    ----------
    tables : Tables
        With ``attempts`` and ``spans``.
    started_at, ended_at : float
        Unix seconds.

    Raises
    ------
    ScalableError
        If a file cannot be read.
    """
    if ended_at <= started_at:
        return None
    step_s = (ended_at - started_at) / _STEPS
    changes = tables.ask(_CHANGES, _Change, start=started_at, step=step_s, steps=_STEPS)
    series = {name: _averages(group) for name, group in groupby(changes, lambda one: (one.what, one.tag))}
    nothing = (0.0,) * _STEPS
    return Timeline(
        step_s,
        workers={tag: values for (what, tag), values in series.items() if what == "workers"},
        waiting=series.get(("waiting", ""), nothing),
        running=series.get(("running", ""), nothing),
    )


def _averages(changes: Iterable[_Change]) -> tuple[float, ...]:
    by_place = {one.place: one for one in changes}
    averages, level = [], 0.0
    for place in range(_STEPS):
        change = by_place.get(place)
        averages.append(round(max(0.0, level + (change.part if change else 0.0)), 6))
        level += change.change if change else 0.0
    return tuple(averages)
