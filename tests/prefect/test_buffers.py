"""Large arguments travel once to each worker process, and every task run has a copy of its own."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from prefect import flow, task, unmapped
from prefect.utilities.annotations import opaque

from scalable import ScalableSession
from scalable.errors import TaskError
from scalable_prefect import ScalableTaskRunner, buffers, payload
from scalable_prefect.payload import Call, one_map, pack, unpack


@dataclass
class Field:
    values: np.ndarray
    name: str = "wind"


@task
def write_to(field: Field, number: int) -> float:
    field.values += number
    return float(field.values[0])


@task
def count(text: str, data: bytes) -> int:
    return len(text) + len(data)


@task
def ident(x: Any) -> Any:
    return x


def call(**parameters: Any) -> Call:
    return Call(ident, {"parameters": parameters}, {})


def test_large_buffers_are_no_part_of_a_call_wherever_in_it_they_are() -> None:
    given = {
        "field": Field(np.arange(200_000.0)),
        "text": "µ" * buffers.LARGE_BYTES,
        "data": b"x" * buffers.LARGE_BYTES,
        "small": np.arange(3),
    }
    packed = pack(call(**given), object(), apart=True)
    assert len(packed.data) < 10_000
    assert len(packed.held) == 3
    found = unpack(packed.data, [], packed.held).arguments["parameters"]
    assert np.array_equal(found["field"].values, given["field"].values)
    assert (found["text"], found["data"]) == (given["text"], given["data"])
    found["field"].values += 1
    again = unpack(packed.data, [], packed.held).arguments["parameters"]
    assert again["field"].values[0] == 0
    buffers.release(packed.held)
    with pytest.raises((RuntimeError, ValueError)):
        unpack(packed.data, [], packed.held)


def rows(number: int) -> dict[str, Any]:
    return {f"row {number} {i}": list(range(20)) for i in range(60_000)}


def test_large_arguments_without_buffers_are_apart_too_and_what_they_share_stays_shared() -> None:
    shared = [rows(0)]
    given = {"alone": rows(1), "one": {"rows": shared}, "two": (shared, 2), "small": 3}
    packed = pack(call(**given), object(), apart=True)
    assert len(packed.data) < 10_000
    found = unpack(packed.data, [], packed.held).arguments["parameters"]
    assert found == given
    assert found["one"]["rows"] is found["two"][0]
    buffers.release(packed.held)
    assert not buffers._store._kept


def test_a_map_pickles_a_large_argument_once_though_others_are_large_as_well(monkeypatch: pytest.MonkeyPatch) -> None:
    pickled: list[set[str]] = []
    of = payload._large
    monkeypatch.setattr(payload, "_large", lambda *args: (pickled.append({*(found := of(*args))}), found)[1])
    same = rows(0)
    with one_map():
        made = [pack(call(same=opaque(same), other=rows(number)), object(), apart=True) for number in (1, 2)]
        made += [pack(call(same=opaque(same), other=number), object(), apart=True) for number in range(3)]
    assert pickled == [{"same", "other"}, {"other"}]
    assert len({one.held[0] for one in made}) == 1
    assert [unpack(one.data, [], one.held).arguments["parameters"]["other"] for one in made[2:]] == [0, 1, 2]
    for one in made:
        buffers.release(one.held)
    assert not buffers._store._kept


def test_what_is_refused_keeps_nothing() -> None:
    with pytest.raises(TaskError, match="parameter 'lock' cannot be sent"):
        pack(call(values=np.zeros(200_000), lock=threading.Lock()), object(), apart=True)
    assert not buffers._store._kept


def test_what_two_calls_take_is_kept_once_until_both_have_let_go_and_changes_are_seen() -> None:
    values = np.zeros(200_000)
    first, second = (pack(call(x=[values]), object(), apart=True) for _ in range(2))
    assert first.held == second.held
    values += 1
    third = pack(call(x=values), object(), apart=True)
    assert third.held != first.held
    buffers.release(first.held)
    assert unpack(second.data, [], second.held).arguments["parameters"]["x"][0].sum() == 0
    buffers.release((*second.held, *third.held))
    assert not buffers._store._kept


def test_each_worker_process_fetches_a_large_argument_once(
    processes: ScalableSession, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    asked: list[str] = []
    get = buffers._store.get
    monkeypatch.setattr(buffers._store, "get", lambda digest: (asked.append(digest), get(digest))[1])

    @flow(task_runner=ScalableTaskRunner(session=processes))
    def study() -> tuple[list[float], int]:
        field = Field(np.zeros(300_000))
        sums = write_to.with_options(tags=["simulate"]).map(unmapped(field), [1, 2, 3, 4, 5]).result()
        sums += [write_to.with_options(tags=["simulate"]).submit(field, x).result() for x in (6, 7)]
        return sums, count.submit("x" * buffers.LARGE_BYTES, b"yz").result()

    assert study() == ([1, 2, 3, 4, 5, 6, 7], buffers.LARGE_BYTES + 2)
    up = processes.client.dask.scheduler_info(n_workers=-1)["workers"].values()
    simulating = [one for one in up if str(one["name"]).startswith("simulate")]
    assert 2 <= len(asked) <= 1 + len(simulating)
    assert not buffers._store._kept


@pytest.mark.parametrize("length", [10, 300_000])
def test_whoever_takes_a_result_may_write_to_it_unseen_by_others(processes: ScalableSession, length: int) -> None:
    @flow(task_runner=ScalableTaskRunner(session=processes))
    def study() -> list[float]:
        made = ident.submit(Field(np.zeros(length)))
        written = [write_to.submit(made, 1).result()]  # type: ignore[arg-type]
        made.result().values += 5
        return [*written, *(write_to.submit(made, 1).result() for _ in range(3))]  # type: ignore[arg-type]

    assert study() == [1.0] * 4
