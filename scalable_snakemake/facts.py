"""What the executor reads off Snakemake's jobs, and how it words what became of them."""

from __future__ import annotations

import contextlib
import os
import re
from typing import Any, Final

from scalable_snakemake.placement import Member

__all__ = ["features_of", "file_name", "members_of", "tag_of", "title_of", "wording_of"]

_TAG: Final = "scalable_tag"
_NOT_KNOWN_YET: Final = "<TBD>"
_SIZES: Final = ("mem_mb", "disk_mb", "runtime", "gpu")


def tag_of(job: Any) -> str | None:
    """Return the tag that a job's resources name."""
    tag = job.resources.get(_TAG)
    return None if tag in (None, "", _NOT_KNOWN_YET) else str(tag)


def members_of(job: Any) -> list[Member]:
    """Return a job, or all jobs of a group, as far as their place is concerned."""
    return [Member(one.rule.name, tag_of(one)) for one in (job.jobs if job.is_group() else [job])]


def title_of(job: Any) -> str:
    """Return the name of a job's rule, or of all rules of a group, whose own name may be a random one."""
    return "+".join(sorted(job.rules)) if job.is_group() else str(job.rule.name)


def file_name(job: Any) -> str:
    """Return a job's rule, number and attempt as the beginning of a file's name."""
    rule = re.sub(r"[^\w.-]+", "_", str(job.name))[:80]
    return f"{rule}-{job.jobid}-{job.attempt}"


def features_of(job: Any) -> dict[str, int | str]:
    """Return what is known of a job before it runs.

    ``input_bytes`` counts what lies in this filesystem; ``mem_mb``, ``disk_mb``, ``runtime``
    (minutes) and ``gpu`` are there if the rule asks for them and Snakemake knows them. The
    job's wildcards are texts: ``wildcards.sample``, and so on.
    """
    count, size = _input_size(job)
    known: dict[str, int | str] = {
        "threads": int(job.threads),
        "attempt": int(job.attempt),
        "input_files": count,
        "input_bytes": size,
    }
    for name in _SIZES:
        value = job.resources.get(name)
        # What depends on an input that is not there yet is a text.
        if isinstance(value, int):
            known[name] = value
    return known | _wildcards(job)


def _input_size(job: Any) -> tuple[int, int]:
    """Return number and bytes of a job's input files; those that are not here have none."""
    count = size = 0
    for path in job.input:
        count += 1
        with contextlib.suppress(OSError, ValueError):
            size += os.stat(path).st_size  # noqa: PTH116  (there may be thousands, and a Path costs as much again)
    return count, size


def _wildcards(job: Any) -> dict[str, str]:
    """Return a job's wildcards; of a group, those that mean the same to all jobs that have them."""
    values: dict[str, set[str]] = {}
    for one in job.jobs if job.is_group() else [job]:
        for name, value in (one.wildcards_dict or {}).items():
            values.setdefault(name, set()).add(str(value))
    return {f"wildcards.{name}": next(iter(texts)) for name, texts in values.items() if len(texts) == 1}


def wording_of(reason: str, job: Any, pools: tuple[str, ...] = (), last_lines: str = "") -> str:
    """Return what the user is told of a failed job."""
    text = f"{reason} (attempt {job.attempt}"
    text += f", pool {' or '.join(pools)})" if pools else ")"
    if last_lines:
        quoted = "\n".join(f"        | {line}" for line in last_lines.splitlines())
        text += f"\n        last lines of its log:\n{quoted}"
    return text
