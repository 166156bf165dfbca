"""Prefect's API for what may as well not reach it: asked from one thread, and left alone when it does not answer."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from typing import Final, TypeVar

from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.context import SettingsContext
from prefect.settings import PREFECT_CLIENT_MAX_RETRIES

from scalable_prefect.reports import AnyLogger

__all__ = ["Link"]

_TIMEOUT_S: Final = 5.0
_SILENCE_S: Final = 60.0

T = TypeVar("T")


class Link:
    """Ask the API; after a failure say so once, and leave it alone for a minute.

    Parameters
    ----------
    settings : SettingsContext
        With the API's address and credentials.
    logger : Logger or LoggerAdapter
        Whom to tell that it does not answer.
    """

    def __init__(self, settings: SettingsContext, logger: AnyLogger) -> None:
        self._settings = settings
        self._logger = logger
        self._open = contextlib.ExitStack()
        self._client: SyncPrefectClient | None = None
        self._silent_until = 0.0
        self._told = False

    def ask(self, question: Callable[[SyncPrefectClient], T]) -> T | None:
        """Return the API's answer; ``None`` if there is none."""
        if time.monotonic() < self._silent_until:
            return None
        try:
            return question(self._connected())
        except Exception as error:  # noqa: BLE001  (an API can fail in any way, and the run goes on without it)
            self._silent_until = time.monotonic() + _SILENCE_S
            if not self._told:
                self._told = True
                self._logger.warning("Prefect's UI may not show all of what the pools do: %s", error)
            return None

    def close(self) -> None:
        """Disconnect."""
        self._client = None
        self._open.close()

    def _connected(self) -> SyncPrefectClient:
        if self._client is None:
            # A server that is busy is not to be asked again and again by what can wait.
            settings = self._settings.settings.copy_with_update(updates={PREFECT_CLIENT_MAX_RETRIES: 0})
            with SettingsContext(profile=self._settings.profile, settings=settings):
                client = get_client(sync_client=True, httpx_settings={"timeout": _TIMEOUT_S})
            self._client = self._open.enter_context(client)
        return self._client
