"""What a worker runs, readable after it is dead."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from scalable.telemetry.board import Board, Reader, written


def test_what_began_and_did_not_end_is_read() -> None:
    reader = Reader()
    board = Board(reader.path)
    first, second = board.enter("simulate-1"), board.enter(("chunk", 2))
    board.leave(first)
    assert reader.take() == [written(("chunk", 2))]
    # Taken once: the next worker begins with an empty board.
    assert reader.take() == []
    board.leave(second)
    reader.close()


def test_it_outlives_the_process_that_wrote_it() -> None:
    reader = Reader()
    script = """
import sys, time
from scalable.telemetry.board import Board
Board(sys.argv[1]).enter("last words")
print("up", flush=True)
time.sleep(60)
"""
    process = subprocess.Popen([sys.executable, "-c", script, reader.path], stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.readline() == b"up\n"
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()
    assert reader.take() == ["last words"]
    reader.close()


def test_it_is_no_file_and_costs_nothing_when_it_is_full() -> None:
    reader = Reader()
    board = Board(reader.path)
    slots = [board.enter(f"task-{number}") for number in range(200)]
    assert slots.count(-1) == 72
    for slot in slots:
        board.leave(slot)
    assert reader.take() == []
    assert not Path(str(Path(reader.path).readlink()).split(" ")[0]).exists()
    reader.close()


def test_a_key_longer_than_its_place_is_still_known() -> None:
    reader = Reader()
    board = Board(reader.path)
    key = "long-" + "ü" * 600
    board.enter(key)
    assert reader.take() == [written(key)]
    reader.close()


def test_who_has_no_board_is_told_so() -> None:
    with pytest.raises(OSError, match="No such file"):
        Board(f"/proc/{os.getpid()}/fd/{int(time.time())}")
