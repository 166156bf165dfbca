"""Attempts of many runs in one table: their lines are parsed once, and kept beside the runs as Parquet."""

from __future__ import annotations

import contextlib
import logging
import os
import re
import secrets
import stat
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from scalable.errors import InternalError
from scalable.telemetry.history import INTERNAL

if TYPE_CHECKING:
    import duckdb

__all__ = ["AttemptTable", "Shelf", "open_attempts"]

logger = logging.getLogger(__name__)

_SCHEMA: Final = 2
_FOLDER: Final = ".past"
_NAME: Final = re.compile(r"(?P<run>.+)-(?P<schema>\d+)-(?P<stamp>[0-9a-f]{16})\.parquet")
_DRAFT_LIVES_S: Final = 3600.0
_MOST_THREADS: Final = 4

# Numbers of any size are read, so that one which is absurd does not cost the rest of its line.
_LINE: Final = {
    "key": "VARCHAR",
    "name": "VARCHAR",
    "tag": "VARCHAR",
    "component": "VARCHAR",
    "worker": "VARCHAR",
    "started_at": "DOUBLE",
    "ended_at": "DOUBLE",
    "duration_s": "DOUBLE",
    "cpu_s": "DOUBLE",
    "peak_bytes": "DOUBLE",
    "exclusive": "BOOLEAN",
    "features": "JSON",
    "n_args": "DOUBLE",
    "arg_bytes": "DOUBLE",
    "n_inputs": "DOUBLE",
    "input_bytes": "DOUBLE",
    "asked_bytes": "DOUBLE",
    "threads": "DOUBLE",
    "outcome": "VARCHAR",
    "error_type": "VARCHAR",
}
_WORKER_LINE: Final = {
    "event": "VARCHAR",
    "at": "DOUBLE",
    "tag": "VARCHAR",
    "threads": "DOUBLE",
    "startup_s": "DOUBLE",
}

_LATEST: Final = 1e11
_LONGEST_S: Final = 1e9
_LARGEST: Final = 2.0**60
_MOST: Final = 2.0**31


def _number(column: str, least: float, below: float, otherwise: str = "'nan'::DOUBLE") -> str:
    """Return SQL for a number that can be true; ``NaN`` is greater than every other to DuckDB."""
    return f"CASE WHEN {column} >= {least!r} AND {column} < {below!r} THEN {column} ELSE {otherwise} END"


# What was recorded before these columns were has them among its features, if at all.
_N_INPUTS: Final = "coalesce(n_inputs, TRY_CAST(TRY(features->>'input_files') AS DOUBLE))"
_INPUT_BYTES: Final = "coalesce(input_bytes, TRY_CAST(TRY(features->>'input_bytes') AS DOUBLE))"
# `simulate+400-3` is a worker of simulate's with 400M more than its component has.
_MORE_BYTES: Final = (
    "CASE WHEN contains(worker, '+') "
    "THEN coalesce(TRY_CAST(split_part(split_part(worker, '+', 2), '-', 1) AS DOUBLE), 0) * 1048576 ELSE 0 END"
)
_TEXT: Final = "CAST(features AS VARCHAR)"
_OUTCOME: Final = (
    "CASE WHEN outcome = 'completed' THEN 0 WHEN outcome = 'lost' THEN 3 "
    "WHEN error_type = 'TaskOutOfMemory' THEN 2 ELSE 1 END"
)
_WHOLE: Final = "key IS NOT NULL AND name IS NOT NULL AND outcome IN ('completed', 'failed', 'lost', 'cancelled')"

# By column: its type in the table, and how it is had from a line.
_COLUMNS: Final[Mapping[str, tuple[str, str]]] = {
    # A line that is not whole has no name.
    "name": ("VARCHAR", f"CASE WHEN {_WHOLE} THEN name END"),
    "component": ("VARCHAR", "coalesce(component, tag, '')"),
    "started_at": ("DOUBLE", _number("started_at", 1.0, _LATEST)),
    "ended_at": ("DOUBLE", _number("ended_at", 1.0, _LATEST)),
    "duration_s": ("DOUBLE", _number("duration_s", 0.0, _LONGEST_S)),
    "peak_bytes": ("DOUBLE", _number("peak_bytes", 1.0, _LARGEST)),
    "exclusive": ("BOOLEAN", "coalesce(exclusive, false)"),
    "cpu_s": ("DOUBLE", _number("cpu_s", 0.0, _LONGEST_S)),
    "threads": ("INTEGER", _number("threads", 1.0, _MOST, "1")),
    "n_args": ("INTEGER", _number("n_args", 0.0, _MOST, "0")),
    "arg_bytes": ("DOUBLE", _number("arg_bytes", 0.0, _LARGEST)),
    "n_inputs": ("INTEGER", _number(_N_INPUTS, 0.0, _MOST, "0")),
    "input_bytes": ("DOUBLE", _number(_INPUT_BYTES, 0.0, _LARGEST)),
    "asked_bytes": ("DOUBLE", f"({_number('asked_bytes', 1.0, _LARGEST)}) + {_MORE_BYTES}"),
    "outcome": ("TINYINT", _OUTCOME),
    # Empty text stands for no features: there is only one such object, however many rows.
    "features": ("VARCHAR", f"CASE WHEN starts_with({_TEXT}, '{{') AND {_TEXT} <> '{{}}' THEN {_TEXT} ELSE '' END"),
    # JSON of what is known of the run as a whole, in a row of its own.
    "head": ("VARCHAR", "NULL"),
}
_NAMES: Final = ", ".join(_COLUMNS)
# Of an attempt without time and memory nothing can be learned, but that it ran out of what its worker had.
_TELLING: Final = (
    f"coalesce(outcome, '') <> 'cancelled' AND NOT contains(c_name, '{INTERNAL}') AND NOT "
    "(isnan(c_duration_s) AND isnan(c_peak_bytes) AND (c_outcome <> 2 OR isnan(c_asked_bytes)))"
)


class AttemptTable:
    """The attempts of many runs, which go by numbers here.

    Files that cannot be read are told of, and none keeps others from being read.
    """

    def __init__(self, connection: duckdb.DuckDBPyConnection) -> None:
        self._connection = connection
        columns = ", ".join(f"{name} {kind}" for name, (kind, _) in _COLUMNS.items())
        connection.execute(f"CREATE TEMP TABLE attempts (run INTEGER, {columns})")
        connection.execute("CREATE TEMP TABLE places (run INTEGER, path VARCHAR)")

    def parse(self, files: Mapping[int, Path]) -> set[int]:
        """Add the lines of ``tasks.jsonl`` files, by run; return the runs whose file cannot be read."""
        return self._insert(files, _parsing)

    def load(self, files: Mapping[int, Path]) -> set[int]:
        """Add kept files, by run; return the runs whose file cannot be used."""
        return self._insert(files, _loading)

    def add_heads(self, heads: Mapping[int, str]) -> None:
        """Add what is known of runs as a whole."""
        if heads:
            self._connection.executemany("INSERT INTO attempts (run, head) VALUES (?, ?)", list(heads.items()))

    def heads(self) -> dict[int, str]:
        """Return what is known of each run as a whole."""
        return dict(self._rows("SELECT run, head FROM attempts WHERE head IS NOT NULL"))

    def torn(self) -> dict[int, int]:
        """Return by run how many lines were no whole records, if there were any; only for parsed runs."""
        return dict(self._rows("SELECT run, count(*) FROM attempts WHERE name IS NULL AND head IS NULL GROUP BY run"))

    def drop(self, runs: Iterable[int]) -> None:
        """Take runs out again."""
        numbers = ", ".join(str(run) for run in runs)
        if numbers:
            self._connection.execute(f"DELETE FROM attempts WHERE run IN ({numbers})")  # noqa: S608  (numbers)

    def store(self, run: int, path: Path) -> None:
        """Write a run to a file: the whole of it, or nothing.

        Raises
        ------
        OSError, duckdb.Error
            If it cannot be written.
        """
        draft = path.with_name(f".{secrets.token_hex(8)}.draft")
        wanted = f"SELECT {_NAMES} FROM attempts WHERE run = {run:d} AND (name IS NOT NULL OR head IS NOT NULL)"  # noqa: S608  (names of this module)
        try:
            self._connection.execute(f"COPY ({wanted}) TO {_quoted(draft)} (FORMAT parquet, COMPRESSION zstd)")
            draft.replace(path)
        finally:
            draft.unlink(missing_ok=True)

    def workers(self, files: Mapping[int, Path]) -> list[tuple[int, str, int | None, float | None]]:
        """Return, from ``workers.jsonl`` files, run, pool, threads of a worker and its median start in seconds."""
        self._connection.execute(
            "CREATE OR REPLACE TEMP TABLE came "
            '(run INTEGER, tag VARCHAR, "at" DOUBLE, threads DOUBLE, startup_s DOUBLE)'
        )
        self._each(files, lambda some: f"INSERT INTO came {_worker_lines(some)}")
        threads = _number("threads", 1.0, _MOST, "NULL")
        startup = _number("startup_s", 0.0, _LONGEST_S, "NULL")
        return self._rows(
            f'SELECT run, tag, CAST(arg_max({threads}, "at") AS INTEGER), median({startup}) FROM came '  # noqa: S608  (names of this module)
            "GROUP BY run, tag ORDER BY run, tag"
        )

    def task_names(self) -> list[str]:
        """Return the tasks' names, those with most attempts first."""
        self._number_texts("name")
        return [name for (name,) in self._rows("SELECT text FROM name_numbers ORDER BY number")]

    def component_names(self) -> list[str]:
        """Return the components' names."""
        self._number_texts("component")
        return [name for (name,) in self._rows("SELECT text FROM component_numbers ORDER BY number")]

    def fetch(self) -> dict[str, Any]:
        """Return the columns as numpy arrays; ``task`` and ``component`` count the names last returned."""
        own = ", ".join(f"a.{name}" for name in _COLUMNS if name not in {"name", "component", "head"})
        return dict(
            self._connection.execute(
                f"SELECT a.run, n.number AS task, c.number AS component, {own} FROM attempts a "  # noqa: S608  (names of this module)
                "JOIN name_numbers n ON a.name = n.text JOIN component_numbers c ON a.component = c.text"
            ).fetchnumpy()
        )

    def _number_texts(self, column: str) -> None:
        self._connection.execute(
            f"CREATE OR REPLACE TEMP TABLE {column}_numbers AS SELECT {column} AS text, "  # noqa: S608  (names of this module)
            f"CAST(row_number() OVER (ORDER BY count(*) DESC, {column}) - 1 AS INTEGER) AS number "
            f"FROM attempts WHERE name IS NOT NULL GROUP BY {column}"
        )

    def _rows(self, sql: str) -> list[Any]:
        return self._connection.execute(sql).fetchall()

    def _insert(self, files: Mapping[int, Path], query: Any) -> set[int]:
        return self._each(files, lambda some: f"INSERT INTO attempts {query(some)}")

    def _each(self, files: Mapping[int, Path], statement: Any) -> set[int]:
        """Run a statement for all files at once, or for each alone if there is one that cannot be read."""
        import duckdb  # noqa: PLC0415  (import cost)

        if not files:
            return set()
        try:
            self._run_for(files, statement)
        except (duckdb.ParserException, duckdb.CatalogException) as error:
            raise InternalError(f"a question to the runs' records is wrong: {error}") from error
        except duckdb.Error as error:
            if len(files) == 1:
                logger.debug("cannot read %s: %s", next(iter(files.values())), error)
                return set(files)
            return {run for run, path in files.items() if self._each({run: path}, statement)}
        return set()

    def _run_for(self, files: Mapping[int, Path], statement: Any) -> None:
        self._connection.execute("DELETE FROM places")
        places = [(run, str(path)) for run, path in files.items()]
        self._connection.executemany("INSERT INTO places VALUES (?, ?)", places)
        self._connection.execute(statement(list(files.values())))


class Shelf:
    """Where the runs of a folder are kept.

    A shelf that another user could have filled is left alone: what is wrong there would be
    wrong advice.

    Parameters
    ----------
    folder : Path
        The folder of the runs.
    """

    def __init__(self, folder: Path) -> None:
        self._runs = folder
        self._folder = folder / _FOLDER
        self._there: frozenset[str] = frozenset()
        with contextlib.suppress(OSError):
            if _is_ours(self._folder):
                self._there = frozenset(entry.name for entry in os.scandir(self._folder))

    def find(self, run_id: str, stamp: str) -> Path | None:
        """Return the file of a run as it is now, if there is one."""
        name = _name(run_id, stamp)
        return self._folder / name if name in self._there else None

    def put(self, table: AttemptTable, runs: Mapping[int, tuple[str, str]]) -> None:
        """Keep runs of a table, each given with its identifier and stamp, as far as that is possible."""
        import duckdb  # noqa: PLC0415  (import cost)

        if not runs:
            return
        try:
            # For us alone, whatever the umask: what others can write to is not read again.
            with contextlib.suppress(FileExistsError):
                self._folder.mkdir(mode=0o700)
            if not _is_ours(self._folder):
                logger.debug("what was read is not kept in %s: others can write to it", self._folder)
                return
            for number, (run_id, stamp) in runs.items():
                table.store(number, self._folder / _name(run_id, stamp))
        except (OSError, duckdb.Error) as error:
            logger.debug("what was read is not kept in %s: %s", self._folder, error)

    def tidy(self, stamps: Mapping[str, str]) -> None:
        """Remove what is of no use any more: of runs that have changed or are gone, and drafts that were left.

        Parameters
        ----------
        stamps : mapping of str to str
            The runs there are, with their stamps.
        """
        for name in self._there:
            with contextlib.suppress(OSError):
                if self._useless(name, stamps):
                    (self._folder / name).unlink(missing_ok=True)

    def remove(self, path: Path) -> None:
        """Remove a file that cannot be used."""
        with contextlib.suppress(OSError):
            path.unlink(missing_ok=True)

    def _useless(self, name: str, stamps: Mapping[str, str]) -> bool:
        if name.endswith(".draft"):
            # A younger one may be another process's, which writes it now.
            return time.time() - (self._folder / name).stat().st_mtime > _DRAFT_LIVES_S
        match = _NAME.fullmatch(name)
        if match is None:
            return False
        stamp = stamps.get(match["run"])
        if stamp is None:
            return not (self._runs / match["run"]).exists()
        # Those of another version of this package are that version's affair.
        return int(match["schema"]) == _SCHEMA and match["stamp"] != stamp


@contextlib.contextmanager
def open_attempts() -> Iterator[AttemptTable]:
    """Open an empty table, which lives in memory."""
    import duckdb  # noqa: PLC0415  (import cost)

    threads = min(os.cpu_count() or 1, _MOST_THREADS)
    with (
        tempfile.TemporaryDirectory(prefix="scalable-") as spill,
        duckdb.connect(config={"threads": threads, "temp_directory": spill}) as connection,
    ):
        yield AttemptTable(connection)


def _is_ours(folder: Path) -> bool:
    """Return whether it is a folder, no link, that nobody but this user can write to."""
    found = folder.lstat()
    # Windows has neither owners' numbers nor these modes; folders of users are closed to others there.
    if hasattr(os, "geteuid") and (found.st_uid != os.geteuid() or found.st_mode & (stat.S_IWGRP | stat.S_IWOTH)):
        return False
    return stat.S_ISDIR(found.st_mode)


def _name(run_id: str, stamp: str) -> str:
    return f"{run_id}-{_SCHEMA}-{stamp}.parquet"


def _quoted(path: Path) -> str:
    return "'" + str(path).replace("'", "''") + "'"


def _lines(paths: Iterable[Path], columns: Mapping[str, str]) -> str:
    """Return SQL for the lines of files; a line that is not whole is one of NULLs."""
    kinds = ", ".join(f"\"{name}\": '{kind}'" for name, kind in columns.items())
    return (
        f"read_json([{', '.join(map(_quoted, paths))}], format='newline_delimited', ignore_errors=true, "
        f"hive_partitioning=false, filename=true, columns={{{kinds}}})"
    )


def _parsing(paths: Iterable[Path]) -> str:
    cleaned = ", ".join(f"{sql} AS c_{name}" for name, (_, sql) in _COLUMNS.items())
    values = ", ".join(f"c_{name}" for name in _COLUMNS)
    # Torn lines stay, to be counted.
    return (
        f"SELECT run, {values} FROM (SELECT p.run, l.outcome, {cleaned} FROM {_lines(paths, _LINE)} l "  # noqa: S608  (names of this module, paths quoted)
        f"JOIN places p ON l.filename = p.path) WHERE c_name IS NULL OR ({_TELLING})"
    )


def _loading(paths: Iterable[Path]) -> str:
    names = ", ".join(f"f.{name}" for name in _COLUMNS)
    files = ", ".join(map(_quoted, paths))
    return (
        f"SELECT p.run, {names} FROM read_parquet([{files}], hive_partitioning=false, filename=true) f "  # noqa: S608  (names of this module, paths quoted)
        "JOIN places p ON f.filename = p.path"
    )


def _worker_lines(paths: Iterable[Path]) -> str:
    return (
        f'SELECT p.run, l.tag, coalesce(l."at", 0), l.threads, l.startup_s FROM {_lines(paths, _WORKER_LINE)} l '  # noqa: S608  (names of this module, paths quoted)
        "JOIN places p ON l.filename = p.path WHERE l.event = 'worker_added' AND l.tag IS NOT NULL"
    )
