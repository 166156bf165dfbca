"""Why a worker died, and who is to blame.

Dask gives tasks with resource restrictions to workers at once, so that one may have
thousands in line, and when it dies counts its death against all of them and starts them
elsewhere before anybody knows why. Here all of them are held back for the moment that it
takes to find out: the nanny reads what ran from memory that outlives the worker, and knows
whether it was killed for memory; of a job that somebody else ended, its batch system tells.
Then what waited in line goes on as if nothing had been, and only what ran is judged.
"""

from __future__ import annotations

import asyncio
import heapq
import logging
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from distributed.diagnostics.plugin import SchedulerPlugin

from scalable.pools.nanny_setup import DIED
from scalable.telemetry.board import written

if TYPE_CHECKING:
    from distributed import Scheduler
    from distributed.scheduler import TaskState, WorkerState

__all__ = ["Death", "Deaths", "is_held"]

logger = logging.getLogger(__name__)

_VERDICT_S = 5.0
"""Seconds after which the cause of a death counts as unknown."""

_NOBODY: Final = frozenset({"scalable://held-until-the-cause-of-death-is-known"})
_KILLED_BY_NANNY = "worker-restart-memory"  # Dask's own event, sent before its nanny kills a worker


def is_held(task: TaskState) -> bool:
    """Whether a task waits for word of what its worker died of."""
    return (task.worker_restrictions or set()) == _NOBODY


@dataclass(frozen=True, slots=True)
class Death:
    """How a worker ended.

    Attributes
    ----------
    worker : WorkerState
        As it was.
    out_of_memory : bool
        Whether it was killed for the memory that it used.
    peak_bytes : int
        Memory seen at the most; 0 if nobody looked.
    tasks : int
        How many tasks it ran.
    outside : bool
        Whether somebody else ended it, so that none of its tasks did.
    kills_allowed : int
        Of how many workers a task may be the death before it fails for good.
    """

    worker: WorkerState
    out_of_memory: bool
    peak_bytes: int
    tasks: int
    outside: bool
    kills_allowed: int


@dataclass(slots=True)
class _Report:
    """What is known of a death so far."""

    out_of_memory: bool = False
    peak_bytes: int = 0
    keys: frozenset[str] = frozenset()
    outside: bool = False
    final: bool = False


@dataclass(slots=True)
class _Case:
    """A dead worker, and what it had, with the restrictions that these tasks had."""

    worker: WorkerState
    executing: frozenset[Any]
    held: dict[Any, set[str] | None] = field(default_factory=dict)
    timer: asyncio.TimerHandle | None = None


class Deaths(SchedulerPlugin):
    """Hold back what a dead worker had, and judge what it ran once the cause is known.

    Parameters
    ----------
    judge : callable
        Called with a task that ran, which waits for a worker now, and with the death.
    """

    name = "scalable-deaths"

    def __init__(self, judge: Callable[[TaskState, Death], None]) -> None:
        self._judge = judge
        self._scheduler: Scheduler
        self._kills_allowed = 0
        self._workers: dict[str, WorkerState] = {}
        self._dead: WorkerState | None = None
        self._ordered: set[str] = set()
        self._cases: dict[str, _Case] = {}
        self._reports: dict[str, _Report] = {}
        self._sentenced: dict[Any, tuple[set[str] | None, Death]] = {}

    async def start(self, scheduler: Scheduler) -> None:
        """Remember the scheduler, and take the counting of deaths over; called by Dask."""
        self._scheduler = scheduler
        self._kills_allowed = scheduler.allowed_failures
        # Dask would fail tasks for good before it is known whether they are to blame.
        scheduler.allowed_failures = sys.maxsize

    def order(self, address: str) -> None:
        """Say that a worker leaves in good order, for which Dask blames nobody."""
        self._ordered.add(address)

    def report(
        self,
        address: str,
        *,
        out_of_memory: bool = False,
        peak_bytes: int = 0,
        keys: Iterable[str] = (),
        outside: bool = False,
        final: bool = True,
    ) -> None:
        """Say what a worker died of, or is about to.

        Parameters
        ----------
        address : str
            The worker's.
        out_of_memory, peak_bytes, outside
            As for :class:`Death`.
        keys : iterable of str
            What it ran, as on its board; empty if that is not known.
        final : bool
            Whether nobody else knows more.
        """
        if address not in self._cases and address not in self._workers:
            return
        known = self._reports.setdefault(address, _Report())
        if known.final:
            return
        known.out_of_memory |= out_of_memory
        known.peak_bytes = max(known.peak_bytes, peak_bytes)
        known.keys |= frozenset(keys)
        known.outside = outside
        known.final = final
        if final and address in self._cases and address not in self._workers:
            self._close(address)

    def add_worker(self, scheduler: Scheduler, worker: str) -> None:
        """Keep hold of the worker: when it is gone, it still knows what it had."""
        self._workers[worker] = scheduler.workers[worker]

    def remove_worker(self, scheduler: Scheduler, worker: str, **_: Any) -> None:
        """Let go of a worker all of whose tasks are held, or elsewhere."""
        self._workers.pop(worker, None)
        self._ordered.discard(worker)
        self._dead = None
        case = self._cases.get(worker)
        if case is None:
            self._reports.pop(worker, None)
        elif worker in self._reports and self._reports[worker].final:
            self._close(worker)
        else:
            case.timer = asyncio.get_running_loop().call_later(_VERDICT_S, self._close, worker)

    def log_event(self, topic: str, msg: Any) -> None:
        """Take a nanny's word for what became of its worker."""
        if topic == _KILLED_BY_NANNY:
            self.report(msg["worker"], out_of_memory=True, peak_bytes=msg["rss"], final=False)
        elif topic == DIED:
            facts = {name: msg[name] for name in ("out_of_memory", "peak_bytes", "keys")}
            self.report(msg["worker"], **facts)

    def transition(self, key: Any, start: str, finish: str, *args: Any, stimulus_id: str = "", **kwargs: Any) -> None:
        """Hold a task whose worker is dead, and carry a sentence out as soon as that can be."""
        if start == "processing":
            if finish == "released":
                self._released(key)
        elif finish == "no-worker" and key in self._sentenced:
            asyncio.get_running_loop().call_soon(self._carry_out, key)

    def _released(self, key: Any) -> None:
        task = self._scheduler.tasks[key]
        if not task.suspicious:
            return
        if self._dead is None:
            self._dead = next((one for one in self._workers.values() if one.status.name == "closed"), None)
        dead = self._dead
        if dead is None or dead.address in self._ordered:
            return
        case = self._cases.get(dead.address)
        if case is None:
            case = self._cases[dead.address] = _Case(dead, frozenset(one.key for one in dead.executing))
        case.held[key] = task.worker_restrictions
        task.worker_restrictions = set(_NOBODY)

    def _close(self, address: str) -> None:
        """Let what a dead worker had go on, now that it is known why it died, or that nobody knows."""
        case, report = self._cases.pop(address), self._reports.pop(address, _Report())
        if case.timer is not None:
            case.timer.cancel()
        held = {key: task for key in case.held if (task := self._held(key)) is not None}
        ran = self._ran(case, report, held)
        death = Death(
            case.worker, report.out_of_memory, report.peak_bytes, len(ran), report.outside, self._kills_allowed
        )
        follow: dict[Any, Any] = {}
        for key, task in held.items():
            if key not in ran or report.outside:
                task.suspicious -= 1
                task.prefix.suspicious -= 1
            if key in ran:
                self._sentenced[key] = (case.held[key], death)
            else:
                task.worker_restrictions = case.held[key]
                if task.state == "no-worker":
                    follow[key] = "processing"
        self._scheduler.transitions(follow, stimulus_id=f"held-{address}")
        for key in ran:
            # What waits for an input that died with the worker is judged when it can be started.
            if held[key].state == "no-worker":
                self._carry_out(key)

    def _held(self, key: Any) -> TaskState | None:
        """Return a task that is held; ``None`` if it was cancelled, or handed in anew under the same key."""
        task = self._scheduler.tasks.get(key)
        return task if task is not None and is_held(task) else None

    def _carry_out(self, key: Any) -> None:
        restrictions, death = self._sentenced.pop(key, (None, None))
        task = self._held(key)
        if task is None or death is None:
            return
        task.worker_restrictions = restrictions
        try:
            self._judge(task, death)
        except Exception:
            logger.exception("task %s cannot be judged; it is tried again", key)
            self._scheduler.transitions({key: "processing"}, stimulus_id=f"judged-{key}")

    @staticmethod
    def _ran(case: _Case, report: _Report, held: dict[Any, TaskState]) -> set[Any]:
        """Return the keys of what a dead worker ran, from its board, or else by what Dask knows of it."""
        if report.keys:
            found = {key for key in held if written(key) in report.keys}
            if found:
                return found
        known = {key for key in held if key in case.executing}
        rest = (task for key, task in held.items() if key not in known)
        places = max(0, case.worker.nthreads - len(known))
        first = heapq.nsmallest(places, rest, key=lambda task: task.priority or ())
        return known | {task.key for task in first}
