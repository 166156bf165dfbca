"""What history suggests: memory, cpus, time and workers, from what past runs measured."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from scalable.advisors.base import Advisor, Observation, Recommendation
from scalable.advisors.sizing import worker_bytes

if TYPE_CHECKING:
    from scalable.advisors.resource import ResourceAdvisor

__all__ = ["Advisor", "Observation", "Recommendation", "ResourceAdvisor", "worker_bytes"]


def __getattr__(name: str) -> Any:
    # Whoever only plans needs neither numpy nor a history.
    if name != "ResourceAdvisor":
        raise AttributeError(f"module 'scalable.advisors' has no attribute '{name}'")
    return import_module("scalable.advisors.resource").ResourceAdvisor
