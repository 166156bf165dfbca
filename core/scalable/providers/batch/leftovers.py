"""What a dead run left behind, and ending it: jobs, the files of its certificates, open records."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import stat
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from scalable.errors import ProviderUnavailable, ScalableError
from scalable.providers.batch.command import call
from scalable.providers.batch.runs import UserRun
from scalable.providers.batch.security import DIRECTORY_PREFIX
from scalable.providers.batch.systems import SYSTEMS, only_gone
from scalable.telemetry.aftermath import close_records

__all__ = ["Leftovers", "find_leftovers"]

_MOST_IDS: Final = 200
_MOST_SHOWN: Final = 6


@dataclass(frozen=True, slots=True)
class Leftovers:
    """What is left of one run.

    Attributes
    ----------
    run : UserRun
        The run.
    system : str
        The batch system of its jobs; empty if it has none.
    job_ids : tuple of str
        Its jobs, as the system's command to cancel takes them; a whole array is one.
    tls_directory : Path or None
        Where its certificates lie, if they still do.
    """

    run: UserRun
    system: str = ""
    job_ids: tuple[str, ...] = ()
    tls_directory: Path | None = None

    def __bool__(self) -> bool:
        return bool(self.job_ids or self.tls_directory or self._records_open)

    @property
    def _records_open(self) -> bool:
        return self.run.path is not None and not self.run.ended

    def told(self) -> str:
        """Return all of it as words, such as ``2 jobs (17, 18), its records``."""
        parts = []
        if self.job_ids:
            shown = ", ".join(self.job_ids[:_MOST_SHOWN])
            more = f" and {len(self.job_ids) - _MOST_SHOWN} more" if len(self.job_ids) > _MOST_SHOWN else ""
            parts.append(f"{len(self.job_ids)} job{'' if len(self.job_ids) == 1 else 's'} ({shown}{more})")
        if self.tls_directory is not None:
            parts.append(f"its certificates in {self.tls_directory}")
        if self._records_open:
            parts.append("its records")
        return ", ".join(parts)

    def end(self) -> None:
        """End all of it: jobs first, so that a failure leaves the run to be found again.

        Raises
        ------
        ScalableError
            If a part could not be ended.
        """
        for start in range(0, len(self.job_ids), _MOST_IDS):
            _cancel(self.system, self.job_ids[start : start + _MOST_IDS])
        if self.tls_directory is not None:
            try:
                shutil.rmtree(self.tls_directory)
            except OSError as error:
                raise ScalableError(f"cannot remove {self.tls_directory}: {error.strerror}") from error
        if self.run.path is not None:
            close_records(self.run.path)


def find_leftovers(run: UserRun, *, slurm_asked: bool) -> Leftovers:
    """Return what is left of a run.

    Parameters
    ----------
    run : UserRun
        A run that is not under way.
    slurm_asked : bool
        Whether the jobs of the run are what Slurm's queue says.

    Raises
    ------
    ProviderUnavailable
        If it has jobs in a Slurm that this machine has no commands of.
    """
    started = {} if run.path is None else _read_json(run.path / "batch.json")
    system = str(started.get("system") or run.provider)
    if system not in SYSTEMS:
        return Leftovers(run)
    if system == "slurm" and slurm_asked:
        # An array is one run's alone, so that its number stands for all that is left of it.
        live = (job.job_id.partition("_")[0] for job in run.live_jobs if job.state != "COMPLETING")
        ids = tuple(dict.fromkeys(live))
    else:
        ids = () if run.path is None else tuple(_not_cancelled(run.path / "jobs.jsonl"))
    if ids and system == "slurm" and not slurm_asked:
        raise ProviderUnavailable(
            f"{run.run_id} has jobs in Slurm, and there is no `squeue` on this machine's PATH; use a login node"
        )
    return Leftovers(run, system if ids else "", ids, _tls_directory(started.get("tls_directory")))


def _cancel(system: str, job_ids: Sequence[str]) -> None:
    # The user's own SCANCEL_STATE and the like would spare jobs.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("SCANCEL_")}
    answer = call([*SYSTEMS[system].cancel, *job_ids], environment)
    if answer.code and not only_gone(answer.err):
        raise answer.failure()


def _not_cancelled(path: Path) -> Iterator[str]:
    """Yield the jobs that a run noted as submitted and not as cancelled; some may have ended by themselves."""
    submitted: dict[str, None] = {}
    with contextlib.suppress(FileNotFoundError):
        for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
            try:
                record = json.loads(line)
                event, ids = record["event"], [str(one) for one in record["job_ids"]]
            except (ValueError, TypeError, KeyError):
                continue  # torn by the kill
            if event == "submitted":
                submitted.update(dict.fromkeys(ids))
            elif event == "cancelled":
                for one in ids:
                    submitted.pop(one, None)
    yield from submitted


def _tls_directory(named: object) -> Path | None:
    """Return the directory if it is there and was made for a run by this user."""
    if not isinstance(named, str) or not Path(named).name.startswith(DIRECTORY_PREFIX):
        return None
    path = Path(named)
    try:
        facts = path.lstat()
    except OSError:
        return None
    return path if stat.S_ISDIR(facts.st_mode) and facts.st_uid == os.getuid() else None


def _read_json(path: Path) -> Mapping[str, Any]:
    try:
        content = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}
