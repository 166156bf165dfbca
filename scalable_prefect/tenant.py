"""What one flow run has on a session that others may use at the same time."""

from __future__ import annotations

import contextlib
import threading
import weakref
from typing import Any, Final, Protocol, TypeAlias

from scalable_prefect.ledger import LOST
from scalable_prefect.worker import Shared, SharedPlugin

__all__ = ["DaskClient", "OnLoss", "Tenant"]

DaskClient: TypeAlias = Any
"""A ``distributed.Client``, whose methods are not annotated."""

_LEAVE_S: Final = 5.0


class OnLoss(Protocol):
    """Hear of a worker that died under a task."""

    def __call__(self, *, key: str, lost: int, memory: str) -> None:
        """Take note."""


class _News:
    """Pass on to all flow runs what Dask tells but one handler of each client."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._hearers: weakref.WeakKeyDictionary[DaskClient, list[OnLoss]] = weakref.WeakKeyDictionary()

    def join(self, client: DaskClient, on_loss: OnLoss) -> None:
        with self._lock:
            hearers = self._hearers.get(client)
            if hearers is None:
                hearers = self._hearers[client] = []
                client.subscribe_topic(LOST, lambda event: _tell(hearers, event[1]))
            hearers.append(on_loss)

    def leave(self, client: DaskClient, on_loss: OnLoss) -> None:
        with self._lock:
            self._hearers[client].remove(on_loss)


def _tell(hearers: list[OnLoss], loss: dict[str, Any]) -> None:
    for on_loss in tuple(hearers):
        on_loss(**loss)


_news = _News()


class Tenant:
    """Bring to a session what a flow run needs there, and take it away in the end.

    Parameters
    ----------
    client : distributed.Client
        Of the session.
    """

    def __init__(self, client: DaskClient) -> None:
        self._client = client
        self._plugins: list[str] = []
        self._on_loss: OnLoss | None = None

    def hear(self, on_loss: OnLoss) -> None:
        """Have a function called for each worker that dies under a task, whoever's it is; once."""
        self._on_loss = on_loss
        _news.join(self._client, on_loss)

    def bring(self, shared: Shared) -> None:
        """Ship what task runs share to all workers, now and later."""
        plugin = SharedPlugin(shared)
        self._client.register_plugin(plugin)
        self._plugins.append(plugin.name)

    def leave(self, *, for_good: bool = False) -> None:
        """Take all that away, unless the session ends with it.

        Parameters
        ----------
        for_good : bool
            Whether the session ends now.
        """
        if self._on_loss is not None:
            _news.leave(self._client, self._on_loss)
        for name in () if for_good else self._plugins:
            with contextlib.suppress(Exception):  # a worker that is gone, or does not answer, has nothing to forget
                unregister = self._client.scheduler.unregister_worker_plugin
                self._client.sync(unregister, name=name, callback_timeout=_LEAVE_S)
