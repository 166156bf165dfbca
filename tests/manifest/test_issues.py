"""All problems are reported at once, in the order of the file, with place, reason and remedy."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import BaseModel

from scalable.errors import ManifestInvalid, ProviderUnavailable
from scalable.manifest import load
from scalable.providers.registry import catalogue
from tests.manifest.reading import BASE, HEAD, codes, lines, problems, read


def test_every_problem_is_reported_at_once_in_the_order_of_the_file() -> None:
    text = """\
        version: 2
        project:
          nam: forecast
        targets:
          local:
            provider: local
            max_workers: 0
          hpc:
            provider: slurn
        components:
          demeter:
            cpus: "8"
            memory: 32X
            cpu: 4
        tasks:
          simulate:
            component: demetr
        task: {}
        """
    assert lines(text) == [
        "scalable.yaml:1:10 version: version must be 1, not 2; this release reads version 1 [E_BAD_VERSION]",
        "scalable.yaml:2:1 project.name: the key 'name' is missing; add `name: ...` [E_MISSING_KEY]",
        "scalable.yaml:3:3 project.nam: unknown key 'nam'; did you mean 'name'? [E_UNKNOWN_PROJECT_KEY]",
        "scalable.yaml:7:18 targets.local.max_workers: max_workers must be a positive integer [E_BAD_MAX_WORKERS]",
        (
            "scalable.yaml:9:15 targets.hpc.provider: there is no provider 'slurn'; did you mean 'slurm'? "
            "[E_UNKNOWN_PROVIDER]"
        ),
        "scalable.yaml:12:11 components.demeter.cpus: cpus must be a positive number; remove the quotes [E_BAD_CPUS]",
        (
            "scalable.yaml:13:13 components.demeter.memory: '32X' is not a size; write it like 512M, 32G or 500MB "
            "[E_BAD_MEMORY]"
        ),
        "scalable.yaml:14:5 components.demeter.cpu: unknown key 'cpu'; did you mean 'cpus'? [E_UNKNOWN_COMPONENT_KEY]",
        (
            "scalable.yaml:17:16 tasks.simulate.component: there is no component 'demetr'; did you mean 'demeter'? "
            "[E_TASK_COMPONENT_REF]"
        ),
        "scalable.yaml:18:1 task: unknown key 'task'; did you mean 'tasks'? [E_UNKNOWN_TOP_KEY]",
    ]


def test_an_option_that_belongs_to_a_component_is_told_so() -> None:
    text = HEAD + "targets:\n  hpc:\n    provider: slurm\n    queue: batch\n    cpus: 10\n"
    assert lines(text) == [
        "scalable.yaml:7:5 targets.hpc.cpus: unknown key 'cpus'; it belongs to a component [E_UNKNOWN_TARGET_KEY]"
    ]


def test_options_of_targets_that_are_not_chosen_are_checked_as_strictly() -> None:
    text = BASE + "  hpc: {provider: slurm, walltime: soon}\n"
    assert codes(text, target="local") == ["E_BAD_WALLTIME"]


@pytest.mark.parametrize(
    ("value", "hint"),
    [("0", ""), ("-1", ""), ("1.5", ""), ("true", ""), ("four", ""), ('"4"', "; remove the quotes")],
)
def test_max_workers_must_be_a_positive_integer(value: str, hint: str) -> None:
    (line,) = lines(HEAD + f"targets: {{t: {{provider: local, max_workers: {value}}}}}\n")
    assert line.endswith(f"max_workers must be a positive integer{hint} [E_BAD_MAX_WORKERS]")


@pytest.mark.parametrize("value", ["4", "0.5", "1e3"])
def test_cpus_may_be_any_positive_number(value: str) -> None:
    assert read(BASE + f"components: {{a: {{cpus: {value}}}}}\n").components["a"].cpus == float(value)


@pytest.mark.parametrize("value", ["0", "-1", ".inf", ".nan", "1e999", "true", "many", '"4"'])
def test_cpus_that_are_no_positive_number_are_refused(value: str) -> None:
    assert codes(BASE + f"components: {{a: {{cpus: {value}}}}}\n") == ["E_BAD_CPUS"]


def test_a_memory_without_unit_is_taken_for_a_mistake() -> None:
    assert lines(BASE + "components: {a: {memory: 32}}\n") == [
        "scalable.yaml:5:26 components.a.memory: 32 bytes is too little to work with; write a unit: 32G [E_BAD_MEMORY]"
    ]


def test_an_unquoted_walltime_stays_a_walltime() -> None:
    made = read(HEAD + "targets:\n  hpc:\n    provider: slurm\n    walltime: 02:00:00\n")
    assert made.targets["hpc"].options.walltime == 7200.0  # type: ignore[union-attr]


@pytest.mark.parametrize("form", ["{minimum: 1, maximum: 16}", "{min: 1, max: 16}", "{min: 1, maximum: 16}"])
def test_adaptive_has_a_long_and_a_short_form(form: str) -> None:
    made = read(HEAD + f"targets: {{t: {{provider: aws, adaptive: {form}}}}}\n")
    adaptive = made.targets["t"].options.adaptive  # type: ignore[union-attr]
    assert (adaptive.minimum, adaptive.maximum) == (1, 16)


@pytest.mark.parametrize(
    "form",
    ["{min: 5, max: 2}", "{min: -1, max: 2}", "{max: 0}", "{max: '2'}", "{min: 1, minimum: 1, max: 2}"],
)
def test_bounds_that_contradict_themselves_are_refused(form: str) -> None:
    assert codes(HEAD + f"targets: {{t: {{provider: aws, adaptive: {form}}}}}\n") == ["E_BAD_ADAPTIVE"]


def test_an_adaptive_minimum_above_max_workers_is_refused_but_not_above_the_default() -> None:
    bounds = "adaptive: {min: 3, max: 5}"
    assert codes(HEAD + f"targets: {{t: {{provider: local, max_workers: 2, {bounds}}}}}\n") == ["E_BAD_ADAPTIVE"]
    assert codes(HEAD + f"targets: {{t: {{provider: local, {bounds}}}}}\n") == []


def test_without_components_there_is_one_called_default() -> None:
    for text in (BASE, BASE + "components:\n", BASE + "components: {}\n"):
        assert [(name, one.cpus) for name, one in read(text).components.items()] == [("default", 1)]


def test_nothing_counts_as_not_given() -> None:
    text = BASE + "components:\n  a:\n  b: {cpus: , memory: ~, tags: null}\ntasks:\noverlays:\n"
    made = read(text)
    assert made.components["a"] == made.components["b"]


def test_capabilities_are_names_or_amounts() -> None:
    made = read(BASE + "components:\n  a: {capabilities: [big]}\n  b: {capabilities: {big: 2, fast: }}\n")
    assert made.components["a"].capabilities == {"big": float("inf")}
    assert made.components["b"].capabilities == {"big": 2.0, "fast": float("inf")}


def test_values_of_env_are_text_as_they_stand() -> None:
    made = read(BASE + "components:\n  a:\n    env: {V: 1.10, N: 007, T: true, S: '', H: $HOME}\n")
    assert made.components["a"].env == {"V": "1.10", "N": "007", "T": "true", "S": "", "H": "$HOME"}


def test_a_tag_may_be_shared_but_not_be_the_name_of_another_component() -> None:
    assert codes(BASE + "components: {a: {tags: [x]}, b: {tags: [x]}}\n") == []
    assert codes(BASE + "components: {a: {tags: [b]}, b: }\n") == ["E_TAG_COLLISION"]


def test_a_component_cannot_be_called_as_the_capability_that_others_offer() -> None:
    assert codes(BASE + "components: {gpu: {gpus: 1}}\n") == ["E_TAG_COLLISION"]
    assert codes(BASE + "components: {gpu: {cpus: 1}}\n") == []
    assert codes(BASE + "components: {big: {}, a: {capabilities: [big]}}\n") == ["E_TAG_COLLISION"]


def test_gpus_given_twice_must_agree() -> None:
    assert codes(BASE + "components: {a: {gpus: 2, capabilities: {gpu: 1}}}\n") == ["E_BAD_CAPABILITY"]
    assert codes(BASE + "components: {a: {gpus: 2, capabilities: [gpu]}}\n") == []


def test_after_takes_a_list_or_one_name() -> None:
    made = read(BASE + "tasks:\n  a: {component: default}\n  b: {component: default, after: a}\n"
                "  c: {component: default, after: [a, b]}\n")  # fmt: skip
    assert [task.after for task in made.tasks.values()] == [(), ("a",), ("a", "b")]


def test_tasks_that_wait_for_each_other_are_named() -> None:
    text = BASE + (
        "tasks:\n  a: {component: default, after: c}\n  b: {component: default, after: a}\n"
        "  c: {component: default, after: [b]}\n  d: {component: default, after: [a, b]}\n"
    )
    assert lines(text) == [
        (
            "scalable.yaml:6:34 tasks.a.after: tasks wait for each other: a after c after b after a; "
            "remove one of the `after` [E_TASK_CYCLE]"
        )
    ]


def test_a_wrong_value_does_not_hide_a_wrong_reference() -> None:
    text = BASE + "components: {a: {cpus: 0}}\ntasks: {t: {component: b, count: 0}}\n"
    assert codes(text) == ["E_BAD_CPUS", "E_TASK_COMPONENT_REF", "E_BAD_COUNT"]


def test_every_section_of_the_wrong_kind_is_reported() -> None:
    text = "version: '1'\nproject: 3\ntargets: [a]\ncomponents: 4\ntasks: x\nobjectives: [1]\noverlays: 3\n"
    assert codes(text) == ["E_BAD_VERSION", *["E_BAD_TYPE"] * 6]


def test_objectives_of_the_target_go_before_those_at_the_top_key_by_key() -> None:
    text = HEAD + (
        "targets: {a: {provider: local, objectives: {budget_usd: 5}}, b: {provider: local}}\n"
        "objectives: {budget_usd: 50, deadline_hours: 2}\n"
    )
    made = read(text)
    assert made.targets["a"].objectives.model_dump() == {"budget_usd": 5, "deadline_hours": 2}
    assert made.targets["b"].objectives.model_dump() == {"budget_usd": 50, "deadline_hours": 2}


def test_objectives_of_the_caller_go_before_all_others() -> None:
    text = HEAD + "targets: {a: {provider: local, objectives: {budget_usd: 5, deadline_hours: 3}}}\n"
    made = read(text, target="a", objectives={"budget_usd": 7})
    assert made.targets["a"].objectives.model_dump() == {"budget_usd": 7, "deadline_hours": 3}


def test_objectives_of_the_caller_are_checked_too() -> None:
    assert lines(BASE, objectives={"budget": 5, "deadline_hours": 0}) == [
        "objectives.deadline_hours: must be a positive number [E_BAD_VALUE]",
        "objectives.budget: unknown key 'budget'; did you mean 'budget_usd'? [E_UNKNOWN_OBJECTIVE_KEY]",
    ]


def test_the_only_target_is_taken_where_one_is_needed() -> None:
    assert read(BASE).target is None
    assert read(BASE, single_target=True).target == "local"


def test_with_several_targets_one_must_be_chosen() -> None:
    assert lines(BASE + "  hpc: {provider: slurm}\n", single_target=True) == [
        (
            "scalable.yaml:3:1 targets: which target? The manifest has local, hpc; "
            "give the target, or set SCALABLE_TARGET [E_NO_TARGET]"
        )
    ]


def test_an_unknown_target_is_reported_beside_other_problems() -> None:
    assert lines(BASE + "component: {}\n", target="locl") == [
        "scalable.yaml:3:1 targets: there is no target 'locl'; did you mean 'local'? [E_UNKNOWN_TARGET]",
        "scalable.yaml:5:1 component: unknown key 'component'; did you mean 'components'? [E_UNKNOWN_TOP_KEY]",
    ]


class _Half:
    """Knows a provider whose library is not installed."""

    def names(self) -> tuple[str, ...]:
        return ("local", "moon")

    def options_model(self, name: str) -> type[BaseModel]:
        if name == "moon":
            raise ProviderUnavailable("pip install moon")
        return catalogue.options_model(name)


def test_a_provider_that_cannot_be_loaded_is_reported_only_when_its_target_is_chosen() -> None:
    Path("scalable.yaml").write_text(BASE + "  far: {provider: moon, phase: full}\n")
    assert load("scalable.yaml", target="local", catalogue=_Half()).targets["far"].options is None
    assert load("scalable.yaml", catalogue=_Half()).warnings == ()
    with pytest.raises(ManifestInvalid, match="pip install moon"):
        load("scalable.yaml", target="far", catalogue=_Half())


def test_every_value_can_be_located() -> None:
    made = read(BASE + "components:\n  a.b: {cpus: 2, tags: [x, y]}\n")
    assert made.locate("components.a.b.cpus") == (6, 9)
    assert made.locate("components.a.b.tags[1]") == (6, 28)
    assert made.locate("components.a.b.memory") == (6, 3)
    assert made.locate("nothing") == (1, 1)


def test_a_manifest_that_is_valid_has_no_issues() -> None:
    assert problems(BASE) == ()
