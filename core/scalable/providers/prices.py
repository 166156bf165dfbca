"""What the workers of a target cost: as the manifest says, else as the tables do."""

from __future__ import annotations

from collections.abc import Mapping

from scalable.errors import Issue
from scalable.pricing import NOT_PAID, NoPrice, Rate, ec2_rate, fargate_rate, gce_rate, user_rate
from scalable.providers.base import CostEstimate, DeploymentProvider
from scalable.providers.options.aws import AwsOptions, fargate_size
from scalable.providers.options.gcp import GcpOptions
from scalable.providers.options.local import LocalOptions
from scalable.spec import ComponentSpec, DeploymentSpec, ScalePlan

__all__ = ["estimate", "missing_prices", "provider_rates", "rates_of"]


def rates_of(spec: DeploymentSpec) -> dict[str, Rate]:
    """Return what a worker of each pool costs; pools without a known price are not in it.

    Parameters
    ----------
    spec : DeploymentSpec
        A target; its own ``price`` goes before every table.
    """
    found = {name: _price(spec, component) for name, component in spec.components.items()}
    return {name: rate for name, rate in found.items() if isinstance(rate, Rate)}


def provider_rates(provider: DeploymentProvider, spec: DeploymentSpec) -> dict[str, Rate]:
    """Return what a provider says its workers cost; for one that says nothing, what the manifest does.

    Parameters
    ----------
    provider : DeploymentProvider
        Its ``rates`` is a mapping of pools to rates; a provider need not have it.
    spec : DeploymentSpec
        What is to run.
    """
    ask = getattr(provider, "rates", None)
    found: Mapping[str, Rate] = rates_of(spec) if ask is None else ask(spec)
    return dict(found)


def estimate(spec: DeploymentSpec, plan: ScalePlan, rates: Mapping[str, Rate] | None = None) -> CostEstimate | None:
    """Return what an hour with all planned workers costs; ``None`` if the price of one is not known.

    Parameters
    ----------
    spec : DeploymentSpec
        A target.
    plan : ScalePlan
        Workers by pool.
    rates : mapping of str to Rate, optional
        Default: :func:`rates_of`.
    """
    known = rates_of(spec) if rates is None else rates
    planned = {name: request.count for name, request in plan.items() if request.count}
    if not planned or any(name not in known for name in planned):
        return None
    hourly = sum(known[name].usd_per_s * 3600 * count for name, count in planned.items())
    return CostEstimate(hourly, "; ".join(dict.fromkeys(known[name].source for name in planned)))


def missing_prices(spec: DeploymentSpec) -> list[Issue]:
    """Report why the price of some workers is not known, where one is needed.

    That is on clouds, and wherever a budget bounds the run.
    """
    needed = isinstance(spec.options, AwsOptions | GcpOptions) or spec.objectives.budget_usd is not None
    found = (_price(spec, component) for component in spec.components.values())
    reasons = {one: None for one in found if isinstance(one, NoPrice) and (needed or spec.price is not None)}
    hint = "set `price:` in the target, such as `price: {worker_hour: 0.10}`"
    return [
        spec.issue(
            "W_NO_PRICE",
            ".".join(filter(None, ("targets", spec.target, one.option))),
            f"no price is known, and so not what a run costs: {one.reason}",
            "give the component its `memory`" if one.option == "price" else hint,
        )
        for one in reasons
    ]


def _price(spec: DeploymentSpec, component: ComponentSpec) -> Rate | NoPrice:
    options = spec.options
    cloud = isinstance(options, AwsOptions | GcpOptions)
    if spec.price is not None:
        return user_rate(spec.price, component.resources, boot_paid=cloud)
    if isinstance(options, LocalOptions):
        return NOT_PAID
    if isinstance(options, AwsOptions):
        return _aws(options, component)
    if isinstance(options, GcpOptions):
        return _gcp(options, component)
    return NoPrice(f"there are no list prices for provider {spec.provider}")


def _aws(options: AwsOptions, component: ComponentSpec) -> Rate | NoPrice:
    if options.spot:
        return NoPrice("spot capacity has no fixed price", "spot")
    if options.region is None:
        return NoPrice("the target has no `region`")
    if options.cluster_type == "ec2":
        if options.instance_type is None:
            return NoPrice("the target has no `instance_type`")
        return ec2_rate(options.instance_type, options.region)
    size = fargate_size(options, component.resources)
    if size is None:
        return NoPrice(f"Fargate has no task that is large enough for component {component.name}")
    return fargate_rate(*size, options.region)


def _gcp(options: GcpOptions, component: ComponentSpec) -> Rate | NoPrice:
    if options.preemptible:
        return NoPrice("preemptible capacity has no fixed price", "preemptible")
    if component.resources.gpus:
        return NoPrice(f"the table has no GPUs, which component {component.name} has")
    if options.machine_type is None or options.zone is None:
        missing = "machine_type" if options.machine_type is None else "zone"
        return NoPrice(f"the target has no `{missing}`")
    # A zone is a region and a letter.
    return gce_rate(options.machine_type, options.zone.rpartition("-")[0])
