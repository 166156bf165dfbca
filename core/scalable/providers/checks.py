"""What providers say of a deployment without their libraries."""

from __future__ import annotations

from pathlib import Path

from scalable.errors import Issue, ValidationReport
from scalable.planning import working_pools
from scalable.providers.options.local import LocalOptions
from scalable.spec import ComponentSpec, DeploymentSpec, Limits

__all__ = ["check_local", "local_limits"]


def check_local(spec: DeploymentSpec) -> ValidationReport:
    """Report what of a deployment the local provider cannot honour on this machine."""
    processes = isinstance(spec.options, LocalOptions) and spec.options.processes
    issues = _split(spec)
    for name, component in spec.components.items():
        path = f"components.{name}"
        if component.env and not processes:
            message = "not applied: the workers are threads of this process"
            issues.append(
                spec.issue("W_ENV_NEEDS_PROCESSES", f"{path}.env", message, "set `processes: true` in the target")
            )
        issues += _preload(spec, f"{path}.preload_script", component, processes=processes)
    return ValidationReport(tuple(issues))


def local_limits(options: LocalOptions) -> Limits:
    """Return the bounds on the number of workers, all pools together."""
    if options.adaptive is None:
        return Limits(options.max_workers, options.max_workers)
    ceiling = options.max_workers if "max_workers" in options.model_fields_set else options.adaptive.maximum
    return Limits(min(options.adaptive.minimum, ceiling), min(options.adaptive.maximum, ceiling))


def _split(spec: DeploymentSpec) -> list[Issue]:
    assert isinstance(spec.options, LocalOptions)
    working, maximum = working_pools(spec), local_limits(spec.options).maximum
    if len(working) <= maximum:
        return []
    key = "max_workers" if "max_workers" in spec.options.model_fields_set else "provider"
    message = f"{len(working)} pools have work at once ({', '.join(working)}), but there are {maximum} workers"
    hint = f"set max_workers to {len(working)} or more"
    return [spec.issue("E_TOO_FEW_WORKERS", f"targets.{spec.target}.{key}", message, hint)]


def _preload(spec: DeploymentSpec, path: str, component: ComponentSpec, *, processes: bool) -> list[Issue]:
    script = component.preload_script
    if script is None:
        return []
    if script.endswith(".sh") and not processes:
        message = "not run: a shell script cannot change the environment of this process"
        return [spec.issue("W_PRELOAD_NEEDS_PROCESSES", path, message, "set `processes: true` in the target")]
    if script.endswith((".sh", ".py")) and not Path(script).is_file():
        hint = "give a path relative to where you start"
        return [spec.issue("E_MISSING_FILE", path, f"there is no file {script}", hint)]
    return []
