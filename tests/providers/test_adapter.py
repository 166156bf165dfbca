"""An adapter that joins a running scheduler over TLS: what it brings, and what is left when it is gone."""

from __future__ import annotations

import asyncio
import math
import re
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from distributed import get_worker
from distributed.comm.core import connect

from scalable import ScalableSession
from scalable.errors import ProviderError, ProviderUnavailable, WorkersLost
from scalable.providers.adapters import accept
from scalable.providers.adapters.join import check_address
from scalable.providers.adapters.messages import (
    OPERATION,
    AdapterHeartbeat,
    CommandResponse,
    Message,
    PoolOffer,
    Registration,
    StartWorkerGroup,
    Status,
    Welcome,
    read_message,
)
from scalable.providers.adapters.offers import check_offers
from scalable.providers.batch.security import make_certificates, security_of
from tests.conftest import records
from tests.providers.elsewhere import Elsewhere, cluster_of, elsewhere, manifest_text, scaled, until, way_in

Write = Callable[..., Path]


def place(_: int, seconds: float = 0.0) -> str:
    time.sleep(seconds)
    return str(get_worker().name)


@pytest.fixture
def path(manifest: Write) -> Path:
    return manifest(manifest_text())


@pytest.fixture
def session(path: Path) -> Iterator[ScalableSession]:
    with ScalableSession.from_yaml(path, target="far") as session:
        session.start()
        yield session


def test_its_workers_run_tasks_of_the_component_beside_those_of_the_run(path: Path, session: ScalableSession) -> None:
    cluster = cluster_of(session)
    with elsewhere(path, session):
        assert session.router.route("compute-heavy").pools == ("simulate", "simulate@cloud")
        assert [cluster.pools[name].adapter for name in cluster.pools] == ["home", "cloud"]
        assert cluster.maximum == 3
        scaled(cluster, "simulate@cloud", 2)
        ran_on = Counter(session.client.gather(session.client.map(place, range(30), seconds=0.05, tag="simulate")))
        assert set(ran_on) == {"simulate-0", "simulate@cloud-0", "simulate@cloud-1"}
        scaled(cluster, "simulate@cloud", 0)
    assert all(one["component"] == "simulate" for one in records(session.run_dir, "tasks"))


def test_it_has_no_more_workers_than_its_target_may_have(path: Path, session: ScalableSession) -> None:
    cluster = cluster_of(session)
    with elsewhere(path, session):
        cluster.soon(cluster.scale, {"simulate@cloud": 5}, "test")
        until(lambda: cluster.pools["simulate@cloud"].up == 2, "as many as max_workers")
        time.sleep(0.2)
        assert len(cluster.pools["simulate@cloud"].members) == 2


def test_a_task_that_runs_out_of_memory_there_gets_a_larger_worker_there(path: Path, session: ScalableSession) -> None:
    cluster = cluster_of(session)
    with elsewhere(path, session):

        async def enlarge() -> str:
            return cluster.add_pool(cluster.pools["simulate@cloud"].shape.enlarged(2**20)).shape.name

        assert cluster.sync(enlarge) == "simulate@cloud+1"
        scaled(cluster, "simulate@cloud+1", 1)
        assert session.client.submit(place, 0, tag="simulate@cloud+1").result() == "simulate@cloud+1-0"


def test_when_it_leaves_its_tasks_run_elsewhere_and_its_pool_says_why_it_is_empty(
    path: Path, session: ScalableSession
) -> None:
    cluster = cluster_of(session)
    with elsewhere(path, session) as one:
        scaled(cluster, "simulate@cloud", 1)
        futures = session.client.map(place, range(6), seconds=0.1, tag="simulate")
        assert one.end() == "told to end"
        assert set(session.client.gather(futures)) >= {"simulate-0"}
    pool = cluster.pools["simulate@cloud"]
    until(lambda: not pool.members, "its workers are out of the books")
    assert "adapter 'cloud' is dropped" in pool.broken
    assert list(cluster.adapters) == ["home"]


def test_tasks_that_only_it_could_run_fail_with_its_name(path: Path, session: ScalableSession) -> None:
    cluster = cluster_of(session)
    with elsewhere(path, session) as one:
        scaled(cluster, "simulate@cloud", 1)
        future = session.client.submit(place, 0, seconds=5, tag="simulate@cloud")
        until(lambda: future.status == "pending" and cluster.scheduler.tasks, "the task runs")
        one.end()
        with pytest.raises(WorkersLost, match="adapter 'cloud' is dropped"):
            future.result(timeout=20)


def test_after_it_is_gone_it_may_join_again(path: Path, session: ScalableSession) -> None:
    cluster = cluster_of(session)
    with elsewhere(path, session):
        scaled(cluster, "simulate@cloud", 1)
    until(lambda: cluster.pools["simulate@cloud"].broken, "it is dropped")
    with elsewhere(path, session):
        assert not cluster.pools["simulate@cloud"].broken
        scaled(cluster, "simulate@cloud", 1)
        assert session.client.submit(place, 0, tag="simulate@cloud").result() == "simulate@cloud-1"
    until(lambda: "cloud" not in cluster.adapters, "it is dropped again")
    session.close()
    events = [(one["event"], one["adapter"]) for one in records(session.run_dir, "adapters")]
    assert events == [("joined", "cloud"), ("dropped", "cloud")] * 2


def test_it_ends_with_the_run(path: Path, session: ScalableSession) -> None:
    with elsewhere(path, session) as one:
        scaled(cluster_of(session), "simulate@cloud", 1)
        session.close()
        assert "scheduler ended" in one.wait()


def test_a_name_that_is_taken_is_refused(path: Path, session: ScalableSession) -> None:
    with elsewhere(path, session):
        for target in ("cloud", "home"):
            outcome = Elsewhere(path, *way_in(session), target).wait()
            assert isinstance(outcome, ProviderError)
            assert f"there is an adapter '{target}' already" in str(outcome)
        assert set(cluster_of(session).adapters) == {"home", "cloud"}


def test_another_runs_certificate_is_refused(path: Path, session: ScalableSession, tmp_path: Path) -> None:
    address, _ = way_in(session)
    outcome = Elsewhere(path, address, make_certificates(tmp_path / "other")).wait()
    assert isinstance(outcome, ProviderUnavailable)
    assert "certificates" in str(outcome)
    assert list(cluster_of(session).adapters) == ["home"]


class Scripted:
    """An adapter that does what a test says, message by message."""

    def __init__(self, session: ScalableSession, play: Callable[[Scripted], Any], registration: Registration) -> None:
        self._address, tls = way_in(session)
        self._arguments = security_of(tls).get_connection_args("client")
        self._registration = registration
        self._play = play
        self.outcome: Any = None
        self.thread = threading.Thread(target=lambda: asyncio.run(self._run()))
        self.thread.start()

    async def _run(self) -> None:
        self.comm = await connect(self._address, **self._arguments)
        await self.comm.write({"op": OPERATION, "registration": self._registration.to_wire(), "reply": False})
        answer = read_message(await self.comm.read())
        assert isinstance(answer, Welcome)
        self.outcome = answer.refused or await self._play(self)
        self.comm.abort()

    async def say(self, message: Message) -> None:
        await self.comm.write(message.to_wire())

    async def hear(self, kind: type[Message]) -> Any:
        while True:
            for facts in await self.comm.read():
                if isinstance(message := read_message(facts), kind):
                    return message


def registration(**changes: Any) -> Registration:
    facts = {"protocol": 1, "adapter_id": "cloud", "max_workers": None, "workers_per_group": 1, "pools": ()}
    return Registration(**{**facts, "pools": (PoolOffer("simulate", 1),), **changes})


def test_who_speaks_another_protocol_is_told_which(session: ScalableSession) -> None:
    async def play(one: Scripted) -> None:
        raise AssertionError("it was taken on")

    scripted = Scripted(session, play, registration(protocol=2))
    scripted.thread.join(20)
    assert "it speaks protocol 2, the scheduler 1" in scripted.outcome


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"adapter_id": "../../x"}, "no name of a target"),
        ({"max_workers": -5}, "max_workers must be a whole number from 1"),
        ({"workers_per_group": 0}, "workers_per_group must be a whole number from 1"),
        ({"pools": ()}, "no pools"),
        ({"pools": None}, "cannot be read"),
        ({"pools": ("simulate",)}, "cannot be read"),
        ({"pools": (PoolOffer("a; b", 1),)}, "no name of a component"),
        ({"pools": (PoolOffer("simulate", 1), PoolOffer("simulate", 2))}, "two pools"),
        *(
            ({"pools": (replace(PoolOffer("simulate", 1), **{name: value}),)}, f"'simulate': {name} must be")
            for name, value in [
                ("threads", "abc"), ("threads", True), ("cpus", None), ("cpus", math.nan), ("cpus", math.inf),
                ("memory_bytes", 0), ("gpus", -1), ("tags", None), ("tags", ("a b",)), ("capabilities", {"x": 0}),
                ("capabilities", {"x": "y"}), ("capabilities", None),
            ]
        ),
    ],
)  # fmt: skip
def test_what_an_adapter_says_of_itself_is_looked_at_before_it_is_taken_on(wrong: dict[str, Any], said: str) -> None:
    facts = {**registration().to_wire(), **registration(**{**wrong, "pools": ()}).to_wire()}
    pools = wrong.get("pools", (PoolOffer("simulate", 1),))
    facts["pools"] = pools and tuple(one if isinstance(one, str) else one.to_wire() for one in pools)
    with pytest.raises(ProviderError, match=re.escape(said)):
        check_offers(Registration.from_wire(facts))


def test_nothing_stays_of_an_adapter_that_is_refused(session: ScalableSession) -> None:
    async def play(one: Scripted) -> None:
        raise AssertionError("it was taken on")

    scripted = Scripted(session, play, registration(pools=(PoolOffer("simulate", 0),)))
    scripted.thread.join(20)
    assert "threads must be a whole number from 1, not 0" in scripted.outcome
    assert (list(cluster_of(session).adapters), list(cluster_of(session).pools)) == (["home"], ["simulate"])


def test_one_that_falls_silent_is_dropped_though_its_connection_stands(
    session: ScalableSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(accept, "_LOOK_S", 0.05)
    monkeypatch.setattr(accept, "SILENT_S", 0.5)
    cluster = cluster_of(session)

    async def play(one: Scripted) -> float:
        for _ in range(10):
            await one.say(AdapterHeartbeat(None, 1, {}, time.time()))
            await asyncio.sleep(0.1)
        silent_since = time.monotonic()
        assert "cloud" in cluster.adapters
        while "cloud" in cluster.adapters:
            await asyncio.sleep(0.01)
        return time.monotonic() - silent_since

    scripted = Scripted(session, play, registration())
    until(lambda: "simulate@cloud" in cluster.pools, "it joined")
    cluster.soon(cluster.scale, {"simulate@cloud": 2}, "test")
    scripted.thread.join(20)
    assert 0.2 < scripted.outcome < 3
    pool = cluster.pools["simulate@cloud"]
    until(lambda: not pool.members, "groups that were asked for are out of the books")
    assert "has been silent" in pool.broken


def test_an_adapter_that_is_full_is_asked_again_later_and_its_pool_lives_on(session: ScalableSession) -> None:
    cluster, looked = cluster_of(session), threading.Event()

    async def play(one: Scripted) -> list[StartWorkerGroup]:
        asked = []
        for status, retry in ((Status.WorkerGroupTooMuch, 1.0), (Status.UnknownAction, None)):
            asked.append(await one.hear(StartWorkerGroup))
            response = CommandResponse(
                asked[-1].request_id, "StartWorkerGroup", status, message="quota of 0 instances", retry_after_s=retry
            )
            assert not cluster.pools["simulate@cloud"].broken
            await one.say(response)
        await asyncio.to_thread(looked.wait, 20)
        return asked

    scripted = Scripted(session, play, registration())
    until(lambda: "simulate@cloud" in cluster.pools, "it joined")
    assert cluster.maximum is None
    cluster.soon(cluster.scale, {"simulate@cloud": 1}, "test")
    until(lambda: "quota of 0 instances" in cluster.pools["simulate@cloud"].broken, "what it cannot do is final")
    looked.set()
    scripted.thread.join(20)
    first, second = scripted.outcome
    assert first.capabilities["simulate"] > 0
    assert first.worker_group_id == ""
    assert second.request_id != first.request_id


@pytest.mark.parametrize(
    ("address", "secure", "word"),
    [
        ("tcp://10.0.0.1:8786", False, "--insecure"),
        ("tcp://10.0.0.1:8786", True, "not encrypted"),
        ("tls://10.0.0.1:8786", False, "--tls-ca"),
        ("10.0.0.1:8786", True, "looks like tls://"),
        ("tls://10.0.0.1", True, "looks like tls://"),
        ("tls://10.0.0.1:x", True, "looks like tls://"),
    ],
)
def test_nothing_goes_to_another_machine_in_the_clear(address: str, secure: bool, word: str) -> None:
    with pytest.raises(ProviderError, match=word):
        check_address(address, secure=secure)


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "[::1]"])
def test_on_one_machine_no_certificate_is_needed(host: str) -> None:
    check_address(f"tcp://{host}:8786", secure=False)
    check_address("tcp://10.0.0.1:8786", secure=False, insecure=True)
    check_address("tls://10.0.0.1:8786", secure=True)
