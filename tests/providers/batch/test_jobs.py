"""How jobs are submitted, asked about and cancelled: few commands, and patience with a busy controller."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scalable.errors import SubmitFailed
from scalable.pools.pool import WorkerEnd
from scalable.pools.shape import PoolShape
from scalable.providers.batch import jobs as module
from scalable.providers.batch.jobs import BatchWorker, Jobs, _batches, _condensed, _Job
from scalable.providers.batch.queue import comment_of
from scalable.providers.batch.systems import SYSTEMS
from scalable.telemetry.owner import Owner
from tests.providers.batch.made import LAUNCH, component, options

ADDRESS = "tls://10.0.0.1:8786"

_SBATCH = """\
#!/bin/sh
echo "sbatch $*" >>{folder}/calls
env >{folder}/environment
if [ -s {folder}/failures ]; then
  head -n 1 {folder}/failures >&2
  sed -i 1d {folder}/failures
  exit 1
fi
case "$*" in
  *--array=*)
    if [ -e {folder}/no-arrays ]; then echo "sbatch: error: Invalid job array specification" >&2; exit 1; fi ;;
esac
# Each has a number of its own, however many come at once.
number=100
until mkdir {folder}/job-$number 2>/dev/null; do number=$((number + 1)); done
echo "$number{cluster}"
"""
_OTHER = '#!/bin/sh\necho "{name} $*" >>{folder}/calls\ncat {folder}/{name}.out 2>/dev/null\nexit 0\n'


class Commands:
    """Slurm's commands, by which nothing happens."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir()
        (folder / "calls").touch()
        self.write("sbatch", _SBATCH.format(folder=folder, cluster=""))
        for name in ("scancel", "squeue"):
            self.write(name, _OTHER.format(folder=folder, name=name))

    def write(self, name: str, text: str) -> None:
        path = self.folder / name
        path.write_text(text)
        path.chmod(0o755)

    def fail(self, *messages: str) -> None:
        """Let the next submissions fail, with these words."""
        (self.folder / "failures").write_text("".join(f"{message}\n" for message in messages))

    def queue(self, *jobs: tuple[str, str], node: str = "n1", end: str = "NONE", submitted: float = 0) -> None:
        """Let squeue tell of these jobs, each in some state."""
        rest = f"{node}|{end}|{submitted:.0f}|{LAUNCH.run_id}|{comment_of('simulate', Owner.mine())}|None"
        (self.folder / "new").write_text("".join(f"{job_id}|{state}|{rest}\n" for job_id, state in jobs))
        # At once, or half of it might be told.
        (self.folder / "new").replace(self.folder / "squeue.out")

    def calls(self, name: str) -> list[str]:
        lines = (self.folder / "calls").read_text().splitlines()
        return [line.partition(" ")[2] for line in lines if line.startswith(f"{name} ")]


@pytest.fixture
def commands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Commands:
    made = Commands(tmp_path / "bin")
    monkeypatch.setenv("PATH", f"{made.folder}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setattr(module, "_PAUSES_S", (0.01, 0.01, 0.01))
    return made


class Run:
    """What a test has of the jobs of a run."""

    def __init__(self, logs: Path, system: str = "slurm") -> None:
        logs.mkdir(exist_ok=True)
        self.logs = logs
        self.watched: list[str] = []
        self.records: list[Any] = []
        launch = replace(LAUNCH, log_directory=logs)
        self.jobs = Jobs(SYSTEMS[system], options(system), launch, self.watched.extend)
        self.jobs.record = self.records.append

    def workers(self, *names: str) -> list[BatchWorker]:
        pools = {name: name.partition("~")[0].rpartition("-")[0] for name in names}
        shapes = {name: PoolShape.of(replace(component(), name=pool)) for name, pool in pools.items()}
        return [BatchWorker(self.jobs, shapes[name], name, ADDRESS) for name in names]


def play(tmp_path: Path, scene: Callable[[Run], Awaitable[None]], system: str = "slurm") -> Run:
    """Let something happen to the jobs of a run, and end it."""

    async def all_of_it() -> Run:
        run = Run(tmp_path / "logs", system)
        try:
            await scene(run)
        finally:
            await run.jobs.stop()
        return run

    return asyncio.run(all_of_it())


async def start(workers: Sequence[BatchWorker]) -> list[Any]:
    async def one(worker: BatchWorker) -> None:
        await worker

    return await asyncio.gather(*map(one, workers), return_exceptions=True)


async def close(workers: Sequence[BatchWorker]) -> None:
    await asyncio.gather(*(worker.close() for worker in workers))


def test_workers_of_a_pool_that_are_wanted_together_are_one_array(tmp_path: Path, commands: Commands) -> None:
    async def scene(run: Run) -> None:
        workers = run.workers("simulate-0", "simulate-1", "simulate-2", "rank-0")
        assert await start(workers) == [None] * 4
        await close(workers[:2])
        await close(workers[2:])

    run = play(tmp_path, scene)
    assert sorted(commands.calls("sbatch")) == [
        f"--parsable --array=0-2 {run.logs}/simulate-0.sh",
        f"--parsable {run.logs}/rank-0.sh",
    ]
    assert sorted(run.watched) in (["100", "101_0", "101_1", "101_2"], ["100_0", "100_1", "100_2", "101"])
    array, single = ("100", "101") if "101" in run.watched else ("101", "100")
    first, second, last = commands.calls("scancel")
    # However well it went: nothing is left.
    assert last == f"--name={LAUNCH.run_id}"
    assert run.jobs.clean
    assert first == f"{array}_[0-1]"
    assert sorted(second.split()) == sorted([f"{array}_[2]", single])
    assert [one["event"] for one in run.records] == ["submitted", "submitted", "cancelled", "cancelled"]


@pytest.mark.parametrize(
    "words",
    [
        "sbatch: error: Batch job submission failed: Socket timed out on send/recv operation",
        "sbatch: error: Unable to contact slurm controller (connect failure)",
        "sbatch: error: Slurm temporarily unable to accept job, sleeping and retrying",
    ],
)
def test_a_controller_that_is_busy_is_asked_again(
    tmp_path: Path, commands: Commands, caplog: pytest.LogCaptureFixture, words: str
) -> None:
    commands.fail(words, words)

    async def scene(run: Run) -> None:
        assert await start(run.workers("simulate-0")) == [None]

    run = play(tmp_path, scene)
    assert len(commands.calls("sbatch")) == 3
    assert run.watched == ["100"]
    assert caplog.text.count(words) == 2
    # One that failed may have been taken all the same, with a number that nobody knows.
    assert commands.calls("scancel") == [f"--name={LAUNCH.run_id}"]


def test_what_does_not_pass_is_not_tried_again(tmp_path: Path, commands: Commands) -> None:
    words = "sbatch: error: Batch job submission failed: Invalid account or account/partition combination specified"
    commands.fail(words)

    async def scene(run: Run) -> None:
        (error,) = await start(run.workers("simulate-0"))
        assert isinstance(error, SubmitFailed)
        assert words in str(error)

    run = play(tmp_path, scene)
    assert len(commands.calls("sbatch")) == 1
    assert commands.calls("scancel") == []
    assert run.records == []


def test_patience_has_an_end(tmp_path: Path, commands: Commands) -> None:
    commands.fail(*["sbatch: error: Socket timed out"] * 9)

    async def scene(run: Run) -> None:
        (error,) = await start(run.workers("simulate-0"))
        assert isinstance(error, SubmitFailed)

    play(tmp_path, scene)
    assert len(commands.calls("sbatch")) == 4


def test_a_cluster_without_arrays_gets_one_job_after_the_other(tmp_path: Path, commands: Commands) -> None:
    (commands.folder / "no-arrays").touch()

    async def scene(run: Run) -> None:
        assert await start(run.workers("simulate-0", "simulate-1", "simulate-2")) == [None] * 3
        # It has been found out, and is not tried again.
        assert await start(run.workers("simulate-3", "simulate-4")) == [None] * 2

    run = play(tmp_path, scene)
    assert sum("--array" in call for call in commands.calls("sbatch")) == 1
    assert sorted(run.watched) == ["100", "101", "102", "103", "104"]
    # Each has a script of its own, that names its worker.
    for number in range(5):
        assert f"--name simulate-{number} " in (run.logs / f"simulate-{number}.sh").read_text()


def test_what_a_caller_sets_for_slurm_does_not_go_before_the_manifest(
    tmp_path: Path, commands: Commands, monkeypatch: pytest.MonkeyPatch
) -> None:
    foreign = ("SBATCH_PARTITION", "SBATCH_ACCOUNT", "SLURM_JOB_ID", "SLURM_MEM_PER_NODE", "SCANCEL_STATE")
    for name in foreign:
        monkeypatch.setenv(name, "7")
    monkeypatch.setenv("SLURM_CONF", "/etc/slurm/other.conf")
    monkeypatch.setenv("OTHERS", "stay")

    async def scene(run: Run) -> None:
        assert await start(run.workers("simulate-0")) == [None]

    play(tmp_path, scene)
    seen = dict(line.partition("=")[::2] for line in (commands.folder / "environment").read_text().splitlines())
    assert not set(foreign) & set(seen)
    assert (seen["SLURM_CONF"], seen["OTHERS"]) == ("/etc/slurm/other.conf", "stay")


def test_a_number_of_a_federated_cluster_is_understood_and_no_number_is_an_error(
    tmp_path: Path, commands: Commands
) -> None:
    commands.write("sbatch", _SBATCH.format(folder=commands.folder, cluster=";second"))

    async def scene(run: Run) -> None:
        assert await start(run.workers("simulate-0")) == [None]
        commands.write("sbatch", "#!/bin/sh\necho Welcome to the cluster!\n")
        (error,) = await start(run.workers("simulate-1"))
        assert isinstance(error, SubmitFailed)
        assert "Welcome to the cluster!" in str(error)

    assert play(tmp_path, scene).watched == ["100"]


def test_a_worker_that_is_closed_before_its_job_was_taken_leaves_no_job(tmp_path: Path, commands: Commands) -> None:
    slow = _SBATCH.replace("env >", "sleep 0.5\nenv >")
    commands.write("sbatch", slow.format(folder=commands.folder, cluster=""))

    async def scene(run: Run) -> None:
        (worker,) = run.workers("simulate-0")
        starting = asyncio.ensure_future(start([worker]))
        while not commands.calls("sbatch"):
            await asyncio.sleep(0.01)
        await worker.close()
        await starting

    assert play(tmp_path, scene).watched == ["100"]
    assert commands.calls("scancel") == ["100", f"--name={LAUNCH.run_id}"]


def test_a_worker_that_is_closed_before_anybody_was_asked_costs_nothing(
    tmp_path: Path, commands: Commands, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scene(run: Run) -> None:
        (worker,) = run.workers("simulate-0")
        starting = asyncio.ensure_future(start([worker]))
        await asyncio.sleep(0.01)
        await worker.close()
        await starting

    monkeypatch.setattr(module, "_GATHER_S", 2.0)
    play(tmp_path, scene)
    assert commands.calls("sbatch") == commands.calls("scancel") == []


def test_scripts_are_for_their_owner_only(tmp_path: Path, commands: Commands) -> None:
    async def scene(run: Run) -> None:
        await start(run.workers("simulate-0"))

    run = play(tmp_path, scene)
    # A component's env may hold a token.
    assert (run.logs / "simulate-0.sh").stat().st_mode & 0o077 == 0


def test_while_all_jobs_run_and_nothing_is_awaited_nobody_is_asked(tmp_path: Path, commands: Commands) -> None:
    commands.queue(*((f"100_{element}", "RUNNING") for element in range(2)))

    async def scene(run: Run) -> None:
        workers = run.workers("simulate-0", "simulate-1")
        await start(workers)
        awaited = [asyncio.ensure_future(one.over(lost=False)) for one in workers]
        while not commands.calls("squeue"):
            await asyncio.sleep(0.01)
        for one in awaited:
            one.cancel()
        await asyncio.gather(*awaited, return_exceptions=True)
        before, until = len(commands.calls("squeue")), time.monotonic() + 2.5
        while time.monotonic() < until:
            await asyncio.sleep(0.1)
        assert len(commands.calls("squeue")) <= before + 1

    play(tmp_path, scene)


def test_a_job_that_is_in_the_queue_no_more_is_over(tmp_path: Path, commands: Commands) -> None:
    async def scene(run: Run) -> None:
        (worker,) = run.workers("simulate-0")
        await start([worker])
        end = await asyncio.wait_for(worker.over(lost=False), 30)
        assert "job 100 is not in Slurm's queue any more" in end.text
        assert not end.hopeless
        # Somebody took it, so that no task is to blame.
        assert end.outside
        # One answer may be of before it was taken.
        assert len(commands.calls("squeue")) >= 2
        # The answers may have been incomplete.
        await worker.close()
        assert commands.calls("scancel") == ["100"]

    play(tmp_path, scene)


async def until(holds: Callable[[], Any]) -> None:
    deadline = time.monotonic() + 60
    while not holds():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.01)


# How a job ends


def the_end(
    tmp_path: Path, commands: Commands, state: str, *, arrived: bool = True, lost: bool = True, workers: int = 1
) -> WorkerEnd:
    """Let the job of a worker end in some state, and return what is said of it."""
    ends: list[WorkerEnd] = []

    async def scene(run: Run) -> None:
        names = ["simulate-0"] if workers == 1 else [f"simulate-0~-{place}" for place in range(workers)]
        them = run.workers(*names)
        commands.queue(("100", "RUNNING"))
        await start(them)
        over = asyncio.ensure_future(them[0].over(lost=lost))
        job = run.jobs.job(them[0].group)
        assert job is not None
        await until(lambda: job.runs)
        if arrived and not lost:
            over.cancel()
            await asyncio.gather(over, return_exceptions=True)
        commands.queue(("100", state))
        if over.cancelled():
            # Slurm is looked at because of another.
            while not job.end.done():
                await run.jobs._look_once()
            over = asyncio.ensure_future(them[0].over(lost=False))
        ends.append(await asyncio.wait_for(over, 60))

    play(tmp_path, scene)
    return ends[0]


@pytest.mark.parametrize(
    ("state", "outside"),
    [
        ("CANCELLED", True),
        ("PREEMPTED", True),
        ("NODE_FAIL", True),
        ("TIMEOUT", True),
        ("BOOT_FAIL", True),
        ("DEADLINE", True),
        ("REVOKED", True),
        ("PENDING", True),
        ("FAILED", False),
        ("COMPLETED", False),
        ("OUT_OF_MEMORY", False),
    ],
)
def test_a_task_is_not_to_blame_for_what_somebody_else_ended(
    tmp_path: Path, commands: Commands, state: str, outside: bool
) -> None:
    assert the_end(tmp_path, commands, state).outside is outside


@pytest.mark.parametrize(("workers", "told"), [(1, True), (2, False)])
def test_whose_memory_it_was_is_known_only_where_a_job_has_one_worker(
    tmp_path: Path, commands: Commands, workers: int, told: bool
) -> None:
    assert the_end(tmp_path, commands, "OUT_OF_MEMORY", workers=workers).out_of_memory is told


@pytest.mark.parametrize("lost", [True, False])
def test_of_a_job_whose_worker_was_up_nobody_says_that_it_never_connected(
    tmp_path: Path, commands: Commands, lost: bool
) -> None:
    assert the_end(tmp_path, commands, "TIMEOUT", lost=lost).text == "job 100 on n1 ended as TIMEOUT"


def test_of_a_job_whose_worker_never_came_the_end_of_its_log_is_told(tmp_path: Path, commands: Commands) -> None:
    (tmp_path / "logs").mkdir()
    (tmp_path / "logs" / "simulate-100.log").write_bytes((b"x" * 10_000 + b"\n") * 10 + b"OSError: no \xff\n")
    text = the_end(tmp_path, commands, "FAILED", arrived=False, lost=False).text
    assert f"ended as FAILED before its worker connected to {ADDRESS}; its log ends:" in text
    assert text.endswith("x\n  OSError: no \N{REPLACEMENT CHARACTER}")
    # Of a log that may be of any size, no more is read.
    assert text.count("x") < 10_000


@pytest.mark.parametrize("ahead", [0, 7200, -7200])
def test_the_end_of_a_job_is_told_by_the_clock_of_this_machine(
    tmp_path: Path, commands: Commands, ahead: float
) -> None:
    async def scene(run: Run) -> None:
        (worker,) = run.workers("simulate-0")
        await start([worker])
        now = time.time()
        commands.queue(("100", "RUNNING"), end=f"{now + ahead + 600:.0f}", submitted=now + ahead)
        await until(lambda: worker.ends_at)
        assert worker.ends_at == pytest.approx(now + 600, abs=5)

    play(tmp_path, scene)


def test_one_answer_that_cannot_be_dealt_with_does_not_end_looking(
    tmp_path: Path, commands: Commands, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    parse = module.parse_squeue
    answers = iter([ValueError("odd"), None])

    def once_not(text: str) -> Any:
        if error := next(answers, None):
            raise error
        return parse(text)

    monkeypatch.setattr(module, "parse_squeue", once_not)
    assert the_end(tmp_path, commands, "FAILED").text == "job 100 on n1 ended as FAILED"
    assert "ValueError: odd" in caplog.text


# Refusals that pass


@pytest.mark.parametrize(
    "words",
    [
        "sbatch: error: QOSMaxSubmitJobPerUserLimit",
        "sbatch: error: AssocMaxSubmitJobLimit",
        "sbatch: error: AssocGrpSubmitJobsLimit",
        "sbatch: error: Job violates accounting/QOS policy (job submit limit, user's size and/or time limits)",
    ],
)
def test_a_limit_on_jobs_passes_but_nobody_waits_for_it(tmp_path: Path, commands: Commands, words: str) -> None:
    commands.fail(words)

    async def scene(run: Run) -> None:
        (error,) = await start(run.workers("simulate-0"))
        assert isinstance(error, SubmitFailed)
        assert error.passing

    play(tmp_path, scene)
    assert len(commands.calls("sbatch")) == 1


def test_of_more_jobs_than_one_may_still_have_some_are_had(tmp_path: Path, commands: Commands) -> None:
    commands.fail(*["sbatch: error: QOSMaxSubmitJobPerUserLimit"] * 2)

    async def scene(run: Run) -> None:
        workers = run.workers(*(f"simulate-{number}" for number in range(8)))
        ends = await start(workers)
        assert ends[:2] == [None, None]
        assert all(isinstance(end, SubmitFailed) and end.passing for end in ends[2:])
        await close(workers)

    play(tmp_path, scene)
    assert [call.split()[1] for call in commands.calls("sbatch")] == ["--array=0-7", "--array=0-3", "--array=0-1"]


def test_a_limit_on_what_a_job_may_have_does_not_pass(tmp_path: Path, commands: Commands) -> None:
    policy = "Job violates accounting/QOS policy (job submit limit, user's size and/or time limits)"
    commands.write("sbatch", f'#!/bin/sh\necho "sbatch: error: QOSMaxCpuPerJobLimit\n{policy}" >&2\nexit 1\n')

    async def scene(run: Run) -> None:
        (error,) = await start(run.workers("simulate-0"))
        assert isinstance(error, SubmitFailed)
        assert not error.passing

    play(tmp_path, scene)


# The end of a run


def slow(text: str, flag: Path) -> str:
    """Return a command that waits in its middle until a file is there."""
    return text.replace("\nenv >", f"\nuntil [ -e {flag} ]; do sleep 0.05; done\nenv >")


def test_a_submission_that_is_under_way_at_the_end_is_seen_through_and_cancelled(
    tmp_path: Path, commands: Commands
) -> None:
    go = tmp_path / "go"
    commands.write("sbatch", slow(_SBATCH, go).format(folder=commands.folder, cluster=""))

    async def scene(run: Run) -> None:
        starting = asyncio.ensure_future(start(run.workers("simulate-0")))
        await until(lambda: commands.calls("sbatch"))
        stopping = asyncio.ensure_future(run.jobs.stop())
        await asyncio.sleep(0.2)
        assert not stopping.done()
        go.touch()
        await stopping
        assert await starting == [None]
        assert run.jobs.clean

    assert play(tmp_path, scene).watched == ["100"]
    assert commands.calls("scancel")[0] == f"--name={LAUNCH.run_id}"


def test_a_submission_that_never_ends_is_waited_for_no_longer_than_so_long(
    tmp_path: Path, commands: Commands, monkeypatch: pytest.MonkeyPatch
) -> None:
    commands.write("sbatch", slow(_SBATCH, tmp_path / "never").format(folder=commands.folder, cluster=""))
    monkeypatch.setattr(module, "_STOPPING_S", 0.1)

    async def scene(run: Run) -> None:
        starting = asyncio.ensure_future(start(run.workers("simulate-0")))
        await until(lambda: commands.calls("sbatch"))
        await run.jobs.stop()
        # Slurm may take it yet.
        assert not run.jobs.clean
        starting.cancel()
        await asyncio.gather(starting, return_exceptions=True)

    play(tmp_path, scene)


def test_a_cancellation_that_is_under_way_at_the_end_is_seen_through(tmp_path: Path, commands: Commands) -> None:
    go, calls = tmp_path / "go", commands.folder / "calls"
    wait = f"until [ -e {go} ]; do sleep 0.05; done"
    commands.write("scancel", f'#!/bin/sh\necho "begin $*" >>{calls}\n{wait}\necho "scancel $*" >>{calls}\n')

    async def scene(run: Run) -> None:
        (worker,) = run.workers("simulate-0")
        await start([worker])
        closing = asyncio.ensure_future(worker.close())
        await until(lambda: commands.calls("begin"))
        # As after Ctrl-C, when nobody waits for it any more.
        closing.cancel()
        stopping = asyncio.ensure_future(run.jobs.stop())
        await asyncio.sleep(0.2)
        go.touch()
        await stopping
        assert run.jobs.clean

    play(tmp_path, scene)
    assert commands.calls("scancel")[:2] == ["100", f"--name={LAUNCH.run_id}"]


def test_at_the_end_nobody_tries_to_submit_again(
    tmp_path: Path, commands: Commands, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_PAUSES_S", (600.0,))
    commands.fail("sbatch: error: Unable to contact slurm controller")

    async def scene(run: Run) -> None:
        starting = asyncio.ensure_future(start(run.workers("simulate-0")))
        await until(lambda: run.jobs._doubtful)
        await asyncio.wait_for(run.jobs.stop(), 60)
        (error,) = await starting
        assert isinstance(error, SubmitFailed)
        (late,) = run.workers("simulate-1")
        await late
        # It may have been taken all the same.
        assert run.jobs.clean

    play(tmp_path, scene)
    assert len(commands.calls("sbatch")) == 1
    assert commands.calls("scancel")[0] == f"--name={LAUNCH.run_id}"


def test_jobs_that_could_not_be_cancelled_are_named_and_the_run_is_not_clean(
    tmp_path: Path, commands: Commands, caplog: pytest.LogCaptureFixture
) -> None:
    note = f'echo "scancel $*" >>{commands.folder}/calls'
    commands.write("scancel", f'#!/bin/sh\n{note}\necho "scancel: error: Access/permission denied" >&2\nexit 1\n')

    async def scene(run: Run) -> None:
        workers = run.workers("simulate-0", "simulate-1")
        await start(workers)
        await close(workers)

    run = play(tmp_path, scene)
    assert not run.jobs.clean
    assert commands.calls("scancel") == ["100_[0-1]", f"--name={LAUNCH.run_id}"]
    assert "(100_[0-1]): scancel: error: Access/permission denied" in caplog.text
    assert f"`scalable clean --run {LAUNCH.run_id}`" in caplog.text
    assert [one["event"] for one in run.records] == ["submitted"]


@pytest.mark.parametrize(
    "words",
    [
        "scancel: error: Kill job error on job id 100: Invalid job id specified",
        "scancel: error: Kill job error on job id 100: Job/step already completing or completed",
    ],
)
def test_jobs_that_have_ended_by_themselves_are_as_good_as_cancelled(
    tmp_path: Path, commands: Commands, caplog: pytest.LogCaptureFixture, words: str
) -> None:
    commands.write("scancel", f'#!/bin/sh\necho "{words}" >&2\nexit 1\n')

    async def scene(run: Run) -> None:
        workers = run.workers("simulate-0")
        await start(workers)
        await close(workers)

    run = play(tmp_path, scene)
    assert run.jobs.clean
    assert caplog.text == ""
    assert [one["event"] for one in run.records] == ["submitted", "cancelled"]


def test_until_the_end_has_been_seen_through_a_run_is_not_clean(tmp_path: Path, commands: Commands) -> None:
    async def scene(run: Run) -> None:
        assert run.jobs.clean
        (worker,) = run.workers("simulate-0")
        await start([worker])
        await worker.close()
        assert not run.jobs.clean
        stopping = asyncio.ensure_future(run.jobs.stop())
        await asyncio.sleep(0)
        stopping.cancel()
        await asyncio.gather(stopping, return_exceptions=True)
        assert not run.jobs.clean

    assert play(tmp_path, scene).jobs.clean


def test_where_jobs_have_no_names_those_that_were_not_cancelled_are_tried_again_at_the_end(
    tmp_path: Path, commands: Commands
) -> None:
    commands.write("qsub", "#!/bin/sh\necho 12.server\n")
    note = f'echo "qdel $*" >>{commands.folder}/calls'
    once = f"[ -e {commands.folder}/up ] || {{ touch {commands.folder}/up; echo sorry >&2; exit 1; }}"
    commands.write("qdel", f"#!/bin/sh\n{note}\n{once}\n")

    async def scene(run: Run) -> None:
        (worker,) = run.workers("simulate-0")
        await start([worker])
        await worker.close()

    run = play(tmp_path, scene, "pbs")
    assert [call.split()[-1] for call in commands.calls("qdel")] == ["12.server", "12.server"]
    assert run.jobs.clean


@pytest.mark.parametrize("system", ["pbs", "lsf", "sge"])
def test_systems_without_arrays_get_a_job_a_worker_and_are_asked_nothing(
    tmp_path: Path, commands: Commands, system: str
) -> None:
    row = SYSTEMS[system]
    said = {"pbs": "12.server", "lsf": "Job <12> is submitted to queue <q>.", "sge": 'Your job 12 ("x") submitted'}
    commands.write(
        row.submit[0], f"#!/bin/sh\necho '{row.submit[0]}' >>{commands.folder}/calls\necho '{said[system]}'\n"
    )
    commands.write(row.cancel[0], _OTHER.format(folder=commands.folder, name=row.cancel[0]))

    async def scene(run: Run) -> None:
        workers = run.workers("simulate-0", "simulate-1")
        assert await start(workers) == [None, None]
        await close(workers)

    run = play(tmp_path, scene, system)
    number = "12.server" if system == "pbs" else "12"
    assert run.watched == [number, number]
    assert commands.calls(row.cancel[0])[0].split()[-1] == number
    assert commands.calls("squeue") == []


def of_pool(name: str, numbers: Sequence[int], workers: int = 1) -> list[_Job]:
    shape = PoolShape.of(replace(component(), name=name))
    made = [_Job(shape, number) for number in numbers]
    for job in made:
        job.workers = [None] * workers  # type: ignore[list-item]
    return made


def batches(jobs: Sequence[tuple[str, Sequence[int], int]], most: int) -> list[tuple[str, list[int]]]:
    async def inside() -> list[tuple[str, list[int]]]:
        wanted = [job for one in jobs for job in of_pool(*one)]
        return [(some[0].shape.name, [job.number for job in some]) for some in _batches(wanted, most)]

    return asyncio.run(inside())


def test_an_array_is_of_one_pool_of_one_size_and_without_gaps() -> None:
    assert batches([("b", [2, 0, 1], 1), ("a", [0, 1, 4], 1), ("a", [2], 3)], 10) == [
        ("a", [0, 1]),
        ("a", [4]),
        ("a", [2]),
        ("b", [0, 1, 2]),
    ]


def test_an_array_has_no_more_elements_than_allowed() -> None:
    assert [numbers for _, numbers in batches([("a", range(5), 1)], 2)] == [[0, 1], [2, 3], [4]]
    assert len(batches([("a", range(5), 1)], 1)) == 5


@given(st.lists(st.tuples(st.integers(1, 9), st.none() | st.integers(0, 40)), unique=True, max_size=60))
def test_ids_are_shortened_without_losing_or_adding_any(jobs: list[tuple[int, int | None]]) -> None:
    # A job is an array or it is none.
    arrays = {array for array, element in jobs if element is not None}
    jobs = [(array, element) for array, element in jobs if element is not None or array not in arrays]
    ids = [str(array) if element is None else f"{array}_{element}" for array, element in jobs]
    assert sorted(one for short in _condensed(ids) for one in expanded(short)) == sorted(ids)


def expanded(short: str) -> list[str]:
    array, _, elements = short.partition("_")
    if not elements:
        return [array]
    found = []
    for span in elements.strip("[]").split(","):
        first, _, last = span.partition("-")
        found += [f"{array}_{element}" for element in range(int(first), int(last or first) + 1)]
    return found
