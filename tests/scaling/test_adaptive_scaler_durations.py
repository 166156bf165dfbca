"""How long tasks take, from those that ended."""

from __future__ import annotations

import random

import pytest

from scalable.scaling.durations import Durations


def test_nothing_is_known_of_a_tag_that_never_ended() -> None:
    assert Durations().estimate("a").seconds is None


def test_the_mean_of_the_last_tasks_is_told() -> None:
    durations = Durations()
    for seconds in [1000.0] * 50 + [10.0] * 200:
        durations.learn("a", seconds)
    assert durations.estimate("a").seconds == pytest.approx(10.0)


def test_a_feature_that_explains_durations_is_used() -> None:
    durations, chance = Durations(), random.Random(1)
    for _ in range(100):
        size = chance.uniform(1, 100)
        durations.learn("a", 3.0 * size**0.5, {"noise": chance.random(), "size": size, "name": "x"})
    assert durations.estimate("a", [{"size": 64.0, "noise": 0.5}]).seconds == pytest.approx(24.0)
    # The mean of what they take, not what their mean takes.
    assert durations.estimate("a", [{"size": 4.0}, {"size": 64.0}]).seconds == pytest.approx(15.0)


def test_the_mean_around_a_line_is_told_and_not_the_median() -> None:
    durations, chance = Durations(), random.Random(1)
    for _ in range(2000):
        size = chance.uniform(1, 1000)
        durations.learn("a", size * chance.lognormvariate(0.0, 1.0), {"size": size})
    # The mean of a log-normal is exp(1/2) times its median.
    assert durations.estimate("a", [{"size": 100.0}]).seconds == pytest.approx(165.0, rel=0.1)


def test_a_line_is_not_followed_beyond_what_was_seen() -> None:
    durations = Durations()
    for size in range(1, 50):
        durations.learn("a", float(size), {"size": size})
    assert durations.estimate("a", [{"size": 1e6}]).seconds == pytest.approx(49.0)


def test_a_feature_that_explains_nothing_is_not_used() -> None:
    durations, chance = Durations(), random.Random(1)
    for _ in range(100):
        durations.learn("a", chance.uniform(9.0, 11.0), {"size": chance.uniform(1, 100)})
    assert durations.estimate("a", [{"size": 1.0}]).seconds == pytest.approx(10.0, rel=0.05)


def test_tasks_whose_size_nobody_knows_take_the_mean() -> None:
    durations = Durations()
    for size in range(1, 21):
        durations.learn("a", float(size), {"size": size})
    assert durations.estimate("a", [None, {}]).seconds == pytest.approx(10.5)
