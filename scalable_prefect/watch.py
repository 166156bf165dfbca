"""Cancelling a flow run in Prefect's UI where nobody but the flow's own process can end it.

A flow that a Prefect worker or ``serve`` runs is ended by these. Of a script that somebody
started by hand they know nothing: its flow run is Cancelling until the script itself notices.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any, Final

from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.objects import FlowRun, State
from prefect.context import SettingsContext
from prefect.states import Cancelled

from scalable_prefect import compat
from scalable_prefect.link import Link
from scalable_prefect.reports import AnyLogger

__all__ = ["Watch", "conclude"]

_LOOK_S: Final = 5.0


class Watch:
    """Look now and then whether the flow run was cancelled.

    Parameters
    ----------
    link : Link
        To the API.
    flow_run : FlowRun
        The flow run.
    on_cancelled : callable
        Called once, in a thread of its own.
    """

    def __init__(self, link: Link, flow_run: FlowRun, on_cancelled: Callable[[], None]) -> None:
        self._link = link
        self._flow_run_id = flow_run.id
        self._on_cancelled = on_cancelled
        self._next = time.monotonic() + _LOOK_S
        # Of a flow inside another the supervisor of the process hears nothing.
        self._over = compat.supervised() and flow_run.parent_task_run_id is None

    def look(self) -> None:
        """Look, if it is time to."""
        if self._over or time.monotonic() < self._next:
            return
        state = self._link.ask(self._state)
        self._next = time.monotonic() + _LOOK_S
        if state is not None and (state.is_cancelling() or state.is_cancelled()):
            self._over = True
            # Ending everything also ends the thread that looks.
            threading.Thread(target=self._on_cancelled, name="scalable-prefect-cancel", daemon=True).start()

    def _state(self, client: SyncPrefectClient) -> State[Any] | None:
        return client.read_flow_run(self._flow_run_id).state


def conclude(flow_run: FlowRun, settings: SettingsContext, logger: AnyLogger) -> None:
    """Make a flow run Cancelled that was cancelled in the UI and has ended.

    While it is Cancelling, Prefect's server refuses whatever other state the flow's engine
    proposes in the end, but nobody proposes Cancelled. One that was set to Cancelled at once
    is Failed by then, because the flow ends with the exception of a cancelled task run.

    Parameters
    ----------
    flow_run : FlowRun
        As the engine has it; its state is set, so that the engine tells of the same.
    settings : SettingsContext
        With the API's address and credentials.
    logger : Logger or LoggerAdapter
        The flow run's.
    """
    if compat.supervised() and flow_run.parent_task_run_id is None:
        return
    state: State[Any] = Cancelled(message="Flow run was cancelled.")
    link = Link(settings, logger)
    answer = link.ask(lambda client: client.set_flow_run_state(flow_run.id, state, force=True))
    link.close()
    if answer is not None and answer.state is not None:
        flow_run.state = answer.state
        flow_run.state_name = answer.state.name
        flow_run.state_type = answer.state.type
