"""Overlays: a part of a manifest laid over the rest."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from scalable.errors import Issue, did_you_mean
from scalable.manifest.nodes import Entry, Scalar, Table
from scalable.manifest.variables import expand_scalar

__all__ = ["check_overlays", "lay_over", "only_allowed", "overlay_table", "overlays_of", "without"]

_ALLOWED = ("project", "targets", "components", "tasks", "objectives")


def lay_over(base: Table, over: Table) -> Table:
    """Return a tree in which ``over`` goes before ``base``.

    Mappings are merged key by key; lists and single values replace what was there; nothing
    (``null``) takes the key away, so that its default holds again.
    """
    entries, removed = dict(base.entries), dict(base.removed)
    for key, entry in over.entries.items():
        below = entries.get(key)
        if isinstance(entry.node, Scalar) and entry.node.value is None:
            entries.pop(key, None)
            removed[key] = entry
        elif below is not None and isinstance(below.node, Table) and isinstance(entry.node, Table):
            entries[key] = replace(below, node=lay_over(below.node, entry.node))
        else:
            entries[key] = entry
    return replace(base, entries=entries, removed=removed)


def without(table: Table, *keys: str) -> Table:
    """Return the tree without some of its top keys."""
    return replace(table, entries={key: entry for key, entry in table.entries.items() if key not in keys})


def only_allowed(overlay: Table) -> Table:
    """Return the body of an overlay without what none may hold."""
    return replace(overlay, entries={key: entry for key, entry in overlay.entries.items() if key in _ALLOWED})


def overlay_table(root: Table, name: str) -> Table | None:
    """Return the body of an overlay; nothing if there is none, or it is no mapping."""
    found: Entry | None = overlays_of(root).get(name)
    return found.node if found is not None and isinstance(found.node, Table) else None


def overlays_of(root: Table) -> dict[str, Entry]:
    """Return the overlays of a manifest by name."""
    entry = root.entries.get("overlays")
    return entry.node.entries if entry is not None and isinstance(entry.node, Table) else {}


def check_overlays(root: Table, file: str, environ: Mapping[str, str]) -> list[Issue]:
    """Return what is wrong with overlays as such, and with the names by which targets choose them."""
    issues = _not_a_mapping(root.entries.get("overlays"), "overlays", file)
    for name, entry in overlays_of(root).items():
        if isinstance(entry.node, Table):
            issues += _keys(entry.node, file)
        issues += _not_a_mapping(entry, f"the overlay '{name}'", file)
    known = tuple(overlays_of(root))
    for chooser in _choosers(root):
        if not isinstance(chooser.node, Scalar) or chooser.node.value is None:
            continue
        scalar = expand_scalar(chooser.node, environ)
        if not scalar.unset and scalar.text and scalar.text not in known:
            message = f"there is no overlay '{scalar.text}'; known: {', '.join(known) or 'none'}"
            hint = did_you_mean(scalar.text, known)
            issues.append(Issue("E_UNKNOWN_OVERLAY", chooser.path, message, hint, file, *scalar.mark))
    return issues


def _not_a_mapping(entry: Entry | None, what: str, file: str) -> list[Issue]:
    node = None if entry is None else entry.node
    if entry is None or node is None or isinstance(node, Table) or (isinstance(node, Scalar) and node.value is None):
        return []
    return [Issue("E_BAD_TYPE", entry.path, f"{what} must be a mapping", "", file, *node.mark)]


def _keys(overlay: Table, file: str) -> list[Issue]:
    issues = []
    for key, entry in overlay.entries.items():
        if key not in _ALLOWED:
            hint = did_you_mean(key, _ALLOWED) or f"an overlay may hold {', '.join(_ALLOWED)}"
            message = f"unknown key '{key}'"
            issues.append(Issue("E_UNKNOWN_OVERLAY_KEY", entry.path, message, hint, file, *entry.mark))
    for entry in _choosers(overlay):
        message = "an overlay cannot choose an overlay"
        issues.append(Issue("E_UNKNOWN_OVERLAY_KEY", entry.path, message, "remove it", file, *entry.mark))
    return issues


def _choosers(table: Table) -> list[Entry]:
    """Return the ``overlay`` entries of all targets in a tree."""
    targets = table.entries.get("targets")
    if targets is None or not isinstance(targets.node, Table):
        return []
    tables = [entry.node for entry in targets.node.entries.values() if isinstance(entry.node, Table)]
    return [one.entries["overlay"] for one in tables if "overlay" in one.entries]
