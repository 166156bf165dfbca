"""Handing work to pools: ``submit``, ``map``, ``gather``; futures are Dask's own."""

from __future__ import annotations

import functools
import itertools
import json
import secrets
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Literal, Protocol

from dask.sizeof import sizeof
from dask.tokenize import tokenize
from distributed import Client, Future

from scalable.errors import ScalableError, TaskError, WorkersLost
from scalable.pools.cluster import PoolCluster
from scalable.pools.routing import Route, Router
from scalable.telemetry.measure import measured
from scalable.telemetry.probe import Submission, TaskProbe

if TYPE_CHECKING:
    from scalable.spec import TaskSpec

__all__ = ["ScalableClient"]

_NO_FEATURES: Mapping[str, Any] = {}
_NO_TASKS: Mapping[str, TaskSpec] = {}
_SMALL = frozenset({int, float, bool, type(None), complex})
_NUMBERS = frozenset({int, float})
_MOST_INPUTS = 2**31 - 1
_LARGEST_INPUT = 2**60


class Deployment(Protocol):
    """Pools with what a client needs besides: what a script builds for itself."""

    @property
    def pools(self) -> PoolCluster:
        """The pools."""
        ...

    @property
    def router(self) -> Router:
        """Which task goes where."""
        ...

    @property
    def probe(self) -> TaskProbe | None:
        """Told of every task."""
        ...

    def before_close(self, callback: Callable[[], None]) -> None:
        """Call something before the pools are closed."""
        ...


class ScalableClient:
    """Submit tasks to the pools of one run.

    Made by :meth:`scalable.ScalableSession.start`, or by hand for a
    :class:`scalable.SlurmCluster`: ``ScalableClient(cluster)``.

    Parameters
    ----------
    cluster : PoolCluster, or SlurmCluster
        The pools; the second brings router and probe along.
    router : Router, optional
        Which task goes where.
    tasks : mapping of str to TaskSpec, optional
        The manifest's tasks, for their defaults.
    probe : TaskProbe, optional
        Told of every task before it is submitted.

    Attributes
    ----------
    dask : distributed.Client
        The Dask client underneath. It is not set as Dask's global default.
    """

    def __init__(
        self,
        cluster: PoolCluster | Deployment,
        router: Router | None = None,
        tasks: Mapping[str, TaskSpec] = _NO_TASKS,
        probe: TaskProbe | None = None,
    ) -> None:
        deployment: Deployment | None = None
        if not isinstance(cluster, PoolCluster):
            deployment, cluster = cluster, cluster.pools
            router, probe = deployment.router, deployment.probe
        self._cluster = cluster
        self._router = router if router is not None else Router([pool.shape for pool in cluster.pools.values()], tasks)
        self._tasks = tasks
        self._probe = probe
        # Counted, not random for each: asking the system for randomness hands the interpreter over to
        # the scheduler's thread, which keeps it for milliseconds. A digit first marks it off the name.
        self._mark = f"0{secrets.token_hex(8)}"
        self._numbers = itertools.count()
        self._handing_over = threading.Lock()
        self._closed = False
        self.dask = Client(
            cluster.scheduler_address,
            set_as_default=False,
            security=cluster.security,
            loop=cluster.loop,
            name="scalable",
        )
        if deployment is not None:
            deployment.before_close(self.close)

    def submit(
        self,
        func: Callable[..., Any],
        /,
        *args: Any,
        tag: str | None = None,
        capabilities: Mapping[str, float] | Iterable[str] | None = None,
        features: Mapping[str, Any] | None = None,
        pure: bool | None = None,
        key: str | None = None,
        name: str | None = None,
        priority: int = 0,
        retries: int | None = None,
        workers: str | Iterable[str] | None = None,
        **kwargs: Any,
    ) -> Future[Any]:
        """Run ``func(*args, **kwargs)`` on a worker of the pool that the tag names.

        Parameters
        ----------
        func : callable
            What to run; futures among its arguments are replaced by their results.
        tag : str, optional
            A component's name, one of its tags, or a task's name. Without it the
            function's name decides if the manifest's ``tasks`` have it; else the task
            goes to the default pool.
        capabilities : mapping of str to float, or iterable of str, optional
            What the worker must offer besides, such as ``{"gpu": 1}``.
        features : mapping, optional
            What is known of the input, for telemetry and advisors; must be JSON. The members
            ``input_files`` and ``input_bytes`` are taken for number and size of its files.
        pure : bool, optional
            Whether equal arguments mean the same task, which is then run once. Default
            is no, or the ``cache`` of the manifest's task.
        key : str, optional
            Dask key; made up if not given.
        name : str, optional
            The task's name in telemetry; default is the function's.
        priority : int, optional
            Greater is earlier.
        retries : int, optional
            Further attempts after a failure; default is that of the manifest's task, or 0.
        workers : str or iterable of str, optional
            Names of workers it may run on.

        Raises
        ------
        UnknownTag
            If no pool of the target can ever run it.
        WorkersLost
            If the only pools that can run it cannot start workers.
        """
        title = name or _name_of(func)
        route = self._route(tag, title, capabilities)
        defaults = self._tasks.get(title)
        if pure is None:
            pure = defaults is not None and defaults.cache
        if key is None:
            key = f"{title}-{tokenize(func, args, kwargs) if pure else self._unique()}"
        submissions = {key: self._submission(title, route, _checked(title, features), (*args, *kwargs.values()))}
        options = self._options(title, route, retries, priority, workers)
        with self._announced(title, submissions):
            return self.dask.submit(measured(func), *args, key=key, **options, **kwargs)

    def map(
        self,
        func: Callable[..., Any],
        /,
        *iterables: Iterable[Any],
        tag: str | None = None,
        capabilities: Mapping[str, float] | Iterable[str] | None = None,
        features: Iterable[Mapping[str, Any]] | Mapping[str, Any] | None = None,
        pure: bool | None = None,
        key: str | Iterable[str] | None = None,
        name: str | None = None,
        priority: int = 0,
        retries: int | None = None,
        workers: str | Iterable[str] | None = None,
        **kwargs: Any,
    ) -> list[Future[Any]]:
        """Run ``func`` once for each element of the iterables, which end with the shortest.

        Parameters
        ----------
        key : str or iterable of str, optional
            One key a call, or a prefix.
        features : mapping, or iterable of mappings, optional
            The same for all, or one a call.
        tag, capabilities, pure, name, priority, retries, workers, **kwargs
            As for :meth:`submit`.

        Returns
        -------
        list of distributed.Future
            In the order of the iterables.

        Raises
        ------
        UnknownTag, WorkersLost
            As for :meth:`submit`.
        """
        calls = list(zip(*iterables, strict=False))
        if not calls:
            return []
        title = name or _name_of(func)
        route = self._route(tag, title, capabilities)
        defaults = self._tasks.get(title)
        if pure is None:
            pure = defaults is not None and defaults.cache
        keys = _keys_for(title, key, func, calls, kwargs, unique=None if pure else self._unique())
        given = _features_of_each(title, features, len(calls))
        more = tuple(kwargs.values())
        submissions = {
            one: self._submission(title, route, feature, (*call, *more))
            for one, feature, call in zip(keys, given, calls, strict=True)
        }
        options = self._options(title, route, retries, priority, workers)
        with self._announced(title, submissions):
            futures: list[Future[Any]] = self.dask.map(
                # No two calls share a place in the line: who ran when a worker died can then be told.
                measured(func),
                *zip(*calls, strict=True),
                key=keys,
                fifo_timeout="0s",
                **options,
                **kwargs,
            )
        return futures

    def gather(self, futures: Any, errors: Literal["raise", "skip"] = "raise") -> Any:
        """Return the results of futures, in the shape in which these are given.

        Parameters
        ----------
        errors : {"raise", "skip"}
            Raise the first failed task's exception, or leave failed tasks out.
        """
        return self.dask.gather(futures, errors=errors)

    def cancel(self, futures: Future[Any] | Iterable[Future[Any]]) -> None:
        """Drop tasks that have not begun, and the results of those that have."""
        self.dask.cancel([futures] if isinstance(futures, Future) else list(futures), force=True)

    def worker_count(self, tag: str) -> int:
        """Return how many workers are up that run tasks with this tag.

        Raises
        ------
        UnknownTag
            If no pool serves it.
        """
        return sum(self._cluster.pools[pool].up for pool in self._router.route(tag).pools)

    def resources(
        self,
        tag: str | None = None,
        capabilities: Mapping[str, float] | Iterable[str] | None = None,
        task: str | None = None,
    ) -> dict[str, float]:
        """Return what such a task takes of a worker, as Dask's ``resources=`` wants it.

        Raises
        ------
        UnknownTag
            If no pool can ever run it.
        """
        return dict(self._router.route(tag, task, _amounts(capabilities)).resources)

    def close(self) -> None:
        """Disconnect; the pools stay. What is submitted after it is refused."""
        with self._handing_over:
            self._closed = True
        self.dask.close()

    def __enter__(self) -> ScalableClient:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _unique(self) -> str:
        """Return what no key of any client holds."""
        return f"{self._mark}{next(self._numbers):x}"

    def _route(self, tag: str | None, title: str, capabilities: Mapping[str, float] | Iterable[str] | None) -> Route:
        route = self._router.route(tag, title, _amounts(capabilities))
        broken = [self._cluster.pools[pool].broken for pool in route.pools]
        if all(broken):
            raise WorkersLost("; ".join(broken))
        return route

    def _options(
        self, title: str, route: Route, retries: int | None, priority: int, workers: str | Iterable[str] | None
    ) -> dict[str, Any]:
        """Return what Dask's ``submit`` and ``map`` are told besides the function."""
        if retries is None:
            defaults = self._tasks.get(title)
            retries = defaults.retries if defaults is not None else 0
        for what, value in (("retries", retries), ("priority", priority)):
            if not isinstance(value, int):
                raise TaskError(f"{what} of task '{title}' must be a whole number, not {value!r}")
        if workers is not None:
            workers = [workers] if isinstance(workers, str) else list(workers)
            names = {name for pool in self._cluster.pools.values() for name in list(pool.members)}
            if not (names | set(self._cluster.scheduler.workers)).intersection(workers):
                asked, known = ", ".join(workers), ", ".join(sorted(names))
                raise TaskError(f"task '{title}': there is no worker {asked}; known: {known}")
        return {"resources": route.resources, "retries": retries, "priority": priority, "workers": workers}

    def _submission(
        self, title: str, route: Route, features: Mapping[str, Any], arguments: tuple[Any, ...]
    ) -> Submission | None:
        if self._probe is None:
            return None
        size = 0
        for argument in arguments:
            if type(argument) in _SMALL:
                size += 28
            elif not isinstance(argument, Future):
                size += sizeof(argument)
        asked = self._cluster.pools[route.pools[0]].shape.component.resources.memory_bytes
        inputs = _inputs(features) if features else (None, None)
        return Submission(title, route.tag, features, len(arguments), size, asked, time.time(), *inputs)

    @contextmanager
    def _announced(self, title: str, submissions: Mapping[str, Submission | None]) -> Iterator[None]:
        """Announce tasks to telemetry while they are handed to Dask, and take that back if they are not.

        Raises
        ------
        ScalableError
            If the run is closed.
        """
        with self._handing_over:
            if self._closed:
                raise ScalableError(f"task '{title}' cannot be submitted: the run is closed")
            fresh = [key for key in submissions if key not in self.dask.futures] if self._probe is not None else []
            for key in fresh:
                self._probe.register(key, submissions[key])  # type: ignore[union-attr,arg-type]  # both there or neither
            try:
                yield
            except BaseException:
                for key in fresh:
                    self._probe.unregister(key)  # type: ignore[union-attr]
                raise


def _name_of(func: Callable[..., Any]) -> str:
    while isinstance(func, functools.partial):
        func = func.func
    return getattr(func, "__name__", type(func).__name__)


def _amounts(capabilities: Mapping[str, float] | Iterable[str] | None) -> Mapping[str, float] | None:
    if capabilities is None or isinstance(capabilities, Mapping):
        return capabilities
    if isinstance(capabilities, str):
        raise TaskError(f"capabilities='{capabilities}' is a bare text; write capabilities=['{capabilities}']")
    return dict.fromkeys(capabilities, 1.0)


def _checked(title: str, features: Any) -> Mapping[str, Any]:
    """Return a copy of a task's features, which the caller may go on changing."""
    if features is None:
        return _NO_FEATURES
    if not isinstance(features, Mapping):
        raise TaskError(f"features of task '{title}' must be a mapping, not {features!r}")
    try:
        copy: Mapping[str, Any] = json.loads(json.dumps(features, allow_nan=False))
    except (TypeError, ValueError) as error:
        raise TaskError(f"features of task '{title}' must be JSON: {error}") from error
    return copy


def _inputs(features: Mapping[str, Any]) -> tuple[int | None, int | None]:
    """Return number and size of a task's input files, as far as its features say so in numbers."""
    return _whole(features.get("input_files"), _MOST_INPUTS), _whole(features.get("input_bytes"), _LARGEST_INPUT)


def _whole(value: Any, most: int) -> int | None:
    return int(value) if type(value) in _NUMBERS and 0 <= value <= most else None


def _features_of_each(title: str, features: Any, count: int) -> list[Mapping[str, Any]]:
    if features is None or isinstance(features, Mapping):
        return [_checked(title, features)] * count
    each = [_checked(title, one) for one in features]
    if len(each) != count:
        raise TaskError(f"map of '{title}': {len(each)} features for {count} calls")
    return each


def _keys_for(
    title: str,
    key: str | Iterable[str] | None,
    func: Callable[..., Any],
    calls: list[tuple[Any, ...]],
    kwargs: Mapping[str, Any],
    *,
    unique: str | None,
) -> list[str]:
    if key is not None and not isinstance(key, str):
        keys = list(key)
        if len(keys) != len(calls):
            raise TaskError(f"map of '{title}': {len(keys)} keys for {len(calls)} calls")
        return keys
    prefix = key or title
    if unique is None:
        return [f"{prefix}-{tokenize(func, call, kwargs)}" for call in calls]
    return [f"{prefix}-{unique}-{number}" for number in range(len(calls))]
