"""What can be said of a deployment on a batch system before anything is submitted."""

from __future__ import annotations

import re
from collections.abc import Iterator

from scalable.errors import Issue, ValidationReport
from scalable.providers.batch.containers import RUNTIMES, image_file, runtime_of
from scalable.providers.batch.systems import SYSTEMS, BatchSystem
from scalable.providers.checks import missing_preload, remote_limits, too_few_workers
from scalable.providers.options.batch import BatchOptions
from scalable.providers.prices import missing_prices
from scalable.spec import ComponentSpec, DeploymentSpec, TaskSpec
from scalable.units import format_duration

__all__ = ["check_batch"]


# Words of sbatch(1), which takes the long ones shortened as well.
_RESERVED = re.compile(r"--(job-n|com|ar)[a-z-]*|-[JaW](?=\S|\s|$)|--(wait|test-only)")


def check_batch(spec: DeploymentSpec) -> ValidationReport:
    """Report what of a deployment its batch system cannot honour; nobody is asked.

    Parameters
    ----------
    spec : DeploymentSpec
        What is to run, with the options of a batch system.
    """
    options = spec.options
    assert isinstance(options, BatchOptions)
    system = SYSTEMS[spec.provider]
    issues = [*too_few_workers(spec, remote_limits(options).maximum, *_what_limits(options))]
    issues += [*_target(spec, options, system), *missing_prices(spec)]
    if system.name == "slurm":
        issues += _reserved(spec, options)
    for component in spec.components.values():
        issues += _resources(spec, options, system, component)
        issues += _container(spec, options, component)
        issues += missing_preload(spec, component)
    for task in spec.tasks.values():
        issues += _task(spec, options, task)
    return ValidationReport(tuple(issues))


def _what_limits(options: BatchOptions) -> tuple[str, str]:
    """Return the key that bounds the number of workers, and the option that would allow more."""
    if options.adaptive is not None and options.adaptive.maximum <= (options.max_workers or options.adaptive.maximum):
        return "adaptive", "adaptive.maximum"
    if options.max_workers is not None:
        return "max_workers", "max_workers"
    return ("n_workers", "n_workers") if options.n_workers is not None else ("provider", "max_workers")


def _target(spec: DeploymentSpec, options: BatchOptions, system: BatchSystem) -> Iterator[Issue]:
    where = f"targets.{spec.target}"
    if options.insecure:
        message = "whoever reaches the scheduler's port can run programs as you, and read what is sent"
        yield spec.issue("W_INSECURE", f"{where}.insecure", message, "remove it: certificates are made for each run")
    if wrong := _first_of(system.not_in_logs, options.log_directory):
        message = f"{system.title} cannot write logs to a path that holds a {wrong!r}"
        yield spec.issue("E_BAD_VALUE", f"{where}.log_directory", message, "choose another directory")
    runtimes = {runtime_of(options, component) for component in spec.components.values()}
    if runtimes - {"none"} and (wrong := _first_of(":,", options.shared_temp_directory)):
        message = f"a path that holds a {wrong!r} cannot be bound into containers"
        yield spec.issue("E_BAD_VALUE", f"{where}.shared_temp_directory", message, "choose another directory")
    if system.name in {"sge", "oar"} and getattr(options, "resource_spec", None) is None:
        what = "cpus and memory are" if system.name == "sge" else "memory is"
        message = f"{what} not asked for: how to do so differs between clusters of {system.title}"
        yield spec.issue("W_NOT_BOOKED", f"{where}.provider", message, "set resource_spec as your cluster has it")


def _reserved(spec: DeploymentSpec, options: BatchOptions) -> Iterator[Issue]:
    """Yield the directives by which Slurm would lose what the jobs of a run are known by."""
    for number, directive in enumerate(options.job_extra_directives):
        option = _RESERVED.match(directive)
        if option is not None:
            path = f"targets.{spec.target}.job_extra_directives.{number}"
            message = f"{option[0]} is Scalable's own: by name and comment the jobs of a run are found again"
            yield spec.issue("E_OPTION_CONFLICT", path, message, "remove it")


def _first_of(signs: str, text: str | None) -> str:
    return next((sign for sign in signs if sign in (text or "")), "")


def _resources(
    spec: DeploymentSpec, options: BatchOptions, system: BatchSystem, component: ComponentSpec
) -> Iterator[Issue]:
    where, need = f"components.{component.name}", component.resources
    if need.memory_bytes is None:
        message = f"a {system.title} job must say how much memory it needs"
        yield spec.issue("E_NEEDS_MEMORY", f"{where}.memory", message, "give the component a memory")
    if need.gpus and system.name != "slurm":
        message = f"gpus cannot be asked of {system.title} in a common way"
        option = "resource_spec" if "resource_spec" in type(options).model_fields else "job_extra_directives"
        hint = f"remove it, ask for devices in {option}, and add gpu to the component's capabilities"
        yield spec.issue("E_OPTION_CONFLICT", f"{where}.gpus", message, hint)
    elif need.gpus and options.workers_per_job > 1:
        message = f"the {options.workers_per_job} workers of a job would all use its first device"
        yield spec.issue("E_OPTION_CONFLICT", f"{where}.gpus", message, "set workers_per_job to 1")


def _container(spec: DeploymentSpec, options: BatchOptions, component: ComponentSpec) -> Iterator[Issue]:
    where, image, runtime = f"components.{component.name}", component.image, runtime_of(options, component)
    if runtime not in RUNTIMES:
        message, hint = f"batch jobs run in no container of {runtime!r}", f"write one of {', '.join(RUNTIMES)}"
        yield spec.issue("E_BAD_VALUE", f"{where}.runtime", message, hint)
    if runtime == "none" and image is not None:
        message = "not used: no container is to run it"
        hint = "set container_runtime to apptainer or podman, or remove the image"
        yield spec.issue("W_IMAGE_NOT_USED", f"{where}.image", message, hint)
    if runtime == "none" and component.mounts:
        message = "not mounted: the workers run in no container and see the node's own files"
        yield spec.issue("W_MOUNTS_NEED_CONTAINER", f"{where}.mounts", message, "give the component an image")
    if runtime == "podman" and image is not None and image_file(image) is not None:
        message = f"Podman runs images of registries, not the file {image}"
        yield spec.issue("E_OPTION_CONFLICT", f"{where}.image", message, "set `container_runtime: apptainer`")
    commas = [one for pair in component.mounts.items() for one in pair if "," in one]
    if runtime == "apptainer" and commas:
        message = f"{commas[0]!r} holds a ',', which Apptainer takes for the end of a path"
        yield spec.issue("E_BAD_MOUNT", f"{where}.mounts", message, "mount a directory above it")


def _task(spec: DeploymentSpec, options: BatchOptions, task: TaskSpec) -> Iterator[Issue]:
    where = f"tasks.{task.name}"
    if options.walltime is not None and task.duration_s is not None and task.duration_s > options.walltime:
        longest, takes = format_duration(options.walltime), format_duration(task.duration_s)
        message = f"takes {takes}, but jobs end after {longest}: it could never finish"
        hint = f"raise the walltime of target '{spec.target}'"
        yield spec.issue("E_WALLTIME_TOO_SHORT", f"{where}.duration", message, hint)
    if task.memory_step_bytes is not None and not task.retries:
        message = "not used: a task without retries is not tried again in a larger worker"
        yield spec.issue("W_MEMORY_STEP", f"{where}.memory_step", message, "set retries to 1 or more")
