"""Settings come from the environment, once, and a bad value is one clear error."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError

from scalable.errors import ScalableError
from scalable.settings import Settings


def test_without_variables_the_defaults_hold() -> None:
    assert Settings.from_environ({}) == Settings(
        target=None,
        manifest=Path("scalable.yaml"),
        runs_dir=Path(".scalable/runs"),
        telemetry=True,
        log_level="warning",
    )


def test_each_variable_sets_its_field() -> None:
    environ = {
        "SCALABLE_TARGET": "hpc",
        "SCALABLE_MANIFEST": "a/b.yaml",
        "SCALABLE_RUNS_DIR": "~/runs",
        "SCALABLE_TELEMETRY": "OFF",
        "SCALABLE_LOG_LEVEL": "DEBUG",
        "SCALABLE_SOMETHING_ELSE": "x",
    }
    assert Settings.from_environ(environ) == Settings(
        target="hpc",
        manifest=Path("a/b.yaml"),
        runs_dir=Path("~/runs").expanduser(),
        telemetry=False,
        log_level="debug",
    )


def test_the_process_environment_is_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SCALABLE_TARGET", "from-here")
    assert Settings.from_environ().target == "from-here"


def test_an_empty_value_counts_as_not_set() -> None:
    assert Settings.from_environ({"SCALABLE_TARGET": "", "SCALABLE_TELEMETRY": " "}) == Settings()


@pytest.mark.parametrize(("word", "on"), [("on", True), ("1", True), ("Yes", True), ("false", False), ("0", False)])
def test_telemetry_is_switched_by_the_usual_words(word: str, on: bool) -> None:
    assert Settings.from_environ({"SCALABLE_TELEMETRY": word}).telemetry is on


def test_bad_values_are_named_together_in_one_error() -> None:
    with pytest.raises(ScalableError) as caught:
        Settings.from_environ(
            {"SCALABLE_TELEMETRY": "maybe", "SCALABLE_LOG_LEVEL": "warn", "SCALABLE_RUNS_DIR": "a\0b"}
        )
    assert str(caught.value) == (
        "bad settings in the environment: "
        "SCALABLE_RUNS_DIR='a\\x00b': a path cannot hold a NUL character; "
        "SCALABLE_TELEMETRY='maybe': must be on or off; "
        "SCALABLE_LOG_LEVEL='warn': must be one of debug, info, warning, error, critical; did you mean 'warning'?"
    )


def test_settings_cannot_be_changed() -> None:
    with pytest.raises(ValidationError):
        Settings().target = "x"  # type: ignore[misc]
