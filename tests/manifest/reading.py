"""How the tests of this folder write a manifest and look at what became of it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest

from scalable.errors import Issue, ManifestInvalid, ManifestSyntax
from scalable.manifest import Manifest, load
from scalable.providers.registry import catalogue

HEAD = "version: 1\nproject: {name: tests}\n"
BASE = HEAD + "targets:\n  local: {provider: local}\n"


def read(text: str, *, environ: Mapping[str, str] | None = None, **options: Any) -> Manifest:
    """Load a manifest from text, as the file scalable.yaml here."""
    path = Path("scalable.yaml")
    path.write_bytes(dedent(text).encode())
    return load(path, catalogue=catalogue, environ=environ or {}, **options)


def problems(text: str, **options: Any) -> tuple[Issue, ...]:
    """Return all issues of a manifest; the warnings if there is nothing else."""
    try:
        return read(text, **options).warnings
    except (ManifestInvalid, ManifestSyntax) as error:
        return error.issues


def lines(text: str, **options: Any) -> list[str]:
    """Return the issues as they are printed."""
    return [str(issue) for issue in problems(text, **options)]


def codes(text: str, **options: Any) -> list[str]:
    """Return the codes of the issues."""
    return [issue.code for issue in problems(text, **options)]


def only(text: str, **options: Any) -> Issue:
    """Return the one issue of a manifest."""
    found = problems(text, **options)
    if len(found) != 1:
        pytest.fail(f"one issue expected: {found}")
    return found[0]
