"""The learned advisor: what a task needs, by what is known of its input."""

from __future__ import annotations

import hashlib
import logging
import math
import os
import threading
from collections.abc import Mapping, Sequence, Set
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import replace
from pathlib import Path
from typing import Any, Final, Literal, Self

import numpy as np
from numpy.typing import NDArray

from scalable.advisors import Observation, Recommendation, ResourceAdvisor, worker_bytes
from scalable.advisors.sizing import walltime_s, walltime_text
from scalable.errors import ScalableError
from scalable.extras import require
from scalable.ml.cache import ModelCache, cache_key
from scalable.ml.judge import Evaluation, Explanation, evaluate_task, explain_task
from scalable.ml.ladder import USUAL_EXCESS
from scalable.ml.models import Location, check_params, fit_location
from scalable.ml.task import LATEST, Fitted, Prediction, TaskModel, fit, own_features
from scalable.telemetry.past import COMPLETED, OUT_OF_MEMORY, Attempts, Past, read_past
from scalable.units import format_bytes

__all__ = ["LearnedAdvisor"]

logger = logging.getLogger(__name__)

Floats = NDArray[np.float64]

_HIGH: Final = 0.95
_RANKS: Final = 30
_UNSURE: Final = 0.15
"""By how much less often than predicted memory may suffice for held-back tasks before the model is not believed."""
_ENOUGH_TO_JUDGE: Final = 20
_FACTS: Final = (
    *("component", "n_args", "arg_bytes", "n_inputs", "input_bytes", "threads"),
    *("cpu_s", "duration_s", "peak_bytes", "exclusive", "asked_bytes"),
)
"""What attempts and observations call alike."""


class LearnedAdvisor:
    """Say what a task needs, learned from what is known of its input and what past runs measured.

    For each task, memory and duration have a location, constant, a trend in the feature that
    tells most, or a model of all features, and are distributed around it as they were for
    tasks like this one. Which of these serves is decided on tasks that were left out. Memory
    is then what wastes least in expectation, over-asking against failed attempts and the
    sizes of their retries (:func:`scalable.ml.ladder.build`).

    Where it cannot know, :class:`scalable.advisors.ResourceAdvisor` answers, and
    ``evidence["fallback"]`` says why: too little that was measured, features outside the range
    seen or not given, or memory that sufficed too rarely for runs that were held back.

    Parameters
    ----------
    past : Past
        What past runs measured.
    model_type : {"gradient_boosting", "random_forest", "linear"}
        The model of all features.
    model_params : mapping, optional
        Its parameters, by scikit-learn's names.
    cache_dir : Path, optional
        Folder of runs beside which fitted models are kept.

    Raises
    ------
    MissingExtra
        If scikit-learn is not installed.
    ScalableError
        If there is no such model, or parameter.

    Examples
    --------
    >>> advisor = LearnedAdvisor.from_history(".scalable/runs")  # doctest: +SKIP
    >>> advisor.recommend("simulate", features={"scenarios": 50}).resources  # doctest: +SKIP
    {'demeter': {'cpus': 8, 'memory': '12G', 'walltime': '00:40:00'}}
    """

    def __init__(
        self,
        past: Past,
        model_type: str = "gradient_boosting",
        model_params: Mapping[str, Any] | None = None,
        *,
        cache_dir: Path | None = None,
    ) -> None:
        require("ml", "sklearn")
        self.model_type = model_type
        self._params = check_params(model_type, model_params)
        self._given = dict(model_params or {})
        self._past = past
        self._resource = ResourceAdvisor(past)
        self._cache = None if cache_dir is None else ModelCache(cache_dir)
        self._lock = threading.RLock()
        self._models: dict[str, TaskModel] = {}
        self._excesses: dict[str, float] = {}
        self._ranks: dict[str, Floats] = {}
        self._refits: dict[str, Future[None]] = {}
        self._pool: ThreadPoolExecutor | None = None
        self._closed = False

    @classmethod
    def from_history(
        cls,
        runs_dir: Path | str | Sequence[Path | str],
        model_type: str = "gradient_boosting",
        model_params: Mapping[str, Any] | None = None,
    ) -> Self:
        """Read one or several folders of runs.

        Parameters
        ----------
        runs_dir : path, or sequence of paths
            The folders; one that does not exist holds no runs. Models are kept in the first.
        model_type : {"gradient_boosting", "random_forest", "linear"}
            The model of all features.
        model_params : mapping, optional
            Its parameters, such as those that :class:`scalable.ml.HyperparameterSearch` found.

        Raises
        ------
        MissingExtra
            If scikit-learn is not installed.
        ScalableError
            If a folder cannot be read, or there is no such model or parameter.
        """
        folders = [runs_dir] if isinstance(runs_dir, str | os.PathLike) else list(runs_dir)
        past = read_past(folders)
        return cls(past, model_type, model_params, cache_dir=Path(folders[0]) if folders else None)

    @property
    def tasks(self) -> tuple[str, ...]:
        """Names of the tasks of which there is a history, those with the most attempts first."""
        return self._resource.tasks

    def recommend(
        self,
        task: str,
        target: str | None = None,
        *,
        features: Mapping[str, Any] | None = None,
        confidence: float | None = None,
    ) -> Recommendation:
        """Return what a task needs.

        Parameters
        ----------
        task : str
            Its name.
        target : str, optional
            Where it is to run; default is anywhere.
        features : mapping, optional
            What is known of its input, as given to ``client.submit(features=...)``;
            ``input_bytes``, ``n_inputs``, ``arg_bytes``, ``n_args`` and ``threads`` as
            telemetry records them.
        confidence : float, optional
            The share of tasks for which the memory is to suffice at the least, by which
            failed attempts are kept rare. By default what wastes least, failed attempts
            included.

        Raises
        ------
        ScalableError
            If there is no history of the task at all.
        """
        base = self._resource.recommend(task, target, confidence=_HIGH if confidence is None else confidence)
        self._prepare(task)
        with self._lock:
            model = self._model(task)
            prediction, reason = self._predict(model, model.described(target, features), confidence or 0.0)
            fitted = model.fitted
        if prediction is None:
            return replace(
                base,
                evidence={**base.evidence, "fallback": reason, "features": dict(features or {})},
                model_type="quantile",
            )
        return self._answer(base, prediction, fitted, reason, features or {})

    def _answer(
        self,
        base: Recommendation,
        prediction: Prediction,
        fitted: Fitted | None,
        reason: str,
        features: Mapping[str, Any],
    ) -> Recommendation:
        shared = base.evidence["peaks"] == "shared" if fitted is None else fitted.shared
        # A peak that was shared holds all tasks of its worker already.
        at_a_time = 1 if shared else int(base.evidence["tasks_at_a_time"])
        resources = {name: dict(one) for name, one in base.resources.items()}
        for one in resources.values():
            one["memory"] = format_bytes(worker_bytes(prediction.memory_bytes, at_a_time))
            if prediction.duration_high_s is not None:
                one["walltime"] = walltime_text(walltime_s(prediction.duration_high_s))
        learned: dict[str, Any] = {
            "method": "least expected waste",
            "percentile": round(100 * prediction.confidence, 2),
            "features": dict(features),
            "peaks": "shared" if shared else "exclusive",
        }
        if reason:
            learned["pooled"] = reason
        if fitted is not None:
            learned |= _how(fitted)
        return Recommendation(
            base.task,
            base.target,
            base.workers,
            resources,
            prediction.confidence,
            {**base.evidence, **learned},
            self.model_type,
            math.ceil(prediction.memory_bytes),
            prediction.duration_s if prediction.duration_s is not None else base.duration_s,
            prediction.duration_high_s if prediction.duration_high_s is not None else base.duration_high_s,
        )

    def retry_bytes(
        self,
        task: str,
        failed_bytes: int,
        *,
        target: str | None = None,
        features: Mapping[str, Any] | None = None,
    ) -> int:
        """Return the bytes with which a task is tried again that ran out of memory.

        The next size that wastes least in expectation, and never less than a quarter more
        where the history does not reach.

        Parameters
        ----------
        task : str
            Its name.
        failed_bytes : int
            Bytes that one task had when it failed.
        target, features
            As for :meth:`recommend`.

        Raises
        ------
        ScalableError
            If there is no history of the task.
        """
        # Whoever asks is the scheduler, which cannot wait for a first model.
        with self._lock:
            model = self._model(task)
            if model.fitted is None and model.due:
                self._schedule(model)
            prediction, _ = self._predict(model, model.described(target, features), 0.0)
            after = None if prediction is None else prediction.next_bytes(float(failed_bytes))
        if after is not None:
            return math.ceil(after)
        return self._resource.retry_bytes(task, failed_bytes)

    def observe(self, attempt: Observation) -> None:
        """Take note of an attempt that ended just now; what was learned follows in the background.

        Parameters
        ----------
        attempt : Observation
            What was measured of it.
        """
        self._resource.observe(attempt)
        with self._lock:
            model = self._model(attempt.task)
            model.observe(attempt)
            if model.due:
                self._schedule(model)

    def evaluate(self) -> Evaluation:
        """Return how well this would have done: learned from some runs, asked for the others.

        Runs are held back whole, so that nothing of a run is learned when it is predicted; of
        a single run, attempts are.
        """
        done, left_out = [], []
        for task in self.tasks:
            with self._lock:
                seen = list(self._model(task).seen)
            found = evaluate_task(task, seen, self._fitter)
            if found is None:
                left_out.append(task)
            else:
                done.append(found)
        return Evaluation(tuple(done), tuple(left_out))

    def explain(self, recommendation: Recommendation) -> Explanation:
        """Return which features moved a recommendation, against their usual values.

        Parameters
        ----------
        recommendation : Recommendation
            From :meth:`recommend`.

        Raises
        ------
        ScalableError
            If there is no history of its task.
        """
        fallback = recommendation.evidence.get("fallback")
        if fallback is not None:
            return Explanation(recommendation.task, reason=f"quantiles of the history answered: {fallback}")
        self._prepare(recommendation.task)
        with self._lock:
            model = self._model(recommendation.task)
            if model.fitted is None:
                return Explanation(recommendation.task, reason="too few attempts to tell what a feature does")
            return explain_task(model, model.described(recommendation.target, recommendation.evidence.get("features")))

    def settle(self) -> None:
        """Wait until all that was observed is learned from."""
        while True:
            with self._lock:
                waiting = list(self._refits.values())
            if not waiting:
                return
            wait(waiting)

    def close(self) -> None:
        """End the learning in the background; questions are answered from what was learned so far."""
        with self._lock:
            pool, self._pool = self._pool, None
            self._closed = True
        if pool is not None:
            pool.shutdown(wait=True, cancel_futures=True)
        with self._lock:
            self._refits.clear()

    # --- learning

    def _fitter(self, rows: Floats, values: Floats, sizes: Sequence[int], codes: Sequence[int]) -> Location:
        return fit_location(self.model_type, rows, values, self._given, sizes, categories=codes)

    def _model(self, task: str) -> TaskModel:
        """Return what is known of a task."""
        model = self._models.get(task)
        if model is None:
            model = self._models[task] = TaskModel(task)
            model.extend(_observations(self._past.of(task), self._past))
        return model

    def _prepare(self, task: str) -> None:
        """Learn from a task's history when it is first asked for; others may ask and tell meanwhile."""
        with self._lock:
            model = self._model(task)
            if model.fitted is not None or not model.due or task in self._refits:
                return
            seen, total, fresh = model.history(), model.total, not model.observed
        # What is kept belongs to the history alone.
        fitted = self._fit_or_find(task, seen) if fresh else fit(seen, self._fitter)
        with self._lock:
            if model.fitted is None:
                self._install(model, fitted, total)

    def _fit_or_find(self, task: str, seen: Sequence[Observation]) -> Fitted | None:
        if self._cache is None:
            return fit(seen, self._fitter)
        # By the task's own attempts: what other tasks did does not make its model stale.
        fingerprint = hashlib.sha256(repr(seen).encode("utf-8", "surrogatepass")).hexdigest()
        key = cache_key(task, fingerprint, self.model_type, self._params)
        if found := self._cache.load(key):
            try:
                return Fitted.from_arrays(found.arrays, found.meta)
            except ScalableError as error:
                logger.debug("a kept model of %s is not used: %s", task, error)
        fitted = fit(seen, self._fitter)
        if fitted is not None:
            self._cache.store(key, *fitted.to_arrays())
        return fitted

    def _install(self, model: TaskModel, fitted: Fitted | None, total: int) -> None:
        model.install(fitted, total)
        excess = model.excess()
        if excess is not None:
            self._excesses[model.name] = excess
        if fitted is not None and fitted.duration is not None:
            self._ranks[model.name] = fitted.duration.ranks

    def _schedule(self, model: TaskModel) -> None:
        if self._closed or model.name in self._refits:
            return
        if self._pool is None:
            self._pool = ThreadPoolExecutor(1, thread_name_prefix="scalable-refit")
        self._refits[model.name] = self._pool.submit(self._refit, model)

    def _refit(self, model: TaskModel) -> None:
        try:
            with self._lock:
                seen, total, drift_at = model.history(), model.total, model.drift_at
            fitted = fit(seen, self._fitter, drift_at)
            with self._lock:
                self._install(model, fitted, total)
        except Exception as error:  # noqa: BLE001  (what was learned before goes on to serve)
            logger.warning("task %s: the latest attempts could not be learned from: %r", model.name, error)
            with self._lock:
                model.install(None, model.total)
        finally:
            with self._lock:
                self._refits.pop(model.name, None)
                if model.due:
                    self._schedule(model)

    def _predict(self, model: TaskModel, one: Observation, least: float) -> tuple[Prediction | None, str]:
        """Return a prediction, and what to say of it; or none, and why."""
        fitted = model.fitted
        excesses = [excess for name, excess in self._excesses.items() if name != model.name]
        model.usual = math.exp(sum(map(math.log, excesses)) / len(excesses)) if excesses else USUAL_EXCESS
        count = len(model.seen)
        if least > count / (count + 1):
            return None, f"too little history for a confidence of {least:g}: {count} attempts"
        if fitted is None:
            few = model.predict_of_few(least) if excesses else None
            if few is None:
                return None, f"too little history: {count} measured attempt{'' if count == 1 else 's'}"
            return (
                few,
                f"of {count} attempts; how far the next may exceed them is taken from {len(excesses)} other tasks",
            )
        if reason := _doubts(fitted, one, model.given(one)):
            return None, reason
        others = [ranks for name, ranks in self._ranks.items() if name != model.name][:_RANKS]
        return model.predict(one, least=least, high=_HIGH, ranks=others), ""


def _doubts(fitted: Fitted, one: Observation, given: Set[str]) -> str:
    """Return why a model is not to be believed for a task; empty if it is."""
    if fitted.attempts >= _ENOUGH_TO_JUDGE and fitted.coverage < fitted.claimed / max(fitted.caution, 1.0) - _UNSURE:
        return (
            f"low confidence: predicted memory sufficed for {fitted.coverage:.0%} of held-back tasks, "
            f"not for {fitted.claimed:.0%}"
        )
    row = fitted.encoder.row(one)
    used = fitted.uses
    outside = [name for name in fitted.encoder.outside(row) if name in used]
    # What never varied told nothing, so that nobody knows what it does.
    outside += [name for name in fitted.encoder.changed(one) if name in given]
    if outside:
        return f"outside the range seen: {', '.join(outside)}"
    unknown = [name for name in fitted.encoder.missing(row) if name in used]
    return f"not given, and memory depends on it: {', '.join(unknown)}" if unknown else ""


def _how(fitted: Fitted) -> dict[str, Any]:
    known: dict[str, Any] = {"location": fitted.memory.described(fitted.encoder.names), "learned_from": fitted.attempts}
    if not math.isnan(fitted.coverage):
        known["held_back"] = {"sufficed": round(fitted.coverage, 4), "predicted": round(fitted.claimed, 4)}
    return known


def _observations(attempts: Attempts, past: Past) -> list[Observation]:
    """Return the latest attempts that tell what a task needs, oldest first."""
    telling = (attempts.outcome == COMPLETED) | (attempts.outcome == OUT_OF_MEMORY)
    some = attempts.where(np.flatnonzero(telling)[-LATEST:])
    kinds: Mapping[int, Literal["completed", "out_of_memory"]] = {
        COMPLETED: "completed",
        OUT_OF_MEMORY: "out_of_memory",
    }
    columns = [getattr(some, name).tolist() for name in _FACTS]
    made = []
    for run, outcome, features, *facts in zip(
        some.run.tolist(), some.outcome.tolist(), some.features, *columns, strict=True
    ):
        known: dict[str, Any] = {
            name: None if isinstance(fact, float) and math.isnan(fact) else fact
            for name, fact in zip(_FACTS, facts, strict=True)
        }
        where = past.runs[run]
        made.append(
            Observation(
                attempts.name,
                where.target,
                kinds[outcome],
                run_id=where.run_id,
                features=own_features(features),
                **known,
            )
        )
    return made
