"""A report for programs."""

from __future__ import annotations

import json
from dataclasses import asdict

from scalable.report.model import Report

__all__ = ["render_json"]


def render_json(report: Report) -> str:
    """Return a report as JSON, with keys that stay; later releases only add some.

    Times are unix seconds, durations (``..._s``) seconds, sizes (``..._bytes``) bytes,
    shares 0 to 1; what is not known is ``null``.

    - ``schema``: 1.
    - ``run``: ``run_id``, ``path``, ``project``, ``target``, ``provider``, ``overlay``,
      ``status``, ``started_at``, ``ended_at``, ``duration_s``, ``host``, ``pid``,
      ``scalable_version``, ``manifest_path``, ``fingerprint``, ``objectives``.
    - ``tasks``: ``completed``, ``failed``, ``cancelled``, ``lost``, ``retried``,
      ``attempts``, ``names``, and ``by_name``, a list whose entries hold the fields of
      :class:`~scalable.report.TaskUse`.
    - ``workers``: ``peak``, ``average``, and ``pools``, a list whose entries hold the
      fields of :class:`~scalable.report.PoolUse` and ``final``.
    - ``scaling``: ``up``, ``down``.
    - ``efficiency``, ``cost_usd``.
    - ``cost``: the fields of :class:`~scalable.report.CostUse`; ``null`` if nothing is known of it.
    - ``failures``: a list whose entries hold the fields of
      :class:`~scalable.report.FailureGroup`.
    """
    facts = asdict(report.run)
    named = {
        name: facts[name] for name in ("host", "pid", "scalable_version", "manifest_path", "fingerprint", "objectives")
    }
    content = {
        "schema": 1,
        "run": {
            "run_id": report.run.run_id,
            "path": report.path,
            "project": report.run.project,
            "target": report.run.target,
            "provider": report.run.provider,
            "overlay": report.run.overlay,
            "status": report.status,
            "started_at": report.run.started_at,
            "ended_at": report.ended_at,
            "duration_s": report.duration_s,
            **named,
        },
        "tasks": {
            **asdict(report.tasks),
            "names": report.task_names,
            "by_name": [asdict(use) for use in report.by_name],
        },
        "workers": {
            "peak": report.workers.peak,
            "average": report.workers.average,
            "pools": [{**asdict(pool), "final": pool.final} for pool in report.workers.pools],
        },
        "scaling": asdict(report.scaling),
        "efficiency": report.efficiency,
        "cost_usd": report.cost_usd,
        "cost": None if report.cost is None else asdict(report.cost),
        "failures": [asdict(group) for group in report.failures],
    }
    return json.dumps(content, indent=1) + "\n"
