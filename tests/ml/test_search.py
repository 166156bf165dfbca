"""The search for parameters: whole runs are held back, the score means something, and the pool does the work."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from scalable import ScalableSession
from scalable.errors import MissingExtra, ScalableError
from scalable.ml import search as module
from scalable.ml.models import check_params
from scalable.ml.search import HyperparameterSearch
from scalable.telemetry.past import read_past
from tests.conftest import records
from tests.report.runs import START, SampleRun


def write_runs(
    folder: Path, runs: int, tasks: int = 12, need: Callable[[int, float], float] = lambda _run, x: 100 + x, **more: Any
) -> Path:
    """Write ended runs whose tasks' need depends on the run and on a feature."""
    random = np.random.default_rng(0)
    for run in range(runs):
        sample = SampleRun(folder, f"run-20260520T1000{run:02}Z-tests-{run}", started_at=START + run)
        for number in range(tasks):
            x = float(random.uniform(1, 500))
            line = {"peak_bytes": int(2**20 * need(run, x)), "features": {"x": x}, **more}
            sample.task(f"simulate-{number}", "simulate", number, 0.1 * need(run, x), **line)
        sample.end(tasks + 1)
    return folder


def test_parameters_come_back_with_their_score(tmp_path: Path) -> None:
    search = HyperparameterSearch(
        runs_dir=write_runs(tmp_path, 5), model_type="gradient_boosting", n_iter=4, n_jobs=1, cv_folds=3
    )
    best = search.run()
    assert check_params("gradient_boosting", best) == best
    assert 0.7 < search.best_score <= 1.0
    assert [trial.score for trial in search.results] == sorted((t.score for t in search.results), reverse=True)
    assert len(search.results) == 4
    assert search.results[0].params == best
    assert set(search.results[0].by_task) == {"simulate"}


def test_the_same_seed_finds_the_same(tmp_path: Path) -> None:
    write_runs(tmp_path, 3)
    one, two, other = (
        HyperparameterSearch(runs_dir=tmp_path, model_type="linear", cv_folds=3, n_iter=6, n_jobs=1, seed=seed)
        for seed in (1, 1, 2)
    )
    assert one.run() == two.run()
    assert one.results == two.results
    other.run()
    assert other.results != one.results


def test_the_defaults_are_tried_too(tmp_path: Path) -> None:
    search = HyperparameterSearch(
        runs_dir=write_runs(tmp_path, 3), model_type="random_forest", cv_folds=3, n_iter=1, n_jobs=1
    )
    assert search.run() == check_params("random_forest")


def test_no_run_is_both_learned_from_and_held_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[set[float]] = []
    real = module.fit_location

    def watched(kind: str, X: Any, y: Any, *args: Any, **kwargs: Any) -> Any:  # noqa: N803
        seen.append(set(np.round(np.log2(y), 6)))
        return real(kind, X, y, *args, **kwargs)

    monkeypatch.setattr(module, "fit_location", watched)
    # Every attempt of a run needs the same, and no two runs do.
    write_runs(tmp_path, 4, need=lambda run, _x: 2.0**run)
    HyperparameterSearch(runs_dir=tmp_path, model_type="linear", cv_folds=4, n_iter=1, n_jobs=1).run()
    assert len(seen) == 8
    assert all(len(values) == 3 for values in seen)


def test_what_only_depends_on_the_run_cannot_be_predicted(tmp_path: Path) -> None:
    # A feature that tells the run would give it all away if attempts of one run were on both sides.
    noise = dict(enumerate(np.random.default_rng(3).uniform(1, 1000, 8)))
    write_runs(tmp_path, 8, need=lambda run, _x: noise[run])
    search = HyperparameterSearch(runs_dir=tmp_path, model_type="random_forest", cv_folds=4, n_iter=1, n_jobs=1)
    search.run()
    assert search.best_score < 0.2


def test_fewer_runs_than_folds_give_fewer_folds_and_a_note(tmp_path: Path) -> None:
    search = HyperparameterSearch(runs_dir=write_runs(tmp_path, 3), model_type="linear", n_iter=1, n_jobs=1)
    search.run()
    assert search.notes == ("task 'simulate' has 3 folds in place of 5: it has no more runs",)


@pytest.mark.parametrize(
    ("runs", "more", "message"),
    [
        (0, {}, r"has 0 ended run\(s\), and a task needs 10 completed attempts .* from at least 2 runs"),
        (1, {}, r"has 1 ended run\(s\).*task 'simulate' is left out: completed attempts of 1 run"),
        (3, {"outcome": "failed"}, r"has 3 ended run\(s\).*completed attempts of 0 run"),
        (2, {"tasks": 2}, r"task 'simulate' is left out: too few"),
        (3, {"need": lambda _run, _x: 7.0}, r"nothing that varies"),
    ],
    ids=["none", "one", "failed", "few", "constant"],
)
def test_too_little_history_says_what_there_is(runs: int, more: dict[str, Any], message: str, tmp_path: Path) -> None:
    write_runs(tmp_path, runs, **more)
    search = HyperparameterSearch(runs_dir=tmp_path, model_type="linear", n_jobs=1)
    with pytest.raises(ScalableError, match=message):
        search.run()
    with pytest.raises(ScalableError, match=r"call run\(\) first"):
        _ = search.best_score


def test_a_task_that_is_not_there_is_named_with_the_known_ones(tmp_path: Path) -> None:
    write_runs(tmp_path, 2)
    with pytest.raises(ScalableError, match=r"no history of task 'simulat'; known: simulate; did you mean 'simulate'"):
        HyperparameterSearch(runs_dir=tmp_path, task="simulat").run()


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"cv_folds": 1}, "cv_folds must be a whole number of at least 2, not 1"),
        ({"n_iter": 0}, "n_iter must be a whole number of at least 1"),
        ({"model_type": "linaer"}, "did you mean 'linear'"),
    ],
)
def test_what_is_asked_is_checked_at_once(wrong: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(ScalableError, match=message):
        HyperparameterSearch(runs_dir=tmp_path, **wrong)


def test_tasks_count_by_their_attempts(tmp_path: Path) -> None:
    write_runs(tmp_path, 4, tasks=40)
    for run in range(4):
        sample = SampleRun(tmp_path, f"run-20260521T1000{run:02}Z-tests-{run}", started_at=START + 9 + run)
        for number in range(10):
            # Nothing tells what this one needs.
            need = float(np.random.default_rng([run, number]).uniform(1, 100))
            sample.task(f"odd-{number}", "odd", number, need, peak_bytes=int(need * 2**20))
        sample.end(11)
    search = HyperparameterSearch(runs_dir=tmp_path, model_type="linear", cv_folds=4, n_iter=1, n_jobs=1)
    search.run()
    parts = search.results[0].by_task
    assert parts["simulate"] > 0.5
    assert parts["odd"] < 0.1
    assert search.best_score == pytest.approx((160 * parts["simulate"] + 40 * parts["odd"]) / 200)


def test_without_scikit_learn_the_line_for_pip_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sklearn", None)
    with pytest.raises(MissingExtra, match=r"pip install 'scalable-workflows\[ml\]'"):
        HyperparameterSearch(runs_dir=tmp_path).run()


@pytest.mark.slow
def test_processes_of_this_machine_find_the_same_as_one(tmp_path: Path) -> None:
    write_runs(tmp_path, 3)
    alone, together = (
        HyperparameterSearch(runs_dir=tmp_path, model_type="linear", cv_folds=3, n_iter=4, n_jobs=jobs)
        for jobs in (1, 2)
    )
    alone.run()
    together.run()
    assert together.results == alone.results


@pytest.mark.slow
def test_with_a_session_the_pool_of_the_tag_does_the_work(tmp_path: Path, manifest: Callable[..., Path]) -> None:
    history = write_runs(tmp_path / "history", 3)
    with ScalableSession.from_yaml(manifest(), target="processes") as session:
        session.start()
        search = HyperparameterSearch(
            runs_dir=history, model_type="linear", cv_folds=3, n_iter=6, session=session, tag="postprocess"
        )
        best = search.run()
        run_dir = session.run_dir
    alone = HyperparameterSearch(runs_dir=history, model_type="linear", cv_folds=3, n_iter=6, n_jobs=1)
    assert best == alone.run()
    assert search.best_score == pytest.approx(alone.best_score)
    done = [record for record in records(run_dir, "tasks") if "score" in record["name"]]
    assert done
    assert {record["worker"].rsplit("-", 1)[0] for record in done} == {"postprocess"}
    # It is recorded, and nobody is ever advised on it.
    assert run_dir is not None
    assert len(read_past(run_dir.parent).runs) == 1
    assert read_past(run_dir.parent).tasks == ()
