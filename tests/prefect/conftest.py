"""A real Prefect server for all tests of this folder, and manifests for their flows."""

from __future__ import annotations

import gc
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.context import refresh_global_settings_context

from scalable import ScalableSession
from scalable_prefect import ScalableTaskRunner
from scalable_prefect.compat import drain_services

MANIFEST = """\
version: 1
project: {name: flows}
targets:
  threads: {provider: local, max_workers: 3}
  processes: {provider: local, max_workers: 3, processes: true}
components:
  default: {cpus: 1, memory: 1G}
  simulate: {cpus: 2, memory: 1G, tags: [heavy]}
  rank: {cpus: 1, memory: 1G, tags: [heavy], capabilities: {gpu: 1}}
tasks:
  other: {component: default}
"""
# Most tasks here go by their names: for each tag, Prefect's client asks its server for limits, and
# waits two seconds when SQLite is busy.
_NAMES = {
    "rank": ("postprocess", "die", "note", "field", "size", "sleep", "dig", "last", "write"),
    "simulate": ("energy", "mean", "there"),
}
MANIFEST += "".join(f"  {name}: {{component: {pool}}}\n" for pool, names in _NAMES.items() for name in names)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what needs Prefect."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.engine)
            # Prefect leaves event loops and sockets to the garbage collector.
            item.add_marker(pytest.mark.filterwarnings("ignore::ResourceWarning"))
            item.add_marker(pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"))


@pytest.fixture(autouse=True)
def litter() -> Iterator[None]:
    """Let the garbage collector find what Prefect left while its warnings are still ignored."""
    yield
    gc.collect()


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Start Prefect's server, with a database of its own, and make it this process's."""
    home = tmp_path_factory.mktemp("prefect")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    url = f"http://127.0.0.1:{port}/api"
    quiet = {"PREFECT_SERVER_ANALYTICS_ENABLED": "false", "DO_NOT_TRACK": "1", "PREFECT_HOME": str(home)}
    # Services of the server that no test needs; when they write, SQLite turns others away for two seconds.
    idle = (
        *("CANCELLATION_CLEANUP", "DB_VACUUM", "EVENT_PERSISTER", "FOREMAN", "LATE_RUNS", "REPOSSESSOR", "SCHEDULER"),
        *("PAUSE_EXPIRATIONS", "TRIGGERS"),
    )
    lean = {f"PREFECT_SERVER_SERVICES_{service}_ENABLED": "false" for service in idle}
    ours = {**quiet, "PREFECT_API_URL": url, "PREFECT_LOGGING_LEVEL": "WARNING"}
    ours["PREFECT_LOGGING_TO_API_WHEN_MISSING_FLOW"] = "ignore"
    with (home / "server.log").open("w") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "prefect", "server", "start", "--host", "127.0.0.1", "--port", str(port), "--no-ui"],
            env={**os.environ, **quiet, **lean},
            stdout=log,
            stderr=log,
        )
    before = {name: os.environ.get(name) for name in ours}
    try:
        _wait_for_server(url, process, home / "server.log")
        os.environ.update(ours)
        refresh_global_settings_context()
        yield url
        drain_services(10)
    finally:
        for name, value in before.items():
            os.environ.pop(name, None) if value is None else os.environ.__setitem__(name, value)
        refresh_global_settings_context()
        process.terminate()
        process.wait(30)


def _wait_for_server(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    give_up = time.monotonic() + 150
    while time.monotonic() < give_up:
        assert process.poll() is None, log.read_text()
        try:
            if httpx.get(f"{url}/health", timeout=5).status_code == 200:
                return
        except httpx.HTTPError:
            time.sleep(0.3)
    raise AssertionError(f"no answer from Prefect's server: {log.read_text()}")


@pytest.fixture
def api(server: str) -> Iterator[SyncPrefectClient]:
    """Ask the server."""
    with get_client(sync_client=True) as client:
        yield client


@pytest.fixture
def manifest_path(tmp_path: Path) -> Path:
    """Write the manifest of these tests."""
    path = tmp_path / "scalable.yaml"
    path.write_text(MANIFEST)
    return path


@pytest.fixture
def runs(tmp_path: Path) -> Callable[[], list[Path]]:
    """List the run directories of the test."""

    def list_runs() -> list[Path]:
        where = tmp_path / "runs"
        return sorted(where.iterdir()) if where.exists() else []

    return list_runs


@pytest.fixture(scope="session")
def processes(tmp_path_factory: pytest.TempPathFactory, server: str) -> Iterator[ScalableSession]:
    """Start worker processes that tests share: each takes seconds to import Prefect."""
    where = tmp_path_factory.mktemp("processes")
    (where / "scalable.yaml").write_text(MANIFEST)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SCALABLE_RUNS_DIR", str(where / "runs"))
        with ScalableSession.from_yaml(where / "scalable.yaml", target="processes") as session:
            session.start()
            yield session


@pytest.fixture(params=["threads", "processes"])
def runner(request: pytest.FixtureRequest, server: str, manifest_path: Path) -> ScalableTaskRunner:
    """Make a runner, once with workers that are threads of this process and once with processes."""
    if request.param == "processes":
        return ScalableTaskRunner(session=request.getfixturevalue("processes"))
    return ScalableTaskRunner(manifest_path, target="threads")
