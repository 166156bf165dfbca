"""What the options of several providers have in common."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import BeforeValidator, Field, model_validator

from scalable.manifest.fields import Adaptive, MaxWorkers, Section, check_positive_int, problem

__all__ = ["RemoteOptions", "ScalingOptions", "ThreadsPerWorker", "WorkerCount"]

ThreadsPerWorker = Annotated[
    int, Field(ge=1), BeforeValidator(check_positive_int("E_BAD_THREADS_PER_WORKER", "threads_per_worker"))
]
WorkerCount = Annotated[int, Field(ge=1), BeforeValidator(check_positive_int("E_BAD_N_WORKERS", "n_workers"))]


class ScalingOptions(Section):
    """How many workers a target may have.

    Attributes
    ----------
    max_workers : int or None
        Workers of all pools together, at the most.
    adaptive : Adaptive or None
        Bounds between which their number follows the work.
    """

    max_workers: MaxWorkers | None = None
    adaptive: Adaptive | None = None

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
