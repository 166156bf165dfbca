"""The controller: looks at counts, asks the policy, applies what it says, writes down why."""

from __future__ import annotations

import asyncio
import logging
import math
import time
from dataclasses import replace
from typing import Any

from scalable.pools.cluster import PoolCluster
from scalable.pools.demand import Requirement
from scalable.pools.routing import Router
from scalable.scaling.share import Decision, PoolLoad, share
from scalable.spec import Limits
from scalable.telemetry.recorder import Recorder

__all__ = ["Controller"]

logger = logging.getLogger(__name__)


class Controller:
    """Scale the pools of a cluster while it runs.

    Parameters
    ----------
    cluster : PoolCluster
        Whose pools.
    limits : Limits
        Bounds on all pools together.
    router : Router
        Which pools a task can run in.
    recorder : Recorder
        Where decisions are written.
    interval_s : float
        Seconds between two looks.
    """

    def __init__(
        self,
        cluster: PoolCluster,
        limits: Limits,
        router: Router,
        recorder: Recorder,
        interval_s: float = 0.5,
    ) -> None:
        self._cluster = cluster
        self._limits = limits
        self._router = router
        self._recorder = recorder
        self._interval_s = interval_s
        self._useful_at: dict[str, float] = {}
        self._slots: dict[Requirement, dict[str, int]] = {}
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin; call it from any thread but the cluster's."""
        self._cluster.sync(self._start)

    def stop(self) -> None:
        """End; harmless when repeated."""
        self._cluster.sync(self._stop)

    async def _start(self) -> None:
        self._task = asyncio.create_task(self._run(), name="scalable-controller")

    async def _stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _run(self) -> None:
        while True:
            try:
                self.tick(time.monotonic())
            except Exception:
                # The run goes on with the workers it has; the defect is in the log.
                logger.exception("a scaling decision failed")
            await asyncio.sleep(self._interval_s)

    def tick(self, now: float) -> Decision:
        """Look once, and apply what is decided; on the cluster's loop.

        Parameters
        ----------
        now : float
            Seconds on a clock that never goes back.
        """
        loads = self._observe(now)
        decision = share(loads, self._limits) if loads else Decision()
        if decision.counts:
            self._apply(decision)
        return decision

    def _observe(self, now: float) -> list[PoolLoad]:
        pools = {name: pool for name, pool in self._cluster.pools.items() if not pool.broken}
        ready = dict.fromkeys(pools, 0)
        workers_needed = dict.fromkeys(pools, 0.0)
        for requirement, demand in self._cluster.demand_counter.demand.items():
            if demand.ready:
                for name, count, slots in self._spread(requirement, demand.ready):
                    ready[name] += count
                    workers_needed[name] += count / slots
        loads = []
        for name, pool in pools.items():
            threads = ready[name] / workers_needed[name] if ready[name] else float(pool.shape.threads)
            # One that waits for longer than the last one took says more, but not by waiting while nobody needs it.
            needed_at = self._useful_at.get(name, now)
            waits = (needed_at - member.asked_at for member in pool.staying if not member.up)
            startup_s = max((pool.startup_s, *waits))
            load = PoolLoad(name, pool.desired, threads, ready[name], startup_s=startup_s)
            if load.workers <= load.useful:
                self._useful_at[name] = now
            loads.append(replace(load, surplus_s=now - self._useful_at.setdefault(name, now)))
        return loads

    def _spread(self, requirement: Requirement, tasks: int) -> list[tuple[str, int, int]]:
        """Divide tasks among the pools that can run them, by the workers these have.

        Returns
        -------
        list of tuple
            Pool, tasks, and how many of them one of its workers runs at a time.
        """
        slots = self._slots.get(requirement)
        if slots is None:
            required = dict(requirement)
            capable = self._router.pools_for(required)
            slots = self._slots[requirement] = {name: self._router.slots(name, required) for name in capable}
        weights = {name: self._cluster.pools[name].desired for name in slots if not self._cluster.pools[name].broken}
        total = sum(weights.values())
        if not total:
            return [(name, tasks, slots[name]) for name in list(weights)[:1]]
        return [(name, math.ceil(tasks * weight / total), slots[name]) for name, weight in weights.items() if weight]

    def _apply(self, decision: Decision) -> None:
        for name, count in decision.counts.items():
            before = self._cluster.pools[name].desired
            record: dict[str, Any] = {
                "event": "scale_decision",
                "at": time.time(),
                "tag": name,
                "from": before,
                "to": count,
                "direction": "up" if count > before else "down",
                "reason": decision.reasons[name],
                "policy": "share",
            }
            self._recorder.append("scaling", record)
            logger.info("pool %s: %d -> %d workers: %s", name, before, count, record["reason"])
        # One step for all, so that what leaves one pool makes room in another.
        self._cluster.scale(decision.counts, "scaled down")
