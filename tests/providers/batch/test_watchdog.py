"""The process that ends the jobs of another that was killed, by itself."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from scalable.providers.batch import watchdog
from tests.providers.batch.real import until

# Whoever is watched: it starts the watchdog, gives it its orders, and sleeps.
WATCHED = """\
import json, subprocess, sys, time, os
file, orders, lines = sys.argv[1:]
process = subprocess.Popen(
    [sys.executable, "-I", "-S", file, str(os.getpid())], stdin=subprocess.PIPE, start_new_session=True
)
process.stdin.write((orders + "\\n" + "".join(line + "\\n" for line in json.loads(lines))).encode())
process.stdin.flush()
if os.environ.get("HEIR"):
    # It keeps the pipe open, whatever becomes of the others.
    subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"],
                     pass_fds=[process.stdin.fileno()], stdout=subprocess.DEVNULL)
print(process.pid, flush=True)
time.sleep(60)
"""

Start = Callable[..., tuple[subprocess.Popen[str], psutil.Process]]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Start somebody who is watched, with a watchdog that is in a hurry."""
    file = tmp_path / "watchdog.py"
    text = Path(watchdog.__file__).read_text()
    assert "(0.0, 5.0, 15.0, 30.0)" in text
    file.write_text(text.replace("(0.0, 5.0, 15.0, 30.0)", "(0.0, 0.1)").replace("_LOOK_S = 1.0", "_LOOK_S = 0.1"))
    started: list[psutil.Process] = []
    watched_ones: list[subprocess.Popen[str]] = []

    def start(*lines: str, heir: bool = False, **orders: object) -> tuple[subprocess.Popen[str], psutil.Process]:
        watched = subprocess.Popen(
            [sys.executable, "-c", WATCHED, str(file), json.dumps(orders), json.dumps(lines)],
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, **({"HEIR": "1"} if heir else {}), "SCANCEL_STATE": "PENDING"},
        )
        watched_ones.append(watched)
        assert watched.stdout is not None
        dog = psutil.Process(int(watched.stdout.readline()))
        started.extend([dog, *psutil.Process(watched.pid).children()])
        return watched, dog

    yield start
    for watched in watched_ones:
        kill(watched)
    for process in started:
        if process.is_running():
            process.kill()


def kill(process: subprocess.Popen[str]) -> None:
    process.kill()
    process.wait()
    assert process.stdout is not None
    process.stdout.close()


def ended(process: psutil.Process) -> bool:
    return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE


@pytest.fixture
def note(tmp_path: Path) -> tuple[list[str], Callable[[], list[str]]]:
    """Return a command that notes what it is called with, and what it has noted."""
    program, calls = tmp_path / "cancel", tmp_path / "calls"
    program.write_text(f'#!/bin/sh\necho "$* ${{SCANCEL_STATE:-}}" >>{calls}\n')
    program.chmod(0o755)
    return [str(program)], lambda: calls.read_text().splitlines() if calls.exists() else []


def test_when_the_process_is_killed_its_jobs_end_more_than_once_and_its_certificates_go(
    start: Start, note: tuple[list[str], Callable[[], list[str]]], tmp_path: Path
) -> None:
    command, calls = note
    (tmp_path / "tls").mkdir()
    (tmp_path / "tls" / "key.pem").touch()
    watched, dog = start(cancel=[], cancel_all=[*command, "--name=run"], directory=str(tmp_path / "tls"))
    assert calls() == []
    kill(watched)
    until(lambda: ended(dog), "the watchdog ends")
    # And what the user set for scancel does not spare any.
    assert calls() == ["--name=run ", "--name=run "]
    assert not (tmp_path / "tls").exists()


def test_where_there_are_no_names_jobs_are_ended_by_their_ids(
    start: Start, note: tuple[list[str], Callable[[], list[str]]]
) -> None:
    command, calls = note
    ids = [f"{number}.server" for number in range(1201)]
    watched, dog = start(*ids, cancel=command, cancel_all=[], directory=None)
    kill(watched)
    until(lambda: ended(dog), "the watchdog ends")
    assert [len(call.split()) for call in calls()] == [500, 500, 201] * 2
    assert " ".join(calls()[:3]).split() == ids


def test_somebody_who_inherited_the_pipe_does_not_hold_it_off(
    start: Start, note: tuple[list[str], Callable[[], list[str]]]
) -> None:
    command, calls = note
    watched, dog = start(heir=True, cancel=[], cancel_all=command, directory=None)
    kill(watched)
    until(lambda: ended(dog), "the watchdog ends")
    assert len(calls()) == 2


def test_when_all_is_done_it_does_nothing(start: Start, note: tuple[list[str], Callable[[], list[str]]]) -> None:
    command, calls = note
    _, dog = start("done", cancel=[], cancel_all=command, directory=None)
    until(lambda: ended(dog), "the watchdog ends")
    assert calls() == []


def test_what_the_process_could_not_end_it_leaves_to_it_whoever_holds_the_pipe(
    start: Start, note: tuple[list[str], Callable[[], list[str]]], tmp_path: Path
) -> None:
    command, calls = note
    (tmp_path / "tls").mkdir()
    watched, dog = start("end", heir=True, cancel=[], cancel_all=command, directory=str(tmp_path / "tls"))
    until(lambda: ended(dog), "the watchdog ends")
    assert watched.poll() is None
    assert len(calls()) == 2
    assert not (tmp_path / "tls").exists()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_what_ends_others_does_not_end_it(
    start: Start, note: tuple[list[str], Callable[[], list[str]]], number: signal.Signals
) -> None:
    command, calls = note
    watched, dog = start(cancel=[], cancel_all=command, directory=None)
    # It has begun to listen once it has slept.
    until(lambda: dog.status() == psutil.STATUS_SLEEPING and ignores(dog.pid, number), "it ignores the signal")
    dog.send_signal(number)
    kill(watched)
    until(lambda: ended(dog), "the watchdog ends")
    assert len(calls()) == 2


def ignores(pid: int, number: signal.Signals) -> bool:
    status = Path(f"/proc/{pid}/status").read_text()
    mask = int(next(line.split()[1] for line in status.splitlines() if line.startswith("SigIgn:")), 16)
    return bool(mask >> (number - 1) & 1)


def test_a_command_that_cannot_be_run_keeps_it_from_nothing(start: Start, tmp_path: Path) -> None:
    (tmp_path / "tls").mkdir()
    watched, dog = start(cancel=[], cancel_all=["/no/such/command"], directory=str(tmp_path / "tls"))
    kill(watched)
    until(lambda: ended(dog), "the watchdog ends")
    assert not (tmp_path / "tls").exists()
