"""A manifest that Prefect's server keeps."""

from __future__ import annotations

import importlib.metadata
import subprocess
import sys
from pathlib import Path
from uuid import uuid4

import pytest
from prefect import flow, task
from pydantic import ValidationError

from scalable.errors import ManifestError
from scalable_prefect import ScalableManifest, ScalableTaskRunner
from tests.prefect.conftest import MANIFEST


@task
def double(x: int) -> int:
    return 2 * x


def test_a_flow_runs_with_the_manifest_that_the_server_keeps(server: str, manifest_path: Path) -> None:
    name = f"kept-{uuid4().hex[:8]}"
    ScalableManifest.from_file(manifest_path).save(name)
    manifest_path.unlink()

    @flow(task_runner=ScalableTaskRunner(manifest=ScalableManifest.load(name), target="threads"))
    def study() -> list[int]:
        return double.map(range(3)).result()

    assert study() == [0, 2, 4]


def test_a_block_says_which_lines_of_its_manifest_are_wrong() -> None:
    wrong = MANIFEST.replace("default: {cpus: 1", "default: {cpu: 1").replace("memory: 1G, tags", "memory: lots, tags")

    with pytest.raises(ValidationError) as caught:
        ScalableManifest(text=wrong)

    assert "manifest:7:13 components.default.cpu: unknown key 'cpu'; did you mean 'cpus'?" in str(caught.value)
    assert "manifest:8:" in str(caught.value)


def test_variables_need_no_value_where_the_block_is_made(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("STUDY", raising=False)
    block = ScalableManifest(text=MANIFEST.replace("name: flows", 'name: "${STUDY}"'))

    with pytest.raises(ManifestError, match=r"manifest:2:\d+ .*STUDY"):
        block.session(target="threads")
    monkeypatch.setenv("STUDY", "solar")

    assert block.session(target="threads").spec.project == "solar"


def test_a_file_that_is_wrong_is_named(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text("version: 1\nproject: [")

    with pytest.raises(ManifestError, match=r"mine\.yaml:\d+:"):
        ScalableManifest.from_file(tmp_path / "mine.yaml")
    with pytest.raises(ManifestError, match=r"none\.yaml"):
        ScalableManifest.from_file(tmp_path / "none.yaml")


@pytest.mark.slow
def test_prefect_registers_the_block_by_the_package_and_finds_it_by_itself(server: str) -> None:
    command = [sys.executable, "-m", "prefect", "block", "register", "-m", "scalable_prefect"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)

    assert "Scalable Manifest" in done.stdout
    (entry,) = (one for one in importlib.metadata.entry_points(group="prefect.collections") if "scalable" in one.name)
    assert entry.load().ScalableManifest is ScalableManifest
