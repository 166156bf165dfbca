"""Policies by name, by a line of text, and from other distributions."""

from __future__ import annotations

from importlib.metadata import EntryPoint
from typing import Any

import pytest

from scalable.errors import PlanError
from scalable.scaling import policies
from scalable.scaling.model import Observation, Policy, ScaleDecision
from scalable.scaling.policies import make_policy, policy_names
from tests.scaling.seen import pool, see, tag

PARAMETERS: dict[str, dict[str, Any]] = {"waterfall": {"rules": "1,a"}}


class Ours:
    """A policy that somebody else wrote."""

    name = "ours"
    interval_s = 1.0
    wants_groups = False

    def __init__(self, patience: float = 1.0) -> None:
        self.patience = patience

    def decide(self, observation: Observation) -> ScaleDecision:
        return ScaleDecision()


def broken(anything: float) -> Policy:
    raise ValueError("anything goes but this")


@pytest.mark.parametrize("name", policies.BUILT_IN)
def test_every_policy_is_made_by_its_name_and_decides(name: str) -> None:
    policy = make_policy(name, PARAMETERS.get(name))
    assert isinstance(policy, Policy)
    assert policy.name == name
    decision = policy.decide(see([pool()], [tag("x", queued=1, requires={"a": 1.0})]))
    assert decision.workers_to_add == ({} if name == "no" else {"a": 1})


@pytest.mark.parametrize("text", ["allocate=capability; scaling=vanilla", "scaling = vanilla ;allocate=even_load;"])
def test_a_line_of_text_names_the_policy(text: str) -> None:
    assert make_policy(text).name == "vanilla"


def test_the_lines_of_a_waterfall_make_one() -> None:
    policy: Any = make_policy("1,hpc  # first\n2,cloud,50\n")
    assert policy.name == "waterfall"
    assert [rule.name for rule in policy.rules] == ["hpc", "cloud"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("capabilty", r"no scaling policy 'capabilty'; known: no, share, .*; did you mean 'capability'\?"),
        ("allocate=even; scaling=no", r"no allocation 'even'; known: even_load, capability"),
        ("alocate=capability; scaling=no", r"'alocate=capability' in .* says nothing of scaling"),
        ("scaling=no; scaling=vanilla", "once each"),
        ("scaling=", "says nothing of scaling"),
    ],
)
def test_what_is_not_known_is_refused_by_name(text: str, said: str) -> None:
    with pytest.raises(PlanError, match=said):
        make_policy(text)


def test_an_unknown_parameter_is_refused_with_those_that_are_known() -> None:
    with pytest.raises(
        PlanError, match=r"'uper_task_ratio'; known: lower_task_ratio, .*did you mean 'upper_task_ratio'"
    ):
        make_policy("vanilla", {"uper_task_ratio": 3})


def test_a_parameter_of_the_wrong_type_is_told_by_its_policy() -> None:
    with pytest.raises(PlanError, match=r"scaling policy 'vanilla' cannot be made with upper_task_ratio='ten'"):
        make_policy("vanilla", {"upper_task_ratio": "ten"})


def test_a_waterfall_without_rules_is_refused() -> None:
    with pytest.raises(PlanError, match="rules"):
        make_policy("scaling=waterfall")


def test_what_the_caller_knows_is_given_to_those_who_ask_and_the_user_has_the_last_word() -> None:
    assert make_policy("vanilla", objective="cost", interval_s=7.0).interval_s == 7.0
    assert make_policy("vanilla", {"interval_s": 3.0}, interval_s=7.0).interval_s == 3.0


def test_policies_of_other_distributions_are_found_by_their_entry_points(monkeypatch: pytest.MonkeyPatch) -> None:
    points = {
        "ours": EntryPoint("ours", "tests.scaling.test_policies:Ours", policies.ENTRY_POINTS),
        "broken": EntryPoint("broken", "tests.scaling.test_policies:broken", policies.ENTRY_POINTS),
        "gone": EntryPoint("gone", "no_such_module:Policy", policies.ENTRY_POINTS),
    }
    monkeypatch.setattr(policies, "_entry_points", lambda: points)
    made: Any = make_policy("ours", {"patience": 2.0})
    assert made.patience == 2.0
    assert "ours" in policy_names()
    with pytest.raises(PlanError, match="known: patience"):
        make_policy("ours", {"patients": 2.0})
    with pytest.raises(PlanError, match="'broken' cannot be made with anything=1: anything goes but this"):
        make_policy("broken", {"anything": 1})
    with pytest.raises(PlanError, match="'gone' cannot be loaded: ModuleNotFoundError"):
        make_policy("gone")


def test_an_objective_that_there_is_not_is_refused() -> None:
    with pytest.raises(PlanError, match=r"objective 'minimise cost': there are .*did you mean 'minimize cost'"):
        make_policy("predictive", {"objective": "minimise cost"})
