"""Policies that compare tasks with workers, as users of opengris-scaler know them.

A pool is to them what a worker adapter is there: a pool's ``limit`` is the adapter's number
of worker groups times their size, its ``labels`` are the adapter's capabilities. One look
decides for each pool; a pool starts one group (``capability``: one for each set of
capabilities that lacks workers) or stops one, never both.

What the originals do that is no good, and what becomes of it here:

==========================================  ============================================================
In the original                             Here
==========================================  ============================================================
Workers on their way are not counted, so    The same; ``count_starting: true`` counts them.
that more are started all the while
The group with the least in line leaves;    The same group; ``prefer_idle: true`` takes one that runs
of those alike the oldest, busy or not      nothing.
What it runs is killed                      Cannot happen: what runs is finished first.
``vanilla`` does not look at what tasks     The same; ``serve_every_tag: true`` starts a group for
require, and may wait for ever for a        tasks that no worker of any pool can run, and stops one
worker that nobody starts                   without work where there is no place.
``capability`` asks every adapter for       Only pools that have what is required are asked; ``ask: all``
every set                                   asks every one, ``ask: first`` only the one meant for it.
Groups whose workers died count for ever    Cannot happen: they are gone from what a policy sees.
A start that is refused is not tried        A start counts once a worker is up.
again by the primary of ``fixed_elastic``
No limit is written as -1                   Cannot happen: every pool has a limit.
Adapters do not say what they started       Cannot happen: a pool knows its groups.
==========================================  ============================================================
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from functools import cached_property

from scalable.errors import PlanError
from scalable.scaling.model import GroupView, Observation, PoolView, ScaleDecision
from scalable.scaling.room import free_places

__all__ = ["FixedElasticPolicy", "NoPolicy", "RatioPolicy", "VanillaPolicy", "decided", "max_groups", "victim"]

HEARTBEAT_S = 2.0
"""Seconds between two looks where nothing else is said: how often an adapter of the original reports."""


class NoPolicy:
    """Change nothing but what the safety rules ask for.

    Parameters
    ----------
    interval_s : float
        Seconds between two looks; default 2.
    """

    name = "no"
    wants_groups = False

    def __init__(self, interval_s: float = HEARTBEAT_S) -> None:
        self.interval_s = interval_s

    def decide(self, observation: Observation) -> ScaleDecision:
        """Return a decision without changes."""
        return ScaleDecision(reasoning="workers are not scaled", timestamp=observation.now)


class RatioPolicy:
    """What the policies that compare tasks with workers have in common.

    Parameters
    ----------
    lower_task_ratio, upper_task_ratio : float
        Tasks for each worker below which a group leaves, and above which one comes.
    count_starting : bool
        Whether workers on their way count as workers; default false, as in the original.
    prefer_idle : bool
        Whether of the groups with the least in line one leaves that runs nothing, rather than
        the oldest; default false, as in the original.
    interval_s : float
        Seconds between two looks; default 2.

    Raises
    ------
    PlanError
        If the ratios are not 0 <= lower < upper.
    """

    wants_groups = True

    def __init__(
        self,
        lower_task_ratio: float,
        upper_task_ratio: float,
        *,
        count_starting: bool = False,
        prefer_idle: bool = False,
        interval_s: float = HEARTBEAT_S,
    ) -> None:
        if not 0 <= lower_task_ratio < upper_task_ratio:
            raise PlanError(
                f"lower_task_ratio must be less than upper_task_ratio and not negative, "
                f"not {lower_task_ratio} and {upper_task_ratio}"
            )
        self.lower = lower_task_ratio
        self.upper = upper_task_ratio
        self.count_starting = count_starting
        self.prefer_idle = prefer_idle
        self.interval_s = interval_s

    def workers(self, pools: Iterable[PoolView]) -> int:
        """Return the workers that count."""
        return sum(pool.idle + pool.busy + (pool.starting if self.count_starting else 0) for pool in pools)

    def ratio(self, tasks: int, workers: int) -> float:
        """Return tasks for each worker; without workers infinity, or nothing if there are no tasks either."""
        if workers:
            return tasks / workers
        return math.inf if tasks else math.nan

    def stop(self, pool: PoolView) -> tuple[str, ...]:
        """Return the group that leaves; none if there is none."""
        group = victim(pool.groups, prefer_idle=self.prefer_idle)
        return (group.name,) if group else ()


class VanillaPolicy(RatioPolicy):
    """Compare all tasks with all workers: above ten for each a group comes, below one a group leaves.

    Parameters
    ----------
    lower_task_ratio, upper_task_ratio : float
        Tasks for each worker; default 1 and 10.
    serve_every_tag : bool
        Whether tasks that no worker of any pool can run get a group in the pool meant for
        them whatever the ratio is, if need be in the place of groups that run nothing and for
        which there is no work; default false, as in the original, where they may wait for ever.
    count_starting, prefer_idle : bool
        As in :class:`RatioPolicy`.
    interval_s : float
        Seconds between two looks; default 2.
    """

    name = "vanilla"

    def __init__(
        self,
        lower_task_ratio: float = 1.0,
        upper_task_ratio: float = 10.0,
        *,
        count_starting: bool = False,
        prefer_idle: bool = False,
        serve_every_tag: bool = False,
        interval_s: float = HEARTBEAT_S,
    ) -> None:
        super().__init__(
            lower_task_ratio,
            upper_task_ratio,
            count_starting=count_starting,
            prefer_idle=prefer_idle,
            interval_s=interval_s,
        )
        self.serve_every_tag = serve_every_tag

    def decide(self, observation: Observation) -> ScaleDecision:
        """Return one group to start, or to stop, for each pool."""
        tasks = sum(tag.queued + tag.running for tag in observation.tags.values())
        workers = self.workers(observation.pools.values())
        ratio = self.ratio(tasks, workers)
        said = f"{tasks} tasks for {workers} workers"
        starved = _starved(observation) if self.serve_every_tag else {}
        starts: dict[str, int] = {}
        stops: dict[str, tuple[str, ...]] = {}
        for name, pool in observation.pools.items():
            if ratio > self.upper or name in starved:
                starts[name] = self.starts(pool)
            elif ratio < self.lower:
                stops[name] = self.stop(pool)
        making_room = self._make_room(observation, starved, stops)
        stops |= making_room
        starts = {name: count for name, count in starts.items() if name not in making_room}
        why = {**dict.fromkeys(making_room, "it has no work, and its place is wanted"), **starved}
        return decided(observation, starts, stops, lambda name: why.get(name, said))

    def _make_room(
        self, observation: Observation, starved: Iterable[str], stops: Mapping[str, tuple[str, ...]]
    ) -> dict[str, tuple[str, ...]]:
        """Return the groups that are to stop for pools which have no place."""
        pools = observation.pools
        free = free_places(pools.values())
        room = math.inf if observation.limit is None else observation.limit - sum(one.live for one in pools.values())
        leaving: dict[str, tuple[str, ...]] = {}
        for receiver in (pools[name] for name in starved):
            adapter = receiver.info.adapter
            for name, group in self._useless(observation):
                donor = pools[name].info
                lacking = receiver.info.group_size - min(room, free[adapter])
                if lacking <= 0:
                    break
                crowded = free[adapter] < receiver.info.group_size and donor.adapter != adapter
                if not (crowded or group in leaving.get(name, ())):
                    leaving[name] = (*leaving.get(name, ()), group)
                    room += donor.group_size
                    free[donor.adapter] += donor.group_size
            room -= receiver.info.group_size
            free[adapter] -= receiver.info.group_size
        return {name: tuple(dict.fromkeys((*stops.get(name, ()), *groups))) for name, groups in leaving.items()}

    def _useless(self, observation: Observation) -> list[tuple[str, str]]:
        """Return groups that run nothing, of pools for which there is no work and that may shrink."""
        worked = {name for tag in observation.tags.values() if tag.queued or tag.running for name in tag.info.pools}
        idle = (pool for name, pool in observation.pools.items() if name not in worked and self.stop(pool))
        return [
            (pool.info.name, group.name)
            for pool in idle
            for group in pool.groups
            if not (group.waiting or group.running)
        ]

    def starts(self, pool: PoolView) -> int:
        """Return how many groups a pool starts when there are too many tasks."""
        return int(len(pool.groups) < max_groups(pool))


class FixedElasticPolicy(VanillaPolicy):
    """A primary pool that starts once and never stops, and others that take what is too much for it.

    A pool is primary if it may have one group only. It starts when there are tasks to run; once
    it was up it is neither stopped nor started again. The others go by the same ratios as in
    :class:`VanillaPolicy`, and they alone shrink.

    Parameters
    ----------
    lower_task_ratio, upper_task_ratio : float
        Tasks for each worker; default 1 and 10.
    count_starting, prefer_idle, serve_every_tag : bool
        As in :class:`VanillaPolicy`.
    interval_s : float
        Seconds between two looks; default 2.
    """

    name = "fixed_elastic"

    @cached_property
    def _was_up(self) -> set[str]:
        """The pools that had a worker that was up."""
        return set()

    def decide(self, observation: Observation) -> ScaleDecision:
        """Return one group to start, or to stop, for each pool; of a primary only its first start."""
        self._was_up.update(name for name, pool in observation.pools.items() if any(one.workers for one in pool.groups))
        return super().decide(observation)

    def starts(self, pool: PoolView) -> int:
        """Return how many groups a pool starts when there are too many tasks."""
        if max_groups(pool) == 1 and pool.info.name in self._was_up:
            return 0
        return super().starts(pool)

    def stop(self, pool: PoolView) -> tuple[str, ...]:
        """Return the group that leaves; none of a primary."""
        return () if max_groups(pool) == 1 else super().stop(pool)


def max_groups(pool: PoolView) -> int:
    """Return how many worker groups a pool may have."""
    return pool.info.limit // pool.info.group_size


def victim(groups: Iterable[GroupView], *, prefer_idle: bool) -> GroupView | None:
    """Return the group with the fewest tasks in line; of those alike the oldest, or one that runs less."""
    return min(groups, key=lambda one: (one.waiting, one.running if prefer_idle else 0), default=None)


def decided(
    observation: Observation,
    starts: dict[str, int],
    stops: dict[str, tuple[str, ...]],
    why: Callable[[str], str],
) -> ScaleDecision:
    """Return a decision from groups to start and to stop by pool, and why by pool."""
    add = {name: groups * observation.pools[name].info.group_size for name, groups in starts.items() if groups > 0}
    stop = {name: groups for name, groups in stops.items() if groups}
    reasons = {name: why(name) for name in (*add, *stop)}
    return ScaleDecision(
        workers_to_add=add,
        groups_to_stop=stop,
        reasons=reasons,
        reasoning="; ".join(f"{name}: {reason}" for name, reason in reasons.items()) or "nothing is to change",
        timestamp=observation.now,
    )


def _starved(observation: Observation) -> dict[str, str]:
    """Return pools whose tasks no pool has a group for, and the reason."""
    found = {}
    for tag in observation.tags.values():
        capable = [observation.pools[name] for name in tag.info.pools if name in observation.pools]
        if tag.queued and capable and not any(pool.groups for pool in capable):
            found[capable[0].info.name] = f"{tag.queued} tasks '{tag.info.name}' and no worker that can run them"
    return found
