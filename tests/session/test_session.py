"""A run from start to close, on real pools of this machine."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import ModuleType

import psutil
import pytest
from distributed import worker_client

from scalable import ScalableSession, mark_failed
from scalable.errors import Infeasible, ManifestInvalid, ScalableError, TaskError, UnknownTag
from tests.conftest import MANIFEST, records

Write = Callable[..., Path]


def double(x: int) -> int:
    return 2 * x


def fail(x: int) -> None:
    raise ValueError(f"no {x}")


def where() -> int:
    return os.getpid()


def setting(name: str) -> str | None:
    return os.environ.get(name)


def nap(seconds: float) -> float:
    time.sleep(seconds)
    return seconds


@pytest.fixture
def threads(manifest: Write) -> Iterator[ScalableSession]:
    with ScalableSession.from_yaml(manifest(), target="threads") as session:
        yield session


def test_work_comes_back_from_the_pool_that_the_tag_names(threads: ScalableSession) -> None:
    client = threads.start()
    assert client.gather(client.map(double, range(5), tag="simulate")) == [0, 2, 4, 6, 8]
    assert client.submit(double, 4, tag="postprocess").result() == 8
    assert client.worker_count("simulate") + client.worker_count("postprocess") == 3


def test_a_manifest_may_be_text_and_its_problems_are_told_by_its_name_and_line() -> None:
    session = ScalableSession.from_text(MANIFEST, target="threads", name="block yields")
    assert session.spec.target == "threads"
    with pytest.raises(ManifestInvalid, match=r"block yields:\d+:\d+.* nothere"):
        ScalableSession.from_text(MANIFEST + "nothere: 1\n", name="block yields", target="threads")


@pytest.mark.parametrize("telemetry", ["on", "off"])
def test_a_listener_hears_of_workers_tasks_and_decisions_as_they_happen(
    manifest: Write, monkeypatch: pytest.MonkeyPatch, telemetry: str
) -> None:
    monkeypatch.setenv("SCALABLE_TELEMETRY", telemetry)
    heard: list[tuple[str, str | None]] = []
    with ScalableSession.from_yaml(manifest(), target="threads") as session:
        session.listen(lambda file, record: heard.append((file, record.get("event", record.get("outcome")))))
        session.start().submit(double, 4, tag="simulate").result()
    assert {("workers", "worker_added"), ("tasks", "completed"), ("workers", "worker_removed")} <= {*heard}


def test_each_record_names_task_pool_and_what_the_worker_measured(threads: ScalableSession) -> None:
    client = threads.start()
    client.submit(nap, 0.3, tag="simulate", features={"size": 3}).result()
    threads.close()
    (record,) = records(threads.run_dir, "tasks")
    assert record["name"] == "nap"
    assert record["tag"] == record["component"] == "simulate"
    assert record["worker"].startswith("simulate-")
    assert 0.3 <= record["duration_s"] < 5
    assert record["queued_at"] <= record["started_at"] <= record["ended_at"]
    assert record["peak_bytes"] > 10 * 2**20
    assert record["asked_bytes"] == 2**30
    assert record["features"] == {"size": 3}
    assert (record["n_args"], record["outcome"], record["attempt"]) == (1, "completed", 1)


def test_every_task_is_in_the_file_after_close(threads: ScalableSession) -> None:
    client = threads.start()
    done = client.map(double, range(300), tag="simulate")
    client.gather(done)
    waiting = client.map(nap, [0.2] * 40, tag="simulate")
    lost = client.submit(fail, 1, tag="simulate")
    del lost
    threads.close()
    outcomes = {one["key"]: one["outcome"] for one in records(threads.run_dir, "tasks")}
    assert len(outcomes) == 341
    assert sum(outcome == "completed" for outcome in outcomes.values()) >= 300
    assert {outcomes[future.key] for future in done} == {"completed"}
    assert all(future.key in outcomes for future in waiting)


def test_two_submits_with_the_same_arguments_are_two_runs_unless_pure(threads: ScalableSession) -> None:
    client = threads.start()
    once = [client.submit(double, 1, tag="simulate") for _ in range(2)]
    pure = [client.submit(double, 1, tag="simulate", pure=True) for _ in range(2)]
    assert once[0].key != once[1].key
    assert pure[0].key == pure[1].key
    client.gather([*once, *pure])
    threads.close()
    assert len(records(threads.run_dir, "tasks")) == 3


def test_an_unknown_tag_is_refused_at_submit(threads: ScalableSession) -> None:
    client = threads.start()
    with pytest.raises(UnknownTag, match="did you mean 'simulate'"):
        client.submit(double, 1, tag="simulat")


def test_capabilities_lead_to_the_pool_that_offers_them(threads: ScalableSession) -> None:
    client = threads.start()
    client.submit(double, 1, capabilities={"gpu": 1}).result()
    client.submit(double, 1, capabilities=["gpu"]).result()
    threads.close()
    assert {one["component"] for one in records(threads.run_dir, "tasks")} == {"postprocess"}


def test_a_failure_is_raised_recorded_and_counted(threads: ScalableSession) -> None:
    client = threads.start()
    with pytest.raises(ValueError, match="no 7"):
        client.submit(fail, 7, tag="simulate", retries=2).result()
    threads.close()
    attempts = [(one["attempt"], one["outcome"], one["error_type"]) for one in records(threads.run_dir, "tasks")]
    assert attempts == [(1, "failed", "ValueError"), (2, "failed", "ValueError"), (3, "failed", "ValueError")]
    failures = records(threads.run_dir, "failures")
    assert [one["attempt"] for one in failures] == [1, 2, 3]
    assert "no 7" in failures[0]["traceback"]
    assert threads.run_dir is not None
    assert json.loads((threads.run_dir / "summary.json").read_text())["tasks"]["failed"] == 1


def test_what_waits_for_a_failed_task_is_recorded_as_cancelled(threads: ScalableSession) -> None:
    client = threads.start()
    after = client.submit(double, client.submit(fail, 1, tag="simulate"), tag="postprocess")
    with pytest.raises(ValueError, match="no 1"):
        after.result()
    threads.close()
    (record,) = [one for one in records(threads.run_dir, "tasks") if one["name"] == "double"]
    assert (record["outcome"], record["error_type"], record["worker"]) == ("cancelled", "DependencyFailed", None)


def test_a_finished_run_leaves_its_facts_plan_and_summary(threads: ScalableSession) -> None:
    threads.start()
    threads.close()
    assert threads.run_dir is not None
    run = json.loads((threads.run_dir / "run.json").read_text())
    assert (run["run_id"], run["target"], run["pid"]) == (threads.run_id, "threads", os.getpid())
    assert json.loads((threads.run_dir / "plan.json").read_text())["pools"]["simulate"]["count"] == 2
    assert json.loads((threads.run_dir / "summary.json").read_text())["status"] == "completed"
    added = [one["worker"] for one in records(threads.run_dir, "workers") if one["event"] == "worker_added"]
    removed = {one["worker"]: one["reason"] for one in records(threads.run_dir, "workers")[len(added) :]}
    assert removed == dict.fromkeys(added, "closed")


@contextmanager
def _raising(error: BaseException) -> Iterator[None]:
    yield
    raise error


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (ValueError(), "failed"),
        (KeyboardInterrupt(), "cancelled"),
        (SystemExit(3), "failed"),
        (SystemExit(0), "completed"),
    ],
)
def test_how_the_block_is_left_is_how_the_run_ended(manifest: Write, error: BaseException, status: str) -> None:
    session = ScalableSession.from_yaml(manifest(), target="threads")
    with pytest.raises(type(error)), session, _raising(error):
        session.start()
    assert session.run_dir is not None
    assert json.loads((session.run_dir / "summary.json").read_text())["status"] == status


def test_closing_twice_and_closing_what_never_started_is_harmless(manifest: Write) -> None:
    session = ScalableSession.from_yaml(manifest(), target="threads")
    session.close()
    session.start()
    session.close()
    session.close("failed")
    assert session.run_dir is not None
    assert json.loads((session.run_dir / "summary.json").read_text())["status"] == "completed"


def test_a_status_that_does_not_exist_is_refused(manifest: Write) -> None:
    with pytest.raises(ScalableError, match="completed, failed, cancelled, not 'done'"):
        ScalableSession.from_yaml(manifest(), target="threads").close("done")  # type: ignore[arg-type]


def test_more_pools_with_work_than_workers_is_refused_before_anything_starts(manifest: Write) -> None:
    text = MANIFEST.replace("max_workers: 3}", "max_workers: 1}")
    session = ScalableSession.from_yaml(manifest(text), target="threads")
    with pytest.raises(Infeasible, match="max_workers is 1, but 2 pools have work"):
        session.plan()
    with pytest.raises(ManifestInvalid, match=r"yaml:4:\d+ targets.threads.max_workers: 2 pools have work"):
        session.start()
    assert session.run_dir is None


def test_without_telemetry_nothing_is_written(manifest: Write, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("SCALABLE_TELEMETRY", "off")
    with ScalableSession.from_yaml(manifest(), target="threads") as session:
        assert session.start().submit(double, 2).result() == 4
        assert session.run_dir is None
    assert not (tmp_path / "runs").exists()


def test_a_runs_directory_that_cannot_be_made_is_one_clear_error(
    manifest: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SCALABLE_RUNS_DIR", "/proc/nowhere")
    session = ScalableSession.from_yaml(manifest(), target="threads")
    before = threading.active_count()
    with pytest.raises(ScalableError, match=r"cannot make the run's directory /proc/nowhere.*SCALABLE_RUNS_DIR"):
        session.start()
    assert threading.active_count() <= before


def test_a_start_that_fails_half_way_closes_what_was_opened(
    manifest: Write, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    broken = tmp_path / "broken.py"
    broken.write_text("raise RuntimeError('no licence')\n")
    text = MANIFEST.replace("{cpus: 1, memory: 1G,", f"{{cpus: 1, memory: 1G, preload_script: {broken},")
    session = ScalableSession.from_yaml(manifest(text), target="threads")
    with pytest.raises(ScalableError, match="pool 'simulate': 3 workers in a row did not start"):
        session.start()
    (run,) = (tmp_path / "runs").iterdir()
    assert json.loads((run / "summary.json").read_text())["status"] == "failed"
    # What a failed start leaves must not stand in the way of the next one.
    with ScalableSession.from_yaml(manifest(MANIFEST, "good.yaml"), target="threads") as good:
        assert good.start().submit(double, 1).result() == 2


def spread_out(n: int) -> int:
    with worker_client() as client:
        return sum(client.gather([client.submit(double, i, pure=False, resources={"simulate": 1}) for i in range(n)]))


def test_a_task_may_submit_more_to_its_own_pool_than_this_has_workers(threads: ScalableSession) -> None:
    client = threads.start()
    parents = client.map(spread_out, [3, 3, 3, 3], tag="simulate")
    assert [parent.result(timeout=30) for parent in parents] == [6, 6, 6, 6]


def leave() -> None:
    sys.exit(4)


def test_a_task_that_calls_exit_fails_alone(threads: ScalableSession) -> None:
    client = threads.start()
    with pytest.raises(TaskError, match=r"the task called sys.exit\(4\)"):
        client.submit(leave, tag="simulate").result(timeout=30)
    assert client.submit(double, 2, tag="simulate").result(timeout=30) == 4


def fail_as_value() -> str:
    mark_failed(ValueError("out of water"))
    return "a value all the same"


def test_a_task_may_say_that_it_failed_and_return_a_value(threads: ScalableSession) -> None:
    client = threads.start()
    assert client.submit(fail_as_value, tag="simulate").result() == "a value all the same"
    assert client.submit(double, 1, tag="simulate").result() == 2
    threads.close()
    told = {one["name"]: (one["outcome"], one["error_type"]) for one in records(threads.run_dir, "tasks")}
    assert told == {"fail_as_value": ("failed", "ValueError"), "double": ("completed", None)}
    assert records(threads.run_dir, "failures")[0]["error"] == "out of water"


async def fail_async() -> None:
    raise ValueError("no")


def test_each_attempt_of_a_coroutine_is_recorded_too(threads: ScalableSession) -> None:
    client = threads.start()
    with pytest.raises(ValueError, match="no"):
        client.submit(fail_async, tag="simulate", retries=2).result(timeout=30)
    threads.close()
    assert [(one["attempt"], one["outcome"]) for one in records(threads.run_dir, "tasks")] == [
        (1, "failed"),
        (2, "failed"),
        (3, "failed"),
    ]


def test_a_run_closed_in_the_middle_records_each_task_once(threads: ScalableSession) -> None:
    client = threads.start()
    accepted: list[str] = []
    ending = threading.Event()

    def hand_over() -> None:
        with suppress(ScalableError):
            while True:
                accepted.append(client.submit(double, 1, tag="simulate").key)
                if len(accepted) > 400:
                    ending.set()

    submitting = [threading.Thread(target=hand_over) for _ in range(3)]
    for one in submitting:
        one.start()
    assert ending.wait(30)
    threads.close()
    for one in submitting:
        one.join()
    recorded = [one["key"] for one in records(threads.run_dir, "tasks")]
    assert len(recorded) == len(set(recorded))
    assert set(recorded) == set(accepted)
    assert threads.run_dir is not None
    counts = json.loads((threads.run_dir / "summary.json").read_text())["tasks"]
    assert sum(counts.values()) == len(recorded)


def test_features_are_those_of_the_moment_of_submission(threads: ScalableSession) -> None:
    client = threads.start()
    features: dict[str, int] = {}
    futures = []
    for i in range(4):
        features["n"] = i
        futures.append(client.submit(double, i, tag="simulate", features=features))
    client.gather(futures)
    threads.close()
    assert sorted(one["features"]["n"] for one in records(threads.run_dir, "tasks")) == [0, 1, 2, 3]


def test_what_is_refused_leaves_no_trace(threads: ScalableSession) -> None:
    client = threads.start()
    with pytest.raises(TypeError):
        client.submit(double, threading.Lock(), tag="simulate")
    for wrong in ({"retries": "a"}, {"priority": "x"}, {"workers": ["nobody"]}, {"features": [1]}):
        with pytest.raises(TaskError, match="task 'double'"):
            client.submit(double, 1, tag="simulate", **wrong)
    with pytest.raises(TaskError, match="map of 'double': 3 features for 5 calls"):
        client.map(double, range(5), features=[{}] * 3)
    threads.close()
    assert records(threads.run_dir, "tasks") == []
    with pytest.raises(ScalableError, match="the run is closed"):
        client.submit(double, 1)


def test_sessions_leave_no_threads_and_no_open_files(manifest: Write) -> None:
    path = manifest()

    def once() -> None:
        with ScalableSession.from_yaml(path, target="threads") as session:
            session.start().submit(double, 1).result()

    once()
    this = psutil.Process()
    before = threading.active_count(), this.num_fds()
    for _ in range(4):
        once()
    deadline = time.monotonic() + 10
    while threading.active_count() > before[0] + 2 and time.monotonic() < deadline:
        time.sleep(0.1)
    assert threading.active_count() <= before[0] + 2
    assert this.num_fds() <= before[1] + 4


@pytest.mark.slow
def test_a_task_that_kills_its_worker_does_not_take_those_in_line_along(manifest: Write) -> None:
    with ScalableSession.from_yaml(manifest(), target="processes") as session:
        client = session.start()
        deadly = client.submit(os._exit, 1, tag="simulate")
        innocent = client.map(double, range(30), tag="simulate")
        assert client.gather(innocent) == [2 * i for i in range(30)]
        with pytest.raises(Exception, match="workers died while running it"):
            deadly.result(timeout=60)
    lost = {one["name"] for one in records(session.run_dir, "tasks") if one["outcome"] == "lost"}
    assert lost <= {"_exit"}


@pytest.mark.slow
def test_the_environment_is_as_before_when_the_run_is_over(manifest: Write) -> None:
    before = dict(os.environ)
    with ScalableSession.from_yaml(manifest(), target="processes") as session:
        session.start()
    assert dict(os.environ) == before


@pytest.mark.slow
def test_pools_of_processes_have_their_own_process_environment_and_memory_limit(manifest: Write) -> None:
    text = MANIFEST.replace("{cpus: 1, memory: 1G,", "{cpus: 1, memory: 1G, env: {MODEL: demeter},")
    with ScalableSession.from_yaml(manifest(text), target="processes") as session:
        client = session.start()
        assert client.submit(where, tag="simulate").result() != os.getpid()
        assert client.submit(setting, "MODEL", tag="simulate").result() == "demeter"
        assert client.submit(setting, "MODEL", tag="postprocess").result() is None
        assert client.submit(setting, "OMP_NUM_THREADS", tag="simulate").result() == "1"
        limits = {one["name"]: one["memory_limit"] for one in client.dask.scheduler_info(-1)["workers"].values()}
    assert limits["simulate-0"] == 2**30
    assert limits["postprocess-0"] == 2 * 2**30


@pytest.mark.slow
def test_everything_that_listens_listens_on_loopback(manifest: Write) -> None:
    for target in ("threads", "processes"):
        with ScalableSession.from_yaml(manifest(), target=target) as session:
            session.start()
            this = psutil.Process()
            listening = [
                connection.laddr.ip
                for process in (this, *this.children(recursive=True))
                for connection in process.net_connections("inet")
                if connection.status == psutil.CONN_LISTEN
            ]
        assert listening
        assert set(listening) == {"127.0.0.1"}


@pytest.mark.slow
def test_a_worker_that_dies_is_recorded_and_its_task_runs_again(manifest: Write) -> None:
    with ScalableSession.from_yaml(manifest(), target="processes") as session:
        client = session.start()
        victim = client.submit(where, tag="postprocess").result()
        future = client.submit(nap, 3.0, tag="postprocess")
        time.sleep(1.5)
        os.kill(victim, signal.SIGKILL)
        assert future.result(timeout=60) == 3.0
    attempts = [(one["attempt"], one["outcome"]) for one in records(session.run_dir, "tasks") if one["name"] == "nap"]
    assert attempts == [(1, "lost"), (2, "completed")]
    reasons = [one["reason"] for one in records(session.run_dir, "workers") if one["event"] == "worker_removed"]
    assert reasons.count("lost") == 1


SCRIPT = """
import os, sys, time
from scalable import ScalableSession

def nap(): time.sleep(600)

if __name__ == "__main__":
    session = ScalableSession.from_yaml(sys.argv[1], target="processes")
    client = session.start()
    futures = client.map(lambda _: nap(), range(4), tag="simulate")
    print("up", flush=True)
    {then}
"""


@pytest.fixture
def spawn(tmp_path: Path, manifest: Write) -> Iterator[Callable[[str], subprocess.Popen[str]]]:
    """Start a script of its own and wait until its run is under way; nothing of it is left at the end."""
    started: list[subprocess.Popen[str]] = []

    def start(then: str) -> subprocess.Popen[str]:
        script = tmp_path / "script.py"
        script.write_text(SCRIPT.replace("{then}", then))
        command = [sys.executable, str(script), str(manifest())]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=tmp_path)
        started.append(process)
        assert process.stdout is not None
        assert process.stdout.readline() == "up\n"
        return process

    yield start
    for process in started:
        process.kill()
        process.wait()
        assert process.stdout is not None
        process.stdout.close()


Spawn = Callable[[str], subprocess.Popen[str]]


def _gone(processes: list[psutil.Process], seconds: float = 20) -> bool:
    _, alive = psutil.wait_procs(processes, timeout=seconds)
    return not [one for one in alive if one.status() != psutil.STATUS_ZOMBIE]


@pytest.mark.slow
def test_no_worker_outlives_a_session_that_is_killed(spawn: Spawn, tmp_path: Path) -> None:
    process = spawn("time.sleep(600)")
    children = psutil.Process(process.pid).children(recursive=True)
    assert len(children) >= 3
    process.kill()
    process.wait()
    assert _gone(children)


@pytest.mark.slow
def test_a_script_that_ends_with_an_error_and_never_closes_leaves_a_failed_run(spawn: Spawn, tmp_path: Path) -> None:
    process = spawn("raise ValueError('forgotten')")
    children = psutil.Process(process.pid).children(recursive=True)
    assert process.wait(timeout=30) == 1
    assert _gone(children)
    (run,) = (tmp_path / "runs").iterdir()
    assert json.loads((run / "summary.json").read_text())["status"] == "failed"


@pytest.mark.slow
def test_ctrl_c_in_a_script_that_never_closes_marks_the_run_cancelled(spawn: Spawn, tmp_path: Path) -> None:
    process = spawn("time.sleep(600)")
    children = psutil.Process(process.pid).children(recursive=True)
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=30) != 0
    assert _gone(children)
    (run,) = (tmp_path / "runs").iterdir()
    assert json.loads((run / "summary.json").read_text())["status"] == "cancelled"


@pytest.mark.slow
def test_ctrl_c_ends_the_run_and_marks_it_cancelled(spawn: Spawn, tmp_path: Path) -> None:
    # As it may come at any moment after the script said so, also before it is inside the block.
    process = spawn("with session: time.sleep(600)")
    children = psutil.Process(process.pid).children(recursive=True)
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=30) != 0
    assert _gone(children)
    (run,) = (tmp_path / "runs").iterdir()
    assert json.loads((run / "summary.json").read_text())["status"] == "cancelled"
    assert len({one["key"] for one in records(run, "tasks")}) == 4


@pytest.mark.slow
def test_a_script_without_a_main_guard_is_told_so(manifest: Write, tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    start = f"ScalableSession.from_yaml({str(manifest())!r}, target='processes').start()"
    script.write_text(f"from scalable import ScalableSession\n{start}\n")
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode != 0
    assert "if __name__ == '__main__':" in done.stderr


@pytest.mark.slow
def test_a_function_that_workers_cannot_import_is_the_tasks_failure_and_kills_nobody(
    manifest: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = ModuleType("only_here")
    exec("def f(): return 1", module.__dict__)
    monkeypatch.setitem(sys.modules, "only_here", module)
    with ScalableSession.from_yaml(manifest(), target="processes") as session:
        client = session.start()
        with pytest.raises(ModuleNotFoundError, match="only_here"):
            client.submit(module.f, tag="simulate").result(timeout=60)
        assert client.submit(abs, -1, tag="simulate").result(timeout=60) == 1
    assert [one["outcome"] for one in records(session.run_dir, "tasks")] == ["failed", "completed"]
    assert {one["reason"] for one in records(session.run_dir, "workers") if one["event"] == "worker_removed"} == {
        "closed"
    }
