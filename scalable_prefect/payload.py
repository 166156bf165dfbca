"""A task run as bytes: Dask sees neither the user's containers nor the futures inside them."""

from __future__ import annotations

import contextlib
import io
import math
import operator
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

__all__ = ["Call", "Packed", "features_of", "one_map", "pack", "unpack"]

_LONGEST_TEXT: Final = 64
_MOST_BUNDLES: Final = 8
_ALL_OF: Final = 0.99
# Telemetry writes features down.
_SECRET: Final = re.compile(r"token|passw|pwd|secret|key|credential|auth|bearer|dsn|cookie", re.IGNORECASE)
# Addresses may have a password in them, and so may what assigns something.
_PLAIN_TEXT: Final = re.compile(r"[\w .,+/()-]*", re.ASCII)

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


def pack(call: Call, owner: object, *, apart: bool = False) -> Packed:
    """Pickle a call, with references in place of the futures in it.

    Futures are found wherever pickle finds them: in lists, dataclasses, models, attributes.
    Those that another runner made are waited for, since Dask cannot.

    Parameters
    ----------
    owner : object
        Whose futures become references.
    apart : bool
        Whether what is large travels apart from the call: the buffers of arrays, data frames and
        whatever else offers its buffers to pickle (:pep:`574`), wherever in the arguments they
        are, and arguments that are large in themselves, unless there are futures in them.

    Raises
    ------
    TaskError
        If something in the call cannot be pickled; names the parameter.
    """
    try:
        if not apart:
            return _pack(call, owner)
        known = _known_bundled(call)
        packed = _pack(known, owner, apart=True)
        if len(packed.data) < buffers.LARGE_BYTES:
            return packed
        buffers.release(packed.held)
        return _pack(_large_bundled(known, owner), owner, apart=True)
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


def _pack(call: Call, owner: object, *, apart: bool = False) -> Packed:
    upstreams: list[ScalableFuture[Any]] = []
    held: list[str] = []
    try:
        return Packed(_dump(call, upstreams, owner, held if apart else None), upstreams, tuple(held))
    except Exception:
        buffers.release(held)
        raise


class _Bundle:
    """Large arguments of a call, pickled together, so that what they share stays shared."""

    def __init__(self, arguments: Mapping[str, Any], owner: object) -> None:
        self.arguments = dict(arguments)
        self.data = _dump(self.arguments, [], owner)

    def __reduce__(self) -> tuple[Any, ...]:
        return pickle.loads, (pickle.PickleBuffer(self.data),)

    def fits(self, parameters: Mapping[str, Any]) -> bool:
        """Return whether these are the same arguments."""
        return all(_same_value(parameters.get(name), value) for name, value in self.arguments.items())

    def parts(self) -> dict[str, _Part]:
        """Return what stands for its arguments in a call."""
        return {name: _Part(self, name) for name in self.arguments}


class _Part:
    def __init__(self, bundle: _Bundle, name: str) -> None:
        self._bundle = bundle
        self._name = name

    def __reduce__(self) -> tuple[Any, ...]:
        return operator.getitem, (self._bundle, self._name)


_of_this_map: ContextVar[list[_Bundle] | None] = ContextVar("scalable_prefect_bundles", default=None)


@contextlib.contextmanager
def one_map() -> Iterator[None]:
    """Pickle a large argument that all task runs of a ``map`` take but once: nobody changes it in between."""
    token = _of_this_map.set([])
    try:
        yield
    finally:
        _of_this_map.reset(token)


def _known_bundled(call: Call) -> Call:
    """Return a call with the bundles of earlier ones of the same ``map`` in place of their arguments."""
    bundles = _of_this_map.get() or []
    for bundle in [one for one in bundles if one.fits(call.arguments["parameters"])]:
        bundles.remove(bundle)
        bundles.append(bundle)
        call = _with(call, bundle)
    return call


def _same_value(one: Any, other: Any) -> bool:
    # Prefect makes an annotation anew for each task run.
    alike = isinstance(one, BaseAnnotation) and type(one) is type(other)
    return one is other or (alike and one.unwrap() is other.unwrap())


def _large_bundled(call: Call, owner: object) -> Call:
    """Return a call with bundles in place of those arguments that are large and have no futures in them."""
    bundles = _of_this_map.get()
    for bundle in _bundles_of(_large(call.arguments["parameters"], owner), owner):
        call = _with(call, bundle)
        if bundles is not None:
            bundles.append(bundle)
            del bundles[:-_MOST_BUNDLES]
    return call


def _large(parameters: Mapping[str, Any], owner: object) -> dict[str, Any]:
    large = {}
    for name, value in parameters.items():
        if isinstance(value, _Part):
            continue
        upstreams: list[ScalableFuture[Any]] = []
        held: list[str] = []
        size = len(_dump(value, upstreams, owner, held))
        buffers.release(held)
        if size >= buffers.LARGE_BYTES and not upstreams:
            large[name] = value
    return large


def _bundles_of(large: Mapping[str, Any], owner: object) -> list[_Bundle]:
    """Return one bundle of each argument, or of all together if these share something."""
    each = [_Bundle({name: value}, owner) for name, value in large.items()]
    if len(each) < 2:
        return each
    together = _Bundle(large, owner)
    return [together] if len(together.data) < _ALL_OF * sum(len(one.data) for one in each) else each


def _with(call: Call, bundle: _Bundle) -> Call:
    parameters = {**call.arguments["parameters"], **bundle.parts()}
    return replace(call, arguments={**call.arguments, "parameters": parameters})


def features_of(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Return the parameters of a call that tell of its input: numbers, truth values and short texts.

    Those whose name sounds like a secret are left out.
    """
    return {name: value for name, value in parameters.items() if _is_plain(value) and not _SECRET.search(name)}


def _is_plain(value: Any) -> bool:
    kind = type(value)
    if kind is str:
        return len(value) <= _LONGEST_TEXT and _PLAIN_TEXT.fullmatch(value) is not None
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


def _dump(value: Any, upstreams: list[ScalableFuture[Any]], owner: object, held: list[str] | None = None) -> bytes:
    with io.BytesIO() as file:
        _Pickler(file, upstreams, owner, held).dump(value)
        return file.getvalue()


class _Pickler(cloudpickle.Pickler):  # type: ignore[misc]  # cloudpickle is untyped
    def __init__(
        self, file: io.BytesIO, upstreams: list[ScalableFuture[Any]], owner: object, held: list[str] | None
    ) -> None:
        super().__init__(file, protocol=5, buffer_callback=None if held is None else self._take)
        self._upstreams = upstreams
        self._owner = owner
        self._held = held if held is not None else []

    def _take(self, buffer: pickle.PickleBuffer) -> bool:
        """Keep a large buffer; return whether it is to be part of the data."""
        content = buffer.raw()
        if content.nbytes < buffers.LARGE_BYTES:
            return True
        self._held.append(buffers.hold(content))
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
