"""What an adapter may say of itself when it joins."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any, Final

from scalable.errors import ProviderError
from scalable.manifest.fields import NAME_PATTERN
from scalable.pools.shape import PoolShape
from scalable.providers.adapters.messages import PoolOffer, Registration
from scalable.spec import ComponentSpec, ResourceRequest

__all__ = ["check_offers", "shape_of"]

_NAME: Final = re.compile(NAME_PATTERN, re.ASCII)


def check_offers(registration: Registration) -> None:
    """Refuse a registration in which something is not what it must be.

    Raises
    ------
    ProviderError
        It says what, and where.
    """
    _must(_is_name(registration.adapter_id), f"'{registration.adapter_id}' is no name of a target")
    most, size = registration.max_workers, registration.workers_per_group
    _must(most is None or _is_whole(most, 1), f"max_workers must be a whole number from 1, or nothing, not {most!r}")
    _must(_is_whole(size, 1), f"workers_per_group must be a whole number from 1, not {size!r}")
    for offer in registration.pools:
        _check_offer(offer)
    names = [offer.component for offer in registration.pools]
    _must(bool(names), "it has no pools")
    _must(len(set(names)) == len(names), f"a component has two pools: {', '.join(names)}")


def shape_of(offer: PoolOffer) -> PoolShape:
    """Return what the workers of a pool are like."""
    component = ComponentSpec(
        name=offer.component,
        resources=ResourceRequest(offer.cpus, offer.memory_bytes, offer.gpus),
        tags=tuple(offer.tags),
        capabilities=dict(offer.capabilities),
    )
    return PoolShape(component, offer.threads)


def _check_offer(offer: PoolOffer) -> None:
    _must(_is_name(offer.component), f"'{offer.component}' is no name of a component")
    where, memory = f"pool '{offer.component}'", offer.memory_bytes
    _must(_is_whole(offer.threads, 1), f"{where}: threads must be a whole number from 1, not {offer.threads!r}")
    _must(_is_amount(offer.cpus) and offer.cpus < math.inf, f"{where}: cpus must be more than 0, not {offer.cpus!r}")
    _must(memory is None or _is_whole(memory, 1), f"{where}: memory_bytes must be bytes, or nothing, not {memory!r}")
    _must(_is_whole(offer.gpus, 0), f"{where}: gpus must be a whole number, not {offer.gpus!r}")
    # What came over the wire may be anything.
    tags: Any = offer.tags
    capabilities: Any = offer.capabilities
    _must(isinstance(tags, tuple | list) and all(map(_is_name, tags)), f"{where}: tags must be names, not {tags!r}")
    _must(
        isinstance(capabilities, Mapping)
        and all(_is_name(name) and _is_amount(amount) for name, amount in capabilities.items()),
        f"{where}: capabilities must be amounts above 0 by name, not {capabilities!r}",
    )


def _must(holds: bool, said: str) -> None:
    if not holds:
        raise ProviderError(said)


def _is_name(value: object) -> bool:
    return isinstance(value, str) and _NAME.fullmatch(value) is not None


def _is_whole(value: object, least: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= least


def _is_amount(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and value > 0
