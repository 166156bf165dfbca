"""``${VAR}`` and ``${VAR:-default}`` in values."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace

from scalable.manifest.nodes import Entry, Listing, Node, Scalar, Table

__all__ = ["Malformed", "escape", "expand", "expand_scalar"]

_REFERENCE = re.compile(
    r"(?P<escaped>\$\$\{)|\$\{(?P<name>[A-Za-z_][A-Za-z0-9_]*)(?::-(?P<default>[^}]*))?\}|(?P<malformed>\$\{)", re.ASCII
)


@dataclass(frozen=True, slots=True)
class Malformed:
    """A reference to a variable that cannot be read, and where it is."""

    entry: Entry
    text: str


def escape(text: str) -> str:
    """Return text that expands to itself.

    Examples
    --------
    >>> escape("${HOME} and $HOME")
    '$${HOME} and $HOME'
    """
    return text.replace("${", "$${")


def expand_scalar(scalar: Scalar, environ: Mapping[str, str]) -> Scalar:
    """Return a scalar with its variables expanded; those without a value are left, and noted in ``unset``."""
    if "${" not in scalar.source:
        return scalar
    variables: list[str] = []
    unset: list[str] = []

    def value(match: re.Match[str]) -> str:
        if match["escaped"]:
            return "${"
        if match["malformed"]:
            return match[0]
        name, default = match["name"], match["default"]
        variables.append(name)
        found = environ.get(name)
        if found is None and default is None:
            unset.append(name)
            return match[0]
        # As in a shell, `:-` also stands in for an empty value.
        return (found or default) if default is not None else (found or "")

    text = _REFERENCE.sub(value, scalar.source)
    return replace(scalar, text=text, variables=tuple(variables), unset=tuple(unset))


def expand(table: Table, environ: Mapping[str, str]) -> tuple[Table, list[Malformed]]:
    """Return a tree with all variables expanded, and the references that cannot be read."""
    malformed: list[Malformed] = []

    def visit(entry: Entry) -> Entry:
        node = entry.node
        if isinstance(node, Scalar) and "${" in node.source:
            if any(match["malformed"] for match in _REFERENCE.finditer(node.source)):
                malformed.append(Malformed(entry, node.source))
            return replace(entry, node=expand_scalar(node, environ))
        return replace(entry, node=inside(node))

    def inside(node: Node) -> Node:
        match node:
            case Table():
                return replace(node, entries={key: visit(entry) for key, entry in node.entries.items()})
            case Listing():
                return replace(node, entries=[visit(entry) for entry in node.entries])
            case Scalar():
                return node

    return replace(table, entries={key: visit(entry) for key, entry in table.entries.items()}), malformed
