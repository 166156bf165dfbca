"""Workers in real containers, in jobs of a real Slurm."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import scalable
from scalable import ScalableSession
from scalable.errors import TaskError
from tests.conftest import records
from tests.providers.batch.inside import fail, leave, long_at_first, surroundings
from tests.providers.batch.real import manifest_text, until
from tests.slurm.backend import Slurm

pytestmark = [pytest.mark.slow, pytest.mark.slurm]

Write = Callable[..., Path]

# The image has Dask and psutil. What else workers need of Scalable is its own code.
REPOSITORY = Path(scalable.__file__).parents[2]
AWKWARD = 'it\'s "$(x)" ; \\ , = é %n'


@pytest.fixture
def data(tmp_path: Path) -> Path:
    folder = tmp_path / "my files"
    folder.mkdir()
    (folder / "in.txt").write_text("from the host")
    return folder


@pytest.fixture
def contained(queue: Slurm, container_image: str, manifest: Write, data: Path) -> Iterator[ScalableSession]:
    component = {
        "cpus": 1,
        "memory": "1G",
        "image": container_image,
        "env": {"PYTHONPATH": "/code/core:/code", "AWKWARD": AWKWARD},
        "mounts": {str(REPOSITORY): "/code", str(data): "/data"},
    }
    text = manifest_text(container_runtime="podman").partition("components:")[0]
    text += f"components:\n  simulate: {json.dumps(component)}\n"
    try:
        with ScalableSession.from_yaml(manifest(text)) as session:
            yield session
    finally:
        # What one test left, and failed for, is nothing to the next.
        subprocess.run(["podman", "rm", "--all", "--force", "--time=0"], check=False, capture_output=True)


def containers() -> list[str]:
    done = subprocess.run(["podman", "ps", "--all", "--quiet"], check=True, capture_output=True, text=True)
    return done.stdout.split()


def test_a_task_runs_in_the_container_with_all_that_its_component_says(
    contained: ScalableSession, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FOREIGN", "not for containers")
    client = contained.start()
    seen = client.submit(surroundings, tag="simulate").result(timeout=150)
    assert seen["python"] != sys.executable
    assert seen["root"] != sorted(path.name for path in Path("/").iterdir())
    assert (seen["awkward"], seen["threads"], seen["foreign"]) == (AWKWARD, "1", None)
    assert seen["job"].isdigit()
    assert seen["data"] == "from the host"
    assert not seen["pydantic"]

    made = client.map(leave, ["a", "b", "c"], ["1", "2", "3"], tag="simulate")
    assert client.gather(made) == ["/data/a", "/data/b", "/data/c"]
    assert [(data / name).read_text() for name in "abc"] == ["1", "2", "3"]
    with pytest.raises((ValueError, TaskError), match="inside"):
        client.submit(fail, tag="simulate").result(timeout=60)
    # By TLS, with material that was bound in.
    assert client.dask.scheduler_info()["address"].startswith("tls://")
    assert len(containers()) == 2

    contained.close()
    until(lambda: not containers(), "no container is left", 30)
    measured = [one for one in records(contained.run_dir, "tasks") if one["name"] == "leave"]
    assert [one["outcome"] for one in measured] == ["completed"] * 3
    assert all(one["duration_s"] >= 0 and one["peak_bytes"] > 0 for one in measured)


def test_a_cancelled_job_takes_its_container_along_and_the_task_runs_in_another(
    contained: ScalableSession, queue: Slurm, data: Path
) -> None:
    client = contained.start()
    client.submit(surroundings, tag="simulate").result(timeout=150)
    until(lambda: len(containers()) == 2, "both containers are up")
    before = set(containers())
    interrupted = client.map(long_at_first, ["one", "two"], tag="simulate")
    until(lambda: (data / "one").exists() and (data / "two").exists(), "both are busy")
    ended = queue.jobs()
    for job in ended:
        queue.cancel(job.id)
    until(lambda: not before & set(containers()), "the containers of the cancelled jobs are gone")
    until(lambda: len(containers()) == 2, "others are in their place")
    assert not {job.id for job in ended} & {job.id for job in queue.jobs()}
    assert client.gather(interrupted) == ["again", "again"]
    contained.close()
    until(lambda: not containers(), "no container is left", 30)


def test_what_a_worker_needs_of_scalable_does_not_need_more_than_dask(container_image: str) -> None:
    modules = ("scalable.pools.worker_setup", "scalable.pools.nanny_setup", "scalable.telemetry.measure")
    program = "import sys\n" + "".join(f"import {one}\n" for one in modules)
    program += "from scalable.errors import TaskError\nprint('pydantic' in sys.modules)"
    mount = ("--volume", f"{REPOSITORY}:/code:ro", "--env", "PYTHONPATH=/code/core")
    command = ["podman", "run", "--rm", "--network=host", *mount, container_image, "python3", "-B", "-c", program]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "False\n"), done.stderr
