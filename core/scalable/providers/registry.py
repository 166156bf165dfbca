"""Which providers there are: built in, registered by the program, or installed beside it.

Nothing is imported before it is needed: to check a manifest only the models of options are.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Any, cast

from pydantic import BaseModel, ConfigDict

from scalable.errors import ProviderError, ProviderUnavailable, ValidationReport, did_you_mean
from scalable.providers import checks
from scalable.providers.base import AdapterProvider, DeploymentProvider
from scalable.providers.batch.checks import check_batch
from scalable.providers.prices import missing_prices
from scalable.spec import DeploymentSpec

__all__ = [
    "BUILT_IN",
    "ENTRY_POINTS",
    "catalogue",
    "check",
    "get_adapter_provider",
    "get_provider",
    "loadable_names",
    "options_model",
    "provider_names",
    "register_provider",
]

ENTRY_POINTS = "scalable.providers"
"""Group of the entry points by which other distributions bring providers."""

# Name: the provider, the model of its options.
_BATCH = {
    name: (f"scalable.providers.batch.provider:{title}Provider", f"scalable.providers.options.batch:{title}Options")
    for name, title in (
        ("slurm", "Slurm"), ("pbs", "Pbs"), ("lsf", "Lsf"), ("sge", "Sge"), ("htcondor", "Htcondor"), ("oar", "Oar"),
    )
}  # fmt: skip
_BUILT_IN = {
    "local": ("scalable.providers.local:LocalProvider", "scalable.providers.options.local:LocalOptions"),
    "slurm": _BATCH["slurm"],
    "kubernetes": (
        "scalable.providers.unbuilt:KubernetesProvider",
        "scalable.providers.options.kubernetes:KubernetesOptions",
    ),
    "aws": ("scalable.providers.unbuilt:AwsProvider", "scalable.providers.options.aws:AwsOptions"),
    "gcp": ("scalable.providers.unbuilt:GcpProvider", "scalable.providers.options.gcp:GcpOptions"),
    **_BATCH,
    "hybrid": ("scalable.providers.hybrid:HybridProvider", "scalable.providers.options.hybrid:HybridOptions"),
}

BUILT_IN = tuple(_BUILT_IN)

_Factory = Callable[[], DeploymentProvider]

_registered: dict[str, _Factory | DeploymentProvider] = {}


class _AnyOptions(BaseModel):
    """Options of a provider that has no model for them."""

    model_config = ConfigDict(frozen=True, extra="allow")


def register_provider(name: str, provider: _Factory | DeploymentProvider, *, replace: bool = False) -> None:
    """Make a provider known to this process.

    Parameters
    ----------
    name : str
        What a target's ``provider`` says.
    provider : class, callable or instance
        The provider, or what makes it when called without arguments.
    replace : bool
        Whether it may take the place of one that is known by this name.

    Raises
    ------
    ProviderError
        If there is one of this name.
    """
    if not replace and (name in _BUILT_IN or name in _registered):
        raise ProviderError(f"there is a provider '{name}' already; give replace=True to take its place")
    _registered[name] = provider


def provider_names() -> tuple[str, ...]:
    """Return the names of all providers: those built in first."""
    return tuple(dict.fromkeys((*_BUILT_IN, *_registered, *sorted(_entry_points()))))


def get_provider(name: str) -> DeploymentProvider:
    """Return a provider.

    Parameters
    ----------
    name : str
        What a target's ``provider`` says.

    Raises
    ------
    ProviderError
        If there is none of this name.
    ProviderUnavailable
        If there is one, but what it needs cannot be imported.

    Examples
    --------
    >>> get_provider("slurm").name
    'slurm'
    """
    try:
        found = _find(name)
    except LookupError:
        known = provider_names()
        hint = did_you_mean(name, known)
        message = f"there is no provider '{name}'; known: {', '.join(known)}" + (f"; {hint}" if hint else "")
        raise ProviderError(message) from None
    return cast(
        "DeploymentProvider", found() if isinstance(found, type) or not hasattr(found, "build_cluster") else found
    )


def get_adapter_provider(name: str) -> AdapterProvider:
    """Return a provider whose workers can serve any scheduler.

    Raises
    ------
    ProviderError
        As for :func:`get_provider`, or if its workers cannot.
    """
    found = get_provider(name)
    if not isinstance(found, AdapterProvider):
        raise ProviderUnavailable(
            f"workers of provider '{name}' cannot join the scheduler of another target; it has no `open_adapter`"
        )
    return found


def loadable_names() -> tuple[str, ...]:
    """Return the names of the providers whose options can be described here."""
    names = []
    for name in provider_names():
        try:
            options_model(name)
        except ProviderUnavailable:
            continue
        names.append(name)
    return tuple(names)


def check(spec: DeploymentSpec) -> ValidationReport:
    """Return what a target's provider has to say; for those built in without importing the provider.

    Parameters
    ----------
    spec : DeploymentSpec
        What is to run.

    Raises
    ------
    ProviderError
        If there is no such provider, or it cannot be imported.
    """
    if spec.provider not in _registered and spec.provider in _BUILT_IN:
        if spec.provider == "local":
            return checks.check_local(spec)
        if spec.provider == "hybrid":
            return checks.check_parts(spec, check)
        return check_batch(spec) if spec.provider in _BATCH else ValidationReport(tuple(missing_prices(spec)))
    return get_provider(spec.provider).validate(spec)


def options_model(name: str) -> type[BaseModel]:
    """Return the model of a provider's options; for those built in without importing the provider.

    Raises
    ------
    LookupError
        If there is no such provider.
    ProviderUnavailable
        If there is one, but it cannot be imported.
    """
    if name not in _registered and name in _BUILT_IN:
        return cast("type[BaseModel]", _imported(_BUILT_IN[name][1]))
    found = _find(name)
    model = getattr(found, "options_model", None)
    if model is None and not hasattr(found, "build_cluster"):
        model = getattr(found(), "options_model", None)
    return model if isinstance(model, type) and issubclass(model, BaseModel) else _AnyOptions


def _find(name: str) -> Any:
    if name in _registered:
        return _registered[name]
    if name in _BUILT_IN:
        return _imported(_BUILT_IN[name][0])
    entry = _entry_points()[name]
    try:
        return entry.load()
    except Exception as error:
        # Whatever goes wrong in somebody else's module must not take the manifest down with it.
        distribution = f" of the distribution {entry.dist.name}" if entry.dist is not None else ""
        raise ProviderUnavailable(
            f"provider '{name}'{distribution} cannot be loaded: {type(error).__name__}: {error}"
        ) from error


def _entry_points() -> dict[str, Any]:
    # Slow where much is installed, so only asked for names that are not built in.
    from importlib.metadata import entry_points  # noqa: PLC0415

    return {entry.name: entry for entry in entry_points(group=ENTRY_POINTS)}


def _imported(dotted: str) -> Any:
    module, _, name = dotted.partition(":")
    return getattr(import_module(module), name)


class _Catalogue:
    """The registry as the manifest's reader sees it."""

    def names(self) -> tuple[str, ...]:
        return provider_names()

    def options_model(self, name: str) -> type[BaseModel]:
        return options_model(name)


catalogue = _Catalogue()
"""What :func:`scalable.manifest.load` asks about providers."""
