"""Many tasks on some workers: list scheduling of whole arrays at a time, in many worlds at once."""

from __future__ import annotations

import heapq
import math
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

__all__ = ["HEAP_TASKS", "Draws", "Outcome", "schedule", "schedule_released"]

Floats = NDArray[np.float64]

_FEW_SLOTS: Final = 32
_MANY_TASKS: Final = 512
_TAIL_ROUNDS: Final = 8
HEAP_TASKS: Final = 128
"""Tasks that come one by one, of which no more are simulated: others stand for several."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of tasks.

    Attributes
    ----------
    free : array, worlds by slots
        When each slot has done its last task; where it had none, when it could have begun.
    used : array of bool, worlds by slots
        Whether it had any.
    empty : array, one number a world
        When the last task began.
    end : array, one number a world
        When all were done.
    finishes : array, worlds by tasks
        When tasks were done, all or an even share of them, in no order.
    """

    free: Floats
    used: NDArray[np.bool_]
    empty: Floats
    end: Floats
    finishes: Floats


class Draws:
    """Durations of one group's tasks in many worlds, the same ones whatever the number of workers.

    Parameters
    ----------
    durations_s : sequence of float
        What is drawn from.
    worlds : int
        How many worlds.
    seed : sequence of int
        Which numbers come.
    """

    def __init__(self, durations_s: object, worlds: int, seed: tuple[int, ...]) -> None:
        self.sorted = np.sort(np.asarray(durations_s, dtype=np.float64))
        self._random = np.random.default_rng(seed)
        self._uniform = np.empty((worlds, 0))
        self._others = np.random.default_rng((*seed, 1)).random((worlds, 2048))
        self.mean = float(self.sorted.mean())
        self.sd = float(self.sorted.std())
        self._normal = np.random.default_rng((*seed, 2)).standard_normal(worlds)
        # A task that is met half-way is a long one more often than not.
        self._share_of_time = np.cumsum(self.sorted) / max(float(self.sorted.sum()), 1e-300)

    def first(self, count: int) -> Floats:
        """Return the first so many durations of each world."""
        have = self._uniform.shape[1]
        if count > have:
            more = self._random.random((self._uniform.shape[0], max(count - have, have, 64)))
            self._uniform = np.concatenate([self._uniform, more], axis=1)
        return self._at(self._uniform[:, :count])

    def largest_of(self, each: float, count: int) -> Floats:
        """Return, so many times in each world, the longest of ``each`` tasks."""
        return self._at(self._tiled(count) ** (1.0 / each))

    def total(self, count: int) -> Floats:
        """Return the seconds of so many tasks together, in each world."""
        drawn = count * self.mean + self._normal * self.sd * math.sqrt(count)
        return np.asarray(np.maximum(drawn, count * self.sorted[0]))

    def under_way(self, count: int) -> Floats:
        """Return what is left of tasks that are looked at in the middle of the work, so many in each world."""
        uniform = self._tiled(2 * count)
        places = np.searchsorted(self._share_of_time, uniform[:, :count])
        return self.sorted[np.minimum(places, len(self.sorted) - 1)] * uniform[:, count:]

    def _tiled(self, count: int) -> Floats:
        have = self._others.shape[1]
        return self._others[:, :count] if count <= have else np.tile(self._others, -(-count // have))[:, :count]

    def _at(self, uniform: Floats) -> Floats:
        return self.sorted[(uniform * len(self.sorted)).astype(np.intp)]


def schedule(ready: Floats, count: int, draws: Draws, alike: float = 1.0) -> Outcome:
    """Give tasks that are all there to slots, each to the one that is free first.

    Because tasks of one group are alike, a slot may as well have a sequence of its own:
    those tasks run that have the ``count`` earliest starts. That takes no step for each
    task. The body of long work is its sum, only the tail is simulated; and where there are
    very many slots some of them stand for all, with the longest task among those that they
    stand for.

    Parameters
    ----------
    ready : array, worlds by slots
        When each slot can begin.
    count : int
        Tasks.
    draws : Draws
        Their durations.
    alike : float
        How many slots each slot, and tasks each task, stands for already.
    """
    slots = ready.shape[1]
    few = slots
    if count > _MANY_TASKS and slots > _FEW_SLOTS:
        few = _FEW_SLOTS
        ready = ready[:, np.linspace(0, slots - 1, few).astype(np.intp)] if ready.size else ready
    each = slots / few
    tasks = math.ceil(count / each - 1e-9)
    begin = _without_body(ready, tasks, draws)
    outcome = _earliest(begin[0], begin[1], draws, each * alike)
    if few < slots:
        places = np.arange(slots) * few // slots
        outcome = Outcome(
            outcome.free[:, places], outcome.used[:, places], outcome.empty, outcome.end, outcome.finishes
        )
    return outcome


def _without_body(ready: Floats, tasks: int, draws: Draws) -> tuple[Floats, int]:
    """Return when the slots come free for the last rounds, and how many tasks these have."""
    slots = ready.shape[1]
    tail = _TAIL_ROUNDS * slots
    if tasks <= 2 * tail or tasks <= 256:
        return ready, tasks
    left = draws.under_way(slots)
    # The slots' time until then is the work of the body, but for what it has left.
    moment = (draws.total(tasks - tail) + ready.sum(axis=1) - left.sum(axis=1)) / slots
    if np.any(moment < ready.max(axis=1)):
        return ready, tasks
    return moment[:, None] + left, tail


def _earliest(ready: Floats, tasks: int, draws: Draws, each: float) -> Outcome:
    worlds, slots = ready.shape
    # Of equal starts exactly as many count as there are tasks.
    ready = ready + np.arange(slots) * (1e-9 * max(draws.mean, 1e-9) / slots)
    rounds = math.ceil(1.25 * tasks / slots) + 2
    while True:
        durations = draws.first(rounds * slots).reshape(worlds, rounds, slots)
        finish = durations.cumsum(axis=1)
        finish += ready[:, None, :]
        start = finish - durations
        flat = start.reshape(worlds, -1)
        empty = np.partition(flat, tasks - 1, axis=1)[:, tasks - 1] if tasks < flat.shape[1] else flat.max(axis=1)
        # Whoever could have begun one more task than was drawn for him would have.
        if np.all(finish[:, -1, :].min(axis=1) >= empty):
            break
        rounds *= 2
    chosen = start <= empty[:, None, None]
    used = chosen[:, 0, :]
    free = np.maximum(np.where(chosen, finish, 0.0).max(axis=1), ready)
    end = free.max(axis=1, where=used, initial=0.0)
    if each > 1.0:
        longest = draws.largest_of(each, rounds * slots).reshape(worlds, rounds, slots)
        end = np.maximum(end, np.where(chosen, start + longest, 0.0).max(axis=(1, 2)))
    finishes = finish[chosen].reshape(worlds, -1) if int(chosen.sum()) == worlds * tasks else free
    return Outcome(free, used, empty, end, finishes)


def schedule_released(ready: Floats, released: Floats, count: int, draws: Draws) -> Outcome:
    """Give tasks that come one after the other to slots, each to the one that is free first.

    Parameters
    ----------
    ready : array, worlds by slots
        When each slot can begin.
    released : array, worlds by any number
        When tasks come; an even share of them stands for all.
    count : int
        Tasks.
    draws : Draws
        Their durations.
    """
    worlds, slots = ready.shape
    few = min(slots, HEAP_TASKS // 4)
    each = slots / few
    tasks = math.ceil(count / each - 1e-9)
    merged = max(1, tasks // HEAP_TASKS)
    tasks = math.ceil(tasks / merged)
    come = np.sort(released, axis=1)[:, -(-np.arange(1, tasks + 1) * released.shape[1] // tasks) - 1]
    durations = draws.first(tasks * merged).reshape(worlds, tasks, merged).sum(axis=2)
    begun = ready[:, np.linspace(0, slots - 1, few).astype(np.intp)]
    free, used = begun.copy(), np.zeros((worlds, few), dtype=np.bool_)
    empty, finishes = np.zeros(worlds), np.empty((worlds, tasks))
    for world in range(worlds):
        heap = [(at, slot) for slot, at in enumerate(begun[world].tolist())]
        heapq.heapify(heap)
        at = 0.0
        for task, (comes, takes) in enumerate(zip(come[world].tolist(), durations[world].tolist(), strict=True)):
            free_at, slot = heap[0]
            at = max(free_at, comes)
            heapq.heapreplace(heap, (at + takes, slot))
            finishes[world, task] = at + takes
            free[world, slot], used[world, slot] = at + takes, True
        empty[world] = at
    places = np.arange(slots) * few // slots
    return Outcome(free[:, places], used[:, places], empty, finishes.max(axis=1), finishes)
