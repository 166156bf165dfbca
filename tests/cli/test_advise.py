"""``scalable advise``, and what its overlay does to a plan."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from scalable.advisors import usage
from scalable.cli import main
from scalable.cli.advise import _features
from scalable.planning import counsel
from tests.advisors.history import GIB, MIB, out_of_memory, peaks, run

Write = Callable[..., Path]

MANIFEST = """\
version: 1
project: {name: tests}
targets:
  local: {provider: local, max_workers: 2, processes: true}
components:
  demeter: {cpus: 1, memory: 8G}
tasks:
  simulate: {component: demeter, retries: 1}
"""
STEPS = [index * 10 * MIB for index in range(1, 41)]
QUANTILE = ["--model-type", "quantile"]


@pytest.fixture
def history(tmp_path: Path) -> Path:
    attempts = [*peaks(STEPS, s=60.0, asked_bytes=8 * GIB), *peaks([GIB] * 3, name="merge tables", asked_bytes=8 * GIB)]
    run(tmp_path / "runs", attempts, manifest=MANIFEST, project="tests")
    return tmp_path / "runs"


def test_the_advice_for_one_task_says_how_sure_it_is_and_why(history: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["advise", "--task", "simulate", *QUANTILE]) == 0
    out = capsys.readouterr().out
    assert out.startswith("Task: simulate\nWorkers: ")
    assert "each with cpus 1, memory 512M, walltime 00:02:00\n" in out
    assert "Memory suffices for 95.1% of the tasks (order statistic)\nModel: quantile\n" in out
    assert "Evidence: 40 tasks of 1 run, 2026-05-20T10:01:00+00:00 to 2026-05-20T10:01:39+00:00\n" in out


def test_the_json_has_exactly_the_keys_that_programs_rely_on(history: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["advise", "--task", "simulate", "--target", "local", *QUANTILE, "--format", "json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert list(found) == ["task", "workers", "resources", "confidence", "model_type", "evidence"]
    assert found["resources"] == {"demeter": {"cpus": 1, "memory": "512M", "walltime": "00:02:00"}}
    assert found["confidence"] == round(39 / 41, 4)
    assert found["model_type"] == "quantile"


def test_what_would_be_saved_is_money_where_memory_has_a_price(
    history: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["advise", "--all", *QUANTILE]) == 0
    assert "SAVED $" not in capsys.readouterr().out
    (folder,) = (one for one in history.iterdir() if one.name.startswith("run-"))
    price = {"event": "price", "tag": "demeter", "usd_per_s": 0.01, "usd_per_gb_h": 6.0}
    usage._prices.cache_clear()
    (folder / "cost.jsonl").write_text(json.dumps(price) + "\n")

    assert main(["advise", "--all", *QUANTILE]) == 0
    titles, simulate, _ = capsys.readouterr().out.splitlines()
    assert titles.endswith("SAVED GB·h  SAVED $")
    # 40 minutes in workers of 8G, of which 512M were needed.
    assert simulate.split()[-1] == "30.00"
    assert main(["advise", "--all", *QUANTILE, "--format", "json"]) == 0
    rows = json.loads(capsys.readouterr().out)["tasks"]
    assert {row["task"]: row["saved_usd"] for row in rows}["simulate"] == pytest.approx(40 / 60 * 7.5 * 6)


def test_confidence_and_several_folders_of_runs_count(
    history: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run(tmp_path / "more", peaks([3 * GIB] * 40), number=1)
    ask = ["advise", "--task", "simulate", *QUANTILE, "--format", "json", "--runs-dir", str(history)]
    assert main([*ask, "--confidence", "0.5"]) == 0
    assert json.loads(capsys.readouterr().out)["resources"]["demeter"]["memory"] == "320M"
    assert main([*ask, "--runs-dir", str(tmp_path / "more")]) == 0
    assert json.loads(capsys.readouterr().out)["evidence"]["runs_analyzed"] == 2


def test_features_are_handed_to_the_advisor_as_what_they_are(
    history: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    seen = {}
    advisor = counsel.open_advisor(history, "quantile")

    class Listening:
        def recommend(self, task: str, target: str | None = None, **given: object) -> object:
            seen.update(given)
            return advisor.recommend(task, target)

    monkeypatch.setattr(counsel, "open_advisor", lambda *_: Listening())
    features = ["--features", "size=12", "ratio=0.5", "kind=large one", "--features", "dry=true"]
    assert main(["advise", "--task", "simulate", *features]) == 0
    assert seen["features"] == {"size": 12, "ratio": 0.5, "kind": "large one", "dry": True}
    assert main(["advise", "--task", "simulate", "--features", "size"]) == 1
    assert "a feature is given as name=value, not 'size'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("given", "value"),
    [
        ("input_bytes=5G", 5 * GIB),
        ("arg_bytes=1e3", 1000),
        ("n_inputs=3", 3),
        ("threads=2.0", 2),
        ("kind=info", "info"),
    ],
)
def test_sizes_and_counts_among_features_are_numbers(given: str, value: object) -> None:
    assert list(_features([given]).values()) == [value]


@pytest.mark.parametrize(
    "given",
    [
        *("input_bytes=-5", "input_bytes=-5G", "arg_bytes=much", "arg_bytes=null", "input_bytes=true"),
        *("input_bytes=NaN", "input_bytes=1e999", "n_inputs=-1", "n_inputs=2.5", "threads=few", "n_args=Infinity"),
        *("x=NaN", "x=nan", "x=-Infinity", "x=1e999", "x=inf", "x=[1, NaN]"),
    ],
)
def test_a_feature_that_can_be_no_size_count_or_number_is_refused_by_name(
    history: Path, given: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["advise", "--task", "simulate", *QUANTILE, "--features", given]) == 1
    assert f"feature {given.partition('=')[0]}: " in capsys.readouterr().err


def test_features_are_of_one_task_so_that_all_tasks_have_none(
    history: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["advise", "--all", *QUANTILE, "--features", "n=3"]) == 1
    assert "--features tell of the input of one task" in capsys.readouterr().err


def test_the_overlay_of_a_task_is_for_the_features_that_are_given(
    history: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    advisor = counsel.open_advisor(history, "quantile")
    asked: list[tuple[str, str, object]] = []

    class Listening:
        def recommend(self, task: str, target: str | None = None, *, confidence: float, features: object) -> object:
            asked.append(("recommend", task, features))
            return advisor.recommend(task, target, confidence=confidence)

        def retry_bytes(self, task: str, failed: int, *, target: str | None, features: object) -> int:
            asked.append(("retry", task, features))
            return advisor.retry_bytes(task, failed, target=target)

    monkeypatch.setattr(counsel, "open_advisor", lambda *_: Listening())
    file = str(tmp_path / "advice.yaml")
    assert main(["advise", "--task", "simulate", "--features", "n=3", "--write-overlay", file]) == 0
    assert set(map(str, asked)) == {
        str(("recommend", "simulate", {"n": 3})),
        str(("retry", "simulate", {"n": 3})),
        str(("recommend", "merge tables", None)),
    }


def test_a_task_that_never_came_to_its_end_has_an_answer_everywhere(
    tmp_path: Path, manifest: Write, quantiles: None, capsys: pytest.CaptureFixture[str]
) -> None:
    failed = {"outcome": "failed", "error_type": "ValueError", "asked_bytes": 5 * GIB}
    run(tmp_path / "runs", [failed] * 3, project="tests", manifest=MANIFEST)
    assert main(["advise", "--all"]) == 0
    assert capsys.readouterr().out.splitlines()[1].split() == ["simulate", "0", *"----", "6G", "0.0%", "-"]
    assert main(["advise", "--task", "simulate"]) == 0
    assert "asked plus headroom" in capsys.readouterr().out
    assert main(["plan", str(manifest("advise: true\n" + MANIFEST))]) == 0
    assert "simulate: as the manifest says; too little history" in capsys.readouterr().out


def test_all_tasks_are_listed_with_what_they_asked_for_and_used(
    history: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["advise", "--all", *QUANTILE]) == 0
    titles, simulate, merge = capsys.readouterr().out.splitlines()
    assert titles.split() == ["TASK", "TASKS", "ASKED", "MEDIAN", "P95", "MAX", "RECOMMENDED", "SURE", "SAVED", "GB·h"]
    # (8G - 512M) for 40 minutes.
    saved = f"{(8 * GIB - 512 * MIB) * 40 / 60 / 1e9:.3g}"
    assert simulate.split() == ["simulate", "40", "8192M", "205M", "380M", "400M", "512M", "95.1%", saved]
    assert merge.split()[:8] == ["merge", "tables", "3", "8192M", "1024M", "1024M", "1024M", "9984M"]
    assert main(["advise", "--all", *QUANTILE, "--format", "json"]) == 0
    rows = json.loads(capsys.readouterr().out)["tasks"]
    assert [row["task"] for row in rows] == ["simulate", "merge tables"]
    assert rows[0]["saved_gb_h"] == pytest.approx((8 * GIB - 512 * MIB) * 40 / 60 / 1e9)


def test_an_empty_history_is_no_failure_of_all_and_an_error_of_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["advise", "--all", *QUANTILE]) == 0
    assert capsys.readouterr().out == f"no tasks in {tmp_path / 'runs'}\n"
    assert main(["advise", "--task", "simulate", *QUANTILE]) == 1
    assert "there is no history of a task 'simulate'" in capsys.readouterr().err


def test_either_one_task_or_all_are_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["advise"]) == 1
    assert main(["advise", "--all", "--task", "simulate"]) == 1
    assert capsys.readouterr().err.count("give either --task with a task's name, or --all") == 2


def test_names_of_tasks_cannot_steer_the_terminal(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run(tmp_path / "runs", peaks(STEPS, name="bad\x1b[2Jname"))
    assert main(["advise", "--all", *QUANTILE]) == 0
    assert main(["advise", "--task", "bad\x1b[2Jname", *QUANTILE]) == 0
    assert "\x1b" not in capsys.readouterr().out


def overlay(file: Path, *more: str) -> int:
    return main(["advise", "--all", *QUANTILE, "--write-overlay", str(file), *more])


def test_the_overlay_that_is_written_is_one_that_plan_and_validate_take(
    tmp_path: Path, manifest: Write, capsys: pytest.CaptureFixture[str]
) -> None:
    retried = [out_of_memory(500 * MIB), {"peak": 2 * GIB}]
    run(tmp_path / "runs", [*peaks(STEPS * 3, s=60.0), *retried], manifest=MANIFEST)
    file = tmp_path / "advice.yaml"
    assert overlay(file) == 0
    text = file.read_text()
    assert '"demeter":\n    memory: "512M"\n' in text
    assert '  "simulate":\n    memory: "390M"\n    duration: "60s"\n    memory_step: "2G"\n' in text
    capsys.readouterr()
    path = str(manifest(MANIFEST))
    assert main(["validate", path, "--target", "local", "--overlay", str(file)]) == 0
    assert f"overlay: {file}" in capsys.readouterr().out
    assert main(["plan", path, "--overlay", str(file)]) == 0
    assert "demeter: 2 x ResourceRequest(cpus=1, memory='512M')" in capsys.readouterr().out


def test_a_component_of_which_too_little_is_known_stays_as_it_is_and_the_overlay_says_so(
    history: Path, tmp_path: Path
) -> None:
    file = tmp_path / "advice.yaml"
    assert overlay(file) == 0
    text = file.read_text()
    assert "# components.demeter: as it is; too little is known of merge tables\n" in text
    assert "# tasks.merge tables: not in the manifest of the latest run" in text
    assert "components:\n" not in text
    assert '  "simulate":\n' in text


def test_where_nobody_recorded_the_component_the_manifest_says_it(tmp_path: Path) -> None:
    run(tmp_path / "runs", peaks(STEPS, component=None, tag=None), manifest=MANIFEST)
    file = tmp_path / "advice.yaml"
    assert overlay(file) == 0
    assert yaml.safe_load(file.read_text())["components"] == {"demeter": {"memory": "512M"}}


def test_a_component_that_nobody_knows_is_left_out_and_the_overlay_says_so(tmp_path: Path) -> None:
    unknown = peaks(STEPS, component=None, tag=None, name="merge")
    run(tmp_path / "runs", [*peaks(STEPS), *unknown], manifest=MANIFEST)
    file = tmp_path / "advice.yaml"
    assert overlay(file) == 0
    assert set(yaml.safe_load(file.read_text())["components"]) == {"demeter"}
    assert "# tasks.merge: on which component it ran is not known" in file.read_text()


def test_a_file_that_is_there_is_only_replaced_by_force(
    history: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "advice.yaml"
    file.write_text("mine\n")
    assert overlay(file) == 1
    assert "is there already; give --force to replace it" in capsys.readouterr().err
    assert file.read_text() == "mine\n"
    assert overlay(file, "--force") == 0
    assert "simulate" in file.read_text()
    assert overlay(tmp_path / "missing" / "advice.yaml") == 1
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".advice")] == []


@pytest.fixture
def quantiles(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(counsel, "default_model_type", lambda: "quantile")


def test_plan_takes_advice_when_told_to_and_says_what_and_why(
    tmp_path: Path, manifest: Write, quantiles: None, capsys: pytest.CaptureFixture[str]
) -> None:
    run(tmp_path / "runs", peaks(STEPS, s=60.0), manifest=MANIFEST, project="tests")
    path = str(manifest(MANIFEST))
    assert main(["plan", path, "--advise"]) == 0
    out = capsys.readouterr().out
    assert "demeter: 2 x ResourceRequest(cpus=1, memory='512M')" in out
    assert (
        "Advice: simulate: 512M for a worker of demeter, 1m00s; suffices for 95.1% (quantile, 40 tasks of 1 run)" in out
    )
    assert "Note: components.demeter: memory 512M, as advised, in place of 8G" in out
    wanted = str(manifest("advise: true\n" + MANIFEST, "wanted.yaml"))
    assert main(["plan", wanted, "--no-advise"]) == 0
    assert "memory='8G'" in capsys.readouterr().out
    assert main(["plan", wanted, "--format", "json"]) == 0
    assert json.loads(capsys.readouterr().out)["advice"][0]["memory_bytes"] == 512 * MIB


def test_run_takes_advice_when_told_to(
    tmp_path: Path, manifest: Write, quantiles: None, capsys: pytest.CaptureFixture[str]
) -> None:
    run(tmp_path / "runs", peaks(STEPS), project="tests")
    workflow = tmp_path / "workflow.py"
    workflow.write_text("print(session.plan().scale_plan['demeter'].resources.memory)\n")
    path = str(manifest(MANIFEST.replace(", processes: true", "")))
    for flag, memory in (("--advise", "512M"), ("--no-advise", "8G")):
        assert main(["run", path, flag, "--workflow", str(workflow)]) == 0
        assert capsys.readouterr().out == f"{memory}\n"
