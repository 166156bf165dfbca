"""What the runner is told: by its arguments, by the flow's parameters, and by those that DaskTaskRunner has."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from prefect import flow, task

from scalable.errors import ManifestError
from scalable_prefect import PoolElsewhere, ScalableTaskRunner
from tests.conftest import records


@task
def ident(x: Any) -> Any:
    return x


def test_the_arguments_stand_in_the_order_in_which_users_write_them() -> None:
    runner = ScalableTaskRunner("a.yaml", "hpc", "minimize cost", "safe", "large")
    assert (runner.target, runner.objective, runner.policy, runner.overlay) == (
        "hpc",
        "minimize cost",
        "safe",
        "large",
    )


@pytest.mark.parametrize(
    ("argument", "told"),
    [
        ({"cluster_class": "dask_kubernetes.KubeCluster"}, "the target's `provider` says"),
        ({"cluster_kwargs": {"n_workers": 4}}, "`max_workers`"),
        ({"adapt_kwargs": {"maximum": 10}}, "`min_workers`, `max_workers`, `scaling`"),
        ({"address": "tcp://10.0.0.1:8786"}, "`scalable adapter`"),
        ({"traget": "hpc"}, "did you mean 'target'"),
    ],
)
def test_arguments_of_dasktaskrunner_are_refused_with_what_takes_their_place(
    argument: dict[str, Any], told: str
) -> None:
    with pytest.raises(TypeError, match="has no argument") as refused:
        ScalableTaskRunner(**argument)
    assert told in str(refused.value)


@pytest.mark.parametrize(("chosen", "ran"), [("threads", "threads"), (None, "other")])
def test_the_flows_own_parameter_chooses_the_target_before_the_runners(
    server: str, manifest_path: Path, runs: Callable[[], list[Path]], chosen: str | None, ran: str
) -> None:
    manifest_path.write_text(
        manifest_path.read_text().replace(
            "targets:\n", "targets:\n  other: {provider: local, max_workers: 3, processes: false}\n"
        )
    )

    @flow(task_runner=ScalableTaskRunner(manifest_path, target="other"))
    def study(scalable_target: str | None = None) -> int:
        return int(ident.submit(1).result())

    assert study(chosen) == 1
    (run,) = runs()
    assert json.loads((run / "run.json").read_text())["target"] == ran


def test_a_target_that_there_is_not_is_an_error_with_those_there_are(server: str, manifest_path: Path) -> None:
    @flow(task_runner=ScalableTaskRunner(manifest_path))
    def study(scalable_target: str) -> None:
        ident.submit(1)

    with pytest.raises(ManifestError, match="there is no target 'hcp'"):
        study("hcp")


def test_a_tag_that_names_a_pool_of_another_target_is_an_error(server: str, manifest_path: Path) -> None:
    text = manifest_path.read_text()
    text = text.replace("targets:\n", "targets:\n  hpc: {provider: local, overlay: fat}\n")
    manifest_path.write_text(text + "overlays:\n  fat:\n    components: {huge: {cpus: 2}}\n")

    @flow(task_runner=ScalableTaskRunner(manifest_path, target="threads"))
    def study() -> None:
        ident.with_options(tags=["nightly", "huge"]).submit(1)

    with pytest.raises(PoolElsewhere) as refused:
        study()
    assert str(refused.value) == (
        "task 'ident' has the tag 'huge', which names a pool of target 'hpc', but the flow runs on 'threads', "
        "which has none; run it there, or give 'threads' a component of that name or tag"
    )


def test_dasks_performance_report_is_written_when_the_flow_ends(
    server: str, manifest_path: Path, tmp_path: Path
) -> None:
    @flow(
        task_runner=ScalableTaskRunner(
            manifest_path, target="threads", performance_report_path=tmp_path / "report.html"
        )
    )
    def study() -> int:
        return int(ident.submit(1).result())

    assert study() == 1
    assert "bokeh" in (tmp_path / "report.html").read_text().lower()


def test_a_plan_knows_of_what_the_flow_submits_in_one_go(
    server: str, manifest_path: Path, runs: Callable[[], list[Path]]
) -> None:
    @flow(task_runner=ScalableTaskRunner(manifest_path, target="threads", objective="minimize time", policy="safe"))
    def study() -> int:
        first = [ident.with_options(name="energy").submit(x) for x in range(7)]
        return int(ident.with_options(name="rank").submit(first[0], wait_for=first).result())

    assert study() == 0
    (run,) = runs()
    plan = json.loads((run / "plan.json").read_text())
    groups = {group["task"]: (group["count"], group["after"]) for group in plan["workload"]}
    assert (groups["energy"], groups["rank"]) == ((7, []), (1, ["energy"]))
    assert "mean" in groups
    assert len(records(run, "tasks")) == 8
