"""What is known of one task: its latest attempts, and how memory and time are distributed by what is known of it."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from scalable.advisors import Observation
from scalable.errors import ScalableError
from scalable.ml.features import FeatureEncoder
from scalable.ml.ladder import USUAL_EXCESS, Ladders, build, excess_of
from scalable.ml.local import Like, Table, fit_like
from scalable.ml.models import Location, rises

__all__ = ["Fitted", "Prediction", "TaskModel", "fit", "own_features"]

Floats = NDArray[np.float64]
Fitter = Callable[[Floats, Floats, Sequence[int], Sequence[int]], Location]
"""Fits a model to features and values; columns that may be monotone, and columns of codes."""

LATEST: Final = 2_000
"""Attempts that are learned from: the latest."""
_GROWTH: Final = 1.1
_FEWEST: Final = 4
_FEW_RUNS: Final = 3
_FEW_RANKS: Final = 60
_JUDGED: Final = 200
_KNOWN_FIELDS: Final = {"input_files": "n_inputs"} | {
    name: name for name in ("input_bytes", "n_inputs", "arg_bytes", "n_args", "threads", "component")
}
_SURPRISE: Final = 0.95
_SURPRISES: Final = 3
_OF_LATEST: Final = 4
_BEFORE_DRIFT: Final = 0.05
_CONFIRMED: Final = 8
_DOUBTED: Final = 0.02
_STEP: Final = 0.1
_CAUTION: Final = (1.0, 6.0)
_DRIFT_WITHIN: Final = 200
_ENOUGH_BEFORE: Final = 20
_SHORTEST_S: Final = 1e-3
_PAST_THE_LAST: Final = 1.25
_RISING: Final = 0.9
_STEPS: Final = tuple((step + 0.5) / 15 for step in range(15))
_FAINT: Final = 1e-3
_OPEN: Final = 50
_LATELY: Final = 20
_GIVEN_UP: Final = 100


def own_features(features: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return features without what telemetry has in columns of its own."""
    return {name: value for name, value in features.items() if name not in {"input_bytes", "input_files"}}


@dataclass(frozen=True, slots=True)
class Prediction:
    """What one task is predicted to need.

    Attributes
    ----------
    ladder : Ladders
        Sizes to try, in units of ``unit_bytes``.
    memory_bytes : float
        The first of them.
    confidence : float
        Probability that it suffices.
    duration_s, duration_high_s : float or None
        Seconds: the median, and what 95 % do not exceed.
    """

    ladder: Ladders
    unit_bytes: float
    memory_bytes: float
    confidence: float
    duration_s: float | None
    duration_high_s: float | None

    def next_bytes(self, failed: float) -> float | None:
        """Return the bytes to try after these were too few; ``None`` beyond all that is foreseen."""
        after = self.ladder.after(failed / self.unit_bytes)
        return None if after is None else after * self.unit_bytes


@dataclass(slots=True, eq=False)
class Fitted:
    """What was learned from a task's attempts.

    Attributes
    ----------
    encoder : FeatureEncoder
        From what is known of a task to numbers.
    memory, duration : Like
        How bytes and seconds are distributed.
    attempts, runs : int
        From how many of them.
    caution : float
        By how much more often than predicted a size was too small, for runs that were held back.
    coverage : float
        For which share of the tasks that were held back the predicted memory sufficed.
    claimed : float
        For which share it was predicted to.
    rising : mapping of int to array
        Size columns of which more means more memory in the data, with values in their range.
    shared : bool
        Whether the peaks are of workers that ran several tasks at a time.
    """

    encoder: FeatureEncoder
    memory: Like
    duration: Like | None
    attempts: int
    runs: int
    caution: float = 1.0
    coverage: float = math.nan
    claimed: float = math.nan
    rising: Mapping[int, Floats] = field(default_factory=dict)
    shared: bool = False

    @property
    def uses(self) -> frozenset[str]:
        """Names of the features by which memory is predicted."""
        names = self.encoder.names
        return frozenset(names[column] for column in self.memory.columns)

    def to_arrays(self) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
        """Return it as arrays, and the rest as JSON."""
        arrays: dict[str, NDArray[Any]] = {}
        meta: dict[str, Any] = {
            "encoder": self.encoder.to_json(),
            "numbers": [self.attempts, self.runs, self.caution, self.shared],
            "measured": None if math.isnan(self.coverage) else [self.coverage, self.claimed],
        }
        arrays |= {f"rising.{column}": steps for column, steps in self.rising.items()}
        for name, like in (("memory", self.memory), ("duration", self.duration)):
            if like is not None:
                own, meta[name] = like.to_arrays()
                arrays |= {f"{name}.{key}": array for key, array in own.items()}
        return arrays, meta

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[Any]], meta: Mapping[str, Any]) -> Fitted:
        """Return what :meth:`to_arrays` gave.

        Raises
        ------
        ScalableError
            If something is missing.
        """

        def like(name: str) -> Like:
            own = {key.removeprefix(f"{name}."): one for key, one in arrays.items() if key.startswith(f"{name}.")}
            return Like.from_arrays(own, meta[name])

        try:
            attempts, runs, caution, shared = meta["numbers"]
            coverage, claimed = meta["measured"] or (math.nan, math.nan)
            encoder = FeatureEncoder.from_json(meta["encoder"])
            duration = like("duration") if "duration" in meta else None
            steps = {key.removeprefix("rising."): one for key, one in arrays.items() if key.startswith("rising.")}
            rising = {int(column): one for column, one in steps.items()}
            return cls(encoder, like("memory"), duration, attempts, runs, caution, coverage, claimed, rising, shared)
        except (KeyError, TypeError, ValueError) as error:
            raise ScalableError(f"a stored model is incomplete: {error}") from error


def fit(seen: Sequence[Observation], model: Fitter | None, drift_at: int | None = None) -> Fitted | None:
    """Learn from a task's attempts; ``None`` of fewer than four with a measured peak.

    Parameters
    ----------
    seen : sequence of Observation
        Oldest first.
    model : callable, optional
        Fits a model to features and values.
    drift_at : int, optional
        From which of them on the task needs more than before; those before hardly count.
    """
    peaks = np.array([_number(one.peak_bytes) for one in seen])
    durations = np.maximum([_number(one.duration_s) for one in seen], _SHORTEST_S)
    known = peaks > 0
    if known.sum() < _FEWEST:
        return None
    own = known & np.array([one.exclusive for one in seen])
    shared = bool(own.sum() < max(_FEWEST, known.sum() / 2))
    known = known if shared else own
    encoder = FeatureEncoder.fit(seen)
    rows = encoder.rows(seen)
    counts = np.ones(len(seen))
    if drift_at is not None:
        counts[:drift_at] = _before_drift(drift_at, len(seen))
    runs = np.unique([one.run_id for one in seen], return_inverse=True)[1]
    kinds = {"categories": frozenset(encoder.category_columns), "logged": frozenset(encoder.log_columns)}
    held = np.where(np.isfinite(durations), durations, np.nanmedian(durations) if np.isfinite(durations).any() else 1.0)
    places = np.flatnonzero(known)

    def fit_memory() -> Like:
        return _fit_memory(
            rows[known],
            peaks[known],
            seconds=held[known],
            counts=counts[known],
            kinds=kinds,
            encoder=encoder,
            model=model,
        )

    memory = fit_memory()
    if drift_at is None and (shift := _shift(memory)) is not None:
        start = int(places[len(places) - len(memory) + shift])
        counts[:start] = _before_drift(start, len(seen))
        memory = fit_memory()
    timed = np.isfinite(durations)
    duration = None
    if timed.sum() >= _FEWEST:
        table = Table(rows[timed], durations[timed], counts[timed], by_size=False, **kinds)
        duration = fit_like(table, _duration_loss(table.latest()), _with(model, encoder))
    fitted = Fitted(encoder, memory, duration, len(seen), int(runs.max()) + 1, shared=shared)
    fitted.rising = {
        column: np.nanquantile(rows[known, column], _STEPS)
        for column in encoder.size_columns
        if column in memory.columns and rises(rows[known, column], np.log(peaks[known]), _RISING)
    }
    _hold_back(fitted, rows[known], peaks[known], runs[known])
    return fitted


def _with(model: Fitter | None, encoder: FeatureEncoder) -> Callable[[Floats, Floats], Location] | None:
    if model is None:
        return None
    sizes, codes = encoder.size_columns, encoder.category_columns
    return lambda rows, values: model(rows, values, sizes, codes)


def _number(value: float | None) -> float:
    return math.nan if value is None else float(value)


def _cost(seconds: Floats) -> Floats:
    # How long the next one takes is not known: half of what it took, half of what they take.
    cost: Floats = 0.5 * seconds + 0.5 * seconds.mean()
    return cost


def _fit_memory(
    rows: Floats,
    peaks: Floats,
    *,
    seconds: Floats,
    counts: Floats,
    kinds: Mapping[str, Any],
    encoder: FeatureEncoder,
    model: Fitter | None,
) -> Like:
    table = Table(rows, peaks, _cost(seconds) * counts, **kinds).latest()
    held = (seconds * counts)[-len(table) :]

    def loss(ratios: Floats, weights: Floats, located: Floats, judged: NDArray[np.intp]) -> float:
        wasted = build(ratios, weights).waste(table.values[judged] / located[judged])
        return float((wasted * located[judged] * held[judged]).sum())

    return fit_like(table, loss, _with(model, encoder))


def _duration_loss(table: Table) -> Callable[[Floats, Floats, Floats, NDArray[np.intp]], float]:
    logs = np.log(table.values)

    def loss(ratios: Floats, weights: Floats, located: Floats, judged: NDArray[np.intp]) -> float:
        reached = np.cumsum(weights, axis=1)
        middle = ratios[np.argmax(reached >= 0.5 * (1 - 1e-12) * reached[:, -1:], axis=1)]
        errors = np.abs(np.log(middle * located[judged]) - logs[judged])
        return float((np.minimum(errors, 1.5) * table.cost[judged]).sum())

    return loss


def _before_drift(start: int, count: int) -> float:
    """Return what each attempt before a change counts: together a twentieth of those after it, once these are some."""
    after = count - start
    return _BEFORE_DRIFT * after / max(start, 1) if after >= _CONFIRMED else _DOUBTED


def _shift(like: Like) -> int | None:
    """Return from which task on the latest need more than those before, by their location; ``None`` if they do not.

    They do if three quarters of them lie above nearly all of two hundred before.
    """
    ratios = np.empty(len(like))
    ratios[like.places] = like.ratios
    found: tuple[float, int] | None = None
    for start in range(max(_ENOUGH_BEFORE, len(ratios) - _DRIFT_WITHIN), len(ratios) - _SURPRISES + 1):
        before = np.quantile(ratios[max(0, start - _DRIFT_WITHIN) : start], (0.5, _SURPRISE))
        low, middle = np.quantile(ratios[start:], (0.25, 0.5))
        if low > 1.05 * before[1] and (found is None or middle / before[0] > found[0]):
            found = float(middle / before[0]), start
    return None if found is None else found[1]


def _hold_back(fitted: Fitted, rows: Floats, peaks: Floats, runs: NDArray[np.intp]) -> None:
    """Measure how often the predicted memory suffices for tasks of runs that nothing is learned from.

    With fewer than three runs it is each task that is held back, not its run.
    """
    like = fitted.memory
    rows, peaks, runs = rows[-len(like) :], peaks[-len(like) :], runs[-len(like) :]
    judged = np.arange(max(0, len(peaks) - _JUDGED), len(peaks))
    groups = runs if len(np.unique(runs)) >= _FEW_RUNS else np.arange(len(peaks))
    apart = groups[judged][:, None] != groups[like.places][None, :]
    weights = np.where(apart, 1.0, 1e-12) * like.weights
    for kernel in like.kernels:
        weights = weights * kernel.weigh(like.rows[:, kernel.column], rows[judged, kernel.column])
    first, sure = build(like.ratios, weights).first()
    enough = first * like.location.at(rows[judged]) >= peaks[judged]
    fitted.coverage, fitted.claimed = float(enough.mean()), float(sure.mean())
    # One more of each, so that few tasks change little.
    missed, expected = float(np.sum(~enough)), float(np.sum(1.0 - sure))
    fitted.caution = float(np.clip((missed + 1.0) / (expected + 1.0), 1.0, _CAUTION[1]))


@dataclass(slots=True)
class TaskModel:
    """One task: its latest attempts, what was learned from them, and when to learn again.

    Attributes
    ----------
    seen : deque of Observation
        The latest attempts, oldest first.
    fitted : Fitted or None
        What was learned.
    caution : float
        By how much more often than predicted a size was too small of late.
    total, observed : int
        Attempts taken in so far, and those of them that ended since the history was read.
    drift_total : int or None
        How many had been when the task began to need more than before.
    usual : float
        By how much the upper peaks of other tasks exceed their others, in logarithms.
    feature_names : set of str
        Names of the user's features.
    """

    name: str
    seen: deque[Observation] = field(default_factory=lambda: deque(maxlen=LATEST))
    fitted: Fitted | None = None
    caution: float = 1.0
    total: int = 0
    observed: int = 0
    drift_total: int | None = None
    usual: float = USUAL_EXCESS
    feature_names: set[str] = field(default_factory=set)
    _open: deque[tuple[int, Observation]] = field(default_factory=lambda: deque(maxlen=_OPEN))
    _next: int = _FEWEST
    _before: Fitted | None = None
    _above: list[bool] = field(default_factory=list)
    _surprises: deque[bool] = field(default_factory=lambda: deque(maxlen=_OF_LATEST))

    @property
    def due(self) -> bool:
        """Whether enough is new to learn again."""
        return self.total >= self._next

    @property
    def drift_at(self) -> int | None:
        """From which of the attempts on the task needs more than before."""
        if self.drift_total is None:
            return None
        place = self.drift_total - (self.total - len(self.seen))
        return place if place > 0 else None

    def described(self, target: str | None, features: Mapping[str, Any] | None) -> Observation:
        """Return what is known of a task that is still to run, in the form of one that ran.

        Parameters
        ----------
        target : str
            Where it is to run.
        features : mapping, optional
            What is known of its input. ``input_bytes``, ``n_inputs`` (or ``input_files``),
            ``arg_bytes``, ``n_args``, ``threads`` and ``component`` mean what telemetry records
            under these names, but where the user's features have such a name.

        Raises
        ------
        ScalableError
            If they are no mapping.
        """
        if features is not None and not isinstance(features, Mapping):
            raise ScalableError(f"features of task '{self.name}' must be a mapping, not {features!r}")
        facts = {
            _KNOWN_FIELDS[name]: value
            for name, value in (features or {}).items()
            if name in _KNOWN_FIELDS and name not in self.feature_names
        }
        return Observation(
            task=self.name, target=target or "", outcome="completed", features=own_features(features or {}), **facts
        )

    @staticmethod
    def given(one: Observation) -> frozenset[str]:
        """Return the names of the columns that a description fills."""
        facts = {name for name in ("input_bytes", "n_inputs", "arg_bytes", "n_args") if getattr(one, name)}
        return frozenset({*facts, *(f"features.{name}" for name in one.features)})

    def extend(self, attempts: Iterable[Observation]) -> None:
        """Take in past attempts, without a prediction of each."""
        for one in attempts:
            self._keep(one)

    def observe(self, one: Observation) -> None:
        """Take in an attempt that ended just now, and compare it with what was predicted."""
        self.observed += 1
        one = _sane(one)
        self._confirm(one)
        fitted = self.fitted
        if fitted is not None:
            if one.outcome == "completed" and one.peak_bytes and (one.exclusive or fitted.shared):
                self._compare(fitted, fitted.encoder.row(one), float(one.peak_bytes))
            self._absorb(fitted, one)
        self._keep(one)

    def _absorb(self, fitted: Fitted, one: Observation) -> None:
        """Let an attempt count before it is learned from with all others."""
        if one.outcome != "completed":
            return
        row = fitted.encoder.row(one)
        if one.peak_bytes and (one.exclusive or fitted.shared):
            fitted.memory.add(row, float(one.peak_bytes), self._typical_cost(one))
        if one.duration_s is not None and fitted.duration is not None:
            fitted.duration.add(row, max(one.duration_s, _SHORTEST_S), 1.0)

    def install(self, fitted: Fitted | None, total: int) -> None:
        """Take over what was learned when so many attempts had been seen."""
        self._next = max(total + 1, min(math.ceil(total * _GROWTH), total + LATEST // 4))
        if fitted is None:
            return
        if self.fitted is None:
            self.caution = fitted.caution
        self.fitted = fitted
        missed = min(self.total - total, len(self.seen))
        for one in list(self.seen)[len(self.seen) - missed :] if missed else ():
            self._absorb(fitted, one)

    def _keep(self, one: Observation) -> None:
        one = _sane(one)
        if one.outcome == "out_of_memory":
            # What it had is a lower bound, if nobody saw how much it had taken.
            if had := one.peak_bytes or one.asked_bytes:
                self._open.append((self.total, replace(one, peak_bytes=had, duration_s=None)))
            return
        if self._open:
            self._open = deque((entry for entry in self._open if not _came_through(entry[1], one)), _OPEN)
        self._append(one)
        while self._open and self.total - self._open[0][0] > _GIVEN_UP:
            # Nothing like it came through since: it needs more than anybody knows.
            _, failed = self._open.popleft()
            self._append(replace(failed, peak_bytes=2 * (failed.peak_bytes or 0.0)))

    def _append(self, one: Observation) -> None:
        self.seen.append(one)
        self.feature_names.update(one.features)
        self.total += 1

    def history(self) -> list[Observation]:
        """Return what is learned from: the latest attempts that came through."""
        return list(self.seen)

    def _typical_cost(self, one: Observation) -> float:
        own = one.duration_s if one.duration_s is not None else math.nan
        recent = [held for held in (other.duration_s for other in list(self.seen)[-50:]) if held is not None]
        mean = sum(recent) / len(recent) if recent else 1.0
        return 0.5 * (own if math.isfinite(own) else mean) + 0.5 * mean

    def _compare(self, fitted: Fitted, row: Floats, peak: float) -> None:
        like = fitted.memory
        weights = like.weigh(row)
        ladder = build(like.ratios, weights[None, :], self.caution, 0.0, self.usual)
        first, sure = ladder.first()
        unit = like.at(row)
        missed = peak > first[0] * unit
        self.caution = float(np.clip(self.caution * math.exp(_STEP * (missed - (1.0 - sure[0]))), *_CAUTION))
        rank = float(weights[: int(np.searchsorted(like.ratios, peak / unit))].sum() / weights.sum())
        self._surprises.append(rank >= _SURPRISE and peak > 1.05 * self._bound(like, row, weights))
        if self._before is None and sum(self._surprises) >= _SURPRISES:
            self.drift_total = self.total - len(self._surprises) + 1 + list(self._surprises).index(True)
            self._before, self._above = fitted, []
            self._next = self.total + 1

    def _confirm(self, one: Observation) -> None:
        """Take a change back if what comes after it is mostly as before: it was chance, or is over."""
        if self._before is None or not one.peak_bytes or one.outcome != "completed":
            return
        like, row = self._before.memory, self._before.encoder.row(one)
        self._above.append(float(one.peak_bytes) > self._bound(like, row, like.weigh(row)))
        if len(self._above) >= _SURPRISES and sum(self._above) < 0.5 * len(self._above):
            self._before, self.drift_total, self._next = None, None, self.total + 1
            self._surprises.clear()
        elif len(self._above) >= _LATELY:
            # Believed for good; the next change is one from here.
            self._before = None
            self._surprises.clear()

    @staticmethod
    def _bound(like: Like, row: Floats, weights: Floats) -> float:
        reached = np.cumsum(weights)
        place = int(np.searchsorted(reached, _SURPRISE * reached[-1]))
        return like.at(row) * float(like.ratios[min(place, len(like.ratios) - 1)])

    def excess(self) -> float | None:
        """Return by how much this task's upper peaks exceed the others; ``None`` of too few."""
        peaks = np.array([one.peak_bytes for one in self.seen if one.peak_bytes])
        return excess_of(peaks) if len(peaks) > _FEWEST else None

    def _weighed(self, row: Floats) -> tuple[Floats, Floats, float]:
        """Return ratios and weights for one task, and its location; what ran out of memory of late included.

        What such an attempt counts goes to all that needed more than it had, as censored
        values' in Efron's estimator; if nothing did, to twice what it had. For a while it counts as
        one of the latest twenty: it may be the first of many.
        """
        assert self.fitted is not None
        like = self.fitted.memory
        ratios, weights, unit = like.ratios, like.weigh(row), like.at(row)
        for since, one in self._open:
            other = self.fitted.encoder.row(one)
            ratio = float(one.peak_bytes or 0.0) / like.at(other)
            counts = float(np.mean(weights))
            if self.total - since <= _LATELY:
                counts = max(counts, float(np.sum(weights)) / _LATELY)
            own = counts * math.prod(
                float(kernel.weigh(other[kernel.column : kernel.column + 1], float(row[kernel.column]))[0])
                for kernel in like.kernels
            )
            place = int(np.searchsorted(ratios, ratio, side="right"))
            above = float(weights[place:].sum())
            if above > _FAINT * float(weights.sum()):
                weights[place:] *= 1.0 + own / above
            else:
                ratios, weights = np.append(ratios[:place], 2 * ratio), np.append(weights[:place], own)
        return ratios, weights, unit

    def _of_smaller(self, row: Floats, least: float) -> float:
        """Return the most bytes that this task is advised at a smaller size, where more means more; 0 elsewhere."""
        assert self.fitted is not None
        smaller = []
        for column, steps in self.fitted.rising.items():
            for step in steps[steps < row[column]]:
                changed = row.copy()
                changed[column] = step
                smaller.append(changed)
        if not smaller:
            return 0.0
        like, rows = self.fitted.memory, np.array(smaller)
        first, _ = build(like.ratios, like.weigh_each(rows), self.caution, least, self.usual).first()
        return float((first * like.location.at(rows)).max())

    def predict(self, one: Observation, *, least: float, high: float, ranks: Sequence[Floats]) -> Prediction:
        """Return what a task needs; as :meth:`predict_row`, with what is known of the task not encoded yet."""
        assert self.fitted is not None
        return self.predict_row(self.fitted.encoder.row(one), least=least, high=high, ranks=ranks)

    def predict_row(self, row: Floats, *, least: float, high: float, ranks: Sequence[Floats]) -> Prediction:
        """Return what a task needs.

        Parameters
        ----------
        row : array
            What is known of it, encoded.
        least : float
            Probability with which the memory is to suffice at the least.
        high : float
            For which share of the tasks the upper bound of the duration holds.
        ranks : sequence of array
            :attr:`Like.ranks` of other tasks' durations, which help out where this task has few.
        """
        fitted = self.fitted
        assert fitted is not None
        ratios, weights, unit = self._weighed(row)
        ladder = build(ratios, weights[None, :], self.caution, least, self.usual)
        memory, sure = (float(one[0]) for one in ladder.first())
        memory *= unit
        below = self._of_smaller(row, least)
        if below > memory:
            memory, sure = below, ladder.sufficing(below / unit)
        middle = upper = None
        if fitted.duration is not None:
            middle = fitted.duration.quantile(row, 0.5)
            level = _level(fitted.duration.ranks, ranks, high)
            upper = fitted.duration.quantile(row, level) * (_PAST_THE_LAST if level > 1 else 1.0)
            upper = max(upper, middle)
        return Prediction(ladder, unit, memory, sure, middle, upper)

    def predict_of_few(self, least: float) -> Prediction | None:
        """Return what a task needs of which there are fewer than four attempts, by how others scatter."""
        peaks = np.array([one.peak_bytes for one in self.seen if one.peak_bytes])
        peaks = np.append(peaks, [2 * (one.peak_bytes or 0.0) for _, one in self._open])
        if not len(peaks):
            return None
        unit = float(np.exp(np.log(peaks).mean()))
        ladder = build(np.sort(peaks / unit), np.ones((1, len(peaks))), 1.0, least, self.usual)
        first, sure = ladder.first()
        seconds = [one.duration_s for one in self.seen if one.duration_s is not None]
        middle = float(np.median(seconds)) if seconds else None
        upper = max(seconds) * 2.0 if seconds else None
        # That few guarantee no more.
        guaranteed = min(float(sure[0]), len(peaks) / (len(peaks) + 1))
        return Prediction(ladder, unit, float(first[0]) * unit, guaranteed, middle, upper)


def _came_through(failed: Observation, one: Observation) -> bool:
    """Return whether an attempt is that of a task which had run out of memory before."""
    return (
        (one.peak_bytes or 0.0) > (failed.peak_bytes or 0.0)
        and one.run_id == failed.run_id
        and one.features == failed.features
        and one.input_bytes == failed.input_bytes
        and one.arg_bytes == failed.arg_bytes
    )


def _sane(one: Observation) -> Observation:
    """Return an attempt without numbers that are none, and with the user's features only."""
    peak, seconds = (
        value if value is not None and math.isfinite(value) and value >= 0 else None
        for value in (one.peak_bytes, one.duration_s)
    )
    return replace(one, peak_bytes=peak or None, duration_s=seconds, features=own_features(one.features))


def _level(own: Floats, others: Sequence[Floats], share: float) -> float:
    """Return the part of a predicted distribution below which a share of the tasks lies, as measured.

    Where a task lies in its own predicted distribution does not depend on the task, so that
    others' ranks stand in where there are few.
    """
    ranks = own
    if len(own) < _FEW_RANKS and others:
        ranks = np.sort(np.concatenate([own, *others]))
    place = math.ceil((len(ranks) + 1) * share - 1e-9)
    return float(ranks[place - 1]) if place <= len(ranks) else 2.0
