"""One factory a policy, as the judge asks for it: `--external benchmarks.scaling.adapter:predictive`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import mean
from types import SimpleNamespace
from typing import Any

from benchmarks.scaling.translate import Translated
from scalable import AdaptiveScaler
from scalable.scaling.policies import make_policy
from scalable.scaling.predictive import PredictivePolicy

__all__ = ["adaptive", "capability", "fixed_elastic", "no", "predictive", "vanilla", "waterfall"]


def predictive(env: Mapping[str, Any]) -> Translated:
    """Return the policy that works from predicted work."""
    return Translated(PredictivePolicy(), env)


def no(env: Mapping[str, Any]) -> Translated:
    """Return the policy that changes nothing."""
    return Translated(make_policy("no"), env)


def vanilla(env: Mapping[str, Any]) -> Translated:
    """Return the policy that compares all tasks with all workers."""
    return Translated(make_policy("vanilla"), env)


def capability(env: Mapping[str, Any]) -> Translated:
    """Return the policy that compares tasks with the workers that can run them, asking the pool meant for them."""
    return Translated(make_policy("capability", {"ask": "first"}), env)


def fixed_elastic(env: Mapping[str, Any]) -> Translated:
    """Return the policy with a primary pool, which is one that may have one worker."""
    return Translated(make_policy("fixed_elastic"), env)


def waterfall(env: Mapping[str, Any]) -> Translated:
    """Return the policy that fills pools in the judge's order."""
    return Translated(
        make_policy("waterfall", {"rules": [f"{place},{name}" for place, name in enumerate(env["pools"])]}), env
    )


def adaptive(
    max_workers: Mapping[str, int], history: Mapping[str, Sequence[tuple[float | None, float]]]
) -> AdaptiveScaler:
    """Return what users of `AdaptiveScaler.evaluate` get, with an advisor that knows the history."""
    return AdaptiveScaler(advisor=_History(history), max_workers=max_workers)


class _History:
    def __init__(self, history: Mapping[str, Sequence[tuple[float | None, float]]]) -> None:
        self._means = {tag: mean(seconds for _, seconds in tasks) for tag, tasks in history.items() if tasks}

    def recommend(self, task: str, *, features: Mapping[str, Any] | None = None) -> SimpleNamespace:
        return SimpleNamespace(duration_s=self._means.get(task), confidence=0.9)
