"""The task runner: tags in, futures out."""

from __future__ import annotations

import functools
import os
import threading
import weakref
from collections.abc import Iterable, Mapping
from contextvars import ContextVar
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Never, Self

from dask.base import get_annotations
from prefect.context import FlowRunContext, SettingsContext, TagsContext, get_settings_context
from prefect.futures import PrefectFuture, PrefectFutureList
from prefect.logging.loggers import flow_run_logger
from prefect.task_runners import TaskRunner
from prefect.tasks import Task

from scalable import ScalableSession
from scalable.errors import did_you_mean
from scalable_prefect import compat, worker
from scalable_prefect.backends import Backend, RunStatus, SessionBackend, Submission, WorkerBackend
from scalable_prefect.block import ScalableManifest
from scalable_prefect.dispatch import Dispatcher
from scalable_prefect.futures import ScalableFuture
from scalable_prefect.payload import Call, features_of, one_map, pack

if TYPE_CHECKING:
    from prefect.client.schemas.objects import FlowRun, RunInput

__all__ = ["ScalableTaskRunner"]


_waiting: ContextVar[tuple[_Family, Dispatcher] | None] = ContextVar("scalable_prefect_waiting", default=None)
"""What an attempt of a flow run leaves for the next, which Prefect makes in the same context."""


_MANIFEST = "scalable.yaml"

_SETTINGS = (
    *("manifest", "target", "objective", "policy", "overlay", "session"),
    *("objectives", "advise", "drain_seconds", "performance_report_path"),
)

_TARGET: Final = "scalable_target"
"""Parameter of a flow that chooses the target."""

_OF_DASK: Final = {
    "address": "run `scalable adapter` to bring workers to a run, or give a session= that is under way",
    "cluster": "give a session=, which may be shared by several flow runs",
    "cluster_class": "the target's `provider` says what makes the workers: local, slurm, kubernetes, aws, gcp, ...",
    "cluster_kwargs": "the target says how many workers (`max_workers`), a component what each has (`cpus`, `memory`)",
    "adapt_kwargs": "the target says how pools grow and shrink: `min_workers`, `max_workers`, `scaling`",
    "client_kwargs": "the runner connects by itself; TLS is the target's affair",
}
"""What DaskTaskRunner's arguments are in a manifest."""


class _Family:
    """A runner's template and its duplicates, of which Prefect starts one for each attempt of a flow run."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.live: weakref.WeakSet[Dispatcher] = weakref.WeakSet()

    def __reduce__(self) -> tuple[type[_Family], tuple[()]]:
        return _Family, ()


class ScalableTaskRunner(TaskRunner[ScalableFuture[Any]]):
    """Run the tasks of a flow on the pools of a manifest.

    A task runs on the pool that one of its tags names: a component, one of a component's
    ``tags``, or one of the manifest's ``tasks``. Without such a tag, the task's own name
    decides if the manifest's ``tasks`` have it; all others go to the default pool. Tags
    that name no pool are Prefect's alone.

    Nothing is started before the first ``.submit`` or ``.map``; when the flow run ends,
    however it ends, every worker ends with it.

    Parameters
    ----------
    manifest : path or ScalableManifest
        The manifest, or the block that holds it; default is ``SCALABLE_MANIFEST``, or
        ``scalable.yaml`` where the flow runs.
    target : str, optional
        Name of the target; default is ``SCALABLE_TARGET``, or the manifest's only one. A
        parameter of the flow that is called ``scalable_target`` goes before it, unless it is
        ``None``, so that a deployment or whoever starts a run may choose.
    objective : str, optional
        What the pools are sized for: ``"minimize cost"``, ``"minimize time"`` or ``"balance"``;
        default is the manifest's numbers. The plan knows of the manifest's hints, of past runs
        and of what the flow submits in one go at its start.
    policy : str, optional
        How: ``"safe"``, ``"aggressive"`` or ``"manual"``.
    overlay : str, optional
        Name of an overlay, or a file of one (``.yaml``), in place of the one that the target names.
    session : ScalableSession, optional
        Use this one, in place of a manifest, and leave it open.
    objectives : mapping, optional
        ``budget_usd`` (US dollars) and ``deadline_hours``.
    advise : bool, optional
        Whether to take the advice of past runs; default is what the manifest says.
    drain_seconds : float
        How long to wait, when a flow ends, for task runs that it did not wait for; those
        that have not ended by then are cancelled. Default 60.
    performance_report_path : path, optional
        Where to write Dask's performance report, a page of HTML, when the flow run ends; it
        needs the extra ``dashboard``.

    Raises
    ------
    TypeError
        If an argument is DaskTaskRunner's and stands in the manifest here; the message says where.

    Examples
    --------
    >>> @task(tags=["simulate"])  # doctest: +SKIP
    ... def energy(tilt): ...
    >>> @flow(task_runner=ScalableTaskRunner("scalable.yaml", target="local"))  # doctest: +SKIP
    ... def study():
    ...     return energy.map(range(0, 60, 5)).result()
    """

    def __init__(  # noqa: PLR0917  (users have this order)
        self,
        manifest: str | os.PathLike[str] | ScalableManifest = _MANIFEST,
        target: str | None = None,
        objective: str | None = None,
        policy: str | None = None,
        overlay: str | os.PathLike[str] | None = None,
        session: ScalableSession | None = None,
        *,
        objectives: Mapping[str, float] | None = None,
        advise: bool | None = None,
        drain_seconds: float = 60.0,
        performance_report_path: str | os.PathLike[str] | None = None,
        **others: Never,
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        _refuse(others)
        self.manifest = manifest if isinstance(manifest, ScalableManifest) else os.fspath(manifest)
        self.target = target
        self.objective = objective
        self.policy = policy
        self.overlay = None if overlay is None else os.fspath(overlay)
        self.session = session
        self.objectives = dict(objectives) if objectives is not None else None
        self.advise = advise
        self.drain_seconds = drain_seconds
        self.performance_report_path = None if performance_report_path is None else os.fspath(performance_report_path)
        self._family = _Family()
        self._dispatcher: Dispatcher | None = None
        self._flow: FlowRunContext | None = None

    def duplicate(self) -> Self:
        """Return a runner with the same settings, not started."""
        # Not by the constructor: on workers Prefect does this for every task run.
        twin = type(self).__new__(type(self))
        twin.__dict__.update(self.__dict__, _dispatcher=None, _flow=None, _started=False)
        return twin

    def submit(
        self,
        task: Task[Any, Any],
        parameters: dict[str, Any],
        wait_for: Iterable[PrefectFuture[Any]] | None = None,
        dependencies: dict[str, set[RunInput]] | None = None,
    ) -> ScalableFuture[Any]:
        """Send a task to its pool; returns at once.

        Parameters
        ----------
        task : Task
            The task.
        parameters : dict
            Its arguments, with futures anywhere in them.
        wait_for : iterable of PrefectFuture, optional
            What must have completed before it starts.
        dependencies : dict, optional
            Further inputs that Prefect is to know of.

        Raises
        ------
        RuntimeError
            If the runner is not started.
        ManifestError
            At the first task, if the manifest cannot be used.
        AmbiguousTags
            If the task's tags name pools that are not the same.
        PoolElsewhere
            If one of them names a pool that only other targets have.
        TaskError
            If an argument cannot be sent to a worker.
        """
        if not self._started:
            raise RuntimeError("The task runner must be started before submitting work.")
        flow = FlowRunContext.get()
        self._flow = flow
        dispatcher = self._open()
        tag = dispatcher.backend.signposts.choose({*task.tags, *TagsContext.get().current_tags}, task.name)
        task_run_id = compat.new_task_run_id()
        inputs = compat.collect_inputs(parameters, dependencies)
        call = Call(
            task,
            {"parameters": parameters, "wait_for": wait_for, "task_run_id": task_run_id, "dependencies": inputs},
            compat.task_context(task, task_run_id, inputs),
        )
        digest = dispatcher.digest(get_settings_context(), flow)
        packed = pack(call, dispatcher, apart=dispatcher.backend.keeps_buffers)
        future: ScalableFuture[Any] = ScalableFuture(
            task_run_id, f"{task.name}-{task_run_id}", task.name, task.retries, dispatcher
        )
        annotations = get_annotations()
        dispatcher.submit(
            Submission(
                future,
                packed.data,
                packed.upstreams,
                digest,
                tag,
                held=packed.held,
                priority=annotations.get("priority", 0),
                capabilities=annotations.get("resources"),
                features=features_of(parameters),
            )
        )
        return future

    def map(
        self,
        task: Task[Any, Any],
        parameters: dict[str, Any],
        wait_for: Iterable[PrefectFuture[Any]] | None = None,
    ) -> PrefectFutureList[ScalableFuture[Any]]:
        """Submit a task once for each element of its arguments; they are sent as one graph.

        Parameters and errors are those of :meth:`submit` and of Prefect's own ``map``.
        """
        with one_map():
            return super().map(task, parameters, wait_for)

    def cancel_all(self) -> None:
        """Cancel every task run of this runner and of its duplicates, and end their workers."""
        with self._family.lock:
            live = list(self._family.live)
        for dispatcher in live:
            dispatcher.stop("cancelled")

    def __enter__(self) -> Self:
        """Get ready; nothing starts yet: Prefect enters a duplicate around each task on the workers, too."""
        super().__enter__()
        left = _waiting.get()
        if left is not None and left[0] is self._family:
            self._dispatcher = left[1]
            _waiting.set(None)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End every worker, unless Prefect is about to try the flow again."""
        dispatcher, self._dispatcher = self._dispatcher, None
        try:
            if dispatcher is None or self._is_in_task():
                return
            if error is None and self._comes_back():
                _waiting.set((self._family, dispatcher))
            else:
                # A flow that took too long does not wait for what it did not wait for.
                late = self._flow_run is not None and self._flow_run.state_name == "TimedOut"
                hurry = late or error is not None
                dispatcher.stop(self._status(error), drain_s=0.0 if hurry else self.drain_seconds)
                dispatcher.conclude(self._flow_run)
        finally:
            super().__exit__(kind, error, trace)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, ScalableTaskRunner):
            return NotImplemented
        return self._settings == other._settings

    def __hash__(self) -> int:
        return hash((type(self), str(self.manifest), self.target, self.overlay))

    def __getstate__(self) -> dict[str, Any]:
        # What runs belongs to this process; a runner that arrives elsewhere starts afresh.
        return {**self.__dict__, "session": None, "_dispatcher": None, "_flow": None, "_started": False}

    @property
    def client_kwargs(self) -> dict[str, Any]:
        """What a further Dask client of the flow needs, for ``prefect_dask.get_dask_client``."""
        return {"security": self._client.security}

    @property
    def _client(self) -> Any:
        # prefect_dask asks for it by this name, maybe before any task was submitted.
        self._flow = self._flow or FlowRunContext.get()
        return self._open().dask()

    @property
    def _settings(self) -> tuple[Any, ...]:
        return tuple(getattr(self, name) for name in _SETTINGS)

    @property
    def _flow_run(self) -> FlowRun | None:
        return self._flow.flow_run if self._flow is not None else None

    def _open(self) -> Dispatcher:
        if self._dispatcher is None:
            logger = flow_run_logger(self._flow_run) if self._flow_run is not None else self.logger
            settings = get_settings_context()
            copied = SettingsContext(profile=settings.profile, settings=settings.settings)
            self._dispatcher = Dispatcher(self._backend(), copied, logger, self._flow_run)
            with self._family.lock:
                self._family.live.add(self._dispatcher)
            place = worker.current()
            if place is not None and self._is_in_task():
                place.at_end.append(functools.partial(_end, self._dispatcher, self.drain_seconds))
        return self._dispatcher

    def _is_in_task(self) -> bool:
        """Whether this runner is what a task submits with, and ends with its run."""
        return worker.current() is not None and (self._flow is None or self._flow.detached)

    def _backend(self) -> Backend:
        place = worker.current()
        if place is not None:
            return WorkerBackend(place)
        return SessionBackend(
            self.session or self._new_session(),
            owned=self.session is None,
            objective=self.objective,
            policy=self.policy,
            report_path=self.performance_report_path,
        )

    def _new_session(self) -> ScalableSession:
        options: Any = {
            "target": (self._flow.parameters or {}).get(_TARGET) if self._flow is not None else None,
            "overlay": self.overlay,
            "objectives": self.objectives,
            "advise": self.advise,
        }
        options["target"] = options["target"] or self.target
        if isinstance(self.manifest, ScalableManifest):
            return self.manifest.session(**options)
        # The default leaves it to SCALABLE_MANIFEST, whose own default is the same.
        return ScalableSession.from_yaml(None if self.manifest == _MANIFEST else self.manifest, **options)

    def _comes_back(self) -> bool:
        """Whether Prefect will start another runner for the same flow run: it is running again by now."""
        state = self._flow_run.state if self._flow_run is not None else None
        is_flows_own = self._flow is not None and self._flow.task_runner is self
        return is_flows_own and state is not None and state.is_running()

    def _status(self, error: BaseException | None) -> RunStatus | None:
        if error is not None:
            return "failed" if isinstance(error, Exception) else "cancelled"
        state = self._flow_run.state if self._flow_run is not None else None
        if state is None or not state.is_final():
            return None
        if state.is_completed():
            return "completed"
        return "cancelled" if state.is_cancelled() else "failed"


def _end(dispatcher: Dispatcher, drain_s: float, hurry: bool) -> None:
    dispatcher.stop(None, drain_s=0.0 if hurry else drain_s)


def _refuse(others: Mapping[str, object]) -> None:
    """Refuse arguments that there are not, and say where in the manifest those of DaskTaskRunner have gone."""
    for name in others:
        if name in _OF_DASK:
            raise TypeError(f"ScalableTaskRunner has no argument '{name}'; with a manifest, {_OF_DASK[name]}")
        hint = did_you_mean(name, _SETTINGS)
        raise TypeError(f"ScalableTaskRunner has no argument '{name}'" + (f"; {hint}" if hint else ""))
