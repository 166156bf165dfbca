"""What the tests of adapters have in common: a run that others can join, and adapters that do."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from scalable import ScalableSession
from scalable.manifest import load
from scalable.pools.cluster import PoolCluster
from scalable.providers import registry
from scalable.providers.adapters.join import join
from scalable.providers.batch.script import TlsFiles
from scalable.providers.batch.security import security_of
from scalable.spec import DeploymentSpec, resolve

MANIFEST = """\
version: 1
project: {name: tests}
targets:
  home: {provider: local, max_workers: 1, threads_per_worker: 1, processes: PROCESSES}
  cloud: {provider: local, max_workers: 2, threads_per_worker: 1, processes: PROCESSES}
  far: {provider: hybrid, primary: home, secondary: cloud, remote: true, interface: lo, scaling: "no"}
  both:
    {provider: hybrid, primary: home, secondary: cloud,
     scaling: {policy: fixed_elastic, interval: 0.1s, upper_task_ratio: 3}}
components:
  simulate: {cpus: 1, memory: 500M, tags: [compute-heavy]}
"""


def manifest_text(*, processes: bool = False) -> str:
    """Return a manifest with two local targets, of threads or of processes."""
    return MANIFEST.replace("PROCESSES", str(processes).lower())


def cluster_of(session: ScalableSession) -> PoolCluster:
    """Return the pools of a session that is started."""
    assert session._run is not None
    return session._run.cluster


def until(holds: Callable[[], Any], what: str, seconds: float = 30) -> Any:
    """Wait until something holds, and return it."""
    deadline = time.monotonic() + seconds
    while not (value := holds()):
        assert time.monotonic() < deadline, f"not within {seconds:g} s: {what}"
        time.sleep(0.01)
    return value


def scaled(cluster: PoolCluster, pool: str, count: int) -> None:
    """Want so many workers of a pool, and wait until they are up, or gone."""
    cluster.soon(cluster.scale, {pool: count}, "test")
    until(lambda: len(cluster.pools[pool].members) == cluster.pools[pool].up == count, f"{count} workers in {pool}")


def way_in(session: ScalableSession) -> tuple[str, TlsFiles]:
    """Return where the scheduler of a run listens, and its certificates."""
    assert session.run_dir is not None
    facts = json.loads((session.run_dir / "scheduler.json").read_text())
    files = [Path(facts[name]) for name in ("tls_ca", "tls_cert", "tls_key")]
    return facts["address"], TlsFiles(files[0].parent, *files)


class Elsewhere:
    """An adapter with an event loop of its own, as in a process of its own."""

    def __init__(self, path: Path, address: str, tls: TlsFiles | None, target: str = "cloud") -> None:
        spec: DeploymentSpec = resolve(load(path, target=target, catalogue=registry.catalogue))
        self.joined = threading.Event()
        self.outcome: Any = None
        self._provider = registry.get_adapter_provider(spec.provider)
        self._spec, self._address, self._tls = spec, address, tls
        self._leave: Callable[[], object] = lambda: None
        self._thread = threading.Thread(target=self._run, name="elsewhere")
        self._thread.start()

    def end(self) -> Any:
        """Tell it to end, and return why it did, or its error."""
        self._leave()
        return self.wait()

    def wait(self) -> Any:
        """Wait until it has ended, and return why."""
        self._thread.join(30)
        assert not self._thread.is_alive()
        return self.outcome

    def _run(self) -> None:
        adapter = self._provider.open_adapter(self._spec, self._tls)

        async def serve() -> str:
            leave, loop = asyncio.Event(), asyncio.get_running_loop()
            self._leave = lambda: None if loop.is_closed() else loop.call_soon_threadsafe(leave.set)
            security = None if self._tls is None else security_of(self._tls)
            shapes = self._provider.shapes(self._spec)
            return await join(adapter, shapes, self._address, security, leave=leave, joined=self.joined.set)

        try:
            self.outcome = asyncio.run(serve())
        except Exception as error:  # noqa: BLE001  (whoever waits for the end looks at it)
            self.outcome = error
        finally:
            adapter.on_close()


@contextmanager
def elsewhere(path: Path, session: ScalableSession) -> Iterator[Elsewhere]:
    """Have an adapter that has joined, and end it."""
    one = Elsewhere(path, *way_in(session))
    try:
        assert one.joined.wait(20), one.outcome
        yield one
    finally:
        one.end()
