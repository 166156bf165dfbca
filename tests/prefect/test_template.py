"""The runner as Prefect handles it before and around a flow run: copied, compared, pickled, entered."""

from __future__ import annotations

import pickle
import threading
from collections.abc import Callable
from pathlib import Path

import cloudpickle
import pytest
from prefect import flow, task
from prefect.settings import PREFECT_TASKS_DEFAULT_RETRIES, temporary_settings

from scalable.errors import ManifestError, ProviderError
from scalable_prefect import ScalableTaskRunner
from scalable_prefect.runner import SessionBackend
from scalable_prefect.worker import current


@task
def double(x: int) -> int:
    return 2 * x


def test_a_duplicate_equals_its_template_and_other_settings_do_not() -> None:
    template = ScalableTaskRunner("a.yaml", target="hpc", overlay="small", objectives={"budget_usd": 1.0})
    assert template.duplicate() == template
    assert hash(template.duplicate()) == hash(template)
    assert template.duplicate() is not template
    assert template != ScalableTaskRunner("a.yaml", target="local")
    assert template != "a.yaml"


def test_the_template_pickles_also_while_a_duplicate_is_at_work(server: str, manifest_path: Path) -> None:
    template = ScalableTaskRunner(manifest_path, target="threads")
    with template.duplicate() as at_work:
        assert at_work.submit(double, {"x": 2}).result() == 4
        copies = [pickle.loads(pickle.dumps(template)), cloudpickle.loads(cloudpickle.dumps(at_work))]
    assert copies == [template, template]
    with copies[1].duplicate() as again:
        assert again.submit(double, {"x": 3}).result() == 6


def test_the_session_is_no_part_of_a_pickle(processes: object) -> None:
    template = ScalableTaskRunner(session=processes)  # type: ignore[arg-type]
    assert pickle.loads(pickle.dumps(template)).session is None


def test_a_flow_that_submits_nothing_starts_nothing(
    server: str, manifest_path: Path, runs: Callable[[], list[Path]]
) -> None:
    @flow(task_runner=ScalableTaskRunner("/nowhere/scalable.yaml"))
    def idle() -> int:
        return 1

    assert idle() == 1
    assert runs() == []


def test_what_is_not_started_takes_no_task() -> None:
    with pytest.raises(RuntimeError, match="must be started"):
        ScalableTaskRunner().submit(double, {"x": 1})


def test_a_runner_is_entered_once_and_may_be_used_again_afterwards(server: str, manifest_path: Path) -> None:
    runner = ScalableTaskRunner(manifest_path, target="threads")
    for _ in range(2):
        with runner:
            assert runner.submit(double, {"x": 4}).result() == 8
            with pytest.raises(RuntimeError, match="already started"):
                runner.__enter__()


def test_the_environment_names_manifest_and_target_where_the_flow_does_not(
    server: str, manifest_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SCALABLE_MANIFEST", str(manifest_path))
    monkeypatch.setenv("SCALABLE_TARGET", "threads")
    with ScalableTaskRunner() as runner:
        assert runner.submit(double, {"x": 5}).result() == 10


def test_a_manifest_that_cannot_be_used_fails_the_first_submit(server: str, tmp_path: Path) -> None:
    @flow(task_runner=ScalableTaskRunner(tmp_path / "absent.yaml"))
    def lost() -> None:
        double.submit(1)

    with pytest.raises(ManifestError, match=r"absent\.yaml"):
        lost()


def test_pools_that_cannot_be_started_fail_those_who_wait_and_all_later_submits(
    server: str, manifest_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    submitted = threading.Event()

    def refuse(*_: object) -> None:
        submitted.wait(10)
        raise ProviderError("no machines today")

    monkeypatch.setattr(SessionBackend, "open", refuse)

    @flow(task_runner=ScalableTaskRunner(manifest_path, target="threads"))
    def grounded() -> str:
        future = double.submit(1)
        submitted.set()
        future.wait()
        assert future.state.is_crashed()
        assert "no machines today" in future.state.message
        with pytest.raises(ProviderError, match="no machines today"):
            double.submit(2)
        return "told"

    assert grounded() == "told"


def test_settings_that_come_and_go_in_a_loop_are_not_all_remembered(server: str, manifest_path: Path) -> None:
    with ScalableTaskRunner(manifest_path, target="threads") as runner:
        for number in range(40):
            with temporary_settings({PREFECT_TASKS_DEFAULT_RETRIES: number % 2}):
                future = runner.submit(double, {"x": number})
        assert future.result() == 78
        dispatcher = runner._dispatcher
        assert dispatcher is not None
        assert len(dispatcher._contexts) <= 32
        assert len(dispatcher._published) == 2
        assert not dispatcher._unpublished


def test_outside_of_tasks_no_worker_is_here() -> None:
    assert current() is None
