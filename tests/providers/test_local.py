from __future__ import annotations

import logging
import os
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path

import pytest
from distributed import get_worker

from scalable import ScalableSession
from scalable.errors import MissingExtra, ProviderError, TaskOutOfMemory
from scalable.providers.local import _sourced
from tests.conftest import MANIFEST

Write = Callable[..., Path]


def setting(name: str) -> str | None:
    return os.environ.get(name)


def test_env_is_warned_of_where_workers_are_threads(manifest: Write) -> None:
    text = MANIFEST.replace("{cpus: 1, memory: 1G,", "{cpus: 1, memory: 1G, env: {A: b},")
    threads = ScalableSession.from_yaml(manifest(text), target="threads").validate()
    assert threads.ok
    assert [issue.code for issue in threads.warnings] == ["W_ENV_NEEDS_PROCESSES"]
    assert ScalableSession.from_yaml(manifest(text), target="processes").validate().issues == ()


def test_a_preload_script_that_is_not_there_is_an_error_before_anything_starts(manifest: Write) -> None:
    text = MANIFEST.replace("{cpus: 1, memory: 1G,", "{cpus: 1, memory: 1G, preload_script: nowhere.py,")
    report = ScalableSession.from_yaml(manifest(text), target="processes").validate()
    assert [issue.code for issue in report.errors] == ["E_MISSING_FILE"]


def test_an_adaptive_target_is_bounded_by_max_workers_too(manifest: Write) -> None:
    text = MANIFEST.replace("max_workers: 3}", "max_workers: 4, adaptive: {min: 1, max: 9}}")
    session = ScalableSession.from_yaml(manifest(text), target="threads")
    assert session.plan().limits.maximum == 4
    assert session.plan().limits.minimum == 1


WITH_DASHBOARD = MANIFEST.replace("max_workers: 3}", "max_workers: 3, dashboard: true}")


def test_a_dashboard_without_its_library_names_what_to_install(
    manifest: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("scalable.providers.local.find_spec", lambda name: None)
    with pytest.raises(MissingExtra, match=r"pip install 'scalable-workflows\[dashboard\]'"):
        ScalableSession.from_yaml(manifest(WITH_DASHBOARD), target="threads").start()


@pytest.mark.filterwarnings("ignore:Port 8787 is already in use:UserWarning")
def test_a_dashboard_is_there_where_it_is_asked_for_and_only_there(manifest: Write) -> None:
    with ScalableSession.from_yaml(manifest(WITH_DASHBOARD), target="threads") as session:
        link = session.start().dask.dashboard_link
        with urllib.request.urlopen(link, timeout=30) as page:
            assert b"bokeh" in page.read().lower()
    with ScalableSession.from_yaml(manifest(), target="threads") as session:
        link = session.start().dask.dashboard_link
        with pytest.raises(urllib.error.HTTPError):
            urllib.request.urlopen(link, timeout=30)


def pages() -> list[str]:
    return [f"http://127.0.0.1:{get_worker().http_server.port}/{page}" for page in ("info/main.html", "metrics")]


@pytest.mark.slow
@pytest.mark.parametrize("target", ["threads", "processes"])
def test_without_a_dashboard_neither_scheduler_nor_workers_serve_pages(manifest: Write, target: str) -> None:
    with ScalableSession.from_yaml(manifest(), target=target) as session:
        client = session.start()
        base = client.dask.dashboard_link.rpartition("/")[0]
        served = [f"{base}/info/main/workers.html", f"{base}/json/index.html", f"{base}/metrics"]
        for url in served + client.submit(pages, tag="simulate").result(timeout=60):
            with pytest.raises(urllib.error.HTTPError, match="404") as refused:
                urllib.request.urlopen(url, timeout=30)
            refused.value.close()


def test_a_worker_that_leaves_before_it_hears_of_it_is_no_error(
    manifest: Write, caplog: pytest.LogCaptureFixture
) -> None:
    logger = logging.getLogger("distributed.worker")
    logger.addHandler(caplog.handler)
    try:
        with ScalableSession.from_yaml(manifest(MANIFEST), target="threads") as session:
            session.start()
            assert session._run is not None
            cluster = session._run.cluster
            session._run.controller.stop()
            tag = next(name for name, pool in cluster.pools.items() if pool.members)
            cluster.soon(cluster.scale, {tag: 0}, "by hand")
            give_up = time.monotonic() + 30
            while cluster.pools[tag].members:
                assert time.monotonic() < give_up
                time.sleep(0.02)
    finally:
        logger.removeHandler(caplog.handler)
    assert [record.message for record in caplog.records if record.levelno >= logging.ERROR] == []


def test_a_shell_script_gives_its_environment(tmp_path: Path) -> None:
    script = tmp_path / "my set'up.sh"
    script.write_text("echo loading\nexport GCAM_HOME='/opt/g c'\nexport MULTI=$'a\\nb'\n")
    found = _sourced(script)
    assert found["GCAM_HOME"] == "/opt/g c"
    assert found["MULTI"] == "a\nb"
    assert "PATH" not in found


def test_a_shell_script_that_fails_is_an_error_with_its_words(tmp_path: Path) -> None:
    script = tmp_path / "setup.sh"
    script.write_text("echo no such module >&2\nexit 4\n")
    with pytest.raises(ProviderError, match=r"exited with 4: no such module"):
        _sourced(script)


@pytest.mark.slow
def test_a_preload_is_run_by_each_worker_before_its_first_task(manifest: Write, tmp_path: Path) -> None:
    (tmp_path / "setup.sh").write_text("export LICENCE=found\n")
    (tmp_path / "setup.py").write_text("import os\nos.environ['FROM_PYTHON'] = 'yes'\n")
    text = MANIFEST.replace("{cpus: 1, memory: 1G,", f"{{cpus: 1, memory: 1G, preload_script: {tmp_path}/setup.sh,")
    text = text.replace("{cpus: 2,", f"{{preload_script: {tmp_path}/setup.py, cpus: 2,")
    with ScalableSession.from_yaml(manifest(text), target="processes") as session:
        client = session.start()
        assert client.submit(setting, "LICENCE", tag="simulate").result() == "found"
        assert client.submit(setting, "LICENCE", tag="postprocess").result() is None
        assert client.submit(setting, "FROM_PYTHON", tag="postprocess").result() == "yes"


@pytest.mark.slow
def test_a_task_that_needs_more_memory_than_its_worker_has_fails_and_others_go_on(manifest: Write) -> None:
    text = MANIFEST.replace("memory: 1G", "memory: 300M")
    with ScalableSession.from_yaml(manifest(text), target="processes") as session:
        client = session.start()
        greedy = client.submit(_hold, 600 * 2**20, tag="simulate")
        assert client.submit(_hold, 1000, tag="postprocess").result() == 1000
        with pytest.raises(TaskOutOfMemory, match="ran out of memory") as caught:
            greedy.result(timeout=120)
        assert caught.value.asked == 300 * 2**20
        assert caught.value.peak > 0.8 * caught.value.asked
        assert client.submit(_hold, 1000, tag="simulate").result(timeout=60) == 1000


def _hold(n: int) -> int:
    import time

    block = bytearray(n)
    for i in range(0, n, 4096):
        block[i] = 1
    time.sleep(1.5)
    return len(block)
