"""The advisors as predictors that are judged task by task: facts go in, megabytes and seconds come out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, Protocol

from scalable.advisors import Observation, Recommendation, ResourceAdvisor
from scalable.ml import LearnedAdvisor
from scalable.telemetry.past import Past

MB = 1e6


class Judged(Protocol):
    """What both advisors have."""

    def recommend(
        self, task: str, target: str | None = None, *, features: Mapping[str, Any] | None = None
    ) -> Recommendation:
        """Return what a task needs."""
        ...

    def retry_bytes(
        self, task: str, failed_bytes: int, *, target: str | None = None, features: Mapping[str, Any] | None = None
    ) -> int:
        """Return the next size to try."""
        ...

    def observe(self, attempt: Observation) -> None:
        """Take note of an attempt."""
        ...


class Predictor:
    """One advisor, asked and told in the words of the judge."""

    def __init__(self, advisor: Judged) -> None:
        self._advisor = advisor
        self._seen: set[str] = set()

    def predict(self, task: Mapping[str, Any]) -> dict[str, float | None]:
        """Return what the task is advised."""
        if _name(task) not in self._seen:
            return {}
        advice = self._advisor.recommend(_name(task), features=_features(task))
        return {
            "memory_mb": None if advice.memory_bytes is None else advice.memory_bytes / MB,
            "runtime_s": advice.duration_s,
            "runtime_hi_s": advice.duration_high_s,
            "memory_confidence": advice.confidence,
        }

    def observe(self, task: Mapping[str, Any], peak_memory_mb: float | None, runtime_s: float) -> None:
        """Take note of a task that completed."""
        self._tell(task, "completed", peak_memory_mb, runtime_s)
        if isinstance(self._advisor, LearnedAdvisor):
            # The judge does not wait between tasks, as a workflow does: what is learned must not depend on its haste.
            self._advisor.settle()

    def observe_failure(self, task: Mapping[str, Any], allocated_mb: float, runtime_s: float) -> None:
        """Take note of an attempt that ran out of memory."""
        self._tell(task, "out_of_memory", allocated_mb, runtime_s)

    def _tell(
        self,
        task: Mapping[str, Any],
        outcome: Literal["completed", "out_of_memory"],
        peak_memory_mb: float | None,
        runtime_s: float,
    ) -> None:
        self._seen.add(_name(task))
        features = _features(task)
        asked = task.get("mem_request_mb")
        self._advisor.observe(
            Observation(
                task=_name(task),
                target="",
                outcome=outcome,
                component="",
                run_id=str(task.get("run_id") or ""),
                features={name: value for name, value in features.items() if name not in {"input_bytes", "n_inputs"}},
                n_inputs=int(task.get("n_inputs") or 0),
                input_bytes=task.get("input_bytes"),
                duration_s=runtime_s,
                peak_bytes=peak_memory_mb * MB if peak_memory_mb else None,
                asked_bytes=asked * MB if asked else None,
            )
        )

    def retry(self, task: Mapping[str, Any], failed_mb: float, attempt: int) -> float | None:
        """Return what to try after so many megabytes were too few."""
        if _name(task) not in self._seen:
            return None
        return self._advisor.retry_bytes(_name(task), int(failed_mb * MB), features=_features(task)) / MB


def _name(task: Mapping[str, Any]) -> str:
    return f"{task['workflow']} {task['task']}"


def _features(task: Mapping[str, Any]) -> dict[str, Any]:
    known = {name: task.get(name) for name in ("instance", "machine", "cpus")} | dict(task["features"])
    known |= {"input_bytes": task.get("input_bytes"), "n_inputs": int(task.get("n_inputs") or 0)}
    return {name: value for name, value in known.items() if value is not None}


def learned() -> Predictor:
    """Return ``LearnedAdvisor`` with its defaults."""
    return Predictor(LearnedAdvisor(Past()))


def quantile() -> Predictor:
    """Return ``ResourceAdvisor``."""
    return Predictor(ResourceAdvisor(Past()))
