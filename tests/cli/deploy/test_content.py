"""`scalable deploy prefect`: what is generated."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.cli.deploy.project import FLOW, MANIFEST, Deploy, edit, variables

pytestmark = pytest.mark.engine

PAGE = Path(__file__).parents[3] / "docs" / "how-to" / "deploy-a-prefect-flow.md"


def env(target: str, **more: str) -> dict[str, str]:
    return {"SCALABLE_MANIFEST": "scalable.yaml", "SCALABLE_TARGET": target, **more}


def in_image(directory: str) -> list[dict[str, Any]]:
    return [{"prefect.deployments.steps.set_working_directory": {"directory": directory}}]


def test_each_target_is_a_deployment_with_what_its_work_pool_takes(deploy: Deploy) -> None:
    common = [
        {"name": name, "entrypoint": "flow.py:pipeline", "tags": ["scalable", f"target:{name}"]}
        for name in ("laptop", "hpc", "cloud", "aws", "google")
    ]
    jobs: list[dict[str, Any]] = [
        {"env": env("laptop")},
        {"env": env("hpc")},
        {
            "namespace": "flows",
            "image": "registry.example/study:1",
            "service_account_name": "runner",
            "cpu_request": "1.5",
            "memory_request": "3072Mi",
            "memory_limit": "3072Mi",
            "env": env("cloud"),
        },
        {
            "image": "registry.example/study:1",
            "cluster": "arn:aws:ecs:eu-central-1:1:cluster/study",
            "launch_type": "FARGATE",
            "cpu": 2048,
            "memory": 8192,
            "task_role_arn": "arn:aws:iam::1:role/task",
            "execution_role_arn": "arn:aws:iam::1:role/execution",
            "network_configuration": {"subnets": ["subnet-1", "subnet-2"], "securityGroups": ["sg-1"]},
            "env": env("aws", AWS_DEFAULT_REGION="eu-central-1"),
        },
        {"env": env("google", GOOGLE_CLOUD_PROJECT="study-1")},
    ]
    for one, job in zip(common, jobs, strict=True):
        one["work_pool"] = {"name": f"scalable-{one['name']}", "job_variables": job}
        if one["name"] in ("cloud", "aws"):
            one["pull"] = in_image("/opt/prefect/study")
    assert deploy() == common


def test_the_output_says_what_became_of_each_which_pools_to_make_and_what_is_left_to_say(
    deploy: Deploy, capsys: pytest.CaptureFixture[str]
) -> None:
    deploy("--target", "cloud", "--target", "hpc")
    assert capsys.readouterr().out.splitlines() == [
        "prefect.yaml: 2 added",
        "  cloud  added",
        "           node_selector: no job variable has it; say it in the pool's base job template",
        "  hpc    added",
        "Work pools, if they are not there yet:",
        "  prefect work-pool create --type kubernetes scalable-cloud",
        "  prefect work-pool create --type process scalable-hpc",
        "Then: prefect deploy --all",
    ]


def test_a_hybrid_targets_flow_runs_where_its_primary_is(deploy: Deploy) -> None:
    Path("scalable.yaml").write_text(
        MANIFEST.replace("components:", "  burst: {provider: hybrid, primary: cloud, secondary: hpc}\ncomponents:")
    )
    (burst,) = deploy("--target", "burst")
    assert variables(burst)["namespace"] == "flows"
    assert variables(burst)["env"] == env("burst")


def test_fargate_gets_a_size_that_it_has_where_the_target_gives_none(deploy: Deploy) -> None:
    edit("    worker_cpu: 2048\n    worker_mem: 8192\n", "    worker_cpu: 256\n", "scalable.yaml")
    (aws,) = deploy("--target", "aws")
    assert (variables(aws)["cpu"], variables(aws)["memory"]) == (256, 512)
    edit("    worker_cpu: 256\n", "    worker_mem: 30720\n", "scalable.yaml")
    (aws,) = deploy("--target", "aws")
    assert (variables(aws)["cpu"], variables(aws)["memory"]) == (1024, 2048)


def test_a_flow_that_takes_its_target_as_a_parameter_is_given_it(deploy: Deploy) -> None:
    edit("count: int = 3", "count: int = 3, *, scalable_target: str", "flow.py")
    assert [one["parameters"] for one in deploy("--target", "hpc", "--target", "laptop", "--param", "count=5")] == [
        {"scalable_target": "hpc", "count": 5},
        {"scalable_target": "laptop", "count": 5},
    ]


def test_a_target_that_is_fixed_in_the_flows_file_is_told_unless_the_flow_takes_it_as_a_parameter(
    deploy: Deploy, capsys: pytest.CaptureFixture[str]
) -> None:
    edit("ScalableTaskRunner()", 'ScalableTaskRunner("scalable.yaml", target="laptop")', "flow.py")
    deploy("--target", "hpc", "--target", "laptop")
    assert capsys.readouterr().out.count("gives its task runner the target 'laptop'") == 1
    edit("count: int = 3", "scalable_target: str", "flow.py")
    deploy("--target", "hpc", "--target", "laptop")
    assert "gives its task runner" not in capsys.readouterr().out


def test_the_flows_file_is_read_and_not_run(deploy: Deploy) -> None:
    Path("flow.py").write_text("raise SystemExit('ran')\n" + FLOW)
    assert len(deploy()) == 5


def test_paths_are_seen_from_the_files_directory(here: Path, deploy: Deploy) -> None:
    (here / "flows").mkdir()
    (here / "flow.py").rename(here / "flows" / "study.py")
    (here / "scalable.yaml").rename(here / "flows" / "m.yaml")
    (one,) = deploy("--target", "hpc", "--manifest", str(here / "flows/m.yaml"), flow="./flows/study.py:pipeline")
    assert one["entrypoint"] == "flows/study.py:pipeline"
    assert variables(one)["env"]["SCALABLE_MANIFEST"] == "flows/m.yaml"


def test_where_the_file_says_where_all_flows_are_pulled_from_deployments_do_not(here: Path, deploy: Deploy) -> None:
    (here / "prefect.yaml").write_text("pull:\n- prefect.deployments.steps.git_clone: {repository: r}\n")
    assert not any("pull" in one for one in deploy())


def test_options_are_written_to_every_deployment(deploy: Deploy) -> None:
    options = ("--concurrency-limit", "2", "--cron", "0 6 * * 1", "--timezone", "Europe/Berlin")
    pools = ("--work-pool", "shared", "--work-pool", "hpc=login")
    found = deploy("--target", "hpc", "--target", "laptop", *options, *pools)
    assert [one["work_pool"]["name"] for one in found] == ["login", "shared"]
    for one in found:
        assert one["concurrency_limit"] == 2
        assert one["schedules"] == [{"cron": "0 6 * * 1", "timezone": "Europe/Berlin"}]
    assert deploy("--target", "hpc", "--interval", "90m")[0]["schedules"] == [{"interval": 5400}]


def test_the_page_shows_what_is_printed(deploy: Deploy, capsys: pytest.CaptureFixture[str]) -> None:
    edit("laptop:", "local:", "scalable.yaml")
    edit("    node_selector: {disk: ssd}\n", "", "scalable.yaml")
    deploy("--target", "local", "--target", "hpc", "--target", "cloud")
    shown = PAGE.read_text().split("```console\n")[1].split("```")[0]
    assert shown == f"$ scalable deploy prefect --flow flow.py:pipeline\n{capsys.readouterr().out}"


def test_variables_are_left_for_prefect_so_that_no_value_gets_into_the_file(
    deploy: Deploy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REGISTRY", "s3cret.example")
    monkeypatch.setenv("TAG", "s3cret")
    edit("registry.example/study:1", "${REGISTRY}/study:${TAG:-latest}", "scalable.yaml")
    (cloud,) = deploy("--target", "cloud")
    assert variables(cloud)["image"] == "{{ $REGISTRY }}/study:{{ $TAG }}"
    assert "s3cret" not in Path("prefect.yaml").read_text()


def test_a_variable_that_is_not_set_is_its_default_or_left_for_prefect(
    deploy: Deploy, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("REGISTRY", "TAG"):
        monkeypatch.delenv(name, raising=False)
    edit("registry.example/study:1", "${REGISTRY}/study:${TAG:-latest}", "scalable.yaml")
    (cloud,) = deploy("--target", "cloud")
    assert variables(cloud)["image"] == "{{ $REGISTRY }}/study:latest"


def test_a_number_from_a_variable_is_its_value(deploy: Deploy, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CPU", "4096")
    monkeypatch.setenv("WHERE", "s3cret")
    edit("worker_cpu: 2048", "worker_cpu: ${CPU}", "scalable.yaml")
    edit("namespace: flows", "namespace: ${WHERE}", "scalable.yaml")
    _, _, cloud, aws, _ = deploy()
    assert variables(aws)["cpu"] == 4096
    assert variables(cloud)["namespace"] == "{{ $WHERE }}"


def test_a_target_that_lacks_a_variable_keeps_no_other_from_being_written(
    deploy: Deploy, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("CPU", raising=False)
    edit("worker_cpu: 2048", "worker_cpu: ${CPU}", "scalable.yaml")
    assert [one["name"] for one in deploy()] == ["laptop", "hpc", "cloud", "google"]
    assert "targets.aws.worker_cpu: the environment variable CPU is not set" in capsys.readouterr().out
