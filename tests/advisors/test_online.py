"""Telling an advisor of a run while it is under way."""

from __future__ import annotations

import logging
import time

import pytest

from scalable.advisors import Observation, ResourceAdvisor
from scalable.advisors.online import Learner
from scalable.telemetry.past import Past


class Stumbling(ResourceAdvisor):
    """One that cannot learn from the first two attempts."""

    def __init__(self) -> None:
        super().__init__(Past())
        self.heard = 0

    def observe(self, attempt: Observation) -> None:
        self.heard += 1
        if self.heard < 3:
            raise ZeroDivisionError("by nothing")


def test_an_attempt_that_cannot_be_learned_from_is_told_of_once_and_does_not_end_the_learning(
    caplog: pytest.LogCaptureFixture,
) -> None:
    advisor = Stumbling()
    with caplog.at_level(logging.WARNING):
        learner = Learner(advisor, "local", "now")
        learner.take({"outcome": "completed"})  # no name, so that it is not even a record
        for _ in range(4):
            learner.take({"name": "simulate", "outcome": "completed"})
        deadline = time.monotonic() + 10
        while advisor.heard < 4 and time.monotonic() < deadline:
            time.sleep(0.01)
        learner.close()
    assert advisor.heard == 4
    (told,) = caplog.messages
    assert "KeyError" in told
