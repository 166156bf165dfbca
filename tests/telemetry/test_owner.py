from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from scalable.telemetry import owner as module
from scalable.telemetry.owner import Owner


@contextmanager
def _sleeper(program: str | Path = "sleep") -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen([program, "60"]) as process:
        yield process
        process.kill()


def _of(pid: int) -> Owner:
    started = module._started(pid)
    assert started is not None
    return replace(Owner.mine(), pid=pid, started=started)


def test_this_process_lives() -> None:
    assert Owner.mine().alive() is True
    assert Owner(**asdict(Owner.mine())) == Owner.mine()


def test_a_process_that_ended_does_not_even_while_it_waits_to_be_fetched() -> None:
    with _sleeper() as process:
        other = _of(process.pid)
        assert other.alive() is True
        process.kill()
        with Path(f"/proc/{process.pid}/stat").open() as stat:
            while ") Z " not in stat.read():
                stat.seek(0)
        assert other.alive() is False
        process.wait()
        assert other.alive() is False


def test_a_later_process_with_the_same_number_is_another() -> None:
    assert replace(Owner.mine(), started=Owner.mine().started - 1).alive() is False


def test_a_process_of_another_machine_cannot_be_told_of() -> None:
    assert replace(Owner.mine(), host="login2.elsewhere").alive() is None


def test_the_name_of_a_program_may_look_like_the_fields_that_follow_it(tmp_path: Path) -> None:
    sleep = shutil.which("sleep")
    assert sleep is not None
    program = tmp_path / "a) Z (1 2"
    shutil.copy(sleep, program)
    with _sleeper(program) as process:
        assert _of(process.pid).alive() is True


def test_without_proc_the_same_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_started", module._started_without_proc)
    with _sleeper() as process:
        other = _of(process.pid)
        assert other.alive() is True
        process.kill()
        process.wait()
        assert other.alive() is False
