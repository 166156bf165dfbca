"""What holds of the predictive policy whatever it is shown, and however long it runs."""

import copy
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from scalable.scaling.model import Observation, PoolInfo, PoolView, ScaleDecision, TagInfo, TagView
from scalable.scaling.predictive import PredictivePolicy

SECONDS = st.floats(0.01, 5000.0)


@st.composite
def pool_views(draw: Any, name: str) -> PoolView:
    group, limit = draw(st.sampled_from([1, 1, 2, 4])), draw(st.integers(0, 60))
    info = PoolInfo(
        name,
        limit=limit,
        minimum=draw(st.integers(0, limit)),
        group_size=group,
        price_per_s=draw(st.floats(1e-6, 1.0)),
        usd_per_s=draw(st.none() | st.floats(0.0, 1.0)),
        min_bill_s=draw(st.sampled_from([0.0, 60.0])),
        wait_s=draw(st.none() | st.floats(0.0, 600.0)),
        boot_s=draw(st.none() | st.floats(0.0, 300.0)),
    )
    idle, busy, starting = (draw(st.integers(0, 20)) for _ in range(3))
    return PoolView(
        info,
        idle=idle,
        busy=busy,
        starting=starting,
        draining=draw(st.integers(0, 3)),
        unbilled=draw(st.integers(0, starting)),
        idle_ages=sorted((draw(SECONDS) for _ in range(idle)), reverse=True),
        start_ages=sorted((draw(SECONDS) for _ in range(starting)), reverse=True),
        startups=draw(st.lists(SECONDS, max_size=3)),
        failed=draw(st.integers(0, 2)),
        broken=draw(st.sampled_from(["", "", "no quota"])),
    )


@st.composite
def tag_views(draw: Any, name: str, pools: tuple[str, ...]) -> TagView:
    size = st.none() | st.floats(0.0, 1e9)
    running, queued, blocked = (draw(st.integers(0, 30)) for _ in range(3))
    able = tuple(one for one in pools if draw(st.booleans()))
    return TagView(
        TagInfo(
            name,
            able,
            slots={one: draw(st.integers(1, 8)) for one in able},
            parents=draw(st.sampled_from([(), ("t0",), ("missing",), (name,)])),
            history=draw(st.lists(st.tuples(size, SECONDS), max_size=12)),
        ),
        queued=queued,
        running=running,
        blocked=blocked,
        arrived=queued + running + blocked,
        running_for=[(draw(st.floats(0.0, 5000.0)), None) for _ in range(running)],
        completions=draw(st.lists(st.tuples(size, st.floats(0.0, 5000.0)), max_size=5)),
        queued_sizes=draw(st.none() | st.just([(10.0, queued)])),
    )


@st.composite
def observations(draw: Any, now: float) -> Observation:
    pools = tuple(f"p{n}" for n in range(draw(st.integers(0, 3))))
    return Observation(
        now,
        {name: draw(pool_views(name)) for name in pools},
        {f"t{n}": draw(tag_views(f"t{n}", pools)) for n in range(draw(st.integers(0, 3)))},
        limit=draw(st.none() | st.integers(0, 80)),
        minimum=draw(st.none() | st.integers(0, 5)),
        budget_usd=draw(st.none() | st.floats(0.0, 100.0)),
        deadline_s=draw(st.none() | st.floats(0.0, 10_000.0)),
    )


@st.composite
def histories(draw: Any) -> list[Observation]:
    return [draw(observations(5.0 * n)) for n in range(draw(st.integers(1, 4)))]


def decided(seen: list[Observation]) -> list[ScaleDecision]:
    policy = PredictivePolicy()
    return [policy.decide(one) for one in seen]


@settings(max_examples=60, deadline=None)
@given(histories())
def test_bounds_hold_and_only_idle_and_starting_workers_go(seen: list[Observation]) -> None:
    for one, decision in zip(seen, decided(seen), strict=True):
        for name, pool in one.pools.items():
            add, remove, cancel = (
                counts.get(name, 0)
                for counts in (decision.workers_to_add, decision.workers_to_remove, decision.workers_to_cancel)
            )
            assert add >= 0
            assert 0 <= remove <= pool.idle
            assert 0 <= cancel <= pool.starting
            assert not add or pool.live + pool.draining + add <= pool.info.limit
            assert add % pool.info.group_size == remove % pool.info.group_size == cancel % pool.info.group_size == 0
            assert not (remove or cancel) or pool.live - remove - cancel >= pool.info.minimum
            assert not (add and pool.broken)
        added = sum(decision.workers_to_add.values())
        there = sum(pool.live + pool.draining for pool in one.pools.values())
        assert not added or one.limit is None or there + added <= one.limit
        assert 0.0 <= decision.confidence <= 1.0


@settings(max_examples=25, deadline=None)
@given(histories())
def test_the_same_observations_make_the_same_decisions_and_stay_as_they_are(seen: list[Observation]) -> None:
    before = copy.deepcopy(seen)
    assert decided(seen) == decided(seen)
    assert seen == before


@settings(max_examples=10, deadline=None)
@given(st.integers(1, 400))
def test_what_it_remembers_does_not_grow_with_what_is_done(ends: int) -> None:
    policy = PredictivePolicy()
    info, kind = PoolInfo("p", limit=50), TagInfo("t", ("p",))
    for n in range(300):
        done = tuple((float(n + 1), 1.0) for _ in range(ends))
        policy.decide(
            Observation(
                5.0 * n,
                {"p": PoolView(info, busy=n % 50, startups=(1.0,) * 5)},
                {
                    "t": TagView(
                        info=kind, queued=1, running=n % 50, arrived=ends * n + 51, done=ends * n, completions=done
                    )
                },
            )
        )
    memory = policy._memory
    assert len(memory.durations["t"].recent) <= 100
    assert len(memory.ledger.jobs) <= 128
    assert len(memory.levels["p"]._since) <= 128


ANY = st.floats(0.0, 1e308, allow_nan=False)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.none() | ANY, ANY), max_size=9),
    st.lists(st.tuples(ANY, st.none() | ANY), max_size=9),
    st.lists(ANY, max_size=5),
    st.tuples(st.none() | ANY, st.none() | ANY),
    st.integers(0, 10**12),
)
def test_no_seconds_however_many_make_it_warn(tasks: Any, running: Any, ages: Any, starts: Any, queued: int) -> None:
    policy, busy = PredictivePolicy(), len(running)
    info = PoolInfo("p", limit=1000, usd_per_s=1.0, min_bill_s=60.0, wait_s=starts[0], boot_s=starts[1])
    kind = TagInfo("t", ("p",), history=tasks, prior_s=starts[0])
    for now in (0.0, 5.0, 1e9):
        pool = PoolView(
            info, busy=busy, starting=len(ages), start_ages=sorted(ages, reverse=True), startups=ages, unbilled=0
        )
        work = TagView(
            kind,
            queued=queued,
            running=busy,
            arrived=queued + busy,
            running_for=running,
            completions=tasks,
            queued_sizes=[(size, 3) for size in ages] or None,
        )
        policy.decide(Observation(now, {"p": pool}, {"t": work}))
