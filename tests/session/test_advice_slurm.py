"""Advice on a real Slurm: jobs are as large and as long as past runs say, and a retry has what is advised."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from scalable import ScalableSession
from scalable.advisors import worker_bytes
from scalable.planning import counsel
from tests.advisors.history import GIB, MIB, peaks, run
from tests.conftest import records
from tests.providers.batch.real import manifest_text
from tests.slurm.backend import Slurm

pytestmark = [pytest.mark.slow, pytest.mark.slurm]

Write = Callable[..., Path]


def take(mebibytes: int) -> int:
    return len(bytearray(b"x") * (mebibytes * MIB)) // MIB


@pytest.fixture(autouse=True)
def quantiles(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(counsel, "default_model_type", lambda: "quantile")


def test_jobs_ask_for_what_past_runs_needed_and_a_retry_for_the_largest_ever_seen(
    queue: Slurm, manifest: Write, tmp_path: Path
) -> None:
    past = peaks([*[200 * MIB] * 60, 900 * MIB], s=30.0, component="simulate", name="take")
    run(tmp_path / "runs", past, project="tests", target="hpc")
    text = manifest_text(walltime="20h").replace("memory: 500M", "memory: 1G")
    text += "tasks:\n  take: {component: simulate, retries: 1}\n"
    with ScalableSession.from_yaml(manifest(text), advise=True) as session:
        client = session.start()
        assert client.submit(take, 20).result(timeout=120) == 20
        assert client.submit(take, 600).result(timeout=120) == 600
    assert session.run_dir is not None
    scripts = {path.name.split("-")[0]: path.read_text() for path in (session.run_dir / "jobs").glob("*.sh")}
    small, large = worker_bytes(200 * MIB) // MIB, worker_bytes(900 * MIB) // MIB
    assert set(scripts) == {"simulate", f"simulate+{large - small}"}
    assert f"#SBATCH --mem={small}M\n" in scripts["simulate"]
    assert "#SBATCH -t 00:10:00\n" in scripts["simulate"]
    assert f"#SBATCH --mem={large}M\n" in scripts[f"simulate+{large - small}"]
    attempts = [(one["attempt"], one["outcome"]) for one in records(session.run_dir, "tasks")]
    assert attempts == [(1, "completed"), (1, "failed"), (2, "completed")]


def test_no_job_is_asked_for_that_no_node_could_run(queue: Slurm, manifest: Write, tmp_path: Path) -> None:
    run(tmp_path / "runs", peaks([4096 * GIB] * 40, component="simulate", name="take"), project="tests", target="hpc")
    text = manifest_text() + "tasks:\n  take: {component: simulate, retries: 1}\n"
    with ScalableSession.from_yaml(manifest(text), advise=True) as session:
        client = session.start()
        assert client.submit(take, 20).result(timeout=120) == 20
    assert any("is the most there is" in note for note in session.plan().notes)
