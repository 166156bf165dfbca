"""``prefect.yaml``, read and changed in place; comments, order and quotes stay."""

from __future__ import annotations

import copy
import os
import posixpath
import tempfile
from collections.abc import Iterator, MutableMapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from scalable.errors import ScalableError
from scalable.extras import require
from scalable_prefect.deploy.records import joined, split
from scalable_prefect.deploy.roundtrip import comments_kept, editor, node, render

__all__ = ["Deployment", "PrefectFile"]

Deployment = MutableMapping[str, Any]


class PrefectFile:
    """A ``prefect.yaml``.

    Parameters
    ----------
    path : Path
        The file, which need not be there.

    Attributes
    ----------
    records : dict
        Digests of what was written, by entrypoint and target; they stand in comment lines at its end.
    is_new : bool
        Whether it is not there yet.

    Raises
    ------
    ScalableError
        If it is there and cannot be used.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        before = self._read()
        self.is_new = before is None
        self._before = before or ""
        self._newline = "\r\n" if "\r\n" in self._before else "\n"
        self.records, self._body = split(self._before.replace("\r\n", "\n"))
        self._editor = editor(self._body)
        self._data = self._parse()
        self._changed = False

    @property
    def pulls(self) -> bool:
        """Whether it says for all deployments where flows are pulled from."""
        return self._data.get("pull") is not None

    def find(self, entrypoint: str, target: str) -> Deployment | None:
        """Return the deployment of a flow on a target: by its name, or by its job's ``SCALABLE_TARGET``."""
        ours = [one for one in self._deployments() if _normal(one.get("entrypoint")) == _normal(entrypoint)]
        named = [one for one in ours if one.get("name") == target]
        return next(iter(named or [one for one in ours if _target_of(one) == target]), None)

    @contextmanager
    def editing(self, deployment: Deployment | None) -> Iterator[Deployment]:
        """Yield a deployment to be changed in place: one that was found, or a new one at the end."""
        made = node({}) if deployment is None else deployment
        before = copy.deepcopy(made)
        with comments_kept(made):
            yield made
        self._changed |= deployment is None or made != before
        if deployment is None:
            if self._data.get("deployments") is None:
                self._data["deployments"] = node([])
            self._data["deployments"].append(made)

    def text(self) -> str:
        """Return the whole text: the same as before where nothing was changed."""
        body = self._dumped() if self._changed else self._body
        if body == self._body and self.records == split(self._before.replace("\r\n", "\n"))[0]:
            return self._before
        return (body + joined(self.records)).replace("\n", self._newline)

    def write(self) -> bool:
        """Write it, whole or not at all; return whether there was anything to write."""
        text = self.text()
        if text == self._before:
            return False
        # A link stays one.
        target = self.path.resolve()
        temporary = None
        try:
            mode = target.stat().st_mode & 0o7777 if target.exists() else 0o644
            handle, temporary = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
            with os.fdopen(handle, "w", encoding="utf-8", newline="") as stream:
                stream.write(text)
            Path(temporary).chmod(mode)
            Path(temporary).replace(target)
        except OSError as error:
            if temporary is not None:
                Path(temporary).unlink(missing_ok=True)
            raise ScalableError(f"{self.path} cannot be written: {error.strerror or error}") from error
        return True

    def _read(self) -> str | None:
        try:
            return self.path.read_bytes().decode("utf-8")
        except FileNotFoundError:
            return None
        except UnicodeDecodeError:
            raise self._refused("is not UTF-8 text", "save it as such") from None
        except OSError as error:
            raise ScalableError(f"{self.path} cannot be read: {error.strerror or error}") from error

    def _parse(self) -> Any:
        try:
            data = self._editor.load(self._body)
        except require("prefect", "ruamel.yaml.error").YAMLError as error:
            mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
            where = f" in line {mark.line + 1}" if mark is not None else ""
            raise self._refused(f"is not YAML{where}: {getattr(error, 'problem', None) or error}", "mend it") from None
        if data is None:
            return node({})
        if not isinstance(data, MutableMapping):
            raise self._refused("is not a mapping", "it needs `deployments:` at the top")
        listed = data.get("deployments")
        if listed is not None and not isinstance(listed, list):
            raise self._refused("has `deployments` that are not a list", "write each as `- name: ...`")
        for number, one in enumerate(listed or (), 1):
            if not isinstance(one, MutableMapping):
                raise self._refused(f"has a deployment that is not a mapping: number {number}", "write `- name: ...`")
        return data

    def _deployments(self) -> list[Deployment]:
        return self._data.get("deployments") or []

    def _dumped(self) -> str:
        text = render(self._editor, self._data)
        # Nothing but comments is no document, whose comments a dump would lose.
        has_data = self._editor.load(self._body) is not None
        return text if has_data else self._body + text

    def _refused(self, what: str, how: str) -> ScalableError:
        return ScalableError(f"{self.path} {what}; {how}, or name another file by --output; nothing was written")


def _normal(entrypoint: object) -> str:
    file, _, name = str(entrypoint).rpartition(":")
    return f"{posixpath.normpath(file)}:{name}"


def _target_of(deployment: Deployment) -> object:
    found: Any = deployment
    for key in ("work_pool", "job_variables", "env", "SCALABLE_TARGET"):
        found = found.get(key) if isinstance(found, MutableMapping) else None
    return found
