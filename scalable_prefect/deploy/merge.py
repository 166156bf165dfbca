"""What is written anew, and what is the user's: a deployment is merged, never replaced."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, MutableMapping
from dataclasses import dataclass, field
from typing import Any

__all__ = ["Changes", "Path", "digests", "merge"]

Path = tuple[str, ...]
_Node = MutableMapping[str, Any]
_MISSING = object()
_THEIRS = object()


@dataclass(slots=True)
class Changes:
    """Dotted paths in a deployment, by what became of them."""

    added: list[str] = field(default_factory=list)
    updated: list[str] = field(default_factory=list)
    removed: list[str] = field(default_factory=list)
    kept: list[str] = field(default_factory=list)

    @property
    def any(self) -> bool:
        """Whether anything differs from before."""
        return bool(self.added or self.updated or self.removed)


def digests(derived: Mapping[str, Any]) -> dict[str, str]:
    """Return what is remembered of a deployment as its target makes it: a digest of each value, by dotted path."""
    return {".".join(path): _digest(value) for path, value in _leaves(derived).items()}


def merge(
    current: _Node,
    derived: Mapping[str, Any],
    said: Mapping[Path, Any],
    remembered: Mapping[str, str],
    node: Callable[[Any], Any] = lambda value: value,
) -> Changes:
    """Bring a deployment up to date in place.

    What was said on the command line is written. Of the rest a value is only replaced, or
    removed, if it still is what was written the last time; what the user changed, added or
    removed stays so.

    Parameters
    ----------
    current : mapping
        The deployment, as it stands in the file.
    derived : mapping
        As its target makes it.
    said : mapping of tuple to value
        What the command line says, by path.
    remembered : mapping of str to str
        The :func:`digests` of the last time; empty if not known.
    node : callable
        Makes a value into what stands in the file.
    """
    changes = Changes()
    wanted = {**_leaves(derived), **said}
    for name, digest in remembered.items():
        path = tuple(name.split("."))
        if path not in wanted and _digest(_find(current, path)) == digest:
            _remove(current, path)
            changes.removed.append(name)
    for path, value in wanted.items():
        name = ".".join(path)
        old = _find(current, path)
        if old is _MISSING and (path in said or name not in remembered):
            _put(current, path, node(value), node)
            changes.added.append(name)
        elif old is _MISSING or old == value:
            if old is _MISSING:
                changes.kept.append(f"{name} (removed)")
        elif old is not _THEIRS and (path in said or _digest(old) == remembered.get(name)):
            _put(current, path, node(value), node)
            changes.updated.append(name)
        else:
            changes.kept.append(name)
    return changes


def _leaves(values: Mapping[str, Any], path: Path = ()) -> dict[Path, Any]:
    found: dict[Path, Any] = {}
    for key, value in values.items():
        if isinstance(value, Mapping):
            found |= _leaves(value, (*path, key))
        else:
            found[*path, key] = value
    return found


def _find(current: Any, path: Path) -> Any:
    """Return what is at a path; the user's own where something else is in the way, or is shared by an alias."""
    for key in path:
        if current is None:
            return _MISSING
        if not isinstance(current, MutableMapping) or _is_shared(current):
            return _THEIRS
        current = current.get(key, _MISSING)
        if current is _MISSING:
            return _MISSING
    return current


def _is_shared(node: object) -> bool:
    """Whether other places of the file have the same mapping, or parts of it: ``&name``, ``*name`` or ``<<``."""
    anchor = getattr(node, "anchor", None)
    return (anchor is not None and anchor.value is not None) or bool(getattr(node, "merge", None))


def _put(current: _Node, path: Path, value: Any, node: Callable[[Any], Any]) -> None:
    for key in path[:-1]:
        if current.get(key) is None:
            current[key] = node({})
        current = current[key]
    current[path[-1]] = value


def _remove(current: _Node, path: Path) -> None:
    key, *below = path
    if below:
        _remove(current[key], tuple(below))
    if not below or not current[key]:
        del current[key]


def _digest(value: Any) -> str:
    if value is _MISSING or value is _THEIRS:
        return ""
    text = json.dumps(value, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:8]
