"""Which pools a task may run on: pure, and the same for scripts, Prefect and Snakemake."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import NoReturn

from scalable.errors import TaskError, UnknownTag
from scalable.pools.shape import UNLIMITED, PoolShape
from scalable.spec import TaskSpec

__all__ = ["Route", "Router"]


@dataclass(frozen=True, slots=True)
class Route:
    """Where a task goes.

    Attributes
    ----------
    tag : str
        The label by which telemetry counts it.
    pools : tuple of str
        Pools whose workers can run it; never empty.
    resources : dict of str to float
        What it takes of a worker, in Dask's terms.
    """

    tag: str
    pools: tuple[str, ...]
    resources: dict[str, float]


class Router:
    """Find the pools for a task.

    Parameters
    ----------
    shapes : iterable of PoolShape
        The target's pools, in the manifest's order.
    tasks : mapping of str to TaskSpec
        The manifest's tasks, by name.
    """

    def __init__(self, shapes: Iterable[PoolShape], tasks: Mapping[str, TaskSpec]) -> None:
        known = tuple(shapes)
        self._shapes = {shape.name: shape for shape in known}
        self._offers = {shape.name: shape.labels for shape in known}
        self._tags = {shape.name: (shape.name, *shape.component.tags) for shape in known}
        self._tasks = tasks
        self._known: dict[tuple[str | None, str | None], Route] = {}

    def add(self, shape: PoolShape) -> None:
        """Let tasks be routed to one more pool, or to one that is no longer what it was."""
        # New mappings, because other threads read the old ones.
        self._shapes = self._shapes | {shape.name: shape}
        self._offers = self._offers | {shape.name: shape.labels}
        self._tags = self._tags | {shape.name: (shape.name, *shape.component.tags)}
        self._known = {}

    @property
    def default(self) -> str:
        """The pool of tasks that ask for nothing: ``default`` if there is one, else the first."""
        return "default" if "default" in self._offers else next(iter(self._offers))

    @property
    def tags(self) -> tuple[str, ...]:
        """Every tag that a task may ask for."""
        own = [tag for tags in self._tags.values() for tag in tags]
        return tuple(dict.fromkeys((*own, *self._tasks)))

    def route(
        self, tag: str | None = None, task: str | None = None, capabilities: Mapping[str, float] | None = None
    ) -> Route:
        """Return where a task goes.

        Parameters
        ----------
        tag : str, optional
            A component's name, one of its tags, or the name of one of the manifest's tasks.
        task : str, optional
            The task's own name, which decides where no tag is given and the manifest has it.
        capabilities : mapping of str to float, optional
            What the task requires besides, with amounts.

        Raises
        ------
        UnknownTag
            If no pool of the target can ever run such a task.
        """
        if tag is not None and not isinstance(tag, str):
            raise TaskError(f"a tag is a text, not {tag!r}")
        if not capabilities:
            key = (tag, task if task in self._tasks else None)
            known = self._known.get(key)
            if known is None:
                known = self._known[key] = self._route(tag, task, {})
            return known
        return self._route(tag, task, capabilities)

    def pools_for(self, required: Mapping[str, float]) -> tuple[str, ...]:
        """Return the pools whose workers offer all that is required; every pool where nothing is."""
        return tuple(
            pool
            for pool, offer in self._offers.items()
            if all(offer.get(name, 0.0) >= amount for name, amount in required.items())
        )

    def slots(self, pool: str, required: Mapping[str, float]) -> int:
        """Return how many tasks that require this one worker of a pool runs at a time."""
        return self._shapes[pool].slots(required)

    def _route(self, tag: str | None, task: str | None, capabilities: Mapping[str, float]) -> Route:
        label = self._label(tag, task)
        if label is None and not capabilities:
            label = self.default
        required = _amounts(capabilities)
        if label is not None:
            required.setdefault(label, 1.0)
        pools = self.pools_for(required)
        if not pools:
            self._refuse(label, required)
        return Route(label or "+".join(sorted(capabilities)), pools, required)

    def _label(self, tag: str | None, task: str | None) -> str | None:
        if tag is not None:
            if any(tag in tags for tags in self._tags.values()):
                return tag
            if tag in self._tasks:
                return self._tasks[tag].component
            raise UnknownTag(tag, self.tags)
        return self._tasks[task].component if task is not None and task in self._tasks else None

    def _refuse(self, label: str | None, required: Mapping[str, float]) -> NoReturn:
        asked = ", ".join(f"{name}: {amount:g}" for name, amount in required.items() if name != label)
        offers = tuple(
            f"{pool} {{{', '.join(_offered(name, amount) for name, amount in offer.items())}}}"
            for pool, offer in self._offers.items()
        )
        where = f" together with tag '{label}'" if label is not None else ""
        raise UnknownTag(f"{asked}{where}", offers, "capabilities")


def _amounts(capabilities: Mapping[str, float]) -> dict[str, float]:
    required = {}
    for name, amount in capabilities.items():
        try:
            required[name] = float(amount)
        except (TypeError, ValueError):
            raise TaskError(f"a task cannot require {amount!r} of '{name}'; amounts are numbers") from None
        if not required[name] > 0:
            raise TaskError(f"a task cannot require {amount:g} of '{name}'; amounts are positive")
    return required


def _offered(name: str, amount: float) -> str:
    return name if amount >= UNLIMITED else f"{name}: {amount:g}"
