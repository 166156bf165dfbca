"""``scalable validate``: all that is wrong with a manifest, at once."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from scalable.errors import Issue
    from scalable.manifest import Manifest

__all__ = ["validate"]


def validate(
    manifest: Path | None = None,
    *,
    target: str | None = None,
    overlay: str | None = None,
    format: Literal["text", "json"] = "text",  # noqa: A002  (the option's name)
    lock: Path | None = None,
) -> int:
    """Check a manifest and print every problem with its place; nothing is started.

    Parameters
    ----------
    manifest
        The manifest; default is $SCALABLE_MANIFEST, or scalable.yaml here.
    target
        Name of the target whose variables must be set; default is $SCALABLE_TARGET, or none.
    overlay
        Name of an overlay, or a file of one (.yaml), in place of the one that the target names.
    format
        For people or for programs.
    lock
        A file for the fingerprint of a valid manifest, such as manifest.lock.
    """
    from scalable.errors import ManifestInvalid, ManifestSyntax  # noqa: PLC0415  (help must not wait for it)
    from scalable.manifest import load  # noqa: PLC0415
    from scalable.providers import registry  # noqa: PLC0415
    from scalable.settings import Settings  # noqa: PLC0415

    settings = Settings.from_environ()
    path = settings.manifest if manifest is None else manifest
    try:
        read = load(path, target=target or settings.target, overlay=overlay, catalogue=registry.catalogue)
        issues: Sequence[Issue] = (*read.warnings, *_target_issues(read))
    except (ManifestSyntax, ManifestInvalid) as error:
        read, issues = None, error.issues
    failed = any(issue.severity == "error" for issue in issues)
    if read is not None and lock is not None and not failed:
        read.write_lock(lock)
    show = _as_json if format == "json" else _as_text
    print(show(str(path), read, issues))  # noqa: T201
    return ManifestInvalid.exit_code if failed else 0


def _target_issues(manifest: Manifest) -> Sequence[Issue]:
    """Return what the chosen target's provider has to say, and what is wrong with scaling, there or anywhere."""
    from scalable.providers import registry  # noqa: PLC0415  (help must not wait for it)
    from scalable.scaling.check import check_scaling  # noqa: PLC0415
    from scalable.spec import resolve  # noqa: PLC0415

    if manifest.target is None:
        # A target with an overlay is only known when it is chosen.
        known = [name for name, one in manifest.targets.items() if one.options is not None and one.overlay is None]
        return [issue for name in known for issue in check_scaling(resolve(replace(manifest, target=name)))]
    spec = resolve(manifest)
    return (*registry.check(spec).issues, *check_scaling(spec))


def _as_text(file: str, manifest: Manifest | None, issues: Sequence[Issue]) -> str:
    counts = [
        f"{count} {kind}{'' if count == 1 else 's'}"
        for kind in ("error", "warning")
        if (count := sum(issue.severity == kind for issue in issues))
    ]
    if manifest is None or any(issue.severity == "error" for issue in issues):
        summary = f"{file}: {', '.join(counts)}"
    else:
        facts = [f"targets: {', '.join(manifest.targets)}", f"components: {', '.join(manifest.components)}"]
        if manifest.overlay is not None:
            facts.append(f"overlay: {manifest.overlay}")
        summary = f"{file}: {', '.join(['ok', *counts])} ({'; '.join(facts)})"
    return "\n".join([*(str(issue) for issue in issues), summary])


def _as_json(file: str, manifest: Manifest | None, issues: Sequence[Issue]) -> str:
    facts: dict[str, Any] = {
        "ok": not any(issue.severity == "error" for issue in issues),
        "file": file,
        "issues": [
            {
                "code": issue.code,
                "severity": issue.severity,
                "path": issue.path,
                "message": issue.message,
                "hint": issue.hint,
                "line": issue.line,
                "column": issue.column,
            }
            for issue in issues
        ],
    }
    if manifest is not None:
        facts |= {
            "target": manifest.target,
            "overlay": manifest.overlay,
            "targets": list(manifest.targets),
            "components": list(manifest.components),
            "fingerprint": manifest.fingerprint,
        }
    return json.dumps(facts, indent=1, ensure_ascii=False)
