"""Models: what scikit-learn fitted, read without it, explained, held to a direction, and stored without pickle."""

from __future__ import annotations

import math
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from scalable.errors import MissingExtra, ScalableError
from scalable.ml.models import (
    DEFAULTS,
    LinearLocation,
    TreeLocation,
    check_params,
    contributions,
    fit_location,
    load,
    location_from,
)

TYPES = list(DEFAULTS)


def history(rows: int = 300, columns: int = 5, seed: int = 0) -> tuple[Any, Any]:
    random = np.random.default_rng(seed)
    X = random.normal(size=(rows, columns))  # noqa: N806
    logs = 20.0 + 0.8 * X[:, 0] + np.sin(2 * X[:, 1]) + 0.05 * random.normal(size=rows)
    return X, np.exp(logs)


@pytest.mark.parametrize("model_type", TYPES)
def test_the_logarithm_of_the_quantity_is_predicted(model_type: str) -> None:
    X, y = history()  # noqa: N806
    new, truth = history(seed=1)
    error = np.abs(fit_location(model_type, X, y).predict(new) - np.log(truth))
    plain = np.abs(np.median(np.log(y)) - np.log(truth))
    assert error.mean() < 0.75 * plain.mean()


@pytest.mark.parametrize("model_type", TYPES)
def test_one_row_is_predicted_as_among_many(model_type: str) -> None:
    X, y = history()  # noqa: N806
    X[::7, 2] = np.nan
    location = fit_location(model_type, X, y, monotone=[0])
    np.testing.assert_allclose([location.predict_one(row) for row in X], location.predict(X), rtol=0, atol=1e-9)


def test_a_forest_predicts_what_scikit_learn_predicts() -> None:
    from sklearn.ensemble import RandomForestRegressor

    X, y = history()  # noqa: N806
    params = {"n_estimators": 20, "max_depth": 9, "min_samples_leaf": 2, "max_features": 0.5, "random_state": 3}
    theirs = RandomForestRegressor(**params, max_samples=len(y)).fit(X, np.log(y))
    ours = fit_location("random_forest", X, y, params)
    new, _ = history(seed=1)
    np.testing.assert_allclose(ours.predict(new), theirs.predict(new), rtol=0, atol=1e-9)


def test_boosting_predicts_what_scikit_learn_predicts() -> None:
    from sklearn.ensemble import GradientBoostingRegressor

    X, y = history()  # noqa: N806
    params = {"n_estimators": 40, "learning_rate": 0.1, "max_depth": 3, "min_samples_leaf": 3, "subsample": 1.0}
    theirs = GradientBoostingRegressor(**params, random_state=0).fit(X, np.log(y))
    ours = fit_location("gradient_boosting", X, y, params)
    new, _ = history(seed=1)
    np.testing.assert_allclose(ours.predict(new), theirs.predict(new), rtol=0, atol=1e-9)


def test_values_are_compared_in_the_precision_of_scikit_learn() -> None:
    from sklearn.ensemble import RandomForestRegressor

    # Neighbours that single precision cannot tell apart, with a threshold between the pairs.
    X = np.array([[2.0**24 + step] for step in (0, 1, 2, 3, 4, 5)] * 20)  # noqa: N806
    y = np.exp(X[:, 0] - 2.0**24)
    params = {"n_estimators": 5, "max_depth": 4, "min_samples_leaf": 1, "max_features": 1.0, "random_state": 0}
    theirs = RandomForestRegressor(**params, max_samples=len(y)).fit(X, np.log(y))
    np.testing.assert_allclose(fit_location("random_forest", X, y, params).predict(X), theirs.predict(X), atol=1e-9)


@pytest.mark.parametrize("model_type", TYPES)
def test_contributions_and_the_bias_add_up_to_the_prediction(model_type: str) -> None:
    X, y = history()  # noqa: N806
    X[:, 4] = np.arange(len(X)) % 3
    location = fit_location(model_type, X, y, monotone=[0], categories=[4])
    for row in X[:20]:
        parts = contributions(location, row)
        assert parts.shape == (5,)
        assert location.bias + parts.sum() == pytest.approx(location.predict_one(row), abs=1e-9)


@pytest.mark.parametrize("model_type", TYPES)
def test_what_decides_contributes_most(model_type: str) -> None:
    X, _ = history()  # noqa: N806
    location = fit_location(model_type, X, np.exp(X[:, 3] + 0.01 * X[:, 1]))
    parts = np.abs([contributions(location, row) for row in X]).mean(axis=0)
    assert parts.argmax() == 3
    assert parts[3] > 5 * np.delete(parts, 3).max()


@pytest.mark.parametrize("model_type", TYPES)
def test_more_input_never_needs_less_where_the_data_say_so(model_type: str) -> None:
    random = np.random.default_rng(0)
    size = np.log1p(random.uniform(1e6, 1e9, 200))
    twin = size + 0.5 * random.normal(size=200)
    # The other column explains more than all of it: free to choose, a model would let the size count backwards.
    y = np.exp(2.0 * twin - 0.8 * size)
    location = fit_location(model_type, np.column_stack([size, twin]), y, monotone=[0])
    assert location.monotone == (0,)
    for level in (np.quantile(twin, q) for q in (0.1, 0.5, 0.9)):
        line = location.predict(np.column_stack([np.linspace(12, 22, 200), np.full(200, level)]))
        assert (np.diff(line) >= -1e-12).all()


def test_a_direction_that_the_data_do_not_have_is_not_forced() -> None:
    random = np.random.default_rng(0)
    X = random.normal(size=(200, 3))  # noqa: N806
    X[:5, 2] = 1.0
    y = np.exp(-X[:, 0] + 0.1 * X[:, 1])
    assert fit_location("gradient_boosting", X, y, {"n_estimators": 5}, monotone=[0, 1]).monotone == ()
    few = fit_location("gradient_boosting", X[:4], np.exp([1, 2, 3, 3.5]), {"n_estimators": 5}, monotone=[2])
    assert few.monotone == ()


@pytest.mark.parametrize("model_type", TYPES)
def test_gaps_are_taken_to_be_the_median_and_told(model_type: str) -> None:
    X, y = history()  # noqa: N806
    X[:50, 1] = np.nan
    X[50:60, 2] = np.inf
    location = fit_location(model_type, X, y)
    assert location.imputed == (1, 2)
    filled = X[0].copy()
    filled[1] = np.median(X[50:, 1])
    assert location.predict_one(X[0]) == location.predict_one(filled)


@pytest.mark.parametrize("model_type", TYPES)
@pytest.mark.parametrize("shape", [(1, 3), (2, 3), (10, 3), (10, 0)])
def test_small_histories_give_a_model(model_type: str, shape: tuple[int, int]) -> None:
    X = np.arange(shape[0] * shape[1], dtype=float).reshape(shape)  # noqa: N806
    y = np.linspace(100, 200, shape[0])
    location = fit_location(model_type, X, y, monotone=range(shape[1]))
    predicted = location.predict(X)
    assert predicted.shape == (shape[0],)
    assert (predicted > math.log(90)).all()
    assert (predicted < math.log(210)).all()
    assert contributions(location, X[0]).shape == (shape[1],)


@pytest.mark.parametrize("model_type", TYPES)
def test_columns_that_say_nothing_do_no_harm(model_type: str) -> None:
    X, y = history(50, 3)  # noqa: N806
    X[:, 1], X[:, 2] = np.nan, 7.0
    location = fit_location(model_type, X, y)
    assert np.isfinite(location.predict(X)).all()
    assert contributions(location, X[0])[1:].tolist() == [0.0, 0.0]


def test_rows_without_a_quantity_are_left_out() -> None:
    X, y = history()  # noqa: N806
    holes = y.copy()
    holes[:3] = [np.nan, 0.0, -1.0]
    np.testing.assert_array_equal(
        fit_location("linear", X, holes).predict(X), fit_location("linear", X[3:], y[3:]).predict(X)
    )
    with pytest.raises(ScalableError, match="at least one row"):
        fit_location("linear", X, np.zeros(len(X)))


def test_a_linear_model_has_a_level_for_each_category() -> None:
    codes = np.array([0.0, 1.0, 2.0] * 30)
    y = np.array([10.0, 1000.0, 10.0] * 30)
    location = fit_location("linear", codes[:, None], y, {"alpha": 0.0}, categories=[0])
    np.testing.assert_allclose(np.exp(location.predict([[0.0], [1.0], [2.0]])), [10, 1000, 10], rtol=1e-6)
    assert location.predict_one(np.array([9.0])) == location.bias


def test_a_fit_gives_the_same_each_time() -> None:
    X, y = history()  # noqa: N806
    for model_type in TYPES:
        one, two = (fit_location(model_type, X, y) for _ in range(2))
        np.testing.assert_array_equal(one.predict(X), two.predict(X))


@pytest.mark.parametrize("model_type", TYPES)
def test_a_model_comes_back_from_its_file(model_type: str, tmp_path: Path) -> None:
    X, y = history()  # noqa: N806
    X[0, 0] = np.nan
    location = fit_location(model_type, X, y, monotone=[0])
    location.save(tmp_path / "model.npz")
    copy = load(tmp_path / "model.npz")
    np.testing.assert_array_equal(copy.predict(X), location.predict(X))
    assert (copy.monotone, copy.imputed, copy.bias) == (location.monotone, location.imputed, location.bias)
    assert type(copy) is type(location)


def test_a_model_is_read_and_used_without_scikit_learn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    X, y = history()  # noqa: N806
    fit_location("gradient_boosting", X, y).save(tmp_path / "model.npz")
    for name in [name for name in sys.modules if name.partition(".")[0] == "sklearn"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "sklearn", None)
    assert load(tmp_path / "model.npz").predict(X).shape == (len(X),)
    with pytest.raises(MissingExtra, match=r"scalable-workflows\[ml\]"):
        fit_location("random_forest", X, y)


def test_nothing_is_unpickled(tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self) -> Any:
            return (open, (str(tmp_path / "sprung"), "w"))

    np.savez(tmp_path / "model.npz", kind=np.array([Trap()], dtype=object))
    with pytest.raises(ScalableError):
        load(tmp_path / "model.npz")
    assert not (tmp_path / "sprung").exists()


def test_what_is_no_model_is_refused(tmp_path: Path) -> None:
    X, y = history(40)  # noqa: N806
    path = tmp_path / "model.npz"
    with pytest.raises(ScalableError, match="cannot read"):
        load(path)
    fit_location("random_forest", X, y, {"n_estimators": 2}).save(path)
    whole = path.read_bytes()
    for damaged in (b"", b"text", whole[: len(whole) // 2], whole[:200] + b"\0" * 40 + whole[240:]):
        path.write_bytes(damaged)
        with pytest.raises(ScalableError):
            load(path)


@pytest.mark.parametrize(
    ("name", "broken"),
    [
        ("children", lambda array: array + 99), ("roots", lambda array: array - 1),
        ("feature", lambda array: array + 5), ("feature", lambda array: array.astype(float)),
        ("values", lambda array: array[:-1]), ("threshold", lambda array: array[:-1]),
        ("depth", lambda _: np.array(10**9)), ("kind", lambda _: np.array("neural")),
        ("bias", lambda _: np.array("x")), ("monotone", lambda _: np.array(1.5)),
    ],
)  # fmt: skip
def test_arrays_that_do_not_fit_are_no_model(name: str, broken: Any) -> None:
    X, y = history(40)  # noqa: N806
    arrays = fit_location("random_forest", X, y, {"n_estimators": 1, "max_depth": 2}).arrays()
    assert location_from(arrays).n_features == 5
    with pytest.raises(ScalableError, match="not a model"):
        location_from({**arrays, name: broken(arrays[name])})


def test_both_kinds_have_the_same_face() -> None:
    for name in ("predict", "predict_one", "contributions", "arrays", "save", "n_features"):
        assert hasattr(TreeLocation, name)
        assert hasattr(LinearLocation, name)


def test_a_row_of_another_width_is_refused() -> None:
    X, y = history()  # noqa: N806
    with pytest.raises(ScalableError, match="a row has 4 features, and the model was fitted on 5"):
        fit_location("linear", X, y).predict_one(np.zeros(4))


@pytest.mark.parametrize(
    ("model_type", "params", "message"),
    [
        ("gradient_bosting", {}, "did you mean 'gradient_boosting'"),
        ("linear", {"alpa": 1.0}, "linear has no parameter 'alpa'; known: alpha; did you mean 'alpha'"),
        ("linear", {"alpha": -1}, "alpha of linear must be a number from 0 to 1e"),
        ("linear", {"alpha": math.nan}, "alpha of linear"),
        ("random_forest", {"n_estimators": 0}, "n_estimators of random_forest must be a whole number from 1 to 5000"),
        ("random_forest", {"max_depth": 2.5}, "must be a whole number"),
        ("gradient_boosting", {"subsample": True}, "subsample .* not True"),
        ("gradient_boosting", {"learning_rate": "fast"}, "not 'fast'"),
    ],
)
def test_parameters_are_checked(model_type: str, params: dict[str, Any], message: str) -> None:
    with pytest.raises(ScalableError, match=message):
        check_params(model_type, params)


def test_parameters_that_are_not_given_have_their_defaults() -> None:
    checked = check_params("gradient_boosting", {"max_depth": 3.0})
    assert checked == {**DEFAULTS["gradient_boosting"], "max_depth": 3}
    assert isinstance(checked["max_depth"], int)
    assert check_params("gradient_boosting", checked) == checked
