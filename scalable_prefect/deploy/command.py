"""The command: reads the manifest and the flow's file, brings ``prefect.yaml`` up to date, and says what it did."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

if TYPE_CHECKING:
    from scalable_prefect.deploy.update import Outcome

__all__ = ["prefect"]

_Repeated = Parameter(negative="")


def prefect(
    *,
    flow: str,
    manifest: Path | None = None,
    target: Annotated[tuple[str, ...] | None, _Repeated] = None,
    output: Path = Path("prefect.yaml"),
    param: Annotated[tuple[str, ...] | None, _Repeated] = None,
    work_pool: Annotated[tuple[str, ...] | None, _Repeated] = None,
    concurrency_limit: int | None = None,
    cron: str | None = None,
    interval: str | None = None,
    timezone: str | None = None,
    dry_run: Annotated[bool, Parameter(negative="")] = False,
) -> int:
    """Write a Prefect deployment of a flow for each target into prefect.yaml, or bring those there up to date.

    What you changed in the file stays: only values are replaced that still are what was written
    before. What an option says is always written, and stays when the option is left out later.

    Parameters
    ----------
    flow
        The flow: its file and function, such as flow.py:pipeline.
    manifest
        The manifest; default is $SCALABLE_MANIFEST, or scalable.yaml here.
    target
        Name of a target; give it again for more. Default is all that the manifest has.
    output
        The file. Its directory is the project's, from which `prefect deploy` is run.
    param
        A parameter of the flow as name=value, where the value is JSON, else text; give it again for more.
    work_pool
        Name of the work pool, or target=name; give it again for more. Default is scalable-TARGET.
    concurrency_limit
        Runs of a deployment at the same time, at the most.
    cron
        When to run, such as '0 6 * * 1'.
    interval
        How often to run, such as 90m or 1d.
    timezone
        Where --cron holds, such as Europe/Berlin; default is UTC.
    dry_run
        Print the file, and leave it as it is.
    """
    from scalable_prefect.deploy.options import said_by  # noqa: PLC0415  (help must not wait for it)
    from scalable_prefect.deploy.update import update  # noqa: PLC0415

    options = said_by(param or (), concurrency_limit, cron, interval, timezone)
    outcome = update(flow, manifest, target or (), output, options, work_pools=work_pool or ())
    if dry_run:
        print(outcome.file.text(), end="")  # noqa: T201
        print(_report(outcome, dry_run=True), file=sys.stderr)  # noqa: T201
    else:
        outcome.file.write()
        print(_report(outcome))  # noqa: T201
    return 0


def _report(outcome: Outcome, *, dry_run: bool = False) -> str:
    lines = [f"{outcome.file.path}{' (not written)' if dry_run else ''}: {_summary(outcome.words)}"]
    width = max(len(name) for name in outcome.words)
    for name, word in outcome.words.items():
        lines.append(f"  {name:{width}}  {word}")
        lines += [f"  {'':{width}}    {line}" for line in outcome.details.get(name, ())]
    if outcome.pools:
        lines.append("Work pools, if they are not there yet:")
        lines += [f"  prefect work-pool create --type {kind} {name}" for name, kind in outcome.pools.items()]
    return "\n".join([*lines, "Then: prefect deploy --all"])


def _summary(words: Mapping[str, Any]) -> str:
    counts: dict[str, int] = {}
    for word in words.values():
        counts[word] = counts.get(word, 0) + 1
    return ", ".join(f"{count} {word}" for word, count in counts.items())
