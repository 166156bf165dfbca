"""Who can reach a run on Slurm, and what of it can be reached at all."""

from __future__ import annotations

import asyncio
import ipaddress
import os
import ssl
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import pytest
from distributed import Client
from distributed.core import rpc
from distributed.security import Security

from scalable import ScalableSession
from scalable.errors import ProviderError
from scalable.providers.batch.security import make_certificates, security_of
from tests.providers.batch.real import certificates, listening, manifest_text, marked
from tests.slurm.backend import Slurm

pytestmark = [pytest.mark.slow, pytest.mark.slurm]

Write = Callable[..., Path]


@pytest.fixture
def session(queue: Slurm, manifest: Write) -> Iterator[ScalableSession]:
    """Start a run with `interface` left out, as most people do, and wait for a worker."""
    with ScalableSession.from_yaml(manifest(manifest_text(interface=None))) as started:
        started.start().submit(os.getpid, tag="simulate").result(timeout=100)
        yield started


def addresses(session: ScalableSession) -> dict[str, str]:
    info = session.client.dask.scheduler_info(n_workers=-1)
    worker = next(iter(info["workers"].values()))
    return {"scheduler": info["address"], "worker": next(iter(info["workers"])), "nanny": worker["nanny"]}


def test_neither_scheduler_nor_workers_tell_other_users_of_their_machine_anything_by_http(
    session: ScalableSession,
) -> None:
    info = session.client.dask.scheduler_info(n_workers=-1)
    for part in (info, *info["workers"].values()):
        for page in ("info/main.html", "info/main/workers.html", "json/index.html", "metrics", "health"):
            with pytest.raises(urllib.error.HTTPError, match="404") as refused:
                urllib.request.urlopen(f"http://127.0.0.1:{part['services']['dashboard']}/{page}", timeout=30)
            refused.value.close()


def identity(address: str, security: Security | None) -> str:
    """Ask whoever listens at an address what it is."""

    async def ask() -> Any:
        arguments = {} if security is None else security.get_connection_args("client")
        async with rpc(address, connection_args=arguments, timeout=5) as there:
            return await there.identity()

    return str(asyncio.run(ask())["type"])


class WithoutCertificate(Security):
    """Encrypt, show nothing, and do not even look at the certificate of the other side."""

    def get_connection_args(self, _role: str) -> dict[str, Any]:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        return {"ssl_context": context, "require_encryption": True}


def settings(folder: Path, which: str) -> Security:
    return WithoutCertificate() if which == "no" else security_of(make_certificates(folder))


def test_only_who_has_the_certificate_of_the_run_can_connect_to_any_part_of_it(
    session: ScalableSession, tmp_path: Path
) -> None:
    cluster = session.client._cluster
    strangers = {which: settings(tmp_path / "strangers", which) for which in ("no", "another's")}
    for part, address in addresses(session).items():
        assert address.startswith("tls://")
        assert identity(address, cluster.security).lower() == part
        for which, stranger in strangers.items():
            with pytest.raises(OSError, match=r".+"):
                pytest.fail(f"with {which} certificate: {identity(address, stranger)}")
        with pytest.raises(OSError, match=r".+"):
            pytest.fail(f"in plain text: {identity(address.replace('tls://', 'tcp://'), None)}")
    # Nobody was disturbed by that.
    assert session.client.submit(sum, [1, 2], tag="simulate").result(timeout=60) == 3


@pytest.mark.parametrize("which", ["no", "another's"])
def test_a_client_of_dask_is_refused(session: ScalableSession, tmp_path: Path, which: str) -> None:
    address = addresses(session)["scheduler"]
    with pytest.raises(OSError, match=r".+"):
        Client(address, security=settings(tmp_path / "strangers", which), timeout=3)
    assert session.client.submit(sum, [1, 2], tag="simulate").result(timeout=60) == 3


def answers_in_plain_text(address: tuple[str, int]) -> bool:
    """Whether whoever listens takes a message that is not encrypted: Dask's own greeting, or a request for a page."""
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(address[0], address[0])

    async def ask(text: bytes) -> bytes:
        reader, writer = await asyncio.open_connection(host, address[1])
        try:
            writer.write(text)
            await writer.drain()
            with suppress(TimeoutError, ConnectionError):
                return await asyncio.wait_for(reader.read(100), 1)
        finally:
            writer.close()
        return b""

    # Whoever speaks Dask's protocol over TCP greets first; TLS says why it closes (an alert begins with 0x15).
    said = [asyncio.run(ask(text)) for text in (b"", b"GET / HTTP/1.0\r\n\r\n")]
    return any(one and one[0] != 0x15 for one in said)


def test_nothing_listens_in_plain_text_beyond_loopback(session: ScalableSession) -> None:
    processes = [psutil.Process(), *marked(addresses(session)["scheduler"])]
    processes += [child for one in processes[1:] for child in one.children(recursive=True)]
    seen: dict[bool, int] = {True: 0, False: 0}
    for process in processes:
        for address in listening(process.pid):
            loopback = ipaddress.ip_address(address[0]).is_loopback
            seen[loopback] += 1
            if not loopback:
                assert not answers_in_plain_text(address), (process.cmdline(), address)
    # The scheduler, two nannies and their workers, which also have a page each, for this machine alone.
    assert seen[False] >= 3
    assert seen[True] >= 2


def test_the_certificates_are_gone_after_the_run(session: ScalableSession, tmp_path: Path) -> None:
    (directory,) = certificates(tmp_path)
    assert {path.stat().st_mode & 0o077 for path in (directory, *directory.iterdir())} == {0}
    session.close()
    assert certificates(tmp_path) == []


def test_the_certificates_are_gone_after_a_start_that_failed(queue: Slurm, manifest: Write, tmp_path: Path) -> None:
    children = psutil.Process().children()
    session = ScalableSession.from_yaml(manifest(manifest_text(account="nobody-knows-it")))
    with pytest.raises(ProviderError, match="account"):
        session.start()
    assert certificates(tmp_path) == []
    assert (tmp_path / "runs" / session.run_id / "batch.json").exists()
    assert psutil.Process().children() == children


def test_without_encryption_it_runs_too_but_not_without_a_warning(
    queue: Slurm, manifest: Write, tmp_path: Path
) -> None:
    with ScalableSession.from_yaml(manifest(manifest_text(insecure=True))) as session:
        assert [one.code for one in session.validate().warnings] == ["W_INSECURE"]
        client = session.start()
        assert client.submit(sum, [1, 2], tag="simulate").result(timeout=100) == 3
        assert {address.partition(":")[0] for address in addresses(session).values()} == {"tcp"}
        assert certificates(tmp_path) == []
