"""Every part of Prefect that is not public, and everything that knows how its engine is driven.

Checked with Prefect 3.8. The rest of this package imports public names only, so a Prefect
that moved something breaks here, at import, with a sentence that says so.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import copy
import logging
import os
import pickle
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast
from uuid import UUID

import cloudpickle  # type: ignore[import-untyped]
import httpx
import prefect
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.objects import State, TaskRun
from prefect.context import FlowRunContext, SettingsContext, SyncClientContext, TagsContext, TaskRunContext
from prefect.exceptions import PrefectException, PrefectHTTPStatusError
from prefect.flows import Flow
from prefect.results import ResultStore, default_cache
from prefect.settings import PREFECT_CLIENT_SERVER_VERSION_CHECK_ENABLED, Profile, Settings
from prefect.tasks import Task

if TYPE_CHECKING:
    from prefect.client.schemas.objects import RunInput

try:
    from prefect._flow_run_suspension import raise_if_flow_run_suspension_requested
    from prefect._internal.concurrency.cancellation import shield as shielded
    from prefect._internal.engine import resolve_custom_task_run_name
    from prefect._internal.states import exception_to_crashed_state_sync
    from prefect._internal.uuid7 import uuid7
    from prefect.context import (
        AssetContext,
        _deployment_id,
        _deployment_parameters,
        hydrated_context,
        refresh_global_settings_context,
    )
    from prefect.events.worker import EventsWorker
    from prefect.logging.handlers import APILogWorker
    from prefect.task_engine import TaskRunTimeoutError, run_task_async, run_task_sync
    from prefect.utilities.engine import collect_task_run_inputs_sync
except ImportError as error:
    raise ImportError(
        f"scalable_prefect was checked with Prefect 3.8; Prefect {prefect.__version__} has moved something: {error}; "
        "pip install 'scalable-workflows[prefect]' 'prefect>=3.8,<3.9'"
    ) from error

__all__ = [
    "Built",
    "EngineClients",
    "TaskRunTimeoutError",
    "adopt_api_url",
    "begun_task_run",
    "build",
    "collect_inputs",
    "crashed",
    "custom_run_name",
    "drain_services",
    "engine_client",
    "hush_timeout_warning",
    "new_task_run_id",
    "raise_if_flow_run_suspension_requested",
    "report_state",
    "run_engine",
    "shielded",
    "static_context",
    "stored_state",
    "supervised",
    "task_context",
    "without_body",
]

_API_URL = "PREFECT_API_URL"
_LOOK_AGAIN_S = 0.25


def new_task_run_id() -> UUID:
    """Return an id for a task run, which sorts by time as Prefect's own do."""
    return UUID(int=uuid7().int)


def crashed(error: BaseException) -> State[Any]:
    """Return the state that Prefect gives to what failed outside the user's code."""
    return exception_to_crashed_state_sync(error)


def custom_run_name(task: Task[Any, Any], parameters: dict[str, Any]) -> str:
    """Return what a task that names its runs itself calls one of them."""
    name: str = resolve_custom_task_run_name(task, parameters)
    return name


def collect_inputs(
    parameters: Mapping[str, Any], more: Mapping[str, set[RunInput]] | None = None
) -> dict[str, set[RunInput]]:
    """Return, by parameter, the runs whose results a task uses."""
    found: dict[str, set[RunInput]] = {
        name: {*collect_task_run_inputs_sync(value)} for name, value in parameters.items()
    }
    for name, inputs in (more or {}).items():
        if name in found:
            found[name] |= inputs
    return found


def static_context(settings: SettingsContext, flow: FlowRunContext | None) -> dict[str, Any]:
    """Return the part of the context that all task runs of a flow run share, as plain data.

    The API's address is written into the settings: where Prefect started a server of its
    own for this process, workers must use that one and not start others.
    """
    shared: dict[str, Any] = {"settings_context": settings.serialize()}
    api = shared["settings_context"]["settings"].setdefault("api", {})
    if not api.get("url"):
        api["url"] = str((flow.client if flow is not None else get_client(sync_client=True)).api_url)
    if flow is not None:
        shared["flow_run_context"] = flow.serialize()
    return shared


def without_body(flow: Flow[Any, Any]) -> Flow[Any, Any]:
    """Return a flow that says all about itself but cannot be run, for where its function cannot be sent."""
    twin = copy.copy(flow)
    twin.fn = _elsewhere
    for hooks in ("on_completion_hooks", "on_failure_hooks", "on_cancellation_hooks", "on_crashed_hooks"):
        setattr(twin, hooks, [])
    twin.on_running_hooks = []
    vars(twin).pop("__wrapped__", None)
    return twin


def _elsewhere(*_: Any, **__: Any) -> Any:
    raise RuntimeError("this flow refers to what cannot be sent to workers, so it cannot be called inside its tasks")


def task_context(task: Task[Any, Any], task_run_id: UUID, dependencies: dict[str, set[RunInput]]) -> dict[str, Any]:
    """Return the part of the context that belongs to one task run, as plain data."""
    parent = TaskRunContext.get()
    deployment = _deployment_id.get()
    assets = AssetContext.from_task_and_inputs(
        task=task, task_run_id=task_run_id, task_inputs=dependencies, copy_to_child_ctx=True
    )
    return {
        "task_run_context": parent.serialize() if parent else {},
        "tags_context": TagsContext.get().serialize(),
        "asset_context": assets.serialize(),
        "deployment_id": str(deployment) if deployment else None,
        "deployment_parameters": _deployment_parameters.get(),
    }


@dataclass(frozen=True, slots=True)
class Built:
    """What task runs share on a worker, built but once as far as the engine only reads it.

    Building all of it for each task run takes as long as the rest of what is done here for one.
    """

    settings: SettingsContext
    flow: Any
    result_store: ResultStore | None
    written_to: bytes
    clients: EngineClients

    def settings_context(self) -> SettingsContext:
        """Return the settings in a context that a task run can enter; they are valid already."""
        return SettingsContext.model_construct(profile=self.settings.profile, settings=self.settings.settings)

    def flow_run_context(self) -> dict[str, Any]:
        """Return the flow run's part of the context, as plain data; what the engine writes into is new."""
        if not self.written_to:
            return {}
        context: dict[str, Any] = {**pickle.loads(self.written_to), "flow": self.flow}  # noqa: S301  (made below)
        if self.result_store is not None:
            # With a cache of its own: that of all would hold the results of a thousand task runs.
            context["result_store"] = self.result_store.model_copy(update={"cache": default_cache()})
        return context


def build(context: bytes) -> Built:
    """Build what task runs share from :func:`static_context`, pickled."""
    plain: dict[str, Any] = pickle.loads(context)  # noqa: S301  (from our own runner)
    settings = SettingsContext(**plain["settings_context"])
    flow_run: dict[str, Any] = plain.get("flow_run_context") or {}
    store = flow_run.pop("result_store", None)
    flow = flow_run.pop("flow", None)
    if isinstance(store, dict):
        with SettingsContext(profile=settings.profile, settings=settings.settings):
            store = ResultStore(**store)
    return Built(settings, flow, store, cloudpickle.dumps(flow_run) if flow_run else b"", EngineClients())


class EngineClients:
    """API clients with the same settings, as many as are in use at a time.

    A client costs 20 ms (it reads the certificates), as much as ten task runs.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._free: list[SyncClientContext] = []
        self._closed = False

    def take(self, settings: SettingsContext) -> SyncClientContext:
        """Return one that is free, or a new one."""
        with self._lock:
            if self._free:
                return self._free.pop()
        # In a context of its own, where no client of another thread is found and none is left behind.
        return contextvars.Context().run(_open_client, settings.profile, settings.settings)

    def put_back(self, context: SyncClientContext) -> None:
        """Keep one for the next, unless all are to be closed."""
        with self._lock:
            if not self._closed:
                self._free.append(context)
                return
        context.client.__exit__(None, None, None)

    def close(self) -> None:
        """Close all of them; those in use, as by code that nothing stops, when they are put back."""
        with self._lock:
            self._closed = True
            free, self._free = self._free, []
        for context in free:
            # Not the context itself, which only the one that entered it can leave.
            context.client.__exit__(None, None, None)


@contextlib.contextmanager
def engine_client(built: Built) -> Iterator[SyncPrefectClient]:
    """Give the engine an API client that no other thread uses meanwhile."""
    context = built.clients.take(built.settings)
    token = SyncClientContext.__var__.set(context)
    try:
        yield context.client
    finally:
        SyncClientContext.__var__.reset(token)
        built.clients.put_back(context)


def _open_client(profile: Profile, settings: Settings) -> SyncClientContext:
    # The flow's process has compared versions; an API that is away for a while must not fail tasks, which need it not.
    unasked = settings.copy_with_update(updates={PREFECT_CLIENT_SERVER_VERSION_CHECK_ENABLED: False})
    with SettingsContext(profile=profile, settings=unasked):
        # Entered for good: it would close the client when it is left.
        return SyncClientContext().__enter__()


def hush_timeout_warning() -> None:
    """Keep Prefect from saying that timeouts cannot interrupt tasks in threads: ours do."""
    logging.getLogger("prefect.task_runs").addFilter(_enforced)


def _enforced(record: logging.LogRecord) -> bool:
    return not record.msg.startswith("Timeout of %s seconds configured for this task") or not _timeout_is_ours()


def _timeout_is_ours() -> bool:
    context = TaskRunContext.get()
    return context is not None and getattr(context.task.fn, "enforces_timeout", False) is True


def run_engine(
    task: Task[Any, Any], context: dict[str, Any], client: SyncPrefectClient, **arguments: Any
) -> State[Any]:
    """Run a task in Prefect's engine, in this thread, and return its final state."""
    with hydrated_context(context, client=client):
        if task.isasync:
            state = asyncio.run(run_task_async(task, return_type="state", **arguments))
        else:
            state = run_task_sync(task, return_type="state", **arguments)
    return cast("State[Any]", state)


def begun_task_run(client: SyncPrefectClient, task_run_id: UUID, patience_s: float = 2.0) -> TaskRun | None:
    """Return a task run as the API knows it, if it tells of its first try within some seconds."""
    give_up = time.monotonic() + patience_s
    while True:
        with contextlib.suppress(PrefectException, httpx.HTTPError):
            run = client.read_task_run(task_run_id)
            if run.run_count and run.state is not None and not run.state.is_final():
                return run
        if time.monotonic() > give_up:
            return None
        time.sleep(_LOOK_AGAIN_S)


def stored_state(client: SyncPrefectClient, task_run_id: UUID) -> State[Any] | None:
    """Return the state of a task run that has completed, if its result lies in storage."""
    try:
        state = client.read_task_run(task_run_id).state
    except PrefectException:
        return None
    return state if state is not None and state.is_completed() and state.data is not None else None


def adopt_api_url(url: str | None) -> None:
    """Make an API's address the default of this process, unless it has one.

    For worker processes: services of Prefect that run outside a task's context would
    otherwise start a server of their own.
    """
    if url and not os.environ.get(_API_URL):
        os.environ[_API_URL] = url
        refresh_global_settings_context()


def supervised() -> bool:
    """Return whether another process, such as a Prefect worker's, ends this one when its flow run is cancelled."""
    return os.environ.get("PREFECT__ENABLE_CANCELLATION_AND_CRASHED_HOOKS", "true").lower() != "true"


def drain_services(timeout_s: float) -> None:
    """Send what Prefect holds back of events and logs, in a process that is about to end."""
    # It warns that it is still sending whenever something is left to send.
    logging.getLogger(EventsWorker.__name__).setLevel(logging.ERROR)
    give_up = time.monotonic() + timeout_s
    for service in (EventsWorker, APILogWorker):
        service.drain_all(timeout=max(0.1, give_up - time.monotonic()), at_exit=False)


def report_state(settings: SettingsContext, task_run_id: UUID, state: State[Any]) -> bool:
    """Tell the API what became of a task run whose own process cannot.

    Returns
    -------
    bool
        Whether the API knows the task run. Its own events may still be on their way, as the server
        records them in batches; and one that never began is never known.
    """
    with SettingsContext(profile=settings.profile, settings=settings.settings), get_client(sync_client=True) as client:
        try:
            client.set_task_run_state(task_run_id, state, force=True)
        except PrefectHTTPStatusError as error:
            if error.response.status_code != httpx.codes.NOT_FOUND:
                raise
            return False
    return True
