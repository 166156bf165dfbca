"""The tests that Snakemake has for every executor plugin."""

from __future__ import annotations

from pathlib import Path

import pytest
import snakemake.common.tests
from snakemake_interface_executor_plugins.settings import ExecutorSettingsBase

from scalable_snakemake.settings import ExecutorSettings

pytestmark = pytest.mark.slow


class TestWorkflows(snakemake.common.tests.TestWorkflowsLocalStorageBase):
    """A workflow with plain jobs and one with groups, through Snakemake's programming interface."""

    __test__ = True

    @pytest.fixture(autouse=True)
    def a_manifest(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        manifest = tmp_path / "scalable.yaml"
        manifest.write_text(
            "version: 1\n"
            "project: {name: official}\n"
            "targets: {local: {provider: local, max_workers: 1, processes: true}}\n"
            "components: {all: {cpus: 3}}\n"
        )
        monkeypatch.setenv("SCALABLE_MANIFEST", str(manifest))
        monkeypatch.setenv("SCALABLE_RUNS_DIR", str(tmp_path / "runs"))

    def get_executor(self) -> str:
        return "scalable"

    def get_executor_settings(self) -> ExecutorSettingsBase | None:
        return ExecutorSettings(target="local")
