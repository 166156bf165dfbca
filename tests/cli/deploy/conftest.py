from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from scalable.cli import main
from tests.cli.deploy.project import FLOW, MANIFEST, Deploy


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    project = tmp_path / "study"
    project.mkdir()
    monkeypatch.chdir(project)
    monkeypatch.delenv("SCALABLE_MANIFEST", raising=False)
    Path("scalable.yaml").write_text(MANIFEST)
    Path("flow.py").write_text(FLOW)
    return project


@pytest.fixture
def deploy(here: Path) -> Deploy:
    """Run the command; return the deployments as Prefect reads them, by PyYAML."""

    def run(*options: str, flow: str = "flow.py:pipeline") -> list[dict[str, Any]]:
        assert main(["deploy", "prefect", "--flow", flow, *options]) == 0
        found: list[dict[str, Any]] = yaml.safe_load(Path("prefect.yaml").read_text())["deployments"]
        return found

    return run
