"""What telemetry keeps of a task's arguments: what tells of its input, and no secret."""

from __future__ import annotations

import math

from scalable_prefect.payload import features_of


def test_numbers_truth_values_and_plain_words_tell_of_the_input() -> None:
    given = {"tilt": 30, "share": 0.5, "fast": True, "site": "north-2 (old)", "path": "data/a.csv"}
    assert features_of(given) == given


def test_large_strange_and_secret_ones_are_left_out() -> None:
    secret = {"pwd": "x", "auth": "x", "api_key": "x", "token": 1, "dsn": "x", "cookie": "x"}
    addresses = {"url": "postgres://me:hunter2@db", "header": "Bearer: abc", "line": "user=me"}
    other = {"text": "x" * 65, "nothing": None, "list": [1], "inf": math.inf}
    assert features_of({**secret, **addresses, **other}) == {}
