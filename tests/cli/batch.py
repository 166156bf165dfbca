"""Commands of batch systems that answer from a file, in the real format, and note how they were called."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

from scalable.providers.batch.queue import comment_of
from scalable.telemetry.owner import Owner

OLD = "run-20260520T100000Z-demeter-0a0a0a0a"
NEW = "run-20260521T100000Z-demeter-0b0b0b0b"

_SQUEUE = """\
#!/bin/sh
echo "squeue $*" >> {folder}/calls
if [ -e {folder}/down ]; then echo "slurm_load_jobs error: Unable to contact slurm controller" >&2; exit 1; fi
cat {folder}/queue
"""
_SCANCEL = """\
#!/bin/sh
echo "scancel $*" >> {folder}/calls
for id; do
  grep -q "^$id[|_]" {folder}/queue || {{ echo "scancel: error: Kill job error on job id $id: $why" >&2; bad=1; }}
  sed -i "/^$id[|_]/d" {folder}/queue
done
exit ${{bad:-0}}
"""


class FakeSlurm:
    """A folder to be put first on ``PATH``."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir()
        (folder / "queue").touch()
        (folder / "calls").touch()
        self.program("squeue", _SQUEUE)
        self.program("scancel", _SCANCEL.replace("$why", "Invalid job id specified"))

    def program(self, name: str, text: str) -> None:
        path = self.folder / name
        path.write_text(text.format(folder=self.folder))
        path.chmod(0o755)

    def job(
        self,
        job_id: str,
        run: str,
        owner: Owner,
        *,
        state: str = "RUNNING",
        end: str = "NONE",
        reason: str = "None",
        mark: str | None = None,
    ) -> None:
        node = "n1" if state != "PENDING" else ""
        comment = comment_of("simulate", owner) if mark is None else mark
        with (self.folder / "queue").open("a") as queue:
            queue.write(f"{job_id}|{state}|{node}|{end}|1795268093|{run}|{comment}|{reason}\n")

    def goes_down(self) -> None:
        (self.folder / "down").touch()

    @property
    def calls(self) -> list[str]:
        return (self.folder / "calls").read_text().splitlines()

    def called(self, name: str) -> list[str]:
        return [call for call in self.calls if call.split()[0] == name]


def dead() -> Owner:
    """Return a process that was here and is gone."""
    with subprocess.Popen([sys.executable, "-S", "-c", "import time; time.sleep(60)"]) as process:
        fields = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()
        process.kill()
    return Owner(socket.gethostname(), process.pid, int(fields[19]))


ELSEWHERE = Owner("login2.elsewhere", os.getpid(), 1)
