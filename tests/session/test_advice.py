"""Advice in a run on this machine: what the first run measured, the second one asks for."""

from __future__ import annotations

import json
import logging
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from scalable import ScalableSession
from scalable.advisors import ResourceAdvisor, worker_bytes
from scalable.advisors.sizing import task_bytes
from scalable.planning import counsel
from scalable.telemetry.past import read_past
from tests.advisors.history import GIB, MIB, peaks, run
from tests.conftest import records

Write = Callable[..., Path]

MANIFEST = """\
version: 1
project: {name: advice}
targets:
  local: {provider: local, max_workers: 1, processes: true}
components:
  demeter: {cpus: 1, memory: 1G}
tasks:
  simulate: {component: demeter, retries: 2}
"""
BEST_MODEL = counsel.default_model_type
SIMULATE = [200 * MIB + index * MIB for index in range(40)]


@pytest.fixture(autouse=True)
def quantiles(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take the advisor that is the same wherever the tests run."""
    monkeypatch.setattr(counsel, "default_model_type", lambda: "quantile")


def take(mebibytes: int) -> int:
    kept = []
    for _ in range(mebibytes // 20):
        kept.append(bytearray(b"x") * (20 * MIB))
        time.sleep(0.02)
    return len(kept) * 20


def asked(session: ScalableSession) -> str | None:
    return session.plan().scale_plan["demeter"].resources.memory


def past(tmp_path: Path, attempts: list[dict[str, object]] | None = None, **facts: object) -> None:
    run(tmp_path / "runs", attempts or peaks(SIMULATE), project="advice", **facts)  # type: ignore[arg-type]


def test_memory_is_what_past_runs_needed_if_that_is_wanted(manifest: Write, tmp_path: Path) -> None:
    past(tmp_path)
    advised = worker_bytes(SIMULATE[38])
    wanted = manifest("advise: true\n" + MANIFEST)
    assert asked(ScalableSession.from_yaml(wanted)) == f"{advised // MIB}M" == "384M"
    assert asked(ScalableSession.from_yaml(wanted, advise=False)) == "1G"
    assert asked(ScalableSession.from_yaml(manifest(MANIFEST))) == "1G"
    assert asked(ScalableSession.from_yaml(manifest(MANIFEST), advise=True)) == "384M"


def test_a_task_that_is_not_tried_again_has_room_for_the_largest_ever_seen(manifest: Write, tmp_path: Path) -> None:
    past(tmp_path, peaks([*SIMULATE, *[500 * MIB]]))
    once = manifest(MANIFEST.replace("retries: 2", "retries: 0"))
    assert asked(ScalableSession.from_yaml(manifest(MANIFEST, "again.yaml"), advise=True)) == "384M"
    assert asked(ScalableSession.from_yaml(once, advise=True)) == f"{worker_bytes(600 * MIB) // MIB}M"


def test_what_another_project_ran_of_late_does_not_count(manifest: Write, tmp_path: Path) -> None:
    past(tmp_path)
    run(tmp_path / "runs", peaks([5 * GIB] * 30, name="other"), project="stranger", number=1)
    assert asked(ScalableSession.from_yaml(manifest(MANIFEST), advise=True)) == "384M"
    past(tmp_path, peaks([600 * MIB] * 30, name="besides"), number=2)
    assert asked(ScalableSession.from_yaml(manifest(MANIFEST), advise=True)) == f"{worker_bytes(720 * MIB) // MIB}M"


def test_without_a_history_everything_is_as_before_and_said(manifest: Write) -> None:
    plan = ScalableSession.from_yaml(manifest(MANIFEST), advise=True).plan()
    assert plan.scale_plan["demeter"].resources.memory == "1G"
    assert any("there is no history in" in note for note in plan.notes)
    assert [str(one) for one in plan.advice or ()] == [
        "simulate: as the manifest says; there is no history of a task 'simulate'; known: none"
    ]


def test_what_cannot_be_is_not_asked_for(manifest: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    past(tmp_path, peaks([3 * GIB] * 40))
    monkeypatch.setattr("scalable.providers.local.MEMORY_LIMIT", 2 * GIB)
    plan = ScalableSession.from_yaml(manifest(MANIFEST), advise=True).plan()
    assert plan.scale_plan["demeter"].resources.memory == "2G"
    assert any("2G is the most there is" in note for note in plan.notes)


@pytest.mark.slow
def test_the_first_run_measures_and_the_second_asks_for_less(manifest: Write) -> None:
    path = manifest("advise: true\n" + MANIFEST)
    with ScalableSession.from_yaml(path) as first:
        client = first.start()
        assert client.gather(client.map(take, [40] * 30, name="simulate")) == [40] * 30
    with ScalableSession.from_yaml(path) as second:
        client = second.start()
        client.gather(client.map(take, [40] * 3, name="simulate"))
    assert first.run_dir is not None
    assert second.run_dir is not None
    sizes = [records(session.run_dir, "workers")[0]["memory_bytes"] for session in (first, second)]
    assert sizes[0] == GIB
    assert sizes[1] < 600 * MIB
    plan = json.loads((second.run_dir / "plan.json").read_text())
    assert plan["pools"]["demeter"]["memory_bytes"] == sizes[1]
    assert plan["advice"][0]["task"] == "simulate"
    assert {one["outcome"] for one in records(second.run_dir, "tasks")} == {"completed"}


@pytest.mark.slow
def test_where_memory_depends_on_the_input_the_plan_that_cannot_know_it_comes_from_quantiles(
    manifest: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("sklearn")
    monkeypatch.setattr(counsel, "default_model_type", BEST_MODEL)
    path = manifest("advise: true\n" + MANIFEST)
    sizes = [20 * (1 + index % 10) for index in range(40)]
    for expected in (sizes, sizes[:12]):
        with ScalableSession.from_yaml(path) as session:
            client = session.start()
            futures = [client.submit(take, n, name="simulate", features={"n": n}, pure=False) for n in expected]
            assert client.gather(futures) == expected
    assert session.run_dir is not None
    (advice,) = json.loads((session.run_dir / "plan.json").read_text())["advice"]
    assert (advice["task"], advice["model_type"]) == ("simulate", "quantile")
    assert "quantile, 40 tasks of 1 run" in advice["why"]
    learned = counsel.open_advisor(session.run_dir.parent)
    # What was learned of the first run does depend on it.
    least, most = (learned.recommend("simulate", "local", features={"n": n}) for n in (20, 200))
    assert (least.model_type, most.model_type) == ("gradient_boosting", "gradient_boosting")
    assert least.memory_bytes is not None
    assert most.memory_bytes is not None
    assert most.memory_bytes > least.memory_bytes + 100 * MIB


@pytest.mark.slow
def test_a_task_that_is_killed_for_memory_is_tried_again_in_the_size_that_is_advised(
    manifest: Write, tmp_path: Path
) -> None:
    # The largest ever seen needs clearly more than most do, which is what workers are given.
    past(tmp_path, peaks([*SIMULATE * 3, 900 * MIB]))
    with ScalableSession.from_yaml(manifest(MANIFEST), advise=True) as session:
        client = session.start()
        assert client.submit(take, 600, name="simulate").result(timeout=100) == 600
    sizes = {one["tag"]: one["memory_bytes"] for one in records(session.run_dir, "workers") if one["memory_bytes"]}
    larger = worker_bytes(900 * MIB)
    assert sizes == {"demeter": 384 * MIB, f"demeter+{larger // MIB - 384}": larger}
    assert [one["outcome"] for one in records(session.run_dir, "tasks")] == ["failed", "completed"]


@pytest.mark.slow
def test_the_advisor_is_told_in_how_much_a_task_ran_out_of_memory_and_what_is_known_of_it(
    manifest: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    past(tmp_path)
    asked: list[tuple[int, object]] = []

    def retry_bytes(self: ResourceAdvisor, task: str, failed: int, *, target: str, features: object) -> int:
        asked.append((failed, features))
        return 900 * MIB

    monkeypatch.setattr(ResourceAdvisor, "retry_bytes", retry_bytes)
    several = MANIFEST.replace("demeter: {cpus: 1, memory: 1G}", "{demeter: {S, memory: 400M}, large: {S, memory: 1G}}")
    several = several.replace("max_workers: 1", "max_workers: 3").replace("S,", "cpus: 1, tags: [any],")
    with ScalableSession.from_yaml(manifest(several), advise=True) as session:
        client = session.start()
        # Either pool would do, and only the small one is idle.
        busy = client.submit(time.sleep, 20, tag="large")
        future = client.submit(take, 600, tag="any", name="simulate", features={"x": 7, "input_bytes": 5})
        assert future.result(timeout=100) == 600
        busy.cancel()
    smaller = records(session.run_dir, "workers")[0]["memory_bytes"]
    assert asked == [
        (task_bytes(384 * MIB), {"x": 7, "n_args": 1, "arg_bytes": 28, "input_bytes": 5}),
    ], smaller


def test_how_long_workers_take_to_start_is_learned(manifest: Write, tmp_path: Path) -> None:
    with ScalableSession.from_yaml(manifest(MANIFEST.replace(", processes: true", ""))) as session:
        client = session.start()
        client.gather(client.map(abs, range(20), name="simulate"))
    (came,) = (one for one in records(session.run_dir, "workers") if one["event"] == "worker_added")
    (past_run,) = read_past(tmp_path / "runs").runs
    assert past_run.startup_s == {"demeter": came["startup_s"]}
    assert 0 < came["startup_s"] < 30
    reasons = ResourceAdvisor.from_history(tmp_path / "runs").recommend("simulate", "local").evidence["reasons"]
    assert not any("takes to start" in reason for reason in reasons)


@pytest.mark.slow
def test_a_worker_that_its_nanny_starts_again_does_not_count_as_one_that_was_long_in_coming(manifest: Write) -> None:
    with ScalableSession.from_yaml(manifest(MANIFEST)) as session:
        client = session.start()
        assert client.submit(die_once, str(session.run_dir), name="simulate").result(timeout=60) == "alive"
    added = [one["startup_s"] for one in records(session.run_dir, "workers") if one["event"] == "worker_added"]
    assert added[0] > 0
    assert added[1:] == [None]


def die_once(directory: str) -> str:
    mark = Path(directory, "died")
    if not mark.exists():
        mark.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return "alive"


@pytest.mark.slow
def test_the_advisor_hears_of_each_attempt_while_the_run_is_under_way(
    manifest: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    past(tmp_path)
    heard = []

    def observe(self: ResourceAdvisor, attempt: object) -> None:
        heard.append(attempt)

    monkeypatch.setattr(ResourceAdvisor, "observe", observe)
    threads = MANIFEST.replace(", processes: true", "")
    with caplog.at_level(logging.WARNING), ScalableSession.from_yaml(manifest(threads), advise=True) as session:
        client = session.start()
        client.gather(client.map(abs, range(20), name="simulate"))
        client.submit(divmod, 1, 0, name="simulate", retries=0).exception()
        deadline = time.monotonic() + 20
        while len(heard) < 20 and time.monotonic() < deadline:
            time.sleep(0.05)
    # One that raised does not tell what it would have needed.
    assert len(heard) == 20
    assert {(one.task, one.target, one.run_id, one.component) for one in heard} == {  # type: ignore[attr-defined]
        ("simulate", "local", session.run_id, "demeter")
    }


SLURM = """\
version: 1
project: {name: advice}
advise: true
targets:
  hpc: {provider: slurm, queue: main, walltime: 48h, max_workers: 4}
components:
  demeter: {cpus: 1, memory: 8G}
tasks:
  simulate: {component: demeter, retries: 2}
"""


def sinfo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    folder = tmp_path / "bin"
    folder.mkdir(exist_ok=True)
    (folder / "sinfo").write_text(f'#!/bin/sh\necho "$*" >{folder}/asked\n{text}\n')
    (folder / "sinfo").chmod(0o755)
    monkeypatch.setenv("PATH", str(folder), prepend=":")


def test_no_job_is_larger_than_slurms_largest_node(
    manifest: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    past(tmp_path, peaks([20 * GIB] * 40), target="hpc")
    sinfo(tmp_path, monkeypatch, "echo 8000; echo 16384")
    plan = ScalableSession.from_yaml(manifest(SLURM)).plan()
    assert plan.scale_plan["demeter"].resources.memory == "16G"
    assert (tmp_path / "bin" / "asked").read_text() == "-h -N -o %m -p main\n"


@pytest.mark.parametrize("answer", ["echo 1", "echo no >&2; exit 1"])
def test_where_slurm_does_not_tell_its_nodes_memory_the_advice_holds(
    manifest: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, answer: str
) -> None:
    past(tmp_path, peaks([20 * GIB] * 40), target="hpc")
    sinfo(tmp_path, monkeypatch, answer)
    plan = ScalableSession.from_yaml(manifest(SLURM)).plan()
    assert plan.scale_plan["demeter"].resources.memory_bytes == worker_bytes(20 * GIB)


def test_jobs_ask_for_the_time_of_several_tasks_and_no_more(
    manifest: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sinfo(tmp_path, monkeypatch, "exit 1")
    past(tmp_path, peaks([GIB] * 40, s=300.0), target="hpc")
    plan = ScalableSession.from_yaml(manifest(SLURM)).plan()
    assert "targets.hpc: walltime 1h00m00s, as advised, in place of 48h00m00s" in plan.notes
