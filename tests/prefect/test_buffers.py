"""Large arguments travel once to each worker process, and every task run has a copy of its own."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from prefect import flow, task, unmapped

from scalable import ScalableSession
from scalable_prefect import ScalableTaskRunner, buffers
from scalable_prefect.payload import Call, pack, unpack


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
    keeper = buffers.Keeper()
    given = {
        "field": Field(np.arange(200_000.0)),
        "text": "µ" * buffers.LARGE_BYTES,
        "data": b"x" * buffers.LARGE_BYTES,
        "small": np.arange(3),
    }
    packed = pack(call(**given), object(), keeper)
    assert len(packed.data) < 10_000
    assert len(packed.held) == 3
    found = unpack(packed.data, [], packed.held).arguments["parameters"]
    assert np.array_equal(found["field"].values, given["field"].values)
    assert (found["text"], found["data"]) == (given["text"], given["data"])
    found["field"].values += 1
    again = unpack(packed.data, [], packed.held).arguments["parameters"]
    assert again["field"].values[0] == 0
    keeper.release(packed.held)
    with pytest.raises((RuntimeError, ValueError)):
        unpack(packed.data, [], packed.held)


def test_what_two_calls_take_is_kept_once_until_both_have_let_go_and_changes_are_seen() -> None:
    keeper = buffers.Keeper()
    values = np.zeros(200_000)
    first, second = (pack(call(x=[values]), object(), keeper) for _ in range(2))
    assert first.held == second.held
    values += 1
    third = pack(call(x=values), object(), keeper)
    assert third.held != first.held
    keeper.release(first.held)
    assert unpack(second.data, [], second.held).arguments["parameters"]["x"][0].sum() == 0
    keeper.release((*second.held, *third.held))
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
