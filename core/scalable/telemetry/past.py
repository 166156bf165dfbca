"""What past runs measured, by task, for those who learn from it."""

from __future__ import annotations

import hashlib
import json
import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final, overload

import numpy as np
from numpy.typing import NDArray

from scalable.errors import ScalableError
from scalable.telemetry.history import PlannedPool, RunFacts, RunHistory, RunRef, list_runs, read_run
from scalable.telemetry.kept import AttemptTable, Shelf, open_attempts

__all__ = [
    "COMPLETED",
    "FAILED",
    "LOST",
    "OUT_OF_MEMORY",
    "Attempts",
    "Features",
    "Past",
    "PastRun",
    "read_past",
]

COMPLETED: Final = 0
"""Outcome of an attempt that came to its end."""
FAILED: Final = 1
"""Outcome of an attempt that failed of anything but memory."""
OUT_OF_MEMORY: Final = 2
"""Outcome of an attempt that was killed for its memory: what it needs is more than its peak."""
LOST: Final = 3
"""Outcome of an attempt whose worker died for another reason."""

_FILES: Final = ("run.json", "plan.json", "summary.json", "workers.jsonl", "tasks.jsonl")
_TASKS: Final = _FILES.index("tasks.jsonl")
_KNOWN_SCHEMA: Final = RunFacts("", 0.0).schema


@dataclass(frozen=True, slots=True)
class PastRun:
    """A run that has ended.

    Attributes
    ----------
    run_id : str
        Name of its directory.
    path : Path
        Its directory.
    target, project, provider : str
        What ran where.
    started_at, ended_at : float
        Unix seconds.
    status : {"completed", "failed", "cancelled"}
        How it ended.
    planned : mapping of str to PlannedPool
        Workers at the start, by pool.
    startup_s : mapping of str to float
        Median seconds from asking for a worker to its being up, by pool; without the pools
        for which it was not recorded.
    threads : mapping of str to int
        Tasks at a time of a worker, by pool; without pools that had none.
    """

    run_id: str
    path: Path
    target: str
    project: str
    provider: str
    started_at: float
    ended_at: float
    status: str
    planned: Mapping[str, PlannedPool]
    startup_s: Mapping[str, float]
    threads: Mapping[str, int]


class Features(Sequence[Mapping[str, Any]]):
    """What was known of the input of each attempt; read from JSON when first looked at.

    Parameters
    ----------
    texts : array of str
        JSON objects; an empty text is one without members.
    """

    __slots__ = ("_parsed", "_texts")

    def __init__(self, texts: NDArray[np.object_]) -> None:
        self._texts = texts
        self._parsed: tuple[Mapping[str, Any], ...] | None = None

    def __len__(self) -> int:
        return len(self._texts)

    @overload
    def __getitem__(self, index: int) -> Mapping[str, Any]: ...

    @overload
    def __getitem__(self, index: slice) -> Sequence[Mapping[str, Any]]: ...

    def __getitem__(self, index: int | slice) -> Mapping[str, Any] | Sequence[Mapping[str, Any]]:
        return self._all()[index]

    def __iter__(self) -> Iterator[Mapping[str, Any]]:
        return iter(self._all())

    def where(self, chosen: NDArray[Any]) -> Features:
        """Return those of some attempts, chosen by a mask or by their places."""
        return Features(self._texts[chosen])

    def _all(self) -> tuple[Mapping[str, Any], ...]:
        if self._parsed is None:
            texts = [text or "{}" for text in self._texts]
            try:
                # At once, which takes a quarter of the time of one after the other.
                self._parsed = tuple(json.loads(f"[{','.join(texts)}]"))
            except (ValueError, RecursionError):
                self._parsed = tuple(_object(text) for text in texts)
        return self._parsed


@dataclass(frozen=True, slots=True, eq=False)
class Attempts:
    """Attempts of one task, column by column, in the order in which they ended.

    Attributes
    ----------
    name : str
        The task's name.
    run : array of int32
        Which of :attr:`Past.runs`.
    component : array of str
        Where it ran; empty if that is not known.
    started_at, ended_at : array of float64
        Unix seconds; NaN if unknown, as in all columns of floats.
    duration_s : array of float64
        Seconds, as measured on the worker.
    peak_bytes : array of float64
        Peak of resident memory, child processes included.
    exclusive : array of bool
        Whether the task had its process to itself; if not, the peak is that of all.
    cpu_s : array of float64
        Processor seconds.
    threads : array of int32
        Threads of its worker that it took.
    n_args, arg_bytes : array of int32, array of float64
        Number and size of the arguments.
    n_inputs, input_bytes : array of int32, array of float64
        Number and size of the input files; 0 and NaN where none were recorded.
    asked_bytes : array of float64
        Memory of its worker, the enlargement after a lack of memory included.
    outcome : array of int8
        :data:`COMPLETED`, :data:`FAILED`, :data:`OUT_OF_MEMORY` or :data:`LOST`.
    features : sequence of mapping
        What the user, or an engine, said of the input.
    """

    name: str
    run: NDArray[np.int32]
    component: NDArray[np.object_]
    started_at: NDArray[np.float64]
    ended_at: NDArray[np.float64]
    duration_s: NDArray[np.float64]
    peak_bytes: NDArray[np.float64]
    exclusive: NDArray[np.bool_]
    cpu_s: NDArray[np.float64]
    threads: NDArray[np.int32]
    n_args: NDArray[np.int32]
    arg_bytes: NDArray[np.float64]
    n_inputs: NDArray[np.int32]
    input_bytes: NDArray[np.float64]
    asked_bytes: NDArray[np.float64]
    outcome: NDArray[np.int8]
    features: Sequence[Mapping[str, Any]]

    def __len__(self) -> int:
        return len(self.run)

    def where(self, mask: NDArray[Any]) -> Attempts:
        """Return some of the attempts.

        Parameters
        ----------
        mask : array
            One truth value an attempt, or the places of those that are wanted.
        """
        chosen = np.asarray(mask)
        if chosen.dtype == np.bool_:
            chosen = np.flatnonzero(chosen)
        columns = {name: getattr(self, name)[chosen] for name in _COLUMNS}
        features = self.features
        some: Sequence[Mapping[str, Any]] = (
            features.where(chosen) if isinstance(features, Features) else tuple(features[place] for place in chosen)
        )
        return Attempts(name=self.name, features=some, **columns)


# Columns of Attempts that are arrays, with their kinds; `component` is of numbers until it is asked for.
_COLUMNS: Final[Mapping[str, Any]] = {
    "run": np.int32,
    "component": np.int32,
    "started_at": np.float64,
    "ended_at": np.float64,
    "duration_s": np.float64,
    "peak_bytes": np.float64,
    "exclusive": np.bool_,
    "cpu_s": np.float64,
    "threads": np.int32,
    "n_args": np.int32,
    "arg_bytes": np.float64,
    "n_inputs": np.int32,
    "input_bytes": np.float64,
    "asked_bytes": np.float64,
    "outcome": np.int8,
}


class Past:
    """What runs of one or several folders measured, as it was when they were read.

    Made by :func:`read_past`.

    Attributes
    ----------
    runs : tuple of PastRun
        The runs that are learned from, the earliest first.
    skipped : mapping of str to int
        What was left out: runs that were ``killed``, are ``running``, of which nothing is
        known (``unknown``), which a ``newer`` version wrote, that are ``unreadable`` or are
        there a second time (``repeated``); and ``torn`` lines of runs that are learned from.
    fingerprint : str
        SHA-256 of which runs these are, and of sizes and times of their files, as
        hexadecimal text: the same as long as the same would be read.
    tasks : tuple of str
        Names of the tasks, those with most attempts first.
    """

    def __init__(
        self,
        runs: Sequence[PastRun] = (),
        *,
        skipped: Mapping[str, int] = MappingProxyType({}),
        fingerprint: str = "",
        tasks: Sequence[str] = (),
        components: Sequence[str] = (),
        columns: Mapping[str, NDArray[Any]] = MappingProxyType({}),
    ) -> None:
        self.runs = tuple(runs)
        self.skipped = dict(skipped)
        self.fingerprint = fingerprint
        self.tasks = tuple(tasks)
        self._components = np.array([*components, ""], dtype=object)[:-1]
        numbers = np.asarray(columns.get("task", ()), dtype=np.int32)
        self._columns = {
            name: np.asarray(columns.get(name, ()), dtype=kind)
            for name, kind in {**_COLUMNS, "features": object}.items()
        }
        self._order = np.argsort(numbers, kind="stable")
        self._starts = np.searchsorted(numbers[self._order], np.arange(len(self.tasks) + 1))
        self._places = {name: place for place, name in enumerate(self.tasks)}

    def of(self, task: str, target: str | None = None) -> Attempts:
        """Return a task's attempts; none for a task that never ran.

        Parameters
        ----------
        task : str
            Its name.
        target : str, optional
            Only those on a target of this name.
        """
        place = self._places.get(task)
        chosen = self._order[:0] if place is None else self._order[self._starts[place] : self._starts[place + 1]]
        column = self._columns
        if target is not None:
            fitting = np.array([run.target == target for run in self.runs], dtype=np.bool_)
            chosen = chosen[fitting[column["run"][chosen]]] if len(chosen) else chosen
        chosen = chosen[self._by_end(chosen)]
        found = {name: column[name][chosen] for name in _COLUMNS}
        found["component"] = self._components[found["component"]]
        return Attempts(name=task, features=Features(column["features"][chosen]), **found)

    def _by_end(self, chosen: NDArray[np.intp]) -> NDArray[np.intp]:
        ends = self._columns["ended_at"][chosen]
        order = np.argsort(ends)
        if np.all(np.diff(ends[order]) > 0):
            return order
        # What ended at once, or nobody knows when, by more than that: the order is the same each time.
        by = [self._columns[name][chosen] for name in ("peak_bytes", "duration_s", "run")]
        return np.lexsort([*by, ends])


@dataclass(frozen=True, slots=True)
class _Found:
    """A run that has ended, where it lies; its history is not read if it is kept."""

    ref: RunRef
    shelf: Shelf
    stamp: str
    task_bytes: int
    history: RunHistory | None


def read_past(runs_dirs: str | os.PathLike[str] | Sequence[str | os.PathLike[str]], *, keep: bool = True) -> Past:
    """Read what the runs of one or several folders measured.

    Only runs that have ended are learned from: what a kill cut short would be missing, and
    that is the long and the large. Whatever cannot be read is left out and counted.

    Parameters
    ----------
    runs_dirs : path or sequence of paths
        Folders of runs; one that does not exist holds none.
    keep : bool
        Whether to keep what was read beside the runs, in ``.past``, and to use what is kept
        there, so that only runs that are new are read the next time.

    Raises
    ------
    ScalableError
        If a folder is there and cannot be listed.
    """
    given = [runs_dirs] if isinstance(runs_dirs, (str, os.PathLike)) else runs_dirs
    folders = list(dict.fromkeys(Path(folder).resolve() for folder in given))
    skipped: Counter[str] = Counter()
    found: dict[int, _Found] = {}
    for folder in folders:
        _look_around(folder, found, skipped, keep=keep)
    with open_attempts() as table:
        heads = _load(table, found) if keep else {}
        heads |= _parse(
            table, {number: one for number, one in found.items() if number not in heads}, skipped, keep=keep
        )
        return _assemble(table, found, heads, skipped)


def _look_around(folder: Path, found: dict[int, _Found], skipped: Counter[str], *, keep: bool) -> None:
    """Find the runs of a folder that have ended, and count those that have not."""
    shelf, stamps = Shelf(folder), {}
    for ref in list_runs(folder):
        stats = [_stat(ref.path / file) for file in _FILES]
        stamp = stamps[ref.run_id] = hashlib.sha256(repr(stats).encode()).hexdigest()[:16]
        history = None if keep and shelf.find(ref.run_id, stamp) else _history(ref)
        if isinstance(history, str):
            skipped[history] += 1
            continue
        found[len(found)] = _Found(ref, shelf, stamp, stats[_TASKS][0], history)
    if keep:
        shelf.tidy(stamps)


def _stat(path: Path) -> tuple[int, int]:
    """Return size and time (nanoseconds) of a file; -1 if there is none."""
    try:
        stat = path.stat()
    except OSError:
        return -1, -1
    return stat.st_size, stat.st_mtime_ns


def _history(ref: RunRef) -> RunHistory | str:
    """Return a run that can be learned from, or why it cannot be, in a word."""
    try:
        history = read_run(ref.path)
    except ScalableError:
        schema = _object_in(ref.path / "run.json").get("schema")
        return "newer" if isinstance(schema, int) and schema > _KNOWN_SCHEMA else "unreadable"
    if history.ended_at is None:
        return history.status
    return "killed" if _object_in(ref.path / "summary.json").get("killed") else history


def _load(table: AttemptTable, found: Mapping[int, _Found]) -> dict[int, dict[str, Any]]:
    """Take in what is kept; return what is known of each of these runs as a whole."""
    kept = {number: one.shelf.find(one.ref.run_id, one.stamp) for number, one in found.items()}
    files = {number: path for number, path in kept.items() if path is not None}
    table.load(files)
    heads = {number: _object(text) for number, text in table.heads().items()}
    heads = {number: head for number, head in heads.items() if _past_run(found[number].ref, head) is not None}
    damaged = files.keys() - heads.keys()
    table.drop(damaged)
    for number in damaged:
        found[number].shelf.remove(files[number])
    return heads


def _parse(
    table: AttemptTable, found: Mapping[int, _Found], skipped: Counter[str], *, keep: bool
) -> dict[int, dict[str, Any]]:
    """Take in the records of runs that are not kept yet, and keep them."""
    histories: dict[int, RunHistory] = {}
    for number, one in found.items():
        try:
            histories[number] = one.history or read_run(one.ref.path)
        except ScalableError:
            skipped["unreadable"] += 1
    files = {number: history.path / "tasks.jsonl" for number, history in histories.items()}
    unread = table.parse({number: path for number, path in files.items() if found[number].task_bytes > 0})
    skipped["unreadable"] += len(unread)
    heads = _heads(table, {number: one for number, one in histories.items() if number not in unread})
    table.add_heads({number: json.dumps(head) for number, head in heads.items()})
    if keep:
        for shelf in {found[number].shelf for number in heads}:
            own = {number: found[number] for number in heads if found[number].shelf is shelf}
            shelf.put(table, {number: (one.ref.run_id, one.stamp) for number, one in own.items()})
    return heads


def _heads(table: AttemptTable, histories: Mapping[int, RunHistory]) -> dict[int, dict[str, Any]]:
    torn = table.torn()
    heads: dict[int, dict[str, Any]] = {}
    for number, history in histories.items():
        facts = history.facts
        heads[number] = {
            "target": facts.target,
            "project": facts.project,
            "provider": facts.provider,
            "started_at": facts.started_at,
            "ended_at": history.ended_at,
            "status": history.status,
            "planned": {pool: asdict(planned) for pool, planned in history.planned.items()},
            "startup_s": {},
            "threads": {},
            "torn": torn.get(number, 0),
        }
    files = {number: history.path / "workers.jsonl" for number, history in histories.items()}
    for number, pool, threads, startup_s in table.workers({n: path for n, path in files.items() if path.is_file()}):
        if threads is not None:
            heads[number]["threads"][pool] = threads
        if startup_s is not None:
            heads[number]["startup_s"][pool] = startup_s
    return heads


def _assemble(
    table: AttemptTable, found: Mapping[int, _Found], heads: Mapping[int, Mapping[str, Any]], skipped: Counter[str]
) -> Past:
    runs: dict[int, PastRun] = {}
    seen: set[tuple[str, float, int]] = set()
    for number, head in heads.items():
        run = _past_run(found[number].ref, head)
        assert run is not None
        identity = run.run_id, run.started_at, found[number].task_bytes
        if identity in seen:
            skipped["repeated"] += 1
            continue
        seen.add(identity)
        runs[number] = run
        skipped["torn"] += head["torn"]
    table.drop(heads.keys() - runs.keys())
    ordered = sorted(runs, key=lambda number: (runs[number].started_at, runs[number].run_id, number))
    marks = sorted((found[number].ref.run_id, found[number].stamp) for number in ordered)
    tasks, components = table.task_names(), table.component_names()
    columns = table.fetch()
    places = np.full(max(found, default=-1) + 1, -1, dtype=np.int32)
    places[ordered] = np.arange(len(ordered), dtype=np.int32)
    columns["run"] = places[columns["run"]]
    return Past(
        [runs[number] for number in ordered],
        skipped=+skipped,
        fingerprint=hashlib.sha256(repr(marks).encode()).hexdigest(),
        tasks=tasks,
        components=components,
        columns=columns,
    )


def _past_run(ref: RunRef, head: Mapping[str, Any]) -> PastRun | None:
    """Return a run from what is known of it; ``None`` if that is not what this module wrote."""
    try:
        int(head["torn"])
        return PastRun(
            run_id=ref.run_id,
            path=ref.path,
            target=str(head["target"]),
            project=str(head["project"]),
            provider=str(head["provider"]),
            started_at=float(head["started_at"]),
            ended_at=float(head["ended_at"]),
            status=str(head["status"]),
            planned={pool: PlannedPool(**planned) for pool, planned in head["planned"].items()},
            startup_s=dict(head["startup_s"]),
            threads=dict(head["threads"]),
        )
    except (KeyError, TypeError, ValueError, AttributeError):
        return None


def _object_in(path: Path) -> Mapping[str, Any]:
    try:
        return _object(path.read_text(encoding="utf-8", errors="replace"))
    except OSError:
        return {}


def _object(text: str) -> dict[str, Any]:
    """Return a JSON object; an empty one for what is none."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}
