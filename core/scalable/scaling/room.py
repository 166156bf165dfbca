"""Places that the pools of one adapter have together; pure."""

from __future__ import annotations

import math
from collections.abc import Iterable

from scalable.scaling.model import PoolView

__all__ = ["adapter_limits", "free_places"]


def adapter_limits(pools: Iterable[PoolView]) -> dict[str, float]:
    """Return how many workers the pools of each adapter may have together; infinite where there is no such bound."""
    limits: dict[str, float] = {}
    for info in (pool.info for pool in pools):
        limit = math.inf if info.adapter_limit is None else info.adapter_limit
        limits[info.adapter] = min(limit, limits.get(info.adapter, math.inf))
    return limits


def free_places(pools: Iterable[PoolView]) -> dict[str, float]:
    """Return how many more workers the pools of each adapter may have; less than 0 if there are too many.

    Those that are about to leave still take their places.
    """
    every = list(pools)
    free = adapter_limits(every)
    for pool in every:
        free[pool.info.adapter] -= pool.live + pool.draining
    return free
