"""`scalable deploy`: engines bring their own commands."""

from __future__ import annotations

from importlib.metadata import EntryPoint, EntryPoints

import pytest
from cyclopts import App

from scalable.cli import app
from scalable.cli.deploy import ENTRY_POINTS, engines


def test_a_command_is_what_the_entry_point_names_and_another_that_is_broken_takes_nothing_from_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    found = EntryPoints([EntryPoint("good", "tests.cli.deploy.test_engines:good", ENTRY_POINTS),
                         EntryPoint("bad", "no_such_module:bad", ENTRY_POINTS)])  # fmt: skip
    monkeypatch.setattr("importlib.metadata.entry_points", lambda group: found.select(group=group))
    command = App(result_action="return_value")
    command.command(engines())
    assert command(["deploy", "good", "--flow", "x"]) == "deployed x"


def good(*, flow: str) -> str:
    return f"deployed {flow}"


@pytest.mark.engine
def test_prefects_is_installed_with_the_distribution(capsys: pytest.CaptureFixture[str]) -> None:
    app()(["deploy"])
    assert "prefect" in capsys.readouterr().out
