"""Results in storage: cache policies, transactions and persistence, where several workers take part."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from prefect import flow, task
from prefect.cache_policies import INPUTS
from prefect.client.orchestration import SyncPrefectClient
from prefect.filesystems import LocalFileSystem
from prefect.futures import PrefectFuture
from prefect.locking.filesystem import FileSystemLockManager
from prefect.transactions import IsolationLevel, get_transaction, transaction

from scalable_prefect import ScalableTaskRunner
from tests.prefect.helpers import task_run_state


def mark(path: Path, what: str = "x") -> None:
    with path.open("a") as file:
        file.write(what)


@task(cache_policy=INPUTS, persist_result=True)
def square(x: int, marks: Path) -> int:
    mark(marks)
    return x * x


@task(cache_key_fn=lambda _, arguments: f"tens-{arguments['x'] // 10}-{arguments['marks']}", persist_result=True)
def tens(x: int, marks: Path) -> int:
    mark(marks)
    return x // 10


@task(persist_result=True, cache_policy=INPUTS, refresh_cache=True)
def fresh(x: int, marks: Path) -> int:
    mark(marks)
    return x


@task
def write(path: Path) -> Path:
    path.write_text("half done")
    return path


@write.on_rollback
def unwrite(txn: Any) -> None:
    Path(txn._staged_value.result if hasattr(txn._staged_value, "result") else txn._staged_value).unlink()


@write.on_commit
def finish(txn: Any) -> None:
    path = txn._staged_value.result if hasattr(txn._staged_value, "result") else txn._staged_value
    mark(path.with_suffix(".committed"))


@task
def boom(_: Any) -> None:
    raise ValueError("after all")


@task
def whole(path: Path) -> str | None:
    """Open a transaction of its own on the worker."""
    with transaction() as txn:
        txn.set("path", str(path))
        inner = get_transaction()
        assert inner is txn
        write(path)
        return str(txn.get("path"))


def test_a_task_run_with_the_same_inputs_is_cached_whoever_ran_it_first(
    runner: ScalableTaskRunner, tmp_path: Path, api: SyncPrefectClient
) -> None:
    states: list[PrefectFuture[int]] = []
    marks = [tmp_path / name for name in ("inputs", "key", "fresh")]

    @flow(task_runner=runner)
    def cached() -> list[int]:
        squares, key, anew = marks
        first = square.submit(3, squares)
        results = [first.result(), square.with_options(name="energy").submit(3, squares).result()]
        again = square.submit(3, squares, wait_for=[first])
        states.append(again)
        results += [again.result(), square.submit(4, squares).result()]
        results += [tens.submit(31, key).result(), tens.submit(35, key).result()]
        return results + [fresh.submit(1, anew).result() for _ in range(2)]

    assert cached() == [9, 9, 9, 16, 3, 3, 1, 1]
    assert [path.stat().st_size for path in marks] == [2, 1, 2]
    assert states[0].state.name == "Cached"
    assert task_run_state(api, states[0].task_run_id, "Cached") == "Cached"
    # Another flow run finds them too.
    assert cached()[0] == 9
    assert marks[0].stat().st_size == 2


def test_what_a_task_did_is_undone_when_the_transaction_around_it_fails(
    runner: ScalableTaskRunner, tmp_path: Path
) -> None:
    @flow(task_runner=runner)
    def torn() -> None:
        with transaction():
            path = write.submit(tmp_path / "torn").result()
            write(tmp_path / "here")
            boom.submit(path).result()

    @flow(task_runner=runner)
    def sound() -> str | None:
        write.submit(tmp_path / "sound").wait()
        return whole.submit(tmp_path / "inside").result()

    with pytest.raises(ValueError, match="after all"):
        torn()
    assert not (tmp_path / "here").exists()
    assert sound() == str(tmp_path / "inside")
    assert [(tmp_path / name).exists() for name in ("sound", "sound.committed", "inside.committed")] == [True] * 3


def test_runs_of_one_key_that_exclude_each_other_run_the_code_once(runner: ScalableTaskRunner, tmp_path: Path) -> None:
    locks = FileSystemLockManager(lock_files_directory=tmp_path / "locks")
    alone = INPUTS.configure(isolation_level=IsolationLevel.SERIALIZABLE, lock_manager=locks)
    guarded = square.with_options(cache_policy=alone)

    @flow(task_runner=runner)
    def crowd() -> list[int]:
        # Names lead to pools as tags do, and the server is not asked for their limits.
        futures = [guarded.with_options(name=name).submit(7, tmp_path / "marks") for name in ("energy", "other")]
        return [future.result() for future in futures]

    assert crowd() == [49, 49]
    assert (tmp_path / "marks").stat().st_size == 1


def test_results_are_written_where_and_as_the_task_says(
    runner: ScalableTaskRunner, tmp_path: Path, api: SyncPrefectClient
) -> None:
    storage = LocalFileSystem(basepath=str(tmp_path / "results"))
    storage.save("scalable-prefect-tests", overwrite=True)
    kept = square.with_options(result_storage=storage, result_storage_key="nine.json", result_serializer="json")
    ids = []

    @flow(task_runner=runner)
    def writing() -> tuple[int, int]:
        future = kept.submit(3, tmp_path / "marks")
        future.wait()
        ids.append(future.task_run_id)
        # What is in storage is read by whoever needs it.
        return future.result(), square.submit(future, tmp_path / "marks").result()

    assert writing() == (9, 81)
    assert '"result":"9"' in (tmp_path / "results" / "nine.json").read_text().replace(" ", "")
    assert task_run_state(api, ids[0], "Completed") == "Completed"
    assert api.read_task_run(ids[0]).state.result(_sync=True) == 9  # type: ignore[union-attr, call-arg]
