"""Errors: one exit code a branch, messages that say what, where and how to mend it."""

from __future__ import annotations

import inspect
import pickle
import re

import pytest

from scalable import errors
from scalable.errors import (
    Infeasible,
    Issue,
    ManifestInvalid,
    ManifestSyntax,
    MissingExtra,
    ProviderUnavailable,
    ScalableError,
    SubmitFailed,
    TaskOutOfMemory,
    UnknownTag,
    ValidationReport,
    did_you_mean,
)

ALL = [cls for _, cls in inspect.getmembers(errors, inspect.isclass) if issubclass(cls, ScalableError)]


@pytest.mark.parametrize(
    ("kind", "code"),
    [
        (ScalableError, 1), (ManifestSyntax, 2), (ManifestInvalid, 2), (Infeasible, 3), (ProviderUnavailable, 4),
        (SubmitFailed, 4), (UnknownTag, 5), (TaskOutOfMemory, 5), (MissingExtra, 6), (errors.InternalError, 70),
    ],
)  # fmt: skip
def test_each_branch_has_an_exit_code(kind: type[ScalableError], code: int) -> None:
    assert kind.exit_code == code


def test_the_tree_on_top_of_the_module_names_every_error() -> None:
    drawn = set(re.findall(r"[A-Z][A-Za-z]+", inspect.getdoc(errors) or ""))
    assert {cls.__name__ for cls in ALL if not cls.__name__.startswith("_")} <= drawn


def test_no_error_is_a_value_error() -> None:
    assert not any(issubclass(cls, ValueError) for cls in ALL)


@pytest.mark.parametrize(
    "error",
    [
        ScalableError("x"),
        ManifestInvalid([Issue("E_X", "a", "b")]),
        UnknownTag("a", ["b"], "tag"),
        SubmitFailed("sbatch", 1, "no", passing=True),
        TaskOutOfMemory("too much", 1, 2),
    ],
)
def test_an_error_survives_the_way_between_processes(error: ScalableError) -> None:
    copy = pickle.loads(pickle.dumps(error))
    assert (type(copy), str(copy), vars(copy)) == (type(error), str(error), vars(error))


def test_an_issue_is_one_line_with_place_reason_remedy_and_code() -> None:
    issue = Issue("E_UNKNOWN_TARGET_KEY", "targets.hpc.cpu", "unknown key 'cpu'", "remove it", "scalable.yaml", 8, 5)
    assert str(issue) == "scalable.yaml:8:5 targets.hpc.cpu: unknown key 'cpu'; remove it [E_UNKNOWN_TARGET_KEY]"


@pytest.mark.parametrize(
    ("issue", "text"),
    [
        (Issue("E_X", "", "odd"), "odd [E_X]"),
        (Issue("E_X", "a.b", "odd"), "a.b: odd [E_X]"),
        (Issue("E_X", "", "odd", file="f.yaml"), "f.yaml: odd [E_X]"),
    ],
)
def test_an_issue_leaves_out_what_it_does_not_know(issue: Issue, text: str) -> None:
    assert str(issue) == text


def test_a_report_is_ok_when_there_are_only_warnings() -> None:
    warning, error = Issue("W_X", "a", "doubtful"), Issue("E_X", "a", "wrong")
    assert ValidationReport((warning,)).ok
    report = ValidationReport((warning, error))
    assert not report.ok
    assert (report.errors, report.warnings) == ((error,), (warning,))


def test_all_issues_of_a_manifest_are_in_the_message() -> None:
    error = ManifestInvalid([Issue("E_X", "a", "one"), Issue("E_Y", "b", "two")])
    assert str(error) == "a: one [E_X]\nb: two [E_Y]"


def test_an_unknown_tag_lists_the_known_ones() -> None:
    assert str(UnknownTag("simulat", ["simulate", "analyze"])) == (
        "no pool of this target offers tag 'simulat'; known: simulate, analyze; did you mean 'simulate'?"
    )
    assert str(UnknownTag("x", [])).endswith("known: none")


def test_a_failed_command_is_quoted_with_its_words() -> None:
    assert (
        str(SubmitFailed("sbatch job.sh", 1, "invalid account\n")) == "`sbatch job.sh` exited with 1: invalid account"
    )


@pytest.mark.parametrize(("word", "hint"), [("slurn", "did you mean 'slurm'?"), ("zzz", "")])
def test_the_nearest_known_word_is_suggested(word: str, hint: str) -> None:
    assert did_you_mean(word, ["local", "slurm"]) == hint
