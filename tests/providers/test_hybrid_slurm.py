"""A run on a real Slurm that bursts to the machine on which it was started."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from distributed import get_worker

from scalable import ScalableSession
from tests.providers.batch.real import certificates, manifest_text, until
from tests.slurm.backend import Slurm

pytestmark = [pytest.mark.slow, pytest.mark.slurm]

HYBRID = """\
targets:
  here: {provider: local, max_workers: 1, processes: true}
  burst: {provider: hybrid, primary: PRIMARY, secondary: SECONDARY, scaling: {policy: "no"}}
"""


def place(number: int) -> str:
    return str(get_worker().name)


@pytest.mark.parametrize(("primary", "secondary"), [("hpc", "here"), ("here", "hpc")])
def test_jobs_and_processes_here_serve_one_scheduler(
    queue: Slurm, manifest: Callable[..., Path], tmp_path: Path, primary: str, secondary: str
) -> None:
    targets = HYBRID.replace("PRIMARY", primary).replace("SECONDARY", secondary)
    path = manifest(manifest_text(max_workers=1).replace("targets:\n", targets))
    with ScalableSession.from_yaml(path, target="burst") as session:
        client = session.start()
        cluster = session._run.cluster
        cluster.soon(cluster.scale, {f"simulate@{secondary}": 1}, "test")
        until(lambda: client.worker_count("simulate") == 2, "a job and a process")
        assert cluster.scheduler_address.startswith("tls://")
        names = [f"simulate@{secondary}-0", "simulate-0"]
        futures = [client.submit(place, 0, tag="simulate", workers=name, pure=False) for name in names]
        assert client.gather(futures) == names
        # What the one has made the other can have: they reach each other as well.
        made = client.submit(bytearray, 10_000, tag="simulate", workers=names[0])
        assert client.gather(client.submit(len, made, tag="simulate", workers=names[1])) == 10_000
    assert certificates(tmp_path) == []
