"""Asking for advice: which advisor there is, and what it says of the tasks of a deployment."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final, Literal, cast, get_args

import numpy as np

from scalable.advisors import Advisor, Recommendation, ResourceAdvisor
from scalable.advisors.base import ASKED_PLUS_HEADROOM
from scalable.advisors.online import Learner
from scalable.advisors.sizing import task_bytes, worker_bytes
from scalable.errors import ScalableError
from scalable.planning.advice import Advice, Bounds, take_advice
from scalable.spec import DeploymentSpec
from scalable.telemetry.past import Past, read_past

__all__ = [
    "MODEL_TYPES",
    "Counsel",
    "Guide",
    "ModelType",
    "ask",
    "careful",
    "default_model_type",
    "open_advisor",
    "recent_tasks",
]

logger = logging.getLogger(__name__)

ModelType = Literal["quantile", "gradient_boosting", "random_forest", "linear"]
MODEL_TYPES: Final = get_args(ModelType)

_RECENT_RUNS: Final = 5
_SURE: Final = 0.999


def default_model_type() -> ModelType:
    """Return the best model that can be had with what is installed."""
    return "gradient_boosting" if all(map(find_spec, ("sklearn", "joblib"))) else "quantile"


def open_advisor(runs_dirs: Path | str | Sequence[Path | str], model_type: ModelType | None = None) -> Advisor:
    """Return an advisor that has learned from past runs.

    Parameters
    ----------
    runs_dirs : path, or sequence of paths
        Folders of runs.
    model_type : str, optional
        ``"quantile"``, or a model of :class:`scalable.ml.LearnedAdvisor`; default is
        :func:`default_model_type`.

    Raises
    ------
    ScalableError
        If a folder cannot be read.
    MissingExtra
        If the model needs a library that is not installed.
    """
    chosen = model_type or default_model_type()
    if chosen == "quantile":
        return ResourceAdvisor.from_history(runs_dirs)
    # Only those who learn need what it imports.
    learned: Any = import_module("scalable.ml").LearnedAdvisor
    return cast("Advisor", learned.from_history(runs_dirs, model_type=chosen))


def ask(
    advisor: Advisor, spec: DeploymentSpec, runs_dir: Path | str, *, confidence: float = 0.95
) -> dict[str, Recommendation | str]:
    """Return what is advised for each task of a deployment, or why nothing is.

    Those are the tasks that the manifest names, and those that the project's latest runs had
    besides.

    Parameters
    ----------
    advisor : Advisor
        Who is asked.
    spec : DeploymentSpec
        As the manifest says.
    runs_dir : path
        The folder of the project's own runs.
    confidence : float
        As for :meth:`Advisor.recommend`.
    """
    names = dict.fromkeys((*spec.tasks, *recent_tasks(read_past(runs_dir), spec.project)))
    advised: dict[str, Recommendation | str] = {}
    for name in names:
        try:
            task = spec.tasks.get(name)
            retried = task is not None and task.retries > 0
            advised[name] = careful(advisor, name, spec.target, confidence=confidence, retried=retried)
        except ScalableError as error:
            advised[name] = str(error)
    return advised


def careful(
    advisor: Advisor,
    task: str,
    target: str | None,
    *,
    confidence: float = 0.95,
    features: Mapping[str, Any] | None = None,
    retried: bool,
) -> Recommendation:
    """Return what is advised for a task, with the memory of nearly all if it is not tried again.

    A task that fails for good must not do so for want of memory that few need.

    Parameters
    ----------
    advisor : Advisor
        Who is asked.
    task, target, confidence, features
        As for :meth:`Advisor.recommend`.
    retried : bool
        Whether the task is tried again after it ran out of memory.

    Raises
    ------
    ScalableError
        If there is no history of the task.
    """
    advice = advisor.recommend(task, target, confidence=confidence, features=features)
    if retried or advice.evidence.get("method") == ASKED_PLUS_HEADROOM:
        return advice
    most = advisor.recommend(task, target, confidence=max(confidence, _SURE), features=features)
    size = max((one.memory_bytes for one in (advice, most) if one.memory_bytes is not None), default=None)
    return replace(advice, memory_bytes=size, confidence=max(advice.confidence, most.confidence))


def recent_tasks(past: Past, project: str | None = None) -> tuple[str, ...]:
    """Return the tasks that the latest five runs had, of one project or of all."""
    own = [index for index, run in enumerate(past.runs) if project is None or run.project == project]
    latest = own[-_RECENT_RUNS:]
    return tuple(task for task in past.tasks if np.isin(past.of(task).run, latest).any())


class Counsel:
    """Advice for the runs of one folder.

    Parameters
    ----------
    runs_dir : path
        The folder; one without runs advises nothing.
    bounds : Bounds
        What the provider can give.

    Raises
    ------
    ScalableError
        If the folder cannot be read.
    """

    def __init__(self, runs_dir: Path, bounds: Bounds) -> None:
        self._runs_dir = runs_dir
        self._bounds = bounds
        self._advisor = open_advisor(runs_dir)

    def advice(self, spec: DeploymentSpec) -> Advice:
        """Return a deployment that follows what past runs advise."""
        advice = take_advice(spec, ask(self._advisor, spec, self._runs_dir), self._bounds)
        if all(one.worker_bytes is None and one.duration_s is None for one in advice.tasks):
            note = f"there is no history in {self._runs_dir} to take advice from; the manifest's numbers hold"
            return replace(advice, notes=(*advice.notes, note))
        return advice

    def guide(self, spec: DeploymentSpec, run_id: str) -> Guide:
        """Return what advises a run while it is under way."""
        return Guide(self._advisor, spec.target, run_id, self._bounds.memory_bytes)


class Guide:
    """Advice for a run that is under way, which is learned from as its tasks end.

    Parameters
    ----------
    advisor : Advisor
        Who is asked and told.
    target, run_id : str
        Of the run.
    most_bytes : int or None
        Bytes of the largest worker there can be; ``None`` if that is not known.
    """

    def __init__(self, advisor: Advisor, target: str, run_id: str, most_bytes: int | None) -> None:
        self._advisor = advisor
        self._target = target
        self._most = most_bytes
        self._learner = Learner(advisor, target, run_id)

    def take(self, record: Mapping[str, Any]) -> None:
        """Take note of a record of ``tasks.jsonl``; returns at once."""
        self._learner.take(record)

    def memory_step(self, task: str, failed_bytes: int, features: Mapping[str, Any] | None = None) -> int | None:
        """Return by how many bytes a worker is to be larger in which a task is tried again.

        Parameters
        ----------
        task : str
            Its name.
        failed_bytes : int
            Bytes of the worker in which it ran out of memory; 0 if it had no limit.
        features : mapping, optional
            What is known of its input.

        Returns
        -------
        int or None
            ``None`` without advice, and where there is no larger worker to be had.
        """
        if not failed_bytes:
            return None
        try:
            needed = self._advisor.retry_bytes(task, task_bytes(failed_bytes), target=self._target, features=features)
        except ScalableError as error:
            logger.info("task %s ran out of memory; %s", task, error)
            return None
        size = worker_bytes(needed)
        size = size if self._most is None else min(size, self._most)
        return size - failed_bytes if size > failed_bytes else None

    def close(self) -> None:
        """Learn no more; harmless when repeated."""
        self._learner.close()
        self._advisor.close()
