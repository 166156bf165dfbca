"""The predictive policy on hand-made observations: what it adds, what leaves, and why."""

import time
from dataclasses import replace
from typing import Any

import pytest

from scalable.scaling.model import Observation, Policy, PoolInfo, PoolView, ScaleDecision, TagInfo, TagView
from scalable.scaling.predictive import PredictivePolicy
from scalable.scaling.predictive.work import Durations

HOUR = [(None, 3600.0)] * 20
MINUTE = [(None, 50.0), (None, 60.0), (None, 70.0)] * 10


def pool(name: str = "cpu", **about: Any) -> PoolInfo:
    return PoolInfo(
        name, **{"limit": 100, "price_per_s": 1e-4, "usd_per_s": 1e-4, "wait_s": 15.0, "boot_s": 45.0} | about
    )


def view(info: PoolInfo, **counts: Any) -> PoolView:
    ages = {"idle_ages": (0.0,) * counts.get("idle", 0), "start_ages": (0.0,) * counts.get("starting", 0)}
    return PoolView(info, **ages | counts)


def tag(name: str = "work", pools: tuple[str, ...] = ("cpu",), history: Any = MINUTE, **about: Any) -> TagInfo:
    return TagInfo(name, pools, history=tuple(history), **about)


def tasks(info: TagInfo, **counts: Any) -> TagView:
    running = counts.get("running", 0)
    came = counts.get("queued", 0) + running + counts.get("blocked", 0) + counts.get("done", 0)
    return TagView(info, **{"arrived": came, "running_for": ((5.0, None),) * running} | counts)


def seen(now: float, pools: PoolView | list[PoolView], tags: TagView | list[TagView], **bounds: Any) -> Observation:
    listed = pools if isinstance(pools, list) else [pools]
    kinds = tags if isinstance(tags, list) else [tags]
    return Observation(now, {one.info.name: one for one in listed}, {one.info.name: one for one in kinds}, **bounds)


def burst(queued: int, **about: Any) -> Observation:
    return seen(0.0, view(pool()), tasks(tag(), queued=queued), **about)


def run(policy: PredictivePolicy, observations: list[Observation]) -> ScaleDecision:
    decisions = [policy.decide(one) for one in observations]
    return decisions[-1]


def test_it_is_a_policy() -> None:
    assert isinstance(PredictivePolicy(), Policy)
    assert PredictivePolicy().interval_s == 5.0


def test_nothing_to_do_changes_nothing() -> None:
    assert not PredictivePolicy().decide(burst(0)).has_changes


def test_a_single_task_gets_a_single_worker() -> None:
    assert PredictivePolicy().decide(burst(1)).workers_to_add == {"cpu": 1}


def test_work_worth_many_starts_gets_all_the_workers_it_can() -> None:
    observation = seen(0.0, view(pool()), tasks(tag(history=HOUR), queued=500))
    assert PredictivePolicy().decide(observation).workers_to_add == {"cpu": 100}


def test_tasks_far_shorter_than_a_start_share_workers() -> None:
    observation = seen(0.0, view(pool()), tasks(tag(history=[(None, 0.5)] * 20), queued=100))
    assert sum(PredictivePolicy().decide(observation).workers_to_add.values()) <= 3


def test_money_buys_fewer_workers_than_balance_and_time_more() -> None:
    counts = [
        PredictivePolicy(objective).decide(burst(90)).workers_to_add["cpu"]
        for objective in ("minimize cost", "balance", "minimize time")
    ]
    assert counts[0] < counts[1] < counts[2]


def test_larger_inputs_are_more_work() -> None:
    history = [(size, size / 10) for size in range(10, 400, 10)]
    info = tag(history=history)
    added = [
        sum(
            PredictivePolicy()
            .decide(seen(0.0, view(pool()), tasks(info, queued=60, queued_sizes=((size, 60),))))
            .workers_to_add.values()
        )
        for size in (10.0, 1000.0)
    ]
    assert added[0] < added[1] / 3


def test_starting_workers_count_so_that_the_next_look_asks_for_no_more() -> None:
    policy = PredictivePolicy()
    added = policy.decide(burst(30)).workers_to_add["cpu"]
    starting = view(pool(), starting=added, unbilled=added, start_ages=(5.0,) * added)
    later = policy.decide(seen(5.0, starting, tasks(tag(), queued=30)))
    assert later.workers_to_add.get("cpu", 0) <= 1
    assert not later.workers_to_cancel


def test_workers_that_come_free_before_a_start_could_help_are_waited_for() -> None:
    ending = tuple((58.0, None) for _ in range(20))
    observation = seen(0.0, view(pool(), busy=20), tasks(tag(), queued=2, running=20, running_for=ending))
    assert not PredictivePolicy().decide(observation).workers_to_add


def test_of_two_pools_the_cheaper_is_taken() -> None:
    pools = [view(pool("dear", price_per_s=9e-4)), view(pool("cheap"))]
    observation = seen(0.0, pools, tasks(tag(pools=("dear", "cheap")), queued=40))
    assert set(PredictivePolicy().decide(observation).workers_to_add) == {"cheap"}


def test_the_next_pool_takes_what_the_limit_of_the_first_leaves() -> None:
    pools = [view(pool("small", limit=3)), view(pool("large"))]
    observation = seen(0.0, pools, tasks(tag(pools=("small", "large"), history=HOUR), queued=40))
    added = PredictivePolicy().decide(observation).workers_to_add
    assert added["small"] == 3
    assert added["large"] > 10


def test_a_broken_pool_gets_nothing_and_the_reason_says_so() -> None:
    decision = PredictivePolicy().decide(seen(0.0, view(pool(), broken="quota of 0"), tasks(tag(), queued=9)))
    assert not decision.workers_to_add
    assert "quota of 0" in decision.reasons["cpu"]


def test_workers_with_slots_are_fewer() -> None:
    wide = tasks(tag(history=HOUR, slots={"cpu": 8}), queued=64)
    assert PredictivePolicy().decide(seen(0.0, view(pool()), wide)).workers_to_add == {"cpu": 8}


def test_groups_are_added_whole_and_within_the_limit() -> None:
    grouped = view(pool(group_size=4, limit=10))
    decision = PredictivePolicy().decide(seen(0.0, grouped, tasks(tag(history=HOUR), queued=30)))
    assert decision.workers_to_add == {"cpu": 8}


def test_the_limit_of_the_run_bounds_all_pools_together() -> None:
    pools = [view(pool("a")), view(pool("b"))]
    kinds = [tasks(tag("x", ("a",), HOUR), queued=50), tasks(tag("y", ("b",), HOUR), queued=50)]
    added = PredictivePolicy().decide(seen(0.0, pools, kinds, limit=7)).workers_to_add
    assert sum(added.values()) == 7


def test_minimums_of_pools_and_run_are_topped_up() -> None:
    pools = [view(pool("a", minimum=2)), view(pool("b", price_per_s=1e-3))]
    assert PredictivePolicy().decide(seen(0.0, pools, [], minimum=5)).workers_to_add == {"a": 5}


def test_no_paid_worker_is_started_for_money_that_is_not_there() -> None:
    policy = PredictivePolicy()
    assert not policy.decide(burst(200, budget_usd=0.0)).workers_to_add
    some = PredictivePolicy().decide(burst(200, budget_usd=0.05)).workers_to_add["cpu"]
    assert 0 < some < PredictivePolicy().decide(burst(200)).workers_to_add["cpu"]
    free = seen(0.0, view(pool(usd_per_s=0.0)), tasks(tag(), queued=200), budget_usd=0.0)
    assert PredictivePolicy().decide(free).workers_to_add


def test_a_deadline_asks_for_the_workers_that_make_it() -> None:
    loose = PredictivePolicy("minimize cost").decide(burst(60)).workers_to_add["cpu"]
    tight = PredictivePolicy("minimize cost").decide(burst(60, deadline_s=200.0))
    assert tight.workers_to_add["cpu"] > loose
    assert "deadline" in tight.reasons["cpu"]


def test_with_no_history_it_starts_and_learns_from_what_runs() -> None:
    policy, unknown = PredictivePolicy(), tag(history=())
    first = policy.decide(seen(0.0, view(pool()), tasks(unknown, queued=30)))
    assert first.workers_to_add
    assert first.confidence < 0.1
    assert first.predicted_completion_time is None
    assert "guess" in first.reasons["cpu"]
    n = first.workers_to_add["cpu"]
    for now in range(100, 1100, 100):
        running = tasks(unknown, queued=300, running=n, running_for=((float(now), None),) * n)
        last = policy.decide(seen(float(now), view(pool(), busy=n), running))
    # Tasks that have run for a quarter of an hour each are no tasks of half a minute.
    assert last.workers_to_add.get("cpu", 0) + n > first.workers_to_add["cpu"]


def test_a_history_that_is_wrong_by_much_is_given_up() -> None:
    policy = PredictivePolicy()
    ended = tuple((None, 300.0) for _ in range(30))
    policy.decide(burst(30))
    busy = view(pool(limit=10), busy=10)
    decision = policy.decide(seen(400.0, busy, tasks(tag(), queued=100, running=10, done=30, completions=ended)))
    assert decision.predicted_completion_time is not None
    assert decision.predicted_completion_time > 2000


def idle_for(policy: PredictivePolicy, idle: int, looks: int, info: PoolInfo | None = None) -> list[ScaleDecision]:
    info = info or pool()
    policy.decide(seen(0.0, view(info, busy=idle), tasks(tag(), running=idle)))
    return [policy.decide(seen(5.0 * n, view(info, idle=idle), tasks(tag(), done=idle))) for n in range(1, looks + 1)]


def test_idle_workers_leave_soon_after_a_burst() -> None:
    decisions = idle_for(PredictivePolicy(), 10, 6)
    assert any(one.workers_to_remove == {"cpu": 10} for one in decisions)


def test_never_below_the_minimum() -> None:
    for decision in idle_for(PredictivePolicy(), 10, 60, pool(minimum=4)):
        assert decision.workers_to_remove.get("cpu", 0) <= 6


def test_short_gaps_that_were_seen_are_bridged() -> None:
    policy, now = PredictivePolicy(), 0.0
    for _ in range(4):  # too few to be a flow
        policy.decide(seen(now, view(pool(), busy=5), tasks(tag(), running=5)))
        decision = policy.decide(seen(now + 20.0, view(pool(), idle=5), tasks(tag())))
        now += 40.0
    assert not decision.workers_to_remove


def test_busy_workers_and_the_last_capable_one_stay() -> None:
    policy = PredictivePolicy()
    policy.decide(seen(0.0, view(pool(), busy=5), tasks(tag(history=HOUR), running=5)))
    for now in range(5, 600, 5):
        observation = seen(float(now), view(pool(), idle=4, busy=1), tasks(tag(history=HOUR), running=1, done=4))
        assert policy.decide(observation).workers_to_remove.get("cpu", 0) <= 4


def test_starting_workers_that_would_find_nothing_are_cancelled() -> None:
    policy = PredictivePolicy()
    policy.decide(burst(20))
    gone = seen(10.0, view(pool(), starting=20, start_ages=(10.0,) * 20), tasks(tag(), done=20))
    decisions = [policy.decide(replace(gone, now=10.0 + 5.0 * n)) for n in range(20)]
    # They were asked for in a burst, of which more may come: not before the first could be up.
    assert not decisions[0].workers_to_cancel
    assert any(one.workers_to_cancel == {"cpu": 20} for one in decisions)


def stream(rate: float, looks: int, busy: int) -> list[Observation]:
    """Return looks at tasks that keep coming one by one, and all run at once."""
    return [
        seen(5.0 * n, view(pool(), busy=busy), tasks(tag(), running=busy, done=int(rate * 5 * n))) for n in range(looks)
    ]


def test_sustained_flow_is_staffed_before_a_queue_forms() -> None:
    policy = PredictivePolicy()
    run(policy, stream(0.2, 100, 12))
    # A fifth of a task a second, of a minute each, keeps twelve workers busy; six are too few.
    observation = seen(500.0, view(pool(), busy=6), tasks(tag(), running=6, done=106))
    assert policy.decide(observation).workers_to_add.get("cpu", 0) >= 2


def test_workers_for_blocked_tasks_are_started_before_their_parents_end() -> None:
    pools = [view(pool("sim"), busy=8), view(pool("post"))]
    first, then = (
        tag("simulate", ("sim",), [(None, 400.0 + 20.0 * n) for n in range(20)]),
        tag("analyse", ("post",), parents=("simulate",)),
    )

    def at(elapsed: float) -> ScaleDecision:
        kinds = [
            tasks(first, running=8, running_for=tuple((elapsed, None) for _ in range(8))),
            tasks(then, blocked=8),
        ]
        return PredictivePolicy().decide(seen(0.0, pools, kinds))

    assert "post" not in at(10.0).workers_to_add
    assert at(500.0).workers_to_add["post"] >= 1


def test_a_starving_kind_gets_the_place_of_idle_workers() -> None:
    policy = PredictivePolicy()
    pools = [view(pool("a"), idle=4), view(pool("b"))]
    kinds = [tasks(tag("x", ("a",)), done=4), tasks(tag("y", ("b",)), queued=3)]
    policy.decide(seen(0.0, [view(pool("a"), busy=4), view(pool("b"))], [tasks(tag("x", ("a",)), running=4)], limit=4))
    decision = policy.decide(seen(5.0, pools, kinds, limit=4))
    assert decision.workers_to_remove["a"] >= 1
    assert "y has no worker" in decision.reasons["a"]


def test_the_last_worker_that_can_run_a_kind_with_tasks_stays() -> None:
    def leaving(running: int) -> int:
        policy = PredictivePolicy()
        policy.decide(seen(0.0, view(pool(), busy=1, draining=1), tasks(tag(), running=2)))
        # The task runs on a worker that is about to go; if that fails, the idle one takes it.
        looks = [seen(5.0 * n, view(pool(), idle=1, draining=1), tasks(tag(), running=running)) for n in range(1, 200)]
        return sum(policy.decide(one).workers_to_remove.get("cpu", 0) for one in looks)

    assert leaving(running=1) == 0
    assert leaving(running=0) > 0


def test_running_tasks_count_by_how_many_the_looked_at_ones_stand_for() -> None:
    def learned(running: int) -> float:
        durations = Durations(tag())
        durations.learn(tasks(tag(), running=running, running_for=((100.0, None),) * running))
        return durations.mean_s

    # That all of many have run for longer than usual says more than that all of a few have.
    assert learned(48) < learned(48 * 50)


def recurring(onsets: list[float], until: float) -> tuple[dict[float, int], dict[float, int]]:
    """Show ten tasks of a minute from each onset on; return when workers are added, and leave, without any."""
    policy, info, there = PredictivePolicy("minimize time"), pool(), 0
    added: dict[float, int] = {}
    gone: dict[float, int] = {}
    for now in (5.0 * n for n in range(int(until / 5))):
        busy = 10 * any(one <= now < one + 60.0 for one in onsets)
        came = 10 * sum(one <= now for one in onsets)
        there = max(there, busy)
        kind = tasks(tag(), running=busy, done=came - busy)
        decision = policy.decide(seen(now, view(info, busy=busy, idle=there - busy), kind))
        if not busy:
            added[now] = decision.workers_to_add.get("cpu", 0)
            gone[now] = decision.workers_to_remove.get("cpu", 0)
            there += added[now] - gone[now]
    return {at: n for at, n in added.items() if n}, {at: n for at, n in gone.items() if n}


EVERY_TEN_MINUTES = [600.0 * n for n in range(6)]


def test_workers_are_started_ahead_of_demand_that_recurs_regularly_and_held_for_it() -> None:
    added, gone = recurring(EVERY_TEN_MINUTES, 3300.0)
    assert added
    # About a start-up of a minute before, and not at any time.
    assert all(at % 600.0 >= 450.0 for at in added)
    assert not [at for at in gone if at % 600.0 >= 450.0]


def test_demand_that_comes_at_any_time_is_not_foreseen() -> None:
    added, _ = recurring([0.0, 200.0, 1400.0, 1700.0, 3600.0, 4000.0, 4900.0], 6000.0)
    assert not added


def test_workers_held_for_demand_that_does_not_come_leave_and_are_not_started_again() -> None:
    added, gone = recurring(EVERY_TEN_MINUTES, 20_000.0)
    assert not [at for at in added if at > 4200.0]
    assert [at for at in gone if 3600.0 < at < 4800.0]


def test_reasons_carry_the_numbers() -> None:
    why = PredictivePolicy().decide(burst(40)).reasons["cpu"]
    for part in ("40 queued tasks", "(history)", "s of work", "a start takes 60 s (told)", "more", "costs"):
        assert part in why


def test_kinds_and_pools_may_come_later() -> None:
    policy = PredictivePolicy()
    policy.decide(seen(0.0, [], []))
    assert policy.decide(replace(burst(10), now=5.0)).workers_to_add


def test_one_decision_does_not_take_longer_for_a_longer_queue() -> None:
    def fastest(queued: int) -> float:
        policy, times = PredictivePolicy(), []
        for n in range(8):
            observation = replace(burst(queued), now=5.0 * n)
            start = time.perf_counter()
            policy.decide(observation)
            times.append(time.perf_counter() - start)
        return min(times)

    assert fastest(1_000_000) < 5 * fastest(100) + 0.01


@pytest.mark.parametrize("objective", ["minimize cost", "balance", "minimize time"])
def test_every_objective_finishes_what_is_queued(objective: Any) -> None:
    assert PredictivePolicy(objective).decide(burst(5)).workers_to_add
