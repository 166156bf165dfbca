"""The `price` of a target: what it takes, and what is said of what it does not."""

from __future__ import annotations

import pytest

from scalable.providers import registry
from scalable.spec import PriceRates, resolve
from tests.manifest.reading import HEAD, lines, only, read


def manifest(price: str) -> str:
    return HEAD + f"targets:\n  hpc:\n    provider: slurm\n    price: {price}\n"


def test_the_rates_reach_what_is_to_run() -> None:
    spec = resolve(read(manifest("{core_hour: 0.02, gpu_hour: 1, minimum: 1m}"), target="hpc"))
    assert spec.price == PriceRates(core_hour_usd=0.02, gpu_hour_usd=1, minimum_s=60.0)


def test_a_target_without_a_price_has_none() -> None:
    assert resolve(read(HEAD + "targets: {hpc: {provider: slurm}}\n", target="hpc")).price is None


def test_zero_is_a_price() -> None:
    assert resolve(read(manifest("{core_hour: 0}"), target="hpc")).price == PriceRates(core_hour_usd=0)


@pytest.mark.parametrize(
    ("price", "expected"),
    [
        ("{core_hour: -1}", "6:24 targets.hpc.price.core_hour: must be US dollars, zero or more"),
        (
            "{core_hour: '0.02'}",
            "6:24 targets.hpc.price.core_hour: must be US dollars, zero or more; remove the quotes",
        ),
        ("{gb_hour: .inf}", "6:22 targets.hpc.price.gb_hour: must be US dollars, zero or more"),
        (
            "{minimum: 60s}",
            "6:12 targets.hpc.price: price has no rate; add `core_hour: ...` or another; 0 if nothing is paid",
        ),
        (
            "{core_hours: 1}",
            "6:13 targets.hpc.price.core_hours: unknown key 'core_hours'; did you mean 'core_hour'?",
        ),
        ("0.02", "6:12 targets.hpc.price: must be a mapping, not the number 0.02"),
    ],
)
def test_a_wrong_price_is_told_at_its_line(price: str, expected: str) -> None:
    assert any(line.startswith(f"scalable.yaml:{expected} [E_") for line in lines(manifest(price)))


def test_a_rate_may_hang_on_a_variable() -> None:
    text = manifest("\n      core_hour: ${CORE_HOUR}")
    assert resolve(read(text, target="hpc", environ={"CORE_HOUR": "0.5"})).price == PriceRates(core_hour_usd=0.5)
    assert only(text).code == "W_UNSET_VARIABLE"


def test_every_provider_takes_a_price() -> None:
    for name in set(registry.BUILT_IN) - {"hybrid"}:
        text = HEAD + f"targets: {{t: {{provider: {name}, price: {{worker_hour: 1}}}}}}\n"
        assert resolve(read(text, target="t")).price == PriceRates(worker_hour_usd=1)
