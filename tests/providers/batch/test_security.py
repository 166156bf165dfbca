"""Certificates of a run: for its owner only, and gone whenever it is."""

from __future__ import annotations

import os
import ssl
import stat
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509

from scalable.errors import MissingExtra, ProviderError
from scalable.providers.batch import security
from scalable.providers.batch.security import make_certificates, security_of


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.mark.parametrize("umask", [0o022, 0o000])
def test_nobody_else_can_read_them_whatever_the_umask(tmp_path: Path, umask: int) -> None:
    before = os.umask(umask)
    try:
        files = make_certificates(tmp_path)
    finally:
        os.umask(before)
    assert mode(files.directory) == 0o700
    assert {path.name: mode(path) for path in files.directory.iterdir()} == {
        "ca.pem": 0o600,
        "cert.pem": 0o600,
        "key.pem": 0o600,
    }


def test_each_run_has_its_own(tmp_path: Path) -> None:
    first, second = make_certificates(tmp_path), make_certificates(tmp_path)
    for part in ("ca", "cert", "key"):
        assert getattr(first, part).read_bytes() != getattr(second, part).read_bytes()


def test_a_node_whose_clock_is_behind_takes_them_and_they_outlast_any_run(tmp_path: Path) -> None:
    certificate = x509.load_pem_x509_certificate(make_certificates(tmp_path).cert.read_bytes())
    # Slurm itself works with clocks that are minutes apart.
    assert certificate.not_valid_before_utc < datetime.now(UTC) - timedelta(minutes=10)
    assert certificate.not_valid_after_utc > datetime.now(UTC) + timedelta(days=365)


def test_both_sides_must_show_the_certificate(tmp_path: Path) -> None:
    settings = security_of(make_certificates(tmp_path))
    for role in ("scheduler", "worker"):
        arguments = settings.get_listen_args(role)
        assert arguments["require_encryption"]
        assert arguments["ssl_context"].verify_mode == ssl.CERT_REQUIRED
    for role in ("scheduler", "worker", "client"):
        assert settings.get_connection_args(role)["ssl_context"].verify_mode == ssl.CERT_REQUIRED


def test_where_they_cannot_be_written_nothing_is_left_and_the_error_says_what_helps(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken = tmp_path / "taken"
    taken.touch()
    with pytest.raises(ProviderError, match=r"certificates below .*taken.*shared_temp_directory"):
        make_certificates(taken)

    def full(path: Path, content: bytes) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(security, "_write_for_owner_only", full)
    with pytest.raises(ProviderError, match="No space left on device"):
        make_certificates(tmp_path / "full")
    assert list((tmp_path / "full").iterdir()) == []


def test_without_cryptography_the_error_names_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cryptography", None)
    with pytest.raises(MissingExtra, match=r"scalable-workflows\[slurm\]"):
        make_certificates(tmp_path)
    assert list(tmp_path.iterdir()) == []
