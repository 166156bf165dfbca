"""Who decides on the workers of a target."""

from __future__ import annotations

from typing import Final

from scalable.scaling.model import Policy
from scalable.scaling.policies import make_policy
from scalable.spec import DeploymentSpec

__all__ = ["policy_of"]

_LOCAL_INTERVAL_S: Final = 1.0


def policy_of(spec: DeploymentSpec, objective: str | None = None) -> Policy:
    """Return who decides on the workers of a target while a run is under way.

    Parameters
    ----------
    spec : DeploymentSpec
        Its options may have ``scaling``; without it, ``predictive`` decides where the target is
        ``adaptive`` or has a second target to burst to, and ``share`` elsewhere.
    objective : str, optional
        What the run aims at.

    Raises
    ------
    PlanError
        If there is no such policy, or it has no such parameter.
    """
    choice = getattr(spec.options, "scaling", None)
    adaptive = getattr(spec.options, "adaptive", None) is not None or bool(spec.parts)
    name = (choice and choice.policy) or ("predictive" if adaptive else "share")
    parameters = {} if choice is None else choice.parameters
    interval_s = None if choice is None else choice.interval_s
    if spec.provider == "local" and name == "predictive":
        # Workers here are up within seconds, and nobody pays for them.
        interval_s = interval_s or _LOCAL_INTERVAL_S
        objective = objective or "minimize time"
    return make_policy(name, parameters, objective=objective, interval_s=interval_s)
