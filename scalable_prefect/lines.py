"""What the log of a flow run says of the pools: for those who see nothing else."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Mapping
from typing import Any, Final

from scalable import Plan
from scalable_prefect.artifacts import Progress
from scalable_prefect.events import Heard
from scalable_prefect.reports import AnyLogger

__all__ = ["Lines"]

_AT_ONCE: Final = 10
_LONGEST: Final = 500
_AGAIN_S: Final = 60.0
_IN_ORDER: Final = frozenset({"scaled down", "closed"})


class Lines:
    """Log what happens to the pools, a few lines a second at the most.

    Parameters
    ----------
    logger : Logger or LoggerAdapter
        The flow run's.
    """

    def __init__(self, logger: AnyLogger) -> None:
        self._logger = logger
        self._waiting: dict[str, str] = {}
        self._told_at: dict[str, float] = {}

    def plan(self, plan: Plan, run_id: str, target: str) -> None:
        """Say what was planned."""
        pools = [f"{pool} {request.count}" for pool, request in plan.scale_plan.items()]
        shown = ", ".join(pools[:_AT_ONCE]) + (f" and {len(pools) - _AT_ONCE} more" if len(pools) > _AT_ONCE else "")
        self._logger.info(
            "Target '%s', run %s: workers at the start: %s; at most %d in all",
            target,
            run_id,
            shown or "none",
            plan.limits.maximum,
        )

    def heard(self, heard: Iterable[Heard]) -> None:
        """Tell of decisions, and of workers that were lost."""
        told: dict[str, list[tuple[int, str]]] = {}
        for one in heard:
            line = _line(one)
            if line is not None:
                told.setdefault(one.kind, []).append(line)
        for lines in told.values():
            for level, text in lines[:_AT_ONCE]:
                self._logger.log(level, "%s", text[:_LONGEST])
            if len(lines) > _AT_ONCE:
                self._logger.log(lines[-1][0], "... and %d more like this", len(lines) - _AT_ONCE)

    def blocked(self, pools: Mapping[str, Progress]) -> None:
        """Tell what workers that were asked for wait for: when that is new, and once a minute at the most."""
        now = time.monotonic()
        for pool, progress in pools.items():
            why = progress.blocked_by
            if why == self._waiting.get(pool, "") or now < self._told_at.get(pool, 0.0):
                continue
            self._waiting[pool] = why
            if why:
                self._told_at[pool] = now + _AGAIN_S
                self._logger.info("Pool %s: workers that have not started: %s", pool, why[:_LONGEST])


def _line(heard: Heard) -> tuple[int, str] | None:
    record: Mapping[str, Any] = heard.record
    if heard.kind == "scalable.scale-decision":
        return logging.INFO, f"Pool {heard.pool}: {record['from']} -> {record['to']} workers: {record['reason']}"
    if heard.kind == "scalable.worker-removed" and record["reason"] not in _IN_ORDER:
        return logging.WARNING, f"Pool {heard.pool}: worker {record['worker']} is gone: {record['reason']}"
    return None
