"""How the final state of a task run travels: opaque to Dask, large buffers not copied."""

from __future__ import annotations

import pickle
from typing import Any, Self

import cloudpickle  # type: ignore[import-untyped]
from distributed.protocol.serialize import dask_deserialize, dask_serialize
from prefect.client.schemas.objects import State
from prefect.states import Crashed

__all__ = ["Parcel", "RemoteError", "dumps", "unsendable"]


def dumps(value: Any) -> bytes:
    """Pickle anything that can be, functions and classes of scripts included."""
    data: bytes = cloudpickle.dumps(value, protocol=5)
    return data


class RemoteError(Exception):
    """Stands for an exception of a task that cannot be sent or rebuilt; its text is the original's."""


class Parcel:
    """A final state, as it is inside one process or pickled between two.

    Dask sees neither the state nor the user's values in it, so it cannot walk them, and
    everything that can go wrong with pickling goes wrong here, on the worker, where it
    becomes a state that says so.

    Parameters
    ----------
    state : State, optional
        The state itself, where sender and receiver are one process.
    data : bytes
        The pickled state.
    buffers : tuple
        Its out-of-band buffers.
    reported : bool
        Whether Prefect's API already knows this state.
    """

    __slots__ = ("_buffers", "_data", "_state", "reported")

    def __init__(
        self, state: State[Any] | None, data: bytes = b"", buffers: tuple[Any, ...] = (), *, reported: bool = True
    ) -> None:
        self._state = state
        self._data = data
        self._buffers = buffers
        self.reported = reported

    @classmethod
    def pack(cls, state: State[Any], *, reported: bool = True) -> Self:
        """Pickle a state.

        Raises
        ------
        Exception
            Whatever pickling the user's result raises.
        """
        if state.is_failed() or state.is_crashed():
            state = _with_portable_exception(state)
        buffers: list[Any] = []
        data = cloudpickle.dumps(state, protocol=5, buffer_callback=buffers.append)
        return cls(None, data, tuple(buffers), reported=reported)

    def open(self) -> State[Any]:
        """Return the state; if it was pickled, with buffers that are the caller's own to write to."""
        if self._state is not None:
            return self._state
        own = [bytearray(buffer) for buffer in self._buffers]
        state: State[Any] = pickle.loads(self._data, buffers=own)  # noqa: S301  (from our own worker)
        return state

    def __sizeof__(self) -> int:
        return object.__sizeof__(self) + len(self._data) + sum(memoryview(buffer).nbytes for buffer in self._buffers)

    def frames(self) -> tuple[bytes, tuple[Any, ...]]:
        """Return the pickled state and its out-of-band buffers."""
        if self._state is not None:
            return type(self).pack(self._state, reported=self.reported).frames()
        return self._data, self._buffers

    def __reduce__(self) -> tuple[Any, ...]:
        # Inside a pickled task: buffers are copied, whatever the protocol.
        data, buffers = self.frames()
        return _rebuild, (data, tuple(bytes(memoryview(buffer)) for buffer in buffers), self.reported)


def _rebuild(data: bytes, buffers: tuple[Any, ...], reported: bool) -> Parcel:
    return Parcel(None, data, buffers, reported=reported)


@dask_serialize.register(Parcel)  # type: ignore[untyped-decorator]
def _to_frames(parcel: Parcel) -> tuple[dict[str, Any], list[Any]]:
    """Let Dask send the buffers as they lie in memory."""
    data, buffers = parcel.frames()
    return {"reported": parcel.reported}, [data, *(memoryview(buffer) for buffer in buffers)]


@dask_deserialize.register(Parcel)  # type: ignore[untyped-decorator]
def _from_frames(header: dict[str, Any], frames: list[Any]) -> Parcel:
    data, *buffers = frames
    return Parcel(None, bytes(data), tuple(buffers), reported=header["reported"])


def _with_portable_exception(state: State[Any]) -> State[Any]:
    """Return the state with an exception that survives the journey: many do not unpickle."""
    error = _exception_in(state)
    if error is None:
        return state
    try:
        pickle.loads(dumps(error))  # noqa: S301  (made on the line itself)
    except Exception as problem:  # noqa: BLE001  (a user's class may do anything)
        stand_in = RemoteError(f"{type(error).__name__}: {error} (it cannot be pickled: {problem})")
        stand_in.__notes__ = getattr(error, "__notes__", [])
        return state.model_copy(update={"data": stand_in})
    return state


def _exception_in(state: State[Any]) -> BaseException | None:
    held = getattr(state.data, "result", state.data)
    return held if isinstance(held, BaseException) else None


def unsendable(state: State[Any], problem: Exception) -> State[Any]:
    """Return the state of a task run whose result cannot be pickled."""
    crashed: State[Any] = Crashed(
        message=f"The task run ended, but its result cannot be sent from the worker: {problem}",
        data=RemoteError(str(problem)),
    )
    crashed.state_details = state.state_details
    return crashed
