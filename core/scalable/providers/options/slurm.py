"""Options of the Slurm provider."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field

from scalable.manifest.fields import Text, Walltime, problem
from scalable.providers.options.common import RemoteOptions

__all__ = ["SlurmOptions"]


def _check_port(value: object) -> int:
    if isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= 65535:
        return value
    raise problem("E_BAD_VALUE", "must be a port: a whole number from 1 to 65535")


def _check_workers_per_job(value: object) -> int:
    if isinstance(value, int) and not isinstance(value, bool) and value >= 1:
        return value
    raise problem("E_BAD_VALUE", "must be a positive integer")


class SlurmOptions(RemoteOptions):
    """Options of ``provider: slurm``.

    Attributes
    ----------
    queue, account, qos, reservation : str or None
        Partition, allocation, quality of service and reservation of the jobs.
    walltime : float or None
        Seconds a job may run.
    interface : str or None
        Network interface by which workers reach the scheduler, such as ``ib0``.
    container_runtime : str or None
        ``none``, ``apptainer`` or ``podman``; by default ``none`` unless a component has an image.
    job_extra_directives, job_script_prologue : tuple of str
        Further ``#SBATCH`` directives, and lines that a job runs before the worker.
    log_directory, python, shared_temp_directory : str or None
        Where jobs write their logs, the interpreter that they start, and a directory that
        every node sees.
    scheduler_port : int or None
        Port of the scheduler; any free one by default.
    workers_per_job : int
        Workers of one job.
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
    scheduler_port: Annotated[int, Field(ge=1, le=65535), BeforeValidator(_check_port)] | None = None
    workers_per_job: Annotated[int, Field(ge=1), BeforeValidator(_check_workers_per_job)] = 1
    qos: Text | None = None
    reservation: Text | None = None
