"""What is said of a deployment on a batch system before anything is submitted."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from scalable.providers.registry import check, options_model
from scalable.spec import ComponentSpec, DeploymentSpec, ResourceRequest, TaskSpec

GIB = 2**30
IMAGE = "ghcr.io/jgcri/model:1"


def component(name: str = "a", memory: int | None = GIB, gpus: int = 0, **others: Any) -> ComponentSpec:
    return ComponentSpec(name, ResourceRequest(1, memory, gpus), **others)


def found(
    *components: ComponentSpec, provider: str = "slurm", tasks: tuple[TaskSpec, ...] = (), **options: Any
) -> list[str]:
    """Return what is said, each with its code and place."""
    spec = DeploymentSpec(
        "p",
        "t",
        provider,
        options_model(provider).model_validate(options),
        {one.name: one for one in components or (component(),)},
        {one.name: one for one in tasks},
    )
    return [f"{one.code} {one.path}: {one.message}" + f"; {one.hint}" * bool(one.hint) for one in check(spec).issues]


def only(*components: ComponentSpec, **others: Any) -> str:
    """Return the one thing that is said."""
    (said,) = found(*components, **others)
    return said


def test_a_plain_target_is_in_order() -> None:
    assert found() == []
    assert found(provider="pbs") == found(provider="lsf") == found(provider="htcondor") == []


def test_everything_is_said_at_once() -> None:
    tasks = (TaskSpec("b", "a", duration_s=7200, memory_step_bytes=GIB),)
    made = component(memory=None, image=IMAGE, mounts={"/a": "/b"}, preload_script="nowhere.sh")
    codes = [
        line.split()[0] for line in found(made, tasks=tasks, walltime="1h", insecure=True, container_runtime="none")
    ]
    assert codes == [
        "W_INSECURE", "E_NEEDS_MEMORY", "W_IMAGE_NOT_USED", "W_MOUNTS_NEED_CONTAINER", "E_MISSING_FILE",
        "E_WALLTIME_TOO_SHORT", "W_MEMORY_STEP",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("options", "key", "option"),
    [
        ({}, "provider", "max_workers"),
        ({"max_workers": 1}, "max_workers", "max_workers"),
        ({"n_workers": 1}, "n_workers", "n_workers"),
        ({"adaptive": {"max": 1}}, "adaptive", "adaptive.maximum"),
        ({"adaptive": {"max": 9}, "max_workers": 1}, "max_workers", "max_workers"),
        ({"adaptive": {"max": 1}, "max_workers": 9}, "adaptive", "adaptive.maximum"),
    ],
)
def test_pools_that_work_at_once_need_a_worker_each(options: dict[str, Any], key: str, option: str) -> None:
    assert only(component("a"), component("b"), **options) == (
        f"E_TOO_FEW_WORKERS targets.t.{key}: 2 pools have work at once (a, b), but there are 1 workers; "
        f"set {option} to 2 or more"
    )
    assert found(component("a"), component("b"), max_workers=2) == []


def test_a_job_says_how_much_memory_it_needs() -> None:
    assert found(component(memory=None)) == [
        "E_NEEDS_MEMORY components.a.memory: a Slurm job must say how much memory it needs; give the component a memory"
    ]


def test_gpus_are_asked_of_slurm_only_and_by_one_worker_a_job() -> None:
    assert found(component(gpus=1)) == []
    assert only(component(gpus=1), workers_per_job=2, max_workers=2) == (
        "E_OPTION_CONFLICT components.a.gpus: the 2 workers of a job would all use its first device; "
        "set workers_per_job to 1"
    )
    assert only(component(gpus=1), provider="pbs") == (
        "E_OPTION_CONFLICT components.a.gpus: gpus cannot be asked of PBS in a common way; "
        "remove it, ask for devices in resource_spec, and add gpu to the component's capabilities"
    )
    assert "ask for devices in job_extra_directives" in found(component(gpus=1), provider="lsf")[0]


class TestContainers:
    def test_an_image_runs_by_itself(self) -> None:
        assert found(component(image=IMAGE, mounts={"/a": "/b"})) == []
        assert found(component(image=IMAGE, runtime="podman")) == []

    @pytest.mark.parametrize(("runtime", "options"), [("none", {}), (None, {"container_runtime": "none"})])
    def test_an_image_that_is_not_used_is_warned_of(self, runtime: str | None, options: dict[str, Any]) -> None:
        assert only(component(image=IMAGE, runtime=runtime), **options) == (
            "W_IMAGE_NOT_USED components.a.image: not used: no container is to run it; "
            "set container_runtime to apptainer or podman, or remove the image"
        )

    def test_mounts_without_a_container_are_warned_of(self) -> None:
        assert only(component(mounts={"/a": "/b"})) == (
            "W_MOUNTS_NEED_CONTAINER components.a.mounts: not mounted: the workers run in no container and see "
            "the node's own files; give the component an image"
        )

    def test_a_runtime_that_batch_jobs_cannot_have_is_refused_unless_the_target_names_another(self) -> None:
        assert only(component(image=IMAGE, runtime="docker")) == (
            "E_BAD_VALUE components.a.runtime: batch jobs run in no container of 'docker'; "
            "write one of none, apptainer, podman"
        )
        assert found(component(image=IMAGE, runtime="docker"), container_runtime="apptainer") == []
        assert found(component(runtime="docker")) == []

    @pytest.mark.parametrize("image", ["model.sif", "/images/sandbox", "~/model.sif"])
    def test_podman_runs_no_files(self, image: str) -> None:
        assert only(component(image=image), container_runtime="podman") == (
            f"E_OPTION_CONFLICT components.a.image: Podman runs images of registries, not the file {image}; "
            "set `container_runtime: apptainer`"
        )
        assert found(component(image=image), container_runtime="apptainer") == []

    def test_apptainer_mounts_no_path_with_a_comma(self) -> None:
        made = component(image=IMAGE, mounts={"/a": "/b", "/c,d": "/e"})
        assert only(made) == (
            "E_BAD_MOUNT components.a.mounts: '/c,d' holds a ',', which Apptainer takes for the end of a path; "
            "mount a directory above it"
        )
        assert found(made, container_runtime="podman") == []

    def test_a_shared_directory_must_fit_into_a_container_if_there_is_one(self) -> None:
        assert only(component(image=IMAGE), shared_temp_directory="/a:b") == (
            "E_BAD_VALUE targets.t.shared_temp_directory: a path that holds a ':' cannot be bound into containers; "
            "choose another directory"
        )
        assert found(shared_temp_directory="/a:b") == []


def test_a_task_that_outlasts_its_job_is_refused() -> None:
    assert only(tasks=(TaskSpec("b", "a", duration_s=5401),), walltime="1h30m") == (
        "E_WALLTIME_TOO_SHORT tasks.b.duration: takes 1h30m01s, but jobs end after 1h30m00s: it could never finish; "
        "raise the walltime of target 't'"
    )
    assert found(tasks=(TaskSpec("b", "a", duration_s=5400),), walltime="1h30m") == []
    assert found(tasks=(TaskSpec("b", "a", duration_s=5400),)) == []


def test_a_memory_step_is_used_when_a_task_is_tried_again() -> None:
    assert only(tasks=(TaskSpec("b", "a", memory_step_bytes=GIB),)) == (
        "W_MEMORY_STEP tasks.b.memory_step: not used: a task without retries is not tried again in a larger worker; "
        "set retries to 1 or more"
    )
    assert found(tasks=(TaskSpec("b", "a", memory_step_bytes=GIB, retries=1),)) == []


def test_a_preload_script_must_be_there(tmp_path: Path) -> None:
    there = tmp_path / "setup.sh"
    assert found(component(preload_script=str(there))) == [
        f"E_MISSING_FILE components.a.preload_script: there is no file {there}; give a path relative to where you start"
    ]
    there.touch()
    assert found(component(preload_script=str(there))) == []
    assert found(component(preload_script="a.module")) == []


def test_going_without_certificates_is_warned_of() -> None:
    assert only(insecure=True) == (
        "W_INSECURE targets.t.insecure: whoever reaches the scheduler's port can run programs as you, and read what "
        "is sent; remove it: certificates are made for each run"
    )


def test_systems_without_common_words_for_resources_need_them_by_hand() -> None:
    assert only(provider="sge") == (
        "W_NOT_BOOKED targets.t.provider: cpus and memory are not asked for: how to do so differs between clusters of "
        "Grid Engine; set resource_spec as your cluster has it"
    )
    assert found(provider="oar")[0].startswith("W_NOT_BOOKED targets.t.provider: memory is not asked for")
    assert found(provider="sge", resource_spec="h_vmem={memory_mb}M") == []


@pytest.mark.parametrize(("provider", "directory"), [("slurm", "a\\b"), ("lsf", "50%"), ("pbs", "a:b")])
def test_a_directory_for_logs_that_a_system_cannot_name_is_refused(provider: str, directory: str) -> None:
    issue = only(provider=provider, log_directory=directory)
    assert issue.startswith("E_BAD_VALUE targets.t.log_directory: ")
    assert issue.endswith("; choose another directory")


@pytest.mark.parametrize(
    "directive", ["-J mine", "-Jmine", "--job-name=mine", "--array=1-3", "-a 1-3", "--comment x", "-W"]
)
def test_what_the_jobs_of_a_run_are_found_by_cannot_be_changed(directive: str) -> None:
    said = only(job_extra_directives=["--mail-type=END", directive])
    assert said.startswith("E_OPTION_CONFLICT targets.t.job_extra_directives.1: ")
    assert "is Scalable's own" in said


@pytest.mark.parametrize(
    "directive", ["--constraint=skylake", "-A other", "--contiguous", "--requeue", "-w n1", "--acctg-freq=10"]
)
def test_other_directives_are_the_users(directive: str) -> None:
    assert found(job_extra_directives=[directive]) == []
