"""A task run as bytes: Dask sees neither the user's containers nor the futures inside them."""

from __future__ import annotations

import contextlib
import io
import math
import pickle
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, replace
from typing import Any, Final

import cloudpickle  # type: ignore[import-untyped]
from prefect.client.schemas.objects import State
from prefect.futures import PrefectFuture, PrefectFutureList
from prefect.tasks import Task
from prefect.utilities.annotations import BaseAnnotation, quote

from scalable.errors import TaskError
from scalable_prefect import buffers
from scalable_prefect.futures import ScalableFuture
from scalable_prefect.parcel import Parcel, dumps

__all__ = ["Call", "Packed", "features_of", "pack", "unpack"]

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


@dataclass(frozen=True, slots=True)
class Packed:
    """A call as it travels.

    Attributes
    ----------
    data : bytes
        The call, pickled.
    upstreams : list of ScalableFuture
        What the references in it count.
    held : tuple of str
        Names of the large buffers that travel apart from it.
    """

    data: bytes
    upstreams: list[ScalableFuture[Any]]
    held: tuple[str, ...] = ()


def pack(call: Call, owner: object, keeper: buffers.Keeper | None = None) -> Packed:
    """Pickle a call, with references in place of the futures in it.

    Futures are found wherever pickle finds them: in lists, dataclasses, models, attributes.
    Those that another runner made are waited for, since Dask cannot.

    Parameters
    ----------
    owner : object
        Whose futures become references.
    keeper : Keeper, optional
        Keeps large buffers, wherever in the arguments they are: of arrays, data frames and
        whatever else offers its buffers to pickle (:pep:`574`), and of arguments that are bytes
        or text. Without it they are part of the data.

    Raises
    ------
    TaskError
        If something in the call cannot be pickled; names the parameter.
    """
    upstreams: list[ScalableFuture[Any]] = []
    held: list[str] = []
    if keeper is not None:
        call = _with_leaves_apart(call)
    try:
        data = _dump(call, upstreams, owner, keeper, held)
    except Exception as error:
        if keeper is not None:
            keeper.release(held)
        for name, value in call.arguments["parameters"].items():
            try:
                _dump(value, [], owner)
            except Exception as cause:
                raise TaskError(
                    f"task '{call.task.name}': parameter '{name}' cannot be sent to a worker: {cause}; "
                    "pass what it is made from, or make it inside the task"
                ) from cause
        raise TaskError(f"task '{call.task.name}' cannot be sent to a worker: {error}") from error
    return Packed(data, upstreams, tuple(held))


def _with_leaves_apart(call: Call) -> Call:
    """Return a call whose large bytes and texts offer their buffers, which they do not by themselves."""
    parameters = call.arguments["parameters"]
    large = {name: _Leaf(value) for name, value in parameters.items() if _is_large_leaf(value)}
    if not large:
        return call
    return replace(call, arguments={**call.arguments, "parameters": {**parameters, **large}})


def _is_large_leaf(value: Any) -> bool:
    return type(value) in {bytes, str} and len(value) >= buffers.LARGE_BYTES


class _Leaf:
    def __init__(self, value: bytes | str) -> None:
        self._value = value

    def __reduce__(self) -> tuple[Any, ...]:
        if isinstance(self._value, bytes):
            return _bytes_of, (pickle.PickleBuffer(self._value),)
        return _text_of, (pickle.PickleBuffer(self._value.encode("utf-8", "surrogatepass")),)


def _bytes_of(content: Any) -> bytes:
    return bytes(content)


def _text_of(content: Any) -> str:
    return bytes(content).decode("utf-8", "surrogatepass")


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


def unpack(data: bytes, upstreams: Sequence[Parcel], held: Sequence[str] = ()) -> Call:
    """Rebuild a call; references become the final states of the task runs that they stand for."""
    with _available(upstreams):
        call: Call = pickle.loads(data, buffers=buffers.take(held))  # noqa: S301  (from our own runner)
    return call


@contextlib.contextmanager
def _available(upstreams: Sequence[Parcel]) -> Iterator[None]:
    token = _arrived.set(upstreams)
    try:
        yield
    finally:
        _arrived.reset(token)


def _dump(
    value: Any,
    upstreams: list[ScalableFuture[Any]],
    owner: object,
    keeper: buffers.Keeper | None = None,
    held: list[str] | None = None,
) -> bytes:
    with io.BytesIO() as file:
        _Pickler(file, upstreams, owner, keeper, held if held is not None else []).dump(value)
        return file.getvalue()


class _Pickler(cloudpickle.Pickler):  # type: ignore[misc]  # cloudpickle is untyped
    def __init__(
        self,
        file: io.BytesIO,
        upstreams: list[ScalableFuture[Any]],
        owner: object,
        keeper: buffers.Keeper | None,
        held: list[str],
    ) -> None:
        super().__init__(file, protocol=5, buffer_callback=None if keeper is None else self._take)
        self._upstreams = upstreams
        self._owner = owner
        self._keeper = keeper
        self._held = held

    def _take(self, buffer: pickle.PickleBuffer) -> bool:
        """Keep a large buffer; return whether it is to be part of the data."""
        content = buffer.raw()
        if self._keeper is None or content.nbytes < buffers.LARGE_BYTES:
            return True
        self._held.append(self._keeper.hold(content))
        return False

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
