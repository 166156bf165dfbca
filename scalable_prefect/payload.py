"""A task run as bytes: Dask sees neither the user's containers nor the futures inside them."""

from __future__ import annotations

import contextlib
import io
import math
import pickle
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, Final

import cloudpickle  # type: ignore[import-untyped]
from prefect.client.schemas.objects import State
from prefect.futures import PrefectFuture, PrefectFutureList
from prefect.tasks import Task
from prefect.utilities.annotations import BaseAnnotation, quote

from scalable.errors import TaskError
from scalable_prefect.futures import ScalableFuture
from scalable_prefect.parcel import Parcel, dumps

__all__ = ["Call", "features_of", "pack", "unpack"]

_LONGEST_TEXT: Final = 64
# Telemetry writes features down.
_SECRET: Final = re.compile(r"token|passw|secret|key|credential", re.IGNORECASE)

_arrived: ContextVar[Sequence[Parcel]] = ContextVar("scalable_prefect_upstreams")


@dataclass(frozen=True, slots=True)
class Call:
    """What Prefect's engine is to run.

    Attributes
    ----------
    arguments : dict
        Keyword arguments of the engine besides the task: ``parameters``, ``wait_for``,
        ``task_run_id``, ``dependencies``.
    context : dict
        The task run's own part of the context.
    """

    task: Task[Any, Any]
    arguments: dict[str, Any]
    context: dict[str, Any]


def pack(call: Call, owner: object) -> tuple[bytes, list[ScalableFuture[Any]]]:
    """Pickle a call, with references in place of the futures in it.

    Futures are found wherever pickle finds them: in lists, dataclasses, models, attributes.
    Those that another runner made are waited for, since Dask cannot.

    Parameters
    ----------
    owner : object
        Whose futures become references.

    Returns
    -------
    bytes
        The call.
    list of ScalableFuture
        What the references count.

    Raises
    ------
    TaskError
        If something in the call cannot be pickled; names the parameter.
    """
    upstreams: list[ScalableFuture[Any]] = []
    try:
        return _dump(call, upstreams, owner), upstreams
    except Exception as error:
        for name, value in call.arguments["parameters"].items():
            try:
                _dump(value, [], owner)
            except Exception as cause:
                raise TaskError(
                    f"task '{call.task.name}': parameter '{name}' cannot be sent to a worker: {cause}; "
                    "pass what it is made from, or make it inside the task"
                ) from cause
        raise TaskError(f"task '{call.task.name}' cannot be sent to a worker: {error}") from error


def features_of(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Return the parameters of a call that tell of its input: numbers, truth values and short texts.

    Those whose name sounds like a secret are left out.
    """
    return {name: value for name, value in parameters.items() if _is_plain(value) and not _SECRET.search(name)}


def _is_plain(value: Any) -> bool:
    kind = type(value)
    if kind is str:
        return len(value) <= _LONGEST_TEXT
    return kind is int or kind is bool or (kind is float and math.isfinite(value))


def unpack(payload: bytes, upstreams: Sequence[Parcel]) -> Call:
    """Rebuild a call; references become the final states of the task runs that they stand for."""
    with _available(upstreams):
        call: Call = pickle.loads(payload)  # noqa: S301  (from our own runner)
    return call


@contextlib.contextmanager
def _available(upstreams: Sequence[Parcel]) -> Iterator[None]:
    token = _arrived.set(upstreams)
    try:
        yield
    finally:
        _arrived.reset(token)


def _dump(value: Any, upstreams: list[ScalableFuture[Any]], owner: object) -> bytes:
    with io.BytesIO() as file:
        _Pickler(file, upstreams, owner).dump(value)
        return file.getvalue()


class _Pickler(cloudpickle.Pickler):  # type: ignore[misc]  # cloudpickle is untyped
    def __init__(self, file: io.BytesIO, upstreams: list[ScalableFuture[Any]], owner: object) -> None:
        super().__init__(file, protocol=5)
        self._upstreams = upstreams
        self._owner = owner

    def reducer_override(self, obj: Any) -> Any:
        """Replace futures, and keep Prefect's annotations whole: as tuples they unpickle nested once more."""
        if isinstance(obj, PrefectFuture):
            return self._reduce_future(obj)
        if isinstance(obj, quote):
            # Prefect does not look into it, so neither do we.
            return _unquote, (type(obj), dumps(obj.unwrap()))
        if isinstance(obj, BaseAnnotation):
            return type(obj), (obj.unwrap(),)
        if isinstance(obj, PrefectFutureList):
            return list, (list(obj),)
        return super().reducer_override(obj)

    def _reduce_future(self, future: PrefectFuture[Any]) -> tuple[Any, ...]:
        if isinstance(future, ScalableFuture) and future.owner is self._owner:
            self._upstreams.append(future)
            return _state_of, (len(self._upstreams) - 1,)
        future.wait()
        return _same, (future.state,)


def _state_of(index: int) -> State[Any]:
    return _arrived.get()[index].open()


def _same(state: State[Any]) -> State[Any]:
    return state


def _unquote(kind: Callable[[Any], Any], data: bytes) -> Any:
    return kind(pickle.loads(data))  # noqa: S301  (from our own runner)
