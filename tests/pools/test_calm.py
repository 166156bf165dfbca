"""What of Dask's own words is kept out of the log, and what is not."""

from __future__ import annotations

import logging

import pytest
from distributed.client import AllExit

from scalable.pools.cluster import _calm


def test_gathering_that_was_interrupted_leaves_no_traceback_and_other_errors_do(
    caplog: pytest.LogCaptureFixture,
) -> None:
    logger = logging.getLogger("asyncio")
    with _calm():
        for error in (AllExit(), ValueError("real")):
            logger.error("never retrieved", exc_info=error)
    assert [record.exc_info[0] for record in caplog.records if record.exc_info] == [ValueError]
