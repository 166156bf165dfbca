"""An adapter that runs on its own: joining a running scheduler, and ending with it."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import logging
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from distributed.comm.core import CommClosedError, connect

from scalable.errors import ProviderError, ProviderUnavailable
from scalable.pools.pool import WorkerAdapter
from scalable.pools.shape import PoolShape
from scalable.providers.adapters.groups import WorkerGroups
from scalable.providers.adapters.messages import (
    HEARTBEAT_S,
    OPERATION,
    PROTOCOL,
    CommandResponse,
    Echo,
    Message,
    PoolOffer,
    Registration,
    ShutdownWorkerGroup,
    StartWorkerGroup,
    Welcome,
    WorkerSeen,
    read_message,
)

if TYPE_CHECKING:
    from distributed.comm.core import Comm
    from distributed.security import Security

__all__ = ["check_address", "join"]

logger = logging.getLogger(__name__)

_CONNECT_S: Final = 10.0
_UNHEARD_S: Final = 60.0
"""Seconds after which a scheduler that does not answer heartbeats counts as gone; it may be busy for some."""


def check_address(address: str, *, secure: bool, insecure: bool = False) -> None:
    """Refuse an address by which commands and results would cross a network in the clear.

    Parameters
    ----------
    address : str
        Such as ``tls://10.0.0.1:8786``.
    secure : bool
        Whether there are certificates for it.
    insecure : bool
        Whether somebody said that they may.

    Raises
    ------
    ProviderError
        If it is no such address, or would do that.
    """
    parts = urlsplit(address)
    try:
        known = parts.scheme in {"tls", "tcp"} and parts.hostname is not None and parts.port is not None
    except ValueError:
        known = False
    if not known:
        raise ProviderError(f"'{address}' is no scheduler's address; it looks like tls://10.0.0.1:8786")
    if parts.scheme == "tls" and not secure:
        raise ProviderError(
            f"{address} takes only those with the run's certificate; give --tls-ca, --tls-cert and --tls-key"
        )
    if parts.scheme == "tcp" and secure:
        raise ProviderError(f"{address} is not encrypted, so that certificates are of no use; write tls://")
    if parts.scheme == "tcp" and not insecure and not _is_loopback(str(parts.hostname)):
        raise ProviderError(
            f"{address} is another machine, and without encryption anybody on the way could run code there; "
            "use tls:// with the run's certificates, or say --insecure"
        )


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


async def join(
    adapter: WorkerAdapter,
    shapes: Sequence[PoolShape],
    scheduler_address: str,
    security: Security | None,
    *,
    leave: asyncio.Event,
    joined: Callable[[], None] = lambda: None,
) -> str:
    """Serve a scheduler with the workers of an adapter, until either ends; no worker is left then.

    Parameters
    ----------
    adapter : WorkerAdapter
        Who makes the workers.
    shapes : sequence of PoolShape
        Its pools, by their components' names.
    scheduler_address : str
        Where it and its workers connect.
    security : distributed.Security, optional
        With the run's certificates.
    leave : asyncio.Event
        Set when the adapter is to end.
    joined : callable
        Called when the scheduler has taken it on.

    Returns
    -------
    str
        Why it ended.

    Raises
    ------
    ProviderUnavailable
        If there is no such scheduler, or it does not know the certificate.
    ProviderError
        If it refuses the adapter.
    """
    groups = WorkerGroups(adapter, [shape.at(adapter.name) for shape in shapes], scheduler_address)
    try:
        comm = await _connected(scheduler_address, security)
        try:
            await _register(comm, adapter, shapes, scheduler_address)
            joined()
            return await _Line(comm, groups).serve(leave)
        finally:
            comm.abort()
    finally:
        await groups.close()
        await adapter.before_close()


async def _connected(address: str, security: Security | None) -> Comm:
    try:
        arguments = {} if security is None else security.get_connection_args("client")
        comm: Comm = await connect(address, timeout=_CONNECT_S, **arguments)
    except (OSError, TimeoutError) as error:
        raise ProviderUnavailable(
            f"cannot connect to the scheduler at {address}: {error}; "
            "is the run under way, and are these its own certificates?"
        ) from error
    return comm


async def _register(comm: Comm, adapter: WorkerAdapter, shapes: Sequence[PoolShape], address: str) -> None:
    offers = tuple(_offer(shape) for shape in shapes)
    registration = Registration(PROTOCOL, adapter.name, adapter.limit, adapter.group_size, offers)
    try:
        await comm.write({"op": OPERATION, "registration": registration.to_wire(), "reply": False})
        async with asyncio.timeout(_CONNECT_S):
            answer = read_message(await comm.read())
    except (OSError, TimeoutError) as error:
        raise ProviderUnavailable(
            f"what answers at {address} is no scheduler that takes adapters: {str(error) or 'it does not answer'}"
        ) from error
    if not isinstance(answer, Welcome) or answer.refused:
        why = answer.refused if isinstance(answer, Welcome) else "it answers something else"
        raise ProviderError(f"the scheduler at {address} does not take adapter '{adapter.name}': {why}")


def _offer(shape: PoolShape) -> PoolOffer:
    component = shape.component
    need = component.resources
    return PoolOffer(
        component.name,
        shape.threads,
        need.cpus,
        need.memory_bytes,
        need.gpus,
        component.tags,
        dict(component.capabilities),
    )


class _Line:
    """The connection to a scheduler that has taken the adapter on."""

    def __init__(self, comm: Comm, groups: WorkerGroups) -> None:
        self._comm = comm
        self._groups = groups
        self._writing = asyncio.Lock()
        self._commands: set[asyncio.Task[None]] = set()

    async def serve(self, leave: asyncio.Event) -> str:
        """Send heartbeats and carry out commands; return why that ended."""
        tasks = [asyncio.ensure_future(one) for one in (self._listen(), self._beat(), leave.wait())]
        listening, beating, leaving = tasks
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            if leaving.done():
                return "told to end"
            for task in (listening, beating):
                if task.done() and (error := task.exception()) is not None and not isinstance(error, CommClosedError):
                    raise error
            return "the scheduler ended, or is out of reach"
        finally:
            for task in (*tasks, *self._commands):
                task.cancel()
            await asyncio.gather(*tasks, *self._commands, return_exceptions=True)

    async def _beat(self) -> None:
        while True:
            await self._write(self._groups.heartbeat())
            # Not by `wait_for`, which can take being cancelled for having been answered.
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(HEARTBEAT_S):
                    await self._groups.changed.wait()

    async def _listen(self) -> None:
        while True:
            try:
                async with asyncio.timeout(_UNHEARD_S):
                    batch = await self._comm.read()
            except TimeoutError as error:
                raise CommClosedError(f"the scheduler has been silent for {_UNHEARD_S:.0f} s") from error
            for facts in batch:
                try:
                    self._take(read_message(facts))
                except ProviderError as error:
                    logger.warning("%s", error)

    def _take(self, message: Message) -> None:
        if isinstance(message, StartWorkerGroup | ShutdownWorkerGroup):
            # Whoever runs the workers may take minutes; other commands go on meanwhile.
            task = asyncio.ensure_future(self._carry_out(message))
            self._commands.add(task)
            task.add_done_callback(self._commands.discard)
        elif isinstance(message, WorkerSeen):
            self._groups.seen(message.worker_id, lost=message.lost)
        elif not isinstance(message, Echo):
            logger.warning("the scheduler sends what is none of an adapter's business: %s", type(message).__name__)

    async def _carry_out(self, command: StartWorkerGroup | ShutdownWorkerGroup) -> None:
        response: CommandResponse
        if isinstance(command, StartWorkerGroup):
            response = await self._groups.start_group(command)
        else:
            response = await self._groups.shutdown_group(command)
        logger.info(
            "%s %s: %s %s",
            response.command, response.worker_group_id, response.status.name, response.message,
        )  # fmt: skip
        with contextlib.suppress(CommClosedError):
            await self._write(response)

    async def _write(self, message: Message) -> None:
        # A connection takes one message at a time.
        async with self._writing:
            await self._comm.write(message.to_wire())
