"""What is to run on one target, resolved: plain frozen data."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from pydantic import BaseModel

from scalable.errors import Issue
from scalable.units import format_bytes

__all__ = [
    "ComponentSpec",
    "DeploymentSpec",
    "Limits",
    "Objectives",
    "PoolRequest",
    "PriceRates",
    "ResourceRequest",
    "ScalePlan",
    "TaskSpec",
]


@dataclass(frozen=True, slots=True, repr=False)
class ResourceRequest:
    """What one worker is given.

    Attributes
    ----------
    cpus : float
        Cores.
    memory_bytes : int or None
        Bytes; ``None`` leaves it to the machine.
    gpus : int
        Whole devices.
    """

    cpus: float = 1
    memory_bytes: int | None = None
    gpus: int = 0

    @property
    def memory(self) -> str | None:
        """The memory as text, such as ``'32G'``."""
        return None if self.memory_bytes is None else format_bytes(self.memory_bytes)

    def __repr__(self) -> str:
        parts = [f"cpus={self.cpus:g}"]
        if self.memory_bytes is not None:
            parts.append(f"memory={self.memory!r}")
        if self.gpus:
            parts.append(f"gpus={self.gpus}")
        return f"ResourceRequest({', '.join(parts)})"


@dataclass(frozen=True, slots=True)
class ComponentSpec:
    """A resource profile: what the workers of one pool are like.

    Attributes
    ----------
    name : str
        The component's name, which is also its tag.
    resources : ResourceRequest
        What one worker is given.
    tags : tuple of str
        Further names that tasks may ask for.
    capabilities : mapping of str to float
        What a worker offers; ``math.inf`` where the manifest gave no amount,
        which then limits nothing.
    preload_script : str or None
        A Python file or module that a worker imports before its first task,
        or a shell script whose environment it takes over.
    """

    name: str
    resources: ResourceRequest = field(default_factory=ResourceRequest)
    image: str | None = None
    runtime: str | None = None
    mounts: Mapping[str, str] = field(default_factory=dict)
    env: Mapping[str, str] = field(default_factory=dict)
    tags: tuple[str, ...] = ()
    capabilities: Mapping[str, float] = field(default_factory=dict)
    preload_script: str | None = None


@dataclass(frozen=True, slots=True)
class TaskSpec:
    """A named task, the component it runs on, and hints for planning.

    Attributes
    ----------
    count : int or None
        How many of them a run has.
    duration_s, timeout_s : float or None
        Seconds.
    memory_bytes : int or None
        Bytes one task needs.
    after : tuple of str
        Tasks that are finished before these start.
    outputs : mapping of str to str
        Name to kind, such as ``{"database": "dir"}``.
    duration_high_s : float or None
        Seconds that few of them exceed, where that was measured.
    memory_step_bytes : int or None
        By how many bytes a worker is larger in which a task is tried again after it ran out of memory.
    """

    name: str
    component: str
    cache: bool = False
    outputs: Mapping[str, str] = field(default_factory=dict)
    after: tuple[str, ...] = ()
    count: int | None = None
    duration_s: float | None = None
    memory_bytes: int | None = None
    retries: int = 0
    timeout_s: float | None = None
    inputs: tuple[str, ...] = ()
    memory_step_bytes: int | None = None
    duration_high_s: float | None = None


@dataclass(frozen=True, slots=True)
class Objectives:
    """Bounds on a run: US dollars and hours; ``None`` is no bound."""

    budget_usd: float | None = None
    deadline_hours: float | None = None


@dataclass(frozen=True, slots=True)
class PriceRates:
    """What a worker costs as the manifest says: the sum of the rates that are given.

    Attributes
    ----------
    core_hour_usd, gb_hour_usd, gpu_hour_usd : float or None
        US dollars of an hour of each core, each 2**30 bytes of memory, each device.
    worker_hour_usd : float or None
        US dollars of an hour of each worker, whatever its size.
    minimum_s : float
        Seconds that each worker is paid for at the least.
    """

    core_hour_usd: float | None = None
    gb_hour_usd: float | None = None
    gpu_hour_usd: float | None = None
    worker_hour_usd: float | None = None
    minimum_s: float = 0.0


def _nowhere(path: str) -> tuple[int, int]:
    del path
    return (0, 0)


@dataclass(frozen=True, slots=True)
class DeploymentSpec:
    """One target of a manifest with everything that runs there.

    Attributes
    ----------
    options : BaseModel
        The provider's own options, validated by the provider's model.
    components, tasks : mapping
        By name, in the manifest's order.
    fingerprint : str
        SHA-256 of the resolved manifest without secrets, as hexadecimal text.
    manifest_path : Path or None
        Where it was read from.
    manifest_text : str
        YAML of the resolved manifest with secrets redacted.
    advise : bool
        Whether its runs take the advice of past runs.
    price : PriceRates or None
        What workers cost, where the manifest says so.
    locate : callable
        Line and column of a dotted path in the manifest, such as ``components.simulate.env``.
    file_of : callable or None
        The file in which a dotted path stands, where an overlay is a file of its own.
    parts : mapping of str to DeploymentSpec
        The targets that this one is made of, by name, in the order in which it names them.
    tags_elsewhere : mapping of str to tuple of str
        Tags that name a pool on other targets of the manifest only, and these targets.
    run_id : str
        Identifier of the run that is being started, by which what it creates is found again;
        empty before.
    run_dir : Path or None
        That run's directory; ``None`` before, and without telemetry.
    """

    project: str
    target: str
    provider: str
    options: BaseModel
    components: Mapping[str, ComponentSpec]
    tasks: Mapping[str, TaskSpec]
    objectives: Objectives = field(default_factory=Objectives)
    overlay: str | None = None
    fingerprint: str = ""
    manifest_path: Path | None = None
    manifest_text: str = ""
    advise: bool = False
    price: PriceRates | None = None
    locate: Callable[[str], tuple[int, int]] = field(default=_nowhere, repr=False, compare=False)
    file_of: Callable[[str], str] | None = field(default=None, repr=False, compare=False)
    run_id: str = ""
    run_dir: Path | None = None
    parts: Mapping[str, DeploymentSpec] = field(default_factory=dict)
    tags_elsewhere: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def part(self, target: str) -> DeploymentSpec:
        """Return one of the targets that this one is made of, with what is to run, and which run it is, as here.

        Raises
        ------
        KeyError
            If it is not made of that one.
        """
        return replace(
            self.parts[target],
            components=self.components,
            tasks=self.tasks,
            objectives=self.objectives,
            price=self.price or self.parts[target].price,
            run_id=self.run_id,
            run_dir=self.run_dir,
        )

    def issue(self, code: str, path: str, message: str, hint: str = "") -> Issue:
        """Return an issue that says where in the manifest it is.

        Parameters
        ----------
        code : str
            ``E_...`` or ``W_...``.
        path : str
            Dotted path, such as ``components.simulate.env``.
        message, hint : str
            What is wrong, and how to mend it.
        """
        file = "" if self.manifest_path is None else str(self.manifest_path)
        if self.file_of is not None:
            file = self.file_of(path)
        line, column = self.locate(path)
        return Issue(code, path, message, hint, file, line, column)


@dataclass(frozen=True, slots=True)
class PoolRequest:
    """How many workers of which kind a pool is to have."""

    resources: ResourceRequest
    count: int


class ScalePlan(Mapping[str, PoolRequest]):
    """Workers to ask for, by tag.

    Examples
    --------
    >>> ScalePlan({"analysis": PoolRequest(ResourceRequest(1, 2**30), 4)})
    {'analysis': ResourceRequest(cpus=1, memory='1G'), count=4}
    """

    __slots__ = ("_pools",)

    def __init__(self, pools: Mapping[str, PoolRequest]) -> None:
        self._pools = dict(pools)

    def __getitem__(self, tag: str) -> PoolRequest:
        return self._pools[tag]

    def __iter__(self) -> Iterator[str]:
        return iter(self._pools)

    def __len__(self) -> int:
        return len(self._pools)

    def __repr__(self) -> str:
        return "{" + ", ".join(f"{tag!r}: {one.resources!r}, count={one.count}" for tag, one in self.items()) + "}"


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds on the workers of a run, all pools together.

    Attributes
    ----------
    minimum, maximum : int
        Workers; where both are equal the number never changes, only its division.
    """

    minimum: int
    maximum: int
