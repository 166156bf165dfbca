"""Providers are found by name: built in, registered, or brought by another distribution."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import EntryPoint, EntryPoints
from typing import ClassVar

import pytest
from pydantic import BaseModel

from scalable.errors import ProviderError, ProviderUnavailable
from scalable.providers import registry
from scalable.providers.base import DeploymentProvider
from scalable.providers.options.batch import SlurmOptions
from scalable.providers.registry import get_provider, options_model, provider_names, register_provider
from scalable.providers.unbuilt import KubernetesProvider
from scalable.spec import ComponentSpec, DeploymentSpec, Limits, ResourceRequest, ScalePlan


class CustomOptions(BaseModel):
    """Options of the provider below."""

    speed: int = 1


class Custom(KubernetesProvider):
    """A provider of somebody else."""

    name: ClassVar[str] = "custom"
    options_model: ClassVar[type[BaseModel]] = CustomOptions


@pytest.fixture(autouse=True)
def _forget(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "_registered", {})


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> list[EntryPoint]:
    """Let other distributions bring entry points."""
    entries: list[EntryPoint] = []
    monkeypatch.setattr("importlib.metadata.entry_points", lambda group: EntryPoints(entries).select(group=group))
    return entries


def test_the_built_in_providers_are_always_listed() -> None:
    assert provider_names()[:5] == ("local", "slurm", "kubernetes", "aws", "gcp")
    assert set(provider_names()[5:]) == {"pbs", "lsf", "sge", "htcondor", "oar", "hybrid"}


@pytest.mark.parametrize("name", registry.BUILT_IN)
def test_a_built_in_provider_is_what_its_name_says(name: str) -> None:
    provider = get_provider(name)
    assert provider.name == name
    assert isinstance(provider, DeploymentProvider)
    assert provider.options_model is options_model(name)


def test_an_unknown_name_lists_the_known_ones() -> None:
    with pytest.raises(ProviderError, match=r"there is no provider 'slurn'; known: local, .*; did you mean 'slurm'?"):
        get_provider("slurn")
    with pytest.raises(LookupError):
        options_model("slurn")


def test_a_class_that_is_registered_is_made_when_asked_for() -> None:
    register_provider("custom", Custom)
    assert isinstance(get_provider("custom"), Custom)
    assert options_model("custom") is CustomOptions
    assert "custom" in provider_names()


def test_an_instance_and_a_function_can_be_registered_too() -> None:
    made = Custom()
    register_provider("one", made)
    register_provider("two", lambda: made)
    assert get_provider("one") is get_provider("two") is made
    assert options_model("two") is CustomOptions


def test_a_name_that_is_taken_is_refused_unless_replacing_is_meant() -> None:
    with pytest.raises(ProviderError, match="there is a provider 'slurm' already"):
        register_provider("slurm", Custom)
    register_provider("slurm", Custom, replace=True)
    assert isinstance(get_provider("slurm"), Custom)
    assert options_model("slurm") is CustomOptions


def test_a_provider_without_a_model_takes_any_option() -> None:
    class Plain:
        name = "plain"

        def build_cluster(self, spec: DeploymentSpec) -> None:
            """Do nothing."""

    register_provider("plain", Plain)  # type: ignore[arg-type]
    assert options_model("plain").model_validate({"anything": 1}).model_dump() == {"anything": 1}


def test_a_provider_of_another_distribution_is_found_by_its_entry_point(installed: list[EntryPoint]) -> None:
    installed.append(EntryPoint("moon", f"{__name__}:Custom", registry.ENTRY_POINTS))
    sys.modules.setdefault(__name__, sys.modules[Custom.__module__])
    assert "moon" in provider_names()
    assert get_provider("moon").name == "custom"
    assert options_model("moon").__name__ == "CustomOptions"


def test_a_distribution_cannot_take_the_place_of_a_built_in_provider(installed: list[EntryPoint]) -> None:
    installed.append(EntryPoint("slurm", "nowhere:Nothing", registry.ENTRY_POINTS))
    assert options_model("slurm") is SlurmOptions
    assert get_provider("slurm").name == "slurm"


@pytest.mark.parametrize("value", ["nowhere:Nothing", "math:Nothing"])
def test_a_provider_that_cannot_be_loaded_is_named_with_the_reason(installed: list[EntryPoint], value: str) -> None:
    installed.append(EntryPoint("moon", value, registry.ENTRY_POINTS))
    for asked in (get_provider, options_model):
        with pytest.raises(ProviderUnavailable, match=r"provider 'moon' cannot be loaded: .*Error: "):
            asked("moon")
    assert "moon" in provider_names()
    assert "moon" not in registry.loadable_names()


def _spec(provider: str, **options: object) -> DeploymentSpec:
    components = {"a": ComponentSpec("a", ResourceRequest(cpus=4))}
    return DeploymentSpec("p", "there", provider, options_model(provider).model_validate(options), components, {})


@pytest.mark.parametrize("name", ["kubernetes", "aws", "gcp"])
def test_a_target_that_this_release_cannot_start_says_so_when_it_is_to_be_built(name: str) -> None:
    provider = get_provider(name)
    assert provider.validate(_spec(name)).ok
    with pytest.raises(ProviderUnavailable) as caught:
        provider.build_cluster(_spec(name))
    assert str(caught.value) == (
        f"target 'there' has provider '{name}', for which this release builds no clusters; "
        "choose a target with `provider: local` or `provider: slurm`"
    )


def test_such_a_target_can_be_planned() -> None:
    provider = get_provider("aws")
    assert provider.limits(_spec("aws")) == Limits(1, 1)
    assert provider.limits(_spec("aws", n_workers=4)) == Limits(4, 4)
    assert provider.limits(_spec("aws", max_workers=4)) == Limits(4, 4)
    assert provider.limits(_spec("aws", n_workers=2, max_workers=4)) == Limits(2, 4)
    assert provider.limits(_spec("aws", adaptive={"min": 1, "max": 9})) == Limits(1, 9)
    assert provider.limits(_spec("aws", adaptive={"min": 1, "max": 9}, max_workers=5)) == Limits(1, 5)
    assert [(shape.name, shape.threads) for shape in provider.shapes(_spec("aws"))] == [("a", 4)]
    assert provider.estimate_cost(_spec("aws"), ScalePlan({})) is None


def test_options_are_known_without_importing_dask_or_a_provider() -> None:
    code = (
        "import sys\n"
        "from scalable.providers import checks, registry\n"
        "from scalable.providers.batch.checks import check_batch\n"
        "for name in registry.BUILT_IN: registry.catalogue.options_model(name)\n"
        "heavy = {'distributed', 'dask', 'dask_jobqueue', 'cryptography', 'duckdb', 'rich', 'requests'}\n"
        "heavy = (heavy | {'scalable.providers.local', 'scalable.providers.batch.script'}) & set(sys.modules)\n"
        "sys.exit(str(heavy) if heavy else 0)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
