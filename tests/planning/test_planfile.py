"""A plan as a file is the same plan, and nothing else is taken for one."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from scalable.errors import PlanError
from scalable.planning import Plan, make_plan
from scalable.planning.picture import draw_front
from scalable.planning.planfile import read_plan
from scalable.spec import Limits, ResourceRequest, ScalePlan, TaskSpec
from tests.planning.test_plan import ANALYZE, SIMULATE, spec


def made(**more: Any) -> Plan:
    return make_plan(
        replace(spec(SIMULATE, ANALYZE), fingerprint="ab" * 32), Limits(0, 30), **{"objective": "balance", **more}
    )


def written(plan: Plan, path: Path, **changes: Any) -> Path:
    path.write_text(json.dumps({**plan.to_json(), **changes}))
    return path


@pytest.mark.parametrize("more", [{}, {"objective": None, "policy": "manual"}])
def test_a_plan_comes_back_from_its_file_as_it_was(tmp_path: Path, more: dict[str, Any]) -> None:
    plan = made(**more)
    back = read_plan(written(plan, tmp_path / "plan.json"))
    assert back.to_json() == plan.to_json()
    assert back.fingerprint == plan.fingerprint
    assert dict(back.scale_plan) == dict(plan.scale_plan)
    assert (back.limits, back.counts, back.policy) == (plan.limits, dict(plan.counts), plan.policy)


def test_the_fingerprint_is_of_all_that_the_plan_says() -> None:
    assert made().fingerprint == made().fingerprint
    assert made().fingerprint != made(policy="aggressive").fingerprint


def test_a_plan_that_was_changed_by_hand_is_refused_unless_that_is_meant(tmp_path: Path) -> None:
    limits = {"minimum": 0, "maximum": 3}
    with pytest.raises(PlanError, match=r"plan.json was changed after it was made.*take the fingerprint out"):
        read_plan(written(made(), tmp_path / "plan.json", limits=limits))
    assert read_plan(written(made(), tmp_path / "plan.json", limits=limits, fingerprint=None)).limits.maximum == 3


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda data: data | {"workers": 3}, "workers: Extra inputs are not permitted"),
        (lambda data: data | {"schema": 2}, "schema: Input should be 1"),
        (lambda data: {key: data[key] for key in data if key != "limits"}, "limits: Field required"),
        (lambda data: [data], "is no plan"),
    ],
)
def test_what_is_no_plan_is_refused_with_where(
    tmp_path: Path, change: Callable[[dict[str, Any]], Any], message: str
) -> None:
    path = tmp_path / "plan.json"
    path.write_text(json.dumps(change(made().to_json())))
    with pytest.raises(PlanError, match=message):
        read_plan(path)


@pytest.mark.parametrize(
    ("limits", "counts", "message"),
    [
        (Limits(40, 3), {}, r"limits.minimum 40 is not between 0 and limits.maximum 3"),
        (Limits(0, 3), {"simulator": 50}, r"starts with 50 workers.*more than limits.maximum 3"),
        (Limits(0, 3), {"simulator": -1}, r"-1 workers of pool simulator"),
        (Limits(0, 40), {}, r"limits.maximum 40 is more than the 30 workers that target"),
    ],
)
def test_numbers_of_workers_that_cannot_be_are_refused_with_which(
    limits: Limits, counts: dict[str, int], message: str
) -> None:
    plan = made()
    (name,) = plan.scale_plan
    requests = {name: replace(plan.scale_plan[name], count=next(iter(counts.values()), 1))}
    asked = replace(plan, scale_plan=ScalePlan(requests), limits=limits)
    deployment = replace(spec(SIMULATE, ANALYZE), fingerprint="ab" * 32)
    with pytest.raises(PlanError, match=rf"the plan cannot be: .*{message.replace('simulator', name)}.*plan again"):
        asked.check(deployment, Limits(0, 30))
    plan.check(deployment, Limits(0, 30))


def test_a_file_that_cannot_be_read_is_refused_with_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(PlanError, match=r"cannot read the plan .*make one with `scalable plan --format json`"):
        read_plan(tmp_path / "missing.json")
    (tmp_path / "plan.json").write_text("Target: local")
    with pytest.raises(PlanError, match="is no plan"):
        read_plan(tmp_path / "plan.json")


def test_a_plan_is_only_for_its_own_target_manifest_and_pools() -> None:
    own = replace(spec(SIMULATE, ANALYZE), fingerprint="ab" * 32)
    made().check(own)
    with pytest.raises(PlanError, match="for target 'local', this is target 'hpc'; run it with --target local"):
        made().check(replace(own, target="hpc"))
    with pytest.raises(PlanError, match=r"fingerprint abababababab, this one has cdcdcdcdcdcd.*plan again"):
        made().check(replace(own, fingerprint="cd" * 32))
    with pytest.raises(PlanError, match=r"for other pools \(postprocess\)"):
        made().check(replace(own, components={"demeter": own.components["demeter"]}))


def test_workers_are_given_what_the_plan_says() -> None:
    own = spec(SIMULATE, TaskSpec("other", "postprocess", count=1, duration_s=1))
    assert make_plan(own, Limits(2, 2)).fitted(own) is own
    larger = replace(make_plan(own, Limits(2, 2)), scale_plan={}, resources={"demeter": ResourceRequest(1, 5 * 2**30)})
    assert larger.fitted(own).components["demeter"].resources.memory == "5G"
    assert larger.fitted(own).components["postprocess"] == own.components["postprocess"]


def test_the_front_is_drawn_with_the_choice_on_it(tmp_path: Path) -> None:
    plan = made()
    draw_front(plan, tmp_path / "front.svg")
    drawn = ElementTree.parse(tmp_path / "front.svg").getroot()
    circles = drawn.findall("{http://www.w3.org/2000/svg}circle")
    assert len(circles) == len(plan.front) + 1
    assert f"{plan.counts['demeter']} demeter" in "".join(drawn.itertext())


def test_a_picture_that_cannot_be_is_refused(tmp_path: Path) -> None:
    with pytest.raises(PlanError, match=r"front.png: a picture of a plan is an SVG file"):
        draw_front(made(), tmp_path / "front.png")
    with pytest.raises(PlanError, match="no choices to draw"):
        draw_front(made(objective=None), tmp_path / "front.svg")
    with pytest.raises(PlanError, match="cannot write"):
        draw_front(made(), tmp_path / "missing" / "front.svg")
