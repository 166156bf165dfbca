"""What was written the last time, as comment lines at the end of the file."""

from __future__ import annotations

import json
from collections.abc import Mapping

__all__ = ["Key", "Records", "joined", "split"]

Key = tuple[str, str]
"""A deployment: its entrypoint and its target."""

Records = dict[Key, dict[str, str]]

_ABOUT = "# By the lines below `scalable deploy prefect` tells what you changed, which it keeps."
_RECORD = "# scalable: "


def split(text: str) -> tuple[Records, str]:
    """Return what was written, and the text without the lines that say so; a line that is damaged says nothing."""
    records: Records = {}
    lines = []
    for line in text.split("\n"):
        if line.startswith(_RECORD):
            key, written = _parsed(line.removeprefix(_RECORD))
            records[key] = written
        elif line != _ABOUT:
            lines.append(line)
    records.pop(("", ""), None)
    return records, "\n".join(lines).rstrip("\n") + "\n" if any(lines) else ""


def joined(records: Mapping[Key, Mapping[str, str]]) -> str:
    """Return the lines that :func:`split` reads."""
    lines = [
        _RECORD + json.dumps({"entrypoint": entrypoint, "target": target, "written": dict(written)})
        for (entrypoint, target), written in records.items()
    ]
    return "\n".join(["", _ABOUT, *lines, ""]) if lines else ""


def _parsed(text: str) -> tuple[Key, dict[str, str]]:
    try:
        found = json.loads(text)
        written = {str(name): str(digest) for name, digest in found["written"].items()}
        return (str(found["entrypoint"]), str(found["target"])), written
    except (ValueError, TypeError, KeyError, AttributeError):
        return ("", ""), {}
