"""What is wrong with what a target says of scaling."""

from __future__ import annotations

from scalable.errors import Issue, PlanError
from scalable.spec import DeploymentSpec

__all__ = ["check_scaling"]


def check_scaling(spec: DeploymentSpec) -> tuple[Issue, ...]:
    """Return what is wrong with a target's ``scaling``, with its place: a policy or a parameter that is not known.

    Parameters
    ----------
    spec : DeploymentSpec
        A target; one that says nothing of scaling has nothing wrong.
    """
    if getattr(spec.options, "scaling", None) is None:
        return ()
    from scalable.scaling.choice import policy_of  # noqa: PLC0415  (only where somebody chose)

    try:
        policy_of(spec)
    except PlanError as error:
        return (spec.issue("E_BAD_SCALING", f"targets.{spec.target}.scaling", str(error)),)
    return ()
