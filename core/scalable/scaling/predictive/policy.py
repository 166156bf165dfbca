"""Workers by predicted work, start-up time and price: one decision a tick."""

from __future__ import annotations

import math
from typing import Literal

from scalable.errors import PlanError, did_you_mean
from scalable.scaling.model import Observation, ScaleDecision
from scalable.scaling.predictive.flow import Flow, staff
from scalable.scaling.predictive.grow import grow
from scalable.scaling.predictive.outlook import Memory, PoolOutlook, TagOutlook, Tick, look

__all__ = ["PredictivePolicy"]

ALPHA = {"minimize cost": 0.8, "balance": 0.5, "minimize time": 0.2}
"""Weight of money against time by objective."""

BURST = 4.0
"""Times what the workers there are do within a start-up, from which on queued work is a burst."""

QUIET = 0.25
"""Share of a start-up for which demand must have been quiet to begin anew."""

_SLACK = 0.25  # of a worker, below the wanted number before one is added
_SPARE = 1.75  # workers above what a flow wants before one leaves


class PredictivePolicy:
    """Workers by predicted work, start-up time and price.

    Each tick, for each kind of tasks: queued tasks become seconds of work; the workers there
    are become moments at which they are free; and so many workers are added that
    cost^a x time^(1-a) of the whole run, past and predicted, is the smallest. Sustained flows
    and tasks that are about to be unblocked are staffed one start-up ahead. Workers that have
    nothing to do leave, each level of demand by its own ski rental.

    Parameters
    ----------
    objective : {"minimize cost", "balance", "minimize time"}, default "balance"
        What matters more; a is 0.8, 0.5 or 0.2.
    interval_s : float, default 5
        Seconds between two looks.

    Raises
    ------
    PlanError
        If there is no such objective.
    """

    name = "predictive"
    wants_groups = False

    def __init__(
        self,
        objective: Literal["minimize cost", "balance", "minimize time"] = "balance",
        interval_s: float = 5.0,
    ) -> None:
        if objective not in ALPHA:
            hint = did_you_mean(objective, ALPHA)
            raise PlanError(f"objective '{objective}': there are {', '.join(ALPHA)}" + (f"; {hint}" if hint else ""))
        self.interval_s = interval_s
        self._alpha = ALPHA[objective]
        self._memory = Memory()

    def decide(self, observation: Observation) -> ScaleDecision:
        """Return what is to change.

        Parameters
        ----------
        observation : Observation
            What is seen now. Later ones must be later on the same clock.
        """
        tick = look(observation, self._memory, self._alpha)
        # Kinds that few pools can run come first, of these the long ones: others can take what they leave.
        for tag in sorted(tick.tags.values(), key=lambda one: (len(one.pools), -one.durations.mean_s)):
            grow(tick, tag)
        for tag in tick.tags.values():
            self._expect(tick, tag)
        for pool in tick.pools.values():
            self._staff(tick, pool)
            self._foresee(tick, pool)
        _fill(tick)
        _press(tick)
        leaving = {name: self._leaving(tick, pool) for name, pool in tick.pools.items()}
        _spare(tick, leaving)
        return _decision(tick, leaving)

    # ---- what comes

    def _expect(self, tick: Tick, tag: TagOutlook) -> None:
        """Say how many workers what flows in will need, one start-up from now."""
        rate = self._memory.flows.setdefault(tag.name, Flow()).see(tick.seen.now, tag.view.arrived)
        usable = [tick.pools[name] for name in tag.pools if not tick.pools[name].view.broken]
        if not usable:
            return
        pool = min(usable, key=lambda one: one.view.info.price_per_s / tag.slots(one.name))
        slots, startup_s = tag.slots(pool.name), max(1.0, pool.startups.mean_s)
        self._calm(tick, tag, usable)
        if tag.due >= 0.5:
            load = tag.due / startup_s * tag.durations.mean_s / slots
            pool.wanted += max(1.0, staff(load, 0.0, 0.0, self._alpha))
            pool.reasons.append(f"{tag.name}: {tag.due:.1f} blocked tasks come to their turn within a start-up")
        elif rate:
            mean_s = tag.durations.mean_s
            busy = (tag.view.running + tag.view.queued) / slots
            staying = math.exp(-startup_s / mean_s)
            wanted = staff(rate * mean_s / slots, busy, staying, self._alpha)
            pool.wanted += wanted
            pool.spare = _SPARE
            pool.reasons.append(f"{tag.name}: {rate:.3g} tasks a second keep {wanted:.1f} workers busy")

    def _calm(self, tick: Tick, tag: TagOutlook, pools: list[PoolOutlook]) -> None:
        """In a burst nobody leaves until workers that are asked for now can be there."""
        for pool in pools:
            there = pool.view.live * tag.slots(pool.name) * max(pool.startups.mean_s, 1.0)
            if pool.add and tag.work_s > BURST * there:
                self._memory.calm_after[pool.name] = tick.seen.now + min(pool.startups.mean_s, tag.drained_s)

    def _staff(self, tick: Tick, pool: PoolOutlook) -> None:
        lacking = round(pool.wanted - _SLACK) - pool.view.live - pool.add
        if lacking > 0:
            _add(tick, pool, lacking)

    def _foresee(self, tick: Tick, pool: PoolOutlook) -> None:
        """Start workers for demand that recurs and is about to come."""
        view, startups, onsets = pool.view, pool.startups, self._memory.onsets[pool.name]
        # A starting worker that comes at the soonest when nothing is queued any more finds nothing.
        pool.useless = int((pool.soonest_s > pool.drained_s).sum())
        taken = math.ceil(min(pool.taken, view.live + pool.add - pool.useless) - 1e-6)
        pool.levels.see(tick.seen.now, max(0, taken))
        onsets.see(tick.seen.now, pool.levels.demand, QUIET * startups.mean_s)
        ledger = tick.memory.ledger
        if view.broken or not ledger.waited:
            return
        waiting = (1 / self._alpha - 1) * ledger.paid / ledger.waited / view.info.price_per_s
        more = onsets.ahead(tick.seen.now, view.live + pool.add, startups.quantiles, startups.boot_s, waiting)
        if more:
            _add(tick, pool, more)
            pool.reasons.append(f"demand that recurs is about to come: {more} more")

    # ---- who leaves

    def _leaving(self, tick: Tick, pool: PoolOutlook) -> tuple[int, int]:
        """Return how many idle and how many starting workers are to leave."""
        view, now = pool.view, tick.seen.now
        if pool.add or not (view.idle or pool.useless) or now < self._memory.calm_after.get(pool.name, now):
            return 0, 0
        again_s = 0.0 if pool.pressed else max(pool.startups.boot_s, 0.0)
        floor = math.ceil(pool.wanted + pool.spare) if pool.wanted and not pool.pressed else 0
        until = self._memory.onsets[pool.name].until(pool.levels.demand, view.live)
        expired = pool.levels.expired(now, view.live, again_s, until)
        leave = max(0, min(expired, view.live - max(view.info.minimum, floor)))
        starting = min(leave, pool.useless)
        idle = min(leave - starting, view.idle)
        group = view.info.group_size
        return idle // group * group, starting // group * group


def _add(tick: Tick, pool: PoolOutlook, count: int) -> None:
    group = pool.view.info.group_size
    room = min(tick.affordable(pool), tick.room)
    count = min(math.ceil(count / group) * group, room // group * group)
    tick.add(pool, count)


def _fill(tick: Tick) -> None:
    """Top up to the least that each pool and the run are to have."""
    for pool in tick.pools.values():
        lacking = pool.view.info.minimum - pool.view.live - pool.add
        if lacking > 0:
            _add(tick, pool, lacking)
            pool.reasons.append(f"minimum {pool.view.info.minimum}")
    for pool in sorted(tick.pools.values(), key=lambda one: one.view.info.price_per_s):
        there = sum(one.view.live + one.add for one in tick.pools.values())
        if tick.seen.minimum is not None and there < tick.seen.minimum:
            _add(tick, pool, tick.seen.minimum - there)
            pool.reasons.append(f"the run has a minimum of {tick.seen.minimum} workers")


def _press(tick: Tick) -> None:
    """Where a kind has no worker and the run no place for one, idle workers of others make it."""
    if tick.room:
        return
    for tag in tick.tags.values():
        starving = tag.view.queued and not any(tick.pools[name].view.live + tick.pools[name].add for name in tag.pools)
        for pool in tick.pools.values():
            if starving and pool.name not in tag.pools:
                pool.pressed = True
                pool.reasons.append(f"{tag.name} has no worker, and the run no place for one")


def _spare(tick: Tick, leaving: dict[str, tuple[int, int]]) -> None:
    """Keep the last worker that can run a kind with tasks, and the least number of the run."""
    for tag in tick.tags.values():
        if not (tag.view.queued or tag.view.running or tag.due >= 0.5):
            continue
        left = sum(tick.pools[name].view.live + tick.pools[name].add - sum(leaving[name]) for name in tag.pools)
        if left <= 0:
            _return_one(tick, leaving, tag.pools)
    least = tick.seen.minimum or 0
    while least and sum(pool.view.live + pool.add - sum(leaving[name]) for name, pool in tick.pools.items()) < least:
        if not _return_one(tick, leaving, list(tick.pools)):
            return


def _return_one(tick: Tick, leaving: dict[str, tuple[int, int]], names: list[str]) -> bool:
    for name in names:
        idle, starting = leaving[name]
        group = tick.pools[name].view.info.group_size
        if idle or starting:
            leaving[name] = (idle - group, starting) if idle else (idle, starting - group)
            return True
    return False


def _decision(tick: Tick, leaving: dict[str, tuple[int, int]]) -> ScaleDecision:
    for name, (idle, starting) in leaving.items():
        pool = tick.pools[name]
        if idle:
            pool.reasons.append(
                f"{idle} idle of {pool.view.live} leave: none is likely to be needed before it costs more than a start"
            )
        if starting:
            pool.reasons.append(f"{starting} starting of {pool.view.live} are cancelled: they would find nothing to do")
    reasons = {name: "; ".join(pool.reasons) for name, pool in tick.pools.items() if pool.reasons}
    return ScaleDecision(
        workers_to_add={name: pool.add for name, pool in tick.pools.items() if pool.add},
        workers_to_remove={name: idle for name, (idle, _) in leaving.items() if idle},
        workers_to_cancel={name: starting for name, (_, starting) in leaving.items() if starting},
        reasoning=" | ".join(f"{name}: {why}" for name, why in reasons.items()) or "nothing to change",
        confidence=_confidence(tick),
        predicted_completion_time=_completion(tick),
        timestamp=tick.seen.now,
        reasons=reasons,
    )


def _confidence(tick: Tick) -> float:
    """Return how much is known of the tasks there are, each kind weighed by its seconds of work."""
    total = known = 0.0
    for tag in tick.tags.values():
        weight = (tag.view.queued + tag.view.running + tag.view.blocked) * tag.durations.mean_s
        total += weight
        known += weight * tag.durations.known
    return round(known / total, 3) if total else 1.0


def _completion(tick: Tick) -> float | None:
    """Return the seconds until all present tasks are done: each kind after those that it waits for."""
    ends: dict[str, float] = {}
    for name in sorted(tick.tags, key=lambda one: -len(tick.tags[one].later)):
        tag = tick.tags[name]
        before = max((ends.get(parent, 0.0) for parent in tag.view.info.parents), default=0.0)
        ends[name] = tag.finish_s
        if tag.view.queued + tag.view.running + tag.view.blocked and not tag.durations.known:
            return None
        if tag.view.blocked:
            slots = sum((tick.pools[one].view.live + tick.pools[one].add) * tag.slots(one) for one in tag.pools)
            rest = tag.view.blocked * tag.durations.mean_s / max(1, min(slots, tag.view.blocked))
            ends[name] = max(tag.finish_s, before) + max(tag.durations.longest(), rest if not before else 0.0)
    longest = max(ends.values(), default=0.0)
    return longest if math.isfinite(longest) else None
