"""``scalable plan``, and ``scalable run`` of what it printed."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from scalable.cli import main

Write = Callable[..., Path]


@pytest.fixture
def workflow(tmp_path: Path) -> Path:
    path = tmp_path / "workflow.py"
    path.write_text("print(session.run_dir, client.submit(abs, -1, tag='simulate').result())\n")
    return path


def test_plan_shows_time_cost_choices_and_reasons(manifest: Write, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", str(manifest()), "--target", "processes", "--objective", "minimize time"]) == 0
    lines = dict(line.split(": ", 1) for line in capsys.readouterr().out.splitlines() if ": " in line)
    assert lines["Objective"] == "minimize time (policy: safe)"
    assert lines["  simulate"].startswith("2 x ")
    assert "core-hours" in lines["Cost"]
    assert lines["Why"].startswith("the fastest")
    assert lines["Limited by"] == "the workers there can be (of all pools together)"
    assert len(lines["Fingerprint"]) == 64


def test_the_choices_are_a_table_with_a_mark_at_the_one_that_was_taken(
    manifest: Write, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["plan", str(manifest()), "--target", "processes", "--objective", "balance"]) == 0
    printed = capsys.readouterr().out.splitlines()
    table = printed[printed.index("Choices, the fastest first:") + 1 : -1]
    assert table[0].split() == ["TIME", "COST", "SIMULATE", "POSTPROCESS"]
    (own,) = [line.split() for line in table if line.endswith("<")]
    assert next(line for line in printed if line.startswith("  simulate: ")).split()[1] == own[2]


def test_bounds_of_the_command_line_go_before_those_of_the_manifest(
    manifest: Write, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = ["plan", str(manifest()), "--target", "processes", "--objective", "minimize cost"]
    assert main([*asked, "--deadline-hours", "0.005"]) == 3
    assert "deadline_hours 0.005 is missed by" in capsys.readouterr().err
    assert main([*asked, "--deadline-hours", "1", "--format", "json"]) == 0
    assert json.loads(capsys.readouterr().out)["objectives"] == {"budget_usd": None, "deadline_hours": 1.0}


def test_the_front_is_drawn_where_that_is_possible(
    manifest: Write, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = ["plan", str(manifest()), "--target", "processes", "--objective", "balance", "--plot"]
    assert main([*asked, str(tmp_path / "front.svg")]) == 0
    assert (tmp_path / "front.svg").read_text().startswith("<svg")
    assert main([*asked, str(tmp_path / "front.pdf")]) == 3
    assert "give it a name that ends in .svg" in capsys.readouterr().err


def test_a_run_follows_a_plan_to_the_letter(
    manifest: Write, tmp_path: Path, workflow: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = ["plan", str(manifest()), "--target", "threads", "--objective", "minimize cost", "--deadline-hours", "1"]
    assert main([*asked, "--format", "json"]) == 0
    plan = tmp_path / "plan.json"
    plan.write_text(capsys.readouterr().out)
    assert main(["run", str(manifest()), "--plan", str(plan), "--workflow", str(workflow)]) == 0
    directory, one = capsys.readouterr().out.split()
    assert one == "1"
    assert json.loads((Path(directory) / "plan.json").read_text()) == json.loads(plan.read_text())


def test_a_plan_for_something_else_is_refused_before_anything_starts(
    manifest: Write, tmp_path: Path, workflow: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["plan", str(manifest()), "--target", "threads", "--format", "json"]) == 0
    plan = tmp_path / "plan.json"
    plan.write_text(capsys.readouterr().out)
    run = ["run", str(manifest()), "--plan", str(plan), "--workflow", str(workflow)]
    assert main([*run, "--target", "processes"]) == 3
    assert "for target 'threads', this is target 'processes'" in capsys.readouterr().err
    assert main([*run, "--objective", "balance"]) == 3
    assert "leave --objective out" in capsys.readouterr().err
    text = manifest().read_text().replace("cpus: 1", "cpus: 3")
    assert main([*run[:1], str(manifest(text)), *run[2:]]) == 3
    assert "it was changed since, or is another one; plan again" in capsys.readouterr().err
    assert not (tmp_path / "runs").exists()


def test_a_run_can_be_sized_without_a_file(manifest: Write, workflow: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = ["run", str(manifest()), "--target", "threads", "--workflow", str(workflow)]
    assert main([*run, "--objective", "minimize time", "--policy", "aggressive"]) == 0
    directory = Path(capsys.readouterr().out.split()[0])
    plan = json.loads((directory / "plan.json").read_text())
    assert (plan["objective"], plan["policy"]) == ("minimize time", "aggressive")
