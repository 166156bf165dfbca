"""`SlurmCluster`: pools of jobs that a script grows and shrinks by hand."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from scalable import ScalableClient, SlurmCluster
from scalable.errors import ManifestInvalid, ScalableError, SubmitFailed, UnknownTag
from tests.conftest import records
from tests.slurm.backend import Slurm

pytestmark = [pytest.mark.slow, pytest.mark.slurm]


@pytest.fixture
def cluster(queue: Slurm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[SlurmCluster]:
    monkeypatch.chdir(tmp_path)
    with SlurmCluster(queue="main", account="science", walltime="00:10:00", interface="lo") as made:
        yield made


def where(seconds: float = 0.05) -> str:
    time.sleep(seconds)
    return os.environ["SLURM_JOB_ID"]


def until(condition: object, seconds: float = 60) -> None:
    assert callable(condition)
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it never came about"
        time.sleep(0.1)


def test_it_grows_and_shrinks_by_tag_and_tasks_go_where_they_ask_to(cluster: SlurmCluster, queue: Slurm) -> None:
    cluster.add_container(tag="demeter", cpus=1, memory="500M")
    cluster.add_container(tag="post", cpus=2, memory="1G", env={"STAGE": "post"})
    cluster.add_workers(n=3, tag="demeter")
    cluster.add_workers(n=1, tag="post")
    client = ScalableClient(cluster)
    futures = client.map(where, [0.1] * 30, tag="demeter")
    stages = client.map(lambda _: os.environ.get("STAGE"), range(4), tag="post")
    assert set(client.gather(stages)) == {"post"}
    assert len(client.gather(futures)) == 30
    until(lambda: cluster.worker_count("demeter") == 3)

    held = client.submit(where, tag="demeter")
    kept = held.result()
    cluster.remove_workers(n=2, tag="demeter")
    until(lambda: len([job for job in queue.jobs() if job.state == "RUNNING"]) == 2)
    assert cluster.worker_count("demeter") == 1
    # What a worker that left had computed is still there, and not computed again.
    assert held.result() == kept
    cluster.close()
    assert {one["outcome"] for one in records(cluster.run_dir, "tasks")} == {"completed"}
    assert len(records(cluster.run_dir, "tasks")) == 35


def test_mistakes_are_told_before_anything_is_submitted(cluster: SlurmCluster, queue: Slurm) -> None:
    with pytest.raises(ManifestInvalid, match=r"add_container\('demeter'\)\.dirs|mounts"):
        cluster.add_container(tag="demeter", memory="1G", dirs={"relative": "/x"})
    with pytest.raises(ManifestInvalid, match="memory"):
        cluster.add_container(tag="demeter", cpus=1)
    with pytest.raises(UnknownTag, match="demeter"):
        cluster.add_workers(n=1, tag="demeter")
    cluster.add_container(tag="demeter", memory="1G")
    with pytest.raises(ScalableError, match="there is a container for tag 'demeter' already"):
        cluster.add_container(tag="demeter", memory="2G")
    with pytest.raises(ScalableError, match="positive integer"):
        cluster.add_workers(n=0, tag="demeter")
    with pytest.raises(ScalableError, match="there are 0 workers with tag 'demeter', not 1"):
        cluster.remove_workers(n=1, tag="demeter")
    with pytest.raises(ManifestInvalid, match=r"SlurmCluster\.wall_time.*did you mean 'walltime'"):
        SlurmCluster(wall_time="1h")
    assert queue.jobs() == []


def test_what_slurm_refuses_is_told_in_its_words_and_more_can_be_asked_for(cluster: SlurmCluster) -> None:
    cluster.add_container(tag="huge", memory="900G")
    cluster.add_container(tag="small", memory="500M")
    with pytest.raises(SubmitFailed, match=r"(?i)memory|node configuration"):
        cluster.add_workers(n=1, tag="huge")
    cluster.add_workers(n=1, tag="small")
    assert ScalableClient(cluster).submit(where, tag="small").result(timeout=60)


def test_asking_twice_counts_twice_and_what_was_refused_does_not_count(cluster: SlurmCluster, queue: Slurm) -> None:
    cluster.add_container(tag="small", memory="500M")
    cluster.add_workers(n=4, tag="small")
    cluster.remove_workers(n=1, tag="small")
    cluster.remove_workers(n=1, tag="small")
    until(lambda: len([job for job in queue.jobs() if job.state in {"PENDING", "RUNNING"}]) == 2)
    cluster.add_workers(n=1, tag="small")
    until(lambda: cluster.worker_count("small") == 3)
    queue.run("scontrol", "update", "partitionname=main", "state=inactive")
    try:
        with pytest.raises(SubmitFailed, match=r"(?i)partition"):
            cluster.add_workers(n=3, tag="small")
    finally:
        queue.run("scontrol", "update", "partitionname=main", "state=up")
    with pytest.raises(ScalableError, match="there are 3 workers with tag 'small', not 4"):
        cluster.remove_workers(n=4, tag="small")
