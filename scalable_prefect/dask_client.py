"""A Dask client for the user's own Dask work inside tasks and flows.

Those of ``prefect_dask`` work too: what they need of the runner and of a worker process is
here. But they keep the task's slot while they wait, so that on a pool with no other slot
what they wait for never runs.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Iterator, Mapping
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import dask
from distributed import Worker
from distributed.utils import import_term
from prefect_dask import utils as prefect_dask

from scalable_prefect import slots

if TYPE_CHECKING:
    from distributed import Client
    from distributed.security import Security

__all__ = ["get_async_dask_client", "get_dask_client", "known_to_clients", "security_for"]

_LOADER = "distributed.client.security-loader"
_ours = f"{__name__}.security_for"
_before: list[str | None] = []


@contextlib.contextmanager
def get_dask_client(timeout: float | str | timedelta | None = None, **client_kwargs: Any) -> Iterator[Client]:
    """Yield a Dask client of the scheduler that runs the flow's tasks.

    Inside a task, its slot on the worker is lent until the block is left, so that what the
    task computes with the client can run there. Tasks of this client may run in any pool.

    Parameters
    ----------
    timeout : float, str or timedelta, optional
        Give up connecting after so many seconds.
    **client_kwargs
        Passed on to :class:`distributed.Client`.

    Examples
    --------
    >>> @task  # doctest: +SKIP
    ... def summary():
    ...     with get_dask_client() as client:
    ...         return client.compute(frame.describe()).result()
    """
    with contextlib.ExitStack() as stack:
        stack.enter_context(slots.lent())
        client = stack.enter_context(prefect_dask.get_dask_client(timeout, **_with_defaults(client_kwargs)))
        stack.enter_context(client.as_current())
        yield client


@contextlib.asynccontextmanager
async def get_async_dask_client(
    timeout: float | str | timedelta | None = None,  # noqa: ASYNC109  (as prefect_dask's)
    **client_kwargs: Any,
) -> AsyncIterator[Client]:
    """Yield an asynchronous Dask client, for async tasks and flows; else as :func:`get_dask_client`."""
    with slots.lent():
        async with prefect_dask.get_async_dask_client(timeout, **_with_defaults(client_kwargs)) as client:
            with client.as_current():
                yield client


def _with_defaults(client_kwargs: Mapping[str, Any]) -> dict[str, Any]:
    # As the default of the process it would be taken for the worker's own by the tasks beside this one.
    return {"set_as_default": False, **client_kwargs}


def known_to_clients() -> None:
    """Let clients that are made in this process with a scheduler's address alone find the certificates for it."""
    present = dask.config.get(_LOADER, None)
    if present != _ours:
        _before[:] = [present]
        dask.config.set({_LOADER: _ours})


def security_for(info: Mapping[str, Any]) -> Security | None:
    """Return what a worker of this process uses to connect to an address; called by Dask.

    Parameters
    ----------
    info : mapping
        With ``address``.
    """
    for worker in tuple(Worker._instances):  # noqa: SLF001  (Dask lists them nowhere else)
        if worker.scheduler.address == info["address"]:
            found: Security = worker.security
            return found
    if _before and _before[0]:
        return import_term(_before[0])(info)  # type: ignore[no-any-return]
    return None
