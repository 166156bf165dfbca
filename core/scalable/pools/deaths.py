"""Why a worker died, and who is to blame: the tasks that ran there, not those in line behind them.

Dask gives tasks with resource restrictions to workers at once, so that one may have
thousands in line, and when it dies counts its death against all of them and starts them
elsewhere before anybody knows why. Here what ran is held back until the cause is known,
because a task that ran out of memory would take the next worker along.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from distributed.diagnostics.plugin import SchedulerPlugin

from scalable.pools.nanny_setup import DIED

if TYPE_CHECKING:
    from distributed import Scheduler
    from distributed.scheduler import TaskState, WorkerState

__all__ = ["Death", "Deaths"]

_VERDICT_S = 5.0
"""Seconds after which the cause of a death counts as unknown."""

_NOBODY = frozenset({"scalable://held-until-the-cause-of-death-is-known"})
_KILLED_BY_NANNY = "worker-restart-memory"  # Dask's own event, sent before its nanny kills a worker


@dataclass(frozen=True, slots=True)
class Death:
    """How a worker ended.

    Attributes
    ----------
    worker : str
        Its name.
    out_of_memory : bool
        Whether it was killed for the memory that it used.
    peak_bytes : int
        Memory seen at the most; 0 if nobody looked.
    tasks : int
        How many tasks it ran.
    """

    worker: str
    out_of_memory: bool
    peak_bytes: int
    tasks: int


@dataclass(slots=True)
class _Case:
    """A dead worker, and what ran there with the restrictions that it had."""

    name: str
    held: dict[Any, set[str] | None] = field(default_factory=dict)
    timer: asyncio.TimerHandle | None = None


class Deaths(SchedulerPlugin):
    """Acquit tasks that had not begun, and hold back the others until the cause is known.

    Parameters
    ----------
    judge : callable
        Called with a task that may go on, and what its worker died of.
    """

    name = "scalable-deaths"

    def __init__(self, judge: Callable[[TaskState, Death], None]) -> None:
        self._judge = judge
        self._scheduler: Scheduler | None = None
        self._workers: dict[str, WorkerState] = {}
        self._guilty: dict[str, set[Any]] = {}
        self._clock = itertools.count(1)
        self._sent: dict[Any, tuple[WorkerState | None, int]] = {}
        self._freed: dict[str, int] = {}
        self._ordered: set[str] = set()
        self._cases: dict[str, _Case] = {}
        self._reports: dict[str, tuple[bool, int]] = {}

    async def start(self, scheduler: Scheduler) -> None:
        """Remember the scheduler; called by Dask when the plugin is added."""
        self._scheduler = scheduler

    def order(self, address: str) -> None:
        """Say that a worker leaves in good order, for which Dask blames nobody."""
        self._ordered.add(address)

    def report(self, address: str, *, out_of_memory: bool, peak_bytes: int = 0) -> None:
        """Say what a worker died of, or is about to; the first word counts."""
        if address in self._cases:
            self._close(address, out_of_memory=out_of_memory, peak_bytes=peak_bytes)
        elif address in self._workers:
            self._reports.setdefault(address, (out_of_memory, peak_bytes))

    def add_worker(self, scheduler: Scheduler, worker: str) -> None:
        """Keep hold of the worker: when it is gone, it still knows what it had."""
        self._workers[worker] = scheduler.workers[worker]

    def remove_worker(self, scheduler: Scheduler, worker: str, **_: Any) -> None:
        """Let go of a worker whose tasks have all been sent elsewhere, or are held."""
        self._workers.pop(worker, None)
        self._guilty.pop(worker, None)
        self._freed.pop(worker, None)
        self._ordered.discard(worker)
        report = self._reports.pop(worker, None)
        case = self._cases.get(worker)
        if case is None:
            return
        if report is not None:
            self._close(worker, out_of_memory=report[0], peak_bytes=report[1])
        else:
            loop = asyncio.get_running_loop()
            case.timer = loop.call_later(_VERDICT_S, lambda: self.report(worker, out_of_memory=False))

    def log_event(self, topic: str, msg: Any) -> None:
        """Take a nanny's word for what became of its worker."""
        if topic == _KILLED_BY_NANNY:
            self.report(msg["worker"], out_of_memory=True, peak_bytes=msg["rss"])
        elif topic == DIED:
            self.report(msg["worker"], out_of_memory=msg["out_of_memory"], peak_bytes=msg["peak_bytes"])

    def transition(self, key: Any, start: str, finish: str, *args: Any, stimulus_id: str = "", **kwargs: Any) -> None:
        """Acquit a task that its dead worker had not begun, and hold one that it had."""
        if finish == "processing":
            assert self._scheduler is not None
            self._sent[key] = (self._scheduler.tasks[key].processing_on, next(self._clock))
        elif start == "processing":
            self._left(key, finish, kwargs.get("worker"))
            self._sent.pop(key, None)

    def _left(self, key: Any, finish: str, by: str | None) -> None:
        """Look at a task that does not run any more, nor wait in line."""
        if by in self._workers and self._workers[by].status.name != "closed":
            self._freed[by] = next(self._clock)
        if finish not in {"released", "erred"}:
            return
        assert self._scheduler is not None
        task = self._scheduler.tasks[key]
        dead = next((one for one in self._workers.values() if one.status.name == "closed"), None)
        if not task.suspicious or dead is None or dead.address in self._ordered:
            return
        # Also of one that has now failed for good: its place in the line was the first.
        begun = self._begun(dead, task)
        if finish != "released":
            return
        if key in begun:
            case = self._cases.setdefault(dead.address, _Case(str(dead.name)))
            case.held[key] = task.worker_restrictions
            task.worker_restrictions = set(_NOBODY)
        else:
            task.suspicious -= 1
            task.prefix.suspicious -= 1

    def _begun(self, worker: WorkerState, task: TaskState) -> set[Any]:
        """Return the keys of the tasks that a dead worker was running: the first of its line.

        When a thread was freed, it took what had the highest priority of what was there; an
        idle one takes what comes first. When one came that was stolen from another worker is not known.
        """
        guilty = self._guilty.get(worker.address)
        if guilty is None:
            had = [task, *worker.processing]
            known = [one for one in had if one in worker.executing]
            rest = (one for one in had if one not in worker.executing)
            freed = self._freed.get(worker.address, 0)

            def turn(one: TaskState) -> tuple[Any, ...]:
                to, sent = self._sent.get(one.key, (None, 0))
                priority = one.priority or ()
                return (2, priority) if to is not worker else (1, sent) if sent > freed else (0, priority)

            first = heapq.nsmallest(max(0, worker.nthreads - len(known)), rest, key=turn)
            guilty = self._guilty[worker.address] = {one.key for one in (*known, *first)}
        return guilty

    def _close(self, address: str, *, out_of_memory: bool, peak_bytes: int) -> None:
        """Let what ran on a dead worker go on, now that the cause of its death is known."""
        assert self._scheduler is not None
        case = self._cases.pop(address)
        if case.timer is not None:
            case.timer.cancel()
        death = Death(case.name, out_of_memory, peak_bytes, len(case.held))
        for key, restrictions in case.held.items():
            task = self._scheduler.tasks.get(key)
            # Cancelled meanwhile, or handed in anew under the same key.
            if task is not None and (task.worker_restrictions or set()) == _NOBODY:
                task.worker_restrictions = restrictions
                self._judge(task, death)
