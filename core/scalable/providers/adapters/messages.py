"""The control protocol between a scheduler and an adapter that runs elsewhere.

The adapter connects to the scheduler's own listener, registers, and from then on sends
heartbeats and answers commands. Messages are mappings of plain values, as Dask's
connections carry them.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntEnum, StrEnum
from typing import Any, Final, Self

from scalable.errors import ProviderError

__all__ = [
    "HEARTBEAT_S",
    "OPERATION",
    "PROTOCOL",
    "SILENT_S",
    "AdapterHeartbeat",
    "CommandResponse",
    "Echo",
    "Message",
    "PoolOffer",
    "Registration",
    "ShutdownWorkerGroup",
    "StartWorkerGroup",
    "Status",
    "Welcome",
    "WorkerReport",
    "WorkerSeen",
    "WorkerState",
    "read_message",
]

PROTOCOL: Final = 1
"""Number of this protocol; a scheduler refuses adapters that speak another."""

OPERATION: Final = "scalable-adapter"
"""Under which Dask's scheduler knows it."""

HEARTBEAT_S: Final = 2.0
"""Seconds between two heartbeats of an adapter."""

SILENT_S: Final = 10.0
"""Seconds of silence after which an adapter counts as gone."""


class Status(IntEnum):
    """What became of a command."""

    WorkerGroupIDNotSpecified = 0
    WorkerGroupIDNotFound = 1
    WorkerGroupShutdown = 2
    UnknownAction = 3
    WorkerGroupTooMuch = 4
    Success = 5


class WorkerState(StrEnum):
    """Where a worker of a group is on its way."""

    PENDING = "pending"
    READY = "ready"
    FAILED = "failed"


class Message:
    """Base of all messages."""

    __slots__ = ()

    def to_wire(self) -> dict[str, Any]:
        """Return the message as plain values."""
        return {"kind": type(self).__name__, **dataclasses.asdict(self)}  # type: ignore[call-overload]

    @classmethod
    def from_wire(cls, facts: Mapping[str, Any]) -> Self:
        """Return the message that plain values stand for; what it does not know of them is left out.

        Raises
        ------
        ProviderError
            If something is missing.
        """
        names = {one.name for one in dataclasses.fields(cls)}  # type: ignore[arg-type]
        try:
            return cls(**{name: value for name, value in facts.items() if name in names})
        except (AttributeError, TypeError, ValueError) as error:
            raise ProviderError(f"a message {cls.__name__} cannot be read: {error}") from error


@dataclass(frozen=True, slots=True)
class PoolOffer(Message):
    """What the workers of one pool of an adapter are like.

    Attributes
    ----------
    component : str
        The component's name.
    threads : int
        Tasks that one worker runs at a time.
    cpus : float
        Cores of a worker.
    memory_bytes : int or None
        Bytes of a worker; ``None`` if it has what the machine has.
    gpus : int
        Whole devices.
    tags : tuple of str
        Further names that tasks may ask for.
    capabilities : mapping of str to float
        What a worker offers; infinite where that has no amount.
    """

    component: str
    threads: int
    cpus: float = 1
    memory_bytes: int | None = None
    gpus: int = 0
    tags: tuple[str, ...] = ()
    capabilities: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class AdapterHeartbeat(Message):
    """What an adapter can do, from adapter to scheduler every two seconds, and whenever a worker's state changes.

    Attributes
    ----------
    max_worker_groups : int or None
        How many groups of full size it may have; ``None`` if there is no limit.
    workers_per_group : int
        Workers of a group, at the most.
    capabilities : mapping of str to float
        What its workers offer, all pools together: for each the largest amount.
    sent_at : float
        When, in unix seconds by the adapter's clock.
    workers : tuple of WorkerReport
        Those whose state is not what it was at the heartbeat before.
    """

    max_worker_groups: int | None
    workers_per_group: int
    capabilities: Mapping[str, float]
    sent_at: float
    workers: tuple[WorkerReport, ...] = ()

    @classmethod
    def from_wire(cls, facts: Mapping[str, Any]) -> Self:
        """Return the message that plain values stand for."""
        workers = tuple(WorkerReport.from_wire(one) for one in facts.get("workers", ()))
        return super(AdapterHeartbeat, cls).from_wire({**facts, "workers": workers})


@dataclass(frozen=True, slots=True)
class WorkerReport(Message):
    """Where one worker is on its way.

    Attributes
    ----------
    worker_id : str
        Its name.
    state : WorkerState
        Whether it is asked for, up, or will not come, or not come back.
    note : str
        What it waits for.
    ends_at : float or None
        When it will be ended, in unix seconds by the adapter's clock.
    text, out_of_memory, hopeless, outside
        What became of it, as in :class:`scalable.pools.pool.WorkerEnd`.
    """

    worker_id: str
    state: WorkerState
    note: str = ""
    ends_at: float | None = None
    text: str = ""
    out_of_memory: bool = False
    hopeless: bool = False
    outside: bool = False


@dataclass(frozen=True, slots=True)
class Registration(Message):
    """The first message of an adapter.

    Attributes
    ----------
    protocol : int
        Which it speaks.
    adapter_id : str
        The target that it serves.
    max_workers : int or None
        Workers at any moment; ``None`` if there is no limit.
    workers_per_group : int
        Workers of a group, at the most.
    pools : tuple of PoolOffer
        The pools of the target.
    """

    protocol: int
    adapter_id: str
    max_workers: int | None
    workers_per_group: int
    pools: tuple[PoolOffer, ...]

    @classmethod
    def from_wire(cls, facts: Mapping[str, Any]) -> Self:
        """Return the message that plain values stand for."""
        offers: object = facts.get("pools", ())
        if not isinstance(offers, tuple | list):
            raise ProviderError(f"a message {cls.__name__} cannot be read: {str(facts)[:80]}")
        pools = tuple(PoolOffer.from_wire(one) for one in offers)
        return super(Registration, cls).from_wire({**facts, "pools": pools})


@dataclass(frozen=True, slots=True)
class Welcome(Message):
    """The scheduler's answer to a registration.

    Attributes
    ----------
    refused : str
        Why it is not taken on; empty if it is.
    """

    refused: str = ""


@dataclass(frozen=True, slots=True)
class Echo(Message):
    """The scheduler's answer to a heartbeat."""


@dataclass(frozen=True, slots=True)
class StartWorkerGroup(Message):
    """A command: start a group.

    Attributes
    ----------
    request_id : int
        Of this command; the response has it too.
    pool : str
        Whose workers, such as ``simulate@aws``, or ``simulate@aws+512`` for workers with so many MiB more.
    worker_ids : tuple of str
        The names under which they are to connect.
    capabilities : mapping of str to float
        What they must offer.
    worker_group_id : str
        Empty: the adapter gives the new group its identifier.
    """

    request_id: int
    pool: str
    worker_ids: tuple[str, ...]
    capabilities: Mapping[str, float]
    worker_group_id: str = ""


@dataclass(frozen=True, slots=True)
class ShutdownWorkerGroup(Message):
    """A command: end a group and all its workers."""

    request_id: int
    worker_group_id: str


@dataclass(frozen=True, slots=True)
class CommandResponse(Message):
    """An adapter's answer to a command.

    Attributes
    ----------
    request_id : int
        Of the command.
    command : str
        Its kind: ``StartWorkerGroup`` or ``ShutdownWorkerGroup``.
    status : Status
        What became of it.
    worker_group_id : str
        The group; empty if there is none.
    worker_ids : tuple of str
        Its workers.
    capabilities : mapping of str to float
        What these offer.
    message : str
        What went wrong, for people.
    retry_after_s : float or None
        Seconds after which the same command may have success; ``None`` if never.
    """

    request_id: int
    command: str
    status: Status
    worker_group_id: str = ""
    worker_ids: tuple[str, ...] = ()
    capabilities: Mapping[str, float] = field(default_factory=dict)
    message: str = ""
    retry_after_s: float | None = None

    @classmethod
    def from_wire(cls, facts: Mapping[str, Any]) -> Self:
        """Return the message that plain values stand for."""
        try:
            status = Status(facts["status"])
        except (KeyError, ValueError) as error:
            raise ProviderError(f"a response has an unknown status: {error}") from error
        return super(CommandResponse, cls).from_wire({**facts, "status": status})


@dataclass(frozen=True, slots=True)
class WorkerSeen(Message):
    """From scheduler to adapter: a worker connected, or was connected and is no more.

    Attributes
    ----------
    worker_id : str
        Its name.
    lost : bool
        Whether it is to be found out what became of it.
    """

    worker_id: str
    lost: bool


_KINDS: Final[Mapping[str, type[Message]]] = {
    kind.__name__: kind
    for kind in (
        AdapterHeartbeat,
        CommandResponse,
        Echo,
        Registration,
        ShutdownWorkerGroup,
        StartWorkerGroup,
        Welcome,
        WorkerSeen,
    )
}


def read_message(facts: Any) -> Message:
    """Return the message that plain values stand for.

    Raises
    ------
    ProviderError
        If they are no message.
    """
    kind = _KINDS.get(facts.get("kind", "")) if isinstance(facts, Mapping) else None
    if kind is None:
        raise ProviderError(f"what came is no message of the control protocol: {str(facts)[:80]}")
    return kind.from_wire(facts)
