"""Libraries of optional parts: there, or a line for pip."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from scalable.errors import MissingExtra
from scalable.extras import require


def test_a_library_that_is_there_is_returned() -> None:
    assert require("ml", "json") is json
    assert require("ml", "os.path").join("a", "b") == str(Path("a") / "b")


def test_a_library_that_is_not_installed_names_the_line_for_pip(monkeypatch: pytest.MonkeyPatch) -> None:
    # A part of it that something imported before does not make up for the whole.
    assert require("ml", "wsgiref.util")
    monkeypatch.setitem(sys.modules, "wsgiref", None)
    with pytest.raises(MissingExtra, match=r"wsgiref .*pip install 'scalable-workflows\[ml\]'"):
        require("ml", "wsgiref.util")
    with pytest.raises(MissingExtra) as caught:
        require("ml", "no_such_library.part")
    assert str(caught.value) == "no_such_library is not installed: pip install 'scalable-workflows[ml]'"
    assert caught.value.exit_code == 6


@pytest.mark.parametrize("body", ["import no_such_library", "raise ImportError('libgomp.so.1: cannot open')"])
def test_a_library_that_is_broken_says_what_it_lacks(
    body: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "broken_library.py").write_text(body)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(MissingExtra, match=r"broken_library cannot be imported \(.*(no_such_library|libgomp).*\): pip"):
        require("ml", "broken_library")
