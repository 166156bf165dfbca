"""The command that runs Python in a container."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import signal
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from scalable.providers.batch.containers import Bind, exports, image_file, leave_none, python_command, runtime_of
from scalable.spec import ComponentSpec
from tests.providers.batch.made import LAUNCH, command, component, options, script
from tests.providers.batch.real import marked, until

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
        f"contained podman run --name {LAUNCH.run_id}-simulate-0 --rm --sig-proxy=false --stop-timeout=5"
        " --network=host --pid=host --device nvidia.com/gpu=all --volume '/data/my files:/data'"
        " --volume /home/ada/.scalable/tls-1:/home/ada/.scalable/tls-1:ro --volume /models:/models:ro"
        " --env OMP_NUM_THREADS --env MKL_NUM_THREADS --env OPENBLAS_NUM_THREADS"
        " --env DASK_DISTRIBUTED__WORKER__HTTP__ROUTES --env 'SLURM_*'"
        f" --env TOKEN --env PATH=/opt/model/bin:/bin {IMAGE} /opt/bin/python3"
    )
    assert "export TOKEN='it'\"'\"'s $secret'\n" in made
    assert "export PATH" not in made


def test_the_shell_stays_for_a_container_of_podman_only() -> None:
    made_of = component(image=IMAGE)
    made = script(made_of=made_of, group=3, workers=2, array=True, container_runtime="podman")
    name = f'{LAUNCH.run_id}-"simulate-$((3+SLURM_ARRAY_TASK_ID))"'
    assert f"; podman rm --force --ignore {name} >/dev/null; }}\ntrap ended EXIT\ntrap exit INT TERM\n" in made
    assert command(made).startswith(f"contained podman run --name {name} ")
    for other in (script(made_of=made_of), script()):
        assert "trap" not in other
        assert command(other).startswith("exec ")


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
    assert [name for name in ("apptainer", "podman") if f" {name} " in command(made)] == [used] * (used != "none")


def test_without_a_container_the_environment_is_exported() -> None:
    assert exports("none", component(env={"PATH": "/bin", "A": "x y"})) == ["export PATH=/bin", "export A='x y'"]


@pytest.mark.slow
@pytest.mark.slurm
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
    start = python_command("podman", made_of, "python3", binds, ["SLURM_*"], container="a-worker")
    lines = [*exports("podman", made_of), "export SLURM_JOB_ID=7 FOREIGN=x", *leave_none("podman", "a-worker")]
    lines.append(f"{start} -c {shlex.quote(program)}")
    done = subprocess.run(["bash", "-c", "\n".join(lines)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {
        "AWKWARD": made_of.env["AWKWARD"],
        "SLURM_JOB_ID": "7",
        "FOREIGN": None,
        "file": "from the host",
        "writable": [False, True],
    }


@pytest.fixture
def slow_runtime(container_image: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Have podman take two seconds to make a container, and to start it; yield where it notes what it is at."""
    log, path, settings = tmp_path / "at", tmp_path / "slow", tmp_path / "containers.conf"
    runc = shutil.which("runc", path=f"{os.environ['PATH']}:/usr/sbin:/sbin")
    path.write_text(
        "#!/bin/sh\n"
        f'for word; do case $word in create|start) echo "$word" >>{log}; sleep 2;; esac; done\nexec {runc} "$@"\n'
    )
    path.chmod(0o755)
    settings.write_text(Path(os.environ["CONTAINERS_CONF"]).read_text().replace('"runc"', f'"{path}"'))
    monkeypatch.setenv("CONTAINERS_CONF", str(settings))
    yield log
    # What one test left, and failed for, is nothing to the next.
    subprocess.run(["podman", "rm", "--all", "--force", "--time=0"], check=False, capture_output=True)


@pytest.mark.slow
@pytest.mark.slurm
@pytest.mark.parametrize("moment", ["create", "start", "run"])
def test_a_job_that_is_told_to_end_leaves_no_container_whatever_it_is_at(
    moment: str, slow_runtime: Path, container_image: str, tmp_path: Path
) -> None:
    name = f"ends-at-{moment}"
    made_of = component(image=container_image, mounts={str(tmp_path): "/here"})
    program = (
        "import pathlib, signal, time\n"
        "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "pathlib.Path('/here/at').write_text('run')\n"
        "time.sleep(600)\n"
    )
    start = python_command("podman", made_of, "python3", [], [], container=name)
    lines = ["set -e", *leave_none("podman", name), f"{start} -c {shlex.quote(program)}"]
    with subprocess.Popen(["bash", "-c", "\n".join(lines)], start_new_session=True) as job:
        try:
            until(lambda: slow_runtime.exists() and moment in slow_runtime.read_text(), f"it is at {moment}")
            # Some batch systems tell the shell only; others, as here, all that it has started.
            os.killpg(job.pid, signal.SIGTERM)
            job.wait(30)
        finally:
            job.kill()
    listed = subprocess.run(["podman", "ps", "--all", "--quiet"], check=True, capture_output=True, text=True)
    assert listed.stdout == ""
    until(lambda: not marked(name), "what looked after it is gone as well", 10)
