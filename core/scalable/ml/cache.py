"""Fitted models beside the runs they were learned from: found again, never stale, never somebody else's.

A file holds plain arrays and JSON, so that reading one can run nothing. Files that another
user could have written are left alone all the same: a wrong model is a wrong advice.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import logging
import os
import stat
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from scalable.errors import ScalableError
from scalable.ml.models import read_arrays

__all__ = ["CacheKey", "CachedModel", "ModelCache", "cache_key"]

logger = logging.getLogger(__name__)

_FOLDER: Final = ".models"
_SUFFIX: Final = ".npz"
_DRAFT: Final = ".draft-"
_DRAFT_AGE_S: Final = 3_600.0
_MOST: Final = 512
_META: Final = "meta"
_FORMAT: Final = 1
"""Raised when what the arrays mean changes."""


@dataclass(frozen=True, slots=True)
class CacheKey:
    """What a cached model was made of; see :func:`cache_key`.

    Attributes
    ----------
    task : str
        Hash of the task's name.
    state : str
        Hash of the data and of the libraries' versions: a model of the task with another one is stale.
    whole : str
        Hash of all of it.
    """

    task: str
    state: str
    whole: str

    @property
    def file(self) -> str:
        """The file's name."""
        return f"{self.task[:16]}-{self.state[:16]}-{self.whole}{_SUFFIX}"


def cache_key(task: str, fingerprint: str, model_type: str, params: Mapping[str, Any]) -> CacheKey:
    """Return the key of a model.

    Parameters
    ----------
    task : str
        The task's name.
    fingerprint : str
        Of the data that it is learned from, such as :attr:`scalable.telemetry.past.Past.fingerprint`.
    model_type : str
        The kind of model.
    params : mapping
        All that decides besides, as JSON; the order of the keys does not matter.

    Raises
    ------
    ScalableError
        If the parameters are not JSON.
    """
    try:
        canonical = json.dumps(params, sort_keys=True, separators=(",", ":"), allow_nan=False)
    except (TypeError, ValueError) as error:
        raise ScalableError(f"parameters of a model must be JSON: {error}") from error
    state = [fingerprint, _version("scalable-workflows"), _version("scikit-learn"), _FORMAT]
    return CacheKey(_hash(task), _hash(state), _hash([task, state, model_type, canonical]))


def _hash(parts: Any) -> str:
    # JSON keeps the parts apart: what one ends with cannot be taken for what the next begins with.
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def _version(library: str) -> str:
    try:
        return metadata.version(library)
    except metadata.PackageNotFoundError:
        return ""


@dataclass(frozen=True, slots=True, eq=False)
class CachedModel:
    """What a file holds: arrays by name, and whatever else there is as JSON."""

    arrays: Mapping[str, NDArray[Any]]
    meta: Mapping[str, Any]


class ModelCache:
    """Models in ``<runs_dir>/.models``.

    Nothing here fails: without a folder that can be used there is no cache, and what cannot be
    read is as if it were not there, which is said at debug level.

    Parameters
    ----------
    runs_dir : Path
        The folder of the runs.
    """

    def __init__(self, runs_dir: Path) -> None:
        self.folder = runs_dir / _FOLDER

    def load(self, key: CacheKey) -> CachedModel | None:
        """Return a model, or ``None`` if it is not there.

        Parameters
        ----------
        key : CacheKey
            From :func:`cache_key`.
        """
        path = self.folder / key.file
        try:
            _check(self.folder.lstat(), stat.S_ISDIR)
            model = _read(path)
        except FileNotFoundError:
            return None
        except (OSError, ScalableError) as error:
            logger.debug("the model in %s is not used: %s", path, error)
            return None
        # What is used is kept longest. A folder that can only be read serves all the same.
        with contextlib.suppress(OSError):
            os.utime(path)
        return model

    def store(self, key: CacheKey, arrays: Mapping[str, NDArray[Any]], meta: Mapping[str, Any]) -> bool:
        """Keep a model, and remove what is stale: models of the same task from other data or libraries.

        Parameters
        ----------
        key : CacheKey
            From :func:`cache_key`.
        arrays : mapping of str to array
            Numbers and texts.
        meta : mapping
            The rest, as JSON.

        Returns
        -------
        bool
            Whether it was kept.
        """
        try:
            with contextlib.suppress(FileExistsError):
                self.folder.mkdir(mode=0o700)
            _check(self.folder.lstat(), stat.S_ISDIR)
            self._write(self.folder / key.file, _packed(arrays, meta))
            self._clear(key)
        except (OSError, ScalableError) as error:
            logger.debug("no model is kept in %s: %s", self.folder, error)
            return False
        return True

    def _write(self, path: Path, data: bytes) -> None:
        # Made for nobody else to read or write; a reader sees the old file or the new one.
        handle, name = tempfile.mkstemp(prefix=_DRAFT, dir=self.folder)
        draft = Path(name)
        try:
            with open(handle, "wb") as out:  # noqa: PTH123  (a descriptor)
                out.write(data)
            draft.replace(path)
        except BaseException:
            draft.unlink(missing_ok=True)
            raise

    def _clear(self, key: CacheKey) -> None:
        """Remove what is stale, what is beyond the bound, and drafts that a kill left."""
        kept: list[tuple[float, Path]] = []
        for path, modified in self._files():
            name = path.name
            if name.startswith(_DRAFT):
                old = time.time() - modified > _DRAFT_AGE_S
            else:
                old = name.startswith(key.task[:16]) and not name.startswith(f"{key.task[:16]}-{key.state[:16]}-")
                kept += [] if old or name == key.file else [(modified, path)]
            if old:
                path.unlink(missing_ok=True)
        for _, path in sorted(kept, reverse=True)[_MOST - 1 :]:
            path.unlink(missing_ok=True)

    def _files(self) -> Iterator[tuple[Path, float]]:
        for path in self.folder.iterdir():
            # Another process may be clearing, too.
            with contextlib.suppress(FileNotFoundError):
                if path.suffix == _SUFFIX or path.name.startswith(_DRAFT):
                    yield path, path.lstat().st_mtime


def _packed(arrays: Mapping[str, NDArray[Any]], meta: Mapping[str, Any]) -> bytes:
    if _META in arrays:
        raise ScalableError(f"no array of a model can be called '{_META}'")
    out = io.BytesIO()
    try:
        text = json.dumps(meta, allow_nan=False).encode()
        np.savez(out, allow_pickle=False, **{_META: np.frombuffer(text, np.uint8)}, **arrays)
    except (TypeError, ValueError) as error:
        raise ScalableError(f"a model must be plain arrays and JSON: {error}") from error
    return out.getvalue()


def _read(path: Path) -> CachedModel:
    # Looked at after it is opened: what is checked is what is read. A link is not followed.
    with os.fdopen(
        os.open(path, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)), "rb"
    ) as file:
        _check(os.fstat(file.fileno()), stat.S_ISREG)
        arrays = read_arrays(file)
    try:
        meta = json.loads(arrays.pop(_META).tobytes())
    except (KeyError, ValueError) as error:
        raise ScalableError(f"it has no description: {error}") from error
    if not isinstance(meta, dict):
        raise ScalableError("its description is not a mapping")
    return CachedModel(arrays, meta)


def _check(found: os.stat_result, is_kind: Any) -> None:
    """Raise if a file or folder is not of the kind, not ours, or can be written by others."""
    if not is_kind(found.st_mode):
        raise ScalableError("it is not what it should be, but a link or another kind of file")
    # Windows has neither owners' numbers nor these modes; folders of users are closed to others there.
    if hasattr(os, "geteuid"):
        if found.st_uid != os.geteuid():
            raise ScalableError(f"it belongs to another user ({found.st_uid})")
        if found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
            raise ScalableError(f"others can write to it (mode {stat.S_IMODE(found.st_mode):o})")
