"""Parameters of the models, chosen by how well they predict runs that were held back."""

from __future__ import annotations

import contextlib
import math
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Protocol

import numpy as np
from numpy.typing import NDArray

from scalable.errors import ScalableError, did_you_mean
from scalable.extras import require
from scalable.ml.features import FeatureEncoder
from scalable.ml.models import check_params, fit_location
from scalable.telemetry.past import COMPLETED, Attempts, Past, read_past

__all__ = ["HyperparameterSearch", "Trial"]

Floats = NDArray[np.float64]

_QUANTITIES: Final = ("peak_bytes", "duration_s")
_MOST_ROWS: Final = 2_000
_FEWEST_ROWS: Final = 10
_NO_SPREAD: Final = 0.01
"""In logarithms: there is nothing to predict in what varies by less than one in a hundred."""


class PoolClient(Protocol):
    """What is needed of a client: Dask's own, and what a task takes of a worker."""

    @property
    def dask(self) -> Any: ...

    def resources(self, tag: str | None = None) -> dict[str, float]: ...


class Session(Protocol):
    """A :class:`scalable.ScalableSession` that is started."""

    @property
    def client(self) -> Any: ...


@dataclass(frozen=True, slots=True)
class Trial:
    """Parameters that were tried.

    Attributes
    ----------
    params : mapping
        All parameters of the model type.
    score : float
        See :class:`HyperparameterSearch`.
    by_task : mapping of str to float
        The same for each task alone.
    """

    params: Mapping[str, Any]
    score: float
    by_task: Mapping[str, float]


class HyperparameterSearch:
    """Find the parameters with which models predict runs that they have not seen.

    The score of a fold is ``1 - MAE / MAE of the median``: mean absolute errors of the
    logarithm of peak memory, and likewise of duration, the median being that of the runs that
    were learned from. Higher is better: 1 is never wrong, 0 no better than the median of the
    history, below 0 worse than that. It is averaged over folds, and over tasks and the two
    quantities by number of attempts. A run is either learned from or held back, never both:
    its attempts have more in common than runs have. The defaults are tried first, and stay if
    nothing does better.

    Parameters
    ----------
    runs_dir : path or sequence of paths, optional
        Folders of runs; default is ``SCALABLE_RUNS_DIR``, or ``.scalable/runs``.
    model_type : {"gradient_boosting", "random_forest", "linear"}
        The kind of model.
    cv_folds : int
        Parts into which a task's runs are divided; 2 or more. A task with fewer runs is
        divided into as many parts as it has runs, which :attr:`notes` then says.
    task : str, optional
        The one task to look at; default is every task of the history.
    session : ScalableSession, optional
        A started session: the search runs on its pool. Its workers need the extra ``ml``, too.
    tag : str, optional
        Which workers of the session; default is those of tasks without a tag.
    n_iter : int
        Sets of parameters to try, the defaults included; default 20.
    n_jobs : int
        Processes at a time where no session is given; default is one a processor.
    seed : int
        The same seed tries the same sets.

    Attributes
    ----------
    notes : tuple of str
        What was left out, or done otherwise than asked.

    Raises
    ------
    ScalableError
        If there is no such model type, or a number is out of its range.

    Examples
    --------
    >>> search = HyperparameterSearch(runs_dir="runs", model_type="linear")  # doctest: +SKIP
    >>> search.run(), search.best_score  # doctest: +SKIP
    ({'alpha': 3.1622776601683795}, 0.62)
    """

    def __init__(
        self,
        *,
        runs_dir: str | os.PathLike[str] | Sequence[str | os.PathLike[str]] | None = None,
        model_type: str = "gradient_boosting",
        cv_folds: int = 5,
        task: str | None = None,
        session: Session | None = None,
        tag: str | None = None,
        n_iter: int = 20,
        n_jobs: int = -1,
        seed: int = 0,
    ) -> None:
        check_params(model_type)
        for what, value, least in (("cv_folds", cv_folds, 2), ("n_iter", n_iter, 1)):
            if value < least or value != int(value):
                raise ScalableError(f"{what} must be a whole number of at least {least}, not {value!r}")
        self._runs_dirs = _folders(runs_dir)
        self._model_type, self._cv_folds, self._task = model_type, cv_folds, task
        self._session, self._tag = session, tag
        self._n_iter, self._n_jobs, self._seed = n_iter, n_jobs, seed
        self._results: tuple[Trial, ...] = ()
        self.notes: tuple[str, ...] = ()

    @property
    def results(self) -> tuple[Trial, ...]:
        """Everything that was tried, the best first; empty before :meth:`run`."""
        return self._results

    @property
    def best_score(self) -> float:
        """Score of what :meth:`run` returned; at most 1.

        Raises
        ------
        ScalableError
            Before :meth:`run`.
        """
        if not self._results:
            raise ScalableError("there is no score yet; call run() first")
        return self._results[0].score

    def run(self) -> dict[str, Any]:
        """Search, and return the best parameters, as ``model_params`` of ``LearnedAdvisor`` takes them.

        Raises
        ------
        ScalableError
            If no task has the measurements of at least two runs.
        MissingExtra
            If scikit-learn or joblib is not installed.
        """
        require("ml", "sklearn")
        past = read_past(self._runs_dirs)
        problems, self.notes = _problems(past, self._names(past), self._cv_folds)
        if not problems:
            where = ", ".join(str(folder) for folder in self._runs_dirs)
            raise ScalableError(
                f"nothing to search on: {where} has {len(past.runs)} ended run(s), and a task needs "
                f"{_FEWEST_ROWS} completed attempts that vary, from at least 2 runs, because whole runs are held back"
                + (f"; {'; '.join(self.notes)}" if self.notes else "")
            )
        candidates = _candidates(self._model_type, self._n_iter, self._seed)
        work = [(candidate, problem) for candidate in candidates for problem in problems]
        scores = np.array(self._scores(work)).reshape(len(candidates), len(problems))
        trials = [_trial(params, problems, row) for params, row in zip(candidates, scores, strict=True)]
        # Sorting keeps the order of equals, so that the defaults win a tie.
        self._results = tuple(sorted(trials, key=lambda trial: -trial.score))
        return dict(self._results[0].params)

    def _names(self, past: Past) -> tuple[str, ...]:
        if self._task is None:
            return past.tasks
        if self._task not in past.tasks:
            hint = did_you_mean(self._task, past.tasks)
            known = ", ".join(past.tasks) or "none"
            raise ScalableError(
                f"there is no history of task '{self._task}'; known: {known}" + f"; {hint}" * bool(hint)
            )
        return (self._task,)

    def _scores(self, work: Sequence[tuple[Mapping[str, Any], _Problem]]) -> list[float]:
        joblib = require("ml", "joblib")
        calls = [
            joblib.delayed(_scalable_internal_score)(
                one.rows,
                one.values,
                one.runs,
                _Trying(self._model_type, params, one.folds, one.growing, one.categories),
            )
            for params, one in work
        ]
        with self._somewhere(joblib):
            scores: list[float] = joblib.Parallel(n_jobs=self._n_jobs if self._session is None else -1)(calls)
        return scores

    @contextlib.contextmanager
    def _somewhere(self, joblib: Any) -> Iterator[None]:
        """Let joblib work here, or on the session's pool."""
        if self._session is None:
            yield
            return
        client: PoolClient = self._session.client
        # What a task takes decides on which workers it may run; without, Dask would take any.
        resources = client.resources(self._tag)
        # joblib waits ten seconds for a worker; one that comes out of a queue may take hours.
        client.dask.submit(_scalable_internal_nothing, resources=resources, pure=False).result()
        with joblib.parallel_config("dask", client=client.dask, resources=resources):
            yield


def _folders(given: str | os.PathLike[str] | Sequence[str | os.PathLike[str]] | None) -> list[Path]:
    if given is None:
        from scalable.settings import Settings  # noqa: PLC0415  (who names a folder needs no environment)

        return [Settings.from_environ().runs_dir]
    return [Path(given)] if isinstance(given, str | os.PathLike) else [Path(folder) for folder in given]


@dataclass(frozen=True, slots=True, eq=False)
class _Problem:
    """One quantity of one task, and the runs that its values are from."""

    task: str
    weight: int
    rows: Floats
    values: Floats
    runs: NDArray[np.int32]
    folds: int
    growing: tuple[int, ...]
    categories: tuple[int, ...]


def _problems(past: Past, names: Sequence[str], folds: int) -> tuple[list[_Problem], tuple[str, ...]]:
    found: list[_Problem] = []
    notes: list[str] = []
    for name in names:
        attempts = past.of(name)
        attempts = attempts.where(attempts.outcome == COMPLETED)
        runs = len(np.unique(attempts.run))
        if runs < 2:
            notes.append(f"task '{name}' is left out: completed attempts of {runs} run(s)")
            continue
        encoded = _encoded(past, attempts)
        own = [problem for quantity in _QUANTITIES if (problem := _problem(attempts, quantity, folds, *encoded))]
        found += own
        if not own:
            notes.append(f"task '{name}' is left out: too few completed attempts, or nothing that varies")
        elif fewest := min((problem.folds for problem in own if problem.folds < folds), default=0):
            notes.append(f"task '{name}' has {fewest} folds in place of {folds}: it has no more runs")
    return found, tuple(notes)


def _encoded(past: Past, attempts: Attempts) -> tuple[FeatureEncoder, Floats]:
    targets = [past.runs[run].target for run in attempts.run]
    encoder = FeatureEncoder.fit(attempts, targets)
    return encoder, encoder.rows(attempts, targets)


def _problem(attempts: Attempts, quantity: str, folds: int, encoder: FeatureEncoder, rows: Floats) -> _Problem | None:
    values: Floats = getattr(attempts, quantity)
    known = np.flatnonzero(np.isfinite(values) & (values > 0))
    runs = len(np.unique(attempts.run[known]))
    if len(known) < _FEWEST_ROWS or runs < 2 or np.log(values[known]).std() < _NO_SPREAD:
        return None
    # Evenly over time, and so over runs: more rows cost time and hardly change which parameters are best.
    part = known[np.unique(np.linspace(0, len(known) - 1, min(len(known), _MOST_ROWS)).astype(int))]
    return _Problem(
        task=attempts.name,
        weight=len(known),
        rows=rows[part],
        values=values[part],
        runs=attempts.run[part],
        folds=min(folds, len(np.unique(attempts.run[part]))),
        growing=encoder.size_columns,
        categories=encoder.category_columns,
    )


@dataclass(frozen=True, slots=True)
class _Trying:
    """What to fit, and how to divide the runs."""

    model_type: str
    params: Mapping[str, Any]
    folds: int
    growing: tuple[int, ...]
    categories: tuple[int, ...]


def _scalable_internal_score(rows: Floats, values: Floats, runs: NDArray[np.int32], what: _Trying) -> float:
    """Return the mean score of the folds of one problem; runs wherever joblib puts it.

    Dask names a task by its function, and what is called so is not learned from
    (:data:`scalable.telemetry.history.INTERNAL`): a search must not become part of the history.
    """
    splitter = require("ml", "sklearn.model_selection").GroupKFold(n_splits=what.folds)
    scores = []
    for train, test in splitter.split(rows, groups=runs):
        model = fit_location(
            what.model_type, rows[train], values[train], what.params, what.growing, categories=what.categories
        )
        truth = np.log(values[test])
        error = np.abs(model.predict(rows[test]) - truth).mean()
        plain = np.abs(np.median(np.log(values[train])) - truth).mean()
        # A fold in which nothing varies would divide by nothing.
        scores.append(1.0 - error / max(plain, _NO_SPREAD))
    return float(np.mean(scores))


def _trial(params: Mapping[str, Any], problems: Sequence[_Problem], scores: Floats) -> Trial:
    weights = np.array([problem.weight for problem in problems], dtype=np.float64)
    tasks = np.array([problem.task for problem in problems])
    by_task = {
        str(task): float(np.average(scores[tasks == task], weights=weights[tasks == task]))
        for task in dict.fromkeys(tasks.tolist())
    }
    return Trial(params, float(np.average(scores, weights=weights)), by_task)


def _scalable_internal_nothing() -> None:
    """Be done: a task that tells that there is a worker for it."""


# --- what to try


def _log(low: float, high: float) -> Callable[[np.random.Generator], float]:
    return lambda random: float(math.exp(random.uniform(math.log(low), math.log(high))))


def _whole(low: int, high: int) -> Callable[[np.random.Generator], int]:
    return lambda random: round(_log(low, high)(random))


def _part(low: float) -> Callable[[np.random.Generator], float]:
    return lambda random: float(random.uniform(low, 1.0))


_SPACES: Final[Mapping[str, Mapping[str, Callable[[np.random.Generator], Any]]]] = {
    "gradient_boosting": {
        "n_estimators": _whole(40, 300),
        "learning_rate": _log(0.02, 0.3),
        "max_depth": _whole(1, 8),
        "min_samples_leaf": _whole(1, 40),
        "subsample": _part(0.4),
        "max_features": _part(0.4),
    },
    "random_forest": {
        "n_estimators": _whole(40, 200),
        "max_depth": _whole(3, 24),
        "min_samples_leaf": _whole(1, 40),
        "max_features": _part(0.3),
        "max_samples": _part(0.4),
    },
    "linear": {"alpha": _log(1e-3, 1e4)},
}


def _candidates(model_type: str, count: int, seed: int) -> list[dict[str, Any]]:
    random = np.random.default_rng(seed)
    space = _SPACES[model_type]
    drawn = [{name: draw(random) for name, draw in space.items()} for _ in range(count - 1)]
    return [check_params(model_type, params) for params in [{}, *drawn]]
