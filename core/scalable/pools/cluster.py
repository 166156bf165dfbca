"""One Dask scheduler and the pools beside it: what is wanted of each pool is data, and reality is moved to it."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import time
from collections.abc import Awaitable, Callable, Generator, Iterable, Mapping
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from distributed import Scheduler
from distributed.diagnostics.plugin import SchedulerPlugin
from distributed.protocol import pickle
from distributed.utils import LoopRunner, silence_logging_cmgr, sync

from scalable.errors import ProviderError, WorkersLost
from scalable.pools.deaths import Deaths
from scalable.pools.demand import DemandCounter
from scalable.pools.retire import ready_to_leave
from scalable.pools.shape import PoolShape
from scalable.telemetry.recorder import Recorder

if TYPE_CHECKING:
    from distributed.scheduler import WorkerState
    from distributed.security import Security

__all__ = ["Member", "Pool", "PoolCluster", "WorkerFactory", "WorkerProcess"]

logger = logging.getLogger(__name__)

_T = TypeVar("_T")

_FAILURES_ALLOWED = 3
_BACKOFF_S = 1.0
_LOST_AFTER_S = 15.0
_RETRY_S = 5.0
_STARTING_S = 15.0


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


WorkerFactory = Callable[[PoolShape, str, str], WorkerProcess]
"""Make a worker that is not started yet from a pool's shape, a name and the scheduler's address."""


class Member:
    """One worker of a pool, from the moment it is wanted until it is gone."""

    __slots__ = ("name", "process", "retiring", "task", "up")

    def __init__(self, name: str) -> None:
        self.name = name
        self.process: WorkerProcess | None = None
        self.task: asyncio.Task[None] | None = None
        self.up = False
        self.retiring = False


class Pool:
    """The workers of one component.

    Attributes
    ----------
    shape : PoolShape
        What its workers are like.
    desired : int
        How many there are to be.
    members : dict of str to Member
        Those there are, by name: starting, up and leaving.
    broken : str
        Why no more are started; empty while all is well.
    """

    def __init__(self, shape: PoolShape) -> None:
        self.shape = shape
        self.desired = 0
        self.members: dict[str, Member] = {}
        self.failures = 0
        self.broken = ""
        self.trying = False
        self._numbers = itertools.count()

    def new_name(self) -> str:
        """Return a name that no worker of this pool had before."""
        return f"{self.shape.name}-{next(self._numbers)}"

    @property
    def staying(self) -> list[Member]:
        """The members that are not leaving."""
        # A copy first: other threads look on while members come and go.
        return [member for member in list(self.members.values()) if not member.retiring]

    @property
    def up(self) -> int:
        """How many workers are up and not leaving."""
        return sum(member.up for member in self.staying)


class PoolCluster:
    """A scheduler in this process, and pools of workers that come and go beside it.

    Parameters
    ----------
    shapes : iterable of PoolShape
        The pools, all empty at first.
    worker_factory : callable
        Makes workers; the provider's part.
    scheduler_options : mapping
        Keyword arguments of :class:`distributed.Scheduler`.
    maximum : int
        Workers at any moment, all pools together, those that are leaving included.
    security : distributed.Security, optional
        For connections that leave the machine.
    on_close : callable, optional
        Called last.

    Attributes
    ----------
    recorder : Recorder
        Where coming and going is written; nowhere until the session says where.
    """

    def __init__(
        self,
        shapes: Iterable[PoolShape],
        worker_factory: WorkerFactory,
        *,
        scheduler_options: Mapping[str, Any],
        maximum: int,
        security: Security | None = None,
        on_close: Callable[[], None] = lambda: None,
    ) -> None:
        self.pools = {shape.name: Pool(shape) for shape in shapes}
        self.maximum = maximum
        self.security = security
        self.demand_counter = DemandCounter()
        self._factory = worker_factory
        self._scheduler_options = dict(scheduler_options)
        self.recorder = Recorder(None)
        self._on_close = on_close
        self._reasons: dict[str, str] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._closing = False
        self._closed = False
        self._stack = contextlib.ExitStack()
        self._stack.enter_context(silence_logging_cmgr(logging.WARNING))
        self._runner = LoopRunner()
        self._runner.start()
        self._deaths = Deaths()
        self._moving = asyncio.Lock()
        self._opening: asyncio.Task[Any] | None = None
        self.scheduler: Scheduler
        try:
            self.sync(self._open)
        except BaseException as error:
            self.close()
            if isinstance(error, Exception):
                raise ProviderError(f"the scheduler did not start: {error}") from error
            raise

    @property
    def loop(self) -> Any:
        """The event loop on which scheduler and pools live."""
        return self._runner.loop

    @property
    def scheduler_address(self) -> str:
        """Where workers and clients connect."""
        return str(self.scheduler.address)

    def sync(self, function: Callable[..., Awaitable[_T]], *args: Any, **kwargs: Any) -> _T:
        """Run a coroutine function on the cluster's loop and wait for it, from any other thread."""
        result: _T = sync(self.loop, function, *args, **kwargs)
        return result

    def soon(self, function: Callable[..., Any], *args: Any) -> None:
        """Call a function on the cluster's loop, from any thread, without waiting."""
        self.loop.add_callback(function, *args)

    async def _open(self) -> None:
        self._opening = asyncio.current_task()
        self.scheduler = Scheduler(security=self.security, **self._scheduler_options)
        await self.scheduler
        # Deaths before any that count them.
        for plugin in (self._deaths, _Watch(self), self.demand_counter):
            await self.add_plugin(plugin)

    async def add_plugin(self, plugin: SchedulerPlugin) -> None:
        """Add a plugin to the scheduler."""
        self.scheduler.add_plugin(plugin)
        await plugin.start(self.scheduler)

    def start_pools(self, counts: Mapping[str, int], reason: str) -> None:
        """Scale to the given counts and wait until the first worker of each pool is up.

        Raises
        ------
        WorkersLost
            If a pool gets no worker.
        """
        self.sync(self._start_pools, counts, reason)

    async def _start_pools(self, counts: Mapping[str, int], reason: str) -> None:
        self.scale(counts, reason)
        for pool in self.pools.values():
            while pool.desired and not pool.up:
                if pool.broken:
                    raise WorkersLost(pool.broken)
                await asyncio.sleep(0.01)

    def scale(self, counts: Mapping[str, int], reason: str) -> None:
        """Want so many workers in each named pool; on the cluster's loop, returns at once.

        Parameters
        ----------
        counts : mapping of str to int
            By pool; pools not named are not touched.
        reason : str
            What telemetry says of workers that leave for it.
        """
        for name, count in counts.items():
            self.pools[name].desired = count
        # Those that shrink first: what leaves makes room below the maximum.
        for name in sorted(counts, key=lambda one: self.pools[one].desired - len(self.pools[one].staying)):
            self._adjust(self.pools[name], reason)

    def _adjust(self, pool: Pool, reason: str = "scale") -> None:
        if self._closing:
            return
        missing = pool.desired - len(pool.staying)
        if missing < 0:
            for member in self._leavers(pool, -missing):
                member.retiring = True
                self._spawn(self._leave(pool, member, reason))
        room = self.maximum - sum(len(one.members) for one in self.pools.values())
        for _ in range(min(missing, room) if not pool.broken else 0):
            member = Member(pool.new_name())
            pool.members[member.name] = member
            member.task = self._spawn(self._come(pool, member))

    def _leavers(self, pool: Pool, count: int) -> list[Member]:
        """Return who costs least to lose: not up yet, then idle, then with least to hand over."""

        def cost(member: Member) -> tuple[bool, int, float]:
            worker = self._worker(member)
            return (member.up, len(worker.processing), worker.nbytes) if worker is not None else (member.up, 0, 0)

        return sorted(pool.staying, key=cost)[:count]

    def _worker(self, member: Member) -> WorkerState | None:
        return self.scheduler.workers.get(self.scheduler.aliases.get(member.name) or "")

    async def _come(self, pool: Pool, member: Member) -> None:
        try:
            member.process = self._factory(pool.shape, member.name, self.scheduler_address)
            await member.process
        except Exception as error:  # noqa: BLE001  (a provider may raise anything; it is reported below)
            await self._drop(pool, member)
            if not self._closing:
                self._start_failed(pool, error)
        else:
            member.up = True
            pool.failures = 0

    def _start_failed(self, pool: Pool, error: Exception) -> None:
        if pool.broken:
            return
        pool.failures += 1
        logger.warning("pool %s: a worker did not start: %s", pool.shape.name, error)
        if pool.failures >= _FAILURES_ALLOWED:
            pool.broken = f"pool '{pool.shape.name}': {pool.failures} workers in a row did not start: {error}"
            logger.error("%s", pool.broken)
            self._fail_stranded()
        else:
            asyncio.get_running_loop().call_later(_BACKOFF_S * pool.failures, self._adjust, pool)

    def _fail_stranded(self) -> None:
        """Fail the tasks that wait for workers which no pool can start any more."""
        able = [pool for pool in self.pools.values() if pool.staying or not pool.broken]
        reason = "; ".join(pool.broken for pool in self.pools.values() if pool.broken)
        stimulus = f"pool-broken-{time.time()}"
        follow: dict[Any, Any] = {}
        for task in list(self.scheduler.unrunnable):
            required = task.resource_restrictions or {}
            if not any(all(pool.shape.labels.get(name, 0) >= n for name, n in required.items()) for pool in able):
                error = pickle.dumps(WorkersLost(reason))
                follow |= self.scheduler.transition(
                    task.key, "erred", exception=error, cause=task.key, stimulus_id=stimulus
                )
        self.scheduler.transitions(follow, stimulus_id=stimulus)

    async def _leave(self, pool: Pool, member: Member, reason: str) -> None:
        try:
            await _finished(member)
            worker = self._worker(member)
            if worker is not None and not await ready_to_leave(self.scheduler, worker, self._moving):
                member.retiring = False
                self._try_later(pool, reason)
                return
            self._reasons[member.name] = reason
            worker = self._worker(member)
            if worker is not None:
                self._deaths.order(worker.address)
                await self.scheduler.remove_worker(
                    worker.address, stimulus_id=f"retired-{time.time()}", expected=True, close=False
                )
        except Exception:
            # It is closed all the same: a worker that nobody counts must not go on.
            logger.exception("worker %s did not leave in good order", member.name)
        await self._drop(pool, member)
        self._reasons.pop(member.name, None)
        for other in self.pools.values():
            self._adjust(other)

    def _try_later(self, pool: Pool, reason: str) -> None:
        if pool.trying:
            return
        pool.trying = True

        def again() -> None:
            pool.trying = False
            self._adjust(pool, reason)

        asyncio.get_running_loop().call_later(_RETRY_S, again)

    async def _end(self, pool: Pool, member: Member) -> None:
        await _finished(member)
        await self._drop(pool, member)

    async def _drop(self, pool: Pool, member: Member) -> None:
        if member.process is not None:
            with contextlib.suppress(asyncio.TimeoutError, OSError):
                await member.process.close()
        pool.members.pop(member.name, None)

    def _spawn(self, work: Any) -> asyncio.Task[None]:
        task: asyncio.Task[None] = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def worker_came(self, name: str, address: str, threads: int, memory_bytes: int) -> None:
        """Note a worker that connected; called by the scheduler."""
        self.recorder.append(
            "workers",
            {
                "event": "worker_added",
                "at": time.time(),
                "worker": name,
                "address": address,
                "tag": name.rsplit("-", 1)[0],
                "threads": threads,
                "memory_bytes": memory_bytes or None,
                "reason": "",
            },
        )

    def worker_left(self, name: str, address: str) -> None:
        """Note a worker that is gone; called by the scheduler."""
        reason = self._reasons.pop(name, "closed" if self._closing else "lost")
        tag = name.rsplit("-", 1)[0]
        self.recorder.append(
            "workers",
            {
                "event": "worker_removed",
                "at": time.time(),
                "worker": name,
                "address": address,
                "tag": tag,
                "threads": None,
                "memory_bytes": None,
                "reason": reason,
            },
        )
        pool = self.pools.get(tag)
        if reason == "lost" and pool is not None and name in pool.members:
            # A nanny starts its worker again by itself; whoever has not by then never will.
            asyncio.get_running_loop().call_later(_LOST_AFTER_S, self._replace, pool, pool.members[name])

    def _replace(self, pool: Pool, member: Member) -> None:
        if not self._closing and member.name in pool.members and self._worker(member) is None and not member.retiring:
            member.retiring = True
            self._spawn(self._leave(pool, member, "lost"))

    def close(self) -> None:
        """End every worker and the scheduler; harmless when repeated."""
        if self._closed:
            return
        self._closed = True
        try:
            self.sync(self._close)
        finally:
            self._runner.stop()
            self._stack.close()
            self._on_close()

    async def _close(self) -> None:
        self._closing = True
        if self._opening is not None and not self._opening.done():
            # An interrupt ends the waiting for it, not the thing itself.
            await asyncio.wait([self._opening], timeout=_STARTING_S)
        starting = {member.task for pool in self.pools.values() for member in pool.members.values()}
        leaving = [task for task in self._tasks if task not in starting]
        for task in leaving:
            task.cancel()
        await asyncio.gather(*leaving, return_exceptions=True)
        members = [(pool, member) for pool in self.pools.values() for member in pool.members.values()]
        ends = await asyncio.gather(*(self._end(*one) for one in members), return_exceptions=True)
        for error in ends:
            if isinstance(error, Exception):
                logger.error("a worker did not close: %s", error)
        if hasattr(self, "scheduler"):
            await self.scheduler.close()


async def _finished(member: Member) -> None:
    """Wait until a worker's start is over, one way or the other.

    Interrupting a start half-way can leave a process behind that nobody knows of.
    """
    if member.task is not None:
        await asyncio.wait([member.task], timeout=_STARTING_S)
        if not member.task.done():
            member.task.cancel()
            await asyncio.gather(member.task, return_exceptions=True)


class _Watch(SchedulerPlugin):
    """Tell the cluster which workers are really there."""

    name = "scalable-pools"

    def __init__(self, cluster: PoolCluster) -> None:
        self._cluster = cluster
        self._names: dict[str, str] = {}

    async def start(self, scheduler: Scheduler) -> None:
        """Do nothing; the cluster knows its scheduler."""

    def add_worker(self, scheduler: Scheduler, worker: str) -> None:
        """Note a worker that connected."""
        state = scheduler.workers[worker]
        self._names[worker] = str(state.name)
        self._cluster.worker_came(str(state.name), worker, state.nthreads, state.memory_limit)

    def remove_worker(self, scheduler: Scheduler, worker: str, **_: Any) -> None:
        """Note a worker that is gone."""
        name = self._names.pop(worker, None)
        if name is not None:
            self._cluster.worker_left(name, worker)
