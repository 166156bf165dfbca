"""What providers say of a deployment without their libraries."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from scalable.errors import Issue, ValidationReport
from scalable.planning import working_pools
from scalable.providers.options.common import RemoteOptions
from scalable.providers.options.local import LocalOptions
from scalable.providers.prices import missing_prices
from scalable.spec import ComponentSpec, DeploymentSpec, Limits

__all__ = [
    "check_local",
    "check_parts",
    "elastic",
    "local_limits",
    "missing_preload",
    "remote_limits",
    "too_few_workers",
]


def check_local(spec: DeploymentSpec) -> ValidationReport:
    """Report what of a deployment the local provider cannot honour on this machine."""
    assert isinstance(spec.options, LocalOptions)
    processes = spec.options.processes
    key = "max_workers" if "max_workers" in spec.options.model_fields_set else "provider"
    issues = [*too_few_workers(spec, local_limits(spec.options).maximum, key), *missing_prices(spec)]
    for name, component in spec.components.items():
        path = f"components.{name}"
        if component.env and not processes:
            message = "not applied: the workers are threads of this process"
            issues.append(
                spec.issue("W_ENV_NEEDS_PROCESSES", f"{path}.env", message, "set `processes: true` in the target")
            )
        issues += _preload(spec, component, processes=processes)
    return ValidationReport(tuple(issues))


def local_limits(options: LocalOptions) -> Limits:
    """Return the bounds on the number of workers, all pools together."""
    if options.adaptive is None:
        return Limits(options.max_workers, options.max_workers)
    ceiling = options.max_workers if "max_workers" in options.model_fields_set else options.adaptive.maximum
    return Limits(min(options.adaptive.minimum, ceiling), min(options.adaptive.maximum, ceiling))


def remote_limits(options: RemoteOptions) -> Limits:
    """Return the bounds on the number of workers on other machines, all pools together."""
    if options.adaptive is not None:
        most = options.max_workers or options.adaptive.maximum
        return Limits(options.adaptive.minimum, min(options.adaptive.maximum, most))
    if options.n_workers is not None and options.max_workers is not None:
        return Limits(options.n_workers, options.max_workers)
    fixed = options.n_workers or options.max_workers or 1
    return Limits(fixed, fixed)


def too_few_workers(spec: DeploymentSpec, maximum: int, key: str, option: str = "max_workers") -> list[Issue]:
    """Report if more pools have work at once than there may be workers.

    Parameters
    ----------
    spec : DeploymentSpec
        What is to run.
    maximum : int
        Workers of all pools together, at the most.
    key, option : str
        Key of the target that says so, and the option that would mend it.
    """
    working = working_pools(spec)
    if len(working) <= maximum:
        return []
    message = f"{len(working)} pools have work at once ({', '.join(working)}), but there are {maximum} workers"
    hint = f"set {option} to {len(working)} or more"
    return [spec.issue("E_TOO_FEW_WORKERS", f"targets.{spec.target}.{key}", message, hint)]


def elastic(report: ValidationReport) -> ValidationReport:
    """Return what is wrong with a target whose pools start empty and take what others leave to them."""
    return ValidationReport(tuple(issue for issue in report.issues if issue.code != "E_TOO_FEW_WORKERS"))


def check_parts(spec: DeploymentSpec, check: Callable[[DeploymentSpec], ValidationReport]) -> ValidationReport:
    """Report what the targets cannot honour of which one is made: a primary, and others that take its overflow.

    Parameters
    ----------
    spec : DeploymentSpec
        What is to run.
    check : callable
        Reports what one of them cannot honour.
    """
    primary, *others = (spec.part(name) for name in spec.parts)
    reports = [check(primary), *(elastic(check(part)) for part in others)]
    return ValidationReport(tuple(dict.fromkeys(issue for report in reports for issue in report.issues)))


def missing_preload(spec: DeploymentSpec, component: ComponentSpec) -> list[Issue]:
    """Report if a component's preload script is a file that is not there."""
    script = component.preload_script
    if script is None or not script.endswith((".sh", ".py")) or Path(script).is_file():
        return []
    path, hint = f"components.{component.name}.preload_script", "give a path relative to where you start"
    return [spec.issue("E_MISSING_FILE", path, f"there is no file {script}", hint)]


def _preload(spec: DeploymentSpec, component: ComponentSpec, *, processes: bool) -> list[Issue]:
    script = component.preload_script
    if script is not None and script.endswith(".sh") and not processes:
        message = "not run: a shell script cannot change the environment of this process"
        path, hint = f"components.{component.name}.preload_script", "set `processes: true` in the target"
        return [spec.issue("W_PRELOAD_NEEDS_PROCESSES", path, message, hint)]
    return missing_preload(spec, component)
