"""A run with jobs, from its scheduler to its end, where Slurm's commands do nothing."""

from __future__ import annotations

import os
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path

import pytest

from scalable import ScalableSession
from scalable.providers.batch import provider, watchdog
from tests.providers.batch.real import certificates, listening, manifest_text, until

pytestmark = pytest.mark.slow

Write = Callable[..., Path]


@pytest.fixture
def commands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the folder of the commands, which is where the calls of scancel are counted."""
    folder = tmp_path / "bin"
    folder.mkdir()
    scancel = f'echo "$*" >>{folder}/calls\nif [ -e {folder}/refuse ]; then echo "scancel: error: no" >&2; exit 1; fi'
    for name, text in {"sbatch": "echo 100", "squeue": "", "scancel": scancel}.items():
        (folder / name).write_text(f"#!/bin/sh\n{text}\n")
        (folder / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    # One that is in a hurry.
    text = Path(watchdog.__file__).read_text().replace("(0.0, 5.0, 15.0, 30.0)", "(0.0, 0.1)")
    (tmp_path / "watchdog.py").write_text(text)
    monkeypatch.setattr(provider, "_WATCHDOG", tmp_path / "watchdog.py")
    return folder


def test_the_scheduler_shows_nothing_to_other_users_of_the_machine(commands: Path, manifest: Write) -> None:
    before = listening(os.getpid())
    with ScalableSession.from_yaml(manifest(manifest_text())) as session:
        session.start()
        # One of them is where workers connect, and does not speak HTTP at all.
        opened = [place for place in listening(os.getpid()) if place not in before]
        answers = {answer(f"http://{host}:{port}/{page}") for host, port in opened for page in PAGES}
    assert answers == {404, None}


PAGES = ("info/main/workers.html", "json/index.html", "metrics", "health", "api/v1/get_workers")


def answer(url: str) -> int | None:
    try:
        with urllib.request.urlopen(url, timeout=30) as page:
            return int(page.status)
    except urllib.error.HTTPError as error:
        error.close()
        return error.code
    except OSError:
        return None


def test_when_all_is_cancelled_the_certificates_go_at_once(
    commands: Path, manifest: Write, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with ScalableSession.from_yaml(manifest(manifest_text())) as session:
        session.start()
    assert certificates(tmp_path) == []
    assert "may be left" not in caplog.text


def test_what_could_not_be_cancelled_is_left_to_the_watchdog(
    commands: Path, manifest: Write, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with ScalableSession.from_yaml(manifest(manifest_text())) as session:
        session.start()
        run_id = session.run_id
        (commands / "refuse").touch()
    called = (commands / "calls").read_text().splitlines()
    assert f"jobs of {run_id} may be left" in caplog.text
    assert f"`scalable clean --run {run_id}`" in caplog.text
    until(lambda: certificates(tmp_path) == [], "the watchdog has done its work")
    assert (commands / "calls").read_text().splitlines()[-1] == f"--name={run_id}"
    # Its own two, at the least.
    assert len((commands / "calls").read_text().splitlines()) >= len(called) + 1
