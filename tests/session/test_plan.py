"""A session's plans look back at past runs, and its run is what its plan says."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from scalable import ScalableSession
from scalable.errors import Issue, ManifestInvalid, PlanError, ValidationReport
from scalable.providers.local import LocalProvider
from scalable.spec import DeploymentSpec, Limits, ResourceRequest, ScalePlan
from tests.conftest import MANIFEST, records

Write = Callable[..., Path]


def test_workers_are_given_the_memory_and_the_bounds_that_the_plan_says(manifest: Write) -> None:
    with ScalableSession.from_yaml(manifest(), target="threads") as session:
        plan = session.plan(objective="minimize cost")
        assert plan.limits == Limits(0, 2)
        smaller = {name: ResourceRequest(1, 512 * 2**20) for name in plan.resources}
        requests = {name: replace(one, resources=smaller[name]) for name, one in plan.scale_plan.items()}
        client = session.start(replace(plan, scale_plan=requests, resources=smaller))
        client.submit(abs, -1, tag="simulate", name="simulate").result()
    (record,) = records(session.run_dir, "tasks")
    assert record["asked_bytes"] == 512 * 2**20


def test_the_next_plan_knows_what_the_last_run_measured(manifest: Write) -> None:
    path = manifest()
    with ScalableSession.from_yaml(path, target="threads") as session:
        client = session.start()
        client.gather(client.map(abs, range(5), name="simulate"))
    plan = ScalableSession.from_yaml(path, target="threads").plan()
    assert plan.workload is not None
    found = {group.name: group for group in plan.workload.groups}
    assert found["simulate"].source == "5 past tasks"
    assert found["simulate"].mean_s < 1
    assert found["simulate"].count == 8  # the manifest's, which goes before what there was
    assert found["analyze"].source == "the manifest"


def test_a_plan_of_another_target_does_not_start(manifest: Write, tmp_path: Path) -> None:
    path = manifest()
    plan = ScalableSession.from_yaml(path, target="processes").plan()
    with pytest.raises(PlanError, match="for target 'processes', this is target 'threads'"):
        ScalableSession.from_yaml(path, target="threads").start(plan)
    assert not (tmp_path / "runs").exists()


def test_bounds_given_to_the_session_size_its_pools(manifest: Write) -> None:
    session = ScalableSession.from_yaml(manifest(), target="threads", objectives={"deadline_hours": 1})
    assert session.plan().objective == "balance"
    assert session.plan(policy="manual").objective is None


def test_a_plan_with_more_workers_than_the_target_may_have_does_not_start(manifest: Write, tmp_path: Path) -> None:
    session = ScalableSession.from_yaml(manifest(), target="threads")
    plan = session.plan()
    with pytest.raises(PlanError, match=r"limits.maximum 50 is more than the 3 workers that target 'threads' may have"):
        session.start(replace(plan, limits=Limits(0, 50)))
    assert not (tmp_path / "runs").exists()


def test_a_plan_whose_workers_the_provider_cannot_have_does_not_start(
    manifest: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = ScalableSession.from_yaml(manifest(), target="threads")
    plan = session.plan()

    def validate(_self: object, spec: DeploymentSpec) -> ValidationReport:
        large = [name for name, one in spec.components.items() if one.resources.cpus > 64]
        return ValidationReport(
            tuple(Issue("E_TOO_LARGE", f"components.{name}", "no machine is so large") for name in large)
        )

    monkeypatch.setattr(LocalProvider, "validate", validate)
    huge = {name: replace(one, resources=ResourceRequest(512.0)) for name, one in plan.scale_plan.items()}
    with pytest.raises(PlanError, match=r"the plan cannot be: components.simulate: no machine is so large.*plan again"):
        session.start(replace(plan, scale_plan=ScalePlan(huge)))
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(("objectives", "looks"), [(None, 0), ({"deadline_hours": 1}, 1)])
def test_a_start_without_a_plan_reads_past_runs_only_for_bounds(
    manifest: Write, monkeypatch: pytest.MonkeyPatch, objectives: dict[str, float] | None, looks: int
) -> None:
    seen: list[ScalableSession] = []

    def past(session: ScalableSession) -> None:
        seen.append(session)

    monkeypatch.setattr(ScalableSession, "_past", past)
    with ScalableSession.from_yaml(manifest(), target="threads", objectives=objectives) as session:
        session.start()
    assert len(seen) == looks
    session.plan()
    assert len(seen) == looks + 1


def test_scaling_that_cannot_be_has_no_plan(manifest: Write) -> None:
    bad = MANIFEST.replace("max_workers: 3}", "max_workers: 3, scaling: {policy: predictve}}")
    with pytest.raises(
        ManifestInvalid, match=r"scalable.yaml:\d+:\d+ targets.threads.scaling: .*did you mean 'predictive'"
    ):
        ScalableSession.from_yaml(manifest(bad), target="threads").plan()
