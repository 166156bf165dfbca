"""A manifest's targets, with variables left for ``prefect deploy`` to fill in."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from scalable import ScalableSession
from scalable.errors import ManifestInvalid, ScalableError, did_you_mean

__all__ = ["Targets", "read_targets"]

_VARIABLE = re.compile(r"(?<!\$)\$\{([A-Za-z_][A-Za-z0-9_]*)(:-)?", re.ASCII)


@dataclass(frozen=True, slots=True)
class Targets:
    """What is to run on each target.

    Attributes
    ----------
    sessions : mapping of str to ScalableSession
        A run on each, not started, by name, in the manifest's order.
    unusable : mapping of str to str
        Targets that cannot be read on this machine, and why.
    """

    sessions: Mapping[str, ScalableSession]
    unusable: Mapping[str, str] = field(default_factory=dict)


def read_targets(manifest: Path, only: Sequence[str] = ()) -> Targets:
    """Read targets so that nothing of the environment gets into what is made of them.

    In place of a variable's value stands ``{{ $NAME }}``, which ``prefect deploy`` fills in.
    Only where no text can stand, as for a number, it is the value. A variable with a default that
    is not set is its default.

    Parameters
    ----------
    manifest : Path
        The manifest.
    only : sequence of str
        Names of the targets; default is all.

    Raises
    ------
    ManifestError
        If the manifest cannot be used.
    ScalableError
        If there is no target of a name.
    """
    environ = _with_templates(manifest)
    known = ScalableSession.targets(manifest, environ=environ)
    for name in only:
        if name not in known:
            hint = did_you_mean(name, known) or f"known: {', '.join(known)}"
            raise ScalableError(f"--target: {manifest} has no target '{name}'; {hint}")
    sessions: dict[str, ScalableSession] = {}
    unusable: dict[str, str] = {}
    for name in only or known:
        try:
            sessions[name] = ScalableSession.from_yaml(manifest, target=name, environ=environ)
        except ScalableError as error:
            unusable[name] = str(error)
    return Targets(sessions, unusable)


def _with_templates(manifest: Path) -> Mapping[str, str]:
    """Return the environment with a template for each variable that may be one."""
    names: dict[str, bool] = {}
    try:
        text = manifest.read_text(encoding="utf-8")
    except (OSError, ValueError):
        text = ""
    for name, default in _VARIABLE.findall(text):
        names[name] = names.get(name, False) or not default
    chosen = {name for name, needed in names.items() if needed or os.environ.get(name)}
    wrong = _problems(manifest, _environ(chosen))
    for name in sorted(chosen):
        if wrong and (fewer := _problems(manifest, _environ(chosen - {name}))) < wrong:
            chosen, wrong = chosen - {name}, fewer
    if wrong:
        # What is wrong is not a template: say it in terms of the values.
        ScalableSession.targets(manifest)
    return _environ(chosen)


def _environ(templates: set[str]) -> dict[str, str]:
    return {**os.environ, **{name: f"{{{{ ${name} }}}}" for name in templates}}


def _problems(manifest: Path, environ: Mapping[str, str]) -> int:
    try:
        ScalableSession.targets(manifest, environ=environ)
    except ManifestInvalid as error:
        return sum(issue.severity == "error" for issue in error.issues)
    return 0
