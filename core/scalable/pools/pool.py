"""What a cluster keeps of its pools and their workers: who is there, who is coming, who leaves."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Generator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from scalable.pools.shape import PoolShape

if TYPE_CHECKING:
    from scalable.pools.cluster import PoolCluster

__all__ = ["Member", "Pool", "RemoteWorker", "WorkerAdapter", "WorkerEnd", "WorkerFactory", "WorkerProcess"]

_STARTUPS_KEPT = 1000


class WorkerProcess(Protocol):
    """What runs one worker: Dask's ``distributed.deploy.spec.ProcessInterface``.

    Awaiting it starts it; it may be closed at any time, and more than once.
    """

    def __await__(self) -> Generator[Any, Any, Any]:
        """Start, and return when the worker is up."""
        ...

    def close(self) -> Awaitable[Any]:
        """Stop, whatever state it is in."""
        ...


@dataclass(frozen=True, slots=True)
class WorkerEnd:
    """What became of a worker that will not come back.

    Attributes
    ----------
    text : str
        For people: which job, where, how it ended.
    out_of_memory : bool
        Whether it was ended for the memory that it used.
    hopeless : bool
        Whether another like it would fare no better.
    outside : bool
        Whether somebody else ended it, so that none of its tasks is to blame.
    """

    text: str
    out_of_memory: bool = False
    hopeless: bool = False
    outside: bool = False


@runtime_checkable
class RemoteWorker(WorkerProcess, Protocol):
    """A worker that somebody else starts, when they see fit, and may end.

    Awaiting it returns when it is asked for; it is up when it connects. It may be closed
    while it is awaited.

    Attributes
    ----------
    group : str
        What is started and stopped, and paid for, together.
    ends_at : float or None
        When it will be ended, in unix seconds; ``None`` if never, or not known.
    note : str
        What it waits for, such as ``'PENDING (Resources)'``.
    """

    group: str
    ends_at: float | None
    note: str

    async def over(self, *, lost: bool) -> WorkerEnd:
        """Return when it is certain that it will not come, or not come back if it is lost."""
        ...


WorkerFactory = Callable[[PoolShape, str, str], WorkerProcess]
"""Make a worker that is not started yet from a pool's shape, a name and the scheduler's address."""


async def _nothing() -> None:
    return None


def _nobody(shape: PoolShape, name: str, scheduler_address: str) -> WorkerProcess:
    raise NotImplementedError(f"nobody starts workers of pool {shape.name}")


@dataclass(frozen=True, slots=True)
class WorkerAdapter:
    """What starts and stops the worker groups of one target.

    Attributes
    ----------
    name : str
        The target.
    factory : callable
        Makes workers.
    limit : int or None
        Workers of all its pools together, at the most; ``None`` for no limit of its own.
    group_size : int
        Workers that start and stop together, at the most.
    says_goodbye : bool
        Whether workers that somebody else starts are told to end themselves before their group
        is; not where ending the group at once ends the worker.
    attach : callable
        Called with the cluster that takes it on.
    before_close : callable
        Coroutine function; called on the loop when all workers and the scheduler are closed.
    on_close : callable
        Called last.
    """

    name: str = ""
    factory: WorkerFactory = _nobody
    limit: int | None = None
    group_size: int = 1
    says_goodbye: bool = True
    attach: Callable[[PoolCluster], None] = lambda _cluster: None
    before_close: Callable[[], Awaitable[None]] = _nothing
    on_close: Callable[[], None] = lambda: None


class Member:
    """One worker of a pool, from the moment it is wanted until it is gone."""

    __slots__ = (
        "arrived", "asked_at", "closing", "expiring", "name", "process", "released", "remote", "requested", "retiring",
        "stuck", "task", "up", "up_at",
    )  # fmt: skip

    def __init__(self, name: str) -> None:
        self.name = name
        self.process: WorkerProcess | None = None
        # The same, if somebody else starts it.
        self.remote: RemoteWorker | None = None
        self.task: asyncio.Task[None] | None = None
        self.closing: asyncio.Task[Any] | None = None
        self.arrived = asyncio.Event()
        self.asked_at = time.monotonic()
        self.up_at = 0.0
        self.requested = False
        self.up = False
        self.retiring = False
        self.expiring = False
        # It is to leave, and nobody can take its results yet.
        self.stuck = False
        # It leaves by its name, and not because there are more than are wanted.
        self.released = False

    async def close(self) -> None:
        """Close its process, which goes on whoever stops waiting for it.

        A second ``close()`` of Dask's waits for the first to end, and so for ever if that was
        cancelled.
        """
        if self.process is None:
            return
        if self.closing is None:
            self.closing = asyncio.ensure_future(self.process.close())
        await asyncio.shield(self.closing)

    @property
    def group(self) -> str:
        """What is started and stopped together with it; itself if it is alone."""
        return self.remote.group if self.remote is not None else self.name


class Pool:
    """The workers of one component.

    Attributes
    ----------
    shape : PoolShape
        What its workers are like.
    desired : int
        How many there are to be.
    minimum : int
        Below how many no decision takes it.
    members : dict of str to Member
        Those there are, by name: starting, up and leaving.
    broken : str
        Why no more are started; empty while all is well.
    trouble : Exception or None
        Why the last one that was to start did not; ``None`` since one has.
    startup_s : float
        Seconds that its last worker took to come up; 0 before the first.
    startups : deque of float
        Seconds that each worker took to come up, until whoever decides on scaling takes them.
    failed : int
        Workers that did not start or were lost, until whoever decides on scaling takes note.
    source : WorkerAdapter
        Who starts and stops its workers.
    """

    def __init__(self, shape: PoolShape, source: WorkerAdapter | None = None) -> None:
        self.shape = shape
        self.source = source or WorkerAdapter()
        self.desired = 0
        self.minimum = 0
        self.members: dict[str, Member] = {}
        self.failures = 0
        self.broken = ""
        self.trouble: Exception | None = None
        self.startup_s = 0.0
        self.startups: deque[float] = deque(maxlen=_STARTUPS_KEPT)
        self.failed = 0
        self.said = ""
        self.trying = False
        self._numbers = itertools.count()

    @property
    def adapter(self) -> str:
        """Name of the target whose workers they are."""
        return self.source.name

    @property
    def limit(self) -> int | None:
        """How many workers all pools of its adapter may have together; ``None`` for any number."""
        return self.source.limit

    @property
    def group_size(self) -> int:
        """How many workers start and stop together, at the most."""
        return self.source.group_size

    def new_names(self, count: int) -> list[str]:
        """Return names that no worker of this pool had before, by groups where these have several workers.

        The marks before a worker's place in its group is how Dask's command line names
        the workers that it starts together.
        """
        names: list[str] = []
        while len(names) < count:
            group = f"{self.shape.name}-{next(self._numbers)}"
            size = min(self.group_size, count - len(names))
            names += [group] if size == 1 else [f"{group}~-{place}" for place in range(size)]
        return names

    @property
    def staying(self) -> list[Member]:
        """The members that are not leaving."""
        # A copy first: other threads look on while members come and go.
        return [member for member in list(self.members.values()) if not member.retiring and not member.expiring]

    @property
    def waiting(self) -> Counter[str]:
        """What workers that are not up yet wait for, where that is known."""
        waiting = (member.remote for member in self.staying if not member.up)
        return Counter(remote.note for remote in waiting if remote is not None and remote.note)

    @property
    def up(self) -> int:
        """How many workers are up and not leaving."""
        return sum(member.up for member in self.staying)
