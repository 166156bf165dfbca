"""Which of a task run's tags decides where it runs: pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from scalable import ScalableClient, ScalableSession
from scalable.errors import TaskError

__all__ = ["AmbiguousTags", "Guide", "PoolElsewhere", "Signposts"]


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


class PoolElsewhere(TaskError):
    """A task run's tag names a pool that other targets of the manifest have, and this one has not.

    Parameters
    ----------
    task, tag, target : str
        The task's name, its tag, and the target that the flow runs on.
    others : tuple of str
        The targets that have such a pool.
    """

    def __init__(self, task: str, tag: str, target: str, others: tuple[str, ...]) -> None:
        self.task = task
        self.tag = tag
        self.target = target
        self.others = others
        super().__init__(task, tag, target, others)

    def __str__(self) -> str:
        which = ", ".join(f"'{name}'" for name in self.others)
        return (
            f"task '{self.task}' has the tag '{self.tag}', which names a pool of target {which}, but the flow runs on "
            f"'{self.target}', which has none; run it there, or give '{self.target}' a component of that name or tag"
        )


@dataclass(frozen=True, slots=True)
class Signposts:
    """The tags that mean a pool; all others are Prefect's alone.

    Attributes
    ----------
    pools : mapping of str to tuple of str
        By tag, the pools whose workers serve it.
    elsewhere : mapping of str to tuple of str
        By tag, the other targets that have a pool for it, where this one has none.
    target : str
        Name of this one.
    """

    pools: Mapping[str, tuple[str, ...]]
    elsewhere: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    target: str = ""

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
        # A task of the manifest may be called like a pool elsewhere; then it has its own here.
        elsewhere = {tag: there for tag, there in spec.tags_elsewhere.items() if tag not in pools}
        return cls(pools, elsewhere, spec.target)

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
        PoolElsewhere
            If one names a pool that only other targets have.
        """
        tags = sorted(tags)
        for tag in tags:
            if tag in self.elsewhere:
                raise PoolElsewhere(task, tag, self.target, self.elsewhere[tag])
        named = {tag: self.pools[tag] for tag in tags if tag in self.pools}
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
