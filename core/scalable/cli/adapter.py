"""``scalable adapter``: the workers of a target for a run that is under way elsewhere."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

if TYPE_CHECKING:
    from scalable.providers.batch.script import TlsFiles
    from scalable.spec import DeploymentSpec

__all__ = ["adapter"]


def adapter(
    manifest: Path | None = None,
    *,
    scheduler: str,
    target: str | None = None,
    overlay: str | None = None,
    tls_ca: Path | None = None,
    tls_cert: Path | None = None,
    tls_key: Path | None = None,
    insecure: Annotated[bool, Parameter(negative="")] = False,
) -> int:
    """Join a running scheduler with the workers of a target, and end with it.

    Start it where the target's workers can be started from, such as where its credentials
    are. The run gets a pool COMPONENT@TARGET for each component of the manifest here.

    Parameters
    ----------
    manifest
        The manifest; default is $SCALABLE_MANIFEST, or scalable.yaml here.
    scheduler
        Where it and its workers connect, such as tls://10.0.0.1:8786: scheduler.json in the run's directory says it.
    target
        Name of the target; default is $SCALABLE_TARGET, or the manifest's only one.
    overlay
        Name of an overlay, or a file of one (.yaml), in place of the one that the target names.
    tls_ca
        The run's certificate authority, as scheduler.json says.
    tls_cert
        The run's certificate.
    tls_key
        Its key. Whoever has it can run code in the run: keep it to yourself.
    insecure
        Go to another machine without encryption.
    """
    from scalable.cli.run import show_log  # noqa: PLC0415  (help must not wait for it)
    from scalable.providers.adapters.command import serve  # noqa: PLC0415

    tls = _certificates(tls_ca, tls_cert, tls_key)
    show_log()
    return serve(_spec(manifest, target, overlay), scheduler, tls, insecure=insecure)


def _spec(manifest: Path | None, target: str | None, overlay: str | None) -> DeploymentSpec:
    from scalable.manifest import load  # noqa: PLC0415  (help must not wait for it)
    from scalable.providers import registry  # noqa: PLC0415
    from scalable.settings import Settings  # noqa: PLC0415
    from scalable.spec import resolve  # noqa: PLC0415

    settings = Settings.from_environ()
    read = load(
        settings.manifest if manifest is None else manifest,
        target=target or settings.target,
        overlay=overlay,
        catalogue=registry.catalogue,
        single_target=True,
    )
    return resolve(read)


def _certificates(ca: Path | None, cert: Path | None, key: Path | None) -> TlsFiles | None:
    from scalable.errors import ScalableError  # noqa: PLC0415  (help must not wait for it)
    from scalable.providers.batch.script import TlsFiles  # noqa: PLC0415

    given = {"--tls-ca": ca, "--tls-cert": cert, "--tls-key": key}
    if not any(given.values()):
        return None
    if ca is None or cert is None or key is None:
        missing = ", ".join(option for option, path in given.items() if path is None)
        raise ScalableError(f"{missing} is missing: all three of {', '.join(given)} belong together")
    for option, path in given.items():
        if path is not None and not path.is_file():
            raise ScalableError(f"{option}: there is no file {path}")
    return TlsFiles(cert.absolute().parent, ca.absolute(), cert.absolute(), key.absolute())
