"""The text of a job: what the batch system is told, and what runs on the node.

dask-jobqueue writes it, from what the manifest says and from nothing else: neither a
``jobqueue.yaml`` of the user nor the machine at hand has a say.
"""

from __future__ import annotations

import math
import shlex
import signal
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from types import MappingProxyType
from typing import Any

from scalable.errors import MissingExtra, ProviderError
from scalable.pools.shape import PoolShape
from scalable.providers.batch.containers import Bind, exports, leave_none, python_command, runtime_of
from scalable.providers.batch.systems import BatchSystem
from scalable.providers.batch.words import MIB, WORDS, Booking
from scalable.providers.environment import thread_environment
from scalable.providers.options.batch import BatchOptions
from scalable.spec import ComponentSpec

__all__ = ["Launch", "TlsFiles", "job_script"]

_DEATH_TIMEOUT_S = 60
# Without its dashboard Dask would still serve much of it by HTTP, to every user of the node.
_NO_PAGES = {"DASK_DISTRIBUTED__WORKER__HTTP__ROUTES": "[]"}

# dask-jobqueue asks its configuration for whatever it is not told, and warns of some keys if
# they are not there. This section of ours has them all.
_SECTION = "scalable"
_DEFAULTS: Mapping[str, Any] = MappingProxyType(
    dict.fromkeys(
        (
            "account", "cores", "death-timeout", "disk", "env-extra", "extra", "header-skip", "interface", "job-cpu",
            "job-extra", "job-mem", "local-directory", "log-directory", "lsf-units", "mem", "memory",
            "memory-per-core-property-name", "name", "ncpus", "processes", "project", "python", "queue",
            "resource-spec", "shared-temp-directory", "walltime",
        )
    )
    | {
        "cancel-command-extra": [],
        "job-directives-skip": [],
        "job-extra-directives": [],
        "job-script-prologue": [],
        "shebang": "#!/usr/bin/env bash",
        "submit-command-extra": [],
        "use-stdin": True,
        "worker-command": "distributed.cli.dask_worker",
        "worker-extra-args": [],
    }
)  # fmt: skip
# Dask's configuration is one for all threads.
_configuration = threading.Lock()


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """The files by which workers and scheduler know each other: absolute paths, all in one directory."""

    directory: Path
    ca: Path
    cert: Path
    key: Path


@dataclass(frozen=True, slots=True)
class Launch:
    """What all jobs of a run have in common.

    Attributes
    ----------
    run_id : str
        Name of all its jobs.
    scheduler_address : str
        Such as ``tls://10.0.0.1:8786``.
    log_directory : Path
        Absolute; it exists.
    tls : TlsFiles or None
        ``None`` where the target is insecure.
    comment : str
        By which the jobs are known again, where the batch system keeps comments.
    """

    run_id: str
    scheduler_address: str
    log_directory: Path
    tls: TlsFiles | None
    comment: str = ""


def job_script(
    system: BatchSystem,
    options: BatchOptions,
    shape: PoolShape,
    launch: Launch,
    *,
    group: int,
    workers: int,
    array: bool,
) -> str:
    """Return the script that is handed to the batch system.

    The job's log is ``POOL-ID.log`` in the log directory, where ``ID`` is what the batch
    system's commands call the job (``123_4`` in an array of Slurm); PBS names its logs itself.
    The worker takes the place of the shell (``exec``), so that signals reach it; for a container of
    Podman the shell stays, and removes it in the end.

    Parameters
    ----------
    system : BatchSystem
        A row of the table.
    options : BatchOptions
        The target's options, of that system's own model.
    shape : PoolShape
        What each worker is like.
    launch : Launch
        What all jobs of the run have in common.
    group : int
        Number of the job in its pool, or of the first one of an array.
    workers : int
        Workers that it starts: ``POOL-GROUP``, or ``POOL-GROUP~-0`` and so on where there are several.
    array : bool
        Whether it is submitted as an array, whose element k is job ``group + k``.

    Raises
    ------
    MissingExtra
        If dask-jobqueue is not installed.
    ProviderError
        If something cannot be written so that the batch system understands it.
    """
    component = shape.component
    booking = _booking(system, component, launch, workers, array=array, pool=shape.name)
    words = WORDS[system.name](system, options, booking)
    # Names of workers are not used twice in a run.
    container = f"{shlex.quote(launch.run_id)}-{_worker_name(system, shape.name, group, 1, array=array)}"
    given: dict[str, Any] = {
        "scheduler": shlex.quote(launch.scheduler_address),
        "name": _worker_name(system, shape.name, group, workers, array=array),
        "job_name": system.quote(launch.run_id),
        "cores": booking.cpus,
        "memory": f"{booking.memory_mib}MiB",
        "processes": workers,
        "nanny": True,
        "death_timeout": _DEATH_TIMEOUT_S,
        "python": _python(system, options, component, launch, container),
        "worker_extra_args": _worker_arguments(options, shape, launch),
        "job_script_prologue": [*words.prologue, *_prologue(options, shape, container)],
        "job_extra_directives": [*words.directives, *options.job_extra_directives],
        "config_name": _SECTION,
        **words.arguments,
    }
    for key in ("name", "python"):
        given[key] = system.verbatim(given[key])
    for key in ("worker_extra_args", "job_script_prologue"):
        given[key] = [system.verbatim(line) for line in given[key]]
    return _written(system, given, shape)


def _written(system: BatchSystem, given: dict[str, Any], shape: PoolShape) -> str:
    try:
        import dask  # noqa: PLC0415

        module, _, name = system.job_class.partition(":")
        with _signals_kept():
            job_class: Any = getattr(import_module(module), name)
    except ImportError as error:
        raise MissingExtra(
            f"{system.title} jobs need dask-jobqueue: pip install 'scalable-workflows[slurm]'"
        ) from error
    if system.name == "htcondor":
        pairs = (line.partition("=") for line in given["job_extra_directives"])
        given["job_extra_directives"] = {key.strip(): value.strip() for key, _, value in pairs}
    # dask-jobqueue divides what a job books by the number of its workers, and rounds. The shape knows it exactly.
    exact = {"worker_process_threads": shape.threads, "worker_process_memory": shape.component.resources.memory_bytes}
    with _configuration, dask.config.set({f"jobqueue.{_SECTION}": dict(_DEFAULTS)}):
        job = type(name, (job_class,), exact)(**given)
    return str(job.job_script())


@contextmanager
def _signals_kept() -> Iterator[None]:
    """Let nobody change what a signal does.

    Importing dask-jobqueue 0.9 takes Ctrl-C and SIGTERM over for the whole process, and fails
    outside the main thread, where no signal can be taken over.
    """
    with _configuration:
        before = signal.signal
        signal.signal = lambda number, _handler: signal.getsignal(number)  # type: ignore[assignment]
        try:
            yield
        finally:
            signal.signal = before


def _booking(
    system: BatchSystem, component: ComponentSpec, launch: Launch, workers: int, *, array: bool, pool: str
) -> Booking:
    need = component.resources
    if need.memory_bytes is None:
        raise ProviderError(f"component '{component.name}' does not say how much memory its workers need")
    directory = str(launch.log_directory)
    if wrong := next((sign for sign in system.not_in_logs if sign in directory), ""):
        raise ProviderError(f"{system.title} cannot write logs to {directory}: the path holds a {wrong!r}")
    if system.log_id:
        directory = directory.replace("%", "%%") if system.name == "slurm" else directory
        log = f"{system.verbatim(directory)}/{pool}-{system.log_array_id if array else system.log_id}.log"
    else:
        log = f"{directory}/"
    return Booking(
        name=launch.run_id,
        comment=launch.comment,
        cpus=workers * math.ceil(need.cpus),
        memory_mib=math.ceil(workers * need.memory_bytes / MIB),
        gpus=workers * need.gpus,
        log=log,
    )


def _worker_name(system: BatchSystem, pool: str, group: int, workers: int, *, array: bool) -> str:
    # Dask puts `-0`, `-1` after the name where there are several.
    end = "~" if workers > 1 else ""
    return f'"{pool}-$(({group}+{system.array})){end}"' if array else f"{pool}-{group}{end}"


def _preload_file(component: ComponentSpec) -> Path | None:
    """Return the component's preload script if it is a file."""
    script = component.preload_script
    return Path(script).absolute() if script is not None and script.endswith((".py", ".sh")) else None


def _prologue(options: BatchOptions, shape: PoolShape, container: str) -> list[str]:
    component = shape.component
    own = thread_environment(component, shape.threads) | _NO_PAGES
    lines = [f"export {name}={shlex.quote(value)}" for name, value in own.items()]
    lines += options.job_script_prologue
    script = _preload_file(component)
    if script is not None and script.suffix == ".sh":
        lines.append(f". {shlex.quote(str(script))} || exit")
    runtime = runtime_of(options, component)
    return lines + exports(runtime, component) + leave_none(runtime, container)


def _python(
    system: BatchSystem, options: BatchOptions, component: ComponentSpec, launch: Launch, container: str
) -> str:
    runtime = runtime_of(options, component)
    python = options.python or (sys.executable if runtime == "none" else "python3")
    binds = []
    if launch.tls is not None:
        binds.append(Bind(str(launch.tls.directory), str(launch.tls.directory), read_only=True))
    script = _preload_file(component)
    if script is not None and script.suffix == ".py":
        binds.append(Bind(str(script.parent), str(script.parent), read_only=True))
    wrong = next((bind.source for bind in binds if set(bind.source) & set(":,")), None)
    if runtime != "none" and wrong is not None:
        raise ProviderError(f"{wrong} cannot be bound into a container: the path holds a ':' or ','")
    variables = (*thread_environment(component, 1), *_NO_PAGES, f"{system.variables}*")
    return python_command(runtime, component, python, binds, variables, container=container)


def _worker_arguments(options: BatchOptions, shape: PoolShape, launch: Launch) -> list[str]:
    labels = " ".join(f"{name}={amount:.15g}" for name, amount in shape.labels.items())
    words = ["--no-dashboard", "--dashboard-address", "127.0.0.1:0", "--resources", labels]
    words += ["--preload", "scalable.pools.worker_setup"]
    script = shape.component.preload_script
    if script is not None and not script.endswith(".sh"):
        words += ["--preload", str(_preload_file(shape.component) or script)]
    words += ["--preload-nanny", "scalable.pools.nanny_setup"]
    if options.interface is not None:
        words += ["--interface", options.interface]
    if launch.tls is not None:
        words += ["--protocol", "tls", "--tls-ca-file", str(launch.tls.ca)]
        words += ["--tls-cert", str(launch.tls.cert), "--tls-key", str(launch.tls.key)]
    return [shlex.quote(word) for word in words]
