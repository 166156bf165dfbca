"""What the options of several providers have in common."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Self

from pydantic import BeforeValidator, ConfigDict, Field, model_validator

from scalable.manifest.fields import Adaptive, MaxWorkers, Seconds, Section, Text, check_positive_int, problem

__all__ = ["RemoteOptions", "Scaling", "ScalingChoice", "ScalingOptions", "ThreadsPerWorker", "WorkerCount"]

ThreadsPerWorker = Annotated[
    int, Field(ge=1), BeforeValidator(check_positive_int("E_BAD_THREADS_PER_WORKER", "threads_per_worker"))
]
WorkerCount = Annotated[int, Field(ge=1), BeforeValidator(check_positive_int("E_BAD_N_WORKERS", "n_workers"))]


class ScalingChoice(Section):
    """Who decides on the number of workers while a run is under way.

    Attributes
    ----------
    policy : str or None
        Name of the policy, or a text such as ``allocate=capability; scaling=vanilla``; by default
        ``predictive`` where the target is ``adaptive``, else ``share``.
    interval_s : float or None
        ``interval``, the seconds between two looks; by default what the policy says.
    parameters : dict
        All other keys, which are the policy's own.
    """

    model_config = ConfigDict(extra="allow")

    policy: Text | None = None
    interval_s: Seconds | None = Field(default=None, alias="interval")

    @property
    def parameters(self) -> dict[str, Any]:
        """What the policy is to make of itself."""
        return dict(self.model_extra or {})


def _read_scaling(value: object) -> object:
    if isinstance(value, str):
        return {"policy": value}
    if not isinstance(value, Mapping | ScalingChoice):
        raise problem("E_BAD_TYPE", "must be a policy's name, or `policy:` with its parameters")
    return value


Scaling = Annotated[ScalingChoice, BeforeValidator(_read_scaling)]


class ScalingOptions(Section):
    """How many workers a target may have.

    Attributes
    ----------
    max_workers : int or None
        Workers of all pools together, at the most.
    adaptive : Adaptive or None
        Bounds between which their number follows the work.
    scaling : ScalingChoice or None
        Who decides on it while a run is under way.
    """

    max_workers: MaxWorkers | None = None
    adaptive: Adaptive | None = None
    scaling: Scaling | None = None

    @model_validator(mode="after")
    def _minimum_fits(self) -> Self:
        # A default gives way to what `adaptive` says; a number in the manifest does not.
        most = self.max_workers if "max_workers" in self.model_fields_set else None
        if most is not None and self.adaptive is not None and self.adaptive.minimum > most:
            message = f"adaptive.minimum {self.adaptive.minimum} is more than max_workers {most}"
            raise problem("E_BAD_ADAPTIVE", message, "lower the one or raise the other", at="adaptive")
        return self


class RemoteOptions(ScalingOptions):
    """How many workers a target on other machines starts with, and may have.

    Attributes
    ----------
    n_workers : int or None
        Workers to start with, all pools together.
    """

    n_workers: WorkerCount | None = None

    @model_validator(mode="after")
    def _start_fits(self) -> Self:
        if self.n_workers is None:
            return self
        bounds = {"max_workers": self.max_workers, "adaptive.maximum": self.adaptive.maximum if self.adaptive else None}
        for name, most in bounds.items():
            if most is not None and self.n_workers > most:
                raise problem(
                    "E_BAD_N_WORKERS", f"n_workers {self.n_workers} is more than {name} {most}", at="n_workers"
                )
        if self.adaptive is not None and self.n_workers < self.adaptive.minimum:
            message = f"n_workers {self.n_workers} is less than adaptive.minimum {self.adaptive.minimum}"
            raise problem("E_BAD_N_WORKERS", message, at="n_workers")
        return self
