"""How a quantity is distributed for one task, by tasks that are like it."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from scalable.errors import ScalableError
from scalable.ml.local import Kernel, Like, Table, fit_like
from scalable.ml.models import Location, fit_location

Floats = NDArray[np.float64]


def absolute(table: Table) -> object:
    logs = np.log(table.values)

    def loss(ratios: Floats, weights: Floats, located: Floats, judged: NDArray[np.intp]) -> float:
        reached = np.cumsum(weights, axis=1)
        middle = ratios[np.argmax(reached >= 0.5 * reached[:, -1:], axis=1)]
        return float(np.abs(np.log(middle * located[judged]) - logs[judged]).mean())

    return loss


def fitted(
    rows: Floats,
    values: Floats,
    *,
    categories: tuple[int, ...] = (),
    logged: tuple[int, ...] = (),
    model: object = None,
) -> Like:
    table = Table(rows, values, np.ones(len(values)), frozenset(categories), frozenset(logged), by_size=False)
    return fit_like(table, absolute(table), model)  # type: ignore[arg-type]


def test_a_line_in_bytes_is_found_though_bytes_are_encoded_as_logarithms() -> None:
    random = np.random.default_rng(0)
    size = random.uniform(1e6, 1e9, 60)
    like = fitted(np.log1p(size)[:, None], 5e7 + 2.0 * size * random.normal(1, 0.01, 60), logged=(0,))
    assert like.described(("input_bytes",)).startswith("a line in input_bytes")
    for there in (2e7, 9e8):
        assert like.quantile(np.array([np.log1p(there)]), 0.5) == pytest.approx(5e7 + 2.0 * there, rel=0.05)


def test_categories_that_matter_are_told_apart_and_others_are_not() -> None:
    random = np.random.default_rng(0)
    rows = np.column_stack([random.integers(0, 3, 90), random.integers(0, 3, 90)]).astype(float)
    like = fitted(
        rows, np.array([1.0, 5.0, 20.0])[rows[:, 0].astype(int)] * random.normal(1, 0.02, 90), categories=(0, 1)
    )
    assert like.columns == {0}
    assert [round(like.quantile(np.array([code, 1.0]), 0.5)) for code in (0.0, 1.0, 2.0)] == [1, 5, 20]


def test_noise_is_not_taken_for_a_pattern() -> None:
    random = np.random.default_rng(3)
    like = fitted(random.normal(size=(400, 3)), np.exp(random.normal(0, 0.2, 400)))
    assert like.described(("a", "b", "c")) == "constant"


def test_a_model_of_all_features_is_taken_where_it_predicts_better() -> None:
    random = np.random.default_rng(0)
    rows = random.uniform(0, 1, (300, 4))
    values = np.exp(2 * rows[:, 0] + 2 * rows[:, 1] + 2 * rows[:, 2] + 2 * rows[:, 3])

    def model(rows: Floats, values: Floats) -> Location:
        return fit_location("linear", rows, values)

    assert "a model of all features" in fitted(rows, values, model=model).described(tuple("abcd"))
    assert "a model" not in fitted(rows, values).described(tuple("abcd"))


def test_the_latest_tasks_are_kept() -> None:
    values = np.concatenate([np.full(1_000, 1.0), np.full(2_000, 9.0)])
    assert fitted(np.zeros((3_000, 1)), values).quantile(np.zeros(1), 0.01) == pytest.approx(9.0)


def test_one_more_task_counts_at_once() -> None:
    like = fitted(np.zeros((8, 1)), np.full(8, 2.0))
    for _ in range(20):
        like.add(np.zeros(1), 6.0, 1.0)
    assert like.quantile(np.zeros(1), 0.5) == 6.0
    assert list(like.ratios) == sorted(like.ratios)


def test_what_is_missing_weighs_the_same_wherever_it_is() -> None:
    kernel = Kernel(0, 0.1, 1.0)
    assert kernel.weigh(np.array([0.0, 5.0, np.nan]), float("nan")) == pytest.approx(
        [kernel.weigh(np.array([1.0]), 0.0)[0]] * 3
    )


def test_a_location_does_not_lead_far_beyond_what_was_seen() -> None:
    size = np.geomspace(1, 10, 30)
    like = fitted(np.log1p(size)[:, None], size**4, logged=(0,))
    assert like.quantile(np.array([np.log1p(1e6)]), 0.5) <= 10 * 10.0**4 * 1.2
    assert like.quantile(np.array([0.0]), 0.5) > 0


@pytest.mark.parametrize("with_model", [False, True])
def test_it_comes_back_from_arrays_as_it_was(*, with_model: bool) -> None:
    random = np.random.default_rng(0)
    rows = random.uniform(0, 1, (60, 4))
    values = np.exp(rows.sum(axis=1) * (3.0 if with_model else 0.0) + random.normal(0, 0.01, 60))

    def model(rows: Floats, values: Floats) -> Location:
        return fit_location("linear", rows, values)

    like = fitted(rows, values, model=model if with_model else None)
    again = Like.from_arrays(*like.to_arrays())
    assert again.described(tuple("abcd")) == like.described(tuple("abcd"))
    for row in rows[:5]:
        assert again.quantile(row, 0.9) == like.quantile(row, 0.9)


def test_arrays_of_something_else_are_refused() -> None:
    arrays, meta = fitted(np.zeros((8, 1)), np.ones(8)).to_arrays()
    with pytest.raises(ScalableError, match="incomplete"):
        Like.from_arrays({}, meta)
    with pytest.raises(ScalableError, match="incomplete"):
        Like.from_arrays(arrays, {})
