"""A run's JSON lines as SQL tables: DuckDB reads and counts, Python sees the answers."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeVar

from scalable.errors import InternalError, ScalableError

if TYPE_CHECKING:
    import duckdb

__all__ = ["Tables", "open_tables"]

# More threads gain nothing below some ten million lines, and a login node is shared.
_MOST_THREADS: Final = 4

# The first column of each file is one that every whole line has.
_COLUMNS: Final[Mapping[str, Mapping[str, str]]] = {
    "tasks": {
        "key": "VARCHAR",
        "name": "VARCHAR",
        "tag": "VARCHAR",
        "component": "VARCHAR",
        "worker": "VARCHAR",
        "attempt": "INTEGER",
        "queued_at": "DOUBLE",
        "started_at": "DOUBLE",
        "ended_at": "DOUBLE",
        "duration_s": "DOUBLE",
        "cpu_s": "DOUBLE",
        "peak_bytes": "BIGINT",
        "exclusive": "BOOLEAN",
        "features": "JSON",
        "n_args": "INTEGER",
        "arg_bytes": "BIGINT",
        "n_inputs": "INTEGER",
        "input_bytes": "BIGINT",
        "asked_bytes": "BIGINT",
        "threads": "INTEGER",
        "outcome": "VARCHAR",
        "error_type": "VARCHAR",
        "error": "VARCHAR",
    },
    "failures": {
        "key": "VARCHAR",
        "name": "VARCHAR",
        "attempt": "INTEGER",
        "at": "DOUBLE",
        "error_type": "VARCHAR",
        "error": "VARCHAR",
        "traceback": "VARCHAR",
    },
    "workers": {
        "event": "VARCHAR",
        "at": "DOUBLE",
        "worker": "VARCHAR",
        "address": "VARCHAR",
        "tag": "VARCHAR",
        "threads": "INTEGER",
        "memory_bytes": "BIGINT",
        "startup_s": "DOUBLE",
        "paid_from": "DOUBLE",
        "reason": "VARCHAR",
    },
    "scaling": {
        "event": "VARCHAR",
        "at": "DOUBLE",
        "tag": "VARCHAR",
        "from": "INTEGER",
        "to": "INTEGER",
        "direction": "VARCHAR",
        "reason": "VARCHAR",
        "policy": "VARCHAR",
    },
    "artifacts": {"name": "VARCHAR", "at": "DOUBLE", "path": "VARCHAR", "kind": "VARCHAR"},
    "cost": {
        "event": "VARCHAR",
        "at": "DOUBLE",
        "tag": "VARCHAR",
        "usd_per_s": "DOUBLE",
        "source": "VARCHAR",
        "workers": "INTEGER",
        "paid_s": "DOUBLE",
        "usd": "DOUBLE",
    },
}

_T = TypeVar("_T")


class Tables:
    """A run's records as SQL tables ``tasks``, ``failures``, ``workers``, ``scaling``, ``artifacts``, ``cost``.

    The columns are the fields of the files' lines, in the order of the lines. A file that was
    never written is an empty table, a line that was torn by a kill is left out, and what is
    not a number (``NaN``) is ``NULL``.
    """

    def __init__(self, connection: duckdb.DuckDBPyConnection) -> None:
        self._connection = connection

    def ask(self, sql: str, row: type[_T], **values: float | str) -> list[_T]:
        """Return the answer to a query, each line as an object built from the columns by their names.

        Parameters
        ----------
        sql : str
            One ``SELECT``; ``$name`` stands for a value.
        row : type
            What to build, as a frozen dataclass with a field for each column.
        **values : float or str
            The values.

        Raises
        ------
        ScalableError
            If a file cannot be read.
        """
        answer = self._run(sql, values)
        names = [column[0] for column in answer.description or ()]
        return [row(**dict(zip(names, line, strict=True))) for line in answer.fetchall()]

    def keep(self, name: str, sql: str, **values: float | str) -> None:
        """Store the answer to a query as a table of its own, for the queries that follow.

        Raises
        ------
        ScalableError
            If a file cannot be read.
        """
        self._run(f"CREATE TEMP TABLE {name} AS {sql}", values)

    def _run(self, sql: str, values: Mapping[str, float | str]) -> duckdb.DuckDBPyConnection:
        import duckdb  # noqa: PLC0415  (import cost)

        try:
            return self._connection.execute(sql, dict(values) or None)
        except duckdb.ProgrammingError as error:
            raise InternalError(f"a question to the run's records is wrong: {error}") from error
        except duckdb.Error as error:
            raise ScalableError(f"cannot read the run's records: {error}") from error


@contextlib.contextmanager
def open_tables(run_dir: Path) -> Iterator[Tables]:
    """Open the records in a run's directory for queries.

    Parameters
    ----------
    run_dir : Path
        The directory; the run may still be writing to it.

    Raises
    ------
    ScalableError
        If a file is there and cannot be read.
    """
    import duckdb  # noqa: PLC0415  (import cost)

    threads = min(os.cpu_count() or 1, _MOST_THREADS)
    with (
        tempfile.TemporaryDirectory(prefix="scalable-") as spill,
        duckdb.connect(config={"threads": threads, "temp_directory": spill}) as connection,
    ):
        for name, columns in _COLUMNS.items():
            source = run_dir.resolve() / f"{name}.jsonl"
            try:
                connection.execute(f"CREATE TEMP VIEW {name} AS {_select(source, columns)}")
            except duckdb.Error as error:
                raise ScalableError(f"cannot read {source}: {error}") from error
        yield Tables(connection)


def _select(source: Path, columns: Mapping[str, str]) -> str:
    """Return the query that reads one file, or stands for a file that is not there."""
    if not source.is_file():
        empty = ", ".join(f'NULL::{kind} AS "{name}"' for name, kind in columns.items())
        return f"SELECT {empty} WHERE false"
    wanted = ", ".join(
        f'CASE WHEN isfinite("{name}") THEN "{name}" END AS "{name}"' if kind == "DOUBLE" else f'"{name}"'
        for name, kind in columns.items()
    )
    kinds = ", ".join(f"\"{name}\": '{kind}'" for name, kind in columns.items())
    path = str(source).replace("'", "''")
    # A line that is not whole comes back as one of NULLs; folders called a=b would add a column.
    return (
        f"SELECT {wanted} FROM read_json('{path}', format='newline_delimited', ignore_errors=true, "  # noqa: S608  (names of this module)
        f'hive_partitioning=false, columns={{{kinds}}}) WHERE "{next(iter(columns))}" IS NOT NULL'
    )
