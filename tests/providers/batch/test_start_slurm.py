"""A start on Slurm that cannot succeed says why and leaves nothing; one that can disturbs nobody."""

from __future__ import annotations

import importlib.util
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from scalable import ScalableSession
from scalable.errors import MissingExtra, ProviderError, ProviderUnavailable, ScalableError
from tests.providers.batch.real import certificates, manifest_text
from tests.slurm.backend import Slurm

pytestmark = [pytest.mark.slow, pytest.mark.slurm]

Write = Callable[..., Path]


@pytest.fixture
def refused(queue: Slurm, manifest: Write, tmp_path: Path) -> Callable[..., str]:
    """Start a run that cannot start, see that nothing is left of it, and return what the error says."""

    def refused(kind: type[ScalableError], **options: Any) -> str:
        before, children = threading.enumerate(), psutil.Process().children()
        session = ScalableSession.from_yaml(manifest(manifest_text(**options)))
        with pytest.raises(kind) as caught:
            session.start()
        assert type(caught.value) is kind
        assert certificates(tmp_path) == []
        assert psutil.Process().children() == children
        assert queue.jobs() == []
        # Whatever Dask keeps for all its event loops stays.
        kept = [one.name for one in threading.enumerate() if one not in before]
        assert not [name for name in kept if name.startswith(("IO loop", "scalable"))]
        with pytest.raises(ScalableError, match="not started"):
            _ = session.client
        return str(caught.value)

    return refused


def test_a_port_that_is_taken(refused: Callable[..., str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        said = refused(ProviderError, scheduler_port=port)
    assert f"port {port}" in said
    assert "taken" in said
    assert "scheduler_port" in said


def test_the_port_that_was_asked_for_is_used(queue: Slurm, manifest: Write) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    for _ in range(2):
        # Also twice in a row: a run that has ended keeps no port.
        with ScalableSession.from_yaml(manifest(manifest_text(scheduler_port=port))) as session:
            client = session.start()
            assert client.dask.scheduler_info()["address"] == f"tls://127.0.0.1:{port}"
            assert client.submit(sum, [1, 2], tag="simulate").result(timeout=100) == 3


def test_an_interface_that_there_is_not(refused: Callable[..., str]) -> None:
    said = refused(ProviderError, interface="ib7")
    assert "no network interface 'ib7'" in said
    for name in psutil.net_if_addrs():
        assert name in said


@pytest.mark.parametrize("command", ["sbatch", "scancel"])
def test_a_machine_without_the_commands(
    refused: Callable[..., str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    folder = tmp_path / "bin"
    folder.mkdir()
    for name in {"sbatch", "scancel", "squeue"} - {command}:
        (folder / name).symlink_to(shutil.which(name) or name)
    with monkeypatch.context() as patch:
        patch.setenv("PATH", str(folder))
        said = refused(ProviderUnavailable)
    assert f"`{command}`" in said
    assert "login node" in said


def test_without_dask_jobqueue(refused: Callable[..., str], monkeypatch: pytest.MonkeyPatch) -> None:
    found = importlib.util.find_spec

    def find(name: str, package: str | None = None) -> Any:
        return None if name == "dask_jobqueue" else found(name, package)

    monkeypatch.setattr("scalable.providers.batch.provider.find_spec", find)
    assert "pip install 'scalable-workflows[slurm]'" in refused(MissingExtra)


def test_a_log_directory_that_cannot_be_made(refused: Callable[..., str], tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    said = refused(ProviderError, log_directory=str(tmp_path / "file" / "logs"))
    assert "log_directory" in said
    assert str(tmp_path / "file" / "logs") in said


def test_a_directory_for_certificates_that_cannot_be_made(refused: Callable[..., str], tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert "shared_temp_directory" in refused(ProviderError, shared_temp_directory=str(tmp_path / "file" / "tmp"))


def test_signals_keep_their_meaning_and_any_thread_can_start_a_run(
    queue: Slurm, manifest: Write, tmp_path: Path
) -> None:
    manifest(manifest_text())
    program = """\
import signal, sys, threading
from scalable import ScalableSession

def mine(number, frame):
    pass

signal.signal(signal.SIGTERM, mine)
before = {number: signal.getsignal(number) for number in signal.valid_signals()}

def run():
    with ScalableSession.from_yaml("scalable.yaml") as session:
        print(session.start().submit(sum, [1, 2], tag="simulate").result(timeout=100))

if sys.argv[1] == "thread":
    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
else:
    run()
assert "dask_jobqueue" in sys.modules
print({number for number in before if signal.getsignal(number) is not before[number]})
"""
    for how in ("thread", "main"):
        command = [sys.executable, "-W", "error", "-c", program, how]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False)
        assert (done.returncode, done.stdout.split("\n")) == (0, ["3", "set()", ""]), done.stderr


def test_nothing_stays_open_after_many_runs(queue: Slurm, manifest: Write) -> None:
    path = manifest(manifest_text())

    def run() -> int:
        with ScalableSession.from_yaml(path) as session:
            session.start()
        return len(list(Path("/proc/self/fd").iterdir()))

    # The first one opens what Dask keeps for good.
    run()
    before = run()
    assert max(run() for _ in range(3)) <= before
