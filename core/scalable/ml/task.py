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

__all__ = ["Fitted", "Prediction", "TaskModel", "described", "fit"]

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
_BEFORE_DRIFT: Final = 0.02
_STEP: Final = 0.1
_CAUTION: Final = (1.0, 6.0)
_SHORTEST_S: Final = 1e-3
_PAST_THE_LAST: Final = 1.25
_OPEN: Final = 50
_RISING: Final = 0.9
_STEPS: Final = (0.05, 0.2, 0.35, 0.5, 0.65, 0.8, 0.95)
_FAINT: Final = 1e-3
_LATELY: Final = 20


def described(task: str, target: str | None, features: Mapping[str, Any] | None) -> Observation:
    """Return what is known of a task that is still to run, in the form of one that ran.

    Parameters
    ----------
    task, target : str
        Name of the task, and where it is to run.
    features : mapping, optional
        What is known of its input. ``input_bytes``, ``n_inputs`` (or ``input_files``),
        ``arg_bytes``, ``n_args``, ``threads`` and ``component`` mean what telemetry records
        under these names.
    """
    own = {name: value for name, value in (features or {}).items() if name not in _KNOWN_FIELDS}
    facts = {_KNOWN_FIELDS[name]: value for name, value in (features or {}).items() if name in _KNOWN_FIELDS}
    return Observation(task=task, target=target or "", outcome="completed", features=own, **facts)


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
        counts[:drift_at] = _BEFORE_DRIFT
    runs = np.unique([one.run_id for one in seen], return_inverse=True)[1]
    kinds = {"categories": frozenset(encoder.category_columns), "logged": frozenset(encoder.log_columns)}
    held = np.where(np.isfinite(durations), durations, np.nanmedian(durations) if np.isfinite(durations).any() else 1.0)
    memory = _fit_memory(
        rows[known],
        peaks[known],
        seconds=held[known],
        counts=counts[known],
        kinds=kinds,
        encoder=encoder,
        model=model,
    )
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
    """

    name: str
    seen: deque[Observation] = field(default_factory=lambda: deque(maxlen=LATEST))
    fitted: Fitted | None = None
    caution: float = 1.0
    total: int = 0
    observed: int = 0
    drift_total: int | None = None
    usual: float = USUAL_EXCESS
    _open: deque[Observation] = field(default_factory=lambda: deque(maxlen=_OPEN))
    _next: int = _FEWEST
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

    def extend(self, attempts: Iterable[Observation]) -> None:
        """Take in past attempts, without a prediction of each."""
        for one in attempts:
            self._keep(one)

    def observe(self, one: Observation) -> None:
        """Take in an attempt that ended just now, and compare it with what was predicted."""
        self.observed += 1
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
        self._next = max(total + 1, math.ceil(total * _GROWTH))
        if fitted is None:
            return
        if self.fitted is None:
            self.caution = fitted.caution
        self.fitted = fitted
        missed = min(self.total - total, len(self.seen))
        for one in list(self.seen)[len(self.seen) - missed :] if missed else ():
            self._absorb(fitted, one)

    def _keep(self, one: Observation) -> None:
        if one.outcome == "out_of_memory":
            # What it had is a lower bound, if nobody saw how much it had taken.
            if had := one.peak_bytes or one.asked_bytes:
                self._open.append(replace(one, peak_bytes=had))
            return
        # Its task came through.
        if self._open and one.peak_bytes:
            for other in [other for other in self._open if _same(other, one)]:
                self._open.remove(other)
        self.seen.append(one)
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
        if sum(self._surprises) >= _SURPRISES:
            self.drift_total = self.total - len(self._surprises) + 1 + list(self._surprises).index(True)
            self._surprises.clear()
            self._next = self.total + 1

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
        values' in Efron's estimator; if nothing did, to twice what it had. It counts as one of
        the latest twenty: it may be the first of many.
        """
        assert self.fitted is not None
        like = self.fitted.memory
        ratios, weights, unit = like.ratios, like.weigh(row), like.at(row)
        for one in self._open:
            other = self.fitted.encoder.row(one)
            ratio = float(one.peak_bytes or 0.0) / like.at(other)
            own = max(float(np.mean(weights)), float(np.sum(weights)) / _LATELY) * math.prod(
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
        peaks = np.append(peaks, [2 * (one.peak_bytes or 0.0) for one in self._open])
        if not len(peaks):
            return None
        unit = float(np.exp(np.log(peaks).mean()))
        ladder = build(np.sort(peaks / unit), np.ones((1, len(peaks))), 1.0, least, self.usual)
        first, sure = ladder.first()
        seconds = [one.duration_s for one in self.seen if one.duration_s is not None]
        middle = float(np.median(seconds)) if seconds else None
        upper = max(seconds) * 2.0 if seconds else None
        return Prediction(ladder, unit, float(first[0]) * unit, float(sure[0]), middle, upper)


def _same(one: Observation, other: Observation) -> bool:
    return (
        one.run_id == other.run_id
        and one.features == other.features
        and one.input_bytes == other.input_bytes
        and one.arg_bytes == other.arg_bytes
    )


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
