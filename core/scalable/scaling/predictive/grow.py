"""How many workers more: the number that makes cost^a x time^(1-a) of the run the smallest."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from scalable.scaling.predictive.forecast import Capacity, Drain
from scalable.scaling.predictive.ledger import Job
from scalable.scaling.predictive.outlook import PoolOutlook, TagOutlook, Tick, cheapest

__all__ = ["Choice", "choose", "grow"]

SMALL = 0.3
"""A gain below this share of what it costs must last two ticks."""

TOGETHER = 4.0
"""Exponent by which the ends of a job's kinds of tasks make its end: towards the largest, as none is certain."""

_JOBS = 4  # places in the queue that are looked at
_CLOSE = 16  # numbers of workers up to this are all tried

_Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Choice:
    """A number of new workers of one pool.

    Attributes
    ----------
    pool : PoolOutlook
        Where.
    count : int
        How many.
    value : float
        Logarithm of cost^a x time^(1-a) with them.
    gain, cost : float
        By how much the logarithm of cost^a x time^(1-a) falls by them, and what of it their price takes back.
    before_s, after_s : float
        Seconds until the last queued task starts, without them and with them.
    price : float
        What they cost beyond the tasks themselves on the cheapest pool, in the unit of the pool's price.
    bound : str
        What kept it from being more or fewer; empty if nothing did.
    """

    pool: PoolOutlook
    count: int
    value: float
    gain: float
    cost: float
    before_s: float
    after_s: float
    price: float
    bound: str = ""


def grow(tick: Tick, tag: TagOutlook) -> None:
    """Add the workers that queued tasks are worth, and note when these will have started."""
    jobs = [job for job in tick.memory.ledger.jobs if job.ends.get(tag.name, 0) > tag.view.done]
    if not tag.view.queued:
        for job in jobs:
            job.finish_s[tag.name] = tick.seen.now + tag.left_s
        return
    places = _places(tick, tag, jobs)
    for _ in tag.pools:
        choice = choose(tick, tag, places)
        if choice is None:
            return
        tag.drained_s = choice.after_s
        if not _apply(tick, tag, choice):
            break
    for job, share in places:
        job.finish_s[tag.name] = tick.seen.now + share * tag.drained_s + tag.durations.longest()
    _take(tick, tag)


def choose(tick: Tick, tag: TagOutlook, places: list[tuple[Job, float]]) -> Choice | None:
    """Return the best number over all pools that can run the kind; ``None`` if none can."""
    tag.present = Capacity.joined([tick.pools[name].capacity for name in tag.pools])
    able = [tick.pools[name] for name in tag.pools if tick.pools[name].room] or [
        tick.pools[name] for name in tag.pools[:1]
    ]
    bounds = [(pool, *_most(tick, tag, pool)) for pool in able]
    choices = [_best(tick, tag, pool, places, (most, bound)) for pool, most, bound in bounds if most]
    best = min(choices, key=lambda one: one.value, default=None)
    if best is None or not best.count:
        return next((_none(tag, pool, bound) for pool, most, bound in bounds if not most), best)
    # A pool that is too small to be the best alone is filled first if it is no dearer; what is left is chosen after.
    small = [one for one in choices if one.count and one.bound.startswith("limit") and _dear(one) <= _dear(best)]
    return min(small, key=_dear) if small else best


def _dear(choice: Choice) -> float:
    return choice.pool.view.info.price_per_s


def _none(tag: TagOutlook, pool: PoolOutlook, bound: str) -> Choice:
    work_s = tag.work_s / tag.slots(pool.name)
    end_s = float(Drain(tag.present, work_s / tag.view.queued).starts(np.array([work_s]))[0, 0])
    return Choice(pool, 0, value=math.inf, gain=0.0, cost=0.0, before_s=end_s, after_s=end_s, price=0.0, bound=bound)


def _best(
    tick: Tick, tag: TagOutlook, pool: PoolOutlook, places: list[tuple[Job, float]], most: tuple[int, str]
) -> Choice:
    slots, ledger = tag.slots(pool.name), tick.memory.ledger
    bound, counts = most[1], _candidates(most[0], pool.view.info.group_size)
    work_s, tail = tag.work_s / slots, tag.durations.longest()
    some = places[::-1][:: max(1, math.ceil(len(places) / _JOBS))]
    drain = Drain(tag.present, work_s / tag.view.queued, pool.startups.quantiles, counts)
    starts = drain.starts(work_s * np.array([1.0, *(share for _, share in some)]))
    ends = starts[:, 0]
    scale = sum(job.weight for job, _ in places) / sum(job.weight for job, _ in some)
    waited = scale * _waited(tick, tag, starts[:, 1:] + tail, [job for job, _ in some])
    waited += ledger.waited + tail / 2 * ledger.open
    price = _price(tick, tag, pool, counts)
    money = tick.alpha * np.log(ledger.paid + tick.ahead + price + 1e-12)
    value = money + (1 - tick.alpha) * np.log(waited)
    # Without any worker the queue never ends: one that will is always worth it.
    at = int(value.argmin())
    if tick.seen.deadline_s is not None:
        made = ends + tail <= tick.seen.deadline_s
        if made.any() and not made[at]:
            at, bound = int(made.argmax()), "the deadline asks for them"
    return Choice(
        pool,
        int(counts[at]),
        value=float(value[at]),
        gain=float(value[0] - value[at]) if at else 0.0,
        cost=float(money[at] - money[0]),
        before_s=float(ends[0]),
        after_s=float(ends[at]),
        price=float(price[at]),
        bound=bound if at == len(counts) - 1 or "deadline" in bound else "",
    )


def _price(tick: Tick, tag: TagOutlook, pool: PoolOutlook, counts: _Array) -> _Array:
    """Return what new workers cost beyond their tasks on the cheapest pool: starts, least bills, and dearer work."""
    info, slots = pool.view.info, tag.slots(pool.name)
    unused_s = info.min_bill_s - pool.startups.boot_s
    dearer = info.price_per_s - slots * cheapest(tag, tick.pools)
    price: _Array = counts * pool.boot_price
    if unused_s > 0 or dearer > 0:
        each_s = tag.work_s / slots / np.maximum(counts + tag.present.total, 1.0)
        price += counts * (info.price_per_s * np.maximum(unused_s - each_s, 0.0) + max(0.0, dearer) * each_s)
    return price


def _waited(tick: Tick, tag: TagOutlook, ends: _Array, jobs: list[Job]) -> _Array:
    """Return the seconds until jobs are done, together, where tasks of one kind are at some time."""
    # What else a job waits for, if not for this kind: to be done earlier than that is worth little.
    others = [max(0.0, job.without(tag.later) - tick.seen.now) for job in jobs]
    weights = np.array([job.weight for job in jobs])
    if not any(others):
        return np.asarray(ends @ weights)
    longer, shorter = np.maximum(ends, others), np.minimum(ends, others)
    ratio = np.divide(shorter, longer, out=np.zeros_like(longer), where=longer > shorter)
    ratio[longer == shorter] = 1.0
    waited: _Array = (longer * (1.0 + ratio**TOGETHER) ** (1 / TOGETHER)) @ weights
    return waited


def _places(tick: Tick, tag: TagOutlook, jobs: list[Job]) -> list[tuple[Job, float]]:
    """Return the jobs with queued tasks, and what share of the queue has started when the last of theirs has."""
    started = tag.view.arrived - tag.view.queued - tag.view.blocked
    places = [
        (job, min(1.0, (job.ends[tag.name] - started) / tag.view.queued))
        for job in jobs
        if job.ends[tag.name] > started
    ]
    return places or [(Job(tick.seen.now, {}), 1.0)]


def _most(tick: Tick, tag: TagOutlook, pool: PoolOutlook) -> tuple[int, str]:
    """Return how many workers there may be more, and what says so."""
    info, group = pool.view.info, pool.view.info.group_size
    # Workers that are there take the queue's money anyway; else each new one takes a task at the least.
    task_s = 0.0 if any(tick.pools[name].view.live for name in tag.pools) else tag.durations.mean_s
    bounds = [
        (math.ceil(tag.view.queued / tag.slots(pool.name) / group) * group, "no more tasks"),
        (pool.room, f"broken: {pool.view.broken}" if pool.view.broken else f"limit {info.limit}"),
        (tick.room, f"limit {tick.seen.limit} of all pools"),
        (tick.affordable(pool, task_s), "budget"),
    ]
    most, bound = min(bounds, key=lambda one: one[0])
    return most // group * group, bound


@lru_cache(maxsize=1024)
def _candidates(most: int, group: int) -> _Array:
    """Return numbers up to the most: first each, then each about a twelfth more than the one before."""
    groups = max(0, most) // group
    if groups <= _CLOSE:
        return group * np.arange(groups + 1, dtype=float)
    steps = math.ceil(math.log(groups / _CLOSE) / 0.08)
    wide = np.unique(np.round(_CLOSE * (groups / _CLOSE) ** (np.arange(steps + 1) / steps)))
    return group * np.concatenate((np.arange(float(_CLOSE)), wide))


def _apply(tick: Tick, tag: TagOutlook, choice: Choice) -> bool:
    """Add what was chosen unless it hesitates; return whether another pool should be tried for more."""
    pool, hesitant = choice.pool, tick.memory.hesitant
    if not choice.count:
        hesitant.discard(tag.name)
        if choice.bound and choice.bound != "no more tasks":
            pool.reasons.append(f"{tag.name}: {_told(tag, pool)}; none added: {choice.bound}")
        return False
    small = math.isfinite(choice.gain) and choice.gain < SMALL * choice.cost
    if small and tag.name not in hesitant:
        hesitant.add(tag.name)
        tag.drained_s = choice.before_s
        return False
    hesitant.discard(tag.name)
    tick.add(pool, choice.count)
    fresh = pool.startups.quantiles
    pool.capacity = Capacity.joined([pool.capacity, Capacity(fresh, np.full(len(fresh), choice.count / len(fresh)))])
    cost = tick.memory.ledger.paid + tick.ahead
    tick.ahead += choice.price
    pool.reasons.append(
        f"{tag.name}: {_told(tag, pool)}; {choice.count} more: the last starts in {choice.after_s:.0f} s, not "
        f"{choice.before_s:.0f} s, and all costs {cost + choice.price:.4g}, not {cost:.4g}"
        + (f"; bound: {choice.bound}" if choice.bound else "")
    )
    return choice.bound.startswith("limit")


def _told(tag: TagOutlook, pool: PoolOutlook) -> str:
    return (
        f"{tag.view.queued} queued tasks of {tag.durations.mean_s:.3g} s ({tag.durations.source}) are "
        f"{tag.work_s:.0f} s of work, a start takes {pool.startups.mean_s:.0f} s ({pool.startups.source})"
    )


def _take(tick: Tick, tag: TagOutlook) -> None:
    """Give the queue's tasks to the workers there are or come, the cheapest first."""
    left = float(tag.view.queued)
    for name in tag.cheap:
        pool, slots = tick.pools[name], tag.slots(name)
        pool.capacity = pool.capacity.not_before(tag.drained_s)
        pool.drained_s = max(pool.drained_s, tag.drained_s)
        here = min(left / slots, max(0.0, pool.view.live + pool.add - pool.taken))
        pool.taken += here
        left -= here * slots
