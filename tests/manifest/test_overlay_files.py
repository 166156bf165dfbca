"""An overlay may be a file of its own; its problems are told at its own lines."""

from __future__ import annotations

from pathlib import Path

import pytest

from scalable.errors import ManifestSyntax
from scalable.providers import registry
from scalable.spec import resolve
from tests.manifest.reading import BASE, HEAD, codes, lines, read

TEXT = (
    BASE
    + "components:\n  simulate: {cpus: 1, memory: 1G}\ntasks:\n  simulate: {component: simulate}\n"
    + "overlays:\n  large: {components: {simulate: {cpus: 8}}}\n"
)


def over(text: str, name: str = "advice.yaml") -> str:
    Path(name).write_text(text)
    return name


def test_a_file_is_laid_over_like_a_named_overlay() -> None:
    made = read(TEXT, overlay=over("components: {simulate: {memory: 3G}}\ntasks: {simulate: {duration: 12s}}\n"))
    assert (made.components["simulate"].cpus, made.components["simulate"].memory_bytes) == (1, 3 * 2**30)
    assert made.tasks["simulate"].duration_s == 12
    assert made.overlay == "advice.yaml"


def test_problems_of_the_file_are_told_with_its_name_and_line() -> None:
    file = over("components:\n  simulate: {memory: 3G}\n  other:\n    cpus: 0\n")
    expected = ["advice.yaml:4:11 components.other.cpus: cpus must be a positive number [E_BAD_CPUS]"]
    assert lines(TEXT, overlay=file) == lines(TEXT, overlay=file, target="local") == expected


def test_what_the_file_makes_of_the_manifest_is_told_where_it_stands() -> None:
    file = over("tasks:\n  simulate:\n    component: nowhere\n")
    assert lines(TEXT, overlay=file) == [
        (
            "advice.yaml:3:16 tasks.simulate.component: there is no component 'nowhere'; known: simulate "
            "[E_TASK_COMPONENT_REF]"
        )
    ]
    assert lines(TEXT.replace("cpus: 1", "cpus: 0"), overlay=over("{}\n")) == [
        "scalable.yaml:6:20 components.simulate.cpus: cpus must be a positive number [E_BAD_CPUS]"
    ]


def test_what_an_overlay_cannot_hold_a_file_of_one_cannot_either() -> None:
    assert lines(TEXT, overlay=over("version: 1\n")) == [
        (
            "advice.yaml:1:1 version: unknown key 'version'; an overlay may hold "
            "project, targets, components, tasks, objectives [E_UNKNOWN_OVERLAY_KEY]"
        )
    ]


def test_a_duplicate_key_of_the_file_is_told() -> None:
    file = over("components:\n  simulate: {cpus: 1, cpus: 2}\n")
    assert [line.split(" ")[0] for line in lines(TEXT, overlay=file)] == ["advice.yaml:2:23"]


def test_a_file_that_is_not_there_is_one_clear_error() -> None:
    with pytest.raises(ManifestSyntax, match=r"missing.yaml: there is no such file; give the path of the overlay"):
        read(TEXT, overlay="missing.yaml")


def test_a_named_overlay_goes_before_a_file_of_that_name() -> None:
    over("components: {simulate: {cpus: 3}}\n", "big.yaml")
    text = TEXT.replace("large:", "big.yaml:")
    assert read(text, overlay="big.yaml").components["simulate"].cpus == 8


def test_a_manifest_without_overlays_takes_a_file_too() -> None:
    text = TEXT.split("overlays:", maxsplit=1)[0]
    file = over("components: {simulate: {cpus: 3}}\n")
    assert read(text, overlay=file).components["simulate"].cpus == 3
    assert read(text + "overlays:\n", overlay=file).components["simulate"].cpus == 3
    assert sorted(codes(text + "overlays: [a]\n", overlay=file)) == ["E_BAD_TYPE", "E_UNKNOWN_OVERLAY"]


def test_variables_of_the_file_must_be_set() -> None:
    file = over('components: {simulate: {image: "${IMAGE}"}}\n')
    assert codes(TEXT, overlay=file) == ["E_UNSET_VARIABLE"]
    assert read(TEXT, overlay=file, environ={"IMAGE": "x.sif"}).components["simulate"].image == "x.sif"


def test_what_a_provider_finds_is_told_in_the_file_where_it_stands() -> None:
    text = HEAD + "targets: {local: {provider: local}}\ncomponents: {simulate: {cpus: 1}}\n"
    made = read(text, target="local", overlay=over("components:\n  simulate:\n    env: {X: y}\n"))
    (issue,) = registry.check(resolve(made)).issues
    assert str(issue).startswith("advice.yaml:3:5 components.simulate.env: not applied")
    made = read(text.replace("cpus: 1", "env: {X: y}"), target="local", overlay=over("{}\n"))
    (issue,) = registry.check(resolve(made)).issues
    assert str(issue).startswith("scalable.yaml:4:25 components.simulate.env: not applied")


def test_a_manifest_may_say_that_runs_take_advice_and_a_target_goes_before() -> None:
    assert resolve(read(TEXT, target="local")).advise is False
    assert resolve(read("advise: true\n" + TEXT, target="local")).advise is True
    text = "advise: true\n" + TEXT.replace("{provider: local}", "{provider: local, advise: false}")
    assert resolve(read(text, target="local")).advise is False
    assert lines("advise: yes\n" + TEXT) == [
        "scalable.yaml:1:9 advise: must be true or false; write true, without quotes [E_BAD_TYPE]"
    ]
