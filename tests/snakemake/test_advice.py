"""The flag hands on whether the advice of past runs is wanted."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from scalable_snakemake import run
from scalable_snakemake.settings import ExecutorSettings, _absolute_file


def test_without_the_flag_the_manifest_decides(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []

    class Session:
        spec = route = threads = None

        @classmethod
        def from_yaml(cls, path: object, **options: Any) -> type[Session]:
            asked.append(options["advise"])
            return cls

    monkeypatch.setattr(run, "ScalableSession", Session)
    for settings in (ExecutorSettings(), ExecutorSettings(advise=True)):
        run.Run(settings)
    assert asked == [None, True]


def test_an_overlays_file_is_meant_from_where_the_user_stands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "advice.yaml").touch()
    assert _absolute_file("advice.yaml") == str(tmp_path / "advice.yaml")
    assert _absolute_file("large") == "large"
    # The manifest may have an overlay of that name.
    assert _absolute_file("large.yaml") == "large.yaml"
