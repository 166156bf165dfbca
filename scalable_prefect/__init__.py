"""Prefect task runner of Scalable: the tasks of a flow on the pools of a manifest."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from scalable_prefect.futures import ScalableFuture
    from scalable_prefect.routing import AmbiguousTags
    from scalable_prefect.runner import ScalableTaskRunner

_HOMES = {
    "AmbiguousTags": "scalable_prefect.routing",
    "ScalableFuture": "scalable_prefect.futures",
    "ScalableTaskRunner": "scalable_prefect.runner",
}

__all__ = ["AmbiguousTags", "ScalableFuture", "ScalableTaskRunner"]


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'scalable_prefect' has no attribute '{name}'")
    value = getattr(import_module(home), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
