"""The controller: looks at counts, asks the policy, applies what it says, writes down why."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

from scalable.pools.cluster import PoolCluster
from scalable.pools.pool import Member, Pool
from scalable.scaling.guard import Guard
from scalable.scaling.log import DecisionLog, condensed
from scalable.scaling.model import Observation, Policy, ScaleDecision
from scalable.scaling.observer import Observer
from scalable.telemetry.recorder import Recorder

__all__ = ["Controller", "Means"]

logger = logging.getLogger(__name__)

_FORGETFUL = ("no", "share")


@dataclass(frozen=True, slots=True)
class Means:
    """What a run may spend.

    Attributes
    ----------
    budget_usd, deadline_s : float or None
        US dollars, and seconds from its start; ``None`` for no bound.
    spent_usd : callable
        US dollars spent so far, or ``None`` if nobody knows.
    paid : callable
        Whether a worker of a pool costs money, or may.
    """

    budget_usd: float | None = None
    deadline_s: float | None = None
    spent_usd: Callable[[], float | None] = lambda: None
    paid: Callable[[str], bool] = lambda _pool: True


class Controller:
    """Scale the pools of a cluster while it runs.

    Parameters
    ----------
    cluster : PoolCluster
        Whose pools.
    observer : Observer
        Who looks at them.
    policy : Policy
        Who decides.
    guard : Guard
        Who sees to it that no decision does harm.
    recorder : Recorder
        Where decisions are written.
    means : Means
        What the run may spend.
    at_end : callable
        Called when it stops; may take its time.
    """

    def __init__(
        self,
        cluster: PoolCluster,
        observer: Observer,
        policy: Policy,
        guard: Guard,
        recorder: Recorder,
        *,
        means: Means | None = None,
        at_end: Callable[[], None] = lambda: None,
    ) -> None:
        self._cluster = cluster
        self._observer = observer
        self._policy = policy
        self._guard = guard
        self._means = means or Means()
        self._at_end = at_end
        self._log = DecisionLog(recorder, policy.name, every_look=policy.name not in _FORGETFUL)
        self._since: float | None = None
        self._used_up = False
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin; call it from any thread but the cluster's."""
        self._cluster.sync(self._start)

    def stop(self) -> None:
        """End; harmless when repeated."""
        self._cluster.sync(self._stop)
        self._at_end()

    async def _start(self) -> None:
        self._cluster.may_start = self._may_start
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
            await asyncio.sleep(self._policy.interval_s)

    def tick(self, now: float) -> ScaleDecision:
        """Look once, and apply what is decided; on the cluster's loop, and never waiting for anybody.

        Parameters
        ----------
        now : float
            Seconds on a clock that never goes back.
        """
        observation = condensed(self._with_means(self._observer.look(now)))
        decision = self._guard.check(observation, self._policy.decide(observation))
        self._log.saw(observation, decision)
        if decision.has_changes:
            self._apply(decision)
        return decision

    def _with_means(self, observation: Observation) -> Observation:
        if self._since is None:
            self._since = observation.now
        means, left_usd, left_s = self._means, None, None
        spent = means.spent_usd() if means.budget_usd is not None else None
        if means.budget_usd is not None and spent is not None:
            left_usd = means.budget_usd - spent
        if left_usd is not None:
            self._note_budget(left_usd)
        if means.deadline_s is not None:
            left_s = means.deadline_s - (observation.now - self._since)
        return replace(observation, budget_usd=left_usd, deadline_s=left_s)

    def _note_budget(self, left_usd: float) -> None:
        if left_usd <= 0 and not self._used_up:
            logger.warning(
                "the budget of $%.2f is used up: what runs may finish, and no more workers that cost are started",
                self._means.budget_usd,
            )
        self._used_up = left_usd <= 0

    def _may_start(self, pool: str) -> bool:
        """Whether a worker may come in the place of one that was lost."""
        return not (self._used_up and self._means.paid(pool))

    def _apply(self, decision: ScaleDecision) -> None:
        pools = self._cluster.pools
        changed = decision.pools
        before = {name: pools[name].desired for name in changed}
        # What leaves first, so that it makes room in another pool.
        for name in changed:
            self._let_leave(pools[name], decision)
        more = {name: pools[name].desired + count for name, count in decision.workers_to_add.items()}
        fewer = {name: pools[name].desired - count for name, count in decision.workers_to_drain.items()}
        self._cluster.scale(fewer | more, "scaled")
        after = {name: pools[name].desired for name in changed}
        self._log.decided(decision, before, after)
        for name, count in after.items():
            why = decision.reasons.get(name, decision.reasoning)
            logger.info("pool %s: %d -> %d workers: %s", name, before[name], count, why)

    def _let_leave(self, pool: Pool, decision: ScaleDecision) -> None:
        """Have those leave that are to: starting ones, idle ones as they are at this very moment, and whole groups."""
        name, staying = pool.shape.name, pool.staying
        coming = [one for one in staying if not one.up]
        starting = sorted(coming, key=lambda one: (one.requested, -one.asked_at))
        cancelled = decision.workers_to_cancel.get(name, 0)
        # Some that are wanted have no place yet.
        unborn = min(cancelled, max(0, pool.desired - len(staying)))
        pool.desired -= unborn
        stopped = set(decision.groups_to_stop.get(name, ()))
        leaving = [one.name for one in staying if one.group in stopped]
        leaving += [one.name for one in starting[: cancelled - unborn]]
        late = sorted(coming, key=lambda one: one.asked_at)
        leaving += [one.name for one in late[: decision.workers_to_expire.get(name, 0)]]
        leaving += self._idle(pool, decision.workers_to_remove.get(name, 0))
        self._cluster.release(pool, leaving, "scaled down")

    def _idle(self, pool: Pool, count: int) -> list[str]:
        """Return whose group has nothing to do, those who have not for longest first; never a part of a group."""
        groups: dict[str, list[Member]] = {}
        for member in pool.staying if count else ():
            groups.setdefault(member.group, []).append(member)
        idle = {name: since for name, one in groups.items() if (since := self._idle_since(one)) is not None}
        leaving: list[str] = []
        for name in sorted(idle, key=lambda one: idle[one]):
            if len(leaving) + len(groups[name]) <= count:
                leaving += [one.name for one in groups[name]]
        return leaving

    def _idle_since(self, members: list[Member]) -> float | None:
        """Return since when all of some workers have had nothing to do; ``None`` if one has, or is not up."""
        active_at = self._cluster.demand_counter.active_at
        since = 0.0
        for member in members:
            worker = self._cluster.worker_of(member)
            if not member.up or member.stuck or (worker is not None and worker.processing):
                return None
            since = max(since, active_at.get(worker.address, 0.0) if worker is not None else 0.0)
        return since
