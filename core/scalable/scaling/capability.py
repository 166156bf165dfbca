"""The policy that compares tasks with workers by what tasks require."""

from __future__ import annotations

from collections import Counter
from typing import Literal

from scalable.errors import PlanError, did_you_mean
from scalable.scaling.model import Observation, PoolView, ScaleDecision
from scalable.scaling.ratio import HEARTBEAT_S, RatioPolicy, decided, max_groups, victim

__all__ = ["CapabilityPolicy"]

Capabilities = frozenset[str]

_ASK = ("capable", "first", "all")


class CapabilityPolicy(RatioPolicy):
    """Compare tasks with the workers that can run them, for each set of capabilities that tasks require.

    Above five tasks for each capable worker, or with none, a group comes; below a half one
    leaves. The last group that can run a task that is there stays, and no group leaves where
    the next look would start one again. Sets are compared by names, as the original does;
    amounts only decide where a task runs.

    Parameters
    ----------
    lower_task_ratio, upper_task_ratio : float
        Tasks for each capable worker; default 0.5 and 5.
    ask : {"capable", "first", "all"}
        Which pools are asked for a set of capabilities that lacks workers: those that have
        them all, the first one of these that the tasks are meant for, or every pool as in the
        original, where workers come that can do nothing. Default ``capable``.
    count_starting, prefer_idle : bool
        As in :class:`~scalable.scaling.ratio.RatioPolicy`.
    interval_s : float
        Seconds between two looks; default 2.
    """

    name = "capability"

    def __init__(
        self,
        lower_task_ratio: float = 0.5,
        upper_task_ratio: float = 5.0,
        *,
        ask: Literal["capable", "first", "all"] = "capable",
        count_starting: bool = False,
        prefer_idle: bool = False,
        interval_s: float = HEARTBEAT_S,
    ) -> None:
        super().__init__(
            lower_task_ratio,
            upper_task_ratio,
            count_starting=count_starting,
            prefer_idle=prefer_idle,
            interval_s=interval_s,
        )
        if ask not in _ASK:
            raise PlanError(f"ask must be one of {', '.join(_ASK)}, not '{ask}'; {did_you_mean(str(ask), _ASK)}")
        self.ask = ask

    def decide(self, observation: Observation) -> ScaleDecision:
        """Return groups to start, or a group to stop, for each pool."""
        tasks: Counter[Capabilities] = Counter()
        meant_for: dict[Capabilities, str] = {}
        for tag in observation.tags.values():
            required = frozenset(tag.info.requires)
            tasks[required] += tag.queued + tag.running
            meant_for.setdefault(required, next(iter(tag.info.pools), ""))
        tasks += Counter()
        starts: dict[str, int] = {}
        stops: dict[str, tuple[str, ...]] = {}
        why: dict[str, str] = {}
        for name, pool in observation.pools.items():
            lacking = [
                one for one in tasks if self._asked(pool, one, meant_for) and self._lacks(observation, pool, tasks, one)
            ]
            starts[name] = max(0, min(len(lacking), max_groups(pool) - len(pool.groups)))
            if starts[name]:
                why[name] = "; ".join(self._told(observation, one, tasks[one]) for one in lacking)
            elif not lacking:
                stops[name] = self._leaving(observation, pool, tasks)
                why[name] = self._told(observation, frozenset(pool.info.labels), _served(pool, tasks))
        return decided(observation, starts, stops, lambda name: why[name])

    def _asked(self, pool: PoolView, required: Capabilities, meant_for: dict[Capabilities, str]) -> bool:
        if self.ask == "first":
            return pool.info.name == meant_for[required]
        return self.ask == "all" or _has(pool, required)

    def _lacks(
        self, observation: Observation, pool: PoolView, tasks: Counter[Capabilities], required: Capabilities
    ) -> bool:
        workers = self.workers(_capable(observation, required))
        if not workers:
            return not (pool.groups and _has(pool, required))
        return tasks[required] / workers > self.upper

    def _leaving(self, observation: Observation, pool: PoolView, tasks: Counter[Capabilities]) -> tuple[str, ...]:
        capable = _capable(observation, frozenset(pool.info.labels))
        count, workers = _served(pool, tasks), self.workers(capable)
        group = victim(pool.groups, prefer_idle=self.prefer_idle)
        if group is None or not workers or count / workers >= self.lower:
            return ()
        left = workers - group.workers
        if count and (left <= 0 or count / left > self.upper):
            return ()
        return (group.name,)

    def _told(self, observation: Observation, required: Capabilities, count: int) -> str:
        what = ", ".join(sorted(required)) or "nothing"
        return f"{count} tasks that require {what} for {self.workers(_capable(observation, required))} workers"


def _has(pool: PoolView, required: Capabilities) -> bool:
    return required <= pool.info.labels.keys()


def _capable(observation: Observation, required: Capabilities) -> list[PoolView]:
    return [pool for pool in observation.pools.values() if _has(pool, required)]


def _served(pool: PoolView, tasks: Counter[Capabilities]) -> int:
    """Return how many tasks a pool's workers can run."""
    return sum(count for required, count in tasks.items() if _has(pool, required))
