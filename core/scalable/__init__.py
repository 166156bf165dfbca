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
    from scalable.providers.batch.cluster import SlurmCluster
    from scalable.session import ScalableSession
    from scalable.telemetry.measure import mark_failed

__version__ = "0.1.0"

_HOMES = {
    "LearnedAdvisor": "scalable.ml",
    "ResourceAdvisor": "scalable.advisors",
    "ScalableClient": "scalable.client",
    "ScalableError": "scalable.errors",
    "ScalableSession": "scalable.session",
    "SlurmCluster": "scalable.providers.batch.cluster",
    "mark_failed": "scalable.telemetry.measure",
}

__all__ = [
    "LearnedAdvisor",
    "ResourceAdvisor",
    "ScalableClient",
    "ScalableError",
    "ScalableSession",
    "SlurmCluster",
    "__version__",
    "mark_failed",
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
