"""What each batch system is told of a job, in its own words."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from scalable.providers.batch.systems import BatchSystem
from scalable.providers.options.batch import (
    BatchOptions,
    HtcondorOptions,
    OarOptions,
    PbsOptions,
    SgeOptions,
    SlurmOptions,
)

__all__ = ["MIB", "WORDS", "Booking", "Words"]

MIB = 2**20


@dataclass(frozen=True, slots=True)
class Booking:
    """What one job asks the batch system for.

    Attributes
    ----------
    name, comment : str
        Of the job; the comment may be empty.
    cpus, memory_mib, gpus : int
        For all its workers together.
    log : str
        Path of the job's log, with what stands for its id.
    """

    name: str
    comment: str
    cpus: int
    memory_mib: int
    gpus: int
    log: str


@dataclass(frozen=True, slots=True)
class Words:
    """One batch system's words for a job: arguments for dask-jobqueue, and what it does not write."""

    arguments: Mapping[str, Any]
    directives: tuple[str, ...]
    prologue: tuple[str, ...] = ()


def _clock(seconds: float | None, *, with_seconds: bool = True) -> str | None:
    """Return a walltime as ``HH:MM:SS`` or ``HH:MM``, never shorter than it is."""
    if seconds is None:
        return None
    whole = math.ceil(seconds)
    if not with_seconds:
        whole = math.ceil(whole / 60) * 60
    hours, rest = divmod(whole, 3600)
    minutes, over = divmod(rest, 60)
    return f"{hours:02d}:{minutes:02d}" + (f":{over:02d}" if with_seconds else "")


def _quoted(system: BatchSystem, value: str | None) -> str | None:
    return None if value is None else system.quote(value)


def _resource_spec(system: BatchSystem, spec: str | None, booking: Booking) -> str | None:
    # Not str.format: OAR's own requests hold braces.
    if spec is None:
        return None
    filled = spec.replace("{cpus}", str(booking.cpus)).replace("{memory_mb}", str(booking.memory_mib))
    return system.quote(filled)


def _slurm(system: BatchSystem, options: BatchOptions, booking: Booking) -> Words:
    assert isinstance(options, SlurmOptions)
    gib, rest = divmod(booking.memory_mib, 1024)
    arguments = {
        "queue": _quoted(system, options.queue),
        "account": _quoted(system, options.account),
        "walltime": _clock(options.walltime),
        "job_mem": f"{booking.memory_mib}M" if rest else f"{gib}G",
    }
    values = {"qos": options.qos, "reservation": options.reservation, "comment": booking.comment}
    if booking.gpus:
        values["gres"] = f"gpu:{booking.gpus}"
    directives = [f"--{name}={system.quote(value)}" for name, value in values.items() if value]
    # A pool replaces a job that is lost; a job that came back as well would be one too many.
    return Words(arguments, (*directives, "--no-requeue", f"-o {system.quote(booking.log)}"))


def _pbs(system: BatchSystem, options: BatchOptions, booking: Booking) -> Words:
    assert isinstance(options, PbsOptions)
    arguments = {
        "queue": _quoted(system, options.queue),
        "resource_spec": _resource_spec(system, options.resource_spec, booking)
        or f"select=1:ncpus={booking.cpus}:mem={booking.memory_mib}mb",
        "walltime": _clock(options.walltime),
        # Else it would ask the environment for an account.
        "job_directives_skip": ["#PBS -A "],
    }
    account = [] if options.account is None else [f"-A {system.quote(options.account)}"]
    return Words(arguments, (*account, "-S /bin/bash", "-r n", "-j oe", f"-o {system.quote(booking.log)}"))


def _lsf(system: BatchSystem, options: BatchOptions, booking: Booking) -> Words:
    arguments = {
        "queue": _quoted(system, options.queue),
        "ncpus": booking.cpus,
        "mem": booking.memory_mib * MIB,
        "walltime": _clock(options.walltime, with_seconds=False),
        # It would write the memory without a unit, which means what each cluster's lsf.conf says.
        "lsf_units": "mb",
        "job_directives_skip": ["#BSUB -M "],
    }
    account = [] if options.account is None else [f"-P {system.quote(options.account)}"]
    return Words(arguments, (f"-M {booking.memory_mib}MB", *account, "-rn", f"-o {system.quote(booking.log)}"))


def _sge(system: BatchSystem, options: BatchOptions, booking: Booking) -> Words:
    assert isinstance(options, SgeOptions)
    arguments = {
        "queue": _quoted(system, options.queue),
        "project": _quoted(system, options.account),
        "resource_spec": _resource_spec(system, options.resource_spec, booking),
        "walltime": _clock(options.walltime),
    }
    return Words(arguments, ("-S /bin/bash", "-r n", f"-o {system.quote(booking.log)}"))


def _htcondor(system: BatchSystem, options: BatchOptions, booking: Booking) -> Words:
    assert isinstance(options, HtcondorOptions)
    directives = [f"batch_name = {system.quote(booking.name)}"]
    if options.account is not None:
        directives.append(f"accounting_group = {system.quote(options.account)}")
    if options.walltime is not None:
        limit = math.ceil(options.walltime)
        directives.append(f"periodic_remove = (JobStatus == 2) && (time() - EnteredCurrentStatus > {limit})")
    # Streamed, because a job that is removed hands nothing back.
    directives += [f"Output = {booking.log}", "Stream_Output = True"]
    arguments = {"disk": str(options.disk_bytes), "shebang": "#!/usr/bin/env condor_submit"}
    return Words(arguments, tuple(directives), prologue=("exec 2>&1",))


def _oar(system: BatchSystem, options: BatchOptions, booking: Booking) -> Words:
    assert isinstance(options, OarOptions)
    arguments = {
        "queue": _quoted(system, options.queue),
        "project": _quoted(system, options.account),
        "resource_spec": _resource_spec(system, options.resource_spec, booking),
        "walltime": _clock(options.walltime),
        # Which property of a core is its memory differs from cluster to cluster.
        "memory_per_core_property_name": "not_applicable",
    }
    log = system.quote(booking.log)
    return Words(arguments, (f"-O {log}", f"-E {log}"))


WORDS: Mapping[str, Callable[[BatchSystem, BatchOptions, Booking], Words]] = MappingProxyType(
    {"slurm": _slurm, "pbs": _pbs, "lsf": _lsf, "sge": _sge, "htcondor": _htcondor, "oar": _oar}
)
"""By the name of the system."""
