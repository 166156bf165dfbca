"""Which of a task run's tags decides where it runs: pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from scalable import ScalableClient, ScalableSession
from scalable.errors import TaskError

__all__ = ["AmbiguousTags", "Guide", "Signposts"]


class AmbiguousTags(TaskError):
    """A task run's tags name pools that are not the same.

    Parameters
    ----------
    task : str
        The task's name.
    pools : mapping of str to tuple of str
        By tag, the pools that it names.
    """

    def __init__(self, task: str, pools: Mapping[str, tuple[str, ...]]) -> None:
        self.task = task
        self.pools = dict(pools)
        super().__init__(task, self.pools)

    def __str__(self) -> str:
        named = ", ".join(f"'{tag}' names {' and '.join(pools)}" for tag, pools in self.pools.items())
        return (
            f"task '{self.task}' cannot tell where to run: of its tags, {named}; "
            "leave one, for instance with task.with_options(tags=[...])"
        )


@dataclass(frozen=True, slots=True)
class Signposts:
    """The tags that mean a pool; all others are Prefect's alone.

    Attributes
    ----------
    pools : mapping of str to tuple of str
        By tag, the pools whose workers serve it.
    """

    pools: Mapping[str, tuple[str, ...]]

    @classmethod
    def of(cls, session: ScalableSession) -> Signposts:
        """Read them off a session: names of components, their tags, then names of tasks."""
        spec = session.spec
        pools: dict[str, tuple[str, ...]] = {}
        for component in spec.components.values():
            for tag in dict.fromkeys((component.name, *component.tags)):
                pools[tag] = (*pools.get(tag, ()), component.name)
        for task in spec.tasks.values():
            pools.setdefault(task.name, (task.component,))
        return cls(pools)

    def choose(self, tags: Iterable[str], task: str) -> str | None:
        """Return the tag to submit with, or ``None`` where none names a pool.

        Where several do, they must have a pool in common.

        Parameters
        ----------
        tags : iterable of str
            All tags of the task run.
        task : str
            The task's name, for the message.

        Raises
        ------
        AmbiguousTags
            If no pool serves all of them.
        """
        named = {tag: self.pools[tag] for tag in sorted(tags) if tag in self.pools}
        if not named:
            return None
        common = set.intersection(*(set(pools) for pools in named.values()))
        if not common:
            raise AmbiguousTags(task, named)
        narrowest = min(named, key=lambda tag: len(named[tag]))
        return narrowest if set(named[narrowest]) == common else min(common)


@dataclass(frozen=True, slots=True)
class Guide:
    """Where tasks go, for a worker that has neither session nor client.

    Attributes
    ----------
    signposts : Signposts
        The tags that mean a pool.
    by_tag, by_task : mapping
        What a task with such a tag, or of such a name, takes of a worker.
    otherwise : mapping
        What all others take.
    """

    signposts: Signposts
    by_tag: Mapping[str, Mapping[str, float]]
    by_task: Mapping[str, Mapping[str, float]]
    otherwise: Mapping[str, float]

    @classmethod
    def of(cls, session: ScalableSession, client: ScalableClient) -> Guide:
        """Read it off a session that is under way."""
        signposts = Signposts.of(session)
        return cls(
            signposts,
            by_tag={tag: client.resources(tag=tag) for tag in signposts.pools},
            by_task={task: client.resources(task=task) for task in session.spec.tasks},
            otherwise=client.resources(),
        )

    def resources(
        self, tag: str | None, task: str, capabilities: Mapping[str, float] | None = None
    ) -> dict[str, float]:
        """Return what a task takes of a worker, in Dask's terms."""
        required = dict(capabilities or {})
        named = self.by_task.get(task) if tag is None else self.by_tag[tag]
        if named is None:
            return required or dict(self.otherwise)
        return {**named, **required}
