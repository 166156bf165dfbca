"""What is known of a task before it runs, as numbers that a model can take.

The encoding depends on the history alone: no hash, no order of a set. It travels as JSON.
"""

from __future__ import annotations

import functools
import json
import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Final, Literal, Protocol, Self, cast

import numpy as np
from numpy.typing import NDArray
from pydantic import TypeAdapter, ValidationError

from scalable.errors import ScalableError

__all__ = ["Columnar", "FeatureEncoder", "Observed"]

Floats = NDArray[np.float64]
_Kind = Literal["size", "number", "log", "flag", "category"]

_SIZES: Final = ("input_bytes", "arg_bytes")
_COUNTS: Final = ("n_inputs", "n_args", "threads")
_MEASURED: Final = frozenset({*_SIZES, *_COUNTS})
_GROWING: Final = ("input_bytes", "arg_bytes", "n_inputs")
"""More of these plausibly needs more memory and time, never less."""
_MOST_COLUMNS: Final = 32
_MOST_VALUES: Final = 32
_LOG_SPAN: Final = 10.0
_SLACK: Final = 0.1
_UNREADABLE: Final = math.inf
"""Stands for a value that is given where the history has numbers, and is none: outside of every range."""


class Observed(Protocol):
    """One attempt, or one task that is still to run; sizes in bytes, ``None`` or NaN where unknown."""

    @property
    def target(self) -> str | None: ...  # noqa: D102
    @property
    def component(self) -> str | None: ...  # noqa: D102
    @property
    def features(self) -> Mapping[str, Any]: ...  # noqa: D102
    @property
    def n_args(self) -> float | None: ...  # noqa: D102
    @property
    def arg_bytes(self) -> float | None: ...  # noqa: D102
    @property
    def n_inputs(self) -> float | None: ...  # noqa: D102
    @property
    def input_bytes(self) -> float | None: ...  # noqa: D102
    @property
    def threads(self) -> float | None: ...  # noqa: D102


class Columnar(Protocol):
    """Many attempts, a sequence for each fact, as :class:`scalable.telemetry.past.Attempts` has them."""

    @property
    def component(self) -> Sequence[Any] | NDArray[Any]: ...  # noqa: D102
    @property
    def features(self) -> Sequence[Mapping[str, Any]]: ...  # noqa: D102
    @property
    def n_args(self) -> NDArray[Any]: ...  # noqa: D102
    @property
    def arg_bytes(self) -> NDArray[Any]: ...  # noqa: D102
    @property
    def n_inputs(self) -> NDArray[Any]: ...  # noqa: D102
    @property
    def input_bytes(self) -> NDArray[Any]: ...  # noqa: D102
    @property
    def threads(self) -> NDArray[Any]: ...  # noqa: D102
    def __len__(self) -> int: ...


@dataclass(frozen=True, slots=True)
class _Column:
    """One fact, how it becomes a number, and what the history had of it."""

    name: str
    kind: _Kind
    low: float = math.nan
    """The range seen, encoded."""
    high: float = math.nan
    values: tuple[str, ...] = ()
    """Categories with a code of their own, in the order of the codes."""
    tail: tuple[str, ...] = ()
    """Categories that share the code after these: each was too rare."""
    gaps: bool = False
    """Whether some rows had no value."""

    @property
    def varies(self) -> bool:
        return len(self.values) + len(self.tail) > 1 if self.kind == "category" else self.high > self.low


@dataclass(frozen=True, slots=True)
class _Stored:
    version: int
    columns: tuple[_Column, ...] = field(default_factory=tuple)


class FeatureEncoder:
    """Encode what is known of a task before it runs; made by :meth:`fit`.

    Columns, each only if it varied in the history: ``input_bytes`` and ``arg_bytes`` as
    ``log(1 + bytes)``; ``n_inputs``, ``n_args`` and ``threads`` as they are; ``target`` and
    ``component`` as codes; and each user feature as ``features.<name>``: numbers (texts that
    are numbers too) as they are, or as logarithms where all are positive and the greatest is
    more than ten times the least; booleans as 0 and 1; texts as codes in natural order, the
    32 most frequent with one each, the rest with one together, and one for all that the
    history does not have. Texts that differ in more than half of the rows, lists and
    mappings are left out. At most 32 columns, of user features the most often given.

    What is missing is NaN. What cannot be encoded, such as a text among numbers, is infinite.
    """

    _VERSION: Final = 1

    def __init__(self, columns: Iterable[_Column]) -> None:
        self._all = tuple(columns)
        self._columns = tuple(column for column in self._all if column.varies)
        self._constants = tuple(column for column in self._all if not column.varies)
        self._codes = {column.name: _codes(column) for column in self._all if column.kind == "category"}
        # Read for each prediction: attribute chains and properties would cost more than the arithmetic.
        self._plan = tuple(
            (column.name, column.name.removeprefix("features."), column.name.startswith("features."), column)
            for column in self._columns
        )

    @property
    def names(self) -> tuple[str, ...]:
        """The columns' names, in their order."""
        return tuple(column.name for column in self._columns)

    @property
    def size_columns(self) -> tuple[int, ...]:
        """Indices of columns of which more plausibly needs more: sizes and number of inputs."""
        return tuple(index for index, column in enumerate(self._columns) if column.name in _GROWING)

    @property
    def category_columns(self) -> tuple[int, ...]:
        """Indices of columns whose numbers are codes, with no more order than their names have."""
        return tuple(index for index, column in enumerate(self._columns) if column.kind == "category")

    @property
    def log_columns(self) -> tuple[int, ...]:
        """Indices of columns that are logarithms of what was measured or said."""
        return tuple(index for index, column in enumerate(self._columns) if column.kind in {"size", "log"})

    @classmethod
    def fit(cls, rows: Columnar | Iterable[Observed], targets: Sequence[str | None] | None = None) -> Self:
        """Return the encoder for a history.

        Parameters
        ----------
        rows : Attempts, or iterable of Observation
            The history; it may be empty.
        targets : sequence of str, optional
            Where each row ran. Default: the rows' own ``target``, if they have one.
        """
        table = _Table(rows, targets)
        columns = [_numeric(name, table.numbers(name), name in _SIZES) for name in (*_SIZES, *_COUNTS)]
        columns += [_category(name, table.texts(name)) for name in ("target", "component")]
        room = _MOST_COLUMNS - len(columns)
        columns += [_of_feature(f"features.{name}", table.feature(name)) for name in table.feature_names()[:room]]
        return cls(column for column in columns if column is not None)

    def row(self, observation: Observed) -> Floats:
        """Return one task's numbers, in the order of :attr:`names`."""
        features = observation.features
        codes = self._codes
        return np.array(
            [
                _encode(column, features.get(key) if own else getattr(observation, name, None), codes.get(name))
                for name, key, own, column in self._plan
            ],
            dtype=np.float64,
        )

    def rows(self, attempts: Columnar | Iterable[Observed], targets: Sequence[str | None] | None = None) -> Floats:
        """Return many tasks' numbers, a row each; the same as :meth:`row` of each.

        Parameters
        ----------
        attempts : Attempts, or iterable of Observation
            The tasks.
        targets : sequence of str, optional
            As for :meth:`fit`.
        """
        table = _Table(attempts, targets)
        matrix = np.empty((len(table), len(self._columns)))
        for index, column in enumerate(self._columns):
            matrix[:, index] = self._column(column, table)
        return matrix

    def _column(self, column: _Column, table: _Table) -> Floats:
        if column.name in _MEASURED:
            values = table.numbers(column.name)
            # Not numpy's logarithm, whose last digit is another one than that of a row alone.
            return np.array([math.log1p(value) for value in values.tolist()]) if column.kind == "size" else values
        own = column.name.startswith("features.")
        raw = table.feature(column.name.removeprefix("features.")) if own else table.texts(column.name)
        codes = self._codes.get(column.name)
        return np.fromiter((_encode(column, value, codes) for value in raw), dtype=np.float64, count=len(table))

    def outside(self, row: Floats) -> tuple[str, ...]:
        """Return the names of a row's values unlike those of the history.

        Numbers more than a tenth of the range seen beyond it, measured after encoding, and
        categories that the history does not have. What is missing is not outside; see
        :meth:`missing`.

        Parameters
        ----------
        row : array
            From :meth:`row`.
        """
        return tuple(
            column.name for column, value in zip(self._columns, row.tolist(), strict=True) if _beyond(column, value)
        )

    def missing(self, row: Floats) -> tuple[str, ...]:
        """Return the names of what a row lacks, and the history always has.

        Parameters
        ----------
        row : array
            From :meth:`row`.
        """
        return tuple(
            column.name
            for column, value in zip(self._columns, row.tolist(), strict=True)
            if math.isnan(value) and not column.gaps
        )

    def changed(self, observation: Observed) -> tuple[str, ...]:
        """Return the names of what was always the same in the history, and is not now.

        No column tells a model of it, so that no model can say what it does.

        Parameters
        ----------
        observation : Observation
            The task.
        """
        features = observation.features
        return tuple(
            column.name
            for column in self._constants
            if _beyond(
                column, _encode(column, _value(observation, features, column.name), self._codes.get(column.name))
            )
        )

    def to_json(self) -> dict[str, Any]:
        """Return the encoder as JSON data."""
        # Through text, because JSON has no tuples, and NaN and infinity of a range must be none.
        stored = asdict(_Stored(self._VERSION, self._all))
        for column in stored["columns"]:
            for end in ("low", "high"):
                column[end] = column[end] if math.isfinite(column[end]) else None
        data: dict[str, Any] = json.loads(json.dumps(stored))
        return data

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """Return the encoder that :meth:`to_json` gave.

        Raises
        ------
        ScalableError
            If it is not one, or one of another version.
        """
        try:
            columns = [
                {key: value for key, value in column.items() if value is not None} for column in data.get("columns", ())
            ]
            stored = _reader().validate_python({**data, "columns": columns})
        except (ValidationError, AttributeError, TypeError) as error:
            raise ScalableError(f"this is not a feature encoding: {error}") from error
        if stored.version != cls._VERSION:
            raise ScalableError(f"a feature encoding of version {stored.version}; this Scalable reads {cls._VERSION}")
        return cls(stored.columns)


@functools.cache
def _reader() -> TypeAdapter[_Stored]:
    # Made once, and only if something is read: it takes longer than the reading.
    return TypeAdapter(_Stored)


class _Table:
    """Rows of either kind, a column at a time."""

    def __init__(self, rows: Columnar | Iterable[Observed], targets: Sequence[str | None] | None) -> None:
        self._columnar: Columnar | None = None
        self._rows: Sequence[Observed] = ()
        # A list of rows has no facts of its own; a table has them all.
        if hasattr(rows, "features") and hasattr(rows, "component"):
            self._columnar = table = cast("Columnar", rows)
            self.features: Sequence[Mapping[str, Any]] = table.features
        else:
            self._rows = list(rows)
            self.features = [row.features for row in self._rows]
        self._targets = targets

    def __len__(self) -> int:
        return len(self.features)

    def _raw(self, name: str) -> Sequence[Any] | NDArray[Any]:
        if self._columnar is not None:
            values = getattr(self._columnar, name, None)
            return [None] * len(self) if values is None else values
        return [getattr(row, name, None) for row in self._rows]

    def numbers(self, name: str) -> Floats:
        raw = self._raw(name)
        if not isinstance(raw, np.ndarray):
            raw = [math.nan if value is None else value for value in raw]
        values = np.array(raw, dtype=np.float64)
        values[~np.isfinite(values) | (values < 0)] = math.nan
        return values

    def texts(self, name: str) -> Sequence[Any]:
        if name == "target" and self._targets is not None:
            return self._targets
        return list(self._raw(name))

    def feature(self, name: str) -> list[Any]:
        return [features.get(name) for features in self.features]

    def feature_names(self) -> list[str]:
        """Return the user features' names, the most often given first."""
        counts = Counter(name for features in self.features for name, value in features.items() if _given(value))
        return sorted(counts, key=lambda name: (-counts[name], name))


def _value(observation: Observed, features: Mapping[str, Any], name: str) -> Any:
    if name.startswith("features."):
        return features.get(name.removeprefix("features."))
    return getattr(observation, name, None)


def _numeric(name: str, values: Floats, size: bool) -> _Column | None:
    known = values[~np.isnan(values)]
    if not len(known):
        return None
    low, high, gaps = float(known.min()), float(known.max()), len(known) < len(values)
    if size:
        return _Column(name, "size", math.log1p(low), math.log1p(high), gaps=gaps)
    return _Column(name, "number", low, high, gaps=gaps)


def _category(name: str, values: Sequence[Any]) -> _Column | None:
    counts = Counter(text for text in map(_text, values) if text)
    known = sum(counts.values())
    if not counts or (len(counts) > 1 and 2 * len(counts) > known):
        return None
    frequent = sorted(counts, key=lambda text: (-counts[text], text))
    own, tail = frequent[:_MOST_VALUES], frequent[_MOST_VALUES:]
    ordered = tuple(sorted(own, key=_natural))
    return _Column(name, "category", values=ordered, tail=tuple(sorted(tail)), gaps=known < len(values))


def _of_feature(name: str, values: Sequence[Any]) -> _Column | None:
    given = [value for value in values if _given(value)]
    gaps = len(given) < len(values)
    if all(isinstance(value, bool) for value in given):
        return _Column(name, "flag", float(min(given)), float(max(given)), gaps=gaps)
    numbers = np.array([_number(value) for value in given])
    if not np.isfinite(numbers).all():
        return _category(name, values)
    low, high = float(numbers.min()), float(numbers.max())
    if low > 0 and high > _LOG_SPAN * low:
        return _Column(name, "log", math.log(low), math.log(high), gaps=gaps)
    return _Column(name, "number", low, high, gaps=gaps)


def _number(value: Any) -> float:
    """Return a value as a number; infinite if it is none."""
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        return _UNREADABLE
    return _UNREADABLE if math.isnan(number) else number


def _given(value: Any) -> bool:
    """Return whether a value says anything: not missing, and not nested."""
    return not (value is None or isinstance(value, (dict, list)) or (isinstance(value, float) and math.isnan(value)))


def _text(value: Any) -> str:
    """Return a category's name; empty for what is missing."""
    if isinstance(value, str):
        return value
    return json.dumps(value, default=str) if _given(value) else ""


def _natural(text: str) -> list[tuple[bool, float, str]]:
    """Order ``sample10`` after ``sample9``."""
    return [(part.isdecimal(), float(part) if part.isdecimal() else 0.0, part) for part in re.split(r"(\d+)", text)]


def _codes(column: _Column) -> dict[str, float]:
    codes = {text: float(code) for code, text in enumerate(column.values)}
    return codes | dict.fromkeys(column.tail, float(len(column.values)))


def _encode(column: _Column, value: Any, codes: Mapping[str, float] | None) -> float:
    if not _given(value):
        return math.nan
    if codes is not None:
        text = _text(value)
        return codes.get(text, len(column.values) + 1.0) if text else math.nan
    number = _number(value)
    if column.name in _MEASURED and not 0 <= number < math.inf:
        # No size and no count, so nothing is known.
        return math.nan
    if column.kind == "size":
        return math.log1p(number)
    if column.kind == "log":
        return math.log(number) if number > 0 else -_UNREADABLE
    return number


def _beyond(column: _Column, value: float) -> bool:
    if math.isnan(value):
        return False
    if column.kind == "category":
        return value > len(column.values)
    # What never varied may be off by a tenth of itself.
    slack = _SLACK * ((column.high - column.low) or (1.0 if column.kind in {"size", "log"} else abs(column.high)))
    return not column.low - slack <= value <= column.high + slack
