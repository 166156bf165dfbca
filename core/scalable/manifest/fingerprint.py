"""What identifies a manifest, and what of it may be written down: neither holds a secret."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable
from typing import Any

from scalable.manifest.nodes import Listing, Node, Scalar, Table
from scalable.manifest.variables import escape

__all__ = ["REDACTED", "fingerprint", "redacted"]

REDACTED = "***"

_SECRET = re.compile(r"token|passw|secret|key|credential", re.IGNORECASE)
_Show = Callable[[tuple[str, ...], Scalar], Any]


def fingerprint(root: Table) -> str:
    """Return the SHA-256 of a resolved manifest as hexadecimal text.

    What comes from the environment counts by the variable's name, and a secret by its key.
    Comments, quotes and the order of keys do not count, except the order of components,
    whose first one is the default.
    """

    def show(path: tuple[str, ...], scalar: Scalar) -> Any:
        if scalar.variables:
            return {"source": scalar.source}
        if _is_secret(path):
            return {"secret": path[-1]}
        return scalar.text if _in_env(path) else scalar.value

    data = _plain(root, (), show)
    facts = {"manifest": data, "components": list(data.get("components") or ())}
    return hashlib.sha256(json.dumps(facts, sort_keys=True, ensure_ascii=False).encode()).hexdigest()


def redacted(root: Table) -> dict[str, Any]:
    """Return a resolved manifest as plain data that reads back to the same, but for secrets.

    Secrets are values of ``env`` and of targets whose key sounds like one, and values of
    ``env`` that come from the environment.
    """

    def show(path: tuple[str, ...], scalar: Scalar) -> Any:
        named = any(_SECRET.search(name) for name in scalar.variables)
        if _is_secret(path) or named or (scalar.variables and _in_env(path)):
            return REDACTED
        value = scalar.text if _in_env(path) else scalar.value
        return escape(value) if isinstance(value, str) else value

    data: dict[str, Any] = _plain(root, (), show)
    return data


def _in_env(path: tuple[str, ...]) -> bool:
    return len(path) == 4 and path[0] == "components" and path[2] == "env"


def _is_secret(path: tuple[str, ...]) -> bool:
    return (_in_env(path) or path[0] == "targets") and bool(_SECRET.search(path[-1]))


def _plain(node: Node, path: tuple[str, ...], show: _Show) -> Any:
    match node:
        case Table():
            return {key: _plain(entry.node, (*path, key), show) for key, entry in node.entries.items()}
        case Listing():
            return [_plain(entry.node, (*path, str(index)), show) for index, entry in enumerate(node.entries)]
        case Scalar():
            return show(path, node)
