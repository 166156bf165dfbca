"""Options of the AWS provider."""

from __future__ import annotations

import math
from typing import Annotated, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from scalable.manifest.fields import EnvValue, Flag, Seconds, Text, check_positive_int, problem
from scalable.providers.options.common import RemoteOptions
from scalable.spec import ResourceRequest

__all__ = ["AwsOptions", "fargate_size"]

_OnlyInt = BeforeValidator(check_positive_int("E_BAD_VALUE", ""))

# cpu units to MiB of memory: least, most, step.
# https://docs.aws.amazon.com/AmazonECS/latest/developerguide/task-cpu-memory-error.html
_FARGATE = {
    256: (512, 2048, 512),
    512: (1024, 4096, 1024),
    1024: (2048, 8192, 1024),
    2048: (4096, 16384, 1024),
    4096: (8192, 30720, 1024),
    8192: (16384, 61440, 4096),
    16384: (32768, 122880, 8192),
}

_ONLY_FARGATE = ("worker_cpu", "worker_mem", "execution_role_arn", "task_role_arn", "cluster_arn")
_ONLY_EC2 = ("instance_type",)


class AwsOptions(RemoteOptions):
    """Options of ``provider: aws``.

    Attributes
    ----------
    cluster_type : str
        ``fargate``, as by default, or ``ec2``.
    region, image, instance_type : str or None
        Where, with which container image, and on which machines (``ec2``).
    worker_cpu, worker_mem : int or None
        Cpu units (1024 are one core) and MiB of a worker (``fargate``).
    spot : bool
        Whether capacity is taken that may be taken back.
    execution_role_arn, task_role_arn, cluster_arn : str or None
        Roles, and a cluster that is there already (``fargate``).
    subnets, security_groups : tuple of str
        Identifiers.
    tags : dict
        Tags of everything that is made.
    scheduler_timeout_s : float or None
        ``scheduler_timeout`` in seconds: how long to wait for the scheduler.
    """

    cluster_type: Literal["fargate", "ec2"] = "fargate"
    region: Text | None = None
    image: Text | None = None
    worker_cpu: Annotated[int, Field(ge=1), _OnlyInt] | None = None
    worker_mem: Annotated[int, Field(ge=1), _OnlyInt] | None = None
    instance_type: Text | None = None
    spot: Flag = False
    execution_role_arn: Text | None = None
    task_role_arn: Text | None = None
    subnets: tuple[Text, ...] = ()
    security_groups: tuple[Text, ...] = ()
    cluster_arn: Text | None = None
    tags: dict[Text, EnvValue] = Field(default_factory=dict)
    scheduler_timeout_s: Seconds | None = Field(default=None, alias="scheduler_timeout")

    @model_validator(mode="after")
    def _fits_cluster_type(self) -> Self:
        foreign = _ONLY_EC2 if self.cluster_type == "fargate" else _ONLY_FARGATE
        given = [name for name in foreign if name in self.model_fields_set]
        if given:
            other = "ec2" if self.cluster_type == "fargate" else "fargate"
            message = f"{', '.join(given)} cannot be used with cluster_type {self.cluster_type}"
            raise problem("E_OPTION_CONFLICT", message, f"remove it, or set `cluster_type: {other}`", at=given[0])
        return self

    @model_validator(mode="after")
    def _legal_size(self) -> Self:
        cpu, memory = self.worker_cpu, self.worker_mem
        if cpu is not None and cpu not in _FARGATE:
            sizes = ", ".join(str(size) for size in _FARGATE)
            raise problem(
                "E_BAD_FARGATE_SIZE", f"Fargate has no worker_cpu {cpu}", f"take one of {sizes}", at="worker_cpu"
            )
        if cpu is not None and memory is not None and memory not in _sizes(cpu):
            legal = _sizes(cpu)
            below = [size for size in legal if size < memory][-1:]
            above = [size for size in legal if size > memory][:1]
            near = " or ".join(str(size) for size in (*below, *above))
            message = f"Fargate has no worker_mem {memory} with worker_cpu {cpu}"
            raise problem("E_BAD_FARGATE_SIZE", message, f"take {near}", at="worker_mem")
        return self


def fargate_size(options: AwsOptions, resources: ResourceRequest) -> tuple[int, int] | None:
    """Return the Fargate task for a worker.

    Parameters
    ----------
    options : AwsOptions
        Its ``worker_cpu`` and ``worker_mem`` go before what the component asks for.
    resources : ResourceRequest
        What the component asks for.

    Returns
    -------
    tuple of int, or None
        Cpu units and MiB of the smallest task that there is; ``None`` if none is large enough.
    """
    units = math.ceil(resources.cpus * 1024) if options.worker_cpu is None else options.worker_cpu
    memory = math.ceil((resources.memory_bytes or 0) / 2**20) if options.worker_mem is None else options.worker_mem
    for cpu in _FARGATE:
        if cpu == options.worker_cpu or (options.worker_cpu is None and cpu >= units):
            size = next((one for one in _sizes(cpu) if one >= memory), None)
            if size is not None:
                return cpu, size
    return None


def _sizes(cpu: int) -> list[int]:
    least, most, step = _FARGATE[cpu]
    return [*([512] if cpu == 256 else []), *range(max(least, 1024), most + 1, max(step, 1024))]
