"""The policy ``adaptive``: what `AdaptiveScaler` does, from what the controller sees."""

from __future__ import annotations

import math
from collections.abc import Mapping

from scalable.scaling.busyness import Busyness, Load
from scalable.scaling.durations import Durations, Estimate
from scalable.scaling.model import Observation, PoolView, ScaleDecision, TagView
from scalable.scaling.room import free_places

__all__ = ["AdaptivePolicy"]

STARTUP_S, BOOT_S = 60.0, 10.0
"""Seconds that a worker takes to come, and how many of these are paid for, where nothing is known."""

_SAMPLED = 100


class AdaptivePolicy:
    """Decide on the number of workers of each pool from how busy they are.

    A task counts for the pool that is meant for it first, of those that have a worker or a place for one.

    Parameters
    ----------
    min_workers, max_workers : mapping of str to int
        Workers by pool, within what the pool may have.
    scale_up_threshold : float
        The share of busy workers above which more come; default 0.8.
    scale_down_threshold : float
        The share of its time below which a worker is not busy enough to stay; default 0.2.
    cooldown_seconds : float
        As in :class:`~scalable.scaling.adaptive_scaler.AdaptiveScaler`; default 60.
    interval_s : float
        Seconds between two looks; default 5.

    Raises
    ------
    PlanError
        If the thresholds are not 0 <= down < up.
    """

    name = "adaptive"
    wants_groups = False

    def __init__(
        self,
        *,
        min_workers: Mapping[str, int] | None = None,
        max_workers: Mapping[str, int] | None = None,
        scale_up_threshold: float = 0.8,
        scale_down_threshold: float = 0.2,
        cooldown_seconds: float = 60.0,
        interval_s: float = 5.0,
    ) -> None:
        self.interval_s = interval_s
        self._min = dict(min_workers or {})
        self._max = dict(max_workers or {})
        self._busyness = Busyness(scale_up_threshold, scale_down_threshold, cooldown_seconds, BOOT_S)
        self._durations = Durations()
        self._begun: set[str] = set()
        self._startup_s: dict[str, float] = {}

    def decide(self, observation: Observation) -> ScaleDecision:
        """Return what is to change; pools that are broken are left alone."""
        meant: dict[str, list[TagView]] = {name: [] for name, pool in observation.pools.items() if not pool.broken}
        free = free_places(observation.pools.values())
        able = {name for name in meant if _can_run(observation.pools[name], free)}
        for name, tag in observation.tags.items():
            self._learn(name, tag)
            capable = [pool for pool in tag.info.pools if pool in meant]
            first = next((pool for pool in capable if pool in able), next(iter(capable), None))
            if first is not None:
                meant[first].append(tag)
        loads = {name: self._load(observation.pools[name], tags) for name, tags in meant.items()}
        return self._busyness.decide(observation.now, loads, observation.now)

    def _learn(self, name: str, tag: TagView) -> None:
        ended = tag.completions
        if name not in self._begun:
            self._begun.add(name)
            ended = (*tag.info.history, *ended)
        for size, seconds in ended:
            self._durations.learn(name, seconds, None if size is None else {"size": size})

    def _load(self, pool: PoolView, tags: list[TagView]) -> Load:
        info = pool.info
        if pool.startups:
            self._startup_s[info.name] = sum(pool.startups) / len(pool.startups)
        usual = STARTUP_S if info.wait_s is None or info.boot_s is None else info.wait_s + info.boot_s
        queued = sum(tag.queued for tag in tags)
        workers_needed = sum(tag.queued / tag.info.slots.get(info.name, 1) for tag in tags)
        # Those of other pools that run here keep a worker busy, too.
        running = [tag for tag in tags if tag.running]
        return Load(
            queued=queued,
            running=pool.busy,
            blocked=sum(tag.blocked for tag in tags),
            idle=pool.idle,
            busy=pool.busy,
            starting=pool.starting,
            minimum=max(info.minimum, self._min.get(info.name, 0)),
            maximum=min(info.limit - pool.draining, self._max.get(info.name, info.limit)),
            estimate=self._estimate(tags),
            elapsed_s=_elapsed_s(running) * pool.busy,
            startup_s=self._startup_s.get(info.name, usual),
            boot_s=BOOT_S if info.boot_s is None else info.boot_s,
            slots=queued / workers_needed if queued else 1.0,
        )

    def _estimate(self, tags: list[TagView]) -> Estimate:
        """Return the mean over the tasks that are there; what is not known of some is taken from the rest."""
        weights = {tag.info.name: tag.queued + tag.running for tag in tags}
        estimates = {tag.info.name: self._of(tag) for tag in tags}
        known = {name: one for name, one in estimates.items() if one.seconds is not None and weights[name]}
        total = sum(weights[name] for name in known)
        if not total:
            return Estimate()
        seconds = sum((one.seconds or 0.0) * weights[name] for name, one in known.items()) / total
        confidence = sum(one.confidence * weights[name] for name, one in known.items()) / sum(weights.values())
        return Estimate(seconds, confidence)

    def _of(self, tag: TagView) -> Estimate:
        binned = tag.queued_sizes or ()
        part = _SAMPLED / max(1, sum(count for _, count in binned))
        sizes = [{"size": size} for size, count in binned for _ in range(max(1, round(part * count)))]
        estimate = self._durations.estimate(tag.info.name, sizes)
        if estimate.seconds is None and tag.info.prior_s is not None:
            return Estimate(tag.info.prior_s, 0.3)
        return estimate


def _can_run(pool: PoolView, free: Mapping[str, float]) -> bool:
    return pool.live > 0 or free[pool.info.adapter] >= pool.info.group_size


def _elapsed_s(tags: list[TagView]) -> float:
    """Return for how long a running task has run, in the mean."""
    ages = [age for tag in tags for age, _ in tag.running_for]
    return math.fsum(ages) / len(ages) if ages else 0.0
