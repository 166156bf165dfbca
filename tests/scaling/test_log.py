"""Writing down what was seen and decided, and reading it again."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest

from scalable.errors import ScalableError
from scalable.scaling.log import DecisionLog, condensed, read_observations
from scalable.scaling.model import GroupView, Observation, PoolInfo, PoolView, ScaleDecision, TagInfo, TagView
from scalable.telemetry.recorder import Recorder

POOL = PoolInfo("a", adapter="here", limit=9, labels={"a": 1e9}, usd_per_s=0.1, boot_s=3.0)
TAG = TagInfo("fit", ("a",), {"a": 2}, {"a": 1.0}, parents=("load",), history=((None, 2.5), (100.0, 4.0)))
BUSY = Observation(
    1000.25,
    {
        "a": PoolView(
            POOL, idle=2, busy=1, starting=1, unbilled=1, draining=1, failed=1,
            idle_ages=[30.25, 0.25], start_ages=[5.25], startups=[2.5],
            groups=(GroupView("a-1", workers=1, waiting=3, running=1, age_s=60.25),),
        )
    },
    {
        "fit": TagView(
            TAG, queued=3, running=1, blocked=2, arrived=9, done=3,
            queued_sizes=[(64.0, 3)], running_for=[(7.25, 64.0)], completions=[(None, 1.25)],
        )
    },
    limit=9, minimum=1, budget_usd=3.5, deadline_s=50.5,
)  # fmt: skip
NOTHING = ScaleDecision()
GROWN = ScaleDecision({"a": 2}, reasons={"a": "more to do"}, reasoning="all of it", confidence=0.5)


def later(observation: Observation, seconds: float) -> Observation:
    """Return the same with time passed and nothing else."""
    pool, tag = observation.pools["a"], observation.tags["fit"]
    group = replace(pool.groups[0], age_s=pool.groups[0].age_s + seconds)
    assert observation.deadline_s is not None
    return replace(
        observation,
        now=observation.now + seconds,
        deadline_s=observation.deadline_s - seconds,
        pools={
            "a": replace(
                pool,
                idle_ages=[age + seconds for age in pool.idle_ages],
                start_ages=[age + seconds for age in pool.start_ages],
                groups=(group,),
            )
        },
        tags={"fit": replace(tag, running_for=[(age + seconds, size) for age, size in tag.running_for])},
    )


@pytest.fixture
def run_dir(tmp_path: Path) -> Path:
    return tmp_path / "run"


def log(run_dir: Path, *, every_look: bool = True) -> tuple[DecisionLog, Recorder]:
    recorder = Recorder(run_dir)
    recorder.start({})
    return DecisionLog(recorder, "made-up", every_look=every_look), recorder


def lines(run_dir: Path) -> list[str]:
    return [json.loads(line)["event"] for line in (run_dir / "scaling.jsonl").read_text().splitlines()]


def test_what_was_seen_and_decided_is_read_back_as_it_was(run_dir: Path) -> None:
    written, recorder = log(run_dir)
    written.saw(BUSY, GROWN)
    written.decided(GROWN, {"a": 4}, {"a": 6})
    written.saw(replace(BUSY, now=1005.25, tags={}, deadline_s=None), NOTHING)
    recorder.finish("completed", {})
    (first, decided), (second, nothing) = read_observations(run_dir)
    assert first == BUSY
    assert decided == {"a": (4, 6)}
    assert (second.now, second.tags, nothing) == (1005.25, {}, {})


def test_a_look_at_the_same_takes_one_short_line_and_its_ages_are_those_of_then(run_dir: Path) -> None:
    written, recorder = log(run_dir)
    for seconds in (0.0, 5.0, 10.5):
        written.saw(later(BUSY, seconds), NOTHING)
    recorder.finish("completed", {})
    assert lines(run_dir) == ["infos", "observation", "unchanged", "unchanged"]
    assert [seen for seen, _ in read_observations(run_dir)] == [later(BUSY, seconds) for seconds in (0.0, 5.0, 10.5)]


def test_a_decision_tells_its_policy_and_its_reason(run_dir: Path) -> None:
    written, recorder = log(run_dir)
    written.decided(GROWN, {"a": 4, "b": 1}, {"a": 6, "b": 1})
    recorder.finish("completed", {})
    (record,) = map(json.loads, (run_dir / "scaling.jsonl").read_text().splitlines())
    told = {name: record[name] for name in ("tag", "from", "to", "direction", "reason", "policy", "confidence")}
    assert told == {
        "tag": "a", "from": 4, "to": 6, "direction": "up", "reason": "more to do", "policy": "made-up",
        "confidence": 0.5,
    }  # fmt: skip


def test_a_policy_that_learns_nothing_has_only_its_changes_written(run_dir: Path) -> None:
    written, recorder = log(run_dir, every_look=False)
    written.saw(BUSY, NOTHING)
    written.saw(later(BUSY, 5), GROWN)
    recorder.finish("completed", {})
    assert [seen for seen, _ in read_observations(run_dir)] == [later(BUSY, 5)]


def test_what_is_known_of_a_kind_of_task_is_written_again_when_it_is_news(run_dir: Path) -> None:
    written, recorder = log(run_dir)
    written.saw(BUSY, NOTHING)
    more = replace(TAG, history=((None, 9.0),))
    written.saw(replace(BUSY, tags={"fit": replace(BUSY.tags["fit"], info=more)}), NOTHING)
    recorder.finish("completed", {})
    assert [seen.tags["fit"].info.history for seen, _ in read_observations(run_dir)] == [TAG.history, more.history]


def test_a_line_that_a_kill_has_torn_is_left_out(run_dir: Path) -> None:
    written, recorder = log(run_dir)
    written.saw(BUSY, NOTHING)
    recorder.finish("completed", {})
    with (run_dir / "scaling.jsonl").open("a") as file:
        file.write('{"event": "observation", "now": 7, "po')
    assert [seen for seen, _ in read_observations(run_dir)] == [BUSY]


def test_a_folder_without_decisions_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ScalableError, match=r"has no scaling\.jsonl"):
        list(read_observations(tmp_path))


def test_a_decision_is_made_from_some_of_many_running_tasks_with_their_true_number() -> None:
    many = replace(BUSY.tags["fit"], running=5000, running_for=[(float(age), None) for age in range(5000)])
    seen = condensed(replace(BUSY, tags={"fit": many}, budget_usd=3.14159)).tags["fit"]
    assert (len(seen.running_for), seen.running) == (64, 5000)
    ages = [age for age, _ in seen.running_for]
    assert (ages[0], ages[-1]) == (0.0, 4999.0)
    assert {round(later - sooner) for sooner, later in pairwise(ages)} <= {79, 80}


def test_what_is_short_is_not_condensed_but_money_is_in_cents() -> None:
    assert condensed(BUSY) == BUSY
    assert condensed(replace(BUSY, budget_usd=3.14159)).budget_usd == 3.14
    assert condensed(replace(BUSY, budget_usd=None)).budget_usd is None


def test_what_is_condensed_is_so_for_good_and_read_back_as_it_was(run_dir: Path) -> None:
    many = replace(BUSY.tags["fit"], running=500, running_for=[(age + 0.25, None) for age in range(500)])
    seen = condensed(replace(BUSY, tags={"fit": many}))
    assert condensed(seen) == seen
    written, recorder = log(run_dir)
    written.saw(seen, NOTHING)
    recorder.finish("completed", {})
    assert [one for one, _ in read_observations(run_dir)] == [seen]


@pytest.mark.parametrize(
    "line",
    [
        '{"event": "scale_decision", "at": 1, "tag": "a"}',
        '{"event": "scale_decision", "at": 1, "tag": "other", "from": 1, "to": 2}',
        '{"event": "infos", "pools": {"b": {"nam": "b"}}, "tags": {}}',
        '["no", "record"]',
    ],
)
def test_lines_that_cannot_be_used_are_left_out_and_counted(run_dir: Path, line: str) -> None:
    written, recorder = log(run_dir)
    written.saw(BUSY, NOTHING)
    recorder.finish("completed", {})
    with (run_dir / "scaling.jsonl").open("a") as file:
        file.write(f"{line}\n{line}\n")
    skipped: list[int] = []
    assert list(read_observations(run_dir, skipped.append)) == [(BUSY, {})]
    assert skipped == [2]


def test_looks_at_what_is_not_named_are_left_out_and_those_at_the_same_too(run_dir: Path) -> None:
    written, recorder = log(run_dir)
    written.saw(BUSY, NOTHING)
    stranger = replace(BUSY, pools={"b": replace(BUSY.pools["a"], info=replace(POOL, name="b"))})
    written.saw(stranger, NOTHING)
    written.saw(stranger, NOTHING)
    recorder.finish("completed", {})
    path = run_dir / "scaling.jsonl"
    kept = [line for line in path.read_text().splitlines() if '"infos"' not in line or '"fit"' in line]
    path.write_text("\n".join(kept))
    skipped: list[int] = []
    assert [seen for seen, _ in read_observations(run_dir, skipped.append)] == [BUSY]
    assert skipped == [2]


@pytest.mark.parametrize("line", ['{"event": "scale_decision", "at": 1, "tag": "a", "from": 1, "to": 2}', ""])
def test_a_record_without_anything_that_was_seen_is_refused_in_words(tmp_path: Path, line: str) -> None:
    (tmp_path / "scaling.jsonl").write_text(line)
    with pytest.raises(ScalableError, match=r"nothing that a policy saw.*older release"):
        list(read_observations(tmp_path))
