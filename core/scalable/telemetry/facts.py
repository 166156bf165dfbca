"""What a run is about, for its record."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

from scalable.spec import DeploymentSpec

__all__ = ["facts_of"]


def facts_of(spec: DeploymentSpec, run_id: str) -> Mapping[str, Any]:
    """Return what ``run.json`` says of a run besides when and where it was started.

    Parameters
    ----------
    spec : DeploymentSpec
        What runs.
    run_id : str
        Identifier of the run.
    """
    from importlib.metadata import version  # noqa: PLC0415  (slow to import, and only a run needs it)

    return {
        "run_id": run_id,
        "project": spec.project,
        "target": spec.target,
        "provider": spec.provider,
        "overlay": spec.overlay,
        "scalable_version": version("scalable-workflows"),
        "python": sys.version.split()[0],
        "manifest_path": None if spec.manifest_path is None else str(spec.manifest_path),
        "fingerprint": spec.fingerprint,
        "objectives": {
            "budget_usd": spec.objectives.budget_usd,
            "deadline_hours": spec.objectives.deadline_hours,
        },
    }
