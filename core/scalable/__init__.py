"""Tagged tasks on right-sized pools of Dask workers, wherever the target says.

Names are imported when they are first used, so that ``import scalable`` costs next to
nothing in tools that only look for it.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from scalable.advisors import ResourceAdvisor
    from scalable.client import ScalableClient
    from scalable.errors import ScalableError
    from scalable.ml import LearnedAdvisor
    from scalable.planning import Plan, TaskGroup
    from scalable.providers.batch.cluster import SlurmCluster
    from scalable.report import run_report
    from scalable.scaling.adaptive_scaler import AdaptiveScaler
    from scalable.scaling.model import ScaleDecision
    from scalable.session import ScalableSession, TagProgress
    from scalable.telemetry.measure import current_pool, mark_failed
    from scalable.telemetry.probe import ATTEMPT_LOST

__version__ = "0.1.0"

_HOMES = {
    "ATTEMPT_LOST": "scalable.telemetry.probe",
    "AdaptiveScaler": "scalable.scaling.adaptive_scaler",
    "LearnedAdvisor": "scalable.ml",
    "Plan": "scalable.planning",
    "ResourceAdvisor": "scalable.advisors",
    "ScalableClient": "scalable.client",
    "ScalableError": "scalable.errors",
    "ScalableSession": "scalable.session",
    "ScaleDecision": "scalable.scaling.model",
    "SlurmCluster": "scalable.providers.batch.cluster",
    "TagProgress": "scalable.session",
    "TaskGroup": "scalable.planning",
    "current_pool": "scalable.telemetry.measure",
    "mark_failed": "scalable.telemetry.measure",
    "run_report": "scalable.report",
}

__all__ = [
    "ATTEMPT_LOST",
    "AdaptiveScaler",
    "LearnedAdvisor",
    "Plan",
    "ResourceAdvisor",
    "ScalableClient",
    "ScalableError",
    "ScalableSession",
    "ScaleDecision",
    "SlurmCluster",
    "TagProgress",
    "TaskGroup",
    "__version__",
    "current_pool",
    "mark_failed",
    "run_report",
]


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'scalable' has no attribute '{name}'")
    value = getattr(import_module(home), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
