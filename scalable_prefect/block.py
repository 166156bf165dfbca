"""A manifest that Prefect's server keeps."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from prefect.blocks.core import Block
from pydantic import Field, field_validator

if TYPE_CHECKING:
    from scalable import ScalableSession

__all__ = ["ScalableManifest"]

_NAME = "manifest"
_UNSET = "E_UNSET_VARIABLE"


class ScalableManifest(Block):
    """A manifest that Prefect's server keeps, for flows that run where its file is not.

    It is checked when the block is made, in whatever way it is made, but for the values of
    variables such as ``${ACCOUNT}``: they are of the environment in which the flow runs.

    Attributes
    ----------
    text : str
        What the manifest says, as YAML.

    Examples
    --------
    >>> ScalableManifest.from_file("scalable.yaml").save("cluster", overwrite=True)  # doctest: +SKIP
    >>> ScalableTaskRunner(manifest=ScalableManifest.load("cluster"), target="hpc")  # doctest: +SKIP
    """

    _block_type_name = "Scalable Manifest"
    _block_type_slug = "scalable-manifest"
    _description = "A manifest of Scalable: what each kind of task needs, and where it runs."

    text: str = Field(title="Manifest", description="What each kind of task needs, and where it runs, as YAML.")

    @field_validator("text")
    @classmethod
    def _is_a_manifest(cls, text: str) -> str:
        from scalable.errors import ManifestError  # noqa: PLC0415  (Prefect's server imports blocks when it starts)

        try:
            _check(_NAME, text)
        except ManifestError as error:
            raise ValueError(str(error)) from error
        return text

    @classmethod
    def from_file(cls, path: str | os.PathLike[str]) -> Self:
        """Return a block of what a manifest's file says.

        Parameters
        ----------
        path : path
            The file.

        Raises
        ------
        ManifestError
            If it cannot be used, with all that is wrong with it.
        """
        _check(path)
        return cls(text=Path(path).read_text(encoding="utf-8"))

    def session(self, **options: Any) -> ScalableSession:
        """Return a session of it, with the options of :meth:`scalable.ScalableSession.from_text`.

        Raises
        ------
        ManifestError
            If it cannot be used here, such as when a variable is not set.
        """
        from scalable import ScalableSession  # noqa: PLC0415

        return ScalableSession.from_text(self.text, name=_NAME, **options)


def _check(name: str | os.PathLike[str], text: str | None = None) -> None:
    """Refuse what is no manifest, whatever the values of its variables."""
    from scalable import ScalableSession  # noqa: PLC0415
    from scalable.errors import ManifestInvalid  # noqa: PLC0415

    try:
        ScalableSession.targets(name, text=text)
    except ManifestInvalid as error:
        wrong = [one for one in error.issues if one.severity == "error" and one.code != _UNSET]
        if wrong:
            raise ManifestInvalid(wrong) from error
