"""A primary pool of one group that starts once and stays, and others that take what is too much for it."""

from __future__ import annotations

from scalable.scaling.model import PoolView
from scalable.scaling.ratio import FixedElasticPolicy
from tests.scaling.seen import group, pool, see, tag

BUSY = [tag("x", queued=100)]
QUIET = [tag("x", queued=0)]


def primary(*, up: bool = False, coming: bool = False) -> PoolView:
    groups = [group("first", int(up))] if up or coming else []
    return pool("primary", limit=4, group_size=4, groups=groups)


def secondary(count: int) -> PoolView:
    return pool("secondary", limit=3, groups=[group(f"s{number}") for number in range(count)])


def test_the_primary_waits_for_tasks_as_the_others_do() -> None:
    policy = FixedElasticPolicy()
    assert not policy.decide(see([primary(), secondary(0)], QUIET)).has_changes
    assert policy.decide(see([primary(), secondary(0)], BUSY)).workers_to_add == {"primary": 4, "secondary": 1}


def test_the_primary_never_stops_and_the_others_do() -> None:
    decision = FixedElasticPolicy().decide(see([primary(up=True), secondary(2)], QUIET))
    assert decision.groups_to_stop == {"secondary": ("s0",)}


def test_a_primary_that_was_up_is_not_started_again() -> None:
    policy = FixedElasticPolicy()
    policy.decide(see([primary(up=True), secondary(0)], BUSY))
    assert policy.decide(see([primary(), secondary(0)], BUSY)).workers_to_add == {"secondary": 1}


def test_a_primary_whose_start_was_refused_is_tried_again() -> None:
    policy = FixedElasticPolicy()
    policy.decide(see([primary(), secondary(0)], BUSY))
    policy.decide(see([primary(coming=True), secondary(0)], BUSY))
    assert policy.decide(see([primary(), secondary(0)], BUSY)).workers_to_add["primary"] == 4


def test_the_others_grow_to_their_own_limit() -> None:
    assert not FixedElasticPolicy().decide(see([primary(up=True), secondary(3)], BUSY)).has_changes
