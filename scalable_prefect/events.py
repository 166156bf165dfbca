"""What happens to the pools as events of Prefect's, which automations can act on.

====================================  ==================================================
event                                 payload, besides ``pool`` and ``count``
====================================  ==================================================
``scalable.scale-decision``           ``from``, ``to``, ``reason``, ``policy``
``scalable.worker-added``             ``worker``, ``startup_s``, ``memory_bytes``
``scalable.worker-removed``           ``worker``, ``reason``
``scalable.task-oom``                 ``task``, ``task_run_id``, ``asked_bytes``, ``peak_bytes``
====================================  ==================================================

The resource is ``scalable.pool.<run id>.<pool>``; the flow run is related, in the role
``flow-run``, and so are its flow and deployment, and of ``scalable.task-oom`` the task run.

More than ten of one kind and pool within a second are one event: ``count`` says of how many,
what differs is a list of the first ten, and a scale decision goes from the first one's
``from`` to the last one's ``to``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final
from uuid import UUID

from prefect.client.schemas.objects import FlowRun
from prefect.events import emit_event

__all__ = ["OOM", "Events", "Heard", "kind_of"]

OOM: Final = "TaskOutOfMemory"
"""What ``error_type`` says of a task that ran out of memory."""

_SINGLE: Final = 10
_LONGEST: Final = 2_000
_RUN_ID: Final = re.compile(r"-([0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12})$")


@dataclass(frozen=True, slots=True)
class Heard:
    """Something that a run has recorded.

    Attributes
    ----------
    kind : str
        Name of the event.
    record : mapping
        As in the run's files.
    """

    kind: str
    record: Mapping[str, Any]

    @property
    def pool(self) -> str:
        """The pool that it is about."""
        if self.kind == "scalable.task-oom":
            return str(self.record["component"] or self.record["tag"])
        return str(self.record["tag"])


def kind_of(file: str, record: Mapping[str, Any]) -> str | None:
    """Return the name of the event that a record is; ``None`` if it is none."""
    if file == "tasks":
        return "scalable.task-oom" if record["error_type"] == OOM else None
    if file == "workers":
        return "scalable." + str(record["event"]).replace("_", "-")
    if file == "scaling" and record["event"] == "scale_decision":
        return "scalable.scale-decision"
    return None


class Events:
    """Emit events about the pools of one run.

    Parameters
    ----------
    flow_run : FlowRun
        Whose run it is.
    target : mapping of str to str
        What is said of the target: labels of each resource.
    flow : str, optional
        Name of the flow, if it is known.
    """

    def __init__(self, flow_run: FlowRun, target: Mapping[str, str], flow: str | None = None) -> None:
        self._target = target
        self._related = [_related("flow-run", flow_run.id, flow_run.name), _related("flow", flow_run.flow_id, flow)]
        if flow_run.deployment_id is not None:
            self._related.append(_related("deployment", flow_run.deployment_id))

    def emit(self, run_id: str, heard: Iterable[Heard]) -> None:
        """Emit what was heard within about a second.

        Parameters
        ----------
        run_id : str
            Of the run.
        heard : iterable of Heard
            In their order.
        """
        alike: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
        for one in heard:
            alike.setdefault((one.kind, one.pool), []).append(one.record)
        for (kind, pool), records in alike.items():
            groups = [records] if len(records) > _SINGLE else [[record] for record in records]
            for group in groups:
                self._emit(kind, run_id, pool, group)

    def _emit(self, kind: str, run_id: str, pool: str, records: list[Mapping[str, Any]]) -> None:
        said = [_said(kind, record) for record in records[:_SINGLE]]
        payload = said[0]
        if kind == "scalable.scale-decision":
            payload = {**_said(kind, records[-1]), "from": payload["from"]}
        elif len(records) > 1:
            payload = {name: [one[name] for one in said] for name in payload}
        related = self._related
        if len(records) == 1 and payload.get("task_run_id") is not None:
            related = [*related, _related("task-run", payload["task_run_id"], payload["task"])]
        emit_event(
            kind,
            resource={
                "prefect.resource.id": f"scalable.pool.{run_id}.{pool}",
                "prefect.resource.name": pool,
                "scalable.run-id": run_id,
                **self._target,
            },
            occurred=datetime.fromtimestamp(records[-1].get("at") or records[-1]["ended_at"], UTC),
            related=related,
            payload={"pool": pool, "count": len(records), **payload},
        )


def _said(kind: str, record: Mapping[str, Any]) -> dict[str, Any]:
    """Return what an event says of one record."""
    if kind == "scalable.task-oom":
        found = _RUN_ID.search(record["key"])
        sizes = {name: record[name] for name in ("asked_bytes", "peak_bytes")}
        return {"task": record["name"], "task_run_id": found[1] if found else None, **sizes}
    if kind == "scalable.worker-added":
        return {name: record.get(name) for name in ("worker", "startup_s", "memory_bytes")}
    if kind == "scalable.worker-removed":
        return {name: record.get(name) for name in ("worker", "reason")}
    said = {name: record[name] for name in ("from", "to", "policy")}
    return {**said, "reason": str(record["reason"])[:_LONGEST]}


def _related(role: str, of: UUID | str, name: str | None = None) -> dict[str, str]:
    named = {} if name is None else {"prefect.resource.name": name}
    return {"prefect.resource.id": f"prefect.{role}.{of}", "prefect.resource.role": role, **named}
