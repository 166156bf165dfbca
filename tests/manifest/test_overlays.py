"""Overlays merge deeply onto the base, and what comes of it is validated again."""

from __future__ import annotations

import pytest

from scalable.errors import ManifestInvalid
from tests.manifest.reading import BASE, HEAD, codes, lines, read

TEXT = (
    HEAD
    + """\
targets:
  local: {provider: local, max_workers: 2}
  big: {provider: local, overlay: large}
components:
  simulate:
    cpus: 1
    memory: 1G
    tags: [a, b]
    env: {X: "1", Y: "2"}
tasks:
  simulate: {component: simulate, retries: 3}
overlays:
  large:
    components:
      simulate: {cpus: 8, tags: [c], env: {Y: "3"}}
      extra: {cpus: 2}
    targets:
      local: {max_workers: 9}
  plain:
    components:
      simulate: {memory: null, env: null}
    tasks:
      simulate: {retries: ~}
"""
)


def test_without_an_overlay_the_base_holds() -> None:
    made = read(TEXT, target="local")
    assert made.overlay is None
    assert made.components["simulate"].cpus == 1
    assert list(made.components) == ["simulate"]


def test_mappings_merge_and_lists_and_values_are_replaced() -> None:
    made = read(TEXT, target="big")
    assert made.overlay == "large"
    assert list(made.components) == ["simulate", "extra"]
    one = made.components["simulate"]
    assert (one.cpus, one.memory_bytes, one.tags, one.env) == (8, 2**30, ("c",), {"X": "1", "Y": "3"})


def test_the_overlay_that_is_given_goes_before_the_one_that_the_target_names() -> None:
    assert read(TEXT, target="big", overlay="plain").components["simulate"].cpus == 1
    assert read(TEXT, target="local", overlay="large").targets["local"].options.max_workers == 9  # type: ignore[union-attr]


def test_null_in_an_overlay_takes_the_key_away() -> None:
    made = read(TEXT, overlay="plain")
    assert made.components["simulate"].memory_bytes is None
    assert made.components["simulate"].env == {}
    assert made.tasks["simulate"].retries == 0


def test_a_key_that_is_required_cannot_be_taken_away() -> None:
    text = TEXT + "  wrong:\n    tasks:\n      simulate: {component: ~}\n"
    assert lines(text) == [
        (
            "scalable.yaml:28:18 overlays.wrong.tasks.simulate.component: the key 'component' is missing; "
            "add `component: ...` [E_MISSING_KEY]"
        )
    ]


def test_an_unknown_overlay_lists_the_known_ones() -> None:
    assert lines(TEXT, overlay="larg") == [
        (
            "scalable.yaml overlays: there is no overlay 'larg'; known: large, plain; did you mean 'large'? "
            "[E_UNKNOWN_OVERLAY]"
        )
    ]
    assert lines(TEXT.replace("overlay: large", "overlay: huge"), target="local") == [
        "scalable.yaml:5:35 targets.big.overlay: there is no overlay 'huge'; known: large, plain [E_UNKNOWN_OVERLAY]"
    ]


def test_a_problem_inside_an_overlay_is_reported_at_its_own_line_in_force_or_not() -> None:
    text = TEXT.replace("cpus: 8", "cpus: 0, cpu: 3").replace("{cpus: 2}", "{memory: 1}")
    expected = [
        "scalable.yaml:17:24 overlays.large.components.simulate.cpus: cpus must be a positive number [E_BAD_CPUS]",
        (
            "scalable.yaml:17:27 overlays.large.components.simulate.cpu: unknown key 'cpu'; did you mean 'cpus'? "
            "[E_UNKNOWN_COMPONENT_KEY]"
        ),
        (
            "scalable.yaml:18:23 overlays.large.components.extra.memory: 1 bytes is too little to work with; "
            "write a unit: 1G [E_BAD_MEMORY]"
        ),
    ]
    assert lines(text) == lines(text, target="local") == lines(text, target="big") == expected


def test_what_an_overlay_makes_of_the_base_is_validated_again() -> None:
    text = TEXT + "  gone:\n    components: {simulate: null, other: {}}\n"
    assert lines(text, target="local") == [
        (
            "scalable.yaml:13:25 tasks.simulate.component: there is no component 'simulate'; known: other "
            "[E_TASK_COMPONENT_REF]"
        )
    ]


def test_a_problem_of_the_base_is_reported_once_however_many_overlays_there_are() -> None:
    assert codes(TEXT.replace("cpus: 1\n", "cpus: 0\n").replace("cpus: 8, ", "")) == ["E_BAD_CPUS"]


def test_an_overlay_holds_parts_of_a_manifest_and_nothing_else() -> None:
    text = TEXT + "  odd: {version: 1, component: {}, targets: {local: {overlay: plain}}}\n"
    assert codes(text) == ["E_UNKNOWN_OVERLAY_KEY"] * 3


@pytest.mark.parametrize("body", ["3", "[a]", "text"])
def test_an_overlay_must_be_a_mapping(body: str) -> None:
    assert codes(BASE + f"overlays: {{o: {body}}}\n") == ["E_BAD_TYPE"]
    assert codes(BASE + f"overlays: {body}\n") == ["E_BAD_TYPE"]


def test_an_empty_overlay_changes_nothing() -> None:
    made = read(BASE + "overlays: {none: }\n", overlay="none")
    assert made.overlay == "none"
    assert made.components == read(BASE).components


def test_variables_of_an_overlay_must_be_set_only_when_it_is_in_force() -> None:
    text = TEXT.replace("cpus: 8", 'image: "${IMAGE}", cpus: 8')
    assert codes(text, target="local") == []
    assert codes(text, target="big") == ["E_UNSET_VARIABLE"]
    assert codes(text) == ["W_UNSET_VARIABLE"]


def test_a_variable_of_the_base_that_the_overlay_replaces_need_not_be_set() -> None:
    text = TEXT.replace("    cpus: 1\n", "    cpus: ${CPUS}\n")
    assert codes(text, target="big") == []
    assert codes(text, target="local") == ["E_UNSET_VARIABLE"]


def test_the_overlay_may_be_named_by_a_variable() -> None:
    text = TEXT.replace("overlay: large}", 'overlay: "${SIZE:-plain}"}')
    assert read(text, target="big").overlay == "plain"
    assert read(text, target="big", environ={"SIZE": "large"}).overlay == "large"
    with pytest.raises(ManifestInvalid, match="there is no overlay 'huge'"):
        read(text, target="big", environ={"SIZE": "huge"})


def test_an_overlay_may_bring_a_target() -> None:
    text = BASE + "overlays:\n  more:\n    targets:\n      hpc: {provider: slurm}\n"
    assert read(text, target="hpc", overlay="more").target == "hpc"
    assert codes(text, target="hpc") == ["E_UNKNOWN_TARGET"]


def test_tags_that_name_a_pool_of_other_targets_only_are_known() -> None:
    assert read(TEXT, target="local").tags_elsewhere == {"c": ("big",), "extra": ("big",)}
    assert read(TEXT, target="big").tags_elsewhere == {"a": ("local",), "b": ("local",)}
