"""What models suggest: learned from past runs, with scikit-learn (the extra ``ml``).

Names are imported when they are first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from scalable.ml.learned import LearnedAdvisor
    from scalable.ml.search import HyperparameterSearch

_HOMES = {
    "HyperparameterSearch": "scalable.ml.search",
    "LearnedAdvisor": "scalable.ml.learned",
}

__all__ = ["HyperparameterSearch", "LearnedAdvisor"]


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'scalable.ml' has no attribute '{name}'")
    value = getattr(import_module(home), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
