"""``scalable adapter`` as a process of its own: what it prints, and that no process outlives it."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest
from distributed import get_worker

from scalable import ScalableSession
from scalable.cli import main
from tests.providers.elsewhere import cluster_of, manifest_text, scaled, until, way_in

Write = Callable[..., Path]


def place(_: int, seconds: float = 0.0) -> str:
    time.sleep(seconds)
    return str(get_worker().name)


@contextmanager
def command(path: Path, session: ScalableSession) -> Iterator[subprocess.Popen[str]]:
    """Start the command with the certificates of a run."""
    address, tls = way_in(session)
    words = ["adapter", str(path), "--scheduler", address, "--target", "cloud"]
    files = ["--tls-ca", str(tls.ca), "--tls-cert", str(tls.cert), "--tls-key", str(tls.key)]
    process = subprocess.Popen(
        [sys.executable, "-m", "scalable.cli", *words, *files], stdout=subprocess.PIPE, text=True
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def processes_of(process: subprocess.Popen[str]) -> list[psutil.Process]:
    own = psutil.Process(process.pid)
    return [own, *own.children(recursive=True)]


def gone(processes: list[psutil.Process]) -> bool:
    return not any(one.is_running() and one.status() != psutil.STATUS_ZOMBIE for one in processes)


@pytest.mark.slow
def test_killed_it_is_dropped_at_once_and_its_tasks_run_elsewhere(manifest: Write) -> None:
    path = manifest(manifest_text(processes=True))
    with ScalableSession.from_yaml(path, target="far") as session:
        client, cluster = session.start(), cluster_of(session)
        with command(path, session) as process:
            assert process.stdout is not None
            line = process.stdout.readline()
            assert re.fullmatch(
                r"adapter 'cloud' serves tls://127\.0\.0\.1:\d+: simulate@cloud; at most 2 workers\n", line
            )
            scaled(cluster, "simulate@cloud", 2)
            futures = client.map(place, range(12), seconds=0.2, tag="simulate")
            until(lambda: any(future.done() for future in futures), "they run")
            processes = processes_of(process)
            assert len(processes) >= 3
            process.kill()
            until(lambda: "cloud" not in cluster.adapters, "it is dropped", seconds=5)
            until(lambda: gone(processes), "no process of it is left", seconds=10)
        # What had ended there may have been fetched by then; all else ran again.
        assert "simulate-0" in client.gather(futures)
        until(lambda: not cluster.pools["simulate@cloud"].members, "its groups are out of the books")


@pytest.mark.slow
def test_it_and_its_workers_end_with_the_run(manifest: Write) -> None:
    path = manifest(manifest_text(processes=True))
    with ScalableSession.from_yaml(path, target="far") as session:
        client, cluster = session.start(), cluster_of(session)
        with command(path, session) as process:
            until(lambda: "cloud" in cluster.adapters, "it joined")
            scaled(cluster, "simulate@cloud", 1)
            assert client.submit(place, 0, tag="simulate@cloud").result() == "simulate@cloud-0"
            processes = processes_of(process)
            session.close()
            out, _ = process.communicate(timeout=20)
            assert process.returncode == 0
            assert "has ended: the scheduler ended" in out
            until(lambda: gone(processes), "nor are its workers there", seconds=5)


@pytest.mark.slow
def test_told_to_end_it_ends_its_workers_first(manifest: Write) -> None:
    path = manifest(manifest_text(processes=True))
    with ScalableSession.from_yaml(path, target="far") as session:
        session.start()
        with command(path, session) as process:
            until(lambda: "cloud" in cluster_of(session).adapters, "it joined")
            scaled(cluster_of(session), "simulate@cloud", 1)
            processes = processes_of(process)
            process.send_signal(signal.SIGTERM)
            out, _ = process.communicate(timeout=20)
            assert (process.returncode, "told to end" in out) == (0, True)
            until(lambda: gone(processes), "nor are its workers there", seconds=5)


def test_without_a_run_it_says_what_it_could_not_reach(
    manifest: Write, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("scalable.providers.adapters.join._CONNECT_S", 0.3)
    path = str(manifest(manifest_text()))
    assert main(["adapter", path, "--scheduler", "tcp://127.0.0.1:9", "--target", "cloud"]) == 4
    assert "cannot connect to the scheduler at tcp://127.0.0.1:9" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--scheduler", "tls://h:1", "--tls-ca", "ca.pem"], "--tls-cert, --tls-key is missing"),
        (["--scheduler", "tls://h:1", "--tls-ca", "no", "--tls-cert", "no", "--tls-key", "no"], "there is no file"),
        (["--scheduler", "tcp://10.0.0.1:1"], "--insecure"),
    ],
)
def test_what_it_is_told_wrongly_it_says_at_once(
    manifest: Write, capsys: pytest.CaptureFixture[str], words: list[str], said: str
) -> None:
    assert main(["adapter", str(manifest(manifest_text())), "--target", "cloud", *words]) != 0
    assert said in capsys.readouterr().err


def test_a_cloud_for_which_nothing_is_built_is_refused_as_in_a_run(
    manifest: Write, capsys: pytest.CaptureFixture[str]
) -> None:
    text = manifest_text().replace("targets:\n", "targets:\n  aws: {provider: aws, region: us-east-1}\n")
    assert main(["adapter", str(manifest(text)), "--target", "aws", "--scheduler", "tcp://127.0.0.1:9"]) == 4
    assert "this release builds no clusters" in capsys.readouterr().err
