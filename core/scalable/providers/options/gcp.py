"""Options of the Google Cloud provider."""

from __future__ import annotations

from scalable.manifest.fields import Flag, Text
from scalable.providers.options.common import RemoteOptions

__all__ = ["GcpOptions"]


class GcpOptions(RemoteOptions):
    """Options of ``provider: gcp``.

    Attributes
    ----------
    project_id, zone, machine_type : str or None
        Which project pays, where, and on which machines.
    image, docker_image : str or None
        Image of the machines, and of the containers on them.
    preemptible : bool
        Whether capacity is taken that may be taken back.
    """

    project_id: Text | None = None
    zone: Text | None = None
    machine_type: Text | None = None
    image: Text | None = None
    docker_image: Text | None = None
    preemptible: Flag = False
