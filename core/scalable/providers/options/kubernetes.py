"""Options of the Kubernetes provider."""

from __future__ import annotations

from pydantic import Field

from scalable.manifest.fields import EnvValue, Positive, Section, Text
from scalable.providers.options.common import RemoteOptions

__all__ = ["KubernetesOptions", "Toleration"]


class Toleration(Section):
    """A taint of nodes that pods put up with, in the words of Kubernetes."""

    key: Text | None = None
    operator: Text | None = None
    value: Text | None = None
    effect: Text | None = None
    toleration_seconds: Positive | None = Field(default=None, alias="tolerationSeconds")


class KubernetesOptions(RemoteOptions):
    """Options of ``provider: kubernetes``.

    Attributes
    ----------
    namespace : str
        Where the pods are made; ``default`` by default.
    image : str or None
        Container image of components that name none.
    node_selector : dict
        Labels of the nodes to use.
    tolerations : tuple of Toleration
        Taints of nodes that pods put up with.
    service_account : str or None
        Who the pods are.
    image_pull_secrets : tuple of str
        Names of the secrets by which images are pulled.
    """

    namespace: Text = "default"
    image: Text | None = None
    node_selector: dict[Text, EnvValue] = Field(default_factory=dict)
    tolerations: tuple[Toleration, ...] = ()
    service_account: Text | None = None
    image_pull_secrets: tuple[Text, ...] = ()
