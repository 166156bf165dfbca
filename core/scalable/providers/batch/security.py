"""Certificates of one run: made at its start, readable by its owner only, gone at its end."""

from __future__ import annotations

import os
import shutil
import tempfile
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from scalable.errors import MissingExtra, ProviderError
from scalable.providers.batch.script import TlsFiles

if TYPE_CHECKING:
    from distributed.security import Security

__all__ = ["DIRECTORY_PREFIX", "copy_certificates", "make_certificates", "security_of"]

DIRECTORY_PREFIX = "scalable-tls-"
"""What the names of directories begin with that hold nothing but a run's certificates."""

_CLOCKS_APART = timedelta(days=1)
_LONGEST_RUN = timedelta(days=730)


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
    certificate, key = _self_signed()
    return _written(parent, certificate, certificate, key)


def copy_certificates(files: TlsFiles, parent: Path) -> TlsFiles:
    """Copy a run's certificates to where nodes see them.

    Parameters
    ----------
    files : TlsFiles
        Those there are.
    parent : Path
        As for :func:`make_certificates`.

    Raises
    ------
    ProviderError
        If they cannot be read, or written there.
    """
    try:
        contents = [path.read_bytes() for path in (files.ca, files.cert, files.key)]
    except OSError as error:
        raise ProviderError(f"cannot read the certificate {error.filename}: {error.strerror}") from error
    return _written(parent, *contents)


def _written(parent: Path, ca: bytes, certificate: bytes, key: bytes) -> TlsFiles:
    try:
        parent.mkdir(parents=True, exist_ok=True)
        directory = Path(tempfile.mkdtemp(prefix=DIRECTORY_PREFIX, dir=parent))
        files = TlsFiles(directory, directory / "ca.pem", directory / "cert.pem", directory / "key.pem")
        try:
            for path, content in ((files.ca, ca), (files.cert, certificate), (files.key, key)):
                _write_for_owner_only(path, content)
        except BaseException:
            shutil.rmtree(directory, ignore_errors=True)
            raise
    except OSError as error:
        raise ProviderError(
            f"cannot write the run's certificates below {parent}: {error.strerror}; "
            "set shared_temp_directory to a directory that you can write and every node sees"
        ) from error
    return files


def _self_signed() -> tuple[bytes, bytes]:
    """Return a new certificate and its key, as PEM.

    Dask can make one too, but that is valid from this very moment on, and so for nobody
    on a node whose clock is a little behind.
    """
    try:
        from cryptography import x509  # noqa: PLC0415  (not needed to validate)
        from cryptography.hazmat.primitives import hashes, serialization  # noqa: PLC0415
        from cryptography.hazmat.primitives.asymmetric import ec  # noqa: PLC0415
    except ImportError as error:
        raise MissingExtra("certificates need cryptography: pip install 'scalable-workflows[slurm]'") from error
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "scalable")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _CLOCKS_APART)
        .not_valid_after(now + _LONGEST_RUN)
        .sign(key, hashes.SHA256())
    )
    return certificate.public_bytes(serialization.Encoding.PEM), key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def security_of(files: TlsFiles) -> Security:
    """Return Dask's security settings for scheduler, workers and clients with these files."""
    from distributed.security import Security  # noqa: PLC0415  (Dask is not needed to validate)

    return Security(
        require_encryption=True,
        tls_ca_file=str(files.ca),
        **{
            f"tls_{role}_{part}": str(path)
            for role in ("scheduler", "worker", "client")
            for part, path in (("cert", files.cert), ("key", files.key))
        },
    )


def _write_for_owner_only(path: Path, content: bytes) -> None:
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as out:
        out.write(content)
