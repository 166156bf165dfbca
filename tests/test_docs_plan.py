"""The page on plans does what it says."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable
from pathlib import Path

import pytest

from scalable.cli import main
from tests.pages import ROOT, block

PAGE = (ROOT / "docs/how-to/plan-a-run.md").read_text(encoding="utf-8")


@pytest.fixture
def there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "scalable.yaml").write_text(block(PAGE, "yaml"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def printed(there: Path, capsys: pytest.CaptureFixture[str]) -> Callable[[str], str]:
    def run(command: str, code: int = 0) -> str:
        assert main(shlex.split(command.partition(" > ")[0])[1:]) == code
        found = capsys.readouterr()
        return found.err if code else found.out

    return run


def commands() -> list[str]:
    blocks = re.findall(r"```console\n(.*?)```", PAGE, re.DOTALL)
    return [line.removeprefix("$ ") for text in blocks for line in text.splitlines() if " plan " in line]


def test_the_commands_plan_as_the_page_says(there: Path, printed: Callable[..., str]) -> None:
    *possible, impossible, _ = commands()
    shown = [printed(command) for command in possible]
    assert (there / "front.svg").is_file()
    own = block(PAGE, "text").splitlines()
    assert [line.split(":")[0] for line in shown[1].splitlines()[: len(own)]] == [line.split(":")[0] for line in own]
    for line, said in zip(shown[1].splitlines(), own, strict=False):
        assert re.sub(r"\d+", "N", line.split("(")[0]) == re.sub(r"\d+", "N", said.split("(")[0]) or "Cost" in line
    assert "deadline_hours 0.2 is missed by" in printed(impossible, code=3)


def test_the_scripts_run(there: Path, capsys: pytest.CaptureFixture[str]) -> None:
    exec(block(PAGE, "python", "ScalableSession"), {})
    assert capsys.readouterr().out.startswith("Workers: {'simulate': ResourceRequest(cpus=4, memory='16G'), count=")
    exec(block(PAGE, "python", "PoolModel"), {})
    assert "demeter" in capsys.readouterr().out
