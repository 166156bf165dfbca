"""The task runs of one flow run on their way to a backend; a thread of its own sends them."""

from __future__ import annotations

import contextlib
import hashlib
import threading
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from queue import SimpleQueue
from typing import Any

from prefect.client.schemas.objects import State
from prefect.context import FlowRunContext, SettingsContext
from prefect.flows import Flow

from scalable.errors import ScalableError, TaskError
from scalable_prefect import compat, worker
from scalable_prefect.backends import Backend, RunStatus
from scalable_prefect.collect import Collector
from scalable_prefect.futures import DaskFuture, ScalableFuture
from scalable_prefect.parcel import Parcel, dumps
from scalable_prefect.reports import AnyLogger, Reporter

__all__ = ["Dispatcher", "Submission"]


@dataclass(frozen=True, slots=True)
class Submission:
    """A task run that is ready to be sent.

    Attributes
    ----------
    payload : bytes
        The call, with references to what ``upstreams`` lists.
    digest : str
        Name of what it shares with others.
    tag : str or None
        Which pool it asks for.
    priority : int
        Greater is earlier.
    capabilities : mapping of str to float or None
        What it requires besides.
    features : mapping or None
        What is known of its input, for telemetry.
    """

    future: ScalableFuture[Any]
    payload: bytes
    upstreams: list[ScalableFuture[Any]]
    digest: str
    tag: str | None
    priority: int = 0
    capabilities: Mapping[str, float] | None = None
    features: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class _Context:
    """What task runs share, with the objects that it was made from: as long as these are held, their ids are theirs."""

    settings: SettingsContext
    flow: FlowRunContext | None
    digest: str
    data: bytes
    api_url: str


class Dispatcher:
    """Send task runs, and end them.

    Parameters
    ----------
    backend : Backend
        Where they run; opened in the background.
    settings : SettingsContext
        For reports to the API.
    logger : Logger or LoggerAdapter
        Whom to tell what happens.
    """

    def __init__(self, backend: Backend, settings: SettingsContext, logger: AnyLogger) -> None:
        self.backend = backend
        self._logger = logger
        self._reporter = Reporter(settings, logger)
        self._collector = Collector(backend, self._reporter)
        self._contexts: dict[tuple[int, int], _Context] = {}
        self._published: set[str] = set()
        self._outbox: SimpleQueue[Submission | None] = SimpleQueue()
        self._lock = threading.Lock()
        self._broken: Exception | None = None
        self._stopped = False
        self._sender = threading.Thread(target=self._send_all, name="scalable-prefect-send", daemon=True)
        self._sender.start()

    def digest(self, settings: SettingsContext, flow: FlowRunContext | None) -> str:
        """Return the name of what task runs share under these settings in this flow run.

        The two are remembered as objects: other settings, as inside ``temporary_settings``,
        are another object.
        """
        place = worker.current()
        if place is not None and settings.settings is place.settings.settings and (flow is None or flow.detached):
            return place.shared.digest
        known = self._contexts.get((id(settings), id(flow)))
        if known is None:
            known = self._contexts[id(settings), id(flow)] = _context_of(settings, flow)
        return known.digest

    def submit(self, submission: Submission) -> None:
        """Send a task run, in the background.

        Raises
        ------
        ScalableError
            If nothing can be sent any more.
        """
        with self._lock:
            if self._broken is not None:
                raise self._broken
            if self._stopped:
                raise ScalableError("the task runner was cancelled; it takes no more tasks")
            self._collector.expect(submission.future)
            self._outbox.put(submission)

    def fetch(self, dask: DaskFuture) -> State[Any]:
        """Bring a final state that has stayed with a worker."""
        try:
            parcel: Parcel = self.backend.dask.gather(dask)
            return parcel.open()
        except Exception as error:  # noqa: BLE001  (unpickling runs the user's code)
            return compat.crashed(error)

    def stop(self, status: RunStatus | None, *, drain_s: float = 0.0) -> None:
        """End everything; harmless when repeated.

        Parameters
        ----------
        status : {"completed", "failed", "cancelled"}, optional
            What the flow run came to.
        drain_s : float
            Wait so many seconds for task runs that nobody waited for, then cancel them.
        """
        try:
            if not self._stopped:
                _wait_for(self._collector.pending(), drain_s)
        finally:
            with self._lock:
                first, self._stopped = not self._stopped, True
            if first:
                self._close(status)

    def _close(self, status: RunStatus | None) -> None:
        with contextlib.ExitStack() as stack:
            stack.callback(self._reporter.close)
            stack.callback(self.backend.close, status)
            stack.callback(self._collector.close)
            stack.callback(self._collector.cancel)
            self._outbox.put(None)
            self._sender.join()

    def _send_all(self) -> None:
        try:
            self.backend.open(self._collector.note_loss)
        except Exception as error:  # noqa: BLE001  (a provider may raise anything; whoever waits hears of it)
            self._give_up(error)
        while (submission := self._outbox.get()) is not None:
            if self._broken is None and not self._stopped:
                self._send(submission)

    def _give_up(self, error: Exception) -> None:
        self._logger.error("The pools could not be started: %s", error)
        with self._lock:
            self._broken = error
        for future in self._collector.pending():
            self._collector.settle(future, compat.crashed(error))

    def _send(self, submission: Submission) -> None:
        future = submission.future
        try:
            self._publish(submission.digest)
            dask = self.backend.submit(
                future,
                submission.payload,
                [upstream.argument() for upstream in submission.upstreams],
                submission.digest,
                tag=submission.tag,
                priority=submission.priority,
                capabilities=submission.capabilities,
                features=submission.features,
            )
        except Exception as error:  # noqa: BLE001  (this thread serves all others too)
            self._collector.settle(future, compat.crashed(error))
        else:
            future.bind(dask)
            self._collector.watch(dask)

    def _publish(self, digest: str) -> None:
        """Ship what task runs share to all workers, now and later, unless it is there."""
        if digest in self._published:
            return
        context = next((one for one in tuple(self._contexts.values()) if one.digest == digest), None)
        if context is not None:
            shared = worker.Shared(digest, context.data, context.api_url, worker.process_id(), self.backend.guide)
            self.backend.dask.register_plugin(worker.SharedPlugin(shared))
        self._published.add(digest)


def _context_of(settings: SettingsContext, flow: FlowRunContext | None) -> _Context:
    shared = compat.static_context(settings, flow)
    data = _dump(shared, flow.flow if flow is not None else None)
    url = str(shared["settings_context"]["settings"]["api"]["url"])
    return _Context(settings, flow, hashlib.sha256(data).hexdigest()[:24], data, url)


def _dump(shared: dict[str, Any], flow: Flow[Any, Any] | None) -> bytes:
    """Pickle what task runs share; the flow's own function may refer to what cannot be sent, and is not needed."""
    with contextlib.suppress(Exception):  # pickling runs the user's code
        return dumps(shared)
    if flow is not None:
        shared["flow_run_context"]["flow"] = compat.without_body(flow)
    try:
        return dumps(shared)
    except Exception as error:
        name = flow.name if flow is not None else "none"
        raise TaskError(
            f"flow '{name}': its parameters cannot be sent to workers, where its tasks may ask for them: {error}"
        ) from error


def _wait_for(futures: Iterable[ScalableFuture[Any]], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    for future in futures:
        future.wait_quietly(max(0.0, deadline - time.monotonic()))
