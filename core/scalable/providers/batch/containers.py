"""How Python is started in a container, by Apptainer or by Podman."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from scalable.providers.options.batch import BatchOptions
from scalable.spec import ComponentSpec

__all__ = ["RUNTIMES", "Bind", "exports", "image_file", "python_command", "runtime_of"]

RUNTIMES = ("none", "apptainer", "podman")
"""What ``container_runtime`` and a component's ``runtime`` may be."""

_SCHEME = re.compile(r"[a-z][a-z0-9+.-]*://", re.ASCII)

# These would change the runtime itself, were they exported for it to hand on.
_NOT_FOR_PODMAN = frozenset({"HOME", "LD_LIBRARY_PATH", "LD_PRELOAD", "PATH"})


@dataclass(frozen=True, slots=True)
class Bind:
    """A directory or file of the host and where it is in the container."""

    source: str
    destination: str
    read_only: bool = False

    def __str__(self) -> str:
        return f"{self.source}:{self.destination}" + (":ro" if self.read_only else "")


def runtime_of(options: BatchOptions, component: ComponentSpec) -> str:
    """Return what runs a component's workers: ``none``, ``apptainer``, ``podman``, or what its ``runtime`` says."""
    if component.image is None:
        return "none"
    return options.container_runtime or component.runtime or "apptainer"


def image_file(image: str) -> Path | None:
    """Return the path of an image that is a file or directory here; ``None`` if it is one of a registry.

    Examples
    --------
    >>> image_file("/images/model.sif"), image_file("ghcr.io/jgcri/model:1")
    (PosixPath('/images/model.sif'), None)
    """
    if _SCHEME.match(image) or not (image.startswith(("/", "./", "../", "~")) or image.endswith(".sif")):
        return None
    return Path(image).expanduser().absolute()


def exports(runtime: str, component: ComponentSpec) -> list[str]:
    """Return the lines of a script by which a worker gets its component's ``env``."""
    if runtime == "apptainer":
        # In this way a value goes before what the image says, and touches nothing on the host.
        return [f"export APPTAINERENV_{name}={shlex.quote(value)}" for name, value in component.env.items()]
    hidden = _NOT_FOR_PODMAN if runtime == "podman" else frozenset[str]()
    return [f"export {name}={shlex.quote(value)}" for name, value in component.env.items() if name not in hidden]


def python_command(
    runtime: str, component: ComponentSpec, python: str, binds: Iterable[Bind], variables: Iterable[str]
) -> str:
    """Return the command that starts Python, quoted for a shell.

    Parameters
    ----------
    runtime : str
        ``none``, ``apptainer`` or ``podman``.
    component : ComponentSpec
        Its image, mounts and env.
    python : str
        The interpreter, by a path or name that is right where it is to run.
    binds : iterable of Bind
        What the container needs besides the component's mounts.
    variables : iterable of str
        Names of variables of the job that a worker is to have; ``NAME*`` is all that begin so.
    """
    if runtime == "none" or component.image is None:
        return shlex.quote(python)
    mounts = {there: Bind(here, there) for here, there in component.mounts.items()}
    for bind in binds:
        mounts.setdefault(bind.destination, bind)
    words = _apptainer(component, mounts) if runtime == "apptainer" else _podman(component, mounts, variables)
    return shlex.join([*words, python])


def _apptainer(component: ComponentSpec, mounts: dict[str, Bind]) -> list[str]:
    image = component.image or ""
    file = image_file(image)
    reference = str(file) if file else image if _SCHEME.match(image) else f"docker://{image}"
    gpus = ["--nv"] if component.resources.gpus else []
    binds = [word for bind in mounts.values() for word in ("--bind", str(bind))]
    return ["apptainer", "exec", *gpus, *binds, reference]


def _podman(component: ComponentSpec, mounts: dict[str, Bind], variables: Iterable[str]) -> list[str]:
    gpus = ["--device", "nvidia.com/gpu=all"] if component.resources.gpus else []
    binds = [word for bind in mounts.values() for word in ("--volume", str(bind))]
    # What a shell script exports is not known by name. What the image says goes before it.
    script = component.preload_script or ""
    everything = ["--env-host"] if script.endswith(".sh") else []
    # By name, so that no value is seen in the list of processes.
    env = {name: f"{name}={value}" if name in _NOT_FOR_PODMAN else name for name, value in component.env.items()}
    named = dict.fromkeys([*variables, *env.values()])
    passed = [word for name in named for word in ("--env", name)]
    image = (component.image or "").removeprefix("docker://")
    # As the first process of a namespace of its own it would ignore that it is to end until it has begun to listen.
    host = ["--network=host", "--pid=host"]
    return ["podman", "run", "--rm", *host, *gpus, *binds, *everything, *passed, image]
