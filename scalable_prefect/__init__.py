"""Prefect task runner of Scalable: the tasks of a flow on the pools of a manifest."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from scalable_prefect.block import ScalableManifest
    from scalable_prefect.dask_client import get_async_dask_client, get_dask_client
    from scalable_prefect.futures import ScalableFuture
    from scalable_prefect.routing import AmbiguousTags, PoolElsewhere
    from scalable_prefect.runner import ScalableTaskRunner

_HOMES = {
    "AmbiguousTags": "scalable_prefect.routing",
    "PoolElsewhere": "scalable_prefect.routing",
    "ScalableFuture": "scalable_prefect.futures",
    "ScalableManifest": "scalable_prefect.block",
    "ScalableTaskRunner": "scalable_prefect.runner",
    "get_async_dask_client": "scalable_prefect.dask_client",
    "get_dask_client": "scalable_prefect.dask_client",
}

__all__ = [
    "AmbiguousTags",
    "PoolElsewhere",
    "ScalableFuture",
    "ScalableManifest",
    "ScalableTaskRunner",
    "get_async_dask_client",
    "get_dask_client",
]


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'scalable_prefect' has no attribute '{name}'")
    value = getattr(import_module(home), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
