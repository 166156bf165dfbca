"""What the controller makes of the pools it looks at."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from scalable.pools.pool import Member, Pool
from scalable.pools.shape import PoolShape
from scalable.scaling.controller import Controller
from scalable.spec import ComponentSpec, Limits
from scalable.telemetry.recorder import Recorder


def controller(*pools: Pool, limits: Limits) -> Controller:
    cluster: Any = SimpleNamespace(
        pools={pool.shape.name: pool for pool in pools},
        demand_counter=SimpleNamespace(demand={}),
        scale=lambda counts, reason: None,
    )
    router: Any = None
    return Controller(cluster, limits, router, Recorder(None))


def pool(up: int, waiting: int, asked_at: float) -> Pool:
    made = Pool(PoolShape(ComponentSpec("a"), 1))
    made.desired = up + waiting
    made.startup_s = 2.0
    for number in range(up + waiting):
        member = made.members[f"a-{number}"] = Member(f"a-{number}")
        member.up, member.asked_at = number < up, asked_at
    return made


def test_workers_of_no_use_go_although_others_of_their_pool_still_wait_in_a_queue() -> None:
    watched = controller(pool(up=5, waiting=5, asked_at=0.0), limits=Limits(0, 10))
    assert watched.tick(20.0).counts == {}
    # Three times the twenty seconds that it had waited while nobody knew that there would be no work.
    assert watched.tick(79.0).counts == {}
    assert watched.tick(81.0).counts == {"a": 0}
