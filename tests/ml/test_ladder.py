"""The sizes to try one after the other, and what they waste."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from scalable.ml import ladder
from scalable.ml.ladder import build, excess_of


def expected_waste(sizes: NDArray[np.float64], mass: NDArray[np.float64], rungs: tuple[int, ...]) -> float:
    """Return what a ladder wastes on average, by the definition: a failed attempt, and its restart, is lost."""
    total = 0.0
    for need, share in zip(sizes, mass, strict=True):
        for rung in rungs:
            if sizes[rung] >= need:
                total += share * (sizes[rung] - need)
                break
            total += share * ladder._FAILURE * sizes[rung]
    return float(total)


def rungs_of(found: ladder.Ladders) -> tuple[int, ...]:
    rungs = [int(found.following[0, -1])]
    while rungs[-1] < found.sizes.shape[1] - 1:
        rungs.append(int(found.following[0, rungs[-1]]))
    return tuple(rungs)


@settings(deadline=None, max_examples=30)
@given(st.lists(st.floats(1, 100), min_size=2, max_size=4, unique=True))
def test_no_other_ladder_wastes_less_in_expectation(values: list[float]) -> None:
    found = build(np.sort(values), np.ones((1, len(values))))
    sizes = found.sizes[0]
    mass = np.diff(found.reached[0], prepend=0.0)
    last = len(sizes) - 1
    best = min(
        expected_waste(sizes, mass, (*some, last))
        for count in range(last + 1)
        for some in itertools.combinations(range(last), count)
    )
    assert expected_waste(sizes, mass, rungs_of(found)) == pytest.approx(best)


def test_what_is_wasted_is_counted_as_it_happens() -> None:
    found = build(np.array([1.0, 4.0]), np.array([[1.0, 1.0]]))
    first = float(found.first()[0][0])
    assert found.waste(np.array([0.5]))[0] == pytest.approx(first - 0.5)
    above = float(found.sizes[0, -1]) * 1.5
    rungs = [found.sizes[0, rung] for rung in rungs_of(found)]
    assert found.waste(np.array([above]))[0] == pytest.approx(sum(rungs) + 2 * rungs[-1] - above)


def test_a_ladder_rises_and_says_what_comes_after_a_size_of_its_own_or_any_other() -> None:
    found = build(np.array([1.0, 2.0, 8.0]), np.ones((1, 3)))
    sizes = [found.sizes[0, rung] for rung in rungs_of(found)]
    assert sizes == sorted(sizes)
    assert found.after(sizes[0]) == pytest.approx(sizes[1])
    assert (found.after(sizes[0] * 1.01) or 0) > sizes[0] * 1.01
    assert found.after(float(found.sizes[0, -1])) is None


def test_where_failures_are_dear_the_first_size_suffices_nearly_always() -> None:
    tight = np.linspace(1.0, 1.01, 50)
    wide = np.geomspace(1.0, 100.0, 50)
    assert build(tight, np.ones((1, 50))).first()[1][0] > 0.97
    assert build(wide, np.ones((1, 50))).first()[1][0] < 0.9


def test_the_user_can_cap_failures() -> None:
    wide = np.geomspace(1.0, 100.0, 50)
    size, sure = build(wide, np.ones((1, 50)), least=0.95).first()
    assert sure[0] >= 0.95
    assert size[0] > build(wide, np.ones((1, 50))).first()[0][0]


@pytest.mark.parametrize("count", [12, 40])
def test_the_stated_probability_holds_for_the_next_value(count: int) -> None:
    random = np.random.default_rng(count)
    sure, hits = [], []
    for _ in range(600):
        values = np.exp(random.normal(0.0, 0.3, count + 1))
        found = build(np.sort(values[:-1]), np.ones((1, count)))
        size, probability = found.first()
        sure.append(probability[0])
        hits.append(size[0] >= values[-1])
    assert np.mean(hits) == pytest.approx(np.mean(sure), abs=0.07)


def test_caution_makes_sizes_larger_and_promises_smaller() -> None:
    values = np.geomspace(1.0, 3.0, 30)
    bold, careful = (build(values, np.ones((1, 30)), caution) for caution in (1.0, 4.0))
    assert careful.first()[0][0] > bold.first()[0][0]
    assert careful.sufficing(2.0) < bold.sufficing(2.0)


def test_tasks_are_answered_each_by_its_own_weights() -> None:
    values = np.array([1.0, 1.1, 10.0, 11.0])
    weights = np.array([[1.0, 1.0, 1e-9, 1e-9], [1e-9, 1e-9, 1.0, 1.0]])
    small, large = build(values, weights).first()[0]
    assert small < 2
    assert large > 9


def test_the_excess_of_a_heavier_tail_is_larger() -> None:
    random = np.random.default_rng(1)
    light, heavy = np.exp(random.normal(0, 0.05, 200)), np.exp(random.normal(0, 1.0, 200))
    assert excess_of(light) < 0.1 < excess_of(heavy)
