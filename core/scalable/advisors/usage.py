"""What a task asked for and what it used, over a history."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from scalable.telemetry.past import COMPLETED, Attempts, Past

__all__ = ["Usage", "usage_of"]


@dataclass(frozen=True, slots=True)
class Usage:
    """What a task asked for and used.

    Attributes
    ----------
    attempts : int
        Completed attempts.
    asked_bytes : float or None
        Memory of a worker at the last; ``None`` if none was asked for.
    median_bytes, p95_bytes, max_bytes : float or None
        Of the measured peaks; ``None`` if there are none.
    saved_gb_h : float or None
        Gigabytes (of 10**9 bytes) times hours that would have been saved with other workers;
        negative if more would have been asked for.
    """

    attempts: int
    asked_bytes: float | None
    median_bytes: float | None
    p95_bytes: float | None
    max_bytes: float | None
    saved_gb_h: float | None


def usage_of(past: Past, task: str, target: str | None = None, worker_bytes: float | None = None) -> Usage:
    """Return what a task asked for and used.

    Parameters
    ----------
    past : Past
        The history.
    task : str
        Its name.
    target : str, optional
        Where it ran; default is anywhere.
    worker_bytes : float, optional
        Memory of the workers that are compared with those that there were.
    """
    attempts = past.of(task, target)
    attempts = attempts.where(attempts.outcome == COMPLETED)
    peaks = attempts.peak_bytes[attempts.peak_bytes >= 0]
    asked = attempts.asked_bytes[attempts.asked_bytes > 0]
    median, p95, most = np.quantile(peaks, (0.5, 0.95, 1.0)).tolist() if len(peaks) else (None, None, None)
    return Usage(
        len(attempts),
        float(asked[-1]) if len(asked) else None,
        median,
        p95,
        most,
        None if worker_bytes is None or not len(asked) else _saved(past, attempts, worker_bytes),
    )


def _saved(past: Past, attempts: Attempts, worker_bytes: float) -> float:
    places = np.array([_at_a_time(past, *one) for one in zip(attempts.run, attempts.component, strict=True)])
    # A task is charged with its share of the worker.
    share = np.maximum(attempts.threads, 1) / np.maximum(places, attempts.threads)
    saved = (attempts.asked_bytes - worker_bytes) * share * attempts.duration_s
    return float(np.nansum(saved)) / 1e9 / 3600


def _at_a_time(past: Past, run: int, component: str) -> int:
    facts = past.runs[run]
    planned = facts.planned.get(component)
    return facts.threads.get(component) or max(1, math.floor(planned.cpus) if planned is not None else 1)
