"""Growing and shrinking real pools while they work."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from scalable import ScalableClient, ScalableSession
from scalable.errors import WorkersLost
from scalable.pools.cluster import PoolCluster
from tests.conftest import MANIFEST, records

ROOMY = MANIFEST.replace("max_workers: 3", "adaptive: {minimum: 3, maximum: 8}")


def count(path: str, seconds: float) -> str:
    """Leave a line for each time this is begun."""
    with Path(path).open("a") as out:
        out.write(f"{os.getpid()}\n")
    time.sleep(seconds)
    return path


GATE = threading.Event()


def wait_for_gate(_: object) -> bool:
    """Hold a worker that is a thread of this process until the test lets go."""
    return GATE.wait(20)


def one(_: object) -> int:
    return 1


def big(n: int) -> bytes:
    return bytes(n)


class Bench:
    """A run whose pools the test scales by hand: the controller is stopped."""

    def __init__(self, session: ScalableSession) -> None:
        self.session = session
        self.client: ScalableClient = session.start()
        assert session._run is not None
        self.cluster: PoolCluster = session._run.cluster
        session._run.controller.stop()

    def scale(self, **counts: int) -> None:
        self.cluster.soon(self.cluster.scale, counts, "by hand")

    def wait(self, what: Callable[[], bool], seconds: float = 30) -> None:
        deadline = time.monotonic() + seconds
        while not what():
            assert time.monotonic() < deadline, "it did not come to that"
            time.sleep(0.02)

    def sizes(self) -> dict[str, int]:
        return {name: len(pool.members) for name, pool in self.cluster.pools.items()}


@pytest.fixture(params=["threads", "processes"])
def bench(request: pytest.FixtureRequest, manifest: Callable[..., Path]) -> Iterator[Bench]:
    with ScalableSession.from_yaml(manifest(ROOMY), target=request.param) as session:
        yield Bench(session)


@pytest.mark.slow
def test_a_pool_grows_and_shrinks_without_touching_another(bench: Bench) -> None:
    others = {name for name in bench.cluster.scheduler.aliases if str(name).startswith("postprocess")}
    bench.scale(simulate=4)
    bench.wait(lambda: bench.client.worker_count("simulate") == 4)
    bench.scale(simulate=1)
    bench.wait(lambda: bench.sizes()["simulate"] == 1)
    assert {name for name in bench.cluster.scheduler.aliases if str(name).startswith("postprocess")} == others


@pytest.mark.slow
def test_a_worker_that_leaves_finishes_what_it_runs_and_hands_back_the_rest(bench: Bench, tmp_path: Path) -> None:
    paths = [str(tmp_path / f"task-{i}") for i in range(12)]
    futures = bench.client.map(count, paths, [0.8] * 12, tag="simulate")
    bench.wait(lambda: sum(Path(path).exists() for path in paths) == 2)
    bench.scale(simulate=1)
    assert bench.client.gather(futures) == paths
    begun = [len(Path(path).read_text().splitlines()) for path in paths]
    assert begun == [1] * 12
    bench.wait(lambda: bench.sizes()["simulate"] == 1)
    bench.session.close()
    outcomes = [each["outcome"] for each in records(bench.session.run_dir, "tasks")]
    assert outcomes == ["completed"] * 12


@pytest.mark.slow
def test_results_move_before_their_worker_leaves_and_are_not_computed_again(bench: Bench, tmp_path: Path) -> None:
    paths = [str(tmp_path / f"task-{i}") for i in range(6)]
    futures = bench.client.map(count, paths, [0.01] * 6, tag="simulate")
    bench.wait(lambda: all(future.done() for future in futures))
    bench.scale(simulate=0)
    bench.wait(lambda: bench.sizes()["simulate"] == 0)
    assert bench.client.gather(futures) == paths
    assert [len(Path(path).read_text().splitlines()) for path in paths] == [1] * 6


@pytest.mark.slow
def test_the_last_worker_stays_while_it_alone_holds_a_result(bench: Bench) -> None:
    bench.scale(postprocess=0)
    bench.wait(lambda: bench.sizes()["postprocess"] == 0)
    bench.scale(simulate=1)
    bench.wait(lambda: bench.sizes()["simulate"] == 1)
    held = bench.client.submit(big, 1000, tag="simulate")
    bench.wait(held.done)
    bench.scale(simulate=0)
    time.sleep(1)
    assert held.result() == bytes(1000)
    assert bench.client.submit(big, 3, tag="simulate").result() == bytes(3)


@pytest.mark.slow
def test_tasks_of_a_pool_without_workers_wait_for_one(bench: Bench) -> None:
    bench.scale(simulate=0)
    bench.wait(lambda: bench.sizes()["simulate"] == 0)
    future = bench.client.submit(big, 7, tag="simulate")
    time.sleep(0.3)
    assert future.status == "pending"
    bench.scale(simulate=1)
    assert future.result(timeout=20) == bytes(7)


def test_never_more_workers_than_the_maximum_even_while_some_are_leaving(manifest: Callable[..., Path]) -> None:
    with ScalableSession.from_yaml(manifest(), target="threads") as session:
        bench = Bench(session)
        GATE.clear()
        held = bench.client.map(wait_for_gate, range(2), tag="simulate")
        bench.wait(lambda: all(bench.cluster.scheduler.workers[a].processing for a in _addresses(bench, "simulate")))
        bench.scale(simulate=0, postprocess=3)
        time.sleep(0.5)
        assert sum(bench.sizes().values()) == 3
        GATE.set()
        bench.client.gather(held)
        bench.wait(lambda: bench.sizes() == {"simulate": 0, "postprocess": 3})


def _addresses(bench: Bench, pool: str) -> list[str]:
    return [str(address) for name, address in bench.cluster.scheduler.aliases.items() if str(name).startswith(pool)]


def test_a_run_moves_a_worker_to_a_pool_that_has_work_and_none(manifest: Callable[..., Path]) -> None:
    text = MANIFEST.replace("max_workers: 3}", "max_workers: 1}").split("tasks:")[0] + (
        "tasks:\n  simulate: {component: simulate}\n"
    )
    with ScalableSession.from_yaml(manifest(text), target="threads") as session:
        client = session.start()
        assert client.worker_count("postprocess") == 0
        assert client.submit(big, 2, tag="postprocess").result(timeout=20) == bytes(2)
        assert client.submit(big, 3, tag="simulate").result(timeout=20) == bytes(3)
    decisions = [each for each in records(session.run_dir, "scaling") if each["event"] == "scale_decision"]
    assert [(each["tag"], each["direction"]) for each in decisions[:2]] in (
        [("simulate", "down"), ("postprocess", "up")],
        [("postprocess", "up"), ("simulate", "down")],
    )
    assert all(each["reason"] for each in decisions)


def test_tasks_of_a_pool_that_cannot_start_workers_fail_instead_of_waiting_for_ever(
    manifest: Callable[..., Path], tmp_path: Path
) -> None:
    broken = tmp_path / "broken.py"
    broken.write_text("raise RuntimeError('no licence')\n")
    text = MANIFEST.replace("{cpus: 2,", f"{{preload_script: {broken}, cpus: 2,").split("tasks:")[0] + (
        "tasks:\n  simulate: {component: simulate}\n"
    )
    with ScalableSession.from_yaml(manifest(text), target="threads") as session:
        client = session.start()
        waiting = client.submit(big, 2, tag="postprocess")
        with pytest.raises(WorkersLost, match="pool 'postprocess': 3 workers in a row did not start: no licence"):
            waiting.result(timeout=30)
        with pytest.raises(WorkersLost, match="pool 'postprocess'"):
            client.submit(big, 2, tag="postprocess")
        assert client.submit(big, 3, tag="simulate").result(timeout=20) == bytes(3)


def test_demand_counts_follow_tasks_and_end_at_nothing(manifest: Callable[..., Path]) -> None:
    with ScalableSession.from_yaml(manifest(), target="threads") as session:
        bench = Bench(session)
        GATE.clear()
        first = bench.client.map(wait_for_gate, range(5), tag="simulate")
        after = bench.client.submit(one, first, tag="postprocess")
        demand = bench.cluster.demand_counter.by_requirement
        simulate, postprocess = (("simulate", 1.0),), (("postprocess", 1.0),)
        bench.wait(lambda: demand().get(simulate) == (0, 5) and demand().get(postprocess) == (1, 0))
        GATE.set()
        assert after.result() == 1
        bench.wait(lambda: all(counts == (0, 0) for counts in demand().values()))


@pytest.mark.slow
def test_an_idle_run_whose_results_are_held_shrinks_and_still_works(manifest: Callable[..., Path]) -> None:
    text = MANIFEST.replace("max_workers: 3}", "adaptive: {minimum: 0, maximum: 4}}")
    with ScalableSession.from_yaml(manifest(text), target="threads") as session:
        client = session.start()
        held = client.map(big, range(8), tag="simulate")
        client.gather(held)
        bench = Bench.__new__(Bench)
        assert session._run is not None
        bench.cluster = session._run.cluster
        # All leave but the one that cannot, which is asked again and again.
        bench.wait(lambda: sum(bench.sizes().values()) == 1, 40)
        time.sleep(7)
        assert client.gather(held) == [bytes(i) for i in range(8)]
        assert client.submit(big, 3, tag="simulate").result(timeout=20) == bytes(3)


def test_tasks_that_a_capability_admits_one_by_one_get_a_worker_each(manifest: Callable[..., Path]) -> None:
    text = MANIFEST.replace("max_workers: 3}", "adaptive: {minimum: 0, maximum: 6}}")
    with ScalableSession.from_yaml(manifest(text), target="threads") as session:
        client = session.start()
        GATE.clear()
        held = client.map(wait_for_gate, range(4), capabilities={"gpu": 1})
        deadline = time.monotonic() + 20
        while client.worker_count("postprocess") < 4 and time.monotonic() < deadline:
            time.sleep(0.05)
        workers = client.worker_count("postprocess")
        GATE.set()
        client.gather(held)
    assert workers == 4
