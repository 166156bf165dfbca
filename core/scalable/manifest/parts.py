"""Targets that are made of other targets: which these are, and whether they can be."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from pydantic import BaseModel

from scalable.errors import Issue, ScalableError, did_you_mean
from scalable.manifest.nodes import Scalar, Table
from scalable.manifest.translate import Translator
from scalable.manifest.tree import Catalogue, Target
from scalable.manifest.variables import expand_scalar

__all__ = ["check_parts", "parts_of", "target_keys"]


def target_keys(options: BaseModel | type[BaseModel] | None) -> tuple[str, ...]:
    """Return the options of a provider that name other targets: what its model has as ``target_keys``."""
    return tuple(getattr(options, "target_keys", ()))


def parts_of(root: Table, target: str | None, catalogue: Catalogue, environ: Mapping[str, str]) -> tuple[str, ...]:
    """Return the targets that a target of a tree is made of, as far as they are there."""
    tables = root.entries.get("targets")
    known = tables.node.entries if tables is not None and isinstance(tables.node, Table) else {}
    entry = known.get(target or "")
    if entry is None or not isinstance(entry.node, Table):
        return ()
    said = {
        key: expand_scalar(one.node, environ).text
        for key, one in entry.node.entries.items()
        if isinstance(one.node, Scalar)
    }
    try:
        keys = target_keys(catalogue.options_model(said.get("provider", "")))
    except (LookupError, ScalableError):
        # It is reported where the target itself is validated.
        return ()
    return tuple(dict.fromkeys(said[key] for key in keys if said.get(key, target) != target and said[key] in known))


def check_parts(targets: Mapping[str, Target], at: Translator) -> Iterator[Issue]:
    """Report targets that cannot be made of those that they name.

    Parameters
    ----------
    targets : mapping of str to Target
        All that are valid in themselves.
    at : Translator
        Knows where things stand.
    """
    for name, target in targets.items():
        seen: set[str] = set()
        for key in target_keys(target.options):
            part = getattr(target.options, key)
            message, hint = "", ""
            if part not in targets:
                others = [other for other in targets if other != name]
                message, hint = f"there is no target '{part}'", did_you_mean(part, others)
                hint = hint or f"known: {', '.join(others)}"
            elif part == name:
                message = f"target '{name}' cannot be a part of itself"
            elif target_keys(targets[part].options):
                message = f"target '{part}' is itself made of others"
            elif part in seen:
                message = f"target '{part}' is named twice"
            if message:
                yield at.issue("E_TARGET_REF", ("targets", name, key), message, hint)
            seen.add(part)
