"""Reading a manifest: text, overlay, variables, validation, all problems at once."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from scalable.errors import Issue, ManifestInvalid, did_you_mean
from scalable.manifest.fingerprint import fingerprint
from scalable.manifest.model import Component, Document, Objectives
from scalable.manifest.nodes import Entry, Scalar, Table, walk
from scalable.manifest.overlay import check_overlays, lay_over, only_allowed, overlay_table, overlays_of, without
from scalable.manifest.overlay_file import from_overlay_file, in_overlay_file, is_overlay_file, with_overlay_file
from scalable.manifest.parts import parts_of
from scalable.manifest.reader import parse, read
from scalable.manifest.references import DEFAULT_COMPONENT
from scalable.manifest.translate import Translator
from scalable.manifest.tree import Catalogue, Manifest
from scalable.manifest.variables import expand_scalar
from scalable.manifest.view import Scope, View, validate_view

__all__ = ["load"]


def load(
    path: str | os.PathLike[str],
    *,
    target: str | None = None,
    overlay: str | None = None,
    catalogue: Catalogue,
    environ: Mapping[str, str] | None = None,
    single_target: bool = False,
    objectives: Mapping[str, float] | None = None,
    text: str | None = None,
) -> Manifest:
    """Read and validate a manifest.

    Parameters
    ----------
    path : path
        The file.
    text : str, optional
        What it says, where it is no file; ``path`` is then its name in messages.
    target : str, optional
        The target that is to run; its variables must be set.
    overlay : str, optional
        The overlay in force, in place of the one that the target names: its name, or, if it
        ends in ``.yaml`` or ``.yml`` and is no overlay's name, a file that holds its body.
    catalogue : Catalogue
        Knows the providers' options.
    environ : mapping, optional
        Values of variables; default is the process's environment.
    single_target : bool
        Whether a target must be chosen: without ``target`` it is the manifest's only one.
    objectives : mapping, optional
        ``budget_usd`` (US dollars) and ``deadline_hours``, before the manifest's own.

    Raises
    ------
    ManifestSyntax
        If the file cannot be read, or is no YAML mapping.
    ManifestInvalid
        If anything in it is wrong, with every problem in the order of the file.
    """
    file = os.fspath(path)
    environ = os.environ if environ is None else environ
    root, issues = parse(read(Path(file)) if text is None else text, file)
    if overlay is not None and is_overlay_file(overlay, root):
        root, found = with_overlay_file(root, overlay)
        issues += found
    issues += check_overlays(root, file, environ)
    target, chosen_issues = _choose_target(root, target, overlay, file, single_target=single_target)
    in_force, overlay_issues = _choose_overlay(root, target, overlay, file, environ)
    issues += [*chosen_issues, *overlay_issues]
    parts = parts_of(_with_overlay(root, in_force), target, catalogue, environ)
    scope = Scope(file, target, in_force, tuple(overlays_of(root)), environ, catalogue, parts)
    views = {
        name: validate_view(_with_overlay(root, name), scope, effective=name == in_force)
        for name in (in_force, None, *scope.overlays)
    }
    effective = views[in_force]
    issues += [issue for view in views.values() for issue in view.issues]
    bounds, bound_issues = _objectives(objectives, effective.root)
    found = _in_order(in_overlay_file(issue, overlay) for issue in (*issues, *bound_issues))
    if any(issue.severity == "error" for issue in found) or effective.document is None:
        raise ManifestInvalid(found)
    manifest = _manifest(effective, effective.document, scope, bounds, found)
    return replace(manifest, tags_elsewhere=_tags_elsewhere(manifest, views))


def _tags_elsewhere(manifest: Manifest, views: Mapping[str | None, View]) -> dict[str, tuple[str, ...]]:
    here = _pool_tags(manifest.components)
    found: dict[str, tuple[str, ...]] = {}
    for target in manifest.targets.values():
        view = views.get(target.overlay)
        if target.name != manifest.target and view is not None and view.document is not None:
            for tag in _pool_tags(view.document.components or {}) - here:
                found[tag] = (*found.get(tag, ()), target.name)
    return found


def _pool_tags(components: Mapping[str, Component]) -> set[str]:
    return {tag for name, one in components.items() for tag in (name, *one.tags)}


def _manifest(
    view: View,
    document: Document,
    scope: Scope,
    bounds: Objectives,
    warnings: list[Issue],
) -> Manifest:
    resolved = _resolved(view.root, scope.needed)
    return Manifest(
        project=document.project,
        targets={
            name: replace(
                one,
                objectives=_merged(document.objectives, one.objectives, bounds),
                advise=document.advise if one.advise is None else one.advise,
            )
            for name, one in view.targets.items()
        },
        components=document.components or {DEFAULT_COMPONENT: Component()},
        tasks=document.tasks,
        objectives=_merged(document.objectives, bounds),
        target=scope.target,
        parts=scope.parts,
        overlay=scope.overlay,
        overlays=scope.overlays,
        path=Path(scope.file),
        warnings=tuple(warnings),
        fingerprint=fingerprint(resolved),
        positions={dotted: entry.mark for dotted, entry in walk(view.root)},
        in_overlay_file=frozenset(dotted for dotted, entry in walk(view.root) if from_overlay_file(entry)),
        _resolved=resolved,
    )


def _with_overlay(root: Table, name: str | None) -> Table:
    base = without(root, "overlays")
    over = None if name is None else overlay_table(root, name)
    return base if over is None else lay_over(base, only_allowed(over))


def _resolved(root: Table, needed: Iterable[str]) -> Table:
    """Return the tree with the chosen target and its parts only, and without what chose its overlay."""
    entry = root.entries["targets"]
    if not needed or not isinstance(entry.node, Table):
        return root
    chosen = {name: entry.node.entries[name] for name in needed}
    for name, one in chosen.items():
        if isinstance(one.node, Table):
            chosen[name] = replace(one, node=without(one.node, "overlay"))
    only = replace(entry, node=replace(entry.node, entries=chosen))
    return replace(root, entries={**root.entries, "targets": only})


def _target_entries(root: Table) -> dict[str, Entry]:
    entry = root.entries.get("targets")
    return entry.node.entries if entry is not None and isinstance(entry.node, Table) else {}


def _choose_target(
    root: Table, target: str | None, overlay: str | None, file: str, *, single_target: bool
) -> tuple[str | None, list[Issue]]:
    known = tuple(_target_entries(_with_overlay(root, overlay)))
    entry = root.entries.get("targets")
    mark = entry.mark if entry is not None else (1, 1)
    if target is None and single_target and len(known) > 1:
        message = f"which target? The manifest has {', '.join(known)}"
        hint = "give the target, or set SCALABLE_TARGET"
        return None, [Issue("E_NO_TARGET", "targets", message, hint, file, *mark)]
    if target is None:
        return (known[0] if single_target and known else None), []
    if target in known:
        return target, []
    message = f"there is no target '{target}'"
    hint = did_you_mean(target, known) or f"known: {', '.join(known) or 'none'}"
    return None, [Issue("E_UNKNOWN_TARGET", "targets", message, hint, file, *mark)]


def _choose_overlay(
    root: Table, target: str | None, overlay: str | None, file: str, environ: Mapping[str, str]
) -> tuple[str | None, list[Issue]]:
    known = tuple(overlays_of(root))
    if overlay is not None:
        if overlay in known:
            return overlay, []
        message = f"there is no overlay '{overlay}'; known: {', '.join(known) or 'none'}"
        return None, [Issue("E_UNKNOWN_OVERLAY", "overlays", message, did_you_mean(overlay, known), file)]
    chosen = _target_entries(root).get(target or "")
    if chosen is None or not isinstance(chosen.node, Table):
        return None, []
    named = chosen.node.entries.get("overlay")
    if named is None or not isinstance(named.node, Scalar):
        return None, []
    name = expand_scalar(named.node, environ)
    # An overlay that is not there has been reported for every target already.
    return (name.text, []) if not name.unset and name.text in known else (None, [])


def _objectives(given: Mapping[str, float] | None, root: Table) -> tuple[Objectives, list[Issue]]:
    try:
        return Objectives.model_validate(dict(given or {})), []
    except ValidationError as error:
        issues = Translator(root, "").issues(error, Objectives, ("objectives",))
        # They do not stand in the file.
        return Objectives(), [replace(issue, file="", line=0, column=0) for issue in issues]


def _merged(*layers: Objectives) -> Objectives:
    values: dict[str, Any] = {}
    for layer in layers:
        values |= {name: getattr(layer, name) for name in layer.model_fields_set}
    return Objectives.model_validate(values)


def _in_order(issues: Iterable[Issue]) -> list[Issue]:
    """Return issues in the order of the files, each once, though several views found it."""
    return sorted(dict.fromkeys(issues), key=lambda issue: (issue.file, issue.line, issue.column))
