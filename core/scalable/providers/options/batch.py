"""Options of the batch systems: what they have in common, and what each has of its own."""

from __future__ import annotations

import re
from typing import Annotated, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from scalable.manifest.fields import Flag, Memory, Text, Walltime, problem
from scalable.providers.options.common import RemoteOptions, ThreadsPerWorker

__all__ = [
    "BatchOptions",
    "HtcondorOptions",
    "LsfOptions",
    "OarOptions",
    "PbsOptions",
    "SgeOptions",
    "SlurmOptions",
    "check_port",
]


_COMMENT = re.compile(r"(?:^|[\s;])#")


def check_port(value: object) -> int:
    """Return a port, or refuse what is none."""
    if isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= 65535:
        return value
    raise problem("E_BAD_VALUE", "must be a port: a whole number from 1 to 65535")


def _check_workers_per_job(value: object) -> int:
    if isinstance(value, int) and not isinstance(value, bool) and value >= 1:
        return value
    raise problem("E_BAD_VALUE", "must be a positive integer")


class BatchOptions(RemoteOptions):
    """Options of every batch system.

    Attributes
    ----------
    queue, account : str or None
        Queue (in Slurm: partition) of the jobs, and who pays for them.
    walltime : float or None
        Seconds a job may run.
    interface : str or None
        Network interface by which workers reach the scheduler, such as ``ib0``.
    container_runtime : str or None
        ``none``, ``apptainer`` or ``podman``; by default ``none`` unless a component has an image.
    job_extra_directives, job_script_prologue : tuple of str
        Further directives for the batch system, and lines that a job runs before the worker.
    log_directory, python, shared_temp_directory : str or None
        Where jobs write their logs, the interpreter that they start, and a directory that
        every node sees.
    scheduler_port : int or None
        Port of the scheduler; any free one by default.
    workers_per_job : int
        Workers of one job.
    threads_per_worker : int or None
        Tasks that a worker runs at a time; by default as many as its component has whole cpus.
    insecure : bool
        Whether the connections go without encryption and without a certificate.
    """

    queue: Text | None = None
    account: Text | None = None
    walltime: Walltime | None = None
    interface: Text | None = None
    container_runtime: Literal["none", "apptainer", "podman"] | None = None
    job_extra_directives: tuple[Text, ...] = ()
    job_script_prologue: tuple[Text, ...] = ()
    log_directory: Text | None = None
    python: Text | None = None
    shared_temp_directory: Text | None = None
    scheduler_port: Annotated[int, Field(ge=1, le=65535), BeforeValidator(check_port)] | None = None
    workers_per_job: Annotated[int, Field(ge=1), BeforeValidator(_check_workers_per_job)] = 1
    threads_per_worker: ThreadsPerWorker | None = None
    insecure: Flag = False


class _WithResourceSpec(BatchOptions):
    """Options of batch systems whose request for resources can be written by hand.

    Attributes
    ----------
    resource_spec : str or None
        What follows ``-l`` in place of what Scalable would ask for. ``{cpus}`` and
        ``{memory_mb}`` stand for what a job of the pool needs.
    """

    resource_spec: Text | None = None


class SlurmOptions(BatchOptions):
    """Options of ``provider: slurm``.

    Attributes
    ----------
    qos, reservation : str or None
        Quality of service and reservation of the jobs.
    """

    qos: Text | None = None
    reservation: Text | None = None


class PbsOptions(_WithResourceSpec):
    """Options of ``provider: pbs``."""


class LsfOptions(BatchOptions):
    """Options of ``provider: lsf``."""


class SgeOptions(_WithResourceSpec):
    """Options of ``provider: sge``."""


class OarOptions(_WithResourceSpec):
    """Options of ``provider: oar``."""


class HtcondorOptions(BatchOptions):
    """Options of ``provider: htcondor``.

    Attributes
    ----------
    disk_bytes : int
        ``disk`` of a job, in bytes; 1G by default.
    """

    disk_bytes: Memory = Field(default=2**30, alias="disk")

    @model_validator(mode="after")
    def _fits_a_submit_file(self) -> Self:
        if self.queue is not None:
            hint = "name machines in job_extra_directives: `Requirements = ...`"
            raise problem("E_OPTION_CONFLICT", "HTCondor has no queues", hint, at="queue")
        for line in self.job_extra_directives:
            if not line.partition("=")[0].strip() or "=" not in line:
                hint = "write it as `name = value`"
                raise problem("E_BAD_VALUE", f"{line!r} is no line of a submit file", hint, at="job_extra_directives")
        for line in self.job_script_prologue:
            # They are joined to one, of which a comment would be all the rest.
            if _COMMENT.search(line):
                message = f"{line!r} holds a comment, which a job of HTCondor cannot have"
                raise problem("E_BAD_VALUE", message, "remove what begins with '#'", at="job_script_prologue")
        return self
