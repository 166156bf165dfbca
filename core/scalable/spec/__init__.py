"""What is to run on one target, resolved from a manifest."""

from scalable.spec.model import (
    ComponentSpec,
    DeploymentSpec,
    Limits,
    Objectives,
    PoolRequest,
    PriceRates,
    ResourceRequest,
    ScalePlan,
    TaskSpec,
)
from scalable.spec.resolve import resolve

__all__ = [
    "ComponentSpec",
    "DeploymentSpec",
    "Limits",
    "Objectives",
    "PoolRequest",
    "PriceRates",
    "ResourceRequest",
    "ScalePlan",
    "TaskSpec",
    "resolve",
]
