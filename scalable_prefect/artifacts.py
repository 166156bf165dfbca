"""What Prefect's UI shows of a run as artifacts: the plan, the decisions, how far the tasks are, the report."""

from __future__ import annotations

import json
import re
from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, Final, Literal
from uuid import UUID

from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.actions import ArtifactCreate, ArtifactUpdate

from scalable import Plan, TagProgress
from scalable.units import format_bytes, format_duration
from scalable_prefect.link import Link

__all__ = ["Board", "Decisions", "Page", "Progress", "by_pool", "plan_page", "progress_page"]

Kind = Literal["table", "progress", "markdown"]

_MOST_DECISIONS: Final = 200
_LONGEST: Final = 300
_TAKEN: Final = frozenset({"plan", "decisions", "report"})


@dataclass(frozen=True, slots=True)
class Page:
    """What an artifact says."""

    kind: Kind
    data: str | float
    description: str


class Board:
    """The artifacts of one flow run.

    Parameters
    ----------
    link : Link
        To the API.
    flow_run_id : UUID
        Whose they are.
    """

    def __init__(self, link: Link, flow_run_id: UUID) -> None:
        self._link = link
        self._flow_run_id = flow_run_id
        self._ids: dict[str, UUID] = {}
        self._shown: dict[str, Page] = {}
        self._slugs: dict[str, str] = {}

    def put(self, name: str, page: Page) -> None:
        """Show a page under ``scalable-<name>``, in place of the one before it; nothing if that is the same."""
        if self._shown.get(name) == page:
            return
        if self._link.ask(lambda client: self._put(client, name, page)):
            self._shown[name] = page

    def put_pool(self, pool: str, page: Page) -> None:
        """Show a page of a pool, under its name as far as keys of artifacts can have it."""
        self.put(self._slug(pool), page)

    def _put(self, client: SyncPrefectClient, name: str, page: Page) -> bool:
        known = self._ids.get(name)
        if known is not None:
            client.update_artifact(known, ArtifactUpdate(data=page.data, description=page.description))
            return True
        made = client.create_artifact(
            ArtifactCreate(
                key=f"scalable-{name}",
                type=page.kind,
                data=page.data,
                description=page.description,
                flow_run_id=self._flow_run_id,
            )
        )
        self._ids[name] = made.id
        return True

    def _slug(self, pool: str) -> str:
        if pool not in self._slugs:
            plain = re.sub(r"[^a-z0-9]+", "-", pool.lower()).strip("-") or "pool"
            taken = {*_TAKEN, *self._slugs.values()}
            slug, number = plain, 2
            while slug in taken:
                slug, number = f"{plain}-{number}", number + 1
            self._slugs[pool] = slug
        return self._slugs[pool]


def plan_page(plan: Plan) -> Page:
    """Return a table of what a plan asks for, with what it expects and why."""
    rows = []
    for pool in dict.fromkeys((*plan.scale_plan, *plan.counts, *plan.resources)):
        begun = plan.scale_plan.get(pool)
        given = plan.resources.get(pool) if begun is None else begun.resources
        row: dict[str, Any] = {
            "pool": pool,
            "workers at start": 0 if begun is None else begun.count,
            "at most": plan.counts.get(pool, plan.limits.maximum),
        }
        if given is not None:
            memory = "" if given.memory_bytes is None else format_bytes(given.memory_bytes)
            row |= {"cpus": given.cpus, "memory": memory, "gpus": given.gpus}
        rows.append(row)
    return Page("table", json.dumps(rows), "\n\n".join(_expected(plan)))


def _expected(plan: Plan) -> Iterable[str]:
    how = f"policy {plan.policy}" if plan.objective is None else f"objective {plan.objective}, policy {plan.policy}"
    yield f"What is asked for: {how}; at most {plan.limits.maximum} workers in all."
    if plan.time_s is not None:
        low, high = format_duration(plan.time_s.low), format_duration(plan.time_s.high)
        yield f"Expected time: {format_duration(plan.time_s.median)} ({low} to {high})."
    if plan.cost is not None:
        low, high = _amount(plan.cost.low, plan), _amount(plan.cost.high, plan)
        yield f"Expected cost: {_amount(plan.cost.median, plan)} ({low} to {high})."
    if plan.why:
        yield f"Why: {plan.why}"
    if plan.limited_by:
        yield f"Limited by: {plan.limited_by}"
    yield from plan.notes


def _amount(value: float, plan: Plan) -> str:
    return f"${value:,.2f}" if plan.cost_usd is not None else f"{value:.3g} {plan.unit}"


class Decisions:
    """The scaling decisions of a run, of which the newest are shown."""

    def __init__(self) -> None:
        self._count = 0
        self._rows: deque[dict[str, Any]] = deque(maxlen=_MOST_DECISIONS)

    def add(self, record: Mapping[str, Any]) -> None:
        """Take a record of ``scaling``."""
        self._count += 1
        self._rows.append(
            {
                "time": f"{datetime.fromtimestamp(record['at'], UTC):%Y-%m-%d %H:%M:%S}",
                "pool": record["tag"],
                "from": record["from"],
                "to": record["to"],
                "reason": str(record["reason"])[:_LONGEST],
                "policy": record["policy"],
            }
        )

    def page(self) -> Page | None:
        """Return a table of them, the newest first; ``None`` if there are none."""
        if not self._count:
            return None
        shown = "" if self._count == len(self._rows) else f", of which the newest {len(self._rows)} are here"
        what = "decision" if self._count == 1 else "decisions"
        return Page("table", json.dumps([*self._rows][::-1]), f"{self._count} scaling {what}{shown}. Times are UTC.")


@dataclass(frozen=True, slots=True)
class Progress:
    """How far the tasks of one pool are: numbers of tasks, of workers that are up, and what workers wait for."""

    waiting: int = 0
    running: int = 0
    done: int = 0
    failed: int = 0
    workers: int = 0
    blocked_by: str = ""

    @property
    def total(self) -> int:
        """All tasks that are known so far."""
        return self.waiting + self.running + self.done + self.failed

    def since(self, before: Progress) -> Progress:
        """Return it without the tasks that had ended before."""
        return replace(self, done=self.done - before.done, failed=self.failed - before.failed)


def by_pool(rows: Iterable[TagProgress], pools: Mapping[str, tuple[str, ...]]) -> dict[str, Progress]:
    """Return how far each pool is; a tag that several pools serve stands for itself.

    Parameters
    ----------
    rows : iterable of TagProgress
        By tag.
    pools : mapping of str to tuple of str
        By tag, the pools that serve it.
    """
    found: dict[str, Progress] = {}
    for row in rows:
        served = pools.get(row.tag, ())
        name = served[0] if len(served) == 1 else row.tag or "any"
        other = found.get(name, Progress())
        found[name] = Progress(
            waiting=other.waiting + row.blocked + row.queued,
            running=other.running + row.running,
            done=other.done + row.done,
            failed=other.failed + row.failed,
            workers=max(other.workers, row.workers),
            blocked_by=other.blocked_by or row.waiting,
        )
    return found


def progress_page(progress: Progress) -> Page:
    """Return how far a pool's tasks are."""
    ended = progress.done + progress.failed
    parts = [
        f"{ended} of {progress.total} tasks ended",
        *([f"{progress.failed} of them failed or were cancelled"] if progress.failed else []),
        f"{progress.running} running",
        f"{progress.waiting} waiting",
        f"{progress.workers} workers",
        *([f"not started yet: {progress.blocked_by}"] if progress.blocked_by else []),
    ]
    share = 100.0 * ended / progress.total if progress.total else 0.0
    return Page("progress", round(share, 1), ", ".join(parts))
