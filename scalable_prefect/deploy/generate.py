"""From a target to a deployment: pure."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from scalable import ScalableSession

__all__ = ["TARGET_PARAMETER", "Generated", "Place", "generate"]

TARGET_PARAMETER = "scalable_target"
"""The parameter by which a flow can be told its target."""

_CODE_IN_IMAGE = "/opt/prefect"
_ECS_CPU = 1024


@dataclass(frozen=True, slots=True)
class Place:
    """Where a flow and its manifest are.

    Attributes
    ----------
    entrypoint : str
        Its file and function, from the project's directory.
    manifest : str
        The manifest, from there.
    directory : str
        Name of the project's directory, which is also that below ``/opt/prefect`` in images.
    takes_target : bool
        Whether the flow has the parameter ``scalable_target``.
    pulls : bool
        Whether ``prefect.yaml`` says by itself where flows are pulled from.
    """

    entrypoint: str
    manifest: str
    directory: str
    takes_target: bool = False
    pulls: bool = False


@dataclass(frozen=True, slots=True)
class Generated:
    """A deployment as its target makes it.

    Attributes
    ----------
    pool_type : str
        Type of its work pool.
    values : dict
        The deployment, as ``prefect.yaml`` has it.
    notes : tuple of str
        What it leaves for the user to say.
    """

    pool_type: str
    values: dict[str, Any]
    notes: tuple[str, ...] = ()


def generate(session: ScalableSession, place: Place) -> Generated:
    """Return the deployment of a target.

    The flow's process, which holds the scheduler, must be where workers can reach it: beside a
    worker of Prefect (``process``) for this machine, for login nodes and for a machine in
    Google's network, since Cloud Run and Vertex AI take no connections; in a pod, or in a task of
    ECS, where the workers are such.

    Parameters
    ----------
    session : ScalableSession
        A run on the target, not started.
    place : Place
        Where the flow is.
    """
    spec = session.spec
    # Workers of the first are there from the start, so the scheduler is with them.
    home = spec.part(spec.options.model_dump()["primary"]) if spec.provider == "hybrid" else spec
    options = home.options.model_dump()
    pool_type, variables_of = _KINDS.get(home.provider, ("process", _process))
    # The flow's process is given what a worker of the default pool is given.
    size = (spec.components.get("default") or next(iter(spec.components.values()))).resources
    variables, notes = variables_of(options, _Size(size.cpus, size.memory_bytes))
    variables["env"] = {"SCALABLE_MANIFEST": place.manifest, "SCALABLE_TARGET": spec.target, **variables.pop("env", {})}
    values: dict[str, Any] = {"name": spec.target, "entrypoint": place.entrypoint}
    if place.takes_target:
        values["parameters"] = {TARGET_PARAMETER: spec.target}
    values["tags"] = ["scalable", f"target:{spec.target}"]
    if pool_type != "process":
        notes += _notes_on_code(place)
        if not place.pulls:
            where = f"{_CODE_IN_IMAGE}/{place.directory}"
            values["pull"] = [{"prefect.deployments.steps.set_working_directory": {"directory": where}}]
    values["work_pool"] = {"name": f"scalable-{spec.target}", "job_variables": variables}
    return Generated(pool_type, values, tuple(notes))


class _Size(NamedTuple):
    cpus: float
    memory_bytes: int | None


_Variables = tuple[dict[str, Any], list[str]]


def _process(options: Mapping[str, Any], size: _Size) -> _Variables:
    return {}, []


def _gcp(options: Mapping[str, Any], size: _Size) -> _Variables:
    notes = ["start its worker on a machine in the network of the target's machines, which must reach the flow"]
    return {"env": _given({"GOOGLE_CLOUD_PROJECT": options.get("project_id")})}, notes


def _kubernetes(options: Mapping[str, Any], size: _Size) -> _Variables:
    memory = None if size.memory_bytes is None else f"{math.ceil(size.memory_bytes / 2**20)}Mi"
    variables = {
        "namespace": options.get("namespace"),
        "image": options.get("image"),
        "service_account_name": options.get("service_account"),
        "cpu_request": f"{size.cpus:g}",
        "memory_request": memory,
        "memory_limit": memory,
    }
    notes = _notes_on_image(options)
    pool_only = [name for name in ("node_selector", "tolerations", "image_pull_secrets") if options.get(name)]
    if pool_only:
        notes.append(f"{', '.join(pool_only)}: no job variable has it; say it in the pool's base job template")
    if not options.get("service_account"):
        notes.append("the flow's pod makes and deletes pods: give the target a `service_account` that may")
    return _given(variables), notes


def _ecs(options: Mapping[str, Any], size: _Size) -> _Variables:
    cpu = options.get("worker_cpu") or _ECS_CPU
    # Twice as many MiB as cpu units is a size that Fargate has for each number of them.
    memory = (options.get("worker_mem") if options.get("worker_cpu") else None) or 2 * cpu
    network = {
        "subnets": list(options.get("subnets") or ()),
        "securityGroups": list(options.get("security_groups") or ()),
    }
    variables = {
        "image": options.get("image"),
        "cluster": options.get("cluster_arn"),
        "launch_type": "FARGATE",
        "cpu": cpu,
        "memory": memory,
        "task_role_arn": options.get("task_role_arn"),
        "execution_role_arn": options.get("execution_role_arn"),
        "network_configuration": {name: ids for name, ids in network.items() if ids},
        "env": _given({"AWS_DEFAULT_REGION": options.get("region")}),
    }
    notes = _notes_on_image(options)
    if variables["network_configuration"]:
        notes.append("Prefect takes `network_configuration` only with a `vpc_id`: add it to the job variables")
    if not options.get("task_role_arn"):
        notes.append("the flow's task starts and stops tasks: give the target a `task_role_arn` that may")
    return _given(variables), notes


_KINDS: Mapping[str, tuple[str, Callable[[Mapping[str, Any], _Size], _Variables]]] = {
    "kubernetes": ("kubernetes", _kubernetes),
    "aws": ("ecs", _ecs),
    "gcp": ("process", _gcp),
}


def _notes_on_image(options: Mapping[str, Any]) -> list[str]:
    if options.get("image"):
        return []
    return ["the target names no image: add one with the flow and its libraries, or the pool's default image runs it"]


def _notes_on_code(place: Place) -> list[str]:
    outside = [path for path in (place.entrypoint, place.manifest) if path.startswith("../")]
    return [f"{path} is outside the project's directory, which is what images hold" for path in outside]


def _given(values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value not in (None, {}, "")}
