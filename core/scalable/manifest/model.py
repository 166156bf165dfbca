"""What a manifest may say, as typed data."""

from __future__ import annotations

from typing import Annotated, Any, Self

from pydantic import BeforeValidator, Field, model_validator

from scalable.manifest.fields import (
    Capabilities,
    Count,
    Cpus,
    Dollars,
    EnvName,
    EnvValue,
    Flag,
    Memory,
    Mount,
    Name,
    NameOrList,
    NonNegative,
    Positive,
    Seconds,
    Section,
    Tag,
    Text,
    problem,
)

__all__ = ["Component", "Document", "Objectives", "Price", "Project", "TargetHead", "Task"]


def _check_version(value: object) -> int:
    if isinstance(value, int) and not isinstance(value, bool) and value == 1:
        return 1
    hint = "remove the quotes" if value == "1" else "this release reads version 1"
    raise problem("E_BAD_VERSION", f"version must be 1, not {value!r}", hint)


def _nothing_is_empty(value: object) -> object:
    """Let ``components: {simulate:}`` stand for a component with every default."""
    return {} if value is None else value


class Project(Section):
    """What the manifest is about.

    Attributes
    ----------
    name : str
        Its name, part of the names of runs.
    default_storage : str or None
        Where results go by default: a path or URL.
    local_cache : str or None
        Where results are kept on this machine.
    """

    name: Text
    default_storage: Text | None = None
    local_cache: Text | None = None


class Objectives(Section):
    """Bounds on a run: US dollars, and hours."""

    budget_usd: Positive | None = None
    deadline_hours: Positive | None = None


class Component(Section):
    """A resource profile: what the workers of a pool are like.

    Attributes
    ----------
    image, runtime : str or None
        Container image, and what runs it.
    cpus : float
        Cores of a worker; 1 by default.
    gpus : int
        Whole devices.
    memory_bytes : int or None
        ``memory`` in bytes; without it, what the machine has.
    mounts : dict
        Absolute path on the host to absolute path in the container.
    env : dict
        Environment variables.
    tags : tuple of str
        Further names that tasks may ask for.
    capabilities : dict
        What a worker offers, to its amount; infinite where none is given.
    preload_script : str or None
        What a worker loads before its first task.
    """

    image: Text | None = None
    runtime: Text | None = None
    cpus: Cpus = 1
    gpus: NonNegative = 0
    memory_bytes: Memory | None = Field(default=None, alias="memory")
    mounts: dict[Mount, Mount] = Field(default_factory=dict)
    env: dict[EnvName, EnvValue] = Field(default_factory=dict)
    tags: tuple[Tag, ...] = ()
    capabilities: Capabilities = Field(default_factory=dict)
    preload_script: Text | None = None


class Task(Section):
    """A named task: the component that it runs on, and hints for planning.

    Attributes
    ----------
    component : str
        Name of the component.
    cache : bool
        Whether its results may be kept.
    outputs : dict
        Name to kind, such as ``{"database": "dir"}``.
    after : tuple of str
        Tasks that end before these start.
    count : int or None
        How many of them a run has.
    duration_s, timeout_s : float or None
        ``duration`` and ``timeout`` in seconds.
    memory_bytes : int or None
        ``memory`` of one task, in bytes.
    retries : int
        How often a failed one is tried again.
    inputs : tuple of str
        What it reads.
    memory_step_bytes : int or None
        ``memory_step`` in bytes: how much larger a worker is in which it is tried again after
        it ran out of memory.
    """

    component: Text
    cache: Flag = False
    outputs: dict[Text, Text] = Field(default_factory=dict)
    after: NameOrList = ()
    count: Count | None = None
    duration_s: Seconds | None = Field(default=None, alias="duration")
    memory_bytes: Memory | None = Field(default=None, alias="memory")
    retries: NonNegative = 0
    timeout_s: Seconds | None = Field(default=None, alias="timeout")
    inputs: NameOrList = ()
    memory_step_bytes: Memory | None = Field(default=None, alias="memory_step")


class Price(Section):
    """What an hour of a worker costs, in US dollars: the sum of the rates that are given, one at least.

    Attributes
    ----------
    core_hour, gpu_hour : float or None
        For each core, and for each device, of a worker.
    gb_hour : float or None
        For each ``G`` (2**30 bytes) of a worker's memory.
    worker_hour : float or None
        For each worker, whatever its size.
    minimum_s : float or None
        ``minimum`` in seconds: how long each worker is paid for at the least.
    """

    core_hour: Dollars | None = None
    gb_hour: Dollars | None = None
    gpu_hour: Dollars | None = None
    worker_hour: Dollars | None = None
    minimum_s: Seconds | None = Field(default=None, alias="minimum")

    @model_validator(mode="after")
    def _has_a_rate(self) -> Self:
        if not self.model_fields_set - {"minimum_s"}:
            raise problem("E_BAD_PRICE", "price has no rate", "add `core_hour: ...` or another; 0 if nothing is paid")
        return self


class TargetHead(Section):
    """What every target has, whatever its provider.

    Attributes
    ----------
    provider : str
        Name of the provider.
    overlay : str or None
        Name of the overlay that holds when this target is chosen.
    objectives : Objectives
        They go before those at the top, key by key.
    advise : bool or None
        Whether runs here take the advice of past runs; it goes before what is said at the top.
    price : Price or None
        What workers cost here; it goes before every other price.
    """

    provider: Text
    overlay: Text | None = None
    objectives: Objectives = Objectives()
    advise: Flag | None = None
    price: Price | None = None


class Document(Section):
    """A whole manifest, but for the options of providers.

    Attributes
    ----------
    advise : bool
        Whether runs take the advice of past runs.
    """

    version: Annotated[int, Field(ge=1, le=1), BeforeValidator(_check_version)]
    project: Project
    targets: dict[Name, Annotated[dict[str, Any], BeforeValidator(_nothing_is_empty)]]
    components: dict[Tag, Annotated[Component, BeforeValidator(_nothing_is_empty)]] = Field(default_factory=dict)
    tasks: dict[Text, Annotated[Task, BeforeValidator(_nothing_is_empty)]] = Field(default_factory=dict)
    objectives: Objectives = Objectives()
    advise: Flag = False
    overlays: dict[Name, Any] = Field(default_factory=dict)
