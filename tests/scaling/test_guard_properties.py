"""Whatever a policy says, and whatever happens to workers, the guard's rules hold."""

from __future__ import annotations

import math
import random
from dataclasses import dataclass, field

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule

from scalable.scaling.guard import Guard, PoolRules
from scalable.scaling.model import GroupView, Observation, PoolInfo, PoolView, ScaleDecision, TagInfo, TagView

POOLS = ("a", "b", "c")
ADAPTERS = {"a": "home", "b": "home", "c": "cloud"}
TAGS = {"x": ("a",), "y": ("b", "c"), "z": ("c",)}
KINDS = ("workers_to_add", "workers_to_remove", "workers_to_cancel", "workers_to_drain")


@dataclass
class World:
    """Workers as lists of ages; only what the guard can see of them."""

    info: PoolInfo
    idle: int = 0
    busy: int = 0
    draining: int = 0
    asked_at: list[float] = field(default_factory=list)
    startups: list[float] = field(default_factory=list)
    failed: int = 0
    failed_in_a_row: int = 0
    failed_at: float = -math.inf
    broken: str = ""

    def view(self, now: float) -> PoolView:
        size = self.info.group_size
        up = [
            GroupView(f"up-{one}", size, running=one * size < self.busy)
            for one in range((self.idle + self.busy) // size)
        ]
        coming = [GroupView(f"coming-{one}") for one in range(len(self.asked_at) // size)]
        return PoolView(
            self.info, self.idle, self.busy, len(self.asked_at), self.draining,
            start_ages=[now - asked for asked in self.asked_at], startups=list(self.startups), failed=self.failed,
            groups=(*up, *coming), broken=self.broken,
        )  # fmt: skip

    def apply(self, decision: ScaleDecision, stopped: tuple[int, int], now: float) -> None:
        name = self.info.name
        up, coming = stopped
        expired = decision.workers_to_expire.get(name, 0)
        del self.asked_at[:expired]
        gone = decision.workers_to_cancel.get(name, 0) + coming
        self.asked_at = self.asked_at[: max(0, len(self.asked_at) - gone)]
        self.idle -= decision.workers_to_remove.get(name, 0)
        drained = decision.workers_to_drain.get(name, 0) + up
        free = min(self.idle, drained)
        self.idle -= free
        self.busy -= drained - free
        self.draining += drained - free
        self.asked_at += [now] * decision.workers_to_add.get(name, 0)
        self.startups, self.failed = [], 0


class Histories(RuleBasedStateMachine):
    @initialize(
        seed=st.integers(0, 10**6), limit=st.none() | st.integers(4, 60), minimum=st.none() | st.integers(0, 6),
        sizes=st.tuples(*[st.sampled_from((1, 1, 4))] * 3), budgeted=st.booleans(),
    )  # fmt: skip
    def begin(self, seed: int, limit: int | None, minimum: int | None, sizes: tuple[int, ...], budgeted: bool) -> None:
        self.random = random.Random(seed)
        shared = self.random.randint(4, 60)
        self.now = 0.0
        self.limit, self.minimum = limit, minimum if limit is None else min(minimum or 0, limit)
        self.pools = {
            name: World(PoolInfo(name, limit=self.random.randint(4, 80), minimum=self.random.choice((0, 0, 2)),
                                 group_size=size, usd_per_s=self.random.choice((0.0, 0.01, None)), min_bill_s=600.0,
                                 adapter=ADAPTERS[name], adapter_limit=shared if ADAPTERS[name] == "home" else None))
            for name, size in zip(POOLS, sizes, strict=True)
        }  # fmt: skip
        self.rules = {"b": PoolRules(max_starting=8), "c": PoolRules(max_step=5)}
        self.budget = 50.0 if budgeted else None
        self.seen: dict[str, list[float]] = {name: [] for name in POOLS}
        self.tags: dict[str, tuple[int, int, int]] = dict.fromkeys(TAGS, (0, 0, 0))
        self.guard = Guard(self.rules)

    @rule(seconds=st.sampled_from((0.5, 5.0, 40.0, 700.0)))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds
        self.the_policy_decides()

    @rule(name=st.sampled_from(POOLS), count=st.integers(1, 40))
    def workers_come_up(self, name: str, count: int) -> None:
        pool = self.pools[name]
        up = pool.asked_at[:count]
        del pool.asked_at[: len(up)]
        pool.idle += len(up)
        pool.startups += [self.now - asked for asked in up]
        self.seen[name] += pool.startups[-len(up) :] if up else []
        if up:
            pool.failed_in_a_row, pool.failed_at = 0, -math.inf

    @rule(name=st.sampled_from(POOLS), count=st.integers(1, 10))
    def starts_fail(self, name: str, count: int) -> None:
        pool = self.pools[name]
        lost = len(pool.asked_at[:count])
        del pool.asked_at[:lost]
        pool.failed += lost
        # Of those within one look nobody can tell the order.
        if lost and not pool.startups:
            pool.failed_in_a_row += lost
            pool.failed_at = self.now

    @rule(name=st.sampled_from(POOLS), count=st.integers(1, 10))
    def workers_are_lost(self, name: str, count: int) -> None:
        pool = self.pools[name]
        lost = min(count, pool.busy)
        pool.busy -= lost
        if pool.asked_at == []:
            pool.failed += lost

    @rule(name=st.sampled_from(POOLS), busy=st.floats(0, 1))
    def work_begins_and_ends(self, name: str, busy: float) -> None:
        pool = self.pools[name]
        up = pool.idle + pool.busy
        pool.busy = round(up * busy)
        pool.idle = up - pool.busy
        pool.draining = 0

    @rule(name=st.sampled_from(sorted(TAGS)), counts=st.tuples(*[st.integers(0, 50)] * 3))
    def tasks_change(self, name: str, counts: tuple[int, int, int]) -> None:
        self.tags[name] = counts

    @rule(left=st.sampled_from((-1.0, 0.0, 5.0, 1000.0)))
    def money_is_spent(self, left: float) -> None:
        if self.budget is not None:
            self.budget = left

    @rule(name=st.sampled_from(POOLS), why=st.sampled_from(("", "no such image")))
    def pools_break_and_mend(self, name: str, why: str) -> None:
        self.pools[name].broken = why

    @rule()
    def the_policy_decides(self) -> None:
        seen = Observation(
            self.now,
            {name: pool.view(self.now) for name, pool in self.pools.items()},
            {name: TagView(TagInfo(name, pools), *self.tags[name]) for name, pools in TAGS.items()},
            self.limit, self.minimum, self.budget,
        )  # fmt: skip
        safe = self.guard.check(seen, self.anything(seen))
        self.look(seen, safe)
        for name, pool in self.pools.items():
            pool.apply(safe, stopped(seen.pools[name], safe), self.now)

    def anything(self, seen: Observation) -> ScaleDecision:
        pick = self.random
        counts = {
            kind: {name: pick.choice((-3, 1, 2, 7, 500)) for name in (*POOLS, "nowhere") if pick.random() < 0.4}
            for kind in KINDS
        }
        groups = {
            name: (*pick.sample([one.name for one in pool.groups], k=pick.randint(0, len(pool.groups))), "gone")
            for name, pool in seen.pools.items()
            if pick.random() < 0.2
        }
        return ScaleDecision(**counts, groups_to_stop=groups)

    def look(self, seen: Observation, safe: ScaleDecision) -> None:
        left = {}
        for name, pool in seen.pools.items():
            left[name] = self.look_at(name, pool, seen, safe)
        add = sum(safe.workers_to_add.values())
        live = sum(pool.live for pool in seen.pools.values())
        given_up = sum(safe.workers_to_expire.values())
        assert not add or self.limit is None or sum(left.values()) - given_up + add <= self.limit
        assert sum(left.values()) + add >= min(live, self.minimum or 0)
        self.look_at_adapter(seen, safe, left)
        self.look_at_tags(seen, safe)
        self.look_at_money(seen, safe)
        touched = {name for kind in KINDS for name in getattr(safe, kind)} | set(safe.groups_to_stop)
        assert touched <= set(POOLS)

    def look_at(self, name: str, pool: PoolView, seen: Observation, safe: ScaleDecision) -> int:
        """Look at one pool; return who stays of it."""
        info, world = pool.info, self.pools[name]
        add, remove, cancel, drain = (getattr(safe, kind).get(name, 0) for kind in KINDS)
        expired = safe.workers_to_expire.get(name, 0)
        up, coming = stopped(pool, safe)
        assert 0 <= remove <= pool.idle
        assert 0 <= remove + drain + up <= pool.idle + pool.busy
        assert 0 <= cancel + expired + coming <= pool.starting
        leaving = remove + cancel + drain + up + coming
        rules = self.rules.get(name, PoolRules())
        size = info.group_size
        most = info.limit if rules.max_starting is None else max(rules.max_starting, size)
        step = max(64, pool.live) if rules.max_step is None else rules.max_step
        assert add % size == 0
        if add:
            assert not leaving
            assert not expired
            assert not pool.broken
            assert pool.live + pool.draining + add <= info.limit
            assert pool.starting + add <= most
            assert add <= max(step, size)
        if leaving:
            assert pool.live - leaving >= info.minimum
            assert leaving <= max(step, size)
        row = max(3, math.ceil(info.limit / 10))
        if world.failed_in_a_row >= row and self.now - world.failed_at < 30.0 and not pool.startups:
            assert not add
        ordered = sorted(self.seen[name][-100:])
        usual = ordered[math.ceil(0.9 * len(ordered)) - 1] if ordered else 0.0
        late = sum(age > max(600.0, 3 * usual) for age in pool.start_ages)
        assert expired == late
        return pool.live - leaving

    def look_at_adapter(self, seen: Observation, safe: ScaleDecision, left: dict[str, int]) -> None:
        home = [name for name, adapter in ADAPTERS.items() if adapter == "home"]
        add = sum(safe.workers_to_add.get(name, 0) for name in home)
        there = sum(left[name] + seen.pools[name].draining - safe.workers_to_expire.get(name, 0) for name in home)
        assert not add or there + add <= (seen.pools["a"].info.adapter_limit or 0)

    def look_at_tags(self, seen: Observation, safe: ScaleDecision) -> None:
        for name, pools in TAGS.items():
            queued, running, _ = self.tags[name]
            before = sum(seen.pools[pool].idle + seen.pools[pool].busy for pool in pools)
            leave = sum(
                safe.workers_to_remove.get(pool, 0)
                + safe.workers_to_drain.get(pool, 0)
                + stopped(seen.pools[pool], safe)[0]
                for pool in pools
            )
            if before and (queued or running):
                assert before - leave >= 1

    def look_at_money(self, seen: Observation, safe: ScaleDecision) -> None:
        if self.budget is None:
            return
        price = {name: pool.info.usd_per_s for name, pool in seen.pools.items()}
        new = sum(count * 600.0 * (price[name] or 0.0) for name, count in safe.workers_to_add.items())
        held = sum((pool.live + pool.draining) * 300.0 * (price[name] or 0.0) for name, pool in seen.pools.items())
        assert not new or new + held <= self.budget + 1e-6
        if self.budget <= 0:
            assert all(price[name] == 0.0 for name in safe.workers_to_add)


def stopped(pool: PoolView, safe: ScaleDecision) -> tuple[int, int]:
    """Return the workers of groups that stop: up, and on their way."""
    named = [group for group in pool.groups if group.name in safe.groups_to_stop.get(pool.info.name, ())]
    return sum(group.workers for group in named), sum(pool.info.group_size for group in named if not group.workers)


TestHistories = Histories.TestCase
TestHistories.settings = settings(max_examples=100, stateful_step_count=40, deadline=None)
