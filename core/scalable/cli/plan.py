"""``scalable plan``: what would be asked for."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Literal

__all__ = ["plan"]


def plan(
    manifest: Path | None = None,
    *,
    target: str | None = None,
    overlay: str | None = None,
    objective: str | None = None,
    policy: str | None = None,
    advise: bool | None = None,
    format: Literal["text", "json"] = "text",  # noqa: A002  (the option's name)
) -> int:
    """Print the workers that a run would start with; nothing is started.

    Parameters
    ----------
    manifest
        The manifest; default is $SCALABLE_MANIFEST, or scalable.yaml here.
    target
        Name of the target; default is $SCALABLE_TARGET, or the manifest's only one.
    overlay
        Name of an overlay, or a file of one (.yaml), in place of the one that the target names.
    objective
        What to aim at.
    policy
        How to get there.
    advise
        Take the advice of past runs, or not; default is what the manifest says.
    format
        For people or for programs.
    """
    from scalable.session import ScalableSession  # noqa: PLC0415  (help must not wait for it)

    session = ScalableSession.from_yaml(manifest, target=target, overlay=overlay, advise=advise)
    made = session.plan(dry_run=True, objective=objective, policy=policy)
    spec = session.spec
    if format == "json":
        facts = {"project": spec.project, "target": spec.target, "provider": spec.provider}
        print(json.dumps({**facts, **made.to_json()}, indent=1))  # noqa: T201
        return 0
    lines = [f"Target: {spec.target} (provider: {spec.provider})", "Workers:"]
    lines += [f"  {tag}: {request.count} x {request.resources!r}" for tag, request in made.scale_plan.items()]
    lines.append(f"Limits: {made.limits.minimum} to {made.limits.maximum} workers")
    lines += [f"Advice: {one}" for one in made.advice or ()]
    lines += [f"Note: {note}" for note in made.notes]
    print("\n".join(lines))  # noqa: T201
    return 0
