"""The runner hands on whether the advice of past runs is wanted."""

from __future__ import annotations

from typing import Any

import pytest

from scalable_prefect import ScalableTaskRunner, runner


def test_a_runner_and_its_duplicates_ask_for_advice_or_leave_it_to_the_manifest(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[Any] = []

    class Session:
        @classmethod
        def from_yaml(cls, path: object, **options: Any) -> None:
            asked.append(options["advise"])

    monkeypatch.setattr(runner, "ScalableSession", Session)
    monkeypatch.setattr(runner, "SessionBackend", lambda *_, **__: None)
    for advise in (True, False, None):
        made = ScalableTaskRunner(advise=advise)
        twin = made.duplicate()
        assert twin == made
        twin._backend()
    assert asked == [True, False, None]
    assert ScalableTaskRunner(advise=True) != ScalableTaskRunner()
