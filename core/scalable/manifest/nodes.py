"""A manifest as a tree of nodes that know where they stand in the file."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

__all__ = ["Entry", "Listing", "Mark", "Node", "Place", "Scalar", "Table", "find", "join", "plain_value", "walk"]

_NULL = re.compile(r"~|null|Null|NULL|")
_TRUE = re.compile(r"true|True|TRUE")
_FALSE = re.compile(r"false|False|FALSE")
_INT = re.compile(r"[-+]?[0-9]+")
_BASED = re.compile(r"0o[0-7]+|0x[0-9a-fA-F]+")
_FLOAT = re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?")
_INFINITE = re.compile(r"[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)")
_MAX_DIGITS = 300


class Mark(NamedTuple):
    """A position in the file, counted from one."""

    line: int
    column: int


@dataclass(frozen=True, slots=True)
class Scalar:
    """One value.

    Attributes
    ----------
    text : str
        The value's text; variables are expanded in it once that is done.
    plain : bool
        Whether it stands without quotes, so that it may be a number, a truth value or nothing.
    source : str
        The text as it stands in the file.
    variables, unset : tuple of str
        Environment variables that it names, and those of them that have no value.
    """

    mark: Mark
    text: str
    plain: bool
    source: str
    variables: tuple[str, ...] = ()
    unset: tuple[str, ...] = ()

    @property
    def value(self) -> str | int | float | bool | None:
        """What the text means."""
        return plain_value(self.text) if self.plain else self.text


@dataclass(frozen=True, slots=True)
class Entry:
    """A key of a table or an item of a listing, with its own place.

    Attributes
    ----------
    mark : Mark
        Where the key, or the item, stands.
    path : str
        Dotted path in the file; for what an overlay brings, that inside the overlay.
    """

    mark: Mark
    path: str
    node: Node


@dataclass(frozen=True, slots=True)
class Listing:
    """A list."""

    mark: Mark
    entries: list[Entry] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Table:
    """A mapping; ``removed`` says where an overlay took a key away."""

    mark: Mark
    entries: dict[str, Entry] = field(default_factory=dict)
    removed: dict[str, Entry] = field(default_factory=dict)


Node = Scalar | Listing | Table


def plain_value(text: str) -> str | int | float | bool | None:
    """Return what an unquoted scalar means in the core schema of YAML 1.2.

    Examples
    --------
    >>> [plain_value(text) for text in ("4", "0x10", "1.5", "true", "yes", "02:00:00", "~")]
    [4, 16, 1.5, True, 'yes', '02:00:00', None]
    """
    if _NULL.fullmatch(text):
        return None
    if _TRUE.fullmatch(text):
        return True
    if _FALSE.fullmatch(text):
        return False
    return _number(text) if len(text) <= _MAX_DIGITS else text


def _number(text: str) -> str | int | float:
    if _INT.fullmatch(text):
        return int(text)
    if _BASED.fullmatch(text):
        return int(text, 0)
    if _FLOAT.fullmatch(text):
        return float(text)
    if _INFINITE.fullmatch(text):
        return float(text.replace(".", "", 1))
    return text


def join(path: str, key: str | int) -> str:
    """Return the path of a key, or of an item, below a path.

    Examples
    --------
    >>> join("components", "simulate"), join("components.simulate.tags", 0)
    ('components.simulate', 'components.simulate.tags[0]')
    """
    if isinstance(key, int):
        return f"{path}[{key}]"
    return f"{path}.{key}" if path else key


@dataclass(frozen=True, slots=True)
class Place:
    """Where something stands, or would stand.

    Attributes
    ----------
    path : str
        Dotted path in the file.
    key, value : Mark
        Where its key and its value begin; those of the nearest thing around it if it is missing.
    """

    path: str
    key: Mark
    value: Mark


def find(root: Table, location: tuple[str | int, ...]) -> Place:
    """Return the place of what is at a location in the tree."""
    path, key, node = "", Mark(1, 1), root
    current: Node = node
    value = key
    for position, step in enumerate(location):
        entry = _step(current, step)
        if entry is None:
            return _missing(current, location[position:], Place(path, key, value))
        path, key, current = entry.path, entry.mark, entry.node
        value = current.mark
    return Place(path, key, value)


def _step(node: Node, step: str | int) -> Entry | None:
    match node:
        case Table():
            return node.entries.get(str(step))
        case Listing():
            if isinstance(step, int):
                return node.entries[step] if step < len(node.entries) else None
            named = (one for one in node.entries if isinstance(one.node, Scalar) and one.node.text == step)
            return next(named, None)
        case Scalar():
            return None


def _missing(node: Node, rest: tuple[str | int, ...], around: Place) -> Place:
    if not isinstance(node, Table):
        # A single value where a list may stand, too.
        return around
    removed = node.removed.get(str(rest[0]))
    if removed is not None:
        return Place(removed.path, removed.mark, removed.mark)
    path = around.path
    for step in rest:
        path = join(path, step)
    return Place(path, around.key, around.key)


def walk(root: Table) -> Iterator[tuple[str, Entry]]:
    """Yield every entry with its dotted path in the tree, the outer ones first."""
    stack: list[tuple[str, Node]] = [("", root)]
    while stack:
        path, node = stack.pop()
        pairs: list[tuple[str, Entry]] = []
        if isinstance(node, Table):
            pairs = [(join(path, key), entry) for key, entry in node.entries.items()]
        elif isinstance(node, Listing):
            pairs = [(join(path, index), entry) for index, entry in enumerate(node.entries)]
        yield from pairs
        stack.extend((below, entry.node) for below, entry in reversed(pairs))
