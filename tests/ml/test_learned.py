"""The learned advisor: what it learns, how it says that it is not sure, and that it never stands in the way."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from scalable.advisors import Observation, Recommendation
from scalable.errors import MissingExtra, ScalableError
from scalable.ml import LearnedAdvisor, judge, learned
from scalable.ml.models import DEFAULTS
from scalable.telemetry.past import Past
from tests.advisors import history

MIB, GIB = 2**20, 2**30


def need(size: float) -> float:
    """Return the bytes that a task with so many bytes of input needs."""
    return 200 * MIB + 2.0 * size


def attempts(random: np.random.Generator, count: int, **more: Any) -> list[dict[str, Any]]:
    sizes = random.uniform(50 * MIB, 2 * GIB, count)
    return [
        {
            "peak": int(need(size) * random.normal(1, 0.02)),
            "s": float(size / GIB * 10 + 1),
            "input_bytes": int(size),
            "n_inputs": 1,
            "features": {"model": str(random.choice(["gcam", "demeter"]))},
            **more,
        }
        for size in sizes
    ]


@pytest.fixture(scope="module")
def runs_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a history of six runs."""
    folder = tmp_path_factory.mktemp("runs")
    random = np.random.default_rng(0)
    for number in range(6):
        history.run(folder, attempts(random, 25), number=number)
    return folder


@pytest.fixture
def open_advisor() -> Iterator[Callable[..., LearnedAdvisor]]:
    made: list[LearnedAdvisor] = []

    def make(past: Path | Past, *args: Any) -> LearnedAdvisor:
        one = LearnedAdvisor(past, *args) if isinstance(past, Past) else LearnedAdvisor.from_history(past, *args)
        made.append(one)
        return one

    yield make
    for one in made:
        one.close()


def observed(peak: float | None, *, outcome: Any = "completed", **more: Any) -> Observation:
    return Observation("simulate", "local", outcome, **{"run_id": "now", "duration_s": 1.0, "peak_bytes": peak, **more})


def features(size: float, model: str = "gcam") -> dict[str, Any]:
    return {"input_bytes": size, "n_inputs": 1, "model": model}


def memory(advice: Recommendation) -> int:
    assert advice.memory_bytes is not None
    return advice.memory_bytes


@pytest.mark.parametrize("model_type", list(DEFAULTS))
def test_memory_and_time_follow_the_input(
    model_type: str, runs_dir: Path, open_advisor: Callable[..., LearnedAdvisor]
) -> None:
    advisor = open_advisor(runs_dir, model_type)
    for size in (200 * MIB, 1 * GIB, 1.8 * GIB):
        advice = advisor.recommend("simulate", "local", features=features(size))
        assert advice.model_type == model_type
        assert memory(advice) == pytest.approx(need(size), rel=0.15)
        assert advice.duration_s == pytest.approx(size / GIB * 10 + 1, rel=0.15)
        assert advice.duration_high_s is not None
        assert advice.duration_high_s >= advice.duration_s
        assert advice.resources["demeter"].keys() == {"cpus", "memory", "walltime"}


def test_the_stated_confidence_is_that_of_runs_that_were_held_back(
    runs_dir: Path, open_advisor: Callable[..., LearnedAdvisor]
) -> None:
    advisor = open_advisor(runs_dir, "linear")
    (one,) = advisor.evaluate().tasks
    assert (one.held_back, one.runs, one.attempts) == ("runs", 6, 150)
    assert one.sufficed == pytest.approx(one.predicted, abs=0.05)
    assert one.waste_gb_h < 0.3 * one.quantile_waste_gb_h
    assert one.duration_error < 0.05
    assert one.duration_sufficed > 0.9
    advice = advisor.recommend("simulate", features=features(GIB))
    assert advice.confidence == pytest.approx(one.sufficed, abs=0.05)
    assert advice.evidence["held_back"]["sufficed"] > 0.85


def test_no_run_that_is_predicted_is_learned_from(
    runs_dir: Path, open_advisor: Callable[..., LearnedAdvisor], monkeypatch: pytest.MonkeyPatch
) -> None:
    learned_from: list[set[str]] = []
    judged: list[set[str]] = []

    def fit(seen: Any, model: Any) -> Any:
        learned_from.append({one.run_id for one in seen})
        return whole(seen, model)

    def take(self: Any, one: Observation, *rest: Any) -> None:
        judged.append({one.run_id} & learned_from[-1])

    whole = judge.fit
    monkeypatch.setattr(judge, "fit", fit)
    monkeypatch.setattr(judge._Scores, "take", take)
    open_advisor(runs_dir, "linear").evaluate()
    assert len(judged) == 150
    assert not any(judged)


def test_an_explanation_names_what_moved_the_advice(
    runs_dir: Path, open_advisor: Callable[..., LearnedAdvisor]
) -> None:
    advisor = open_advisor(runs_dir, "linear")
    explanation = advisor.explain(advisor.recommend("simulate", features=features(2 * GIB)))
    assert next(iter(explanation.memory)) == "input_bytes"
    assert explanation.memory["input_bytes"] == pytest.approx(need(2 * GIB) / need(1 * GIB), rel=0.2)
    assert explanation.memory.get("features.model", 1.0) == pytest.approx(1.0, abs=0.1)
    assert "input_bytes x1." in str(explanation)


def test_input_outside_the_range_seen_is_left_to_the_quantiles_which_say_so(
    runs_dir: Path, open_advisor: Callable[..., LearnedAdvisor]
) -> None:
    advisor = open_advisor(runs_dir, "linear")
    advice = advisor.recommend("simulate", features=features(200 * GIB))
    assert advice.model_type == "quantile"
    assert advice.evidence["fallback"] == "outside the range seen: input_bytes"
    assert "outside the range seen" in str(advisor.explain(advice))


def test_without_the_input_that_memory_depends_on_the_quantiles_answer(
    runs_dir: Path, open_advisor: Callable[..., LearnedAdvisor]
) -> None:
    advice = open_advisor(runs_dir, "linear").recommend("simulate")
    assert advice.evidence["fallback"] == "not given, and memory depends on it: input_bytes"
    assert memory(advice) > need(1.8 * GIB)


def test_a_feature_that_moves_nothing_may_be_anything(
    runs_dir: Path, open_advisor: Callable[..., LearnedAdvisor]
) -> None:
    advice = open_advisor(runs_dir, "linear").recommend("simulate", features=features(GIB, "xanthos"))
    assert advice.model_type == "linear"


def test_a_task_that_was_never_seen_is_refused_with_those_that_are_known(
    runs_dir: Path, open_advisor: Callable[..., LearnedAdvisor]
) -> None:
    with pytest.raises(ScalableError, match="did you mean 'simulate'"):
        open_advisor(runs_dir).recommend("simulat")


def test_a_task_of_which_nothing_was_measured_is_left_to_the_quantiles(
    tmp_path: Path, open_advisor: Callable[..., LearnedAdvisor]
) -> None:
    history.run(tmp_path, [{"peak": None}])
    advice = open_advisor(tmp_path).recommend("simulate")
    assert (advice.model_type, advice.evidence["fallback"]) == ("quantile", "too little history: 1 measured attempt")


def test_few_attempts_leave_as_much_room_as_other_tasks_scatter(
    tmp_path: Path, open_advisor: Callable[..., LearnedAdvisor]
) -> None:
    advice = {}
    for name, spread in (("tight", 0.001), ("wide", 0.8)):
        random = np.random.default_rng(0)
        others = [{"name": "other", "peak": int(GIB * np.exp(random.normal(0, spread)))} for _ in range(40)]
        history.run(tmp_path / name, [*others, {"peak": GIB}, {"peak": GIB}])
        advisor = open_advisor(tmp_path / name)
        advisor.recommend("other")
        advice[name] = advisor.recommend("simulate")
    assert GIB < memory(advice["tight"]) < 1.02 * GIB < memory(advice["wide"])
    assert "other tasks" in advice["wide"].evidence["pooled"]


def test_the_user_can_cap_failed_attempts(tmp_path: Path, open_advisor: Callable[..., LearnedAdvisor]) -> None:
    random = np.random.default_rng(0)
    history.run(tmp_path, [{"peak": int(GIB * np.exp(random.normal(0, 1.5)))} for _ in range(200)])
    advisor = open_advisor(tmp_path)
    cheapest, capped = advisor.recommend("simulate"), advisor.recommend("simulate", confidence=0.95)
    assert cheapest.confidence < 0.9
    assert capped.confidence >= 0.95
    assert memory(capped) > 2 * memory(cheapest)


def test_where_more_input_means_more_memory_it_is_never_advised_less(
    tmp_path: Path, open_advisor: Callable[..., LearnedAdvisor]
) -> None:
    random = np.random.default_rng(4)
    sizes = np.linspace(10 * MIB, GIB, 200)
    # More means more, but for a dip, which is chance as far as anybody knows.
    peaks = np.where((sizes > 0.45 * GIB) & (sizes < 0.55 * GIB), 0.35 * GIB, 100 * MIB + sizes)
    bumpy = [
        {"peak": int(peak * random.normal(1, 0.01)), "input_bytes": int(size)}
        for peak, size in zip(peaks, sizes, strict=True)
    ]
    history.run(tmp_path, [bumpy[place] for place in random.permutation(200)])
    advisor = open_advisor(tmp_path)
    advisor.recommend("simulate", features={"input_bytes": sizes[0]})
    fitted = advisor._models["simulate"].fitted
    assert fitted is not None
    assert list(fitted.rising) == [0]
    advised = [
        memory(advisor.recommend("simulate", features={"input_bytes": size}))
        for size in np.quantile(sizes, (0.1, 0.3, 0.5, 0.7, 0.9))
    ]
    assert advised == sorted(advised)


def test_a_new_version_that_needs_more_is_noticed_within_a_few_tasks(
    runs_dir: Path, open_advisor: Callable[..., LearnedAdvisor]
) -> None:
    advisor = open_advisor(runs_dir, "linear")
    known = {"input_bytes": GIB, "n_inputs": 1}
    for _ in range(6):
        advisor.observe(observed(2 * need(GIB), features={"model": "gcam"}, **known))
        advisor.settle()
    advice = advisor.recommend("simulate", features=features(GIB))
    assert memory(advice) >= 2 * need(GIB)
    # And for inputs of which the new version has seen none yet.
    assert memory(advisor.recommend("simulate", features=features(GIB / 2))) > 1.5 * need(GIB / 2)


def test_a_few_large_tasks_are_no_new_version(runs_dir: Path, open_advisor: Callable[..., LearnedAdvisor]) -> None:
    advisor = open_advisor(runs_dir, "linear")
    advisor.recommend("simulate")
    facts: dict[str, Any] = {"input_bytes": GIB, "n_inputs": 1, "features": {"model": "gcam"}}
    for factor in (3.0, 3.0, 3.0, 1.0, 1.0, 1.0, 1.0):
        advisor.observe(observed(factor * need(GIB), **facts))
        advisor.settle()
    assert memory(advisor.recommend("simulate", features=features(GIB))) < 1.2 * need(GIB)


def test_a_new_version_in_past_runs_is_noticed_too(tmp_path: Path, open_advisor: Callable[..., LearnedAdvisor]) -> None:
    random = np.random.default_rng(0)
    history.run(tmp_path, [{"peak": int(GIB * random.normal(1, 0.02))} for _ in range(200)], number=0)
    history.run(tmp_path, [{"peak": int(2 * GIB * random.normal(1, 0.02))} for _ in range(8)], number=1)
    advisor = open_advisor(tmp_path)
    assert memory(advisor.recommend("simulate")) > 2 * GIB


def test_a_model_that_cannot_be_learned_again_goes_on_to_serve_and_says_so(
    runs_dir: Path,
    open_advisor: Callable[..., LearnedAdvisor],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    advisor = open_advisor(runs_dir, "linear")
    advisor.recommend("simulate", features=features(GIB))
    tries: list[int] = []

    def broken(*args: Any) -> Any:
        tries.append(1)
        raise ValueError("no")

    monkeypatch.setattr(learned, "fit", broken)
    for _ in range(20):
        advisor.observe(observed(need(GIB), input_bytes=GIB, n_inputs=1, features={"model": "gcam"}))
    advisor.settle()
    assert len(tries) == 1
    assert "could not be learned from" in caplog.text
    assert memory(advisor.recommend("simulate", features=features(GIB))) > need(GIB)


def test_numbers_that_are_none_do_no_harm(runs_dir: Path, open_advisor: Callable[..., LearnedAdvisor]) -> None:
    advisor = open_advisor(runs_dir, "linear")
    before = memory(advisor.recommend("simulate", features=features(GIB)))
    for wrong in (float("nan"), float("inf"), -1.0, 0.0, None):
        advisor.observe(observed(wrong, duration_s=wrong, input_bytes=GIB, n_inputs=1, features={"model": "gcam"}))
    assert memory(advisor.recommend("simulate", features=features(GIB))) == pytest.approx(before, rel=0.05)
    with pytest.raises(ScalableError, match="must be a mapping"):
        advisor.recommend("simulate", features="size=5")  # type: ignore[arg-type]


def test_what_never_varied_and_does_now_is_left_to_the_quantiles(
    tmp_path: Path, open_advisor: Callable[..., LearnedAdvisor]
) -> None:
    history.run(tmp_path, [{"peak": GIB, "features": {"years": 10, "threads": number % 4}} for number in range(30)])
    advisor = open_advisor(tmp_path)
    assert "fallback" not in advisor.recommend("simulate", features={"years": 10, "threads": 2}).evidence
    fallback = advisor.recommend("simulate", features={"years": 500}).evidence["fallback"]
    assert fallback == "outside the range seen: features.years"


def test_what_ran_out_of_memory_and_did_not_come_through_raises_the_advice(
    runs_dir: Path, open_advisor: Callable[..., LearnedAdvisor]
) -> None:
    advisor = open_advisor(runs_dir, "linear")
    known = advisor.recommend("simulate", features=features(GIB), confidence=0.95)
    before = memory(known)
    facts = {"features": {"model": "gcam"}, "input_bytes": GIB, "n_inputs": 1}
    for _ in range(10):
        advisor.observe(observed(1.5 * before, outcome="out_of_memory", **facts))
    assert memory(advisor.recommend("simulate", features=features(GIB), confidence=0.95)) > 1.5 * before
    # Something smaller of the same kind tells nothing of them.
    advisor.observe(observed(0.9 * before, **facts))
    assert memory(advisor.recommend("simulate", features=features(GIB), confidence=0.95)) > 1.5 * before
    # They came through after all.
    advisor.observe(observed(1.6 * before, **facts))
    assert memory(advisor.recommend("simulate", features=features(GIB), confidence=0.95)) < 1.2 * before


def test_what_is_kept_of_failures_and_changes_does_not_grow_with_them(
    runs_dir: Path, open_advisor: Callable[..., LearnedAdvisor]
) -> None:
    advisor = open_advisor(runs_dir, "linear")
    advisor.recommend("simulate", features=features(GIB))
    model = advisor._models["simulate"]
    facts: dict[str, Any] = {"input_bytes": GIB, "n_inputs": 1, "features": {"model": "gcam"}}
    for _ in range(40):
        advisor.observe(observed(2 * need(GIB), **facts))
    assert model.drift_total is not None
    assert model._before is None
    assert len(model._above) <= 20
    for _ in range(200):
        advisor.observe(observed(9 * need(GIB), outcome="out_of_memory", **facts))
    assert len(model._open) == 50


def test_a_retry_is_larger_than_what_failed_however_large_that_was(
    runs_dir: Path, open_advisor: Callable[..., LearnedAdvisor]
) -> None:
    advisor = open_advisor(runs_dir, "linear")
    first = memory(advisor.recommend("simulate", features=features(GIB)))
    for failed in (first, 3 * first, 40 * first):
        assert advisor.retry_bytes("simulate", failed, features=features(GIB)) > failed


def test_learning_stands_in_nobodys_way(
    runs_dir: Path, open_advisor: Callable[..., LearnedAdvisor], monkeypatch: pytest.MonkeyPatch
) -> None:
    advisor = open_advisor(runs_dir, "linear")
    advisor.recommend("simulate", features=features(GIB))
    going, go_on = threading.Event(), threading.Event()

    def slow(*args: Any) -> Any:
        going.set()
        assert go_on.wait(60)
        return whole(*args)

    whole = learned.fit
    monkeypatch.setattr(learned, "fit", slow)
    for _ in range(20):
        advisor.observe(observed(need(GIB), features={"model": "gcam"}, input_bytes=GIB, n_inputs=1))
    assert going.wait(60)
    # Answered while it learns: else this would wait for ever.
    assert memory(advisor.recommend("simulate", features=features(GIB))) > need(GIB)
    advisor.observe(observed(need(GIB), input_bytes=GIB))
    go_on.set()
    advisor.settle()
    assert advisor.recommend("simulate", features=features(GIB)).evidence["learned_from"] > 150


def test_a_model_is_found_again_until_there_is_something_new(
    tmp_path: Path, open_advisor: Callable[..., LearnedAdvisor], monkeypatch: pytest.MonkeyPatch
) -> None:
    random = np.random.default_rng(0)
    history.run(tmp_path, attempts(random, 40), number=0)
    fits: list[int] = []
    whole = learned.fit

    def counted(seen: Any, *rest: Any) -> Any:
        fits.append(len(seen))
        return whole(seen, *rest)

    monkeypatch.setattr(learned, "fit", counted)

    def advised(*args: Any) -> Recommendation:
        return open_advisor(tmp_path, *args).recommend("simulate", features=features(GIB))

    first = advised("linear")
    assert advised("linear") == first
    assert fits == [40]
    assert advised("random_forest").model_type == "random_forest"
    assert advised("linear", {"alpha": 5.0}).model_type == "linear"
    assert fits == [40, 40, 40]
    history.run(tmp_path, attempts(random, 40), number=1)
    assert advised("linear") != first
    assert fits == [40, 40, 40, 80]


def test_peaks_of_shared_workers_are_not_multiplied(
    tmp_path: Path, open_advisor: Callable[..., LearnedAdvisor]
) -> None:
    for name, exclusive in (("shared", False), ("alone", True)):
        history.run(tmp_path / name, [{"peak": GIB, "exclusive": exclusive}] * 30, threads=4)
    shared, alone = (open_advisor(tmp_path / name).recommend("simulate") for name in ("shared", "alone"))
    assert (shared.evidence["peaks"], alone.evidence["peaks"]) == ("shared", "exclusive")
    assert shared.resources["demeter"]["memory"] != alone.resources["demeter"]["memory"]


def test_several_threads_may_ask_and_tell(runs_dir: Path, open_advisor: Callable[..., LearnedAdvisor]) -> None:
    advisor = open_advisor(runs_dir, "linear")
    failures: list[BaseException] = []

    def work() -> None:
        try:
            for number in range(40):
                size = (0.1 + number / 50) * GIB
                advisor.observe(observed(need(size), input_bytes=size, n_inputs=1, features={"model": "gcam"}))
                advisor.recommend("simulate", features=features(size))
        except BaseException as error:  # noqa: BLE001  (whatever it is, it is this test's result)
            failures.append(error)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for one in threads:
        one.start()
    for one in threads:
        one.join(60)
    assert not failures
    advisor.settle()
    assert advisor.recommend("simulate", features=features(GIB)).evidence["learned_from"] > 0.9 * (150 + 160)


def test_after_closing_nothing_is_learned_any_more(runs_dir: Path, open_advisor: Callable[..., LearnedAdvisor]) -> None:
    advisor = open_advisor(runs_dir, "linear")
    advisor.recommend("simulate", features=features(GIB))
    advisor.close()
    for _ in range(40):
        advisor.observe(observed(need(GIB), input_bytes=GIB))
    assert not [one for one in threading.enumerate() if one.name.startswith("scalable-refit")]
    assert memory(advisor.recommend("simulate", features=features(GIB))) > need(GIB)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (("gradient_bosting",), "did you mean 'gradient_boosting'"),
        (("linear", {"alhpa": 1}), "did you mean 'alpha'"),
        (("random_forest", {"n_estimators": 0}), "whole number from 1"),
    ],
)
def test_a_wrong_model_is_refused_at_once(wrong: tuple[Any, ...], message: str) -> None:
    with pytest.raises(ScalableError, match=message):
        LearnedAdvisor(Past(), *wrong)


def test_without_scikit_learn_the_line_for_pip_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "sklearn", None)
    with pytest.raises(MissingExtra, match=r"pip install 'scalable-workflows\[ml\]'"):
        LearnedAdvisor(Past())


@pytest.mark.parametrize("confidence", [0.0, 1.0, -1, float("nan")])
def test_a_confidence_that_is_none_is_refused(confidence: float, runs_dir: Path) -> None:
    with pytest.raises(ScalableError, match="confidence"):
        LearnedAdvisor.from_history(runs_dir).recommend("simulate", confidence=confidence)
