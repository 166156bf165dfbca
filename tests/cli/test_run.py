from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from scalable.cli import main

Write = Callable[..., Path]


def test_a_workflow_finds_session_and_client_and_its_arguments(
    manifest: Write, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "helper.py").write_text("def triple(x): return 3 * x\n")
    workflow = tmp_path / "workflow.py"
    workflow.write_text(
        "import sys\nfrom helper import triple\n"
        "def double(x): return 2 * x\n"
        "assert __name__ == '__main__'\n"
        "results = client.gather([client.submit(double, 4), client.submit(triple, 4)])\n"
        "print(sys.argv[1:], results, session.spec.target)\n"
    )
    code = main(["run", str(manifest()), "--target", "threads", "--workflow", str(workflow), "a", "b"])
    assert code == 0
    assert capsys.readouterr().out == "['a', 'b'] [8, 12] threads\n"


def _summary(tmp_path: Path) -> dict[str, object]:
    (run,) = (tmp_path / "runs").iterdir()
    found: dict[str, object] = json.loads((run / "summary.json").read_text())
    return found


def test_a_workflow_that_raises_fails_the_command_and_the_run(
    manifest: Write, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    workflow = tmp_path / "workflow.py"
    workflow.write_text("raise ValueError('out of water')\n")
    assert main(["run", str(manifest()), "--target", "threads", "--workflow", str(workflow)]) == 1
    assert "ValueError: out of water" in capsys.readouterr().err
    assert _summary(tmp_path)["status"] == "failed"


def test_the_exit_code_of_a_workflow_is_that_of_the_command(manifest: Write, tmp_path: Path) -> None:
    workflow = tmp_path / "workflow.py"
    workflow.write_text("import sys; sys.exit(7)\n")
    with pytest.raises(SystemExit) as exit_:
        main(["run", str(manifest()), "--target", "threads", "--workflow", str(workflow)])
    assert exit_.value.code == 7
    assert _summary(tmp_path)["status"] == "failed"


def test_errors_have_the_exit_code_of_their_branch(
    manifest: Write, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    workflow = tmp_path / "workflow.py"
    workflow.write_text("client.submit(print, tag='nowhere')\n")
    run = ["run", str(manifest()), "--target", "threads", "--workflow"]
    assert main([*run, str(workflow)]) == 5
    assert "no pool of this target offers tag 'nowhere'" in capsys.readouterr().err
    assert main([*run, str(tmp_path / "missing.py")]) == 1
    assert main(["run", str(tmp_path / "missing.yaml"), "--workflow", str(workflow)]) == 2
    assert main(["plan", str(manifest()), "--target", "threads", "--objective", "cheap"]) == 3


def test_plan_prints_workers_by_pool(manifest: Write, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", str(manifest()), "--target", "threads"]) == 0
    assert "  simulate: 2 x ResourceRequest(cpus=1, memory='1G')" in capsys.readouterr().out
    assert main(["plan", str(manifest()), "--target", "threads", "--format", "json"]) == 0
    assert json.loads(capsys.readouterr().out)["pools"]["postprocess"]["count"] == 1


@pytest.mark.slow
def test_functions_of_the_workflow_itself_run_in_worker_processes_without_a_guard(
    manifest: Write, tmp_path: Path
) -> None:
    workflow = tmp_path / "workflow.py"
    workflow.write_text(
        "import os\nfrom dataclasses import dataclass\n"
        "@dataclass\nclass Result:\n    pid: int\n"
        "def work(x): return Result(os.getpid())\n"
        "results = client.gather(client.map(work, range(4), tag='simulate'))\n"
        "assert all(isinstance(one, Result) and one.pid != os.getpid() for one in results)\n"
        "print('done')\n"
    )
    command = [sys.executable, "-m", "scalable.cli", "run", str(manifest()), "--target", "processes", "--workflow"]
    done = subprocess.run([*command, str(workflow)], capture_output=True, text=True, timeout=100, check=False)
    assert (done.returncode, done.stdout) == (0, "done\n"), done.stderr
    assert done.stderr.startswith("run: ")


@pytest.mark.slow
def test_a_terminated_run_takes_its_workers_along(manifest: Write, tmp_path: Path) -> None:
    workflow = tmp_path / "workflow.py"
    workflow.write_text("import time\nprint('up', flush=True)\ntime.sleep(600)\n")
    command = [sys.executable, "-m", "scalable.cli", "run", str(manifest()), "--target", "processes", "--workflow"]
    with subprocess.Popen([*command, str(workflow)], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "up\n"
        children = psutil.Process(process.pid).children(recursive=True)
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=30) == 128 + signal.SIGTERM
    _, alive = psutil.wait_procs(children, timeout=20)
    assert not [one for one in alive if one.status() != psutil.STATUS_ZOMBIE]
    assert _summary(tmp_path)["status"] == "failed"


@pytest.mark.slow
def test_progress_is_shown_on_a_terminal(manifest: Write, tmp_path: Path) -> None:
    workflow = tmp_path / "workflow.py"
    workflow.write_text("import time\nclient.gather(client.map(time.sleep, [0.5] * 6, tag='simulate'))\n")
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "scalable.cli", "run", str(manifest()), "--target", "threads", "--workflow"]
    process = subprocess.Popen(
        [*command, str(workflow)], stderr=theirs, stdout=theirs, env={**os.environ, "TERM": "xterm"}
    )
    os.close(theirs)
    text = b""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        try:
            text += os.read(ours, 4096)
        except OSError:  # the other end is closed
            break
    os.close(ours)
    assert process.wait(timeout=30) == 0
    for word in (b"queued", b"running", b"workers", b"simulate"):
        assert word in text
