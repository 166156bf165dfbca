"""How much work waits for which workers, counted as tasks move and never by walking a queue."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from distributed.diagnostics.plugin import SchedulerPlugin

if TYPE_CHECKING:
    from distributed.scheduler import Scheduler

__all__ = ["Demand", "DemandCounter", "Requirement"]

Requirement = tuple[tuple[str, float], ...]
"""What a task takes of a worker, sorted by name."""

_COUNTED = frozenset({"waiting", "processing", "queued", "no-worker"})


@dataclass(slots=True)
class Demand:
    """Tasks that take the same of a worker.

    Attributes
    ----------
    blocked : int
        Waiting for other tasks.
    ready : int
        Handed to a worker, whether running or in line there, or waiting for one to come.
    """

    blocked: int = 0
    ready: int = 0


class DemandCounter(SchedulerPlugin):
    """Count live tasks by what they require; reading costs one step a kind of task."""

    name = "scalable-demand"

    def __init__(self) -> None:
        self._demand: dict[Requirement, Demand] = {}
        self._scheduler: Scheduler | None = None

    async def start(self, scheduler: Scheduler) -> None:
        """Remember the scheduler; called by Dask when the plugin is added."""
        self._scheduler = scheduler

    @property
    def demand(self) -> Mapping[Requirement, Demand]:
        """Live counts, by requirement; not a copy."""
        return self._demand

    def transition(self, key: Any, start: str, finish: str, *args: Any, stimulus_id: str = "", **kwargs: Any) -> None:
        """Move one task from one count to another."""
        before, after = start in _COUNTED, finish in _COUNTED
        if not before and not after:
            return
        assert self._scheduler is not None
        restrictions = self._scheduler.tasks[key].resource_restrictions
        requirement = tuple(sorted(restrictions.items())) if restrictions else ()
        demand = self._demand.get(requirement)
        if demand is None:
            demand = self._demand[requirement] = Demand()
        if before:
            if start == "waiting":
                demand.blocked -= 1
            else:
                demand.ready -= 1
        if after:
            if finish == "waiting":
                demand.blocked += 1
            else:
                demand.ready += 1
