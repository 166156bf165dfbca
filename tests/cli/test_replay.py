"""``scalable replay``: what another policy would have decided."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from scalable import ScalableSession
from scalable.cli import main
from tests.conftest import MANIFEST, records

ADAPTIVE = MANIFEST.replace("max_workers: 3}", "adaptive: {maximum: 4}, scaling: {interval: 0.1}}")


def nap(_: object) -> None:
    time.sleep(0.05)


@pytest.fixture
def run_dir(manifest: Callable[..., Path]) -> Path:
    with ScalableSession.from_yaml(manifest(ADAPTIVE), target="threads") as session:
        client = session.start()
        client.gather(client.map(nap, range(20), tag="simulate"))
        assert session.run_dir is not None
    return session.run_dir


def test_the_same_policy_decides_the_same_once_more(run_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["replay", "--policy", "predictive", "--objective", "minimize time", "--format", "json"]) == 0
    looks = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert any(look["was"] for look in looks)
    assert [look["would"] for look in looks] == [look["was"] for look in looks]


def test_another_policy_is_told_beside_what_was(run_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["replay", run_dir.name, "--policy", "vanilla", "--set", "upper_task_ratio=1000"]) == 0
    out = capsys.readouterr().out
    assert "was +" in out
    assert out.splitlines()[-1].startswith(run_dir.name)
    assert "with vanilla more at" in out


def test_a_run_can_be_named_by_its_directory(run_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["replay", str(run_dir), "--policy", "no"]) == 0
    assert "with no more at 0, fewer at 0" in capsys.readouterr().out


def test_looks_are_on_record_with_what_was_decided(run_dir: Path) -> None:
    events = [record["event"] for record in records(run_dir, "scaling")]
    assert events[0] == "infos"
    assert {"observation", "scale_decision"} <= set(events)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--policy", "vanila"], "did you mean"),
        (["--policy", "vanilla", "--set", "upper"], "NAME=VALUE"),
        (["--policy", "vanilla", "--set", "uper=3"], "there is no parameter of scaling policy 'vanilla' 'uper'"),
    ],
)
def test_what_cannot_be_is_said(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["replay", *arguments]) != 0
    assert message in capsys.readouterr().err


def test_lines_that_cannot_be_used_are_counted_beside_the_rest(
    run_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with (run_dir / "scaling.jsonl").open("a") as file:
        file.write('{"event": "scale_decision", "at": 1, "tag": "simulate"}\n')
    assert main(["replay", "--policy", "no"]) == 0
    assert "1 lines cannot be used" in capsys.readouterr().err
