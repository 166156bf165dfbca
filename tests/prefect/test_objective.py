"""The runner hands on what its pools are to be sized for."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from scalable_prefect import ScalableTaskRunner, runner
from scalable_prefect.backends import SessionBackend


def test_a_runner_and_its_duplicates_know_objective_and_policy(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []
    monkeypatch.setattr(runner, "ScalableSession", SimpleNamespace(from_yaml=lambda *_, **__: None))
    monkeypatch.setattr(runner, "SessionBackend", lambda *_, **options: asked.append(options))
    made = ScalableTaskRunner(objective="minimize cost", policy="aggressive")
    assert made.duplicate() == made
    assert made != ScalableTaskRunner()
    made.duplicate()._backend()
    (told,) = asked
    assert (told["owned"], told["objective"], told["policy"]) == (True, "minimize cost", "aggressive")


@pytest.mark.parametrize(("objective", "started"), [("balance", "a plan"), (None, None)])
def test_the_session_is_planned_only_if_that_was_asked_for(
    monkeypatch: pytest.MonkeyPatch, objective: str | None, started: str | None
) -> None:
    seen: list[Any] = []

    class StartedError(Exception):
        pass

    class Session:
        def plan(self, **options: Any) -> str:
            assert options == {"objective": objective, "policy": None, "tasks": [], "partial": True}
            return "a plan"

        def start(self, plan: str | None) -> None:
            seen.append(plan)
            raise StartedError

    monkeypatch.setattr("scalable_prefect.backends.Signposts", SimpleNamespace(of=lambda _: None))
    backend: Any = SessionBackend(Session(), owned=True, objective=objective)  # type: ignore[arg-type]
    with pytest.raises(StartedError):
        backend.open(lambda **_: None, [])
    assert seen == [started]
