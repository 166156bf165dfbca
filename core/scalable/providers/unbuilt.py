"""Providers whose targets can be validated and planned, but not yet started."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, NoReturn

from pydantic import BaseModel

from scalable.errors import InternalError, ProviderUnavailable, ValidationReport
from scalable.pools.shape import PoolShape
from scalable.pricing import Rate
from scalable.providers.base import ClusterHandle, CostEstimate
from scalable.providers.checks import remote_limits
from scalable.providers.options.aws import AwsOptions
from scalable.providers.options.common import RemoteOptions
from scalable.providers.options.gcp import GcpOptions
from scalable.providers.options.kubernetes import KubernetesOptions
from scalable.providers.prices import estimate, missing_prices, rates_of
from scalable.spec import DeploymentSpec, Limits, ScalePlan

if TYPE_CHECKING:
    from scalable.pools.pool import WorkerAdapter
    from scalable.providers.batch.script import TlsFiles
    from scalable.providers.opening import Listening

__all__ = ["AwsProvider", "GcpProvider", "KubernetesProvider"]


class _Unbuilt:
    """Everything that needs no cluster."""

    name: ClassVar[str]
    options_model: ClassVar[type[BaseModel]]
    extra: ClassVar[str | None]

    def validate(self, spec: DeploymentSpec) -> ValidationReport:
        """Report what reading the manifest did not: workers whose price is not known."""
        return ValidationReport(tuple(missing_prices(spec)))

    def limits(self, spec: DeploymentSpec) -> Limits:
        """Return the bounds on the number of workers, all pools together."""
        options = spec.options
        if not isinstance(options, RemoteOptions):
            raise InternalError(f"options of provider {self.name} are {type(options).__name__}")
        return remote_limits(options)

    def shapes(self, spec: DeploymentSpec) -> tuple[PoolShape, ...]:
        """Return what the workers of each pool are like, in the manifest's order."""
        return tuple(PoolShape.of(component) for component in spec.components.values())

    def build_cluster(self, spec: DeploymentSpec) -> ClusterHandle:
        """Refuse.

        Raises
        ------
        ProviderUnavailable
            Always.
        """
        self._refuse(f"target '{spec.target}'")

    def listening(self, spec: DeploymentSpec) -> Listening:
        """Refuse, as for :meth:`build_cluster`."""
        self._refuse(f"target '{spec.target}'")

    def open_adapter(self, spec: DeploymentSpec, tls: TlsFiles | None = None) -> WorkerAdapter:
        """Refuse, as for :meth:`build_cluster`."""
        del tls
        self._refuse(f"target '{spec.target}'")

    def scale(self, cluster: ClusterHandle, plan: ScalePlan) -> None:
        """Refuse, as there is no cluster."""
        del cluster, plan
        self._refuse("this target")

    def close(self, cluster: ClusterHandle) -> None:
        """Do nothing, as there is no cluster."""

    def estimate_cost(self, spec: DeploymentSpec, plan: ScalePlan) -> CostEstimate | None:
        """Return what a plan costs; ``None`` where no price is known."""
        return estimate(spec, plan)

    def rates(self, spec: DeploymentSpec) -> dict[str, Rate]:
        """Return what a worker of each pool costs, of those whose price is known."""
        return rates_of(spec)

    def _refuse(self, target: str) -> NoReturn:
        raise ProviderUnavailable(
            f"{target} has provider '{self.name}', for which this release builds no clusters; "
            "choose a target with `provider: local` or `provider: slurm`"
        )


class KubernetesProvider(_Unbuilt):
    """Pods of a Kubernetes cluster."""

    name: ClassVar[str] = "kubernetes"
    options_model: ClassVar[type[BaseModel]] = KubernetesOptions
    extra: ClassVar[str | None] = "kubernetes"


class AwsProvider(_Unbuilt):
    """Fargate tasks or EC2 machines."""

    name: ClassVar[str] = "aws"
    options_model: ClassVar[type[BaseModel]] = AwsOptions
    extra: ClassVar[str | None] = "aws"


class GcpProvider(_Unbuilt):
    """Machines of the Google Cloud."""

    name: ClassVar[str] = "gcp"
    options_model: ClassVar[type[BaseModel]] = GcpOptions
    extra: ClassVar[str | None] = "gcp"
