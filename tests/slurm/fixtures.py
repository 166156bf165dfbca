"""Fixtures that bring a real Slurm, and a container image for its jobs; any test may ask for them."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from typing import NoReturn, TypeVar

import pytest

from tests.slurm import backend
from tests.slurm.backend import Slurm, Unavailable

T = TypeVar("T")


@pytest.fixture(scope="session")
def slurm() -> Iterator[Slurm]:
    """Bring Slurm up for the session, and take it down however the session ends.

    With ``SLURM_KEEP`` set it is left up, and one that is up is used as it is.
    """
    keep = bool(os.environ.get("SLURM_KEEP"))
    if not keep:
        # What a session that was killed has left.
        backend.down()
    try:
        up = _or_skip(backend.up, "no Slurm here")
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("SLURM_CONF", str(up.conf))
            up.clear()
            yield up
    finally:
        if not keep:
            backend.down()


@pytest.fixture
def queue(slurm: Slurm, request: pytest.FixtureRequest) -> Iterator[Slurm]:
    """Slurm with an empty queue, which the test has to leave empty within 30 s; its nodes are brought back."""
    assert slurm.jobs() == []
    failures = request.session.testsfailed
    try:
        yield slurm
        # A test that failed has said what is wrong; that its jobs are still there would only hide it.
        if request.session.testsfailed == failures:
            slurm.wait_empty()
    finally:
        slurm.clear()


@pytest.fixture(scope="session")
def container_image(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Name an image with Python, Dask and psutil, for ``podman run --rm IMAGE python3`` in this process and in jobs."""
    # Only here: it needs what only the development environment has.
    from tests.slurm import image

    _or_skip(image.install_podman, "no containers here")
    directory = tmp_path_factory.mktemp("containers")
    with pytest.MonkeyPatch.context() as patch:
        for name, value in image.settings(directory).items():
            patch.setenv(name, value)
        try:
            yield image.build_image(directory)
        finally:
            image.remove(directory)


def _or_skip(bring: Callable[[], T], what: str) -> T:
    """Call something that may be unavailable, which is an excuse on a developer's machine only."""
    try:
        return bring()
    except Unavailable as problem:
        _excuse(f"{what}: {problem}")


def _excuse(message: str) -> NoReturn:
    if os.environ.get("CI"):
        pytest.fail(message, pytrace=False)
    pytest.skip(message)
