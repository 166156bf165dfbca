"""How a quantity is distributed for one task, given what is known of it: a location, and its like.

A *location* says about where the quantity lies. What remains, the ratio of what was measured
to it, is distributed as it was among the tasks that are like this one: each past task counts
by a product of kernels, one a feature, as in kernel estimation with mixed data [1]_. Which
location and which kernels is decided by leaving each of the latest tasks out and predicting it.

.. [1] J. Racine, Q. Li, "Nonparametric estimation of regression functions with both
   categorical and continuous data", Journal of Econometrics 119 (2004) 99-130.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from scalable.errors import ScalableError
from scalable.ml.models import Location, location_from

__all__ = ["Kernel", "Like", "Loss", "Table", "Trend", "fit_like"]

Floats = NDArray[np.float64]

_LATEST: Final = 2_000
"""Tasks that are kept: the latest."""
_JUDGED: Final = 120
"""Tasks that are left out and predicted, to choose by: the latest."""
_WIDTHS: Final = (0.02, 0.06, 0.2, 0.6)
_OTHERS: Final = (0.02, 0.2)
_FLOOR: Final = 1e-3
"""What a task counts that is not like at all: with nothing alike, all count the same."""
_GAIN: Final = 0.03
_GAIN_OF_LOCATION: Final = 0.02
_GAIN_OF_MODEL: Final = 0.05
_GAIN_OF_FEW: Final = 0.2
"""A kernel, or a location, must lessen the loss by this share to be taken: less is chance."""
_FOLDS: Final = 10
_MODEL_FOLDS: Final = 3
_KERNELS: Final = 4
_MODEL_FROM: Final = 30
_BEYOND: Final = 10.0

Loss = Callable[[Floats, Floats, Floats, NDArray[np.intp]], float]
"""Mean loss: of sorted ratios, weights (judged tasks by ratios), locations of all, and which are judged."""


@dataclass(frozen=True, slots=True)
class Kernel:
    """How much a feature makes past tasks count.

    Attributes
    ----------
    column : int
        Of the encoded features.
    width : float
        Of a number: the distance, in the column's scale, over which the weight falls to 1/e.
        Of a category: what another one weighs.
    scale : float
        Distance that counts as one; 0 for categories.
    """

    column: int
    width: float
    scale: float

    def weigh(self, values: Floats, here: Floats | float) -> Floats:
        """Return the weights of past values here.

        Parameters
        ----------
        values : array
            The column in past tasks.
        here : array or float
            The column of the tasks that are predicted; with an array, a row for each is returned.
        """
        place = np.asarray(here)[..., None] if np.ndim(here) else here
        if not self.scale:
            return np.where(values == place, 1.0, self.width) + _FLOOR
        distance = np.abs(values - place) / self.scale
        weight: Floats = np.exp(-np.nan_to_num(distance, nan=1.0, posinf=1.0) / self.width) + _FLOOR
        return weight


@dataclass(frozen=True, slots=True)
class Trend:
    """A line through one feature: ``a + b * x``, or ``exp(a + b * log x)``; constant without a column.

    Attributes
    ----------
    column : int
        Of the encoded features; -1 for none.
    form : {"constant", "line", "power"}
        What of.
    a, b : float
        Its parameters.
    lowest, highest : float
        Within which it is followed.
    logged : bool
        Whether the feature is encoded as a logarithm.
    usual : float
        What is taken for a feature that is missing.
    """

    form: Literal["constant", "line", "power"] = "constant"
    column: int = -1
    a: float = 1.0
    b: float = 0.0
    lowest: float = 0.0
    highest: float = np.inf
    logged: bool = False
    usual: float = 0.0

    def at(self, rows: Floats) -> Floats:
        """Return the location of tasks.

        Parameters
        ----------
        rows : array, tasks by features
            Encoded.
        """
        if self.form == "constant":
            return np.ones(len(rows))
        x = self._known(rows, self.usual)
        if self.form == "power":
            value = np.exp(np.clip(self.a + self.b * x, -700, 700))
        else:
            value = self.a + self.b * (np.exp(np.minimum(x, 300)) if self.logged else x)
        located: Floats = np.clip(value, self.lowest, self.highest)
        return located

    def refitted(self, rows: Floats, values: Floats) -> Trend:
        """Return the same form fitted by least squares."""
        if self.form == "constant":
            return self
        column = rows[:, self.column]
        usual = float(np.median(column[np.isfinite(column)])) if np.isfinite(column).any() else 0.0
        x = self._known(rows, usual)
        low, high = _within(values)
        if self.form == "power":
            a, b = _least_squares(x, np.log(values))
            return Trend("power", self.column, a, b, low, high, self.logged, usual)
        a, b = _least_squares(np.exp(np.minimum(x, 300)) if self.logged else x, values)
        return Trend("line", self.column, a, b, max(low, 0.5 * float(values.min())), high, self.logged, usual)

    def _known(self, rows: Floats, usual: float) -> Floats:
        known: Floats = np.nan_to_num(rows[:, self.column], nan=usual, posinf=usual, neginf=usual)
        return known


def _within(values: Floats) -> tuple[float, float]:
    """Return how far a location may lead beyond what was seen: to a tenth of the least and ten times the most."""
    return float(values.min()) / _BEYOND, float(values.max()) * _BEYOND


def _least_squares(x: Floats, y: Floats) -> tuple[float, float]:
    middle = x.mean()
    spread = float((x - middle) @ (x - middle))
    b = float((x - middle) @ (y - y.mean())) / spread if spread > 0 else 0.0
    return float(y.mean() - b * middle), b


@dataclass(frozen=True, slots=True)
class _Model:
    """A model of all features as a location, within bounds."""

    model: Location
    lowest: float
    highest: float

    @classmethod
    def fitted(cls, model: Callable[[Floats, Floats], Location], rows: Floats, values: Floats) -> _Model:
        return cls(model(rows, values), *_within(values))

    def at(self, rows: Floats) -> Floats:
        located: Floats = (
            np.exp(self.model.predict(rows)) if len(rows) != 1 else np.exp([self.model.predict_one(rows[0])])
        )
        return located


@dataclass(frozen=True, slots=True, eq=False)
class Table:
    """What was measured of one quantity, oldest first.

    Attributes
    ----------
    rows : array, tasks by features
        Encoded features.
    values : array
        The quantity, positive.
    cost : array
        How much an error counts; for memory, the seconds that a task holds it.
    categories, logged : frozenset of int
        Columns of codes, and columns that are logarithms.
    by_size : bool
        Whether an error counts in proportion to the quantity, as unused bytes do.
    """

    rows: Floats
    values: Floats
    cost: Floats
    categories: frozenset[int] = frozenset()
    logged: frozenset[int] = frozenset()
    by_size: bool = True

    def __len__(self) -> int:
        return len(self.values)

    def latest(self) -> Table:
        """Return the latest tasks, as many as are kept."""
        last = slice(-_LATEST, None)
        return replace(self, rows=self.rows[last], values=self.values[last], cost=self.cost[last])

    def weights(self, located: Floats) -> Floats:
        """Return what each task counts for any other, by its location."""
        return self.cost * located if self.by_size else self.cost


@dataclass(slots=True, eq=False)
class Like:
    """The fitted distribution; grows with what is observed.

    Attributes
    ----------
    location : Trend or model
        About where the quantity lies.
    kernels : tuple of Kernel
        Which tasks are like which.
    ratios : array
        What was measured over its location, ascending.
    rows, weights : array
        Features, and what each counts for any task, in that order.
    by_size : bool
        As in :class:`Table`.
    loss : float
        Of the judged tasks.
    ranks : array
        Where each judged task lay in its own predicted distribution, 0 to 1, ascending.
    places : array
        Where in the table each stood; empty when it was not fitted just now.
    """

    location: Trend | _Model
    kernels: tuple[Kernel, ...]
    ratios: Floats
    rows: Floats
    weights: Floats
    by_size: bool = True
    loss: float = 0.0
    ranks: Floats = field(default_factory=lambda: np.zeros(0))
    places: NDArray[np.intp] = field(default_factory=lambda: np.zeros(0, dtype=np.intp))

    def __len__(self) -> int:
        return len(self.ratios)

    @property
    def columns(self) -> frozenset[int]:
        """The features that it depends on."""
        kernels = {kernel.column for kernel in self.kernels}
        if isinstance(self.location, _Model):
            return frozenset(range(self.rows.shape[1]))
        return frozenset(kernels | ({self.location.column} if self.location.column >= 0 else set()))

    def described(self, names: Sequence[str]) -> str:
        """Return in words what it is, with the features' names."""
        if isinstance(self.location, _Model):
            about = "a model of all features"
        elif self.location.form == "constant":
            about = "constant"
        else:
            about = f"a {self.location.form} in {names[self.location.column]}"
        alike = ", ".join(names[kernel.column] for kernel in self.kernels)
        return f"{about}; as tasks alike in {alike}" if alike else about

    def weigh(self, row: Floats) -> Floats:
        """Return how much each past task counts for one."""
        weight = self.weights.copy()
        for kernel in self.kernels:
            weight *= kernel.weigh(self.rows[:, kernel.column], float(row[kernel.column]))
        return weight

    def weigh_each(self, rows: Floats) -> Floats:
        """Return how much each past task counts for each of several, a row each."""
        weights = np.broadcast_to(self.weights, (len(rows), len(self.weights)))
        for kernel in self.kernels:
            weights = weights * kernel.weigh(self.rows[:, kernel.column], rows[:, kernel.column])
        return weights

    def at(self, row: Floats) -> float:
        """Return the location of one task."""
        return float(self.location.at(row[None, :])[0])

    def add(self, row: Floats, value: float, cost: float) -> None:
        """Count one more task."""
        located = self.at(row)
        ratio = value / located
        place = int(np.searchsorted(self.ratios, ratio))
        self.ratios = np.insert(self.ratios, place, ratio)
        self.rows = np.insert(self.rows, place, row, axis=0)
        self.weights = np.insert(self.weights, place, cost * located if self.by_size else cost)

    def quantile(self, row: Floats, level: float) -> float:
        """Return the quantity below which a part of the tasks like this one lie."""
        reached = np.cumsum(self.weigh(row))
        place = int(np.searchsorted(reached, min(level, 1.0) * reached[-1] * (1 - 1e-12)))
        return self.at(row) * float(self.ratios[min(place, len(self.ratios) - 1)])

    def to_arrays(self) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
        """Return it as arrays, and the rest as JSON."""
        arrays = {"ratios": self.ratios, "rows": self.rows, "weights": self.weights, "ranks": self.ranks}
        meta: dict[str, Any] = {
            "kernels": [[one.column, one.width, one.scale] for one in self.kernels],
            "by_size": self.by_size,
            "loss": self.loss,
            "trend": None,
            "bounds": [self.location.lowest, _finite(self.location.highest)],
        }
        if isinstance(self.location, _Model):
            arrays |= {f"model.{name}": array for name, array in self.location.model.arrays().items()}
        else:
            one = self.location
            meta["trend"] = [one.form, one.column, one.a, one.b, one.logged, one.usual]
        return arrays, meta

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[Any]], meta: Mapping[str, Any]) -> Like:
        """Return what :meth:`to_arrays` gave.

        Raises
        ------
        ScalableError
            If something is missing.
        """
        try:
            location: Trend | _Model
            low, high = meta["bounds"]
            high = np.inf if high is None else high
            if meta["trend"] is None:
                model = {name.removeprefix("model."): one for name, one in arrays.items() if name.startswith("model.")}
                location = _Model(location_from(model), low, high)
            else:
                form, column, a, b, logged, usual = meta["trend"]
                location = Trend(form, column, a, b, low, high, logged, usual)
            kernels = tuple(Kernel(int(column), width, scale) for column, width, scale in meta["kernels"])
            body = (arrays["ratios"], arrays["rows"], arrays["weights"])
            return cls(location, kernels, *body, meta["by_size"], meta["loss"], arrays["ranks"])
        except (KeyError, TypeError, ValueError) as error:
            raise ScalableError(f"a stored distribution is incomplete: {error}") from error


def _finite(value: float) -> float | None:
    return value if np.isfinite(value) else None


def fit_like(table: Table, loss: Loss, model: Callable[[Floats, Floats], Location] | None = None) -> Like:
    """Choose location and kernels by leaving tasks out, and return the distribution.

    Parameters
    ----------
    table : Table
        At least two tasks; the latest 2,000 are used.
    loss : callable
        What is to be small.
    model : callable, optional
        Fits a model to features and values, as a further location to choose from.
    """
    table = table.latest()
    count = len(table)
    judged = np.arange(max(0, count - _JUDGED), count)
    others = np.ones((len(judged), count))
    others[np.arange(len(judged)), judged] = 1e-12
    candidates = _kernels(table)
    weighed = [(one, one.weigh(table.rows[:, one.column], table.rows[judged, one.column])) for one in candidates]
    best: tuple[float, Trend | None, tuple[Kernel, ...], Floats] | None = None
    for shape in _shapes(table, with_model=model is not None):
        located = _left_out(table, shape, model)
        found, kernels = _choose_kernels(table, located, others=others, judged=judged, weighed=weighed, loss=loss)
        gain = _GAIN_OF_MODEL if shape is None else _GAIN_OF_LOCATION
        if best is None or found < best[0] * (1 - gain):
            best = (found, shape, kernels, located)
    assert best is not None
    found, shape, kernels, located = best
    location: Trend | _Model
    if shape is None:
        assert model is not None
        location = _Model.fitted(model, table.rows, table.values)
    else:
        location = shape.refitted(table.rows, table.values)
    ratios = table.values / located
    order = np.argsort(ratios)
    weights = table.weights(located)[order]
    fitted = Like(location, kernels, ratios[order], table.rows[order], weights, table.by_size, found)
    fitted.places = order
    fitted.ranks = _ranks(fitted, others[:, order], judged, order)
    return fitted


def _kernels(table: Table) -> list[Kernel]:
    made = []
    for column in range(table.rows.shape[1]):
        values = table.rows[:, column]
        known = values[np.isfinite(values)]
        if not len(known) or (column not in table.categories and np.ptp(known) <= 0):
            continue
        if column in table.categories:
            made += [Kernel(column, other, 0.0) for other in _OTHERS] if len(np.unique(known)) < len(table) else []
            continue
        low, high = np.percentile(known, [5, 95])
        scale = float(high - low) or float(np.ptp(known))
        made += [Kernel(column, width, scale) for width in _WIDTHS]
    return made


def _shapes(table: Table, *, with_model: bool) -> list[Trend | None]:
    """Return the locations to choose from: constant, trends in the feature that tells most, ``None`` for the model."""
    shapes: list[Trend | None] = [Trend()]
    numbers = [column for column in range(table.rows.shape[1]) if column not in table.categories]
    strength = {column: _correlation(table.rows[:, column], table.values) for column in numbers}
    for column in sorted(numbers, key=lambda column: -strength[column])[:1]:
        if len(table) >= 4 and strength[column] > 0:
            logged = column in table.logged
            shapes.append(Trend("line", column, logged=logged))
            shapes += [Trend("power", column, logged=True)] if logged else []
    if with_model and len(table) >= _MODEL_FROM and table.rows.shape[1] > 1:
        shapes.append(None)
    return shapes


def _correlation(column: Floats, values: Floats) -> float:
    known = np.isfinite(column)
    if known.sum() < 3 or np.ptp(column[known]) == 0 or np.ptp(values[known]) == 0:
        return 0.0
    return abs(float(np.corrcoef(column[known], np.log(values[known]))[0, 1]))


def _left_out(table: Table, shape: Trend | None, model: Callable[[Floats, Floats], Location] | None) -> Floats:
    """Return the location of each task, fitted to others."""
    if shape is not None and shape.form == "constant":
        return np.ones(len(table))
    count = len(table)
    folds = min(_MODEL_FOLDS if shape is None else _FOLDS, count)
    fold = np.arange(count) % folds
    located = np.empty(count)
    for number in range(folds):
        rest, part = fold != number, fold == number
        if shape is None:
            assert model is not None
            located[part] = _Model.fitted(model, table.rows[rest], table.values[rest]).at(table.rows[part])
        else:
            located[part] = shape.refitted(table.rows[rest], table.values[rest]).at(table.rows[part])
    return located


def _choose_kernels(
    table: Table,
    located: Floats,
    *,
    others: Floats,
    judged: NDArray[np.intp],
    weighed: Sequence[tuple[Kernel, Floats]],
    loss: Loss,
) -> tuple[float, tuple[Kernel, ...]]:
    """Take one kernel after the other, each time the one that lessens the loss most."""
    ratios = table.values / located
    order = np.argsort(ratios)
    ordered = ratios[order]
    weights = others[:, order] * table.weights(located)[order]
    found = loss(ordered, weights, located, judged)
    chosen: tuple[Kernel, ...] = ()
    while len(chosen) < _KERNELS:
        taken = {kernel.column for kernel in chosen}
        trials = [
            (loss(ordered, weights * weight[:, order], located, judged), place)
            for place, (kernel, weight) in enumerate(weighed)
            if kernel.column not in taken
        ]
        if not trials or min(trials)[0] >= found * (1 - _GAIN - _GAIN_OF_FEW / math.sqrt(len(table))):
            break
        found, place = min(trials)
        kernel, weight = weighed[place]
        chosen = (*chosen, kernel)
        weights = weights * weight[:, order]
    return found, chosen


def _ranks(fitted: Like, others: Floats, judged: NDArray[np.intp], order: NDArray[np.intp]) -> Floats:
    """Return where each judged task lies in its own predicted distribution, 0 to 1, ascending."""
    weights = others * fitted.weights
    place = np.empty(len(order), dtype=np.intp)
    place[order] = np.arange(len(order))
    own = place[judged]
    for kernel in fitted.kernels:
        column = fitted.rows[:, kernel.column]
        weights = weights * kernel.weigh(column, column[own])
    reached = np.cumsum(weights, axis=1)
    part: Floats = reached[np.arange(len(judged)), own] / reached[:, -1]
    return np.sort(part)
