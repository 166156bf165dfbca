from __future__ import annotations

import os

import pytest

from scalable.errors import ProviderError, ProviderUnavailable
from scalable.providers.batch import command
from scalable.providers.batch.command import call


def test_what_a_program_prints_is_returned() -> None:
    answer = call(["sh", "-c", "echo $WORD; echo oops >&2; exit 3"], {**os.environ, "WORD": "yes"})
    assert (answer.code, answer.out, answer.err) == (3, "yes\n", "oops\n")


def test_a_failure_is_told_in_the_words_of_the_program() -> None:
    failure = call(["sh", "-c", "echo no such queue >&2; exit 3"]).failure()
    assert str(failure) == "`sh -c 'echo no such queue >&2; exit 3'` exited with 3: no such queue"
    assert str(call(["false"]).failure()) == "`false` exited with 1: it said nothing"


def test_a_program_that_is_not_there_or_cannot_be_run_is_named() -> None:
    with pytest.raises(ProviderUnavailable, match="there is no `bqueues-or-so` on this machine's PATH"):
        call(["bqueues-or-so"])
    with pytest.raises(ProviderUnavailable, match="cannot run `/`: Permission denied"):
        call(["/"])


def test_a_program_that_hangs_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command, "_PATIENCE_S", 0.1)
    with pytest.raises(ProviderError, match="`sleep 60` did not end within"):
        call(["sleep", "60"])


def test_a_command_with_thousands_of_ids_is_shown_in_part() -> None:
    assert len(call(["true", *map(str, range(2000))]).command) <= 300
