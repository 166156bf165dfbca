"""What an advisor is asked, what it is told, and what it answers."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal, Protocol

import numpy as np

__all__ = ["ASKED_PLUS_HEADROOM", "ORDER_STATISTIC", "Advisor", "Observation", "Recommendation"]

ORDER_STATISTIC: Final = "order statistic"
ASKED_PLUS_HEADROOM: Final = "asked plus headroom"
"""What ``evidence['method']`` says: a quantile, or, of too few samples, what was asked for and a fifth more."""


@dataclass(frozen=True, slots=True)
class Recommendation:
    """What the workers of a task should be like.

    Attributes
    ----------
    task : str
        Name of the task.
    target : str or None
        Where it is to run; ``None`` for anywhere.
    workers : mapping of str to int
        Workers by component, such as ``{'demeter': 4}``.
    resources : mapping
        What one worker is given, by component: ``cpus``, ``memory`` and ``walltime`` as a
        manifest has them. What is not known is left out.
    confidence : float
        The share of tasks for which the memory suffices, as guaranteed or measured, not as
        asked for; 0 to 1.
    evidence : mapping
        What it rests on: ``runs_analyzed``, ``tasks_analyzed``, ``method``, ``percentile``,
        ``failures`` (by kind), ``skipped``, ``window`` and ``reasons``.
    model_type : str
        What made it.
    memory_bytes : int or None
        Bytes that one task needs; ``None`` if that is not known.
    duration_s, duration_high_s : float or None
        Seconds that one task takes: the median, and what few exceed.
    """

    task: str
    target: str | None
    workers: Mapping[str, int]
    resources: Mapping[str, Mapping[str, Any]]
    confidence: float
    evidence: Mapping[str, Any]
    model_type: str = "quantile"
    memory_bytes: int | None = None
    duration_s: float | None = None
    duration_high_s: float | None = None

    @property
    def seen(self) -> str:
        """How much it rests on, in words, such as ``'40 tasks of 3 runs'``."""
        counts = ((self.evidence.get(f"{kind}s_analyzed", 0), kind) for kind in ("task", "run"))
        return " of ".join(f"{count} {kind}{'' if count == 1 else 's'}" for count, kind in counts)

    def to_json(self) -> dict[str, Any]:
        """Return it as ``scalable advise --format json`` prints it: JSON data, with ``None`` for what is no number."""
        made: dict[str, Any] = _plain(
            {
                "task": self.task,
                "workers": self.workers,
                "resources": self.resources,
                "confidence": round(self.confidence, 4),
                "model_type": self.model_type,
                "evidence": self.evidence,
            }
        )
        return made


def _plain(value: Any) -> Any:
    """Return what JSON can hold of a value: features are the caller's, and may be anything."""
    if isinstance(value, np.generic | np.ndarray):
        value = value.tolist()
    if isinstance(value, Mapping):
        return {str(key): _plain(one) for key, one in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_plain(one) for one in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if value is None or isinstance(value, str | int) else str(value)


@dataclass(frozen=True, slots=True)
class Observation:
    """One ended attempt of a task.

    Attributes
    ----------
    outcome : {"completed", "out_of_memory"}
        Others tell nothing of what a task needs.
    n_args, n_inputs, threads : int
        Arguments, input files, and the places of its worker that it took.
    arg_bytes, input_bytes, peak_bytes, asked_bytes : float or None
        Bytes; ``None`` if not known.
    cpu_s, duration_s : float or None
        Seconds.
    exclusive : bool
        Whether it had its process to itself, so that the peak is its own.
    """

    task: str
    target: str
    outcome: Literal["completed", "out_of_memory"]
    component: str = ""
    run_id: str = ""
    features: Mapping[str, Any] = field(default_factory=dict)
    n_args: int = 0
    arg_bytes: float | None = None
    n_inputs: int = 0
    input_bytes: float | None = None
    threads: int = 1
    cpu_s: float | None = None
    duration_s: float | None = None
    peak_bytes: float | None = None
    exclusive: bool = True
    asked_bytes: float | None = None


class Advisor(Protocol):
    """What a session asks of an advisor; all of it may be called from any thread."""

    def recommend(
        self,
        task: str,
        target: str | None = None,
        *,
        confidence: float = 0.95,
        features: Mapping[str, Any] | None = None,
    ) -> Recommendation:
        """Return what a task needs.

        Parameters
        ----------
        task : str
            Its name.
        target : str, optional
            Where it is to run; default is anywhere.
        confidence : float
            The share of tasks for which the memory is to suffice; default 0.95.
        features : mapping, optional
            What is known of its input.

        Raises
        ------
        ScalableError
            If there is no history of the task.
        """
        ...

    def retry_bytes(
        self,
        task: str,
        failed_bytes: int,
        *,
        target: str | None = None,
        features: Mapping[str, Any] | None = None,
    ) -> int:
        """Return the bytes with which a task is tried again that ran out of memory.

        As :attr:`Recommendation.memory_bytes`, they are those of one task, not of its worker.

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
        ...

    def observe(self, attempt: Observation) -> None:
        """Take note of an attempt that ended just now."""
        ...

    def close(self) -> None:
        """End whatever goes on in the background."""
        ...
