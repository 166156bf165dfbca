"""A task that takes more memory than its job has, on a real Slurm: whoever stops it, it fails by name or gets more."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest

from scalable import ScalableSession
from scalable.errors import TaskOutOfMemory
from tests.conftest import records
from tests.providers.batch.real import manifest_text
from tests.slurm.backend import Slurm

pytestmark = [pytest.mark.slow, pytest.mark.slurm]

Write = Callable[..., Path]
MIB = 2**20


def gradually(mebibytes: int) -> int:
    """Take memory so slowly that Dask's nanny sees it coming."""
    kept = []
    for _ in range(mebibytes // 20):
        kept.append(bytearray(b"x") * (20 * MIB))
        time.sleep(0.1)
    return len(kept) * 20


def suddenly(mebibytes: int) -> int:
    """Take memory at once, so that nobody is faster than the kernel."""
    return len(bytearray(b"x") * (mebibytes * MIB)) // MIB


def nap(seconds: float) -> float:
    time.sleep(seconds)
    return seconds


def text(tasks: str) -> str:
    return manifest_text(max_workers=3).replace("500M", "500M, tags: [quick]") + f"tasks:\n  {tasks}\n"


def attempts(session: ScalableSession, name: str) -> list[tuple[int, str, str]]:
    found = [one for one in records(session.run_dir, "tasks") if one["name"] == name]
    return [(one["attempt"], one["outcome"], one["worker"].rpartition("-")[0]) for one in found]


@pytest.mark.parametrize("take", [gradually, suddenly], ids=["by the nanny", "by the kernel"])
def test_it_fails_with_what_it_asked_and_what_it_took_and_others_complete(
    queue: Slurm, manifest: Write, take: Callable[[int], int]
) -> None:
    name = take.__name__
    with ScalableSession.from_yaml(manifest(text(f"{name}: {{component: simulate, retries: 0}}"))) as session:
        client = session.start()
        greedy = client.submit(take, 900)
        others = client.map(nap, [0.1] * 40, tag="quick")
        with pytest.raises(TaskOutOfMemory, match=rf"task '{name}-.*' ran out of memory.* 500M") as caught:
            greedy.result(timeout=120)
        assert sum(client.gather(others)) == pytest.approx(4.0)
    assert caught.value.asked == 500 * MIB
    assert attempts(session, name) == [(1, "failed", "simulate")]
    (peak,) = (one["peak_bytes"] for one in records(session.run_dir, "tasks") if one["name"] == name)
    assert peak == caught.value.peak
    if take is gradually:
        assert 300 * MIB < peak < 900 * MIB
    assert [one["error_type"] for one in records(session.run_dir, "failures")] == ["TaskOutOfMemory"]


@pytest.mark.parametrize("take", [gradually, suddenly], ids=["by the nanny", "by the kernel"])
def test_with_a_memory_step_it_completes_in_a_larger_job(
    queue: Slurm, manifest: Write, take: Callable[[int], int]
) -> None:
    name = take.__name__
    task = f"{name}: {{component: simulate, retries: 1, memory_step: 1000M}}"
    with ScalableSession.from_yaml(manifest(text(task))) as session:
        client = session.start()
        greedy = client.submit(take, 700)
        others = client.map(nap, [0.1] * 40, tag="quick")
        assert greedy.result(timeout=120) == 700
        assert sum(client.gather(others)) == pytest.approx(4.0)
        assert {job.memory for job in queue.jobs()} >= {1500}
    assert attempts(session, name) == [(1, "failed", "simulate"), (2, "completed", "simulate+1000")]
    assert session.run_dir is not None
    (script,) = (session.run_dir / "jobs").glob("simulate+1000-*.sh")
    assert "#SBATCH --mem=1500M\n" in script.read_text()
    peaks = [one["peak_bytes"] for one in records(session.run_dir, "tasks") if one["name"] == name]
    assert peaks[1] > 700 * MIB
    assert {one["attempt"] for one in records(session.run_dir, "tasks") if one["name"] == "nap"} == {1}
