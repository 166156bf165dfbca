"""Lines of ``squeue`` of Slurm 22.05, as it printed them."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scalable.providers.batch.queue import (
    ENDED_STATES,
    PERMANENT_REASONS,
    QueuedJob,
    comment_of,
    parse_squeue,
    read_comment,
    squeue_command,
)
from scalable.telemetry.owner import Owner
from scalable.telemetry.recorder import new_run_id

OWNER = Owner("login1", 4242, 123456)
RUN = "run-20260520T101500Z-demeter-1f0a9b3c"
MARK = "scalable pool=simulate+1 host=login1 pid=4242 started=123456"


def line(
    job_id: str, state: str = "PENDING", node: str = "", end: str = "N/A", *, reason: str = "None", mark: str = MARK
) -> str:
    return f"{job_id}|{state}|{node}|{end}|1795268093|{RUN}|{mark}|{reason}\n"


def ids(text: str) -> list[str]:
    return [job.job_id for job in parse_squeue(text)]


def test_a_running_job() -> None:
    assert parse_squeue(line("9_0", "RUNNING", "n1", "1795268693")) == [
        QueuedJob("9_0", "RUNNING", "", "n1", 1795268693.0, RUN, "simulate+1", OWNER, 1795268093.0)
    ]


def test_a_job_without_a_limit_has_no_end() -> None:
    assert parse_squeue(line("3", "RUNNING", "n1", "NONE"))[0].ends_at is None


@pytest.mark.parametrize("state", ["PENDING", "CANCELLED", "COMPLETING"])
def test_the_end_of_a_job_that_does_not_run_is_an_estimate_or_over(state: str) -> None:
    assert parse_squeue(line("3", state, "n1", "1795268693"))[0].ends_at is None


@pytest.mark.parametrize(
    ("told", "elements"),
    [
        ("9_[1,4-6]", [1, 4, 5, 6]),
        ("5_[3-5%4]", [3, 4, 5]),
        ("1_[0-12:4]", [0, 4, 8, 12]),
        ("1_[7]", [7]),
    ],
)
def test_elements_of_an_array_that_wait_together_are_a_job_each(told: str, elements: list[int]) -> None:
    number = told.partition("_")[0]
    assert ids(line(told)) == [f"{number}_{element}" for element in elements]


@pytest.mark.parametrize(
    ("told", "reason"),
    [
        ("None", ""),
        ("(null)", ""),
        ("Priority", "Priority"),
        ("Resources,None", "Resources"),
        ("Resources,Priority", "Resources,Priority"),
        ("Resources,QOSMaxMemoryPerJob", "QOSMaxMemoryPerJob"),
        ("ReqNodeNotAvail, UnavailableNodes:n[1-2]", "ReqNodeNotAvail, UnavailableNodes:n[1-2]"),
        ("stage-in failed: a|b", "stage-in failed: a|b"),
    ],
)
def test_the_reason_is_in_the_words_of_slurm_and_what_never_goes_away_comes_alone(told: str, reason: str) -> None:
    assert parse_squeue(line("4", reason=told))[0].reason == reason


def test_jobs_of_others_and_odd_lines_are_left_out() -> None:
    text = (
        "CLUSTER: east\n"
        "slurm_load_jobs: warning\n"
        "\n"
        "3|RUNNING|n1|NONE|1795268093|odd | name|a|b|None\n"
        "4|RUNNING|n1|NONE|1795268093|train|scalable is nice|None\n"
        f"5|RUNNING|n1|NONE|1795268093|{RUN}|{MARK}\n"
        f"6_[x]|PENDING||N/A|1795268093|{RUN}|{MARK}|None\n" + line("7")
    )
    assert ids(text) == ["7"]


def test_a_job_is_ours_by_its_name_where_the_comment_was_replaced() -> None:
    (job,) = parse_squeue(line("7", mark="billing=42"))
    assert (job.run_id, job.pool, job.owner) == (RUN, "", None)


def test_every_run_is_known_by_its_name() -> None:
    name = new_run_id("Łukasz's model, 2nd try")
    assert parse_squeue(f"7|PENDING||N/A|N/A|{name}||None")[0].run_id == name


def test_a_job_is_ours_by_its_comment_where_the_name_was_replaced() -> None:
    (job,) = parse_squeue(line("7").replace(RUN, "mine"))
    assert (job.run_id, job.owner) == ("mine", OWNER)


@given(
    st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}(\+\d+)?", fullmatch=True),
    st.text(st.characters(blacklist_categories=["Cs"]), min_size=1, max_size=64),
    st.integers(1, 2**32),
)
def test_a_comment_is_read_back_and_is_one_plain_line(pool: str, host: str, pid: int) -> None:
    owner = replace(OWNER, host=host, pid=pid)
    comment = comment_of(pool, owner)
    assert read_comment(comment) == (pool, owner)
    assert comment.isascii()
    assert comment.isprintable()
    assert not set(comment) & set("|\"'`$\\,;")


def test_one_command_asks_for_all_jobs_of_this_user_whatever_the_users_settings_hide(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("SQUEUE_PARTITION", "debug")
    monkeypatch.setenv("SLURM_CONF", "/etc/here.conf")
    arguments, environment = squeue_command()
    assert {"--me", "--all", "--states=all", "--noheader"} < set(arguments)
    assert "SQUEUE_PARTITION" not in environment
    assert (environment["SLURM_CONF"], environment["SLURM_TIME_FORMAT"]) == ("/etc/here.conf", "%s")
    assert squeue_command(RUN)[0] == [*arguments, f"--name={RUN}"]


@pytest.mark.parametrize(
    "reason",
    [
        "AccountNotAllowed",
        "AssocMaxCpuPerJobLimit",
        "AssocMaxWallDurationPerJobLimit",
        "BadConstraints",
        "DependencyNeverSatisfied",
        "InvalidAccount",
        "InvalidQOS",
        "PartitionTimeLimit",
        "QOSMaxCpuMinutesPerJobLimit",
        "QOSMaxGRESPerJob",
        "QOSMaxMemoryPerNode",
        "QOSMinMemory",
    ],
)
def test_what_was_asked_for_can_never_be_had(reason: str) -> None:
    assert reason in PERMANENT_REASONS


@pytest.mark.parametrize(
    "reason",
    [
        "AssocGrpCpuLimit",
        "BeginTime",
        "JobArrayTaskLimit",
        "NodeDown",
        "PartitionDown",
        "Priority",
        "QOSMaxCpuPerUserLimit",
        "QOSMaxJobsPerUserLimit",
        "ReqNodeNotAvail",
        "Resources",
    ],
)
def test_what_others_hold_comes_back(reason: str) -> None:
    assert reason not in PERMANENT_REASONS


def test_a_job_that_is_completing_still_has_its_node() -> None:
    assert "COMPLETING" not in ENDED_STATES
    assert {"COMPLETED", "OUT_OF_MEMORY", "TIMEOUT"} < ENDED_STATES
