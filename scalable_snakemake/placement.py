"""Which pool a job goes to, and how much of a worker it takes: pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

__all__ = ["Member", "Placement", "PlacementError", "Placer"]


class PlacementError(Exception):
    """A job cannot be given to any pool; the message says why."""


@dataclass(frozen=True, slots=True)
class Member:
    """One job, as far as its place is concerned; a group job has several.

    Attributes
    ----------
    rule : str
        Name of its rule.
    tag : str or None
        Its resource ``scalable_tag``.
    """

    rule: str
    tag: str | None = None


@dataclass(frozen=True, slots=True)
class Placement:
    """Where a job goes.

    Attributes
    ----------
    tag : str
        What is asked of the client: a pool's name, or a tag that several pools share.
    pools : tuple of str
        The pools that serve it; never empty.
    threads : int
        Threads of the worker that it takes.
    """

    tag: str
    pools: tuple[str, ...]
    threads: int


class Placer:
    """Find places for jobs.

    Parameters
    ----------
    spec : scalable.spec.DeploymentSpec
        Components and tasks of the target.
    route : callable
        :meth:`scalable.ScalableSession.route`.
    threads : callable
        :meth:`scalable.ScalableSession.threads`.
    """

    def __init__(self, spec: Any, route: Callable[[str | None], str], threads: Callable[[str], int]) -> None:
        self._spec = spec
        self._route = route
        self._threads = threads

    def place(self, members: Iterable[Member], threads: int = 1) -> Placement:
        """Return where a job goes.

        The first of these decides: the resource ``scalable_tag``; the rule's name among the
        manifest's ``tasks``; the default pool. Members of a group that say nothing follow
        those that do.

        Parameters
        ----------
        members : iterable of Member
            The job, or all jobs of a group.
        threads : int
            What it asks for; it is given no more than a worker of its pool has.

        Raises
        ------
        PlacementError
            If a group's members name different pools.
        scalable.errors.UnknownTag
            If no pool serves the tag.
        """
        members = tuple(members)
        tag = self._tag(members)
        pool = self._route(tag)
        serving = tuple(
            name for name, component in self._spec.components.items() if tag == name or tag in component.tags
        )
        # Jobs take threads of the pool's own name where it is one pool, so that jobs which
        # reached it by different tags never take more than its workers have, all together.
        shared = tag is not None and len(serving) > 1
        pools = serving if shared else (pool,)
        limit = max(self._threads(name) for name in pools)
        return Placement(tag if shared and tag else pool, pools, max(1, min(threads, limit)))

    def _tag(self, members: tuple[Member, ...]) -> str | None:
        tags = sorted({member.tag for member in members if member.tag is not None})
        if not tags:
            tasks = self._spec.tasks
            tags = sorted({tasks[member.rule].component for member in members if member.rule in tasks})
        if len(tags) > 1:
            rules = ", ".join(sorted({member.rule for member in members}))
            raise PlacementError(
                f"the jobs of a group run on one worker, but its rules ({rules}) go to {' and '.join(tags)}; "
                "give them the same scalable_tag"
            )
        return tags[0] if tags else None
