"""An overlay that is a file of its own: laid over as if the manifest had it, its problems told at its own lines."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from scalable.errors import Issue, ManifestSyntax
from scalable.manifest.nodes import Entry, Listing, Mark, Node, Scalar, Table
from scalable.manifest.overlay import overlays_of
from scalable.manifest.reader import parse, read

__all__ = ["from_overlay_file", "in_overlay_file", "is_overlay_file", "with_overlay_file"]

_ENDINGS = (".yaml", ".yml")
# Before the paths of what stands in the file; no path in a manifest begins like that.
_ELSEWHERE = "\0"


def is_overlay_file(overlay: str, root: Table) -> bool:
    """Return whether an overlay is a file, and not one of the manifest's own of that name."""
    return overlay.endswith(_ENDINGS) and overlay not in overlays_of(root)


def with_overlay_file(root: Table, file: str) -> tuple[Table, list[Issue]]:
    """Return a manifest with the body that a file holds as one more overlay, named like the file.

    Raises
    ------
    ManifestSyntax
        If the file cannot be read, or is no mapping.
    """
    try:
        body, issues = parse(read(Path(file)), file)
    except ManifestSyntax as error:
        hint = "give the path of the overlay's file"
        raise ManifestSyntax(
            replace(issue, hint=hint) if issue.code == "E_UNREADABLE" else issue for issue in error.issues
        ) from error
    top = Mark(1, 1)
    known = root.entries.get("overlays", Entry(top, "overlays", Table(top)))
    if isinstance(known.node, Scalar) and known.node.value is None:
        known = replace(known, node=Table(top))
    if not isinstance(known.node, Table):
        # That is reported; nothing can be laid over it.
        return root, issues
    mine = Entry(top, _ELSEWHERE, _moved(body))
    entry = replace(known, node=replace(known.node, entries={**known.node.entries, file: mine}))
    return replace(root, entries={**root.entries, "overlays": entry}), issues


def from_overlay_file(entry: Entry) -> bool:
    """Return whether an entry stands in an overlay's own file."""
    return entry.path.startswith(_ELSEWHERE)


def in_overlay_file(issue: Issue, file: str | None) -> Issue:
    """Return an issue as one of the overlay's file if it is about something there."""
    if file is None or not issue.path.startswith(_ELSEWHERE):
        return issue
    return replace(issue, path=issue.path.removeprefix(_ELSEWHERE).removeprefix("."), file=file)


def _moved(node: Node) -> Node:
    match node:
        case Table():
            return replace(node, entries={key: _entry(one) for key, one in node.entries.items()})
        case Listing():
            return replace(node, entries=[_entry(one) for one in node.entries])
        case _:
            return node


def _entry(entry: Entry) -> Entry:
    return replace(entry, path=_ELSEWHERE + entry.path, node=_moved(entry.node))
