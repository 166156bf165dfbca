"""From a manifest and a flow's file to an updated ``prefect.yaml``, not written yet."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path as FilePath
from typing import Any

from scalable.errors import ManifestError
from scalable_prefect.deploy.document import PrefectFile
from scalable_prefect.deploy.generate import TARGET_PARAMETER, Generated, Place, generate
from scalable_prefect.deploy.merge import Changes, Path, digests, merge
from scalable_prefect.deploy.options import check_parameters, pool_names
from scalable_prefect.deploy.roundtrip import node
from scalable_prefect.deploy.source import FlowSource, read_flow
from scalable_prefect.deploy.targets import read_targets

__all__ = ["Outcome", "update"]


@dataclass(slots=True)
class Outcome:
    """What is to be written, and what to say of it.

    Attributes
    ----------
    words : dict of str to str
        What becomes of the deployment of each target.
    details : dict of str to list of str
        Further lines on each.
    pools : dict of str to str
        Work pools and their types.
    """

    file: PrefectFile
    words: dict[str, str] = field(default_factory=dict)
    details: dict[str, list[str]] = field(default_factory=dict)
    pools: dict[str, str] = field(default_factory=dict)


def update(
    flow: str,
    manifest: FilePath | None,
    targets: Sequence[str],
    output: FilePath,
    said: dict[Path, Any],
    *,
    work_pools: Sequence[str] = (),
) -> Outcome:
    """Bring the deployments of a flow up to date in memory.

    Parameters
    ----------
    flow : str
        File and function.
    manifest : Path or None
        Default is ``SCALABLE_MANIFEST``, or ``scalable.yaml``.
    targets : sequence of str
        Names; default is all.
    output : Path
        The file.
    said : dict
        What options say, by path in a deployment.
    work_pools : sequence of str
        Names, each for all targets, or ``target=name``.

    Raises
    ------
    ScalableError
        If any of it cannot be used.
    """
    source = read_flow(flow)
    check_parameters(said, source)
    where = manifest or FilePath(os.environ.get("SCALABLE_MANIFEST") or "scalable.yaml").expanduser()
    read = read_targets(where, targets)
    if not read.sessions:
        raise ManifestError("\n".join(read.unusable.values()))
    outcome = Outcome(PrefectFile(output))
    place = _place(source, where, outcome.file)
    names = pool_names(work_pools, tuple(read.sessions))
    for target, session in read.sessions.items():
        one = generate(session, place)
        pool: Mapping[Path, Any] = {("work_pool", "name"): names[target]} if target in names else {}
        _bring_up_to_date(outcome, target, one, {**said, **pool}, by_name=target in targets)
        # The parameter goes before it.
        if source.fixed_target not in (None, target) and not place.takes_target:
            line = f"{source.path} gives its task runner the target '{source.fixed_target}': leave it out there"
            outcome.details[target].append(line)
    for target, reason in read.unusable.items():
        outcome.words[target] = "left out"
        outcome.details[target] = reason.splitlines()
    return outcome


def _place(source: FlowSource, manifest: FilePath, file: PrefectFile) -> Place:
    project = file.path.absolute().parent
    return Place(
        entrypoint=f"{_seen_from(project, source.path)}:{source.name}",
        manifest=_seen_from(project, manifest),
        directory=project.resolve().name,
        takes_target=source.parameters is not None and TARGET_PARAMETER in source.parameters,
        pulls=file.pulls,
    )


def _seen_from(project: FilePath, path: FilePath) -> str:
    return FilePath(os.path.relpath(path.absolute(), project)).as_posix()


def _bring_up_to_date(
    outcome: Outcome, target: str, made: Generated, said: Mapping[Path, Any], *, by_name: bool
) -> None:
    file, entrypoint = outcome.file, str(made.values["entrypoint"])
    key = (entrypoint, target)
    found = file.find(entrypoint, target)
    if found is None and key in file.records and not by_name:
        outcome.words[target] = "left out"
        outcome.details[target] = [f"you removed it; --target {target} brings it back"]
        return
    remembered = file.records.get(key, {}) if found is not None else {}
    with file.editing(found) as deployment:
        changes = merge(deployment, made.values, said, remembered, node)
    pool = deployment.get("work_pool")
    if isinstance(pool, Mapping) and pool.get("name"):
        outcome.pools[str(pool["name"])] = made.pool_type
    file.records[key] = digests(made.values)
    outcome.words[target] = "added" if found is None else "updated" if changes.any else "unchanged"
    outcome.details[target] = [*(_lines(changes) if found is not None else ()), *made.notes]


def _lines(changes: Changes) -> list[str]:
    parts = {
        "added": changes.added,
        "updated": changes.updated,
        "removed": changes.removed,
        "kept as you have it": changes.kept,
    }
    return [f"{word}: {', '.join(paths)}" for word, paths in parts.items() if paths]
