"""Where a runner's tasks go: to a session of its own, or, inside a task, to the scheduler that runs it."""

from __future__ import annotations

import contextlib
import functools
import threading
from collections.abc import Mapping, Sequence
from typing import Any, Literal, Protocol, TypeAlias

import distributed

from scalable import ScalableSession
from scalable_prefect import worker
from scalable_prefect.futures import DaskFuture, ScalableFuture
from scalable_prefect.ledger import LOST, Ledger
from scalable_prefect.parcel import Parcel
from scalable_prefect.routing import Guide, Signposts

__all__ = ["Backend", "RunStatus", "SessionBackend", "WorkerBackend", "in_process"]

_DRAIN_S = 4.0

DaskClient: TypeAlias = Any
"""A ``distributed.Client``, whose methods are not annotated."""

RunStatus = Literal["completed", "failed", "cancelled"]


class OnLoss(Protocol):
    """Hear of a worker that died under a task."""

    def __call__(self, *, key: str, lost: int) -> None:
        """Take note."""


Upstreams: TypeAlias = "Sequence[DaskFuture | Parcel]"


class Backend(Protocol):
    """What a dispatcher needs of a place that runs tasks."""

    signposts: Signposts
    """The tags that mean a pool there."""

    def open(self, on_loss: OnLoss) -> None:
        """Start it, which may take long.

        Parameters
        ----------
        on_loss : callable
            Told of a task, by ``key``, under which a worker died, and how many have (``lost``).
        """

    @property
    def dask(self) -> DaskClient:
        """The Dask client; only after :meth:`open`."""

    @property
    def guide(self) -> Guide:
        """Where tasks inside tasks go; only after :meth:`open`."""

    def submit(
        self,
        future: ScalableFuture[Any],
        payload: bytes,
        upstreams: Upstreams,
        digest: str,
        *,
        tag: str | None,
        priority: int,
        capabilities: Mapping[str, float] | None,
        features: Mapping[str, Any] | None = None,
    ) -> DaskFuture:
        """Hand a task run to the scheduler."""

    def close(self, status: RunStatus | None) -> None:
        """End it, with everything that runs there."""


class SessionBackend:
    """A session of Scalable.

    Parameters
    ----------
    session : ScalableSession
        Started if it is not yet.
    owned : bool
        Whether to close it in the end.
    objective, policy : str, optional
        How its pools are sized; default is the manifest's numbers.
    """

    def __init__(
        self, session: ScalableSession, *, owned: bool, objective: str | None = None, policy: str | None = None
    ) -> None:
        self.session = session
        self._objective = objective
        self._policy = policy
        self.signposts = Signposts.of(session)
        self._owned = owned
        self._opened = False

    def open(self, on_loss: OnLoss) -> None:
        """Start the session."""
        asked = self._objective is not None or self._policy is not None
        plan = self.session.plan(objective=self._objective, policy=self._policy) if asked else None
        self.session.start(plan)
        self._opened = True
        self.dask.register_plugin(Ledger())
        self.dask.subscribe_topic(LOST, lambda event: on_loss(**event[1]))

    @property
    def dask(self) -> DaskClient:
        """The Dask client."""
        return self.session.client.dask

    @functools.cached_property
    def guide(self) -> Guide:
        """Where tasks inside tasks go."""
        return Guide.of(self.session, self.session.client)

    def submit(
        self,
        future: ScalableFuture[Any],
        payload: bytes,
        upstreams: Upstreams,
        digest: str,
        *,
        tag: str | None,
        priority: int,
        capabilities: Mapping[str, float] | None,
        features: Mapping[str, Any] | None = None,
    ) -> DaskFuture:
        """Hand a task run to the scheduler."""
        return self.session.client.submit(
            worker.run,
            payload,
            list(upstreams),
            digest,
            tag=tag,
            capabilities=capabilities,
            features=features,
            name=future.name,
            key=future.key,
            priority=priority,
            pure=False,
            retries=0,
        )

    def close(self, status: RunStatus | None) -> None:
        """End the session, if it is the runner's own."""
        if self._opened and not in_process(self.dask):
            _drain_workers(self.dask)
        if self._owned:
            self.session.close(status)


class WorkerBackend:
    """The scheduler of the task that this code runs in.

    Parameters
    ----------
    place : Place
        Where we are.
    """

    def __init__(self, place: worker.Place) -> None:
        self.guide = place.shared.guide
        self.signposts = self.guide.signposts
        # In this thread: only here does Dask know which worker it is.
        self.dask: DaskClient = distributed.get_client()

    def open(self, on_loss: OnLoss) -> None:
        """Do nothing: it is there, and losses are the flow's affair."""

    def submit(
        self,
        future: ScalableFuture[Any],
        payload: bytes,
        upstreams: Upstreams,
        digest: str,
        *,
        tag: str | None,
        priority: int,
        capabilities: Mapping[str, float] | None,
        features: Mapping[str, Any] | None = None,
    ) -> DaskFuture:
        """Hand a task run to the scheduler."""
        dask: DaskFuture = self.dask.submit(
            worker.run,
            payload,
            list(upstreams),
            digest,
            key=future.key,
            resources=self.guide.resources(tag, future.name, capabilities),
            priority=priority,
            pure=False,
            retries=0,
        )
        return dask

    def close(self, status: RunStatus | None) -> None:
        """Do nothing: it goes on."""


def in_process(client: DaskClient) -> bool:
    """Return whether workers are threads of this process."""
    scheduler = client.scheduler
    return scheduler is not None and str(scheduler.address).startswith("inproc")


def _drain_workers(client: DaskClient) -> None:
    """Let worker processes send their last events and logs: nobody waits for them when they end."""

    def drain() -> None:
        with contextlib.suppress(Exception):  # a worker that just died has nothing to send
            client.run(worker.drain, on_error="ignore")

    thread = threading.Thread(target=drain, name="scalable-prefect-drain", daemon=True)
    thread.start()
    thread.join(_DRAIN_S)
