"""Options of the hybrid provider."""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import BeforeValidator, Field

from scalable.manifest.fields import Flag, Section, Text
from scalable.providers.options.batch import check_port
from scalable.providers.options.common import Scaling

__all__ = ["HybridOptions"]


class HybridOptions(Section):
    """Options of ``provider: hybrid``.

    Attributes
    ----------
    primary, secondary : str
        Targets of the manifest: the one whose workers are there from the start, and the one
        that takes the overflow. How many workers each may have is said there.
    remote : bool
        Whether the secondary's workers are started by ``scalable adapter``, elsewhere, and not by
        the run itself.
    interface : str or None
        Network interface by which others reach the scheduler where the primary is on this
        machine, such as ``eth0``; all of them by default.
    scheduler_port : int or None
        Port of the scheduler there; any free one by default.
    scaling : ScalingChoice or None
        Who decides on the number of workers while a run is under way.
    """

    target_keys: ClassVar[tuple[str, ...]] = ("primary", "secondary")

    primary: Text
    secondary: Text
    remote: Flag = False
    interface: Text | None = None
    scheduler_port: Annotated[int, Field(ge=1, le=65535), BeforeValidator(check_port)] | None = None
    scaling: Scaling | None = None
