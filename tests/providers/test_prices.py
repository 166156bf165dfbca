"""What a target's workers cost: the manifest first, then the tables, and a warning where neither knows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from scalable.pricing import Rate
from scalable.providers.prices import provider_rates, rates_of
from scalable.providers.registry import check, get_provider, options_model
from scalable.spec import (
    ComponentSpec,
    DeploymentSpec,
    Objectives,
    PoolRequest,
    PriceRates,
    ResourceRequest,
    ScalePlan,
)

GIB = 2**30
EC2 = {"cluster_type": "ec2", "region": "us-east-1", "instance_type": "m5.xlarge"}
FARGATE = {"region": "us-east-1"}
GCE = {"zone": "us-central1-a", "machine_type": "n2-standard-4"}


def target(provider: str, options: Mapping[str, Any] | None = None, price: PriceRates | None = None) -> DeploymentSpec:
    components = {
        "small": ComponentSpec("small", ResourceRequest(cpus=1, memory_bytes=2 * GIB)),
        "large": ComponentSpec("large", ResourceRequest(cpus=4, memory_bytes=16 * GIB)),
    }
    made = options_model(provider).model_validate(options or {})
    return DeploymentSpec("p", "there", provider, made, components, {}, price=price)


def hourly(spec: DeploymentSpec) -> dict[str, float]:
    return {name: round(rate.usd(3600), 6) for name, rate in rates_of(spec).items()}


def warnings(spec: DeploymentSpec) -> list[str]:
    return [str(issue) for issue in check(spec).issues if issue.code == "W_NO_PRICE"]


def plan(spec: DeploymentSpec, **counts: int) -> ScalePlan:
    return ScalePlan({name: PoolRequest(spec.components[name].resources, count) for name, count in counts.items()})


@pytest.mark.parametrize(
    ("provider", "options", "expected"),
    [
        ("aws", EC2, {"small": 0.192, "large": 0.192}),
        # The smallest tasks: 1 vCPU with 2 GB, 4 vCPU with 16 GB.
        ("aws", FARGATE, {"small": 0.04937, "large": 0.23304}),
        ("aws", {**FARGATE, "worker_cpu": 2048, "worker_mem": 4096}, {"small": 0.09874, "large": 0.09874}),
        ("gcp", GCE, {"small": 0.194236, "large": 0.194236}),
        ("local", {}, {"small": 0.0, "large": 0.0}),
        ("slurm", {}, {}),
        ("kubernetes", {}, {}),
    ],
)
def test_a_worker_of_each_provider_costs_what_it_runs_on(
    provider: str, options: Mapping[str, Any], expected: Mapping[str, float]
) -> None:
    assert hourly(target(provider, options)) == pytest.approx(expected)


@pytest.mark.parametrize("provider", ["local", "slurm", "pbs", "kubernetes", "aws", "gcp"])
def test_the_price_in_the_manifest_goes_before_everything_else(provider: str) -> None:
    options: Mapping[str, Any] = {"aws": EC2, "gcp": GCE}.get(provider, {})
    spec = target(provider, options, PriceRates(core_hour_usd=0.02))
    assert hourly(spec) == {"small": 0.02, "large": 0.08}
    assert warnings(spec) == []
    rates = get_provider(provider).rates(spec)  # type: ignore[attr-defined]
    assert rates == rates_of(spec)
    assert {rate.boot_paid for rate in rates.values()} == {provider in ("aws", "gcp")}


@pytest.mark.parametrize(
    ("provider", "options", "words"),
    [
        ("aws", {**EC2, "instance_type": "m9.large"}, ("targets.there.instance_type", "m9.large", "us-east-1", "2026")),
        ("aws", {**EC2, "region": "mars-1"}, ("targets.there.region", "mars-1")),
        ("aws", {**EC2, "spot": True}, ("targets.there.spot", "no fixed price")),
        ("aws", {"cluster_type": "ec2", "region": "us-east-1"}, ("no `instance_type`",)),
        ("aws", {}, ("no `region`",)),
        (
            "gcp",
            {**GCE, "machine_type": "n9-standard-2"},
            ("targets.there.machine_type", "n9-standard-2", "us-central1"),
        ),
        ("gcp", {**GCE, "preemptible": True}, ("targets.there.preemptible", "no fixed price")),
        ("gcp", {"zone": "us-central1-a"}, ("no `machine_type`",)),
    ],
)
def test_a_cloud_whose_price_is_not_known_is_warned_of_once_with_the_way_to_mend_it(
    provider: str, options: Mapping[str, Any], words: tuple[str, ...]
) -> None:
    spec = target(provider, options)
    assert rates_of(spec) == {}
    (warning,) = warnings(spec)
    assert "set `price:` in the target" in warning
    for word in words:
        assert word in warning
    assert get_provider(provider).validate(spec).issues == check(spec).issues


def test_gpus_that_the_table_does_not_have_are_not_free() -> None:
    spec = target("gcp", GCE)
    gpu = ComponentSpec("gpu", ResourceRequest(cpus=4, gpus=1))
    spec = replace(spec, components={**spec.components, "gpu": gpu})
    assert "gpu" not in rates_of(spec)
    assert "component gpu" in warnings(spec)[0]


def test_a_component_that_no_fargate_task_holds_has_no_price() -> None:
    spec = target("aws", FARGATE)
    huge = ComponentSpec("huge", ResourceRequest(cpus=1, memory_bytes=1000 * GIB))
    assert "component huge" in warnings(replace(spec, components={"huge": huge}))[0]


@pytest.mark.parametrize("provider", ["slurm", "kubernetes"])
def test_without_list_prices_a_warning_comes_with_the_budget(provider: str) -> None:
    spec = target(provider)
    assert warnings(spec) == []
    (warning,) = warnings(replace(spec, objectives=Objectives(budget_usd=5)))
    assert f"no list prices for provider {provider}" in warning


def test_memory_that_is_priced_but_not_said_is_warned_of_at_the_price() -> None:
    spec = target("local", price=PriceRates(gb_hour_usd=0.01))
    (warning,) = warnings(replace(spec, components={"a": ComponentSpec("a")}))
    assert "targets.there.price" in warning
    assert "give the component its `memory`" in warning


def test_an_estimate_is_the_sum_over_the_planned_workers_with_its_source() -> None:
    spec = target("aws", FARGATE)
    estimate = get_provider("aws").estimate_cost(spec, plan(spec, small=2, large=3))
    assert estimate is not None
    assert estimate.usd_per_hour == pytest.approx(2 * 0.04937 + 3 * 0.23304)
    assert "AWS Fargate Pricing" in estimate.source
    assert "2026-09-20" in estimate.source


def test_an_estimate_is_unknown_if_one_price_is_and_nothing_where_nothing_is_paid() -> None:
    slurm, local = target("slurm"), target("local")
    assert get_provider("slurm").estimate_cost(slurm, plan(slurm, small=1)) is None
    free = get_provider("local").estimate_cost(local, plan(local, small=1))
    assert free is not None
    assert (free.usd_per_hour, free.source) == (0, "this machine")


def test_a_provider_that_knows_no_prices_has_those_of_the_manifest() -> None:
    spec = target("slurm", price=PriceRates(worker_hour_usd=3.6))

    class Stranger:
        pass

    class Knowing:
        def rates(self, spec: DeploymentSpec) -> dict[str, Rate]:
            return {"small": Rate(1.0)}

    assert provider_rates(Stranger(), spec)["small"].usd_per_s == pytest.approx(0.001)  # type: ignore[arg-type]
    assert provider_rates(Knowing(), spec) == {"small": Rate(1.0)}  # type: ignore[arg-type]
