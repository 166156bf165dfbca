"""The worker groups of an adapter: commands of the control protocol, carried out.

Every provider is an adapter: what it opens for a target makes workers, and here they are
started and ended by groups, for a scheduler that may be anywhere.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Final

from scalable.errors import SubmitFailed
from scalable.pools.pool import RemoteWorker, WorkerAdapter, WorkerEnd, WorkerProcess
from scalable.pools.shape import PoolShape, family_of
from scalable.providers.adapters.messages import (
    AdapterHeartbeat,
    CommandResponse,
    ShutdownWorkerGroup,
    StartWorkerGroup,
    Status,
    WorkerReport,
    WorkerState,
)

__all__ = ["WorkerGroups"]

logger = logging.getLogger(__name__)

_RETRY_AFTER_S: Final = 5.0
_STARTING_S: Final = 15.0


@dataclass(slots=True)
class _Worker:
    process: WorkerProcess
    report: WorkerReport
    # Waits until it is up, or until it is certain that it will not come.
    follow: asyncio.Task[None] | None = None


@dataclass(slots=True)
class _Group:
    capabilities: dict[str, float]
    workers: dict[str, _Worker] = field(default_factory=dict)


class WorkerGroups:
    """Start and end the worker groups of an adapter on request; everything on one event loop.

    Parameters
    ----------
    adapter : WorkerAdapter
        Who makes the workers.
    shapes : iterable of PoolShape
        Its pools, by the names that they have on the scheduler.
    scheduler_address : str
        Where the workers connect.

    Attributes
    ----------
    changed : asyncio.Event
        Set when the state of a worker is another than at the last heartbeat.
    """

    def __init__(self, adapter: WorkerAdapter, shapes: Iterable[PoolShape], scheduler_address: str) -> None:
        self.changed = asyncio.Event()
        self._adapter = adapter
        self._shapes = {shape.name: shape for shape in shapes}
        self._address = scheduler_address
        self._groups: dict[str, _Group] = {}
        self._said: dict[str, WorkerReport] = {}

    def heartbeat(self) -> AdapterHeartbeat:
        """Return what the adapter can do, and what has changed since the last one."""
        self.changed.clear()
        limit, size = self._adapter.limit, self._adapter.group_size
        offered: dict[str, float] = {}
        for shape in self._shapes.values():
            for name, amount in shape.labels.items():
                offered[name] = max(amount, offered.get(name, 0.0))
        reports = {name: _looked_at(worker) for name, worker in self._workers()}
        news = tuple(report for name, report in reports.items() if report != self._said.get(name))
        self._said = reports
        most = None if limit is None else math.ceil(limit / size)
        return AdapterHeartbeat(most, size, offered, time.time(), news)

    async def start_group(self, command: StartWorkerGroup) -> CommandResponse:
        """Start a group, and answer when whoever runs its workers has taken them on."""
        shape = self._shapes.get(family_of(command.pool))
        refusal = self._refusal(command, shape)
        if refusal is not None or shape is None:
            return refusal or _answer(command, Status.UnknownAction)
        shape = shape.renamed(command.pool)
        group_id = _group_of(command.worker_ids[0])
        group = self._groups[group_id] = _Group(dict(shape.labels))
        try:
            for name in command.worker_ids:
                process = self._adapter.factory(shape, name, self._address)
                group.workers[name] = _Worker(process, WorkerReport(name, WorkerState.PENDING))
            await asyncio.gather(*(_asked(one.process) for one in group.workers.values()))
        except Exception as error:  # noqa: BLE001  (a provider may raise anything; the scheduler is told)
            await self._end(group_id)
            return _failed(command, error)
        for worker in group.workers.values():
            worker.follow = asyncio.ensure_future(self._follow(worker, lost=False))
        return _answer(
            command, Status.Success, group_id, worker_ids=tuple(group.workers), capabilities=group.capabilities
        )

    async def shutdown_group(self, command: ShutdownWorkerGroup) -> CommandResponse:
        """End a group, and answer when its workers are gone."""
        group_id = command.worker_group_id
        if not group_id:
            return _answer(command, Status.WorkerGroupIDNotSpecified, message="which group?")
        if group_id not in self._groups:
            return _answer(command, Status.WorkerGroupIDNotFound, group_id, message=f"there is no group {group_id}")
        group = self._groups[group_id]
        await self._end(group_id)
        return _answer(command, Status.Success, group_id, worker_ids=tuple(group.workers))

    def seen(self, worker_id: str, *, lost: bool) -> None:
        """Take the scheduler's word that a worker connected, or was connected and is no more."""
        worker = dict(self._workers()).get(worker_id)
        if worker is None:
            return
        if not lost:
            self._report(worker, WorkerState.READY)
        if isinstance(worker.process, RemoteWorker):
            if worker.follow is not None:
                worker.follow.cancel()
            worker.follow = asyncio.ensure_future(self._follow(worker, lost=True)) if lost else None

    async def close(self) -> None:
        """End all groups."""
        await asyncio.gather(*(self._end(group_id) for group_id in list(self._groups)))

    def _workers(self) -> Iterator[tuple[str, _Worker]]:
        for group in self._groups.values():
            yield from group.workers.items()

    def _refusal(self, command: StartWorkerGroup, shape: PoolShape | None) -> CommandResponse | None:
        """Return the answer to a command that cannot be carried out."""
        limit, names = self._adapter.limit, command.worker_ids
        known = dict(self._workers())
        problem = ""
        if shape is None:
            problem = f"there is no pool {command.pool}; there are {', '.join(self._shapes)}"
        elif not 0 < len(names) <= self._adapter.group_size:
            problem = f"a group has 1 to {self._adapter.group_size} workers, not {len(names)}"
        elif taken := [name for name in names if name in known]:
            problem = f"there is a worker {taken[0]} already"
        elif lacking := _lacking(shape.renamed(command.pool), command):
            problem = f"workers of {command.pool} do not offer {', '.join(lacking)}"
        elif limit is not None and len(known) + len(names) > limit:
            message = f"it has {len(known)} workers and may have {limit}"
            return _answer(command, Status.WorkerGroupTooMuch, message=message, retry_after_s=_RETRY_AFTER_S)
        return _answer(command, Status.UnknownAction, message=problem) if problem else None

    async def _follow(self, worker: _Worker, *, lost: bool) -> None:
        process = worker.process
        if isinstance(process, RemoteWorker):
            self._report(worker, WorkerState.FAILED, await process.over(lost=lost))
            return
        try:
            await process
        except Exception as error:  # noqa: BLE001  (a provider may raise anything; the scheduler is told)
            self._report(worker, WorkerState.FAILED, WorkerEnd(f"it did not start: {error}"))
        else:
            self._report(worker, WorkerState.READY)

    def _report(self, worker: _Worker, state: WorkerState, end: WorkerEnd | None = None) -> None:
        facts = {} if end is None else asdict(end)
        worker.report = replace(worker.report, state=state, **facts)
        self.changed.set()

    async def _end(self, group_id: str) -> None:
        group = self._groups.get(group_id)
        if group is None:
            return
        await asyncio.gather(*(_ended(name, worker) for name, worker in group.workers.items()))
        self._groups.pop(group_id, None)


async def _asked(process: WorkerProcess) -> None:
    """Wait until a worker that somebody else starts is asked for; others are waited for later."""
    if isinstance(process, RemoteWorker):
        await process


async def _ended(name: str, worker: _Worker) -> None:
    if worker.follow is not None:
        if not isinstance(worker.process, RemoteWorker):
            # Interrupting a start half-way can leave a process behind that nobody knows of.
            await asyncio.wait([worker.follow], timeout=_STARTING_S)
        worker.follow.cancel()
        await asyncio.gather(worker.follow, return_exceptions=True)
    try:
        await worker.process.close()
    except (TimeoutError, OSError) as error:
        logger.info("worker %s: %s", name, error)
    except Exception:
        # Whatever the provider's part does, the other workers have to end as well.
        logger.exception("worker %s did not close", name)


def _looked_at(worker: _Worker) -> WorkerReport:
    process = worker.process
    if not isinstance(process, RemoteWorker):
        return worker.report
    return replace(worker.report, note=process.note, ends_at=process.ends_at)


def _group_of(worker_id: str) -> str:
    return worker_id.partition("~")[0]


def _lacking(shape: PoolShape, command: StartWorkerGroup) -> list[str]:
    labels = shape.labels
    return [name for name, amount in command.capabilities.items() if labels.get(name, 0.0) < amount]


def _answer(
    command: StartWorkerGroup | ShutdownWorkerGroup, status: Status, group_id: str = "", **facts: Any
) -> CommandResponse:
    return CommandResponse(command.request_id, type(command).__name__, status, group_id, **facts)


def _failed(command: StartWorkerGroup, error: Exception) -> CommandResponse:
    """Return the answer to a command that whoever runs the workers refused."""
    if isinstance(error, SubmitFailed) and error.passing:
        # A limit on how many one may have, or nobody answered: later it may be otherwise.
        return _answer(command, Status.WorkerGroupTooMuch, message=str(error), retry_after_s=_RETRY_AFTER_S)
    return _answer(command, Status.UnknownAction, message=str(error) or type(error).__name__)
