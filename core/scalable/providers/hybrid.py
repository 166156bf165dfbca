"""The hybrid provider: the workers of one target from the start, and those of another for the overflow."""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from scalable.errors import InternalError, ValidationReport
from scalable.pools.cluster import PoolCluster
from scalable.pools.pool import WorkerAdapter
from scalable.pools.shape import PoolShape, base_of
from scalable.pricing import Rate
from scalable.providers import registry
from scalable.providers.base import CostEstimate, DeploymentProvider
from scalable.providers.checks import check_parts
from scalable.providers.opening import Listening, open_cluster
from scalable.providers.options.hybrid import HybridOptions
from scalable.providers.prices import estimate, provider_rates
from scalable.spec import DeploymentSpec, Limits, ScalePlan
from scalable.telemetry.recorder import new_run_id

if TYPE_CHECKING:
    from scalable.providers.batch.script import TlsFiles

__all__ = ["HybridProvider"]


class HybridProvider:
    """Two targets of the manifest on one scheduler in this process.

    The primary's pools have the names of their components and are there from the start; the
    secondary's are called ``COMPONENT@SECONDARY``, start empty and come and go with the work.
    With one component the primary keeps what the plan gives it to the end. With several its
    pools share its places, so that idle workers of one stage give way to the next; then the run
    as a whole never has fewer workers than the primary's minimum.
    """

    name: ClassVar[str] = "hybrid"
    extra: ClassVar[str | None] = None
    options_model: ClassVar[type[HybridOptions]] = HybridOptions

    def validate(self, spec: DeploymentSpec) -> ValidationReport:
        """Report what either of the two targets cannot honour."""
        return check_parts(spec, lambda part: registry.get_provider(part.provider).validate(part))

    def limits(self, spec: DeploymentSpec) -> Limits:
        """Return the bounds on the number of workers, those of both targets together."""
        primary, secondary = (_provider(part).limits(part) for part in _parts(spec))
        return Limits(primary.minimum, primary.maximum + secondary.maximum)

    def memory_limit(self, spec: DeploymentSpec) -> int | None:
        """Return the bytes of the largest worker that both targets can have; ``None`` if neither tells."""
        asked = ((getattr(_provider(part), "memory_limit", None), part) for part in _parts(spec))
        known = [limit for ask, part in asked if ask is not None and (limit := ask(part)) is not None]
        return min(known, default=None)

    def shapes(self, spec: DeploymentSpec) -> tuple[PoolShape, ...]:
        """Return what the workers of each pool are like, the primary's first."""
        primary, secondary = _parts(spec)
        own = _provider(primary).shapes(primary)
        # An adapter elsewhere says what its workers are like when it joins.
        return own if _options(spec).remote else (*own, *_at(secondary))

    def build_cluster(self, spec: DeploymentSpec) -> PoolCluster:
        """Start a scheduler that the workers of both targets reach, with empty pools.

        Raises
        ------
        ProviderError
            If either target cannot be opened; nothing is left then.
        """
        spec = spec if spec.run_id else replace(spec, run_id=new_run_id(spec.project))
        primary, secondary = _parts(spec)
        first = registry.get_adapter_provider(primary.provider)
        own = first.listening(primary)
        listening = _listening(spec, own, primary)
        second = None if _options(spec).remote else registry.get_adapter_provider(secondary.provider)
        if second is not None:
            listening = listening.beside(second.listening(secondary))
        certificates: list[TlsFiles | None] = []

        def opened(tls: TlsFiles | None) -> WorkerAdapter:
            certificates.append(tls)
            adapter = first.open_adapter(primary, tls)
            return adapter if own.reach == "network" else _closed_with(adapter, tls)

        cluster = open_cluster(primary, listening, first.shapes(primary), opened)
        if second is not None:
            try:
                cluster.sync(_add, cluster, second.open_adapter(secondary, certificates[0]), _at(secondary))
            except BaseException:
                cluster.close()
                raise
        return cluster

    def scale(self, cluster: PoolCluster, plan: ScalePlan) -> None:
        """Start what the plan says: in the primary as far as it goes, the rest in the secondary.

        Returns when each pool of the primary has its first worker, or its jobs are accepted.
        """
        primary = next(iter(cluster.adapters.values()))
        counts = _within({tag: request.count for tag, request in plan.items()}, primary.limit)
        cluster.start_pools(counts, "plan")
        own = [pool for pool in cluster.pools.values() if pool.source is primary]
        if len(own) == 1:
            # With nobody to give way to, it keeps what it has: the secondary alone shrinks.
            own[0].minimum = counts.get(own[0].shape.name, 0)
        others = [pool.shape.name for pool in cluster.pools.values() if pool.source is not primary]
        rest = {name: plan[base_of(name)].count - counts[base_of(name)] for name in others if base_of(name) in plan}
        cluster.soon(cluster.scale, {name: count for name, count in rest.items() if count}, "plan")

    def close(self, cluster: PoolCluster) -> None:
        """End every worker of both targets and the scheduler."""
        cluster.close()

    def estimate_cost(self, spec: DeploymentSpec, plan: ScalePlan) -> CostEstimate | None:
        """Return what a plan costs; ``None`` where the price of a worker is not known."""
        return estimate(spec, plan, self.rates(spec))

    def rates(self, spec: DeploymentSpec) -> dict[str, Rate]:
        """Return what a worker of each pool costs, where that is known."""
        primary, secondary = _parts(spec)
        names = {base_of(shape.name): shape.name for shape in _at(secondary)}
        elsewhere = provider_rates(_provider(secondary), secondary)
        own = provider_rates(_provider(primary), primary)
        return own | {names[name]: rate for name, rate in elsewhere.items()}


def _options(spec: DeploymentSpec) -> HybridOptions:
    if not isinstance(spec.options, HybridOptions):
        raise InternalError(f"options of provider hybrid are {type(spec.options).__name__}")
    return spec.options


def _parts(spec: DeploymentSpec) -> tuple[DeploymentSpec, DeploymentSpec]:
    """Return the two targets, with what is to run as it is now: past runs may have had a say in it."""
    options = _options(spec)
    return spec.part(options.primary), spec.part(options.secondary)


def _provider(spec: DeploymentSpec) -> DeploymentProvider:
    return registry.get_provider(spec.provider)


def _at(secondary: DeploymentSpec) -> tuple[PoolShape, ...]:
    return tuple(shape.at(secondary.target) for shape in _provider(secondary).shapes(secondary))


def _listening(spec: DeploymentSpec, own: Listening, primary: DeploymentSpec) -> Listening:
    """Return how the scheduler listens for the primary, and for whoever joins from elsewhere."""
    options = _options(spec)
    if own.reach == "network":
        return own
    shared = primary.run_dir or Path(".scalable") / "runs" / primary.run_id
    wider = replace(own, interface=options.interface, port=options.scheduler_port or 0, shared=shared.absolute())
    return replace(wider, reach="network") if options.remote else wider


def _closed_with(adapter: WorkerAdapter, tls: TlsFiles | None) -> WorkerAdapter:
    """Have a run's certificates removed when an adapter is closed that does not do so itself."""

    def close() -> None:
        adapter.on_close()
        if tls is not None:
            shutil.rmtree(tls.directory, ignore_errors=True)

    return replace(adapter, on_close=close)


async def _add(cluster: PoolCluster, adapter: WorkerAdapter, shapes: Iterable[PoolShape]) -> None:
    cluster.add_adapter(adapter, shapes)


def _within(counts: dict[str, int], limit: int | None) -> dict[str, int]:
    """Return as much of what is wanted as there is room for: one for each pool first, then in their order.

    Examples
    --------
    >>> _within({"a": 5, "b": 2}, 4), _within({"a": 1}, None)
    ({'a': 3, 'b': 1}, {'a': 1})
    """
    if limit is None:
        return dict(counts)
    given = dict.fromkeys(counts, 0)
    for most in (1, limit):
        for name, count in counts.items():
            given[name] += min(min(count, most) - given[name], limit - sum(given.values()))
    return given
