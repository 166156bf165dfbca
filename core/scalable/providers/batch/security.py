"""Certificates of one run: made at its start, readable by its owner only, gone at its end."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from scalable.errors import MissingExtra, ProviderError
from scalable.providers.batch.script import TlsFiles

if TYPE_CHECKING:
    from distributed.security import Security

__all__ = ["DIRECTORY_PREFIX", "make_certificates", "security_of"]

DIRECTORY_PREFIX = "scalable-tls-"
"""What the names of directories begin with that hold nothing but a run's certificates."""


def make_certificates(parent: Path) -> TlsFiles:
    """Make a key and a certificate that only the processes of one run have.

    Whoever connects must show the same certificate, and it is its own authority.

    Parameters
    ----------
    parent : Path
        A directory that every node sees; a new one is made in it, with files of mode 0600.

    Raises
    ------
    ProviderError
        If they cannot be written there.
    MissingExtra
        If ``cryptography`` is not installed.
    """
    from distributed.security import Security  # noqa: PLC0415  (Dask is not needed to validate)

    try:
        temporary = Security.temporary()
    except ImportError as error:
        raise MissingExtra("certificates need cryptography: pip install 'scalable-workflows[slurm]'") from error
    try:
        parent.mkdir(parents=True, exist_ok=True)
        directory = Path(tempfile.mkdtemp(prefix=DIRECTORY_PREFIX, dir=parent))
        files = TlsFiles(directory, directory / "ca.pem", directory / "cert.pem", directory / "key.pem")
        for path, text in (
            (files.ca, temporary.tls_ca_file),
            (files.cert, temporary.tls_scheduler_cert),
            (files.key, temporary.tls_scheduler_key),
        ):
            _write_for_owner_only(path, str(text))
    except OSError as error:
        raise ProviderError(
            f"cannot write the run's certificates below {parent}: {error.strerror}; "
            "set shared_temp_directory to a directory that you can write and every node sees"
        ) from error
    return files


def security_of(files: TlsFiles) -> Security:
    """Return Dask's security settings for scheduler, workers and clients with these files."""
    from distributed.security import Security  # noqa: PLC0415

    return Security(
        require_encryption=True,
        tls_ca_file=str(files.ca),
        **{
            f"tls_{role}_{part}": str(path)
            for role in ("scheduler", "worker", "client")
            for part, path in (("cert", files.cert), ("key", files.key))
        },
    )


def _write_for_owner_only(path: Path, text: str) -> None:
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as out:
        out.write(text)
