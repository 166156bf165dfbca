"""The control protocol as an adapter carries it out: groups, their states, and what is refused."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Generator
from dataclasses import replace
from typing import Any

import pytest
from distributed.protocol import dumps, loads

from scalable.errors import ProviderError, SubmitFailed
from scalable.pools.pool import WorkerAdapter, WorkerEnd, WorkerProcess
from scalable.pools.shape import PoolShape
from scalable.providers.adapters.groups import WorkerGroups
from scalable.providers.adapters.messages import (
    AdapterHeartbeat,
    CommandResponse,
    Message,
    PoolOffer,
    Registration,
    ShutdownWorkerGroup,
    StartWorkerGroup,
    Status,
    WorkerReport,
    WorkerState,
    read_message,
)
from scalable.spec import ComponentSpec, ResourceRequest

SHAPE = PoolShape(ComponentSpec("simulate", ResourceRequest(1, 2**30), capabilities={"scratch": 2}), 1).at("aws")


class Process:
    """A worker that comes up when it is told to, here and at once or by somebody else."""

    def __init__(self) -> None:
        self.up = asyncio.Event()
        self.closed = False
        self.trouble: Exception | None = None

    def __await__(self) -> Generator[Any, Any, None]:
        return self._start().__await__()

    async def _start(self) -> None:
        await self.up.wait()
        if self.trouble is not None:
            raise self.trouble

    async def close(self) -> None:
        self.closed = True


class Job(Process):
    def __init__(self) -> None:
        super().__init__()
        self.up.set()
        self.group, self.ends_at, self.note = "job", 100.0, "PENDING (Priority)"
        self.end: asyncio.Future[WorkerEnd] = asyncio.get_running_loop().create_future()
        self.asked: list[bool] = []

    async def over(self, *, lost: bool) -> WorkerEnd:
        self.asked.append(lost)
        return await asyncio.shield(self.end)


class Stage:
    """An adapter with what it has made, by the workers' names."""

    def __init__(self, kind: Callable[[], WorkerProcess] = Process, limit: int | None = 3, group_size: int = 2) -> None:
        self.made: dict[str, Any] = {}
        self.shapes: dict[str, PoolShape] = {}
        self.trouble: Exception | None = None

        def factory(shape: PoolShape, name: str, scheduler_address: str) -> WorkerProcess:
            assert scheduler_address == "tls://scheduler:1"
            self.shapes[name] = shape
            self.made[name] = process = kind()
            if self.trouble is not None:
                self.made[name].trouble = self.trouble
            return process

        self.groups = WorkerGroups(WorkerAdapter("aws", factory, limit, group_size), [SHAPE], "tls://scheduler:1")

    async def start(self, *names: str, pool: str = "simulate@aws", **capabilities: float) -> CommandResponse:
        return await self.groups.start_group(StartWorkerGroup(7, pool, names, capabilities))

    async def stop(self, group_id: str) -> CommandResponse:
        return await self.groups.shutdown_group(ShutdownWorkerGroup(8, group_id))

    async def close(self) -> None:
        # A start under way is not interrupted.
        for one in self.made.values():
            one.up.set()
        await self.groups.close()

    def news(self) -> dict[str, str]:
        return {one.worker_id: str(one.state) for one in self.groups.heartbeat().workers}


def played(play: Callable[[], Awaitable[None]]) -> None:
    async def timed() -> None:
        await asyncio.wait_for(play(), 10)

    asyncio.run(timed())


def test_a_group_starts_with_its_workers_and_what_they_offer() -> None:
    async def play() -> None:
        stage = Stage()
        answer = await stage.start("simulate@aws-0~-0", "simulate@aws-0~-1", simulate=1, scratch=2)
        assert (answer.request_id, answer.command, answer.status) == (7, "StartWorkerGroup", Status.Success)
        assert answer.worker_group_id == "simulate@aws-0"
        assert answer.worker_ids == ("simulate@aws-0~-0", "simulate@aws-0~-1")
        assert answer.capabilities == dict(SHAPE.labels)
        assert stage.news() == dict.fromkeys(answer.worker_ids, "pending")
        await stage.close()
        assert all(one.closed for one in stage.made.values())

    played(play)


def test_workers_of_a_larger_pool_are_that_much_larger() -> None:
    async def play() -> None:
        stage = Stage()
        assert (await stage.start("w", pool="simulate@aws+512")).status is Status.Success
        assert stage.shapes["w"].name == "simulate@aws+512"
        assert stage.shapes["w"].component.resources.memory_bytes == 2**30 + 512 * 2**20
        await stage.close()

    played(play)


def test_more_workers_than_the_limit_are_too_much_until_others_are_gone() -> None:
    async def play() -> None:
        stage = Stage(limit=3)
        await stage.start("a~-0", "a~-1")
        answer = await stage.start("b~-0", "b~-1")
        assert answer.status is Status.WorkerGroupTooMuch
        assert answer.retry_after_s
        assert list(stage.made) == ["a~-0", "a~-1"]
        for one in stage.made.values():
            one.up.set()
        await stage.stop("a")
        assert (await stage.start("b~-0", "b~-1")).status is Status.Success
        await stage.close()

    played(play)


def test_no_limit_is_said_as_such() -> None:
    async def play() -> None:
        assert Stage(limit=None).groups.heartbeat().max_worker_groups is None
        heartbeat = Stage(limit=3, group_size=2).groups.heartbeat()
        assert (heartbeat.max_worker_groups, heartbeat.workers_per_group) == (2, 2)
        assert heartbeat.capabilities == dict(SHAPE.labels)

    played(play)


@pytest.mark.parametrize(
    ("names", "more", "word"),
    [
        (("w",), {"pool": "other@aws"}, "no pool other@aws"),
        (("w",), {"gpu": 1}, "do not offer gpu"),
        (("w",), {"scratch": 3}, "do not offer scratch"),
        ((), {}, "1 to 2 workers, not 0"),
        (("x", "y", "z"), {}, "1 to 2 workers, not 3"),
    ],
)
def test_what_an_adapter_cannot_serve_it_refuses_for_good(
    names: tuple[str, ...], more: dict[str, Any], word: str
) -> None:
    async def play() -> None:
        stage = Stage()
        answer = await stage.start(*names, **more)
        assert answer.status is Status.UnknownAction
        assert word in answer.message
        assert answer.retry_after_s is None
        assert stage.made == {}

    played(play)


def test_a_group_ends_once_and_only_by_its_own_identifier() -> None:
    async def play() -> None:
        stage = Stage()
        await stage.start("a")
        stage.made["a"].up.set()
        assert (await stage.stop("")).status is Status.WorkerGroupIDNotSpecified
        assert (await stage.stop("b")).status is Status.WorkerGroupIDNotFound
        assert not stage.made["a"].closed
        answer = await stage.stop("a")
        assert (answer.status, answer.worker_ids) == (Status.Success, ("a",))
        assert stage.made["a"].closed
        assert (await stage.stop("a")).status is Status.WorkerGroupIDNotFound

    played(play)


@pytest.mark.parametrize(("passing", "status"), [(True, Status.WorkerGroupTooMuch), (False, Status.UnknownAction)])
def test_jobs_that_are_refused_leave_nothing_and_say_whether_it_passes(passing: bool, status: Status) -> None:
    async def play() -> None:
        stage = Stage(Job)
        stage.trouble = SubmitFailed("sbatch", 1, "too many jobs", passing=passing)
        answer = await stage.start("a~-0", "a~-1")
        assert answer.status is status
        assert "too many jobs" in answer.message
        assert (answer.retry_after_s is not None) is passing
        assert all(one.closed for one in stage.made.values())
        stage.trouble = None
        assert (await stage.start("a~-0", "a~-1")).status is Status.Success
        await stage.close()

    played(play)


def test_a_heartbeat_tells_of_each_change_once() -> None:
    async def play() -> None:
        stage = Stage()
        await stage.start("a~-0", "a~-1")
        assert stage.news() == {"a~-0": "pending", "a~-1": "pending"}
        assert stage.news() == {}
        stage.made["a~-0"].up.set()
        stage.made["a~-1"].trouble = ProviderError("no such image")
        stage.made["a~-1"].up.set()
        await asyncio.wait_for(stage.groups.changed.wait(), 1)
        await asyncio.sleep(0)
        reports = {one.worker_id: one for one in stage.groups.heartbeat().workers}
        assert reports["a~-0"].state == WorkerState.READY
        assert reports["a~-1"].state == WorkerState.FAILED
        assert "no such image" in reports["a~-1"].text
        assert stage.news() == {}

    played(play)


def test_a_job_is_followed_until_its_worker_connects_and_again_when_it_is_lost() -> None:
    async def play() -> None:
        stage = Stage(Job)
        await stage.start("a")
        report = stage.groups.heartbeat().workers[0]
        assert (report.state, report.note, report.ends_at) == (WorkerState.PENDING, "PENDING (Priority)", 100.0)
        await asyncio.sleep(0)
        stage.groups.seen("a", lost=False)
        assert stage.news() == {"a": "ready"}
        stage.groups.seen("a", lost=True)
        await asyncio.sleep(0)
        assert stage.made["a"].asked == [False, True]
        stage.made["a"].end.set_result(WorkerEnd("job 1 ended as NODE_FAIL", outside=True))
        await asyncio.wait_for(stage.groups.changed.wait(), 1)
        report = stage.groups.heartbeat().workers[0]
        assert (report.state, report.text, report.outside) == (WorkerState.FAILED, "job 1 ended as NODE_FAIL", True)
        await stage.close()

    played(play)


@pytest.mark.parametrize(
    "message",
    [
        Registration(1, "aws", None, 2, (PoolOffer("simulate", 2, 0.5, None, 1, ("a",), {"x": float("inf")}),)),
        AdapterHeartbeat(None, 2, {"gpu": 1.0}, 5.0, (WorkerReport("w", WorkerState.FAILED, text="x", hopeless=True),)),
        StartWorkerGroup(1, "simulate@aws", ("w",), {"simulate": 1.0}),
        CommandResponse(1, "StartWorkerGroup", Status.WorkerGroupTooMuch, "g", ("w",), {}, "full", 5.0),
    ],
    ids=lambda one: type(one).__name__,
)  # fmt: skip
def test_messages_cross_a_connection_of_dask_unchanged(message: Message) -> None:
    assert read_message(loads(dumps(message.to_wire()))) == message


def test_a_newer_message_is_read_for_what_is_known_of_it() -> None:
    message = StartWorkerGroup(1, "simulate@aws", ("w",), {})
    assert read_message({**message.to_wire(), "colour": "green"}) == message


@pytest.mark.parametrize("facts", [None, {}, {"kind": "Nonsense"}, {"kind": "StartWorkerGroup"}, ["x"]])
def test_what_is_no_message_is_an_error_that_says_so(facts: Any) -> None:
    with pytest.raises(ProviderError, match="message"):
        read_message(facts)


def test_a_response_of_unknown_status_is_no_message() -> None:
    response = CommandResponse(1, "StartWorkerGroup", Status.Success)
    assert read_message(replace(response, status=Status.UnknownAction).to_wire())
    with pytest.raises(ProviderError, match="unknown status"):
        read_message({**response.to_wire(), "status": 9})
