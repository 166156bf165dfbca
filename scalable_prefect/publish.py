"""What Prefect's UI shows of a flow run on Scalable, told by a thread of its own.

It only hears: the run puts what it records into a bounded queue, and whether the API answers
is nothing to it.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from prefect.client.schemas.objects import FlowRun
from prefect.context import SettingsContext

from scalable import Plan, ScalableSession, run_report
from scalable.errors import ScalableError
from scalable_prefect.artifacts import Board, Decisions, Page, Progress, by_pool, plan_page, progress_page
from scalable_prefect.events import Events, Heard, kind_of
from scalable_prefect.lines import Lines
from scalable_prefect.link import Link
from scalable_prefect.reports import AnyLogger
from scalable_prefect.routing import Signposts
from scalable_prefect.watch import Watch

__all__ = ["Publisher", "Story"]

_TICK_S: Final = 1.0
_PROGRESS_S: Final = 3.0
_DECISIONS_S: Final = 15.0
_FAREWELL_S: Final = 5.0
_MOST_HEARD: Final = 50_000


@dataclass(frozen=True, slots=True)
class Story:
    """Whose run it is, and whom to tell of it.

    Attributes
    ----------
    flow_run : FlowRun or None
        ``None`` outside of flows, where there is nothing to show.
    settings : SettingsContext
        With the API's address and credentials.
    logger : Logger or LoggerAdapter
        The flow run's.
    on_cancelled : callable
        Called, in a thread of its own, when somebody cancelled the flow run and nobody but
        this process can end it.
    """

    flow_run: FlowRun | None
    settings: SettingsContext
    logger: AnyLogger
    on_cancelled: Callable[[], None]


class Publisher:
    """Tell of a session while a flow run uses it.

    Parameters
    ----------
    session : ScalableSession
        Started or not.
    story : Story
        With a flow run.
    report : bool
        Whether the run ends with the flow run, so that there is a report in the end.
    """

    def __init__(self, session: ScalableSession, story: Story, *, report: bool) -> None:
        assert story.flow_run is not None
        self._session = session
        self._story = story
        self._report = report
        self._link = Link(story.settings, story.logger)
        self._board = Board(self._link, story.flow_run.id)
        self._flow_run = story.flow_run
        self._events: Events
        self._lines = Lines(story.logger)
        self._watch = Watch(self._link, story.flow_run, story.on_cancelled)
        self._decisions = Decisions()
        self._pools = Signposts.of(session).pools
        self._before = by_pool(session.progress(), self._pools)
        self._at_the_end: dict[str, Progress] | None = None
        self._plan: Plan | None = None
        self._due: dict[str, float] = {}
        self._heard: deque[Heard] = deque(maxlen=_MOST_HEARD)
        self._ended = threading.Event()
        self._stop_listening = session.listen(self._hear)
        self._thread = threading.Thread(target=self._run, name="scalable-prefect-publish", daemon=True)
        self._thread.start()

    def started(self) -> None:
        """Say that the session has started, and with which plan."""
        self._plan = self._session.current_plan

    def settle(self) -> None:
        """Take the last look at how far the tasks are: to be called before the session is closed."""
        self._at_the_end = self._progress()

    def close(self) -> None:
        """Publish what is left, and the report; waits for that, but not for long."""
        self._stop_listening()
        self._ended.set()
        self._thread.join(_FAREWELL_S)
        if self._thread.is_alive():
            self._story.logger.warning("The flow run ends before Prefect's UI was told all of its run")

    def _hear(self, file: str, record: Mapping[str, Any]) -> None:
        kind = kind_of(file, record)
        if kind is not None:
            self._heard.append(Heard(kind, record))

    def _run(self) -> None:
        settings = self._story.settings
        with SettingsContext(profile=settings.profile, settings=settings.settings):
            self._events = self._make_events()
            while not self._ended.wait(_TICK_S):
                self._tick()
                self._watch.look()
            self._tick(last=True)
            if self._report and self._session.current_plan is not None:
                self._show_report()
        self._link.close()

    def _make_events(self) -> Events:
        spec, flow_id = self._session.spec, self._flow_run.flow_id
        labels = {"scalable.target": spec.target, "scalable.provider": spec.provider}
        return Events(self._flow_run, labels, self._link.ask(lambda client: client.read_flow(flow_id).name))

    def _tick(self, *, last: bool = False) -> None:
        if not self._session.run_id:
            return
        plan, self._plan = self._plan, None
        if plan is not None:
            self._lines.plan(plan, self._session.run_id, self._session.spec.target)
            self._board.put("plan", plan_page(plan))
        heard = [self._heard.popleft() for _ in range(len(self._heard))]
        self._lines.heard(heard)
        self._events.emit(self._session.run_id, heard)
        self._show_decisions(heard, last=last)
        self._show_progress(last=last)

    def _show_decisions(self, heard: Iterable[Heard], *, last: bool) -> None:
        for one in heard:
            if one.kind == "scalable.scale-decision":
                self._decisions.add(one.record)
        page = self._decisions.page()
        if page is not None and (last or self._is_due("decisions", _DECISIONS_S)):
            self._board.put("decisions", page)

    def _show_progress(self, *, last: bool) -> None:
        progress = self._progress()
        self._lines.blocked(progress)
        if last or self._is_due("progress", _PROGRESS_S):
            for pool, one in progress.items():
                if one.total:
                    self._board.put_pool(pool, progress_page(one))

    def _progress(self) -> dict[str, Progress]:
        if self._at_the_end is not None:
            return self._at_the_end
        now = by_pool(self._session.progress(), self._pools)
        return {pool: one.since(self._before.get(pool, Progress())) for pool, one in now.items()}

    def _is_due(self, what: str, every_s: float) -> bool:
        now = time.monotonic()
        if now < self._due.get(what, 0.0):
            return False
        self._due[what] = now + every_s
        return True

    def _show_report(self) -> None:
        run_dir = self._session.run_dir
        if run_dir is None:
            return
        try:
            text = run_report(run_dir).to_markdown()
        except ScalableError as error:
            self._story.logger.warning("There is no report of the run: %s", error)
            return
        self._board.put("report", Page("markdown", text, f"What happened in run {self._session.run_id}"))
