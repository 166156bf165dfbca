"""Adapters that run elsewhere, seen from the scheduler: taken on, listened to, given commands, dropped."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import time
from collections.abc import Generator, Mapping
from typing import TYPE_CHECKING, Any, Final

from distributed.batched import BatchedSend
from distributed.comm.core import CommClosedError
from distributed.core import Status as DaskStatus

from scalable.errors import ProviderError, SubmitFailed, WorkersLost
from scalable.pools.pool import WorkerAdapter, WorkerEnd
from scalable.pools.shape import PoolShape
from scalable.providers.adapters.messages import (
    OPERATION,
    PROTOCOL,
    SILENT_S,
    AdapterHeartbeat,
    CommandResponse,
    Echo,
    Registration,
    ShutdownWorkerGroup,
    StartWorkerGroup,
    Status,
    Welcome,
    WorkerSeen,
    WorkerState,
    read_message,
)
from scalable.providers.adapters.offers import check_offers, shape_of

if TYPE_CHECKING:
    from distributed.comm.core import Comm

    from scalable.pools.cluster import PoolCluster

__all__ = ["AdapterWorker", "GroupRefused", "RemoteAdapter", "accept_adapters"]

logger = logging.getLogger(__name__)

_GATHER_S: Final = 0.01
_LOOK_S: Final = 1.0
_SEND_EVERY: Final = "5ms"
_SHUTDOWN_S: Final = 60.0


class GroupRefused(SubmitFailed):
    """An adapter did not start a worker group."""

    def __str__(self) -> str:
        return f"{self.command}: {self.stderr}"


async def accept_adapters(cluster: PoolCluster) -> None:
    """Let adapters join a cluster while it runs; on its loop."""

    async def receive(comm: Comm, registration: Mapping[str, Any]) -> DaskStatus:
        await _receive(cluster, comm, registration)
        return DaskStatus.dont_reply

    cluster.scheduler.handlers[OPERATION] = receive


async def _receive(cluster: PoolCluster, comm: Comm, facts: Mapping[str, Any]) -> None:
    """Take an adapter on, and listen to it until it is gone."""
    try:
        registration = Registration.from_wire(facts)
        _check(cluster, registration)
    except ProviderError as error:
        logger.warning("an adapter at %s is not taken on: %s", comm.peer_address, error)
        await comm.write(Welcome(str(error)).to_wire())
        await comm.close()
        return
    name = registration.adapter_id
    remote = RemoteAdapter(registration)
    reason = "it cannot be taken on"
    try:
        # Before anything is awaited, so that nobody else takes the name.
        cluster.add_adapter(remote.adapter, [shape_of(offer).at(name) for offer in registration.pools])
        logger.info("adapter '%s' joined from %s", name, comm.peer_address)
        cluster.recorder.append("adapters", {"event": "joined", "at": time.time(), "adapter": name})
        reason = "the connection to it was lost"
        await comm.write(Welcome().to_wire())
        reason = await remote.listen(comm)
    except CommClosedError:
        pass
    finally:
        why = f"adapter '{name}' is dropped: {reason}"
        remote.drop(why)
        cluster.drop_adapter(name, why)
        comm.abort()
        if not cluster.closing:
            logger.warning("%s", why)
            facts = {"event": "dropped", "at": time.time(), "adapter": name, "reason": reason}
            cluster.recorder.append("adapters", facts)


def _check(cluster: PoolCluster, registration: Registration) -> None:
    """Refuse an adapter that cannot be taken on.

    Raises
    ------
    ProviderError
        It says why.
    """
    name = registration.adapter_id
    if registration.protocol != PROTOCOL:
        raise ProviderError(
            f"it speaks protocol {registration.protocol}, the scheduler {PROTOCOL}; use the same release on both sides"
        )
    check_offers(registration)
    if cluster.closing:
        raise ProviderError("the run ends")
    if name in cluster.adapters:
        raise ProviderError(f"there is an adapter '{name}' already")


class _Group:
    """A worker group from the moment it is wanted."""

    def __init__(self) -> None:
        self.id = ""
        self.workers: list[AdapterWorker] = []
        self.started: asyncio.Future[None] = asyncio.get_running_loop().create_future()


class AdapterWorker:
    """One worker of an adapter that runs elsewhere; a :class:`scalable.pools.pool.RemoteWorker`.

    Attributes
    ----------
    group : str
        What is started and stopped together, by the name that it has in its pool.
    """

    def __init__(self, adapter: RemoteAdapter, shape: PoolShape, name: str) -> None:
        self.shape = shape
        self.name = name
        self.group = name.partition("~")[0]
        self.ends_at: float | None = None
        self.note = ""
        self.closed = False
        self.end: asyncio.Future[WorkerEnd] = asyncio.get_running_loop().create_future()
        self._adapter = adapter

    def __await__(self) -> Generator[Any, Any, None]:
        """Ask for the group, and return when it is accepted."""
        return self._adapter.start(self).__await__()

    async def over(self, *, lost: bool) -> WorkerEnd:
        """Return when the adapter says that it will not come, or not come back, or is itself gone."""
        if lost:
            self._adapter.tell(WorkerSeen(self.name, lost=True))
        try:
            return await asyncio.shield(self.end)
        except asyncio.CancelledError:
            # Whoever waited for a worker has it.
            self._adapter.tell(WorkerSeen(self.name, lost=False))
            raise

    async def close(self) -> None:
        """Shut the group down, once all its workers are closed."""
        await self._adapter.close(self)


class RemoteAdapter:
    """An adapter that runs elsewhere.

    Parameters
    ----------
    registration : Registration
        What it said of itself.

    Attributes
    ----------
    adapter : WorkerAdapter
        It, as pools know it.
    heartbeat : AdapterHeartbeat or None
        The last one.
    """

    def __init__(self, registration: Registration) -> None:
        self.heartbeat: AdapterHeartbeat | None = None
        size = registration.workers_per_group
        self.adapter = WorkerAdapter(
            registration.adapter_id, self._worker, registration.max_workers, size, says_goodbye=size > 1
        )
        self._workers: dict[str, AdapterWorker] = {}
        self._groups: dict[str, _Group] = {}
        self._numbers = itertools.count()
        self._requests: dict[int, asyncio.Future[CommandResponse]] = {}
        self._starting: set[asyncio.Task[None]] = set()
        self._line = BatchedSend(interval=_SEND_EVERY)
        self._gone = ""
        self._silent = 0

    async def listen(self, comm: Comm) -> str:
        """Take what it says until it falls silent; return why nobody listens any more.

        Raises
        ------
        CommClosedError
            If the connection is lost.
        """
        self._line.start(comm)
        listening = asyncio.ensure_future(self._take_all(comm))
        watching = asyncio.ensure_future(self._watch())
        try:
            await asyncio.wait({listening, watching}, return_when=asyncio.FIRST_COMPLETED)
            return await (listening if listening.done() else watching)
        finally:
            for task in (listening, watching):
                task.cancel()
            await asyncio.gather(listening, watching, return_exceptions=True)

    def drop(self, why: str) -> None:
        """Have nothing more to do with it: all its workers are accounted for as lost."""
        self._gone = why
        self._line.abort()
        for request in self._requests.values():
            if not request.done():
                request.set_exception(WorkersLost(why))
                request.exception()
        for worker in self._workers.values():
            if not worker.end.done():
                worker.end.set_result(WorkerEnd(why, hopeless=True, outside=True))

    def tell(self, message: WorkerSeen) -> None:
        """Send something to which there is no answer."""
        self._send(message.to_wire())

    async def start(self, worker: AdapterWorker) -> None:
        """Ask for the group of a worker, together with all others of it that are asked for at this moment.

        Raises
        ------
        GroupRefused
            With the adapter's words.
        WorkersLost
            If the adapter is gone.
        """
        if worker.closed:
            return
        group = self._groups.get(worker.group)
        if group is None:
            group = self._groups[worker.group] = _Group()
            group.started.add_done_callback(_retrieved)
            task = asyncio.ensure_future(self._start(group))
            self._starting.add(task)
            task.add_done_callback(self._starting.discard)
        group.workers.append(worker)
        await asyncio.shield(group.started)

    async def close(self, worker: AdapterWorker) -> None:
        """Shut the group of a worker down once nobody else is in it."""
        group = self._groups.get(worker.group)
        worker.closed = True
        self._workers.pop(worker.name, None)
        if group is None or not all(one.closed for one in group.workers):
            return
        self._groups.pop(worker.group)
        await asyncio.wait([group.started])
        if group.id and not self._gone:
            command = ShutdownWorkerGroup(next(self._numbers), group.id)
            with contextlib.suppress(WorkersLost):
                async with asyncio.timeout(_SHUTDOWN_S):
                    response = await self._request(command)
                if response.status is not Status.Success:
                    logger.warning("worker group %s: %s: %s", group.id, response.status.name, response.message)

    def _worker(self, shape: PoolShape, name: str, scheduler_address: str) -> AdapterWorker:
        # Its workers connect to the address by which it did itself.
        del scheduler_address
        worker = self._workers[name] = AdapterWorker(self, shape, name)
        return worker

    async def _start(self, group: _Group) -> None:
        await asyncio.sleep(_GATHER_S)
        names = tuple(worker.name for worker in group.workers if not worker.closed)
        if not names:
            group.started.set_result(None)
            return
        shape = group.workers[0].shape
        command = StartWorkerGroup(next(self._numbers), shape.name, names, dict(shape.labels))
        try:
            response = await self._request(command)
        except WorkersLost as error:
            group.started.set_exception(error)
            return
        if response.status is Status.Success:
            group.id = response.worker_group_id
            group.started.set_result(None)
            return
        what = f"adapter '{self.adapter.name}' starts no worker group of {shape.name} ({response.status.name})"
        passing = response.retry_after_s is not None
        group.started.set_exception(GroupRefused(what, response.status, response.message, passing=passing))

    async def _request(self, command: StartWorkerGroup | ShutdownWorkerGroup) -> CommandResponse:
        if self._gone:
            raise WorkersLost(self._gone)
        request: asyncio.Future[CommandResponse] = asyncio.get_running_loop().create_future()
        self._requests[command.request_id] = request
        try:
            self._send(command.to_wire())
            return await request
        finally:
            self._requests.pop(command.request_id, None)

    def _send(self, facts: dict[str, Any]) -> None:
        # What is sent to one that is gone is of no use, and neither is saying so.
        with contextlib.suppress(CommClosedError):
            if not self._gone:
                self._line.send(facts)

    async def _take_all(self, comm: Comm) -> str:
        while True:
            facts = await comm.read()
            self._silent = 0
            try:
                message = read_message(facts)
            except ProviderError as error:
                return str(error)
            if isinstance(message, AdapterHeartbeat):
                self._take_heartbeat(message)
            elif isinstance(message, CommandResponse):
                request = self._requests.get(message.request_id)
                if request is not None and not request.done():
                    request.set_result(message)

    async def _watch(self) -> str:
        # Counted in looks, so that a moment in which this process itself was busy is not taken for silence.
        while self._silent < SILENT_S / _LOOK_S:
            await asyncio.sleep(_LOOK_S)
            self._silent += 1
        return f"it has been silent for {SILENT_S:.0f} s"

    def _take_heartbeat(self, heartbeat: AdapterHeartbeat) -> None:
        self.heartbeat = heartbeat
        self._send(Echo().to_wire())
        ahead_s = heartbeat.sent_at - time.time()
        for report in heartbeat.workers:
            worker = self._workers.get(report.worker_id)
            if worker is None:
                continue
            worker.note = report.note
            worker.ends_at = None if report.ends_at is None else report.ends_at - ahead_s
            if report.state == WorkerState.FAILED and not worker.end.done():
                facts = (report.out_of_memory, report.hopeless, report.outside)
                worker.end.set_result(WorkerEnd(report.text, *facts))


def _retrieved(future: asyncio.Future[Any]) -> None:
    """Look at a future's exception: those who waited for it may have gone."""
    if not future.cancelled():
        future.exception()
