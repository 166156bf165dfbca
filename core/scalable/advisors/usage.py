"""What a task asked for and what it used, over a history."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np

from scalable.telemetry.cost import PoolPrice, read_costs
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
    saved_usd : float or None
        US dollars of that, over the runs in which memory had a price; ``None`` if it had one in none.
    """

    attempts: int
    asked_bytes: float | None
    median_bytes: float | None
    p95_bytes: float | None
    max_bytes: float | None
    saved_gb_h: float | None
    saved_usd: float | None = None


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
    saved = (None, None) if worker_bytes is None or not len(asked) else _saved(past, attempts, worker_bytes)
    return Usage(len(attempts), float(asked[-1]) if len(asked) else None, median, p95, most, *saved)


def _saved(past: Past, attempts: Attempts, worker_bytes: float) -> tuple[float, float | None]:
    """Return the gigabyte-hours that would have been saved, and the US dollars."""
    places = np.array([_at_a_time(past, *one) for one in zip(attempts.run, attempts.component, strict=True)])
    # A task is charged with its share of the worker.
    share = np.maximum(attempts.threads, 1) / np.maximum(places, attempts.threads)
    byte_h = (attempts.asked_bytes - worker_bytes) * share * attempts.duration_s / 3600
    # Another size of memory changes a bill only where memory itself has a price.
    prices = np.array([_memory_price(past, *one) for one in zip(attempts.run, attempts.component, strict=True)])
    usd = float(np.nansum(byte_h * prices)) / 2**30 if np.any(prices > 0) else None
    return float(np.nansum(byte_h)) / 1e9, usd


def _memory_price(past: Past, run: int, component: str) -> float:
    """Return the US dollars of an hour of 2**30 bytes; 0 where none was recorded."""
    price = _prices(past.runs[run].path).get(component)
    return 0.0 if price is None else price.usd_per_gb_h


@lru_cache(maxsize=256)
def _prices(run_dir: Path) -> Mapping[str, PoolPrice]:
    return read_costs(run_dir).prices


def _at_a_time(past: Past, run: int, component: str) -> int:
    facts = past.runs[run]
    planned = facts.planned.get(component)
    return facts.threads.get(component) or max(1, math.floor(planned.cpus) if planned is not None else 1)
