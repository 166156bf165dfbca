"""What will be asked for before a run; pure."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from scalable.planning.advice import Advice, Bounds, TaskAdvice, take_advice
from scalable.planning.choice import Chosen, Interval, Point
from scalable.planning.make import make_plan, working_pools
from scalable.planning.plan import Plan
from scalable.planning.workload import PoolModel, TaskGroup, Workload

if TYPE_CHECKING:
    from scalable.planning.explore import search

__all__ = [
    "Advice",
    "Bounds",
    "Chosen",
    "Interval",
    "Plan",
    "Point",
    "PoolModel",
    "TaskAdvice",
    "TaskGroup",
    "Workload",
    "make_plan",
    "search",
    "take_advice",
    "working_pools",
]


def __getattr__(name: str) -> Any:
    # Whoever only validates a manifest need not wait for numpy.
    if name != "search":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return import_module("scalable.planning.explore").search
