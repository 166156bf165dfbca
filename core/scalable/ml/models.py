"""Models of where a quantity lies, given a task's features: fitted with scikit-learn, read without it.

What is fitted is turned into plain arrays. They are saved without pickle, one task is
predicted in microseconds, and a library that is newer than the file has nothing to refuse.
"""

from __future__ import annotations

import itertools
import math
import zipfile
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, BinaryIO, ClassVar, Final, Literal, TypeAlias, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from scalable.errors import ScalableError, did_you_mean
from scalable.extras import require

__all__ = [
    "DEFAULTS",
    "LinearLocation",
    "Location",
    "ModelType",
    "TreeLocation",
    "check_params",
    "contributions",
    "fit_location",
    "load",
    "location_from",
    "read_arrays",
    "rises",
]

ModelType = Literal["gradient_boosting", "random_forest", "linear"]

Floats = NDArray[np.float64]
Ints = NDArray[np.int32]
Arrays = Mapping[str, NDArray[Any]]

_ROWS_PER_TREE: Final = 1_500
"""Rows drawn for one tree at the most: further ones cost time and hardly change what all trees say together."""
_BATCH: Final = 2_000_000
_RHO: Final = 0.3
_Z: Final = 2.33
"""One-sided, one in a hundred."""


@dataclass(frozen=True, slots=True, eq=False)
class _Stored:
    """What both kinds of models have: the logarithm of a quantity as a function of features.

    A value that is missing or infinite is taken to be its column's median.

    Attributes
    ----------
    bias : float
        The prediction before any feature is looked at.
    medians : array of float
        What is taken for a missing value, by column.
    monotone : tuple of int
        Columns of which more never makes the prediction less.
    imputed : tuple of int
        Columns that lacked values when the model was fitted.
    """

    kind: ClassVar[str] = ""

    bias: float
    medians: Floats
    monotone: tuple[int, ...]
    imputed: tuple[int, ...]

    @property
    def n_features(self) -> int:
        """Columns of a row."""
        return len(self.medians)

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Return the model as plain arrays, which :func:`location_from` takes."""
        return {"kind": np.array(self.kind)} | {
            column.name: np.asarray(getattr(self, column.name)) for column in fields(self)
        }

    def save(self, path: Path) -> None:
        """Write the model to a file, which :func:`load` reads.

        Parameters
        ----------
        path : Path
            The file, in numpy's ``npz`` form.

        Raises
        ------
        ScalableError
            If it cannot be written.
        """
        try:
            with path.open("wb") as out:
                np.savez(out, allow_pickle=False, **self.arrays())
        except OSError as error:
            raise ScalableError(f"cannot write the model {path}: {error.strerror}") from error

    def _filled(self, X: ArrayLike) -> Floats:  # noqa: N803
        rows = np.asarray(X, dtype=np.float64)
        if rows.shape[-1] != self.n_features:
            raise ScalableError(f"a row has {rows.shape[-1]} features, and the model was fitted on {self.n_features}")
        return np.where(np.isfinite(rows), rows, self.medians)


@dataclass(frozen=True, slots=True, eq=False)
class TreeLocation(_Stored):
    """A sum of regression trees, all in one set of arrays.

    Attributes
    ----------
    feature, threshold, children, values
        Of every node of every tree: what it asks for, where it splits, where the left and the
        right answer lead (counted over all nodes), and the value so far. A leaf leads to itself.
    roots : array of int
        Each tree's first node.
    depth : int
        Splits on the longest path.
    """

    kind: ClassVar[str] = "trees"

    feature: Ints
    threshold: Floats
    children: Ints
    values: Floats
    roots: Ints
    depth: int

    def __post_init__(self) -> None:
        nodes = len(self.feature)
        whole = (
            len(self.threshold) == len(self.values) == nodes
            and self.children.shape == (2 * nodes,)
            and _within(self.children, nodes)
            and _within(self.roots, nodes)
            and _within(self.feature, max(self.n_features, 1))
            and 0 <= self.depth <= max(nodes, 1)
        )
        if not whole:
            raise ScalableError("this is not a model of trees: its arrays do not fit each other")

    def predict(self, X: ArrayLike) -> Floats:  # noqa: N803
        """Return the logarithm for each row."""
        rows = _as_trees_see(self._filled(X))
        out = np.full(len(rows), self.bias)
        if not len(self.roots):
            return out
        size = max(1, _BATCH // len(self.roots))
        root = self.values[self.roots].sum()
        for start in range(0, len(rows), size):
            part = rows[start : start + size]
            number = np.arange(len(part))[:, None]
            node = np.broadcast_to(self.roots, (len(part), len(self.roots)))
            for _ in range(self.depth):
                node = self.children[2 * node + (part[number, self.feature[node]] > self.threshold[node])]
            out[start : start + size] += self.values[node].sum(axis=1) - root
        return out

    def predict_one(self, row: Floats) -> float:
        """Return the logarithm for one row."""
        node = self._walk(_as_trees_see(self._filled(row)))[-1]
        return self.bias + float(self.values[node].sum() - self.values[self.roots].sum())

    def contributions(self, row: Floats) -> Floats:
        """Return what each feature adds to :attr:`bias`: what the node's value changes at each split on it."""
        out = np.zeros(self.n_features)
        path = self._walk(_as_trees_see(self._filled(row)))
        for here, there in itertools.pairwise(path):
            np.add.at(out, self.feature[here], self.values[there] - self.values[here])
        return out

    def _walk(self, seen: Floats) -> list[Ints]:
        """Return where a row is in each tree, after each split."""
        node = self.roots
        path = [node]
        for _ in range(self.depth if len(node) else 0):
            node = self.children[2 * node + (seen[self.feature[node]] > self.threshold[node])]
            path.append(node)
        return path


@dataclass(frozen=True, slots=True, eq=False)
class LinearLocation(_Stored):
    """A sum of one term a column; categories have one coefficient a code.

    Attributes
    ----------
    column : array of int
        The row's column of each term.
    code : array of float
        The code of which the term is the indicator; NaN for the column's own value.
    center, coefficient : array of float
        A term adds ``coefficient * (value - center)``.
    """

    kind: ClassVar[str] = "linear"

    column: Ints
    code: Floats
    center: Floats
    coefficient: Floats

    def __post_init__(self) -> None:
        terms = len(self.column)
        if not (len(self.code) == len(self.center) == len(self.coefficient) == terms) or not _within(
            self.column, max(self.n_features, 1)
        ):
            raise ScalableError("this is not a linear model: its arrays do not fit each other")

    def predict(self, X: ArrayLike) -> Floats:  # noqa: N803
        """Return the logarithm for each row."""
        return self.bias + _terms(self._filled(X), self.column, self.code, self.center) @ self.coefficient

    def predict_one(self, row: Floats) -> float:
        """Return the logarithm for one row."""
        return float(self.predict(row[None, :])[0])

    def contributions(self, row: Floats) -> Floats:
        """Return what each feature adds to :attr:`bias`, which is the mean of the history."""
        terms = _terms(self._filled(row)[None, :], self.column, self.code, self.center)[0] * self.coefficient
        return np.bincount(self.column, weights=terms, minlength=self.n_features).astype(np.float64)


Location: TypeAlias = TreeLocation | LinearLocation
"""A fitted model: what :func:`fit_location` makes and :func:`load` reads."""


def contributions(location: Location, row: Floats) -> Floats:
    """Return what each feature of a row adds to a prediction, in logarithms.

    With ``location.bias`` the sum is the prediction. Of trees it is Saabas' attribution: what
    the mean changes by at each split; of a linear model coefficient times deviation.

    Parameters
    ----------
    location : Location
        The model.
    row : array
        One task's features, encoded.
    """
    return location.contributions(row)


# --- parameters


@dataclass(frozen=True, slots=True)
class _Rule:
    """What a parameter may be."""

    default: Any
    low: float
    high: float
    whole: bool = False
    optional: bool = False

    def __str__(self) -> str:
        kind = "a whole number" if self.whole else "a number"
        return f"{kind} from {self.low:g} to {self.high:g}" + (", or None" if self.optional else "")

    def allows(self, value: Any) -> bool:
        if value is None:
            return self.optional
        if isinstance(value, bool) or not isinstance(value, int | float | np.integer | np.floating):
            return False
        return bool(self.low <= value <= self.high) and (not self.whole or float(value).is_integer())


_SEED: Final = _Rule(0, 0, 2**31 - 1, whole=True)
_RULES: Final[Mapping[str, Mapping[str, _Rule]]] = {
    "gradient_boosting": {
        "n_estimators": _Rule(120, 1, 5_000, whole=True),
        "learning_rate": _Rule(0.08, 1e-4, 1.0),
        "max_depth": _Rule(3, 1, 32, whole=True),
        "min_samples_leaf": _Rule(None, 1, 100_000, whole=True, optional=True),
        "subsample": _Rule(0.7, 0.05, 1.0),
        "max_features": _Rule(1.0, 0.01, 1.0),
        "random_state": _SEED,
    },
    "random_forest": {
        "n_estimators": _Rule(80, 1, 5_000, whole=True),
        "max_depth": _Rule(16, 1, 64, whole=True),
        "min_samples_leaf": _Rule(None, 1, 100_000, whole=True, optional=True),
        "max_features": _Rule(0.7, 0.01, 1.0),
        "max_samples": _Rule(None, 0.05, 1.0, optional=True),
        "random_state": _SEED,
    },
    "linear": {"alpha": _Rule(1.0, 0.0, 1e9)},
}

DEFAULTS: Final[Mapping[str, Mapping[str, Any]]] = {
    model_type: {name: rule.default for name, rule in rules.items()} for model_type, rules in _RULES.items()
}
"""Parameters by model type; ``None`` is chosen by the number of rows."""


def check_params(model_type: str, params: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Return all of a model type's parameters, the given ones checked, the others by default.

    Parameters
    ----------
    model_type : {"gradient_boosting", "random_forest", "linear"}
        The kind of model.
    params : mapping, optional
        The parameters that differ from :data:`DEFAULTS`; they have scikit-learn's names and
        meanings, ``max_features`` and ``max_samples`` as parts of all.

    Raises
    ------
    ScalableError
        If there is no such model type or parameter, or a value is out of its range.
    """
    if model_type not in _RULES:
        hint = did_you_mean(str(model_type), get_args(ModelType))
        raise ScalableError(
            f"there is no model type '{model_type}'; known: {', '.join(_RULES)}" + (f"; {hint}" if hint else "")
        )
    rules = _RULES[model_type]
    for name, value in (params or {}).items():
        if name not in rules:
            hint = did_you_mean(str(name), rules)
            raise ScalableError(
                f"{model_type} has no parameter '{name}'; known: {', '.join(rules)}" + (f"; {hint}" if hint else "")
            )
        if not rules[name].allows(value):
            raise ScalableError(f"parameter {name} of {model_type} must be {rules[name]}, not {value!r}")
    merged = {**DEFAULTS[model_type], **(params or {})}
    return {name: int(value) if rules[name].whole and value is not None else value for name, value in merged.items()}


# --- fitting


def fit_location(
    model_type: str,
    X: ArrayLike,  # noqa: N803
    y: ArrayLike,
    params: Mapping[str, Any] | None = None,
    monotone: Sequence[int] = (),
    *,
    categories: Sequence[int] = (),
) -> Location:
    """Fit the logarithm of a quantity to features.

    Parameters
    ----------
    model_type : {"gradient_boosting", "random_forest", "linear"}
        Trees that mend what those before them got wrong; the mean of trees; ridge regression
        on standardised columns.
    X : array, rows by columns
        Features, encoded; what is missing or infinite is taken to be its column's median.
    y : array
        The quantity itself, such as bytes or seconds; rows where it is unknown, zero or
        negative are left out.
    params : mapping, optional
        See :func:`check_params`.
    monotone : sequence of int
        Columns of which more plausibly means more. A model is held to that where the data say
        so: a rank correlation above 0.3 which chance alone would give less than once in a hundred.
    categories : sequence of int
        Columns whose numbers are codes; a linear model has a coefficient for each code.

    Raises
    ------
    ScalableError
        If the parameters are wrong, or no row has a quantity.
    MissingExtra
        If the model is one of trees and scikit-learn is not installed.
    """
    chosen = check_params(model_type, params)
    rows, values = np.asarray(X, dtype=np.float64), np.asarray(y, dtype=np.float64)
    if rows.ndim != 2 or len(rows) != len(values):
        raise ScalableError(f"features of shape {rows.shape} do not fit {len(values)} values")
    known = np.isfinite(values) & (values > 0)
    if not known.any():
        raise ScalableError("a model needs at least one row whose quantity is known and positive")
    filled, medians, imputed = _impute(rows[known])
    target = np.log(values[known])
    held = tuple(column for column in monotone if rises(rows[known][:, column], target))
    fitted = _FITTERS[model_type](filled, target, chosen, held, tuple(categories))
    return _KINDS[fitted.pop("kind")](medians=medians, monotone=held, imputed=imputed, **fitted)


def _impute(rows: Floats) -> tuple[Floats, Floats, tuple[int, ...]]:
    known = np.isfinite(rows)
    medians = np.array(
        [float(np.median(column[have])) if have.any() else 0.0 for column, have in zip(rows.T, known.T, strict=True)]
    )
    gaps = tuple(int(column) for column in np.flatnonzero(~known.all(axis=0)))
    return np.where(known, rows, medians), medians, gaps


def rises(column: Floats, target: Floats, above: float = _RHO) -> bool:
    """Return whether more of a column goes with more of the quantity, by Spearman's rank correlation."""
    known = np.isfinite(column)
    if known.sum() < 3:
        return False
    ranks = [_ranks(values[known]) for values in (column, target)]
    spreads = [float(rank.std()) for rank in ranks]
    if not all(spreads):
        return False
    rho = float(np.mean((ranks[0] - ranks[0].mean()) * (ranks[1] - ranks[1].mean()))) / (spreads[0] * spreads[1])
    return rho > above and rho * math.sqrt(len(ranks[0]) - 1) > _Z


def _ranks(values: Floats) -> Floats:
    """Return each value's rank; equal values share the mean of theirs."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    ends = np.cumsum(counts)
    means: Floats = ends - (counts - 1) / 2.0
    return means[inverse]


def _fit_boosting(
    rows: Floats, target: Floats, params: dict[str, Any], held: tuple[int, ...], _: tuple[int, ...]
) -> dict[str, Any]:
    # Boosting over scikit-learn's public trees: its GradientBoostingRegressor cannot be held to a direction, and
    # HistGradientBoostingRegressor, which can, keeps its trees private. Unheld, this is the former's own result.
    bias = float(target.mean())
    tree = require("ml", "sklearn.tree")
    drawn, model = _draws(len(target), params["subsample"]), _Trees(params, rows, held)
    random = np.random.RandomState(params["random_state"])
    residual = target - bias
    for _number in range(params["n_estimators"] if rows.shape[1] else 0):
        part = random.permutation(len(target))[:drawn] if drawn < len(target) else slice(None)
        regressor = tree.DecisionTreeRegressor(random_state=random, **model.options)
        residual -= model.grow(regressor, part, residual[part], params["learning_rate"])
    return model.whole(bias)


def _fit_forest(
    rows: Floats, target: Floats, params: dict[str, Any], held: tuple[int, ...], _: tuple[int, ...]
) -> dict[str, Any]:
    model = _Trees(params, rows, held)
    if not rows.shape[1]:
        return model.whole(float(target.mean()))
    ensemble = require("ml", "sklearn.ensemble")
    part = params["max_samples"]
    forest = ensemble.RandomForestRegressor(
        n_estimators=params["n_estimators"],
        max_samples=_draws(len(target), 1.0 if part is None else part),
        random_state=params["random_state"],
        **model.options,
    ).fit(rows, target)
    for tree in forest.estimators_:
        model.add(tree.tree_, 1.0 / params["n_estimators"])
    return model.whole(0.0)


def _draws(rows: int, part: float) -> int:
    return max(1, min(round(rows * part), _ROWS_PER_TREE))


class _Trees:
    """Trees that are being fitted, and their nodes as arrays."""

    def __init__(self, params: Mapping[str, Any], rows: Floats, held: tuple[int, ...]) -> None:
        self._rows = np.ascontiguousarray(rows, dtype=np.float32)
        leaf = params["min_samples_leaf"]
        # A leaf of a few rows follows single attempts; of many, it misses the steps of small histories.
        leaf = min(max(2, len(rows) // 200), 20) if leaf is None else leaf
        directions = [int(column in held) for column in range(rows.shape[1])]
        self.options = {
            "max_depth": params["max_depth"],
            "min_samples_leaf": leaf,
            "max_features": params["max_features"],
            "monotonic_cst": directions if any(directions) else None,
        }
        self._feature: list[Ints] = []
        self._threshold: list[Floats] = []
        self._children: list[Ints] = []
        self.values: list[Floats] = []
        self._sizes: list[int] = []
        self._depth = 0

    def grow(self, regressor: Any, part: slice | NDArray[Any], target: Floats, weight: float) -> Floats:
        """Fit one more tree on a part of the rows, and return what it adds for all of them."""
        tree = regressor.fit(self._rows[part], target, check_input=False).tree_
        self.add(tree, weight)
        added: Floats = weight * tree.predict(self._rows).reshape(-1)
        return added

    def add(self, tree: Any, weight: float) -> None:
        """Take over a fitted tree of scikit-learn, whose values count with a weight."""
        offset, size = sum(self._sizes), tree.node_count
        leaf = tree.children_left < 0
        here = np.arange(size)
        children = np.stack([np.where(leaf, here, side) for side in (tree.children_left, tree.children_right)], axis=1)
        self._feature.append(np.where(leaf, 0, tree.feature).astype(np.int32))
        self._threshold.append(np.where(leaf, np.inf, tree.threshold))
        self._children.append((children + offset).astype(np.int32).reshape(-1))
        self.values.append(weight * tree.value.reshape(-1))
        self._sizes.append(size)
        self._depth = max(self._depth, int(tree.max_depth))

    def whole(self, base: float) -> dict[str, Any]:
        """Return all trees together, on top of a value that is the same for all rows."""
        ends = np.cumsum([0, *self._sizes])
        return {
            "kind": TreeLocation.kind,
            "bias": base + sum(float(values[0]) for values in self.values),
            "feature": np.concatenate([*self._feature, np.empty(0, np.int32)]),
            "threshold": np.concatenate([*self._threshold, np.empty(0)]),
            "children": np.concatenate([*self._children, np.empty(0, np.int32)]),
            "values": np.concatenate([*self.values, np.empty(0)]),
            "roots": ends[:-1].astype(np.int32),
            "depth": self._depth,
        }


def _fit_linear(
    rows: Floats, target: Floats, params: dict[str, Any], held: tuple[int, ...], categories: tuple[int, ...]
) -> dict[str, Any]:
    column, code = _layout(rows, categories)
    raw = _terms(rows, column, code, np.zeros(len(column)))
    center, spread = raw.mean(axis=0), raw.std(axis=0)
    # Rounding gives a column of one value a spread of its own.
    free = spread > 1e-12 * (1.0 + np.abs(center))
    scaled = (raw - center) / np.where(free, spread, 1.0)
    bias = float(target.mean())
    rising = np.isin(column, held)
    weights = np.zeros(len(column))
    while free.any():
        used = scaled[:, free]
        gram = used.T @ used + (params["alpha"] + 1e-9) * np.eye(used.shape[1])
        weights[:] = 0.0
        weights[free] = np.linalg.solve(gram, used.T @ (target - bias))
        falling = free & rising & (weights < 0)
        if not falling.any():
            break
        # What must not fall, and would, is explained by the other columns.
        free &= ~falling
        weights[falling] = 0.0
    return {
        "kind": LinearLocation.kind,
        "bias": bias,
        "column": column,
        "code": code,
        "center": center,
        "coefficient": weights / np.where(spread > 0, spread, 1.0),
    }


def _layout(rows: Floats, categories: tuple[int, ...]) -> tuple[Ints, Floats]:
    """Return column and code of each term."""
    terms: list[tuple[int, float]] = []
    for column in range(rows.shape[1]):
        if column in categories:
            terms += [(column, float(code)) for code in np.unique(rows[:, column])]
        else:
            terms.append((column, math.nan))
    return np.array([column for column, _ in terms], np.int32), np.array([code for _, code in terms], np.float64)


def _terms(rows: Floats, column: Ints, code: Floats, center: Floats) -> Floats:
    """Return each term's deviation from its center; a code that was never seen deviates in nothing."""
    raw = rows[:, column]
    coded = ~np.isnan(code)
    if not coded.any():
        return raw - center
    same = raw == code
    seen = np.zeros_like(same)
    for number in np.unique(column[coded]):
        of_column = column == number
        seen[:, of_column] = same[:, of_column].any(axis=1, keepdims=True)
    return np.where(coded & ~seen, 0.0, np.where(coded, same, raw) - center)


_FITTERS: Final[Mapping[str, Callable[..., dict[str, Any]]]] = {
    "gradient_boosting": _fit_boosting,
    "random_forest": _fit_forest,
    "linear": _fit_linear,
}
_KINDS: Final[Mapping[str, type[TreeLocation | LinearLocation]]] = {
    TreeLocation.kind: TreeLocation,
    LinearLocation.kind: LinearLocation,
}


# --- storing


def location_from(arrays: Arrays) -> Location:
    """Return the model that its ``arrays()`` gave.

    Raises
    ------
    ScalableError
        If they are not a model.
    """
    try:
        kind = _KINDS[str(arrays["kind"])]
        given = {column.name: _restored(column.name, arrays[column.name]) for column in fields(kind)}
        return kind(**given)
    except (KeyError, TypeError, ValueError) as error:
        raise ScalableError(f"this is not a model: {error}") from error


def _restored(name: str, array: NDArray[Any]) -> Any:
    if name in {"monotone", "imputed"}:
        return tuple(int(column) for column in array)
    if name == "bias":
        return float(array)
    if name == "depth":
        return int(array)
    return np.ascontiguousarray(array, dtype=np.int32 if array.dtype.kind == "i" else np.float64)


def load(path: Path) -> Location:
    """Return the model that was saved in a file; nothing is unpickled.

    Raises
    ------
    ScalableError
        If it cannot be read, or is not a model.
    """
    try:
        with path.open("rb") as file:
            return location_from(read_arrays(file))
    except OSError as error:
        raise ScalableError(f"cannot read the model {path}: {error.strerror}") from error


def read_arrays(file: BinaryIO) -> dict[str, NDArray[Any]]:
    """Return the arrays of an ``npz`` file; nothing is unpickled.

    Raises
    ------
    ScalableError
        If the file is damaged, or holds anything else than plain arrays.
    """
    try:
        stored = np.load(file, allow_pickle=False)
        return dict(stored)
    except (
        ValueError,
        TypeError,
        EOFError,
        KeyError,
        MemoryError,
        NotImplementedError,
        zipfile.BadZipFile,
        zlib.error,
    ) as error:
        raise ScalableError(f"these are no stored arrays: {error}") from error


def _within(numbers: NDArray[Any], end: int) -> bool:
    return not len(numbers) or bool(numbers.dtype.kind == "i" and numbers.min() >= 0 and numbers.max() < end)


def _as_trees_see(rows: Floats) -> Floats:
    """Return rows as scikit-learn's trees compare them: in single precision with thresholds in double."""
    return rows.astype(np.float32).astype(np.float64)
