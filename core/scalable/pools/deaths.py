"""Who is to blame when a worker dies: the tasks that ran there, and not those in line behind them.

Dask gives tasks with resource restrictions to workers at once, so that one may have
thousands in line, and when it dies counts its death against all of them.
"""

from __future__ import annotations

import heapq
from typing import TYPE_CHECKING, Any

from distributed.diagnostics.plugin import SchedulerPlugin

if TYPE_CHECKING:
    from distributed import Scheduler
    from distributed.scheduler import TaskState, WorkerState

__all__ = ["Deaths"]


class Deaths(SchedulerPlugin):
    """Take the count of deaths back from tasks that had not begun."""

    name = "scalable-deaths"

    def __init__(self) -> None:
        self._scheduler: Scheduler | None = None
        self._workers: dict[str, WorkerState] = {}
        self._guilty: dict[str, set[Any]] = {}
        self._ordered: set[str] = set()

    async def start(self, scheduler: Scheduler) -> None:
        """Remember the scheduler; called by Dask when the plugin is added."""
        self._scheduler = scheduler

    def order(self, address: str) -> None:
        """Say that a worker leaves in good order, for which Dask blames nobody."""
        self._ordered.add(address)

    def add_worker(self, scheduler: Scheduler, worker: str) -> None:
        """Keep hold of the worker: when it is gone, it still knows what it had."""
        self._workers[worker] = scheduler.workers[worker]

    def remove_worker(self, scheduler: Scheduler, worker: str, **_: Any) -> None:
        """Let go of a worker whose tasks have all been sent elsewhere."""
        self._workers.pop(worker, None)
        self._guilty.pop(worker, None)
        self._ordered.discard(worker)

    def transition(self, key: Any, start: str, finish: str, *args: Any, stimulus_id: str = "", **kwargs: Any) -> None:
        """Acquit a task that its dead worker had not begun."""
        if start != "processing" or finish not in {"released", "erred"}:
            return
        assert self._scheduler is not None
        task = self._scheduler.tasks[key]
        dead = next((one for one in self._workers.values() if one.status.name == "closed"), None)
        if not task.suspicious or dead is None or dead.address in self._ordered:
            return
        # Also of one that has now failed for good: its place in the line was the first.
        begun = self._begun(dead, task)
        if finish == "released" and key not in begun:
            task.suspicious -= 1
            task.prefix.suspicious -= 1

    def _begun(self, worker: WorkerState, task: TaskState) -> set[Any]:
        """Return the keys of the tasks that a dead worker was running: the first of its line."""
        guilty = self._guilty.get(worker.address)
        if guilty is None:
            had = [task, *worker.processing]
            known = [one for one in had if one in worker.executing]
            rest = (one for one in had if one not in worker.executing)
            first = heapq.nsmallest(max(0, worker.nthreads - len(known)), rest, key=lambda one: one.priority or ())
            guilty = self._guilty[worker.address] = {one.key for one in (*known, *first)}
        return guilty
