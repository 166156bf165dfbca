"""What a workflow is going to run, by rule: read off Snakemake's DAG before anything has run."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from scalable import TaskGroup
from scalable_snakemake.placement import Placement

__all__ = ["outlook"]


def outlook(
    jobs: Iterable[Any], parents: Callable[[Any], Iterable[Any]], place: Callable[[Any], tuple[Placement, int]]
) -> list[TaskGroup]:
    """Return the jobs of each rule as one group of tasks, with the rules that it waits for.

    A rule whose every job needs all jobs of another waits for all of them; else its jobs
    wait for those of the other one by one. Where rules wait for each other in a circle, as
    jobs never do, the one that is further down the DAG is the one that waits.

    Parameters
    ----------
    jobs : iterable
        Those that are to run on workers.
    parents : callable
        The jobs of which a job needs something.
    place : callable
        Where a job goes, and how many of its kind a worker runs at a time.
    """
    by_rule: dict[str, list[Any]] = {}
    for job in jobs:
        by_rule.setdefault(str(job.rule.name), []).append(job)
    own = {job for members in by_rule.values() for job in members}
    needs = _needs(own, parents)
    depths = _depths(needs)
    depth = {rule: sum(depths[job] for job in members) / len(members) for rule, members in by_rule.items()}
    groups = []
    for rule, members in by_rule.items():
        after: list[str] = []
        each: list[str] = []
        for other, count in Counter(str(job.rule.name) for one in members for job in needs[one]).items():
            if other != rule and (depth[other], other) < (depth[rule], rule):
                whole = count == len(members) * len(by_rule[other])
                (after if whole else each).append(other)
        placement, slots = place(members[0])
        groups.append(
            TaskGroup(
                rule,
                placement.pools[0],
                len(members),
                after=tuple(after),
                each=tuple(each),
                slots=slots,
                cpus=placement.threads,
            )
        )
    return groups


def _needs(own: set[Any], parents: Callable[[Any], Iterable[Any]]) -> dict[Any, set[Any]]:
    """Return the jobs that each job waits for, also through those that do not run on workers."""
    known: dict[Any, set[Any]] = {}
    for first in own:
        # Chains of jobs may be longer than Python's stack.
        stack = [first]
        while stack:
            job = stack[-1]
            missing = [one for one in parents(job) if one not in known]
            if job not in known and missing:
                stack += missing
                continue
            stack.pop()
            if job not in known:
                known[job] = {one for parent in parents(job) for one in _seen(parent, own, known)}
    return known


def _seen(parent: Any, own: set[Any], known: Mapping[Any, set[Any]]) -> set[Any]:
    return {parent} if parent in own else known[parent]


def _depths(needs: Mapping[Any, set[Any]]) -> dict[Any, int]:
    """Return how many jobs, one after the other, come before each job."""
    depths: dict[Any, int] = {}
    for first in needs:
        stack = [first]
        while stack:
            job = stack[-1]
            missing = [one for one in needs[job] if one not in depths]
            if missing:
                stack += missing
                continue
            stack.pop()
            depths[job] = max((depths[one] + 1 for one in needs[job]), default=0)
    return depths
