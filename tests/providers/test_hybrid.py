"""``provider: hybrid``: two targets of the manifest on one scheduler."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest
from distributed import get_worker

from scalable import ScalableSession
from scalable.errors import ManifestInvalid, ProviderUnavailable
from scalable.providers import registry
from scalable.providers.prices import provider_rates
from scalable.spec import Limits
from tests.conftest import records
from tests.providers.elsewhere import cluster_of, manifest_text, scaled, until

Write = Callable[..., Path]

ELASTIC = "scaling: {policy: fixed_elastic, interval: 0.1s, upper_task_ratio: 3}"


def place(_: int, seconds: float = 0.0) -> str:
    time.sleep(seconds)
    return str(get_worker().name)


def test_it_has_the_workers_of_both_the_primary_first(manifest: Write) -> None:
    session = ScalableSession.from_yaml(manifest(manifest_text()), target="both")
    assert session.validate().ok
    assert session.plan().limits == Limits(1, 3)
    assert list(session.plan().scale_plan) == ["simulate"]
    assert session.router.route("simulate").pools == ("simulate", "simulate@cloud")
    assert session.router.route("simulate@cloud").pools == ("simulate@cloud",)
    assert list(session.spec.parts) == ["home", "cloud"]


def test_an_adapter_elsewhere_says_itself_what_its_workers_are_like(manifest: Write) -> None:
    session = ScalableSession.from_yaml(manifest(manifest_text()), target="far")
    assert session.router.route("simulate").pools == ("simulate",)
    assert session.plan().limits == Limits(1, 3)


@pytest.mark.parametrize("processes", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_what_is_too_much_for_the_primary_goes_to_the_secondary_which_is_empty_after(
    manifest: Write, processes: bool
) -> None:
    with ScalableSession.from_yaml(manifest(manifest_text(processes=processes)), target="both") as session:
        client, cluster = session.start(), cluster_of(session)
        assert [len(pool.members) for pool in cluster.pools.values()] == [1, 0]
        ran_on = set(client.gather(client.map(place, range(30), seconds=0.1, tag="simulate")))
        assert "simulate-0" in ran_on
        assert any(name.startswith("simulate@cloud-") for name in ran_on)
        until(lambda: not cluster.pools["simulate@cloud"].members, "the secondary is empty")
        assert list(cluster.pools["simulate"].members) == ["simulate-0"]
    lost = [one for one in records(session.run_dir, "workers") if one["reason"] == "lost"]
    assert lost == []


def test_threads_and_processes_reach_each_other(manifest: Write) -> None:
    text = manifest_text().replace("max_workers: 2, threads_per_worker: 1, processes: false", "processes: true")
    with ScalableSession.from_yaml(manifest(text.replace(ELASTIC, "scaling: 'no'")), target="both") as session:
        client = session.start()
        scaled(cluster_of(session), "simulate@cloud", 1)
        made = client.submit(bytearray, 10_000, tag="simulate@cloud")
        assert client.submit(len, made, tag="simulate", workers="simulate-0").result() == 10_000


def test_a_plan_that_is_too_large_for_the_primary_begins_in_both(manifest: Write) -> None:
    text = manifest_text().replace(ELASTIC, "scaling: 'no'")
    with ScalableSession.from_yaml(manifest(text), target="both") as session:
        session.start()
        cluster, provider = cluster_of(session), registry.get_provider("hybrid")
        plan = session.plan().scale_plan
        larger = type(plan)({name: type(one)(one.resources, 3) for name, one in plan.items()})
        provider.scale(cluster, larger)
        until(lambda: [pool.up for pool in cluster.pools.values()] == [1, 2], "one here, two there")


def test_idle_workers_of_one_stage_give_their_places_in_the_primary_to_the_next(manifest: Write) -> None:
    text = manifest_text().replace("max_workers: 1", "max_workers: 2").replace(ELASTIC, "scaling: predictive")
    text = text.replace("components:\n", "components:\n  analyze: {cpus: 1, memory: 500M}\n") + (
        "tasks:\n  first: {component: simulate, count: 4, duration: 1s}\n"
        "  then: {component: analyze, count: 4, duration: 1s, after: [first]}\n"
    )
    with ScalableSession.from_yaml(manifest(text), target="both") as session:
        client, cluster = session.start(), cluster_of(session)
        assert [pool.minimum for pool in cluster.pools.values()] == [0, 0, 0, 0]
        client.gather(client.map(place, range(4), tag="simulate"))
        assert client.submit(place, 1, tag="analyze").result(20).startswith("analyze")


@pytest.mark.parametrize(
    ("options", "column", "said"),
    [
        ("primary: home, secondary: clout", 55, "there is no target 'clout'; did you mean 'cloud'?"),
        ("primary: home, secondary: home", 55, "target 'home' is named twice"),
        ("primary: burst, secondary: home", 38, "target 'burst' cannot be a part of itself"),
        ("primary: home, secondary: both", 55, "target 'both' is itself made of others"),
    ],
)
def test_parts_that_cannot_be_are_reported_where_they_stand(
    manifest: Write, options: str, column: int, said: str
) -> None:
    text = manifest_text().replace("targets:\n", f"targets:\n  burst: {{provider: hybrid, {options}}}\n")
    with pytest.raises(ManifestInvalid) as raised:
        ScalableSession.from_yaml(manifest(text), target="home")
    (issue,) = raised.value.issues
    assert (issue.code, issue.line, issue.column) == ("E_TARGET_REF", 4, column)
    assert said in str(issue)


def test_variables_of_both_parts_have_to_be_set(manifest: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ACCOUNT", raising=False)
    text = manifest_text().replace("max_workers: 2", 'max_workers: "${ACCOUNT}"')
    with pytest.raises(ManifestInvalid, match="ACCOUNT is not set"):
        ScalableSession.from_yaml(manifest(text), target="both")
    ScalableSession.from_yaml(manifest(text), target="home")


def test_the_record_of_a_run_has_both_parts_and_no_other_target(manifest: Write) -> None:
    text = manifest_text().replace("targets:\n", "targets:\n  other: {provider: local}\n")
    spec = ScalableSession.from_yaml(manifest(text), target="both").spec
    assert all(f"\n  {name}:" in spec.manifest_text for name in ("home", "cloud", "both"))
    assert "other:" not in spec.manifest_text


def test_problems_of_a_part_are_problems_of_the_whole_but_not_that_it_starts_empty(manifest: Write) -> None:
    text = manifest_text() + "  analyze: {cpus: 1, memory: 500M, preload_script: nowhere.py}\n"
    for check in (registry.check, registry.get_provider("hybrid").validate):
        spec = ScalableSession.from_yaml(manifest(text), target="both").spec
        found = [(issue.code, issue.path) for issue in check(spec).errors]
        assert found == [
            ("E_TOO_FEW_WORKERS", "targets.home.max_workers"),
            ("E_MISSING_FILE", "components.analyze.preload_script"),
        ]


def test_a_part_for_which_nothing_is_built_is_refused(manifest: Write) -> None:
    text = manifest_text().replace("targets:\n", "targets:\n  aws: {provider: aws, region: us-east-1}\n")
    session = ScalableSession.from_yaml(
        manifest(text.replace("secondary: cloud,\n", "secondary: aws,\n")), target="both"
    )
    with pytest.raises(ProviderUnavailable, match="target 'aws' has provider 'aws'"):
        session.start()


def test_workers_cost_what_their_own_target_says_unless_the_whole_says_so(manifest: Write) -> None:
    text = manifest_text().replace("max_workers: 2,", "max_workers: 2, price: {worker_hour: 3.6},")
    provider = registry.get_provider("hybrid")
    rates = provider_rates(provider, ScalableSession.from_yaml(manifest(text), target="both").spec)
    assert {name: rate.usd_per_s for name, rate in rates.items()} == {"simulate": 0.0, "simulate@cloud": 0.001}
    text = text.replace(
        "{provider: hybrid, primary: home, secondary: cloud,\n",
        "{provider: hybrid, primary: home, secondary: cloud, price: {worker_hour: 36},\n",
    )
    rates = provider_rates(provider, ScalableSession.from_yaml(manifest(text), target="both").spec)
    assert {rate.usd_per_s for rate in rates.values()} == {0.01}
