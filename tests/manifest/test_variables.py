"""Variables expand in values, keep their type, and must be set only where they matter."""

from __future__ import annotations

import pytest

from tests.manifest.reading import BASE, HEAD, codes, lines, read

TARGETS = (
    HEAD
    + """\
targets:
  local:
    provider: local
    max_workers: ${WORKERS:-4}
  hpc:
    provider: slurm
    account: ${ACCOUNT}
"""
)


def _component(line: str, **environ: str) -> object:
    key = line.partition(":")[0]
    made = read(BASE + f"components:\n  a:\n    {line}\n", environ=environ).components["a"]
    return getattr(made, key)


@pytest.mark.parametrize(
    ("line", "environ", "value"),
    [
        ("cpus: ${N:-4}", {}, 4),
        ("cpus: ${N:-4}", {"N": "2.5"}, 2.5),
        ("cpus: ${N:-4}", {"N": ""}, 4),
        ("cpus: 1${N}", {"N": "6"}, 16),
        ("image: ${IMAGE}", {"IMAGE": "a:1"}, "a:1"),
        ("image: ${IMAGE:-}", {}, None),
        ("image: ghcr.io/${WHO}/x:${TAG:-latest}", {"WHO": "me"}, "ghcr.io/me/x:latest"),
        ("image: '${N}'", {"N": "5"}, "5"),
        ("image: $HOME/x", {"HOME": "/root"}, "$HOME/x"),
        ("image: $${HOME}/x", {"HOME": "/root"}, "${HOME}/x"),
        ("image: ${DAY}", {"DAY": "2024-01-01"}, "2024-01-01"),
        ("image: ${A}", {"A": "${B}"}, "${B}"),
        ("env: {A: '${A}'}", {"A": "1.10"}, {"A": "1.10"}),
        ("mounts: {/data: '${D}'}", {"D": "/d"}, {"/data": "/d"}),
    ],
)  # fmt: skip
def test_a_variable_expands_and_keeps_its_type(line: str, environ: dict[str, str], value: object) -> None:
    found = _component(line, **environ)
    assert (found, type(found)) == (value, type(value))


def test_a_quoted_variable_stays_text() -> None:
    assert codes(BASE + "components: {a: {cpus: '${N:-4}'}}\n") == ["E_BAD_CPUS"]


def test_a_key_is_never_expanded() -> None:
    assert lines(BASE + "components:\n  a:\n    mounts: {'${DATA}': /data}\n", environ={"DATA": "/x"}) == [
        (
            "scalable.yaml:7:14 components.a.mounts.${DATA}: '${DATA}' is not an absolute path; "
            "variables expand in values, not in keys [E_RELATIVE_MOUNT]"
        )
    ]


@pytest.mark.parametrize("text", ["${}", "${A B}", "${A", "${1A}", "${A-b}"])
def test_a_reference_without_a_name_is_refused(text: str) -> None:
    assert codes(BASE + f"components:\n  a:\n    image: '{text}'\n", environ={"A": "x"}) == ["E_BAD_VARIABLE"]


def test_only_the_variables_of_the_chosen_target_must_be_set() -> None:
    assert codes(TARGETS, target="local") == []
    assert lines(TARGETS, target="hpc") == [
        (
            "scalable.yaml:9:14 targets.hpc.account: the environment variable ACCOUNT is not set; "
            "set it, or write ${ACCOUNT:-default} [E_UNSET_VARIABLE]"
        )
    ]


def test_with_no_target_chosen_a_variable_of_a_target_is_a_warning() -> None:
    assert codes(TARGETS) == ["W_UNSET_VARIABLE"]


def test_variables_of_what_all_targets_share_must_be_set() -> None:
    text = BASE + "components:\n  a:\n    image: ${IMAGE}\n"
    assert codes(text) == codes(text, target="local") == ["E_UNSET_VARIABLE"]


def test_a_value_that_hangs_on_an_unset_variable_elsewhere_is_not_judged() -> None:
    text = (
        HEAD
        + """\
targets:
  local: {provider: local}
  hpc:
    provider: slurm
    max_workers: ${N}
    job_extra_directives: ["${A}", x]
    adaptive:
      maximum: ${M}
  other:
    provider: ${P}
"""
    )
    assert codes(text, target="local") == []
    assert codes(text, target="hpc") == ["E_UNSET_VARIABLE"] * 3


def test_what_does_not_hang_on_the_variable_is_judged_all_the_same() -> None:
    assert codes(TARGETS + "    walltime: soon\n", target="local") == ["E_BAD_WALLTIME"]


def test_a_variable_with_a_bad_value_is_reported_where_it_stands() -> None:
    assert lines(TARGETS, target="local", environ={"WORKERS": "many"}) == [
        "scalable.yaml:6:18 targets.local.max_workers: max_workers must be a positive integer [E_BAD_MAX_WORKERS]"
    ]


def test_a_line_break_from_the_environment_does_not_reach_a_script() -> None:
    text = TARGETS.replace("${ACCOUNT}", "${ACCOUNT:-x}")
    assert codes(text, target="hpc", environ={"ACCOUNT": "x\nrm -rf /"}) == ["E_CONTROL_CHARACTER"]
