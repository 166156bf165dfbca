"""The confidence that is stated is the one that is kept, whatever the distribution."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scalable.advisors.order import rank, upper

_DRAWS = {
    "uniform": lambda rng, size: rng.random(size),
    "lognormal": lambda rng, size: rng.lognormal(20.0, 1.5, size),
    "pareto": lambda rng, size: rng.pareto(0.8, size),
    "two kinds": lambda rng, size: np.where(rng.random(size) < 0.1, 50.0, 1.0) + rng.random(size),
}


@pytest.mark.parametrize("kind", _DRAWS)
@settings(max_examples=15, deadline=None)
@given(
    count=st.integers(1, 400),
    confidence=st.sampled_from([0.5, 0.8, 0.9, 0.95, 0.99]),
    seed=st.integers(0, 2**32 - 1),
)
def test_the_bound_holds_for_the_next_value_as_often_as_stated(
    kind: str, count: int, confidence: float, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    times = 2_000
    draws = np.array(_DRAWS[kind](rng, (times, count + 1)))
    seen, following = np.sort(draws[:, :-1], axis=1), draws[:, -1]
    k = min(rank(count, confidence), count)
    _, stated = upper(seen[0].tolist(), confidence)
    assert stated == k / (count + 1)
    held = float(np.mean(following <= seen[:, k - 1]))
    # Five standard deviations: wrong once in a million.
    slack = 5 * math.sqrt(stated * (1 - stated) / times)
    assert abs(held - stated) <= slack + 1e-9


@given(count=st.integers(1, 20_000), confidence=st.floats(0.01, 0.999))
def test_what_is_guaranteed_is_what_was_asked_for_wherever_there_are_enough_values(
    count: int, confidence: float
) -> None:
    k = rank(count, confidence)
    assert 1 <= k <= count + 1
    assert k / (count + 1) >= confidence - 1e-8
    assert k == 1 or (k - 1) / (count + 1) < confidence


def test_nineteen_values_are_enough_for_95_percent_and_eighteen_are_not() -> None:
    assert rank(19, 0.95) == 19
    assert rank(18, 0.95) == 19
