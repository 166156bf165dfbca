"""What the workers of one pool are like."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final

from scalable.spec import ComponentSpec

__all__ = ["THREADS", "UNLIMITED", "PoolShape", "base_of", "family_of"]

UNLIMITED: Final = 1e9
"""Amount of a label that says what a worker is, and limits nothing.

Not the number of threads: a task that waits for others gives its thread back, but not what
it took of a label, so tasks that it starts in its own pool would wait for ever.
"""

THREADS: Final = "threads"
"""Label of which a worker offers as many as it has threads, for tasks that take several."""


_ENLARGED: Final = "+"  # no component's name has these
_ELSEWHERE: Final = "@"


def family_of(pool: str) -> str:
    """Return the pool of which one is the enlarged form; itself if it is none.

    Examples
    --------
    >>> family_of("simulate@burst+512"), family_of("simulate")
    ('simulate@burst', 'simulate')
    """
    return pool.partition(_ENLARGED)[0]


def base_of(pool: str) -> str:
    """Return the component on which a pool is modelled, also if its workers are larger, or another target's.

    Examples
    --------
    >>> base_of("simulate@burst+512"), base_of("simulate+512"), base_of("simulate")
    ('simulate', 'simulate', 'simulate')
    """
    return family_of(pool).partition(_ELSEWHERE)[0]


@dataclass(frozen=True, slots=True)
class PoolShape:
    """A component as the workers of a pool.

    Attributes
    ----------
    component : ComponentSpec
        The resource profile.
    threads : int
        Tasks that one worker runs at a time.
    """

    component: ComponentSpec
    threads: int

    @classmethod
    def of(cls, component: ComponentSpec, threads_per_worker: int | None = None) -> PoolShape:
        """Return the shape with as many threads as asked, else as fit the component's cpus."""
        return cls(component, threads_per_worker or max(1, math.floor(component.resources.cpus)))

    @property
    def name(self) -> str:
        """The pool's name, which is its component's."""
        return self.component.name

    @property
    def labels(self) -> Mapping[str, float]:
        """What a worker advertises to Dask as resources.

        The component's name, its tags and capabilities without an amount limit nothing;
        a capability with an amount admits what that says.
        """
        component = self.component
        offered: dict[str, float] = dict.fromkeys((component.name, *component.tags), UNLIMITED)
        if component.resources.gpus:
            offered["gpu"] = float(component.resources.gpus)
        for capability, amount in component.capabilities.items():
            if math.isinf(amount):
                offered.setdefault(capability, UNLIMITED)
            else:
                offered[capability] = amount
        offered[THREADS] = float(self.threads)
        return offered

    @property
    def own_labels(self) -> frozenset[str]:
        """The labels that say which pool this is: those that no other pool need offer."""
        return frozenset((self.component.name, *self.component.tags))

    def enlarged(self, step_bytes: int) -> PoolShape:
        """Return the same with more memory, for tasks that ran out of it.

        It has a name of its own, and no tags, so that only tasks come that are sent there.

        Parameters
        ----------
        step_bytes : int
            Bytes to add.
        """
        component = self.component
        base, _, more = component.name.partition(_ENLARGED)
        mebibytes = int(more or 0) + math.ceil(step_bytes / 2**20)
        size = (component.resources.memory_bytes or 0) + math.ceil(step_bytes / 2**20) * 2**20
        resources = replace(component.resources, memory_bytes=size)
        name = f"{base}{_ENLARGED}{mebibytes}"
        return PoolShape(replace(component, name=name, tags=(), resources=resources), self.threads)

    def at(self, target: str) -> PoolShape:
        """Return the same on another target than the run's own.

        Its name says so, and that of the component is a tag: tasks of the component run on both.
        """
        component = self.component
        tags = (component.name, *component.tags)
        return PoolShape(replace(component, name=f"{component.name}{_ELSEWHERE}{target}", tags=tags), self.threads)

    def renamed(self, pool: str) -> PoolShape:
        """Return the shape of a pool by its name: this one, or this one with so much more memory as the name says."""
        more = pool.partition(_ENLARGED)[2]
        return self.enlarged(int(more) * 2**20) if more else self

    def slots(self, required: Mapping[str, float]) -> int:
        """Return how many tasks that require this one worker runs at a time; 0 if it can run none."""
        labels = self.labels
        return min([self.threads, *(math.floor(labels.get(name, 0.0) / amount) for name, amount in required.items())])
