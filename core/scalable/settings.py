"""Settings of the process, from the environment: one frozen object that is handed down."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Self

from pydantic import BaseModel, ConfigDict, ValidationError, field_validator

from scalable.errors import ScalableError, did_you_mean

__all__ = ["Settings"]

_ON = ("on", "true", "yes", "1")
_OFF = ("off", "false", "no", "0")
_LEVELS = ("debug", "info", "warning", "error", "critical")
_PREFIX = "SCALABLE_"


class Settings(BaseModel):
    """What the environment says.

    Attributes
    ----------
    target : str or None
        ``SCALABLE_TARGET``: the target where none is given.
    manifest : Path
        ``SCALABLE_MANIFEST``: the manifest where none is given; ``scalable.yaml`` by default.
    runs_dir : Path
        ``SCALABLE_RUNS_DIR``: where runs are recorded; ``.scalable/runs`` by default.
    telemetry : bool
        ``SCALABLE_TELEMETRY``: whether runs are recorded; ``on`` by default.
    log_level : str
        ``SCALABLE_LOG_LEVEL``: least level of messages that are shown; ``warning`` by default.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    target: str | None = None
    manifest: Path = Path("scalable.yaml")
    runs_dir: Path = Path(".scalable/runs")
    telemetry: bool = True
    log_level: str = "warning"

    @classmethod
    def from_environ(cls, environ: Mapping[str, str] | None = None) -> Self:
        """Read the settings; an empty value counts as not set.

        Parameters
        ----------
        environ : mapping, optional
            Default: the process's environment.

        Raises
        ------
        ScalableError
            If a value cannot be used; it names every such variable.
        """
        environ = os.environ if environ is None else environ
        given = {name: environ.get(_PREFIX + name.upper(), "").strip() for name in cls.model_fields}
        try:
            return cls.model_validate({name: value for name, value in given.items() if value})
        except ValidationError as error:
            problems = [
                f"{_PREFIX}{str(one['loc'][0]).upper()}={one['input']!r}: {one.get('ctx', {}).get('error', one['msg'])}"
                for one in error.errors(include_url=False)
            ]
            raise ScalableError("bad settings in the environment: " + "; ".join(problems)) from None

    @field_validator("manifest", "runs_dir", mode="before")
    @classmethod
    def _path(cls, value: object) -> object:
        if isinstance(value, str) and "\0" in value:
            raise ValueError("a path cannot hold a NUL character")
        return Path(value).expanduser() if isinstance(value, str) else value

    @field_validator("telemetry", mode="before")
    @classmethod
    def _switch(cls, value: object) -> object:
        word = value.lower() if isinstance(value, str) else value
        if word in (*_ON, True):
            return True
        if word in (*_OFF, False):
            return False
        raise ValueError("must be on or off")

    @field_validator("log_level")
    @classmethod
    def _level(cls, value: str) -> str:
        level = value.lower()
        if level not in _LEVELS:
            raise ValueError(f"must be one of {', '.join(_LEVELS)}; {did_you_mean(level, _LEVELS)}".rstrip("; "))
        return level
