"""How well a learned advisor would have done for runs that it did not learn from, and what moves its answer."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np
from numpy.typing import NDArray

from scalable.advisors import Observation
from scalable.advisors.order import upper
from scalable.ml.task import Fitter, Prediction, TaskModel, fit
from scalable.units import format_bytes

__all__ = ["Evaluation", "Explanation", "TaskEvaluation", "evaluate_task", "explain_task"]

Floats = NDArray[np.float64]

_FOLDS: Final = 5
_CONFIDENCE: Final = 0.95
_BYTE_SECONDS: Final = 1e9 * 3600.0


@dataclass(frozen=True, slots=True)
class TaskEvaluation:
    """How the model of one task did for tasks that were held back.

    Attributes
    ----------
    task : str
        Its name.
    held_back : {"runs", "attempts"}
        Whether whole runs were held back, or, of a single run, attempts.
    runs, attempts : int
        Runs of the task, and attempts that were predicted.
    predicted, sufficed : float
        The share of attempts for which the memory was predicted to suffice, and did.
    waste_gb_h, quantile_waste_gb_h : float
        Wasted gigabytes (of 10**9 bytes) times hours, failed attempts included: with this
        model, and with the 95th percentile of the peaks, doubled after each failure.
    duration_error : float
        Median of ``|predicted - measured| / measured``; NaN if durations are not known.
    duration_sufficed : float
        The share of durations below the upper bound that is stated to hold for 95 %.
    """

    task: str
    held_back: str
    runs: int
    attempts: int
    predicted: float
    sufficed: float
    waste_gb_h: float
    quantile_waste_gb_h: float
    duration_error: float
    duration_sufficed: float


@dataclass(frozen=True, slots=True)
class Evaluation:
    """How the models of all tasks did for tasks that were held back.

    Attributes
    ----------
    tasks : tuple of TaskEvaluation
        Those with enough attempts, in the order of their numbers.
    left_out : tuple of str
        Names of the others.
    """

    tasks: tuple[TaskEvaluation, ...]
    left_out: tuple[str, ...] = ()

    @property
    def confidence(self) -> float:
        """The share of all attempts for which the predicted memory sufficed; NaN of none."""
        count = sum(one.attempts for one in self.tasks)
        return sum(one.sufficed * one.attempts for one in self.tasks) / count if count else math.nan

    def __str__(self) -> str:
        if not self.tasks:
            return "no task has enough attempts to hold some of them back"
        lines = [
            "task  attempts  sufficed (predicted)  waste GB·h (of the 95th percentile)  duration error  below bound"
        ]
        lines += [
            f"{one.task}  {one.attempts} of {one.runs} runs  {one.sufficed:.1%} ({one.predicted:.1%})  "
            f"{one.waste_gb_h:.3g} ({one.quantile_waste_gb_h:.3g})  "
            f"{one.duration_error:.1%}  {one.duration_sufficed:.1%}"
            for one in self.tasks
        ]
        return "\n".join(lines)


@dataclass(frozen=True, slots=True)
class Explanation:
    """Which features moved a recommendation.

    Attributes
    ----------
    task : str
        The task's name.
    typical_bytes : int or None
        What the task would be advised if all its features had their usual values.
    memory, duration : mapping of str to float
        By what factor each feature moves the bytes, and the seconds, against its usual value;
        the strongest first. Features without any influence are left out.
    reason : str
        Why there is nothing to explain; empty if there is.
    """

    task: str
    typical_bytes: int | None = None
    memory: Mapping[str, float] = field(default_factory=dict)
    duration: Mapping[str, float] = field(default_factory=dict)
    reason: str = ""

    def __str__(self) -> str:
        if self.reason:
            return f"{self.task}: {self.reason}"
        moved = [f"{name} x{factor:.2f}" for name, factor in self.memory.items()]
        usual = "unknown" if self.typical_bytes is None else format_bytes(math.ceil(self.typical_bytes / 2**20) * 2**20)
        return f"{self.task}: usually {usual}; memory moved by {', '.join(moved) or 'no feature'}"


def evaluate_task(name: str, seen: Sequence[Observation], model: Fitter | None) -> TaskEvaluation | None:
    """Learn from some of a task's runs and predict the others; ``None`` of too few attempts.

    Parameters
    ----------
    name : str
        The task.
    seen : sequence of Observation
        Its attempts.
    model : callable
        Fits a model to features and values.
    """
    runs = {run: number for number, run in enumerate(sorted({one.run_id for one in seen}))}
    whole = len(runs) > 1
    fold = np.array([runs[one.run_id] if whole else place for place, one in enumerate(seen)]) % _FOLDS
    scores = _Scores()
    for number in np.unique(fold):
        rest = [one for one, its in zip(seen, fold, strict=True) if its != number]
        fitted = fit(rest, model)
        if fitted is None:
            continue
        judged = TaskModel(name, fitted=fitted, caution=fitted.caution)
        bound = upper(sorted(one.peak_bytes for one in rest if one.peak_bytes), _CONFIDENCE)[0]
        for one in (one for one, its in zip(seen, fold, strict=True) if its == number):
            if one.outcome == "completed" and one.peak_bytes:
                scores.take(one, judged.predict(one, least=0.0, high=_CONFIDENCE, ranks=()), bound)
    return scores.summary(name, "runs" if whole else "attempts", len(runs))


class _Scores:
    def __init__(self) -> None:
        self._sure: list[float] = []
        self._enough: list[bool] = []
        self._waste = 0.0
        self._bound_waste = 0.0
        self._errors: list[float] = []
        self._below: list[bool] = []

    def take(self, one: Observation, prediction: Prediction, bound: float) -> None:
        peak = float(one.peak_bytes or 0.0)
        held = one.duration_s if one.duration_s is not None else 0.0
        self._sure.append(prediction.confidence)
        self._enough.append(prediction.memory_bytes >= peak)
        unit = prediction.unit_bytes
        self._waste += float(prediction.ladder.waste(np.array([peak / unit]))[0]) * unit * held
        tries = max(0, math.ceil(math.log2(peak / bound) - 1e-12))
        self._bound_waste += (bound * 2**tries - peak + bound * (2**tries - 1)) * held
        if prediction.duration_s is not None and prediction.duration_high_s is not None and held > 0:
            self._errors.append(abs(prediction.duration_s - held) / held)
            self._below.append(held <= prediction.duration_high_s)

    def summary(self, name: str, held_back: str, runs: int) -> TaskEvaluation | None:
        if not self._sure:
            return None
        return TaskEvaluation(
            name,
            held_back,
            runs,
            len(self._sure),
            float(np.mean(self._sure)),
            float(np.mean(self._enough)),
            self._waste / _BYTE_SECONDS,
            self._bound_waste / _BYTE_SECONDS,
            float(np.median(self._errors)) if self._errors else math.nan,
            float(np.mean(self._below)) if self._below else math.nan,
        )


def explain_task(model: TaskModel, one: Observation) -> Explanation:
    """Return by what factor each feature moves what a task is advised.

    Each is set to its usual value, the median or the most frequent, while the others stay.

    Parameters
    ----------
    model : TaskModel
        Of the task; fitted.
    one : Observation
        What is known of the task.
    """
    fitted = model.fitted
    assert fitted is not None
    usual = _usual(fitted.memory.rows, fitted.encoder.category_columns)
    row = fitted.encoder.row(one)

    def ask(row: Floats) -> Prediction:
        return model.predict_row(row, least=0.0, high=_CONFIDENCE, ranks=())

    here = ask(row)
    memory: dict[str, float] = {}
    duration: dict[str, float] = {}
    for column, feature in enumerate(fitted.encoder.names):
        changed = row.copy()
        changed[column] = usual[column]
        there = ask(changed)
        memory[feature] = here.memory_bytes / there.memory_bytes
        if here.duration_s is not None and there.duration_s:
            duration[feature] = here.duration_s / there.duration_s
    typical = math.ceil(ask(usual).memory_bytes)
    return Explanation(model.name, typical, _strongest(memory.items()), _strongest(duration.items()))


def _usual(rows: Floats, categories: Sequence[int]) -> Floats:
    usual = np.full(rows.shape[1], math.nan)
    for column in range(rows.shape[1]):
        known = rows[:, column][np.isfinite(rows[:, column])]
        if not len(known):
            continue
        if column in categories:
            values, counts = np.unique(known, return_counts=True)
            usual[column] = values[np.argmax(counts)]
        else:
            usual[column] = np.median(known)
    return usual


def _strongest(effects: Iterable[tuple[str, float]]) -> dict[str, float]:
    def strength(effect: tuple[str, float]) -> float:
        return -abs(math.log(effect[1]))

    return {name: factor for name, factor in sorted(effects, key=strength) if abs(math.log(factor)) > 1e-6}
