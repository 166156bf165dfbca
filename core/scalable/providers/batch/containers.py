"""How Python is started in a container, by Apptainer or by Podman."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from scalable.providers.options.batch import BatchOptions
from scalable.spec import ComponentSpec

__all__ = ["RUNTIMES", "Bind", "exports", "image_file", "leave_none", "python_command", "runtime_of"]

RUNTIMES = ("none", "apptainer", "podman")
"""What ``container_runtime`` and a component's ``runtime`` may be."""

# Less than the ten seconds that some batch systems give a job between TERM and KILL.
_STOP_S = 5

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


def leave_none(runtime: str, container: str) -> list[str]:
    """Return the lines of a script by which no container outlives the script that runs it.

    A container of Podman is no child of it, and need not be in the job's control group. If a signal ends
    ``podman run`` when it has made a container but does not hand signals on yet, that container stays for ever.
    So the shell outlives it, and removes the container in whatever state that is. A shell that is killed without
    a warning, or before it is through, cannot: a worker then ends when it has lost its scheduler, but a container
    that was not started stays.

    Parameters
    ----------
    runtime : str
        ``none``, ``apptainer`` or ``podman``.
    container : str
        Its name, quoted for a shell.
    """
    if runtime != "podman":
        return []
    # Only when podman has ended can it make no container any more. What fails must not keep the rest from
    # being done, not even under `set -e`.
    end = "{ kill $!; wait $!; } 2>/dev/null || :"
    return [
        'contained() { "$@" & wait $!; }',
        f"ended() {{ trap '' INT TERM; {end}; podman rm --force --ignore {container} >/dev/null; }}",
        "trap ended EXIT",
        "trap exit INT TERM",
    ]


def python_command(
    runtime: str,
    component: ComponentSpec,
    python: str,
    binds: Iterable[Bind],
    variables: Iterable[str],
    *,
    container: str,
) -> str:
    """Return the last command of a script, which starts Python, quoted for a shell.

    It takes the place of the shell, so that signals reach it, or needs the lines of :func:`leave_none`.

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
    container : str
        Name of the container, quoted for a shell, where the runtime gives names.
    """
    if runtime == "none" or component.image is None:
        return f"exec {shlex.quote(python)}"
    mounts = {there: Bind(here, there) for here, there in component.mounts.items()}
    for bind in binds:
        mounts.setdefault(bind.destination, bind)
    if runtime == "apptainer":
        return f"exec {shlex.join([*_apptainer(component, mounts), python])}"
    return f"contained podman run --name {container} {shlex.join([*_podman(component, mounts, variables), python])}"


def _apptainer(component: ComponentSpec, mounts: dict[str, Bind]) -> list[str]:
    image = component.image or ""
    file = image_file(image)
    reference = str(file) if file else image if _SCHEME.match(image) else f"docker://{image}"
    gpus = ["--nv"] if component.resources.gpus else []
    binds = [word for bind in mounts.values() for word in ("--bind", str(bind))]
    return ["apptainer", "exec", *gpus, *binds, reference]


def _podman(component: ComponentSpec, mounts: dict[str, Bind], variables: Iterable[str]) -> list[str]:
    """Return what follows the name of the container."""
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
    # The shell stops the container. A worker that is told twice would end without a word to its scheduler.
    end = ["--rm", "--sig-proxy=false", f"--stop-timeout={_STOP_S}"]
    return [*end, *host, *gpus, *binds, *everything, *passed, image]
