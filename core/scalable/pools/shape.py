"""What the workers of one pool are like."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from scalable.spec import ComponentSpec

__all__ = ["THREADS", "UNLIMITED", "PoolShape"]

UNLIMITED: Final = 1e9
"""Amount of a label that says what a worker is, and limits nothing.

Not the number of threads: a task that waits for others gives its thread back, but not what
it took of a label, so tasks that it starts in its own pool would wait for ever.
"""

THREADS: Final = "threads"
"""Label of which a worker offers as many as it has threads, for tasks that take several."""


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

    def slots(self, required: Mapping[str, float]) -> int:
        """Return how many tasks that require this one worker runs at a time; 0 if it can run none."""
        labels = self.labels
        return min([self.threads, *(math.floor(labels.get(name, 0.0) / amount) for name, amount in required.items())])
