"""The pages for Prefect's users do what they say."""

from __future__ import annotations

import difflib
import inspect
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

import pytest
from prefect_dask import DaskTaskRunner

from scalable.cli import main
from scalable_prefect import ScalableTaskRunner, events
from tests.pages import ROOT, block

TUTORIAL = (ROOT / "docs/tutorial/prefect.md").read_text(encoding="utf-8")
MIGRATION = (ROOT / "docs/how-to/migrate-from-dasktaskrunner.md").read_text(encoding="utf-8")
REFERENCE = (ROOT / "docs/reference/prefect.md").read_text(encoding="utf-8")

Run = Callable[..., str]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """Run a command where files of the user's are, and return what it prints."""

    def there(files: Mapping[str, str], *command: str) -> str:
        for name, text in files.items():
            (tmp_path / name).write_text(text)
        done = subprocess.run(
            [sys.executable, *command], cwd=tmp_path, env=os.environ, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    return there


def rows(page: str, heading: str) -> list[list[str]]:
    """Return the cells of the first table below a heading, without its head."""
    after = page.split(f"\n## {heading}\n", 1)[1]
    table = after.split("\n\n| ", 1)[1].split("\n\n", 1)[0].splitlines()[2:]
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in table]


def quoted(text: str) -> list[str]:
    return re.findall(r"`([^`]+)`", text)


@pytest.mark.slow
def test_the_tutorials_manifest_and_flow_print_what_it_says(server: str, run: Run) -> None:
    files = {"scalable.yaml": block(TUTORIAL, "yaml"), "flow.py": block(TUTORIAL, "python", "import")}
    said = block(TUTORIAL, "console", "python flow.py")
    assert f"$ python flow.py\n{run(files, 'flow.py')}" == said


@pytest.mark.slow
def test_the_tutorials_flow_does_the_same_with_an_objective(server: str, run: Run) -> None:
    plain, sized = block(TUTORIAL, "python", "import"), block(TUTORIAL, "python", "objective=").strip()
    with_objective = re.sub(r"^@flow\(.*\)$", sized, plain, flags=re.MULTILINE)
    assert with_objective != plain
    output = run({"scalable.yaml": block(TUTORIAL, "yaml"), "flow.py": with_objective}, "flow.py")
    assert output in block(TUTORIAL, "console", "python flow.py")


def test_the_tutorials_deployment_is_written_as_it_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "scalable.yaml").write_text(block(TUTORIAL, "yaml"))
    (tmp_path / "flow.py").write_text(block(TUTORIAL, "python", "import"))
    monkeypatch.chdir(tmp_path)
    command, said = block(TUTORIAL, "console", "scalable deploy").split("\n", 1)
    assert main(shlex.split(command)[2:]) == 0
    assert capsys.readouterr().out == said


def test_only_the_runner_changes_in_the_migrated_flow() -> None:
    before, after = block(MIGRATION, "python", "import DaskTaskRunner"), block(MIGRATION, "python", "Runner())")
    changed = [line for line in difflib.ndiff(before.splitlines(), after.splitlines()) if line[0] in "+-"]
    words = ("DaskTaskRunner", "ScalableTaskRunner")
    assert [any(word in line for word in words) for line in changed if len(line) > 2] == [True] * 4


@pytest.mark.slow
def test_the_migrated_flow_runs(server: str, run: Run) -> None:
    files = {"scalable.yaml": block(MIGRATION, "yaml"), "flow.py": block(MIGRATION, "python", "Runner())")}
    assert run(files, "flow.py") == "[0, 2, 4, 1]\n"


def test_the_migration_page_has_every_argument_of_dasks_runner() -> None:
    theirs = set(inspect.signature(DaskTaskRunner).parameters)
    named = {re.split(r"\W", word)[0] for row in rows(MIGRATION, "Arguments") for word in quoted(row[0])}
    assert theirs <= named


def test_arguments_that_are_the_manifests_here_are_refused_and_the_others_taken() -> None:
    for name in inspect.signature(DaskTaskRunner).parameters:
        if name == "performance_report_path":
            assert ScalableTaskRunner(performance_report_path="report.html").performance_report_path == "report.html"
        else:
            with pytest.raises(TypeError, match=f"{name}.*(session|target|connects)"):
                ScalableTaskRunner(**{name: None})  # type: ignore[arg-type]


def test_the_migration_pages_task_with_a_dask_client_computes(server: str, tmp_path: Path) -> None:
    from prefect import flow

    names: dict[str, Any] = {}
    exec(block(MIGRATION, "python", "get_dask_client"), names)
    manifest = tmp_path / "scalable.yaml"
    # The only slot is the task's own.
    manifest.write_text("version: 1\nproject: {name: x}\ntargets: {here: {provider: local}}\n")

    @flow(task_runner=ScalableTaskRunner(manifest))
    def adding() -> int:
        result: int = names["total"].submit(4).result()
        return result

    assert adding() == 1 + 2 + 3 + 4


def test_the_reference_has_what_each_event_says(monkeypatch: pytest.MonkeyPatch) -> None:
    emitted: dict[str, set[str]] = {}
    monkeypatch.setattr(events, "emit_event", lambda kind, *, payload, **_: emitted.update({kind: set(payload)}))
    flow_run: Any = SimpleNamespace(id=uuid4(), name="run", flow_id=uuid4(), deployment_id=None)
    said = rows(REFERENCE, "Events")
    kinds = [quoted(row[0])[0] for row in said]
    record = _Anything(at=0.0, ended_at=0.0, tag="pool", component="pool", key="task", reason="why")
    events.Events(flow_run, {}).emit("run", [events.Heard(kind, record) for kind in kinds])
    assert emitted == {kind: {"pool", "count", *quoted(row[1])} for kind, row in zip(kinds, said, strict=True)}


class _Anything(dict[str, Any]):
    def __missing__(self, name: str) -> str:
        return "something"
