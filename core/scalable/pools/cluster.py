"""One Dask scheduler and the pools beside it: what is wanted of each pool is data, and reality is moved to it."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Generator, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, TypeVar, runtime_checkable

from distributed import Scheduler
from distributed.diagnostics.plugin import SchedulerPlugin
from distributed.protocol import pickle
from distributed.utils import LoopRunner, silence_logging_cmgr, sync

from scalable.errors import ProviderError, SubmitFailed, TaskOutOfMemory, WorkersLost
from scalable.pools.deaths import Death, Deaths
from scalable.pools.demand import DemandCounter
from scalable.pools.retire import ready_to_leave
from scalable.pools.shape import PoolShape
from scalable.telemetry.probe import ATTEMPT_LOST, pool_of
from scalable.telemetry.recorder import Recorder
from scalable.units import format_bytes

if TYPE_CHECKING:
    from distributed.scheduler import TaskState, WorkerState
    from distributed.security import Security

__all__ = ["Member", "Pool", "PoolCluster", "RemoteWorker", "WorkerEnd", "WorkerFactory", "WorkerProcess"]

logger = logging.getLogger(__name__)

_T = TypeVar("_T")

_FAILURES_ALLOWED = 3
_BACKOFF_S = 1.0
_LONGEST_BACKOFF_S = 60.0
_LOST_AFTER_S = 15.0
_RETRY_S = 5.0
_STARTING_S = 15.0
_LOOK_AT_ENDS_S = 1.0
_SPARE_S = (15.0, 120.0)
_SPARE_SHARE = 0.05


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
    """

    text: str
    out_of_memory: bool = False
    hopeless: bool = False


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


class Member:
    """One worker of a pool, from the moment it is wanted until it is gone."""

    __slots__ = ("arrived", "asked_at", "expiring", "name", "process", "requested", "retiring", "task", "up", "up_at")

    def __init__(self, name: str) -> None:
        self.name = name
        self.process: WorkerProcess | None = None
        self.task: asyncio.Task[None] | None = None
        self.arrived = asyncio.Event()
        self.asked_at = time.monotonic()
        self.up_at = 0.0
        self.requested = False
        self.up = False
        self.retiring = False
        self.expiring = False

    @property
    def remote(self) -> RemoteWorker | None:
        """Its process, if somebody else starts it."""
        return self.process if isinstance(self.process, RemoteWorker) else None


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
    cause : Exception or None
        The same as what was raised.
    startup_s : float
        Seconds that its last worker took to come up; 0 before the first.
    """

    def __init__(self, shape: PoolShape, group_size: int = 1) -> None:
        self.shape = shape
        self.desired = 0
        self.members: dict[str, Member] = {}
        self.failures = 0
        self.broken = ""
        self.cause: Exception | None = None
        self.startup_s = 0.0
        self.said = ""
        self.trying = False
        self._group_size = group_size
        self._numbers = itertools.count()

    def new_names(self, count: int) -> list[str]:
        """Return names that no worker of this pool had before, by groups where these have several workers.

        The marks before a worker's place in its group is how Dask's command line names
        the workers that it starts together.
        """
        names: list[str] = []
        while len(names) < count:
            group = f"{self.shape.name}-{next(self._numbers)}"
            size = min(self._group_size, count - len(names))
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
    group_size : int
        Workers that the provider starts and stops together, at the most.
    before_close : callable, optional
        Coroutine function; called on the loop when all workers and the scheduler are closed.
    on_close : callable, optional
        Called last.

    Attributes
    ----------
    recorder : Recorder
        Where coming and going is written; nowhere until the session says where.
    memory_step : callable
        Bytes by which a worker is to be larger in which a task, given by its key, is tried
        again after it ran out of memory; ``None`` for no larger. The session's part.
    longest_task_s : callable
        Seconds that a task of a pool, given by its name, may take; a worker with a fixed
        end begins none later than that. The session's part.
    on_new_pool : callable
        Called with the shape of a pool that is added later. The session's part.
    """

    def __init__(
        self,
        shapes: Iterable[PoolShape],
        worker_factory: WorkerFactory,
        *,
        scheduler_options: Mapping[str, Any],
        maximum: int,
        security: Security | None = None,
        group_size: int = 1,
        before_close: Callable[[], Awaitable[None]] | None = None,
        on_close: Callable[[], None] = lambda: None,
    ) -> None:
        self.pools = {shape.name: Pool(shape, group_size) for shape in shapes}
        self.memory_step: Callable[[Any], int | None] = lambda _key: None
        self.longest_task_s: Callable[[str], float] = lambda _pool: 0.0
        self.on_new_pool: Callable[[PoolShape], None] = lambda _shape: None
        self._group_size = group_size
        self.maximum = maximum
        self.security = security
        self.demand_counter = DemandCounter()
        self._factory = worker_factory
        self._scheduler_options = dict(scheduler_options)
        self.recorder = Recorder(None)
        self._before_close = before_close
        self._on_close = on_close
        self._reasons: dict[str, str] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._closing = False
        self._closed = False
        self._stack = contextlib.ExitStack()
        self._stack.enter_context(silence_logging_cmgr(logging.WARNING))
        self._stack.enter_context(_calm())
        self._runner = LoopRunner()
        self._runner.start()
        self._deaths = Deaths(self._judge)
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
        self._spawn(self._look_at_ends())

    async def add_plugin(self, plugin: SchedulerPlugin) -> None:
        """Add a plugin to the scheduler."""
        self.scheduler.add_plugin(plugin)
        await plugin.start(self.scheduler)

    def start_pools(self, counts: Mapping[str, int], reason: str) -> None:
        """Scale to the given counts and wait until the first worker of each pool is up.

        Workers that somebody else starts, who may take hours, need only be asked for.

        Raises
        ------
        ProviderError
            If a pool gets no worker.
        """
        self.sync(self._start_pools, counts, reason)

    async def _start_pools(self, counts: Mapping[str, int], reason: str) -> None:
        pools = [self.pools[name] for name in counts]
        for pool in pools:
            # Whoever asks again has mended what was wrong, or will be told once more.
            pool.broken, pool.cause, pool.failures = "", None, 0
        self.scale(counts, reason)
        for pool in pools:
            while pool.desired and not pool.up and not any(member.requested for member in pool.staying):
                if isinstance(pool.cause, ProviderError):
                    raise pool.cause
                if pool.broken:
                    raise WorkersLost(pool.broken)
                await asyncio.sleep(0.01)

    def add_pool(self, shape: PoolShape) -> Pool:
        """Add an empty pool; on the cluster's loop.

        Returns
        -------
        Pool
            The new one, or the one there is of this name.
        """
        if shape.name not in self.pools:
            # A new mapping, because other threads look at the old one.
            self.pools = self.pools | {shape.name: Pool(shape, self._group_size)}
            self.on_new_pool(shape)
        return self.pools[shape.name]

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
        # Those whose time runs out make no room, or their places would stand empty meanwhile.
        there = (member for one in self.pools.values() for member in one.members.values())
        room = self.maximum - sum(not member.expiring for member in there)
        for name in pool.new_names(min(missing, room) if not pool.broken else 0):
            member = Member(name)
            pool.members[name] = member
            member.task = self._spawn(self._come(pool, member))

    def _leavers(self, pool: Pool, count: int) -> list[Member]:
        """Return who costs least to lose: not up yet, then idle, then with least to hand over.

        Groups leave whole where that is possible, as they are paid for whole.
        """
        staying = pool.staying
        busy: Counter[str] = Counter()
        for member in staying:
            worker = self._worker(member)
            busy[_group(member)] += len(worker.processing) if worker is not None else 0

        def cost(member: Member) -> tuple[bool, int, str, int, float]:
            worker, group = self._worker(member), _group(member)
            own = (len(worker.processing), float(worker.nbytes)) if worker is not None else (0, 0.0)
            return (member.up, busy[group], group, *own)

        return sorted(staying, key=cost)[:count]

    def _worker(self, member: Member) -> WorkerState | None:
        return self.scheduler.workers.get(self.scheduler.aliases.get(member.name) or "")

    async def _come(self, pool: Pool, member: Member) -> None:
        try:
            member.process = self._factory(pool.shape, member.name, self.scheduler_address)
            await member.process
            if member.remote is not None:
                member.requested = True
                await _arrival(member, member.remote)
        except Exception as error:  # noqa: BLE001  (a provider may raise anything; it is reported below)
            await self._drop(pool, member)
            if not self._closing:
                self._start_failed(pool, error)
        else:
            member.up = True
            member.up_at = time.time()
            pool.startup_s = time.monotonic() - member.asked_at
            # Also if the pool was given up: another that was under way has come after all.
            pool.failures, pool.broken, pool.cause = 0, "", None

    def _start_failed(self, pool: Pool, error: Exception) -> None:
        if pool.broken:
            # It may have been the last that was under way.
            self._fail_stranded()
            return
        pool.failures += 1
        if str(error) != pool.said:
            # Hundreds of jobs that were asked for together fail together.
            pool.said = str(error)
            logger.warning("pool %s: a worker did not start: %s", pool.shape.name, error)
        hopeless = isinstance(error, SubmitFailed | WorkersLost)
        if hopeless and not any(member.up or member.requested for member in pool.staying):
            self._give_up(pool, f"pool '{pool.shape.name}' gets no workers: {error}", error)
        elif pool.failures >= _FAILURES_ALLOWED and not pool.up:
            count = pool.failures
            self._give_up(pool, f"pool '{pool.shape.name}': {count} workers in a row did not start: {error}", error)
        else:
            pause = min(_BACKOFF_S * pool.failures, _LONGEST_BACKOFF_S)
            asyncio.get_running_loop().call_later(pause, self._adjust, pool)

    def _give_up(self, pool: Pool, why: str, cause: Exception) -> None:
        pool.broken, pool.cause = why, cause
        logger.error("%s", why)
        self._fail_stranded()

    def _fail_stranded(self) -> None:
        """Fail the tasks that wait for workers which no pool can start any more."""
        able = [pool for pool in self.pools.values() if pool.staying or not pool.broken]
        reason = "; ".join(pool.broken for pool in self.pools.values() if pool.broken)
        stimulus = f"pool-broken-{time.time()}"
        for task in list(self.scheduler.unrunnable):
            required = task.resource_restrictions or {}
            if not any(all(pool.shape.labels.get(name, 0) >= n for name, n in required.items()) for pool in able):
                self._fail(task, WorkersLost(reason), stimulus)

    def _judge(self, task: TaskState, death: Death) -> None:
        """Say how a task goes on that ran where a worker died."""
        pool = self.pools.get(pool_of(death.worker))
        asked = (pool.shape.component.resources.memory_bytes if pool is not None else None) or 0
        # Who of several took the memory is not known; a task that did it will do it again.
        guilty = death.out_of_memory and death.tasks == 1
        again = not guilty or task.retries > 0
        message = ""
        if guilty:
            peak = f"it reached {_megabytes(death.peak_bytes)} of" if death.peak_bytes else "its worker had"
            message = f"task '{task.key}' ran out of memory: {peak} {format_bytes(asked)}"
            task.suspicious -= 1
            task.retries -= again
        event = {
            "key": task.key,
            "worker": death.worker,
            "out_of_memory": guilty,
            "peak_bytes": death.peak_bytes or None,
            "error": message,
            "final": not again,
        }
        self.scheduler.log_event(ATTEMPT_LOST, event)
        stimulus = f"worker-died-{time.time()}"
        if not again:
            self._fail(task, TaskOutOfMemory(message, asked, death.peak_bytes), stimulus)
            return
        if guilty and pool is not None:
            self._enlarge(task, pool, stimulus)
        if task.state == "no-worker":
            self.scheduler.transitions({task.key: "processing"}, stimulus_id=stimulus)

    def _enlarge(self, task: TaskState, pool: Pool, stimulus: str) -> None:
        """Send a task to a pool with larger workers, where its memory step says so."""
        step = self.memory_step(task.key)
        required = task.resource_restrictions or {}
        if not step or task.state != "no-worker":
            return
        larger = self.add_pool(pool.shape.enlarged(step))
        kept = {name: amount for name, amount in required.items() if name not in pool.shape.own_labels}
        # By way of `released`, so that those who count tasks by what they require see it move.
        self.scheduler.transition(task.key, "released", stimulus_id=stimulus)
        task.resource_restrictions = {larger.shape.name: 1.0, **kept}
        self.scheduler.transitions({task.key: "waiting"}, stimulus_id=stimulus)

    def _fail(self, task: TaskState, error: Exception, stimulus: str) -> None:
        if task.state != "no-worker":
            # It waits for an input that died with the worker; its next attempt will tell.
            return
        follow = self.scheduler.transition(
            task.key,
            "erred",
            exception=pickle.dumps(error),
            exception_text=f"{type(error).__name__}({error})",
            cause=task.key,
            stimulus_id=stimulus,
        )
        self.scheduler.transitions(follow, stimulus_id=stimulus)

    async def _look_at_ends(self) -> None:
        """Let workers with a fixed end leave in time, and have others in their place."""
        while True:
            await asyncio.sleep(_LOOK_AT_ENDS_S)
            now = time.time()
            for pool in self.pools.values():
                for member in pool.staying:
                    remote = member.remote
                    if remote is not None and member.up and remote.ends_at is not None:
                        has = remote.ends_at - member.up_at
                        spare = min(max(_SPARE_S[0], _SPARE_SHARE * has), _SPARE_S[1])
                        if remote.ends_at - now < min(self.longest_task_s(pool.shape.name) + spare, 0.9 * has):
                            member.expiring = True
                            self._spawn(self._expire(pool, member))
                            self._adjust(pool)

    async def _expire(self, pool: Pool, member: Member) -> None:
        while member.name in pool.members and not member.retiring:
            member.retiring = True
            await self._leave(pool, member, "walltime")
            if not member.retiring:
                await asyncio.sleep(_RETRY_S)

    async def _leave(self, pool: Pool, member: Member, reason: str) -> None:
        try:
            await _finished(member)
            worker = self._worker(member)
            if worker is not None and not await ready_to_leave(
                self.scheduler, worker, self._moving, for_good=member.expiring
            ):
                member.retiring = False
                if not member.expiring:
                    self._try_later(pool, reason)
                return
            self._reasons[member.name] = reason
            worker = self._worker(member)
            if worker is not None:
                self._deaths.order(worker.address)
                await self.scheduler.remove_worker(
                    worker.address,
                    stimulus_id=f"retired-{time.time()}",
                    expected=True,
                    # Others of its group may stay, so that ending the group does not end it.
                    close=member.remote is not None,
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
            try:
                await member.process.close()
            except (TimeoutError, OSError) as error:
                logger.info("worker %s: %s", member.name, error)
            except Exception:
                # Whatever the provider's part does, the pool must go on, or end, in order.
                logger.exception("worker %s did not close", member.name)
        pool.members.pop(member.name, None)

    def _spawn(self, work: Any) -> asyncio.Task[None]:
        task: asyncio.Task[None] = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def worker_came(self, name: str, address: str, threads: int, memory_bytes: int) -> None:
        """Note a worker that connected; called by the scheduler."""
        pool = self.pools.get(pool_of(name))
        member = pool.members.get(name) if pool is not None else None
        if member is not None:
            member.arrived.set()
        else:
            # It was given up while it was under way.
            stimulus = f"unknown-worker-{time.time()}"
            self._spawn(self.scheduler.remove_worker(address, stimulus_id=stimulus, expected=True))
        self.recorder.append(
            "workers",
            {
                "event": "worker_added",
                "at": time.time(),
                "worker": name,
                "address": address,
                "tag": pool_of(name),
                "threads": threads,
                "memory_bytes": memory_bytes or None,
                "reason": "",
            },
        )

    def worker_left(self, name: str, address: str) -> None:
        """Note a worker that is gone; called by the scheduler."""
        reason = self._reasons.pop(name, "closed" if self._closing else "lost")
        tag = pool_of(name)
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
            self._spawn(self._mourn(pool, pool.members[name], address))

    async def _mourn(self, pool: Pool, member: Member, address: str) -> None:
        """Wait until it is clear that a worker does not come back, and have another in its place."""
        lost = [member]
        if member.remote is None:
            # A nanny starts its worker again by itself; whoever has not by then never will.
            await asyncio.sleep(_LOST_AFTER_S)
        else:
            with contextlib.suppress(TimeoutError):
                end = await asyncio.wait_for(member.remote.over(lost=True), _LOST_AFTER_S)
                self._deaths.report(address, out_of_memory=end.out_of_memory)
                logger.warning("worker %s is lost: %s", member.name, end.text)
                # Together, so that a group takes the place of a group.
                others = (one for one in pool.members.values() if one.up and one is not member)
                lost += [one for one in others if _group(one) == _group(member)]
        self._replace(pool, lost)

    def _replace(self, pool: Pool, lost: Iterable[Member]) -> None:
        for member in lost:
            gone = member.name not in pool.members or member.retiring
            if not (self._closing or gone or self._worker(member) is not None):
                # Nor does it take the place of another until it is out of the books.
                member.retiring = member.expiring = True
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
        if self._before_close is not None:
            await self._before_close()


@contextlib.contextmanager
def _calm() -> Iterator[None]:
    """Keep out of the log what is no news: a worker that was told to leave is heard of once more."""

    def wanted(record: logging.LogRecord) -> bool:
        return not record.getMessage().startswith("Received heartbeat from unregistered worker")

    scheduler = logging.getLogger("distributed.scheduler")
    scheduler.addFilter(wanted)
    try:
        yield
    finally:
        scheduler.removeFilter(wanted)


def _megabytes(size: int) -> str:
    return format_bytes(round(size / 2**20) * 2**20)


def _group(member: Member) -> str:
    return member.remote.group if member.remote is not None else member.name


async def _arrival(member: Member, remote: RemoteWorker) -> None:
    """Wait until a worker that was asked for connects.

    Raises
    ------
    ProviderError
        If it never will.
    """
    arrived = asyncio.ensure_future(member.arrived.wait())
    over = asyncio.ensure_future(remote.over(lost=False))
    try:
        await asyncio.wait({arrived, over}, return_when=asyncio.FIRST_COMPLETED)
        if not member.arrived.is_set():
            end = await over
            raise (WorkersLost if end.hopeless else ProviderError)(end.text)
    finally:
        for one in (arrived, over):
            one.cancel()
        await asyncio.gather(arrived, over, return_exceptions=True)


async def _finished(member: Member) -> None:
    """Wait until a worker's start is over, one way or the other.

    Interrupting a start half-way can leave a process behind that nobody knows of, but for
    workers that somebody else starts, who may take hours.
    """
    if member.task is not None:
        await asyncio.wait([member.task], timeout=_STARTING_S if member.remote is None else 0)
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
