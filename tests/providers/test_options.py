"""The options of each provider: what is taken, what is refused, with which words."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import BaseModel, ValidationError

from scalable.providers.options.aws import AwsOptions
from scalable.providers.options.batch import HtcondorOptions, SlurmOptions
from scalable.providers.options.gcp import GcpOptions
from scalable.providers.options.kubernetes import KubernetesOptions
from scalable.providers.options.local import LocalOptions
from scalable.providers.registry import BUILT_IN, options_model

BATCH: dict[str, Any] = {
    "queue": "short",
    "account": "GCIMS",
    "walltime": "02:00:00",
    "interface": "ib0",
    "container_runtime": "apptainer",
    "job_extra_directives": ["--exclusive"],
    "job_script_prologue": ["module load python"],
    "log_directory": "/logs",
    "python": "/usr/bin/python3",
    "shared_temp_directory": "/scratch",
    "scheduler_port": 8786,
    "max_workers": 8,
    "n_workers": 2,
    "adaptive": {"minimum": 1, "maximum": 8},
    "workers_per_job": 2,
    "threads_per_worker": 1,
    "insecure": True,
    "scaling": "no",
}

FULL: dict[str, dict[str, Any]] = {
    "local": {
        "max_workers": 4,
        "threads_per_worker": 2,
        "processes": True,
        "containers": "none",
        "adaptive": {"min": 1, "max": 4},
        "dashboard": True,
        "scaling": "no",
    },
    "slurm": {**BATCH, "qos": "high", "reservation": "r1"},
    "hybrid": {
        "primary": "hpc",
        "secondary": "aws",
        "remote": True,
        "interface": "eth0",
        "scheduler_port": 8786,
        "scaling": {"policy": "fixed_elastic", "interval": "1s"},
    },
    "kubernetes": {
        "namespace": "scalable",
        "image": "ghcr.io/jgcri/scalable-worker:latest",
        "n_workers": 4,
        "adaptive": {"minimum": 1, "maximum": 16},
        "node_selector": {"disk": "ssd"},
        "tolerations": [{"key": "gpu", "operator": "Exists", "effect": "NoSchedule", "tolerationSeconds": 60}],
        "service_account": "runner",
        "image_pull_secrets": ["regcred"],
        "max_workers": 16,
        "scaling": "no",
    },
    "aws": {
        "scaling": "no",
        "region": "us-east-1",
        "cluster_type": "fargate",
        "image": "ghcr.io/jgcri/scalable-worker:latest",
        "worker_cpu": 1024,
        "worker_mem": 4096,
        "spot": True,
        "execution_role_arn": "arn:aws:iam::1:role/x",
        "task_role_arn": "arn:aws:iam::1:role/y",
        "subnets": ["subnet-1"],
        "security_groups": ["sg-1"],
        "cluster_arn": "arn:aws:ecs:us-east-1:1:cluster/z",
        "tags": {"team": "energy"},
        "adaptive": {"minimum": 2, "maximum": 20},
        "max_workers": 20,
        "n_workers": 4,
        "scheduler_timeout": "5m",
    },
    "gcp": {
        "scaling": "no",
        "project_id": "energy-1",
        "zone": "us-east1-c",
        "machine_type": "n1-standard-8",
        "image": "projects/x/global/images/y",
        "docker_image": "daskdev/dask:latest",
        "preemptible": True,
        "n_workers": 2,
        "max_workers": 4,
        "adaptive": {"min": 1, "max": 4},
    },
    "pbs": {**BATCH, "resource_spec": "select=1:ncpus={cpus}:mem={memory_mb}mb:mpiprocs=1"},
    "lsf": BATCH,
    "sge": {**BATCH, "resource_spec": "h_vmem={memory_mb}M"},
    "oar": {**BATCH, "resource_spec": "{memnode>=24000}/nodes=1/core={cpus}"},
    "htcondor": {
        **{key: value for key, value in BATCH.items() if key != "queue"},
        "job_extra_directives": ['Requirements = (Machine == "a")'],
        "disk": "4G",
    },
}

NEEDED = {"hybrid": {"primary": "here", "secondary": "there"}}

# What a provider refuses, or refuses beside what is tried.
NOT_TAKEN = {"aws": {"instance_type"}, "htcondor": {"queue"}}


def words(model: type[BaseModel], **options: Any) -> list[str]:
    """Return what is said of options that are refused, each with its code."""
    with pytest.raises(ValidationError) as caught:
        model.model_validate(options)
    return [f"{one['type']} {one['msg']}" for one in caught.value.errors()]


@pytest.mark.parametrize("name", BUILT_IN)
def test_a_provider_takes_all_its_options(name: str) -> None:
    model = options_model(name)
    taken = set(model.model_fields) - NOT_TAKEN.get(name, set())
    assert model.model_validate(FULL[name]).model_fields_set == taken


@pytest.mark.parametrize("name", [name for name in BUILT_IN if name != "hybrid"])
def test_no_option_is_required(name: str) -> None:
    assert options_model(name).model_validate({}).model_fields_set == set()


@pytest.mark.parametrize("name", BUILT_IN)
def test_an_option_that_there_is_not_is_refused(name: str) -> None:
    assert words(options_model(name), **NEEDED.get(name, {}), max_worker=1) == [
        "extra_forbidden Extra inputs are not permitted"
    ]


@pytest.mark.parametrize("name", BUILT_IN)
def test_options_cannot_be_changed(name: str) -> None:
    options = options_model(name).model_validate(NEEDED.get(name, {}))
    with pytest.raises(ValidationError, match="frozen"):
        options.max_workers = 3  # type: ignore[attr-defined]


def test_the_local_defaults_are_those_of_the_documents() -> None:
    assert LocalOptions().model_dump() == {
        "max_workers": 1,
        "threads_per_worker": None,
        "processes": False,
        "containers": "none",
        "adaptive": None,
        "scaling": None,
        "dashboard": False,
    }


def test_the_local_provider_has_no_containers() -> None:
    assert words(LocalOptions, containers="docker") == ["E_BAD_CONTAINERS_MODE containers must be none, not 'docker'"]


@pytest.mark.parametrize("flag", ["yes", "true", 1, 0, "off"])
def test_processes_is_true_or_false_and_nothing_like_it(flag: object) -> None:
    assert words(LocalOptions, processes=flag) == ["E_BAD_PROCESSES_FLAG processes must be true or false"]


@pytest.mark.parametrize("number", [0, -1, 1.5, True, "2"])
def test_numbers_of_workers_and_threads_are_positive_integers(number: object) -> None:
    assert words(LocalOptions, max_workers=number, threads_per_worker=number) == [
        "E_BAD_MAX_WORKERS max_workers must be a positive integer",
        "E_BAD_THREADS_PER_WORKER threads_per_worker must be a positive integer",
    ]
    assert words(SlurmOptions, n_workers=number) == ["E_BAD_N_WORKERS n_workers must be a positive integer"]


def test_the_number_to_start_with_lies_within_the_bounds() -> None:
    assert words(AwsOptions, n_workers=5, max_workers=4) == ["E_BAD_N_WORKERS n_workers 5 is more than max_workers 4"]
    assert words(AwsOptions, n_workers=5, adaptive={"max": 4}) == [
        "E_BAD_N_WORKERS n_workers 5 is more than adaptive.maximum 4"
    ]
    assert words(AwsOptions, n_workers=1, adaptive={"min": 2, "max": 4}) == [
        "E_BAD_N_WORKERS n_workers 1 is less than adaptive.minimum 2"
    ]


@pytest.mark.parametrize(
    ("walltime", "seconds"), [("02:00:00", 7200), ("1-00:00:00", 86400), ("2h", 7200), ("30:00", 1800), (3600, 3600)]
)
def test_a_walltime_is_a_duration(walltime: object, seconds: float) -> None:
    assert SlurmOptions.model_validate({"walltime": walltime}).walltime == seconds


@pytest.mark.parametrize("walltime", ["soon", "25:61:00", 4, "59s", 0, -1, True, []])
def test_a_walltime_that_is_none_or_shorter_than_a_minute_is_refused(walltime: object) -> None:
    assert [word.split()[0] for word in words(SlurmOptions, walltime=walltime)] == ["E_BAD_WALLTIME"]


@pytest.mark.parametrize("option", ["queue", "account", "qos", "log_directory", "python"])
@pytest.mark.parametrize("sign", ["\n", "\r", "\0", "\x1b"])
def test_no_control_character_reaches_a_job_script(option: str, sign: str) -> None:
    assert words(SlurmOptions, **{option: f"a{sign}b"})[0].startswith("E_CONTROL_CHARACTER holds ")
    assert words(SlurmOptions, job_script_prologue=["ok", f"a{sign}b"])[0].startswith("E_CONTROL_CHARACTER")


@pytest.mark.parametrize("runtime", ["docker", "Apptainer", "", True])
def test_a_container_runtime_is_one_that_batch_jobs_can_have(runtime: object) -> None:
    assert words(SlurmOptions, container_runtime=runtime)[0].endswith("Input should be 'none', 'apptainer' or 'podman'")


def test_a_connection_is_secure_unless_the_manifest_says_otherwise_in_so_many_words() -> None:
    assert SlurmOptions().insecure is False
    assert words(SlurmOptions, insecure="yes") == ["E_BAD_TYPE must be true or false"]


def test_a_submit_file_of_htcondor_takes_what_fits_into_one() -> None:
    assert words(HtcondorOptions, queue="long") == ["E_OPTION_CONFLICT HTCondor has no queues"]
    assert words(HtcondorOptions, job_extra_directives=["--exclusive"]) == [
        "E_BAD_VALUE '--exclusive' is no line of a submit file"
    ]
    assert words(HtcondorOptions, job_script_prologue=["module load python  # 3.11"]) == [
        "E_BAD_VALUE 'module load python  # 3.11' holds a comment, which a job of HTCondor cannot have"
    ]
    assert HtcondorOptions(job_script_prologue=("echo a#b",)).disk_bytes == 2**30


def test_an_empty_text_is_refused() -> None:
    assert words(SlurmOptions, queue=" ") == ["E_BAD_VALUE the text is empty"]


@pytest.mark.parametrize("port", [0, 65536, "8786", True])
def test_a_port_is_a_port(port: object) -> None:
    assert words(SlurmOptions, scheduler_port=port)[0].startswith("E_BAD_VALUE must be a port")


@pytest.mark.parametrize(
    ("cpu", "memory"),
    [(256, 512), (256, 1024), (512, 4096), (1024, 2048), (4096, 30720), (8192, 20480), (16384, 122880)],
)
def test_a_pair_that_fargate_offers_is_taken(cpu: int, memory: int) -> None:
    assert AwsOptions(worker_cpu=cpu, worker_mem=memory).worker_mem == memory


@pytest.mark.parametrize(
    ("cpu", "memory", "hint"),
    [
        (1024, 5000, "take 4096 or 5120"),
        (1024, 9000, "take 8192"),
        (256, 256, "take 512"),
        (8192, 17408, "take 16384 or 20480"),
    ],
)
def test_a_pair_that_fargate_does_not_offer_is_refused_with_its_neighbours(cpu: int, memory: int, hint: str) -> None:
    with pytest.raises(ValidationError) as caught:
        AwsOptions(worker_cpu=cpu, worker_mem=memory)
    (error,) = caught.value.errors()
    assert (error["type"], error["ctx"]["hint"]) == ("E_BAD_FARGATE_SIZE", hint)


def test_a_cpu_size_that_fargate_does_not_offer_lists_those_there_are() -> None:
    assert words(AwsOptions, worker_cpu=1000) == ["E_BAD_FARGATE_SIZE Fargate has no worker_cpu 1000"]


def test_an_option_of_the_other_cluster_type_is_refused_not_ignored() -> None:
    assert words(AwsOptions, instance_type="t3.large") == [
        "E_OPTION_CONFLICT instance_type cannot be used with cluster_type fargate"
    ]
    assert words(AwsOptions, cluster_type="ec2", worker_cpu=1024, cluster_arn="arn:x") == [
        "E_OPTION_CONFLICT worker_cpu, cluster_arn cannot be used with cluster_type ec2"
    ]


def test_a_toleration_is_checked_as_strictly() -> None:
    assert words(KubernetesOptions, tolerations=[{"kee": "gpu"}]) == ["extra_forbidden Extra inputs are not permitted"]


def test_a_flag_of_the_cloud_is_true_or_false() -> None:
    assert words(GcpOptions, preemptible="yes") == ["E_BAD_TYPE must be true or false"]


def test_a_hybrid_target_names_both_of_its_parts() -> None:
    assert words(options_model("hybrid"), primary="hpc") == ["missing Field required"]
