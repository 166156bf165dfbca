"""The questions that a report asks of a run's records, as SQL."""

from __future__ import annotations

from typing import Final

__all__ = [
    "ATTEMPTS",
    "BUSY",
    "BY_NAME",
    "COMINGS",
    "FAILURES",
    "LAST_RECORD",
    "NAMES",
    "PEAKS",
    "POOLS",
    "SCALING",
    "SPANS",
    "TOTALS",
]

# A key that starts again at attempt 1 is another task, submitted under the same key.
ATTEMPTS: Final = """
SELECT *, coalesce(lead(attempt) OVER (PARTITION BY key ORDER BY line), 1) = 1 AS is_last
FROM (
    SELECT row_number() OVER () AS line, key, coalesce(name, key) AS name, component,
           coalesce(attempt, 1) AS attempt, queued_at, started_at, ended_at, duration_s, cpu_s, peak_bytes,
           coalesce(exclusive, false) AS exclusive, asked_bytes, coalesce(threads, 1) AS threads,
           outcome, error_type, left(error, 1000) AS error
    FROM tasks
)
"""
"""Table ``attempts``: the lines of ``tasks``, each told whether it is its task's last."""

_COUNTS = """
       count(*) FILTER (is_last AND outcome = 'completed') AS completed,
       count(*) FILTER (is_last AND outcome = 'failed') AS failed,
       count(*) FILTER (is_last AND outcome = 'cancelled') AS cancelled,
       count(*) FILTER (is_last AND outcome = 'lost') AS lost,
       count(*) FILTER (is_last AND attempt > 1) AS retried,
       count(*) AS attempts
"""

TOTALS: Final = f"SELECT {_COUNTS} FROM attempts"  # noqa: S608  (constants of this module)

NAMES: Final = "SELECT count(DISTINCT name) AS names FROM attempts"

BY_NAME: Final = f"""
SELECT name, {_COUNTS},
       quantile_cont(duration_s, 0.5) FILTER (outcome = 'completed') AS median_s,
       quantile_cont(duration_s, 0.95) FILTER (outcome = 'completed') AS p95_s,
       sum(cpu_s) AS cpu_s,
       CAST(quantile_cont(peak_bytes, 0.95) AS BIGINT) AS peak_p95_bytes,
       max(peak_bytes) AS peak_max_bytes,
       max(asked_bytes) AS asked_bytes,
       coalesce(bool_or(NOT exclusive) FILTER (peak_bytes IS NOT NULL), false) AS peak_shared
FROM attempts GROUP BY name ORDER BY min(queued_at), name LIMIT $most
"""  # noqa: S608  (constants of this module)

FAILURES: Final = """
SELECT name, coalesce(error_type, 'unknown') AS error_type, count(*) AS tasks,
       arg_min(key, line) AS key, coalesce(arg_min(error, line), '') AS error
FROM attempts WHERE is_last AND outcome = 'failed'
GROUP BY ALL ORDER BY tasks DESC, min(line) LIMIT $most
"""

LAST_RECORD: Final = """
SELECT max("at") AS "at" FROM (
    SELECT max(ended_at) AS "at" FROM attempts
    UNION ALL SELECT max("at") FROM workers
    UNION ALL SELECT max("at") FROM scaling
)
"""

# A worker that comes back under its name without having been seen to leave did leave.
SPANS: Final = """
SELECT tag, threads, memory_bytes, "at" AS came, went IS NOT NULL AS gone,
       went IS NOT NULL AND NOT (next = 'worker_removed' AND coalesce(why, '') = 'closed') AS removed,
       greatest("at", least(coalesce(went, $until), $until)) AS until
FROM (
    SELECT event, "at", coalesce(tag, regexp_replace(worker, '-[^-]*$', '')) AS tag,
           coalesce(threads, 1) AS threads, memory_bytes,
           lead("at") OVER one AS went, lead(event) OVER one AS next, lead(reason) OVER one AS why
    FROM (SELECT row_number() OVER () AS line, * FROM workers WHERE "at" IS NOT NULL AND worker IS NOT NULL)
    WINDOW one AS (PARTITION BY worker ORDER BY line)
)
WHERE event = 'worker_added'
"""
"""Table ``spans``: each worker's time, from when it came until it went."""

POOLS: Final = """
SELECT tag, count(*) AS started, count(*) FILTER (removed) AS removed,
       max(threads) AS threads, max(memory_bytes) AS memory_bytes,
       sum(until - came) AS worker_s, sum((until - came) * threads) AS slot_s
FROM spans GROUP BY tag ORDER BY min(came), tag
"""

PEAKS: Final = """
WITH steps AS (
    SELECT tag, came AS "at", 1 AS change FROM spans
    UNION ALL SELECT tag, until, -1 FROM spans WHERE gone
)
SELECT tag, max(workers) AS peak FROM (
    SELECT tag, sum(change) OVER (PARTITION BY tag ORDER BY "at", change ROWS UNBOUNDED PRECEDING) AS workers FROM steps
    UNION ALL SELECT NULL, sum(change) OVER (ORDER BY "at", change ROWS UNBOUNDED PRECEDING) FROM steps
)
GROUP BY tag
"""
"""The most workers at a time; a ``tag`` of ``NULL`` stands for all pools together."""

BUSY: Final = """
SELECT component AS tag, sum(duration_s * threads) AS busy_s FROM attempts
WHERE duration_s IS NOT NULL GROUP BY component
"""

SCALING: Final = """
SELECT count(*) FILTER (direction = 'up') AS up, count(*) FILTER (direction = 'down') AS down
FROM scaling WHERE event = 'scale_decision'
"""

COMINGS: Final = """
SELECT event, "at", worker, tag, startup_s, paid_from
FROM (SELECT row_number() OVER () AS line, * FROM workers WHERE "at" IS NOT NULL AND worker IS NOT NULL)
ORDER BY line
"""
"""Workers that came and went, in the order in which that was written down."""
