"""`scalable deploy prefect`: what is refused, and what it needs."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from scalable.cli import main
from tests.cli.deploy.project import edit

pytestmark = pytest.mark.engine


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"flow": "flow.py"}, "--flow 'flow.py' names no function: write it as FILE.py:FUNCTION"),
        ({"flow": "none.py:pipeline"}, "--flow: there is no file none.py"),
        ({"flow": "flow.py:pipelin"}, "has no flow 'pipelin' at its top level; did you mean 'pipeline'?"),
        ({"flow": "plain.py:plain"}, "'plain' in plain.py, line 1, is no flow; put @flow above it"),
        ({"flow": "broken.py:x"}, "--flow: broken.py, line 1 is not Python"),
        ({"target": "hpcc"}, "--target: scalable.yaml has no target 'hpcc'; did you mean 'hpc'?"),
        ({"param": "count"}, "--param 'count' must be name=value"),
        ({"param": "cout=1"}, "the flow 'pipeline' has no parameter 'cout'; did you mean 'count'?"),
        ({"concurrency-limit": "0"}, "--concurrency-limit must be 1 or more, not 0"),
        ({"cron": "0 6 * *"}, "--cron '0 6 * *', --timezone UTC: "),
        ({"cron": "0 6 * * 1", "timezone": "Mars/Base"}, "--timezone Mars/Base: "),
        ({"cron": "0 6 * * 1", "interval": "1h"}, "give --cron or --interval, not both"),
        ({"timezone": "Europe/Berlin"}, "--timezone belongs to --cron; give both"),
        ({"interval": "often"}, "--interval 'often': "),
        ({"work-pool": "hpcc=x"}, "--work-pool 'hpcc=x': write a name, or target=name; did you mean 'hpc'?"),
    ],
)
def test_what_cannot_be_is_refused_by_one_line(
    here: Path, capsys: pytest.CaptureFixture[str], options: dict[str, str], message: str
) -> None:
    (here / "plain.py").write_text("def plain(): ...\n")
    (here / "broken.py").write_text("def (\n")
    given = {"flow": "flow.py:pipeline"} | options
    assert main(["deploy", "prefect", *(word for name, one in given.items() for word in (f"--{name}", one))]) == 1
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert not (here / "prefect.yaml").exists()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("- a\n- b\n", "prefect.yaml is not a mapping; it needs `deployments:` at the top"),
        ("deployments: {a: b}\n", "has `deployments` that are not a list"),
        ("deployments:\n- name: a\n- b\n", "has a deployment that is not a mapping: number 2"),
        ("name: a\nname: b\n", "is not YAML in line 2"),
        ("name: [a\n", "is not YAML in line 2"),
        ("name: a\n---\nname: b\n", "is not YAML"),
        ("name: \udcff\n", "prefect.yaml is not UTF-8 text"),
    ],
)
def test_a_file_that_is_no_prefect_yaml_is_refused_and_left(
    here: Path, capsys: pytest.CaptureFixture[str], text: str, message: str
) -> None:
    data = text.encode("utf-8", "surrogateescape")
    (here / "prefect.yaml").write_bytes(data)
    assert main(["deploy", "prefect", "--flow", "flow.py:pipeline"]) == 1
    error = capsys.readouterr().err
    assert message in error
    assert error.endswith("nothing was written\n")
    assert (here / "prefect.yaml").read_bytes() == data


def test_a_manifest_that_is_wrong_is_told_in_its_own_words(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    edit("cpus: 1.5", "cpu: 1.5", "scalable.yaml")
    assert main(["deploy", "prefect", "--flow", "flow.py:pipeline"]) == 2
    assert "components.default.cpu: unknown key 'cpu'" in capsys.readouterr().err


def without(module: str, *options: str) -> subprocess.CompletedProcess[str]:
    """Run the command where a library cannot be imported."""
    arguments = ["deploy", "prefect", "--flow", "flow.py:pipeline", *options]
    code = f"import sys; sys.modules[{module!r}] = None; from scalable.cli import main; sys.exit(main({arguments!r}))"
    return subprocess.run([sys.executable, "-c", code], env=os.environ, capture_output=True, text=True, check=False)


def test_it_works_where_prefect_cannot_be_imported_and_says_what_installs_what_it_needs(here: Path) -> None:
    assert without("prefect").returncode == 0
    assert (here / "prefect.yaml").exists()
    missing = without("ruamel.yaml")
    assert missing.returncode == 6
    assert "pip install 'scalable-workflows[prefect]'" in missing.stderr
    assert "Traceback" not in missing.stderr
