"""Looking at the pools: one step for each worker and each kind of task, however long the queue is."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import islice
from typing import TYPE_CHECKING, Any, Final

from scalable.pools.cluster import PoolCluster
from scalable.pools.demand import Demand, Kind, size_of_step, step_of_size
from scalable.pools.pool import Member, Pool
from scalable.pools.routing import Router
from scalable.pools.shape import family_of
from scalable.pricing.meter import base_rate
from scalable.scaling.beforehand import Beforehand
from scalable.scaling.model import GroupView, Observation, PoolInfo, PoolView, TagInfo, TagView
from scalable.spec import Limits

if TYPE_CHECKING:
    from distributed.scheduler import WorkerState

__all__ = ["Observer"]

_FREE: Final = 0.01
_NO_LIMIT: Final = 1_000_000
_JITTER_S: Final = 5.0

_Running = tuple[float, float | None]


class Observer:
    """See the pools of a cluster as a policy is to see them; on the cluster's loop.

    Parameters
    ----------
    cluster : PoolCluster
        Whose pools.
    router : Router
        Which pools a task can run in.
    limits : Limits
        Bounds on all pools together.
    known : Beforehand
        What is known before anything has run.
    most : mapping of str to int
        Workers that a pool is to have at the most, where it was planned so.
    groups : bool
        Whether worker groups are shown.
    """

    def __init__(
        self,
        cluster: PoolCluster,
        router: Router,
        limits: Limits,
        known: Beforehand | None = None,
        *,
        most: Mapping[str, int] | None = None,
        groups: bool = False,
    ) -> None:
        self._cluster = cluster
        self._router = router
        self._limits = limits
        self._maximum = cluster.maximum
        self._pools: Mapping[str, Pool] = cluster.pools
        self._known = known or Beforehand()
        self._most = dict(most or {})
        self._groups = groups
        self._tags: dict[Kind, TagInfo] = {}
        self._infos: dict[str, PoolInfo] = {}
        self._began: dict[Any, float] = {}
        self._names: dict[Kind, str] = {}
        self._taken: set[str] = set()

    def look(self, now: float) -> Observation:
        """Return what there is.

        Parameters
        ----------
        now : float
            Seconds of ``time.monotonic``.
        """
        if self._cluster.pools is not self._pools:
            # A pool that came or went changes what tasks may run where, and what others cost beside it.
            self._pools, self._infos, self._tags = self._cluster.pools, {}, {}
        began, self._began = self._began, {}
        running: dict[Kind, list[_Running]] = {}
        pools = {name: self._pool(name, pool, now, running, began) for name, pool in self._cluster.pools.items()}
        tags = {}
        for kind, demand in self._cluster.demand_counter.kinds.items():
            info = self._tag(kind, demand)
            tags[info.name] = _tag_view(info, demand, running.get(kind, []))
        return Observation(now, pools, tags, self._limit, self._limits.minimum)

    @property
    def _limit(self) -> int | None:
        """Workers of all pools, those included of an adapter that came later; ``None`` if that has no bound."""
        if self._cluster.maximum is None or self._maximum is None:
            return self._limits.maximum if self._cluster.maximum == self._maximum else None
        return self._limits.maximum + max(0, self._cluster.maximum - self._maximum)

    def _pool(
        self, name: str, pool: Pool, now: float, running: dict[Kind, list[_Running]], began: Mapping[Any, float]
    ) -> PoolView:
        counts: Counter[str] = Counter()
        idle_since: list[float] = []
        asked_at: list[float] = []
        active_at = self._cluster.demand_counter.active_at
        for member in pool.members.values():
            worker = self._cluster.worker_of(member) if member.up else None
            if member.retiring or member.expiring:
                counts["draining"] += 1
            elif not member.up:
                asked_at.append(member.asked_at)
                # While it says what it waits for, it has no machine that anybody pays for.
                counts["unbilled"] += bool(member.remote is not None and member.remote.note)
            elif member.stuck:
                # It is idle, and cannot leave: nobody could take its results.
                counts["busy"] += 1
            elif worker is None or not worker.processing:
                idle_since.append(active_at.get(worker.address, now) if worker is not None else now)
            else:
                counts["busy"] += 1
                self._look_into(worker, pool.shape.threads, now, running, began)
        if not pool.broken:
            # Some that are wanted have no place yet, or failed and are tried again in a moment.
            asked_at += [now] * (pool.desired - len(asked_at) - len(idle_since) - counts["busy"])
        startups, failed = list(pool.startups), pool.failed
        pool.startups.clear()
        pool.failed = 0
        return PoolView(
            info=self._info(name, pool),
            idle=len(idle_since),
            busy=counts["busy"],
            starting=len(asked_at),
            draining=counts["draining"],
            unbilled=counts["unbilled"],
            idle_ages=_ages(now, idle_since),
            start_ages=_ages(now, asked_at),
            startups=startups,
            failed=failed,
            groups=self._groups_of(pool, now) if self._groups else (),
            broken=pool.broken,
        )

    def _look_into(
        self,
        worker: WorkerState,
        threads: int,
        now: float,
        running: dict[Kind, list[_Running]],
        began: Mapping[Any, float],
    ) -> None:
        """Add what a worker runs, as far as can be told: its last word is a heartbeat old."""
        since_heard = max(0.0, time.time() - worker.last_seen)
        processing, executing = worker.processing, worker.executing
        tasks = [(task, seconds + since_heard) for task, seconds in executing.items() if task in processing]
        lacking = max(threads, len(worker.long_running)) - len(tasks)
        if lacking > 0 and len(processing) > len(tasks):
            # What it began since then stands in the line with all that it has not.
            others = (task for task in processing if task not in executing)
            tasks += [(task, since_heard) for task in islice(others, lacking)]
        counter = self._cluster.demand_counter
        for task, seconds in tasks:
            since = round(now - seconds, 2)
            before = began.get(task.key, since)
            # What a heartbeat more or less makes of it is no news.
            since = self._began[task.key] = before if abs(before - since) < _JITTER_S else since
            running.setdefault(counter.kind_of(task), []).append((now - since, counter.size_of(task.key)))

    def _info(self, name: str, pool: Pool) -> PoolInfo:
        info = self._infos.get(name)
        if info is None:
            component = pool.shape.component
            rate = base_rate(self._known.rates, name)
            limits = (self._limit, pool.limit, self._most.get(name))
            wait_s, boot_s = self._known.startup_s(family_of(name), pool.adapter)
            info = self._infos[name] = PoolInfo(
                name=name,
                adapter=pool.adapter,
                limit=min((limit for limit in limits if limit is not None), default=_NO_LIMIT),
                minimum=pool.minimum,
                threads=pool.shape.threads,
                group_size=pool.group_size,
                labels=dict(pool.shape.labels),
                price_per_s=self._price(name, float(component.resources.cpus)),
                usd_per_s=None if rate is None else rate.usd_per_s,
                min_bill_s=0.0 if rate is None else rate.min_bill_s,
                wait_s=wait_s,
                boot_s=boot_s,
                adapter_limit=pool.limit,
            )
        return info

    def _price(self, name: str, cpus: float) -> float:
        """Return what a worker of a pool costs beside others: dollars if all have a price, else cpus."""
        rates = [base_rate(self._known.rates, one) for one in self._cluster.pools]
        priced = [rate.usd_per_s for rate in rates if rate is not None and rate.usd_per_s > 0]
        rate = base_rate(self._known.rates, name)
        if rate is None or not priced or None in rates:
            return cpus
        # What is free is only used first: it must not be held for ever.
        return rate.usd_per_s or _FREE * min(priced)

    def _tag(self, kind: Kind, demand: Demand) -> TagInfo:
        info = self._tags.get(kind)
        if info is None:
            info = self._tags[kind] = self._describe(kind)
        parents = tuple(sorted(map(self._name, demand.parents)))
        history = info.history or tuple(self._known.history(kind.name))
        if info.parents != parents or info.history != history:
            info = self._tags[kind] = replace(info, parents=parents, history=history)
        return info

    def _name(self, kind: Kind) -> str:
        """Return what a kind of task is called: its name, with what it takes of a worker if another has that."""
        name = self._names.get(kind)
        if name is None:
            takes = ", ".join(label if amount == 1 else f"{label}: {amount:g}" for label, amount in kind.requirement)
            name = self._names[kind] = kind.name if kind.name not in self._taken else f"{kind.name} [{takes}]"
            self._taken.add(name)
        return name

    def _describe(self, kind: Kind) -> TagInfo:
        required = dict(kind.requirement)
        capable = self._router.pools_for(required)
        # Those that are meant for it first, then those that cost least.
        own = [name for name in capable if name in required]
        others = sorted((name for name in capable if name not in own), key=self._cost)
        pools = (*own, *others)
        return TagInfo(
            name=self._name(kind),
            pools=pools,
            slots={name: max(1, self._router.slots(name, required)) for name in pools},
            requires=required,
            prior_s=self._known.prior_s.get(kind.name),
        )

    def _cost(self, name: str) -> float:
        return self._info(name, self._cluster.pools[name]).price_per_s

    def _groups_of(self, pool: Pool, now: float) -> tuple[GroupView, ...]:
        groups: dict[str, list[Member]] = {}
        for member in pool.staying:
            groups.setdefault(member.group, []).append(member)
        return tuple(self._group(name, members, pool.shape.threads, now) for name, members in groups.items())

    def _group(self, name: str, members: Sequence[Member], threads: int, now: float) -> GroupView:
        loads = [len(worker.processing) for one in members if (worker := self._cluster.worker_of(one)) is not None]
        running = sum(min(load, threads) for load in loads)
        age = now - min(one.asked_at for one in members)
        return GroupView(name, len(loads), sum(loads) - running, running, age)


def _ages(now: float, since: Iterable[float]) -> list[float]:
    """Return how long ago that was, the longest first; in hundredths, as the log of decisions has them."""
    return [max(0.0, now - round(one, 2)) for one in sorted(since)]


def _tag_view(info: TagInfo, demand: Demand, running: Sequence[_Running]) -> TagView:
    under_way = min(len(running), demand.ready)
    steps = +demand.steps
    for _, size in running:
        if size is not None:
            steps[step_of_size(size)] -= 1
    sizes = [(size_of_step(step), count) for step, count in sorted(steps.items()) if count > 0]
    return TagView(
        info=info,
        queued=demand.ready - under_way,
        running=under_way,
        blocked=demand.blocked,
        arrived=demand.arrived,
        done=demand.done,
        queued_sizes=sizes or None,
        running_for=list(running[:under_way]),
        completions=demand.durations.take(),
    )
