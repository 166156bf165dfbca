"""End a run's jobs if the process that submitted them dies without a word.

Run as a script of its own, from the standard library only: ``python -I watchdog.py``. Its
standard input is a pipe from that process: first a line of JSON with what to do, then the
ids of jobs, a line each, and ``done`` when there is nothing left to end, or ``end`` when
that process leaves it to this one.
"""

import contextlib
import json
import os
import select
import shutil
import signal
import subprocess
import sys
import time

_LOOK_S = 1.0
_AGAIN_AFTER_S = (0.0, 5.0, 15.0, 30.0)
"""A submission may have been under way when the process died, so once is not enough."""

_AT_A_TIME = 500


def _last_word(parent: int) -> tuple[dict[str, object], list[str], bool]:
    """Read until the process is gone or says its last word; return orders, ids and whether all is done."""
    text = b""
    while True:
        readable, _, _ = select.select([0], [], [], _LOOK_S)
        if readable:
            piece = os.read(0, 65536)
            if not piece:
                break
            text += piece
            if text.endswith((b"\ndone\n", b"\nend\n")):
                break
        # Somebody who inherited the pipe may keep it open.
        elif os.getppid() != parent:
            break
    first, *lines = text.decode(errors="replace").split("\n") if text else ["{}"]
    return json.loads(first), [line for line in lines if line not in {"", "done", "end"}], "done" in lines


def _cancel(orders: dict[str, object], ids: list[str]) -> None:
    command = [str(word) for word in orders.get("cancel", ())]  # type: ignore[attr-defined]
    for start in range(0, len(ids), _AT_A_TIME):
        _run([*command, *ids[start : start + _AT_A_TIME]])
    if orders.get("cancel_all"):
        _run([str(word) for word in orders["cancel_all"]])  # type: ignore[attr-defined]


def _run(command: list[str]) -> None:
    # What people set for their own use, such as SCANCEL_STATE, would spare jobs.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("SCANCEL_")}
    quiet = subprocess.DEVNULL
    # A failure tells nobody: there is nobody left, and the next time may fare better.
    with contextlib.suppress(OSError, subprocess.TimeoutExpired):
        subprocess.run(command, env=environment, check=False, stdout=quiet, stderr=quiet, timeout=60)  # noqa: S603


def main() -> None:
    """Wait, and clean up if need be."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    orders, ids, done = _last_word(int(sys.argv[1]))
    if done:
        return
    began = time.monotonic()
    for after in _AGAIN_AFTER_S:
        time.sleep(max(0.0, began + after - time.monotonic()))
        _cancel(orders, ids)
    if orders.get("directory"):
        shutil.rmtree(str(orders["directory"]), ignore_errors=True)


if __name__ == "__main__":
    main()
