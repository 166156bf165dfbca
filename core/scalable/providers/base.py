"""What a provider must do."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, runtime_checkable

from pydantic import BaseModel

from scalable.errors import ValidationReport
from scalable.spec import DeploymentSpec, Limits, ScalePlan

if TYPE_CHECKING:
    from scalable.pools.cluster import PoolCluster as ClusterHandle
    from scalable.pools.pool import WorkerAdapter
    from scalable.pools.shape import PoolShape
    from scalable.providers.batch.script import TlsFiles
    from scalable.providers.opening import Listening

__all__ = ["AdapterProvider", "ClusterHandle", "CostEstimate", "DeploymentProvider"]


@dataclass(frozen=True, slots=True)
class CostEstimate:
    """What a plan costs.

    Attributes
    ----------
    usd_per_hour : float
        US dollars an hour with all planned workers.
    source : str
        Where the prices come from, and of which date.
    """

    usd_per_hour: float
    source: str


def __getattr__(name: str) -> Any:
    # What providers hand back; Dask is imported only by those who ask for it.
    if name == "ClusterHandle":
        from scalable.pools.cluster import PoolCluster  # noqa: PLC0415

        return PoolCluster
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


@runtime_checkable
class DeploymentProvider(Protocol):
    """How workers are got for a target.

    A provider may also have ``rates(spec)``, a mapping of pools to
    :class:`scalable.pricing.Rate`, where it knows what a worker costs; without it that is
    what the target's ``price`` says.

    Attributes
    ----------
    name : str
        What a target's ``provider`` says.
    options_model : type
        Pydantic model of the target's options; it should refuse what it does not know.
    extra : str or None
        Extra of the distribution that brings its libraries; ``None`` if it needs none.
    """

    name: ClassVar[str]
    options_model: ClassVar[type[BaseModel]]
    extra: ClassVar[str | None]

    def validate(self, spec: DeploymentSpec) -> ValidationReport:
        """Report what of a deployment cannot be honoured; nothing is started, nobody is asked."""
        ...

    def limits(self, spec: DeploymentSpec) -> Limits:
        """Return the bounds on the number of workers, all pools together."""
        ...

    def shapes(self, spec: DeploymentSpec) -> tuple[PoolShape, ...]:
        """Return what the workers of each pool are like, in the manifest's order."""
        ...

    def build_cluster(self, spec: DeploymentSpec) -> ClusterHandle:
        """Start a scheduler with empty pools.

        Raises
        ------
        ProviderError
            If it cannot be started; nothing of it is left then.
        """
        ...

    def scale(self, cluster: ClusterHandle, plan: ScalePlan) -> None:
        """Make the pools as large as the plan says."""
        ...

    def close(self, cluster: ClusterHandle) -> None:
        """End every worker and the scheduler."""
        ...

    def estimate_cost(self, spec: DeploymentSpec, plan: ScalePlan) -> CostEstimate | None:
        """Return what a plan costs; ``None`` where no price is known."""
        ...


@runtime_checkable
class AdapterProvider(DeploymentProvider, Protocol):
    """A provider whose workers can serve any scheduler: what ``scalable adapter`` and ``provider: hybrid`` take."""

    def listening(self, spec: DeploymentSpec) -> Listening:
        """Return how a scheduler must listen for the workers to reach it.

        Raises
        ------
        ProviderError
            If this machine does not have what is needed.
        """
        ...

    def open_adapter(self, spec: DeploymentSpec, tls: TlsFiles | None = None) -> WorkerAdapter:
        """Return what starts and stops workers, of which there are none yet.

        Parameters
        ----------
        spec : DeploymentSpec
            The target.
        tls : TlsFiles, optional
            Certificates with which workers connect to the scheduler.

        Raises
        ------
        ProviderError
            If it cannot be opened; nothing is left then.
        """
        ...
