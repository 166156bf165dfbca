"""The typed manifest that reading one gives."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import yaml
from pydantic import BaseModel

from scalable.errors import Issue, ManifestError
from scalable.manifest.fingerprint import redacted
from scalable.manifest.model import Component, Objectives, Price, Project, Task
from scalable.manifest.nodes import Mark, Table

__all__ = ["Catalogue", "Manifest", "Target"]


class Catalogue(Protocol):
    """What a manifest must know of providers."""

    def names(self) -> tuple[str, ...]:
        """Return the providers there are, for messages."""
        ...

    def options_model(self, name: str) -> type[BaseModel]:
        """Return the model of a provider's options.

        Raises
        ------
        LookupError
            If there is no such provider.
        ScalableError
            If there is one that cannot be loaded here.
        """
        ...


@dataclass(frozen=True, slots=True)
class Target:
    """Where a manifest may run.

    Attributes
    ----------
    options : BaseModel or None
        The provider's own model of the options; ``None`` only for a target that was not
        chosen, where an option hangs on a variable without a value, or the provider
        cannot be loaded.
    objectives : Objectives
        Those at the top, with the target's own before them.
    overlay : str or None
        The overlay that it names.
    advise : bool or None
        Whether its runs take the advice of past runs; ``None`` while only the top may say so.
    price : Price or None
        What its workers cost, where the manifest says so.
    """

    name: str
    provider: str
    options: BaseModel | None
    objectives: Objectives
    overlay: str | None = None
    advise: bool | None = None
    price: Price | None = None


@dataclass(frozen=True, slots=True)
class Manifest:
    """A manifest that is valid, with the overlay in force laid over it.

    Attributes
    ----------
    project : Project
        What it is about.
    targets, components, tasks : mapping
        By name, in the file's order. There is at least one component.
    objectives : Objectives
        Those at the top.
    target, overlay : str or None
        The target that was chosen, and the overlay in force: its name, or its file.
    parts : tuple of str
        The targets that the chosen one is made of.
    overlays : tuple of str
        Names of all overlays.
    path : Path
        Where it was read.
    warnings : tuple of Issue
        What is doubtful, but stops nothing.
    fingerprint : str
        SHA-256 of what holds on the chosen target, without secrets.
    tags_elsewhere : mapping of str to tuple of str
        Tags that name a pool on other targets only, whose overlays add it, and these targets.
    """

    project: Project
    targets: Mapping[str, Target]
    components: Mapping[str, Component]
    tasks: Mapping[str, Task]
    objectives: Objectives
    target: str | None
    parts: tuple[str, ...]
    overlay: str | None
    overlays: tuple[str, ...]
    path: Path
    warnings: tuple[Issue, ...]
    fingerprint: str
    positions: Mapping[str, Mark] = field(repr=False, compare=False)
    in_overlay_file: frozenset[str] = field(repr=False, compare=False)
    _resolved: Table = field(repr=False, compare=False)
    tags_elsewhere: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def locate(self, path: str) -> tuple[int, int]:
        """Return line and column of a dotted path such as ``components.simulate.tags[0]``.

        For what is not there, the nearest thing around it; ``(1, 1)`` at the worst.
        """
        while path:
            if path in self.positions:
                return self.positions[path]
            path = path[: max(path.rfind("."), path.rfind("["), 0)]
        return (1, 1)

    def file_of(self, path: str) -> str:
        """Return the file in which a dotted path, or the nearest thing around it, stands."""
        while path and path not in self.positions:
            path = path[: max(path.rfind("."), path.rfind("["), 0)]
        return str(self.overlay if path in self.in_overlay_file else self.path)

    def to_yaml(self) -> str:
        """Return what holds on the chosen target as YAML, with secrets redacted."""
        text: str = yaml.safe_dump(redacted(self._resolved), sort_keys=False, allow_unicode=True)
        return text

    def write_lock(self, path: str | os.PathLike[str]) -> None:
        """Write the fingerprint to a file, as JSON.

        Parameters
        ----------
        path : path
            Usually ``manifest.lock`` beside the manifest.

        Raises
        ------
        ManifestError
            If it cannot be written.
        """
        target = Path(path)
        text = json.dumps({"version": 1, "fingerprint": self.fingerprint}) + "\n"
        try:
            handle, name = tempfile.mkstemp(dir=target.parent, prefix=target.name)
        except OSError as error:
            raise ManifestError(f"cannot write {target}: {error.strerror or error}") from error
        try:
            with os.fdopen(handle, "w", encoding="utf-8") as stream:
                stream.write(text)
            Path(name).chmod(0o644)
            Path(name).replace(target)
        except OSError as error:
            Path(name).unlink(missing_ok=True)
            raise ManifestError(f"cannot write {target}: {error.strerror or error}") from error
