"""One worker of a pool: what holds for it whoever starts it."""

from __future__ import annotations

import asyncio
from collections.abc import Generator
from typing import Any

from scalable.pools.pool import Member


class Process:
    """Closes as Dask's workers and nannies do: who closes it again waits until the first has ended."""

    def __init__(self) -> None:
        self.closed = asyncio.Event()
        self._begun = False

    def __await__(self) -> Generator[Any, Any, Any]:
        yield

    async def close(self) -> None:
        if not self._begun:
            self._begun = True
            await asyncio.sleep(0.05)
            self.closed.set()
        await self.closed.wait()


def test_a_worker_that_is_being_closed_is_closed_though_who_began_it_was_cancelled() -> None:
    async def end() -> bool:
        member = Member("simulate-0")
        member.process = process = Process()  # type: ignore[assignment]
        first = asyncio.ensure_future(member.close())
        await asyncio.sleep(0)
        first.cancel()
        await asyncio.wait_for(member.close(), 5)
        return process.closed.is_set() and first.cancelled()

    assert asyncio.run(end())
