"""Workers by tag from how busy they are, for whoever runs the loop."""

from __future__ import annotations

import time
from types import SimpleNamespace
from typing import Any

import pytest

import scalable
from scalable.errors import PlanError, ScalableError
from scalable.scaling.adaptive_scaler import AdaptiveScaler
from scalable.scaling.model import ScaleDecision


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def tasks(count: int, tag: str = "a", **facts: Any) -> list[dict[str, Any]]:
    return [{"tag": tag, **facts}] * count


class Long:
    """Knows that all tasks take ten minutes, so that all of them are worth a worker."""

    def recommend(self, task: str, *, features: Any = None) -> Any:
        return SimpleNamespace(duration_s=600.0, confidence=0.9)


def scaler(clock: Clock, **options: Any) -> AdaptiveScaler:
    return AdaptiveScaler(**{"advisor": Long(), "max_workers": {"a": 20}, "clock": clock, **options})


def look(
    policy: AdaptiveScaler, queued: int = 0, *, idle: int = 0, busy: int = 0, starting: int = 0, **facts: Any
) -> ScaleDecision:
    """Evaluate one tag, as somebody does who knows all about its workers."""
    return policy.evaluate(
        tasks(queued),
        {"a": idle + busy + starting},
        facts.pop("recent_completions", None),
        running_tasks=tasks(busy),
        idle_workers={"a": idle},
        starting_workers={"a": starting},
        **facts,
    )


def test_the_names_are_public() -> None:
    assert scalable.AdaptiveScaler is AdaptiveScaler
    assert scalable.ScaleDecision is ScaleDecision


def test_the_code_of_the_tutorial_works() -> None:
    policy = AdaptiveScaler(
        min_workers={"demeter": 2, "postprocess": 1},
        max_workers={"demeter": 20, "postprocess": 10},
        scale_up_threshold=0.8,
        scale_down_threshold=0.2,
        cooldown_seconds=120,
    )
    decision = policy.evaluate(pending_tasks=[{"tag": "gcam"} for _ in range(30)], active_workers={"demeter": 0})
    assert decision.has_changes
    # A tag without a maximum gains ten at a time.
    assert decision.workers_to_add == {"demeter": 2, "gcam": 10, "postprocess": 1}
    assert decision.workers_to_remove == {}
    assert "gcam: 0 of 0 workers busy, 30 tasks wait" in decision.reasoning
    assert 0.0 <= decision.confidence <= 1.0
    assert decision.predicted_completion_time is None
    assert abs(decision.timestamp - time.time()) < 60
    assert list(policy.decision_history) == [decision]


def test_the_history_is_bounded(clock: Clock) -> None:
    policy = scaler(clock)
    for _ in range(1100):
        look(policy)
    assert len(policy.decision_history) == 1000


def test_workers_come_when_more_than_the_upper_share_is_busy(clock: Clock) -> None:
    assert look(scaler(clock), busy=8, idle=2).workers_to_add == {}
    assert look(scaler(clock), busy=9, idle=1).workers_to_add == {"a": 1}
    assert look(scaler(clock), 2, busy=10).workers_to_add == {"a": 5}


def test_the_first_workers_come_without_spare_ones(clock: Clock) -> None:
    assert look(scaler(clock), 10).workers_to_add == {"a": 10}


def test_running_tasks_count_as_busy_workers(clock: Clock) -> None:
    policy = scaler(clock, cooldown_seconds=0, boot_s=0.0)
    assert look(policy, busy=5).workers_to_remove == {}


def test_workers_on_their_way_are_counted(clock: Clock) -> None:
    assert look(scaler(clock), 4, starting=5).workers_to_add == {}


def test_tasks_are_all_that_is_not_done_where_nobody_says_what_runs(clock: Clock) -> None:
    policy = scaler(clock)
    assert not policy.evaluate(tasks(4), {"a": 5}).has_changes
    assert policy.evaluate(tasks(8), {"a": 5}).workers_to_add == {"a": 5}


def test_no_change_comes_within_the_cooldown_of_one(clock: Clock) -> None:
    policy = scaler(clock)
    assert look(policy, 4, busy=4).workers_to_add == {"a": 6}
    clock.now = 59.0
    assert not look(policy, 9, busy=10).has_changes
    clock.now = 60.0
    assert look(policy, 9, busy=10).workers_to_add == {"a": 10}


def test_a_decision_that_changes_nothing_starts_no_cooldown(clock: Clock) -> None:
    policy = scaler(clock)
    assert not look(policy, busy=4, idle=1).has_changes
    clock.now = 1.0
    assert look(policy, 4, busy=5).workers_to_add == {"a": 6}


def test_the_cooldown_delays_no_first_worker(clock: Clock) -> None:
    policy = scaler(clock)
    look(policy, 1)
    clock.now = 1.0
    assert look(policy, 2).workers_to_add == {"a": 2}


def test_the_cooldown_delays_no_replacement(clock: Clock) -> None:
    policy = scaler(clock)
    look(policy, 20, busy=4)
    clock.now = 1.0
    assert look(policy, 19, busy=17).workers_to_add == {"a": 3}


def test_the_cooldown_delays_no_minimum(clock: Clock) -> None:
    policy = scaler(clock, min_workers={"a": 3})
    assert look(policy).workers_to_add == {"a": 3}
    clock.now = 1.0
    assert look(policy, idle=1).workers_to_add == {"a": 2}


def test_tags_have_cooldowns_of_their_own(clock: Clock) -> None:
    policy = scaler(clock, max_workers={"a": 9, "b": 9})
    policy.evaluate(tasks(4), {"a": 2, "b": 2}, running_tasks=[*tasks(2), *tasks(2, "b")])
    decision = policy.evaluate(tasks(4, "b"), {"a": 7, "b": 2}, running_tasks=tasks(2, "b"))
    assert decision.workers_to_add == {"b": 5}


def test_workers_leave_that_were_busy_for_less_than_the_lower_share_of_a_boot(clock: Clock) -> None:
    policy = scaler(clock, max_workers={"a": 10}, boot_s=20.0)
    look(policy, busy=10)
    clock.now = 10.0
    look(policy, busy=2, idle=8)
    clock.now = 25.0
    # The eight were busy for 5 of the last 20 seconds, and two seconds later for 3 of them.
    assert not look(policy, busy=2, idle=8).has_changes
    clock.now = 27.0
    assert look(policy, busy=2, idle=8).workers_to_remove == {"a": 8}


def test_a_shrink_goes_on_within_the_cooldown_and_does_not_turn_round(clock: Clock) -> None:
    policy = scaler(clock, boot_s=0.0)
    assert look(policy, busy=4, idle=6).workers_to_remove == {"a": 5}
    clock.now = 5.0
    assert look(policy, busy=2, idle=3).workers_to_remove == {"a": 3}
    clock.now = 10.0
    assert not look(policy, 9, busy=2).has_changes


def test_only_idle_workers_leave(clock: Clock) -> None:
    policy = scaler(clock, max_workers={"a": 2})
    assert look(policy, busy=4, idle=1).workers_to_remove == {"a": 1}


def test_bounds_hold_both_ways(clock: Clock) -> None:
    policy = scaler(clock, min_workers={"a": 2}, max_workers={"a": 4}, boot_s=0.0)
    assert look(policy, 50, busy=1).workers_to_add == {"a": 3}
    clock.now = 100.0
    assert look(policy, idle=4).workers_to_remove == {"a": 2}


def test_the_last_worker_for_tasks_that_wait_for_others_stays(clock: Clock) -> None:
    assert look(scaler(clock, boot_s=0.0), idle=3, blocked_tasks={"a": 7}).workers_to_remove == {"a": 2}


def test_short_tasks_get_fewer_workers_than_there_are_tasks(clock: Clock) -> None:
    ended = [{"tag": "a", "duration_s": 0.1}] * 20
    long = [{"tag": "a", "duration_s": 600.0}] * 20
    assert look(scaler(clock), 2000, recent_completions=ended).workers_to_add == {"a": 11}
    assert look(scaler(clock), 15, recent_completions=long).workers_to_add == {"a": 15}


class Advisor:
    """Knows seconds from megabytes, and one tag only."""

    def __init__(self) -> None:
        self.asked = 0

    def recommend(self, task: str, *, features: Any = None) -> Any:
        self.asked += 1
        if task != "a":
            raise ScalableError("no history")
        return SimpleNamespace(duration_s=features["mb"] * 0.01, confidence=0.9)


def test_an_advisor_is_asked_for_durations_with_the_features(clock: Clock) -> None:
    small, large = (scaler(clock, advisor=Advisor()) for _ in range(2))
    few = small.evaluate(tasks(2000, features={"mb": 10}), {"a": 0}, running_tasks=[])
    many = large.evaluate(tasks(2000, features={"mb": 1000}), {"a": 0}, running_tasks=[])
    assert few.workers_to_add == {"a": 11}
    assert many.workers_to_add == {"a": 20}
    assert many.confidence == 0.9


def test_an_advisor_is_not_asked_again_and_again(clock: Clock) -> None:
    advisor = Advisor()
    policy = scaler(clock, advisor=advisor)
    for _ in range(5):
        policy.evaluate([*tasks(9, features={"mb": 1}), *tasks(9, "b")], {"a": 0})
    assert advisor.asked == 2


def test_what_ended_says_more_than_an_advisor(clock: Clock) -> None:
    policy = scaler(clock, advisor=Advisor())
    decision = policy.evaluate(tasks(4, features={"mb": 1}), {"a": 4}, [{"tag": "a", "duration_s": 50.0}] * 8)
    assert decision.predicted_completion_time == pytest.approx(50.0)
    assert decision.confidence == pytest.approx(0.8)


def test_the_end_is_predicted_from_work_that_is_left(clock: Clock) -> None:
    ended = [{"tag": "a", "duration_s": 100.0}]
    policy = scaler(clock, max_workers={"a": 2})
    running = [{"tag": "a", "elapsed_s": 40.0}] * 2
    decision = policy.evaluate(tasks(4), {"a": 2}, ended, running_tasks=running)
    assert decision.predicted_completion_time == pytest.approx((4 * 100 + 2 * 60) / 2)
    assert policy.evaluate([], {"a": 2}, running_tasks=[]).predicted_completion_time == 0.0


def test_nothing_known_is_said_to_be_nothing_known(clock: Clock) -> None:
    decision = look(scaler(clock, advisor=None), 5)
    assert decision.confidence == 0.0
    assert decision.predicted_completion_time is None


def test_components_and_tasks_without_tag_have_names_too(clock: Clock) -> None:
    decision = scaler(clock).evaluate([{"component": "gcam"}, {}], {})
    assert decision.workers_to_add == {"gcam": 1, "default": 1}


def test_a_clock_that_is_put_in_the_place_of_the_real_one_is_followed(monkeypatch: pytest.MonkeyPatch) -> None:
    policy = AdaptiveScaler(max_workers={"a": 20})
    start = time.monotonic()
    look(policy, 4, busy=4)
    assert not look(policy, 9, busy=8).has_changes
    monkeypatch.setattr(time, "monotonic", lambda: start + 61.0)
    assert look(policy, 9, busy=8).has_changes


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"scale_up_threshold": 0.2, "scale_down_threshold": 0.8}, "scale_down_threshold must be less"),
        ({"cooldown_seconds": -1}, "cooldown_seconds must be 0 or more"),
        ({"min_workers": {"a": 30}}, "min_workers of 'a' is 30, more than its max_workers, 20"),
        ({"min_workers": {"a": -1}}, "workers of 'a' cannot be -1"),
    ],
)
def test_what_cannot_be_meant_is_refused(clock: Clock, options: dict[str, Any], said: str) -> None:
    with pytest.raises(PlanError, match=said):
        scaler(clock, **options)
