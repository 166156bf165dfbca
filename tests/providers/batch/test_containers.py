"""The command that runs Python in a container."""

from __future__ import annotations

import json
import shlex
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from scalable.providers.batch.containers import Bind, exports, image_file, python_command, runtime_of
from scalable.spec import ComponentSpec
from tests.providers.batch.made import LAUNCH, command, component, options, script

IMAGE = "ghcr.io/jgcri/model:2.0.1"


def started(made: str) -> str:
    """Return what starts Python, without Python's own arguments."""
    return command(made).partition(" -m distributed.cli.dask_worker")[0]


def of(image: str, runtime: str = "apptainer", **others: Any) -> str:
    """Return what starts Python in an image, with nothing else bound in."""
    made_of, launch = component(image=image, **others), replace(LAUNCH, tls=None)
    return started(script(made_of=made_of, launch=launch, container_runtime=runtime, python=None))


def test_apptainer_runs_an_image_with_all_that_a_component_has() -> None:
    made_of = component(
        image=IMAGE,
        gpus=1,
        mounts={"/data/my files": "/data", "/scratch": "/scratch"},
        env={"TOKEN": "it's, $secret"},
        preload_script="/models/setup.py",
    )
    made = script(made_of=made_of, python=None)
    assert started(made) == (
        "exec apptainer exec --nv --bind '/data/my files:/data' --bind /scratch:/scratch"
        " --bind /home/ada/.scalable/tls-1:/home/ada/.scalable/tls-1:ro --bind /models:/models:ro"
        f" docker://{IMAGE} python3"
    )
    assert "export APPTAINERENV_TOKEN='it'\"'\"'s, $secret'\n" in made
    assert "export TOKEN" not in made
    assert " --preload /models/setup.py " in made


def test_podman_runs_an_image_with_all_that_a_component_has() -> None:
    made_of = component(
        image=f"docker://{IMAGE}",
        gpus=1,
        mounts={"/data/my files": "/data"},
        env={"TOKEN": "it's $secret", "PATH": "/opt/model/bin:/bin"},
        preload_script="/models/setup.py",
    )
    made = script(made_of=made_of, container_runtime="podman", python="/opt/bin/python3")
    assert started(made) == (
        "exec podman run --rm --network=host --pid=host --device nvidia.com/gpu=all --volume '/data/my files:/data'"
        " --volume /home/ada/.scalable/tls-1:/home/ada/.scalable/tls-1:ro --volume /models:/models:ro"
        " --env OMP_NUM_THREADS --env MKL_NUM_THREADS --env OPENBLAS_NUM_THREADS"
        " --env DASK_DISTRIBUTED__WORKER__HTTP__ROUTES --env 'SLURM_*'"
        f" --env TOKEN --env PATH=/opt/model/bin:/bin {IMAGE} /opt/bin/python3"
    )
    assert "export TOKEN='it'\"'\"'s $secret'\n" in made
    assert "export PATH" not in made


def test_what_a_shell_script_exports_reaches_a_container_of_podman() -> None:
    assert " --env-host " in of(IMAGE, "podman", preload_script="/models/setup.sh")
    assert "--env-host" not in of(IMAGE, "podman")


def test_what_is_mounted_already_is_not_mounted_again() -> None:
    assert of(IMAGE, mounts={"/m": "/models"}, preload_script="/models/setup.py").count("--bind") == 1


@pytest.mark.parametrize(
    ("image", "reference"),
    [
        ("ghcr.io/jgcri/model:1", "docker://ghcr.io/jgcri/model:1"),
        ("model", "docker://model"),
        ("docker://ghcr.io/jgcri/model:1", "docker://ghcr.io/jgcri/model:1"),
        ("oras://ghcr.io/jgcri/model:1", "oras://ghcr.io/jgcri/model:1"),
        ("/images/my model.sif", "'/images/my model.sif'"),
        ("/images/sandbox", "/images/sandbox"),
    ],
)
def test_apptainer_is_told_where_an_image_comes_from(image: str, reference: str) -> None:
    assert of(image) == f"exec apptainer exec {reference} python3"


def test_a_file_is_found_wherever_the_job_starts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", "/home/ada")
    assert image_file("model.sif") == tmp_path / "model.sif"
    assert image_file("./sandbox") == tmp_path / "sandbox"
    assert image_file("~/model.sif") == Path("/home/ada/model.sif")
    assert image_file("docker://x/model.sif") is None
    assert image_file("registry.org/model") is None


@pytest.mark.parametrize(
    ("container_runtime", "runtime", "image", "used"),
    [
        (None, None, None, "none"),
        ("podman", "apptainer", None, "none"),
        (None, None, IMAGE, "apptainer"),
        (None, "podman", IMAGE, "podman"),
        ("apptainer", "podman", IMAGE, "apptainer"),
        ("none", "podman", IMAGE, "none"),
        (None, "none", IMAGE, "none"),
    ],
)
def test_an_image_needs_a_runtime_and_the_target_has_the_last_word(
    container_runtime: str | None, runtime: str | None, image: str | None, used: str
) -> None:
    made_of = component(image=image, runtime=runtime)
    assert runtime_of(options("slurm", container_runtime=container_runtime), made_of) == used
    made = script(made_of=made_of, container_runtime=container_runtime)
    assert [name for name in ("apptainer", "podman") if f"exec {name} " in made] == [used] * (used != "none")


def test_without_a_container_the_environment_is_exported() -> None:
    assert exports("none", component(env={"PATH": "/bin", "A": "x y"})) == ["export PATH=/bin", "export A='x y'"]


@pytest.mark.slow
def test_podman_gives_a_worker_what_the_text_says(container_image: str, tmp_path: Path) -> None:
    there, binds = tmp_path / "my files", [Bind(str(tmp_path), "/tls", read_only=True)]
    there.mkdir()
    (there / "in.txt").write_text("from the host")
    made_of: ComponentSpec = component(
        image=container_image,
        mounts={str(there): "/data"},
        env={"AWKWARD": 'it\'s "$(x)" ; \\ , é', "LD_PRELOAD": ""},
    )
    program = (
        "import json, os, pathlib\n"
        "seen = {name: os.environ.get(name) for name in ('AWKWARD', 'SLURM_JOB_ID', 'FOREIGN')}\n"
        "seen['file'] = pathlib.Path('/data/in.txt').read_text()\n"
        "seen['writable'] = os.access('/tls', os.W_OK), os.access('/data', os.W_OK)\n"
        "print(json.dumps(seen))\n"
    )
    start = python_command("podman", made_of, "python3", binds, ["SLURM_*"])
    lines = [*exports("podman", made_of), "export SLURM_JOB_ID=7 FOREIGN=x", f"exec {start} -c {shlex.quote(program)}"]
    done = subprocess.run(["bash", "-c", "\n".join(lines)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {
        "AWKWARD": made_of.env["AWKWARD"],
        "SLURM_JOB_ID": "7",
        "FOREIGN": None,
        "file": "from the host",
        "writable": [False, True],
    }
