"""One Dask scheduler and the pools beside it: what is wanted of each pool is data, and reality is moved to it."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

from distributed import Scheduler
from distributed.client import AllExit
from distributed.diagnostics.plugin import SchedulerPlugin
from distributed.utils import LoopRunner, silence_logging_cmgr, sync

from scalable.errors import ProviderError, SubmitFailed, WorkersLost
from scalable.pools.deaths import Death, Deaths, is_held
from scalable.pools.demand import DemandCounter
from scalable.pools.pool import Member, Pool, RemoteWorker, WorkerAdapter, WorkerFactory
from scalable.pools.retire import ready_to_leave
from scalable.pools.shape import PoolShape, family_of
from scalable.pools.verdict import fail, judge
from scalable.telemetry.probe import pool_of
from scalable.telemetry.recorder import Recorder

if TYPE_CHECKING:
    from distributed.scheduler import TaskState, WorkerState
    from distributed.security import Security

__all__ = ["PoolCluster"]

logger = logging.getLogger(__name__)

_T = TypeVar("_T")

_FAILURES_ALLOWED = 3
_BACKOFF_S = 1.0
_LONGEST_BACKOFF_S = 60.0
_LOST_AFTER_S = 15.0
_DYING_S = 5.0
_LOST_REMOTE_S = 60.0  # a place in a queue is worth waiting for a nanny that starts its worker anew
_RETRY_S = 5.0
_STARTING_S = 15.0
_LOOK_AT_ENDS_S = 1.0
_SPARE_S = (15.0, 120.0)
_SPARE_SHARE = 0.05
_SEEN_SHARE = 0.5
_USE_SHARE = 0.9


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
    maximum : int or None
        Workers of these pools together at any moment, those that are leaving included;
        ``None`` for no limit.
    security : distributed.Security, optional
        For connections that leave the machine.
    group_size : int
        Workers that the provider starts and stops together, at the most.
    before_close : callable, optional
        Coroutine function; called on the loop when all workers and the scheduler are closed.
    on_close : callable, optional
        Called last.
    adapter : str
        The target that they serve.

    Attributes
    ----------
    adapters : mapping of str to WorkerAdapter
        Who starts and stops workers, by target; the run's own first.
    recorder : Recorder
        Where coming and going is written; nowhere until the session says where.
    memory_step : callable
        Bytes by which a worker is to be larger in which a task, given by its key, is tried
        again after it ran out of memory in one of so many bytes (0 for one without a limit);
        ``None`` for no larger. The session's part.
    longest_task_s : callable
        Seconds that the tasks of a pool, given by its name, are said to take, and that one
        has taken; a worker with a fixed end begins none later than that. The session's part.
    on_new_pool : callable
        Called with the shape of a pool that is added later. The session's part.
    may_start : callable
        Whether a pool, given by its name, may start a worker now. The controller's part.
    on_worker : callable
        Called with each record of a worker that came or left. The session's part.
    """

    def __init__(
        self,
        shapes: Iterable[PoolShape],
        worker_factory: WorkerFactory,
        *,
        scheduler_options: Mapping[str, Any],
        maximum: int | None,
        security: Security | None = None,
        group_size: int = 1,
        before_close: Callable[[], Awaitable[None]] | None = None,
        on_close: Callable[[], None] = lambda: None,
        adapter: str = "",
    ) -> None:
        home = WorkerAdapter(adapter, worker_factory, maximum, group_size)
        self.adapters: Mapping[str, WorkerAdapter] = {adapter: home}
        self._home = home
        self.pools = {shape.name: Pool(shape, home) for shape in shapes}
        self.memory_step: Callable[[Any, int], int | None] = lambda _key, _failed_bytes: None
        self.longest_task_s: Callable[[str], tuple[float, float]] = lambda _pool: (0.0, 0.0)
        self.on_new_pool: Callable[[PoolShape], None] = lambda _shape: None
        self.may_start: Callable[[str], bool] = lambda _pool: True
        self.on_worker: Callable[[Mapping[str, Any]], None] = lambda _record: None
        self.security = security
        self.demand_counter = DemandCounter()
        self._scheduler_options = dict(scheduler_options)
        self.recorder = Recorder(None)
        self._before_close = [] if before_close is None else [before_close]
        self._on_close = [on_close]
        self._reasons: dict[str, str] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._looking = False
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
    def closing(self) -> bool:
        """Whether it is on its way to its end."""
        return self._closing

    @property
    def maximum(self) -> int | None:
        """Workers of all pools together, at the most; ``None`` if some adapter has no limit."""
        limits = [adapter.limit for adapter in self.adapters.values()]
        return None if None in limits else sum(limit or 0 for limit in limits)

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
        before = {name: (set(self.pools[name].members), self.pools[name].desired) for name in counts}
        for name in counts:
            # Whoever asks again has mended what was wrong, or will be told once more.
            pool = self.pools[name]
            pool.broken, pool.trouble, pool.failures = "", None, 0
        self.scale(counts, reason)
        for name, (members, desired) in before.items():
            try:
                await _begun(self.pools[name], members)
            except ProviderError:
                # What could not be had is not asked for again and again.
                self.scale({name: desired}, reason)
                raise

    async def add_workers(self, pool: Pool, count: int, reason: str) -> None:
        """Want so many more workers in a pool, or fewer if negative; more are waited for as in :meth:`start_pools`.

        Raises
        ------
        ProviderError
            If there are fewer than are to leave, or as for :meth:`start_pools`.
        """
        wanted = pool.desired + count
        if wanted < 0:
            raise ProviderError(f"there are {pool.desired} workers with tag '{pool.shape.name}', not {-count}")
        limit = pool.limit
        if limit is not None and sum(one.desired for one in self._beside(pool)) + count > limit:
            raise ProviderError(f"{count} workers more would be more than max_workers, which is {limit}")
        if count > 0:
            await self._start_pools({pool.shape.name: wanted}, reason)
        else:
            self.scale({pool.shape.name: wanted}, reason)

    def add_adapter(self, adapter: WorkerAdapter, shapes: Iterable[PoolShape]) -> None:
        """Have pools of another target as well, empty at first; on the cluster's loop.

        Pools of these names that are there already, from before it was dropped, go on with it.

        Parameters
        ----------
        adapter : WorkerAdapter
            Who starts and stops their workers.
        shapes : iterable of PoolShape
            The pools.
        """
        self.adapters = {**self.adapters, adapter.name: adapter}
        adapter.attach(self)
        self._before_close.append(adapter.before_close)
        self._on_close.append(adapter.on_close)
        for shape in shapes:
            pool = self.add_pool(shape, adapter)
            pool.source, pool.shape = adapter, shape
            pool.broken, pool.trouble, pool.failures = "", None, 0

    def drop_adapter(self, name: str, why: str) -> None:
        """Have no more workers from an adapter; on the cluster's loop.

        Those that are still connected finish what they run and leave; those that are dead or
        on their way are counted as lost when their :class:`RemoteWorker` says so.

        Parameters
        ----------
        name : str
            The adapter's.
        why : str
            What is said to whoever needs its workers.
        """
        self.adapters = {one: adapter for one, adapter in self.adapters.items() if one != name}
        if self._closing:
            return
        for pool in [pool for pool in self.pools.values() if pool.adapter == name]:
            pool.desired = 0
            self._give_up(pool, f"pool '{pool.shape.name}' gets no workers: {why}")
            for member in pool.staying:
                if member.up:
                    member.expiring = True
                    self._spawn(self._abandon(pool, member))

    async def _abandon(self, pool: Pool, member: Member) -> None:
        # Most die with their adapter, and results are moved from a dead worker in vain, for as long as that takes
        # to be noticed.
        await asyncio.sleep(_DYING_S)
        if self.worker_of(member) is not None:
            await self._expire(pool, member, "adapter lost")

    def _beside(self, pool: Pool) -> list[Pool]:
        """Return the pools that share a pool's limit, itself included."""
        return [one for one in self.pools.values() if one.source is pool.source]

    def add_pool(self, shape: PoolShape, adapter: WorkerAdapter | None = None) -> Pool:
        """Add an empty pool; on the cluster's loop.

        Parameters
        ----------
        shape : PoolShape
            What its workers are like.
        adapter : WorkerAdapter, optional
            Who starts and stops them; default is that of the pool of which it is the enlarged
            form, or else the run's own.

        Returns
        -------
        Pool
            The new one, or the one there is of this name.
        """
        if shape.name not in self.pools:
            # A new mapping, because other threads look at the old one.
            family = self.pools.get(family_of(shape.name))
            source = adapter or (family.source if family is not None else self._home)
            self.pools = self.pools | {shape.name: Pool(shape, source)}
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

    def release(self, pool: Pool, names: Iterable[str], reason: str) -> list[str]:
        """Let certain workers of a pool leave, who finish what they run; on the cluster's loop, returns at once.

        Parameters
        ----------
        pool : Pool
            Theirs, which is to have so many fewer.
        names : iterable of str
            Those that are not there, or leave already, are passed over.
        reason : str
            What telemetry says of them.

        Returns
        -------
        list of str
            Who leaves.
        """
        leaving = []
        for name in names:
            member = pool.members.get(name)
            if member is not None and not (member.retiring or member.expiring or self._closing):
                member.retiring = member.released = True
                pool.desired = max(0, pool.desired - 1)
                self._spawn(self._leave(pool, member, reason))
                leaving.append(name)
        return leaving

    def _adjust(self, pool: Pool, reason: str = "scale") -> None:
        if self._closing:
            return
        missing = pool.desired - len(pool.staying)
        if missing < 0:
            for member in self._leavers(pool, -missing):
                member.retiring = True
                self._spawn(self._leave(pool, member, reason))
        # Those whose time runs out take no place, or it would stand empty meanwhile; nor do those that
        # can only leave when another has come to take their results.
        there = (member for one in self._beside(pool) for member in one.members.values())
        taken = sum(not (member.expiring or member.stuck) for member in there)
        room = missing if pool.limit is None else pool.limit - taken
        if missing > 0 and not self.may_start(pool.shape.name):
            pool.desired -= missing
            missing = 0
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
            worker = self.worker_of(member)
            busy[member.group] += len(worker.processing) if worker is not None else 0

        def cost(member: Member) -> tuple[bool, int, str, int, float]:
            worker, group = self.worker_of(member), member.group
            own = (len(worker.processing), float(worker.nbytes)) if worker is not None else (0, 0.0)
            return (member.up, busy[group], group, *own)

        return sorted(staying, key=cost)[:count]

    def worker_of(self, member: Member) -> WorkerState | None:
        """Return the scheduler's view of a worker; ``None`` if it is not connected."""
        return self.scheduler.workers.get(self.scheduler.aliases.get(member.name) or "")

    async def _come(self, pool: Pool, member: Member) -> None:
        try:
            member.process = pool.source.factory(pool.shape, member.name, self.scheduler_address)
            if isinstance(member.process, RemoteWorker):
                member.remote = member.process
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
            pool.startups.append(pool.startup_s)
            pool.failures, pool.trouble = 0, None
            if pool.broken:
                # It was given up while another was under way, which has come after all.
                pool.broken = ""
                self._adjust(pool)

    def _start_failed(self, pool: Pool, error: Exception) -> None:
        pool.trouble = error
        pool.failed += 1
        if pool.broken:
            # It may have been the last that was under way.
            self._look_for_stranded()
            return
        pool.failures += 1
        if str(error) != pool.said:
            # Hundreds of jobs that were asked for together fail together.
            pool.said = str(error)
            logger.warning("pool %s: a worker did not start: %s", pool.shape.name, error)
        passing = isinstance(error, SubmitFailed) and error.passing
        hopeless = isinstance(error, SubmitFailed | WorkersLost) and not passing
        if hopeless and not any(member.up or member.requested for member in pool.members.values()):
            self._give_up(pool, f"pool '{pool.shape.name}' gets no workers: {error}")
        elif pool.failures >= _FAILURES_ALLOWED and not pool.up and not passing:
            count = pool.failures
            self._give_up(pool, f"pool '{pool.shape.name}': {count} workers in a row did not start: {error}")
        else:
            pause = min(_BACKOFF_S * pool.failures, _LONGEST_BACKOFF_S)
            asyncio.get_running_loop().call_later(pause, self._adjust, pool)

    def _give_up(self, pool: Pool, why: str) -> None:
        pool.broken = why
        logger.error("%s", why)
        self._look_for_stranded()

    def waits(self) -> None:
        """Note that a task waits for a worker that is not there; called by the scheduler."""
        if any(pool.broken for pool in self.pools.values()):
            self._look_for_stranded()

    def _look_for_stranded(self) -> None:
        """Look soon, and once for all that happens at this moment."""
        if not self._looking:
            self._looking = True
            asyncio.get_running_loop().call_soon(self._fail_stranded)

    def _fail_stranded(self) -> None:
        """Fail the tasks that wait for workers which no pool can start any more."""
        self._looking = False
        able = [pool for pool in self.pools.values() if pool.staying or not pool.broken]
        reason = "; ".join(pool.broken for pool in self.pools.values() if pool.broken)
        for task in list(self.scheduler.unrunnable):
            required = task.resource_restrictions or {}
            if not is_held(task) and not any(
                all(pool.shape.labels.get(name, 0) >= n for name, n in required.items()) for pool in able
            ):
                fail(self.scheduler, task, WorkersLost(reason))

    def _judge(self, task: TaskState, death: Death) -> None:
        judge(self, task, death)
        if task.state == "no-worker":
            self.waits()

    async def _look_at_ends(self) -> None:
        """Let workers with a fixed end leave in time, and have others in their place."""
        while True:
            await asyncio.sleep(_LOOK_AT_ENDS_S)
            now = time.time()
            for pool in self.pools.values():
                try:
                    self._look_at_ends_of(pool, now)
                except Exception:
                    logger.exception("pool %s: the ends of its workers are not known", pool.shape.name)

    def _look_at_ends_of(self, pool: Pool, now: float) -> None:
        said: tuple[float, float] | None = None
        for member in pool.staying:
            ends_at = member.remote.ends_at if member.remote is not None and member.up else None
            if ends_at is None:
                continue
            known_s, seen_s = said = said or self.longest_task_s(pool.shape.name)
            has = ends_at - member.up_at
            spare = min(max(_SPARE_S[0], _SPARE_SHARE * has), _SPARE_S[1])
            # One task that took long says little of the next, which may be of another kind.
            longest = max(known_s, min(seen_s, _SEEN_SHARE * has))
            # A worker that came late must be of some use, but begins nothing that is known to take longer.
            if ends_at - now < max(min(longest + spare, _USE_SHARE * has), known_s):
                member.expiring = True
                self._spawn(self._expire(pool, member))
                self._adjust(pool)

    async def _expire(self, pool: Pool, member: Member, reason: str = "walltime") -> None:
        while member.name in pool.members and not member.retiring:
            member.retiring = True
            await self._leave(pool, member, reason)
            if not member.retiring:
                await asyncio.sleep(_RETRY_S)

    async def _leave(self, pool: Pool, member: Member, reason: str) -> None:
        try:
            await _finished(member)
            worker = self.worker_of(member)
            if worker is not None and not await ready_to_leave(
                self.scheduler, worker, self._moving, for_good=member.expiring
            ):
                self._cannot_leave(pool, member, reason)
                return
            self._reasons[member.name] = reason
            worker = self.worker_of(member)
            if worker is not None:
                self._deaths.order(worker.address)
                await self.scheduler.remove_worker(
                    worker.address,
                    stimulus_id=f"retired-{time.time()}",
                    expected=True,
                    # Others of its group may stay, so that ending the group does not end it.
                    close=member.remote is not None and (pool.source.says_goodbye or member.expiring),
                )
        except Exception:
            # It is closed all the same: a worker that nobody counts must not go on.
            logger.exception("worker %s did not leave in good order", member.name)
        await self._drop(pool, member)
        self._reasons.pop(member.name, None)
        for other in self.pools.values():
            self._adjust(other)

    def _cannot_leave(self, pool: Pool, member: Member, reason: str) -> None:
        member.retiring, member.stuck = False, True
        if member.released:
            # It stays, and nobody else is to go in its stead.
            member.released = False
            pool.desired += 1
        if not member.expiring:
            self._try_later(pool, reason)
            # Where every place is taken, those who could take its results have none.
            for other in self.pools.values():
                if other.desired > len(other.staying):
                    self._adjust(other)

    def _try_later(self, pool: Pool, reason: str) -> None:
        if pool.trying:
            return
        pool.trying = True

        def again() -> None:
            pool.trying = False
            for member in pool.members.values():
                member.stuck = False
            self._adjust(pool, reason)

        asyncio.get_running_loop().call_later(_RETRY_S, again)

    async def _end(self, pool: Pool, member: Member) -> None:
        await _finished(member)
        await self._drop(pool, member)

    async def _drop(self, pool: Pool, member: Member) -> None:
        if member.process is not None:
            try:
                await member.close()
            except (TimeoutError, OSError) as error:
                logger.info("worker %s: %s", member.name, error)
            except Exception:
                # Whatever the provider's part does, the pool must go on, or end, in order.
                logger.exception("worker %s did not close", member.name)
        pool.members.pop(member.name, None)

    def _spawn(self, work: Any) -> asyncio.Task[None]:
        task: asyncio.Task[None] = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._done)
        return task

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            logger.error("a part of the pools failed", exc_info=error)

    def worker_came(self, name: str, address: str, threads: int, memory_bytes: int) -> None:
        """Note a worker that connected; called by the scheduler."""
        pool = self.pools.get(pool_of(name))
        member = pool.members.get(name) if pool is not None else None
        startup_s: float | None = None
        if member is not None:
            if not member.arrived.is_set():
                # A nanny that starts its worker again does so long after that was asked for.
                startup_s = time.monotonic() - member.asked_at
            member.arrived.set()
        else:
            # It was given up while it was under way.
            self._deaths.order(address)
            stimulus = f"unknown-worker-{time.time()}"
            self._spawn(self.scheduler.remove_worker(address, stimulus_id=stimulus, expected=True))
        self._record(
            {
                "event": "worker_added",
                "at": time.time(),
                "worker": name,
                "address": address,
                "tag": pool_of(name),
                "threads": threads,
                "memory_bytes": memory_bytes or None,
                "startup_s": startup_s,
                "reason": "",
            }
        )

    def worker_left(self, name: str, address: str) -> None:
        """Note a worker that is gone; called by the scheduler."""
        reason = self._reasons.pop(name, "closed" if self._closing else "lost")
        tag = pool_of(name)
        self._record(
            {
                "event": "worker_removed",
                "at": time.time(),
                "worker": name,
                "address": address,
                "tag": tag,
                "threads": None,
                "memory_bytes": None,
                "reason": reason,
            }
        )
        pool = self.pools.get(tag)
        if reason == "lost" and pool is not None and name in pool.members:
            self._spawn(self._mourn(pool, pool.members[name], address))

    def _record(self, record: Mapping[str, Any]) -> None:
        self.recorder.append("workers", record)
        self.on_worker(record)

    async def _mourn(self, pool: Pool, member: Member, address: str) -> None:
        """Wait until it is clear that a worker does not come back, and have another in its place."""
        lost = [member]
        if member.remote is None:
            # A nanny starts its worker again by itself; whoever has not by then never will.
            await asyncio.sleep(_LOST_AFTER_S)
        else:
            with contextlib.suppress(TimeoutError):
                end = await asyncio.wait_for(member.remote.over(lost=True), _LOST_REMOTE_S)
                self._deaths.report(address, out_of_memory=end.out_of_memory, outside=end.outside)
                logger.warning("worker %s is lost: %s", member.name, end.text)
                # Together, so that a group takes the place of a group.
                others = (one for one in pool.members.values() if one.up and one is not member)
                lost += [one for one in others if one.group == member.group]
        self._replace(pool, lost)

    def _replace(self, pool: Pool, lost: Iterable[Member]) -> None:
        for member in lost:
            gone = member.name not in pool.members or member.retiring
            if not (self._closing or gone or self.worker_of(member) is not None):
                pool.failed += 1
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
            with contextlib.ExitStack() as last:
                for on_close in self._on_close:
                    last.callback(on_close)

    async def _close(self) -> None:
        self._closing = True
        try:
            await self._close_workers()
            if hasattr(self, "scheduler"):
                await self.scheduler.close()
        finally:
            await asyncio.gather(*(before_close() for before_close in self._before_close))

    async def _close_workers(self) -> None:
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


@contextlib.contextmanager
def _calm() -> Iterator[None]:
    """Keep out of the log what is no news.

    A worker that was told to leave is heard of once more; and who waited for results when Ctrl-C
    came leaves as many of Dask's own exceptions behind as there were results.
    """

    def wanted(record: logging.LogRecord) -> bool:
        return not record.getMessage().startswith("Received heartbeat from unregistered worker")

    def not_of_gathering(record: logging.LogRecord) -> bool:
        return not (record.exc_info and record.exc_info[0] is AllExit)

    filters = ((logging.getLogger("distributed.scheduler"), wanted), (logging.getLogger("asyncio"), not_of_gathering))
    for logger_of, one in filters:
        logger_of.addFilter(one)
    try:
        yield
    finally:
        for logger_of, one in filters:
            logger_of.removeFilter(one)


async def _begun(pool: Pool, before: set[str]) -> None:
    """Wait until one of the workers that a pool lacked is up, or on its way if somebody else starts it.

    Raises
    ------
    ProviderError
        If none can be had.
    """
    while True:
        new = [member for member in pool.staying if member.name not in before]
        if any(member.up or member.requested for member in new) or (not new and len(pool.staying) >= pool.desired):
            return
        if isinstance(pool.trouble, SubmitFailed):
            raise pool.trouble
        if pool.broken:
            raise WorkersLost(pool.broken)
        if not pool.desired or (pool.up and not new):
            # None is needed; or there is no place for it, or it failed and is tried again later.
            return
        await asyncio.sleep(0.01)


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

    def transition(self, key: Any, start: str, finish: str, *args: Any, stimulus_id: str = "", **kwargs: Any) -> None:
        """Note a task for which there is no worker."""
        if finish == "no-worker":
            self._cluster.waits()

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
