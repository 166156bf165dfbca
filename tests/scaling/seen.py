"""Short ways to say what a policy sees."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from scalable.scaling.model import GroupView, Observation, PoolInfo, PoolView, TagInfo, TagView

__all__ = ["group", "pool", "see", "tag"]


def group(name: str, workers: int = 1, waiting: int = 0, running: int = 0) -> GroupView:
    return GroupView(name, workers, waiting, running)


def pool(name: str = "a", *, limit: int = 10, groups: Sequence[GroupView] = (), **facts: Any) -> PoolView:
    """Return a pool; of groups that are given, those that run something are busy and those without workers start."""
    known = {key: facts.pop(key) for key in list(facts) if key in PoolInfo.__dataclass_fields__}
    info = PoolInfo(name, **{"adapter": name, "limit": limit, "labels": {name: 1.0}, **known})
    if groups:
        facts = {
            "busy": sum(one.workers for one in groups if one.running),
            "idle": sum(one.workers for one in groups if not one.running),
            "starting": sum(info.group_size for one in groups if not one.workers),
            "groups": tuple(groups),
            **facts,
        }
    return PoolView(info, **facts)


def tag(name: str, pools: Sequence[str] = ("a",), *, queued: int = 0, running: int = 0, **facts: Any) -> TagView:
    known = {key: facts.pop(key) for key in list(facts) if key in TagInfo.__dataclass_fields__}
    return TagView(TagInfo(name, tuple(pools), **known), queued, running, **facts)


def see(pools: Sequence[PoolView], tags: Sequence[TagView] = (), now: float = 0.0, **bounds: Any) -> Observation:
    by_pool: Mapping[str, PoolView] = {one.info.name: one for one in pools}
    return Observation(now, by_pool, {one.info.name: one for one in tags}, **bounds)
