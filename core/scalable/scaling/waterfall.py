"""The policy that fills targets in an order and drains them in reverse."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from scalable.errors import PlanError
from scalable.scaling.model import GroupView, Observation, PoolView, ScaleDecision
from scalable.scaling.ratio import HEARTBEAT_S, decided
from scalable.scaling.room import adapter_limits, free_places

__all__ = ["Rule", "WaterfallPolicy", "parse_rules"]


@dataclass(frozen=True, slots=True)
class Rule:
    """One line of a waterfall.

    Attributes
    ----------
    priority : int
        Lower ones are filled first.
    name : str
        A target, or one of its pools.
    maximum : int or None
        Workers at the most; ``None`` for as many as the pools may have.
    """

    priority: int
    name: str
    maximum: int | None = None


class WaterfallPolicy:
    """Fill targets in order, drain them in reverse.

    Tasks that require the same want one worker for every ten, at least one, from the targets
    that have what they require: as many as there is room for from the first, the rest from
    the next. Without tasks a target keeps its workers as long as one that comes later has some,
    unless another pool of it has no place for what it wants.

    Tasks count by what they require, so that none is counted twice; in the original those
    that require something count once more among all tasks, for workers that could not run them.
    The original lets the oldest group go, busy or not, and ends what it runs; here it finishes.
    A worker that died there is replaced when the number wanted changes, here at the next look.

    Parameters
    ----------
    rules : str or sequence of str
        Lines ``priority,name[,max]``; what stands after ``#`` is not read. The name is that of
        a target or a pool; pools that no line names are not scaled.
    tasks_per_worker : float
        Default 10.
    prefer_idle : bool
        Whether groups that run nothing leave first, rather than the oldest; default false.
    interval_s : float
        Seconds between two looks; default 2.

    Raises
    ------
    PlanError
        If the rules cannot be read.
    """

    name = "waterfall"
    wants_groups = True

    def __init__(
        self,
        rules: str | Sequence[str],
        *,
        tasks_per_worker: float = 10.0,
        prefer_idle: bool = False,
        interval_s: float = HEARTBEAT_S,
    ) -> None:
        if not tasks_per_worker > 0:
            raise PlanError(f"tasks_per_worker must be more than 0, not {tasks_per_worker}")
        self.rules = parse_rules(rules)
        self.tasks_per_worker = tasks_per_worker
        self.prefer_idle = prefer_idle
        self.interval_s = interval_s

    def decide(self, observation: Observation) -> ScaleDecision:
        """Return groups to start, or groups to stop, for each pool that a rule names."""
        steps = list(_steps(self.rules, observation.pools.values()))
        wanted = self._poured(observation, steps)
        starts: dict[str, int] = {}
        stops: dict[str, tuple[str, ...]] = {}
        named = [pool for _, pools in steps for pool in pools]
        more_of = {
            pool.info.name: -(-wanted[pool.info.name] // pool.info.group_size) - len(pool.groups) for pool in named
        }
        crowded = _crowded(observation, named, more_of)
        for pool in named:
            name, more = pool.info.name, more_of[pool.info.name]
            if more > 0:
                starts[name] = more
            elif more < 0 and (pool.info.adapter in crowded or not self._held(observation, steps, pool)):
                leaving = sorted(pool.groups, key=self._reluctance)[:-more]
                stops[name] = tuple(group.name for group in leaving)
        return decided(
            observation, starts, stops, lambda name: f"{wanted[name]} workers are its part of what tasks want"
        )

    def _poured(self, observation: Observation, steps: Sequence[tuple[Rule, list[PoolView]]]) -> Counter[str]:
        tasks: Counter[frozenset[str]] = Counter()
        for tag in observation.tags.values():
            tasks[frozenset(tag.info.requires)] += tag.queued + tag.running
        wanted: Counter[str] = Counter()
        places = adapter_limits(observation.pools.values())
        for required, count in tasks.items():
            rest = math.ceil(count / self.tasks_per_worker)
            for rule, pools in steps:
                room = (
                    math.inf if rule.maximum is None else rule.maximum - sum(wanted[pool.info.name] for pool in pools)
                )
                for pool in (one for one in pools if required <= one.info.labels.keys()):
                    free = min(places[pool.info.adapter], pool.info.limit - wanted[pool.info.name])
                    part = int(max(0, min(rest, room, free)))
                    wanted[pool.info.name] += part
                    places[pool.info.adapter] -= part
                    rest -= part
                    room -= part
        return wanted

    def _held(self, observation: Observation, steps: Sequence[tuple[Rule, list[PoolView]]], pool: PoolView) -> bool:
        """Return whether a pool without tasks waits for those that are to drain before it."""
        if any(tag.queued + tag.running for tag in observation.tags.values() if pool.info.name in tag.info.pools):
            return False
        own = next(rule.priority for rule, pools in steps if pool in pools)
        return any(one.idle + one.busy for rule, pools in steps if rule.priority > own for one in pools)

    def _reluctance(self, group: GroupView) -> int:
        return group.waiting + group.running if self.prefer_idle else 0


def _crowded(observation: Observation, pools: Iterable[PoolView], more_of: Mapping[str, int]) -> set[str]:
    """Return adapters in which a pool wants more groups than there are places."""
    free = free_places(observation.pools.values())
    for pool in pools:
        free[pool.info.adapter] -= max(0, more_of[pool.info.name]) * pool.info.group_size
    return {adapter for adapter, places in free.items() if places < 0}


def parse_rules(text: str | Iterable[str]) -> tuple[Rule, ...]:
    r"""Return the rules of a waterfall, those to be filled first at the front.

    Parameters
    ----------
    text : str or iterable of str
        Lines ``priority,name[,max]``; what stands after ``#`` is not read.

    Raises
    ------
    PlanError
        If a line has another form, a name comes twice, or there is no rule.

    Examples
    --------
    >>> [rule.name for rule in parse_rules("2,aws,50  # what is left\n1,hpc")]
    ['hpc', 'aws']
    """
    lines = text.splitlines() if isinstance(text, str) else list(text)
    rules: list[Rule] = []
    for number, line in enumerate(lines, 1):
        said = line.partition("#")[0].strip()
        if not said:
            continue
        rule = _rule(said, number)
        if any(rule.name == other.name for other in rules):
            raise PlanError(f"line {number} of the waterfall: '{rule.name}' has a rule already")
        rules.append(rule)
    if not rules:
        raise PlanError("a waterfall needs at least one line such as '1,hpc' or '2,aws,50'")
    return tuple(sorted(rules, key=lambda rule: rule.priority))


def _rule(said: str, number: int) -> Rule:
    fields = [field.strip() for field in said.split(",")]
    if len(fields) not in (2, 3):
        raise PlanError(f"line {number} of the waterfall: '{said}' is not priority,name[,max], such as '2,aws,50'")
    if not fields[1]:
        raise PlanError(f"line {number} of the waterfall: '{said}' has no name")
    priority = _number(fields[0], "priority", said, number)
    return Rule(priority, fields[1], _number(fields[2], "max", said, number) if len(fields) == 3 else None)


def _number(text: str, what: str, said: str, number: int) -> int:
    if not (text.isascii() and text.isdecimal()):
        raise PlanError(f"line {number} of the waterfall: {what} in '{said}' must be a whole number, not '{text}'")
    return int(text)


def _steps(rules: Iterable[Rule], pools: Iterable[PoolView]) -> Iterable[tuple[Rule, list[PoolView]]]:
    """Yield each rule with the pools that it names, each pool once."""
    left = {pool.info.name: pool for pool in pools}
    for rule in rules:
        named = [pool for pool in left.values() if rule.name in (pool.info.name, pool.info.adapter)]
        for pool in named:
            del left[pool.info.name]
        yield rule, named
