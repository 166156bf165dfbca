"""What the pages on clusters say is what the code does, and what they show is what it prints."""

from __future__ import annotations

import json
import os
import re
import runpy
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import dask
import pytest
import yaml
from distributed.utils import get_ip_interface

from scalable.pools import cluster, deaths
from scalable.pools.routing import Router
from scalable.pools.shape import PoolShape
from scalable.providers.batch import jobs, script, watchdog
from scalable.providers.batch.queue import PERMANENT_REASONS
from scalable.providers.options.batch import BatchOptions
from scalable.providers.registry import options_model
from scalable.spec import ComponentSpec, ResourceRequest
from scalable.telemetry.owner import Owner
from tests.cli.batch import FakeSlurm, dead
from tests.pages import README, ROOT, block, steady
from tests.providers.batch.made import directives
from tests.providers.batch.made import script as job_text
from tests.slurm.backend import Slurm

DOCS = ROOT / "docs"
FIRST_RUN = (DOCS / "how-to/first-cluster-run.md").read_text(encoding="utf-8")
TROUBLE = (DOCS / "how-to/cluster-troubleshooting.md").read_text(encoding="utf-8")
SENT = (DOCS / "explanation/what-slurm-gets.md").read_text(encoding="utf-8")
TARGETS = (DOCS / "reference/targets.md").read_text(encoding="utf-8")
MANIFEST = block(FIRST_RUN, "yaml", "project:")


def start(folder: Path, *command: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a command in a folder, with this interpreter's programs first."""
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    env = {**os.environ, "PATH": path, "SCALABLE_RUNS_DIR": ".scalable/runs", **environment}
    return subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, check=False, timeout=150)


def with_parts(text: str, *parts: str) -> str:
    """Return a manifest with the sections of others in the place of its own."""
    whole = yaml.safe_load(text)
    for part in parts:
        for section, entries in yaml.safe_load(part).items():
            whole[section].update(entries)
    return yaml.safe_dump(whole)


def shown(page: str, command: str, *, containing: str = "") -> str:
    """Return what a page shows that a command prints."""
    text = block(page, "console", containing or f"$ {command}")
    return text.partition(f"$ {command}\n")[2].partition("\n$ ")[0].rstrip("\n")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "scalable.yaml").write_text(MANIFEST)
    (tmp_path / "workflow.py").write_text(block(FIRST_RUN, "python", "import time"))
    return tmp_path


# The first run


@pytest.mark.parametrize("command", ["scalable validate --target hpc", "scalable plan --target hpc"])
def test_a_look_before_submitting_prints_what_is_shown(folder: Path, command: str) -> None:
    done = start(folder, *command.split())
    assert done.stdout.rstrip("\n") == shown(FIRST_RUN, command)


@pytest.mark.parametrize(("containing", "section"), [("memory_step", "tasks"), ("image:", "components")])
def test_the_parts_of_a_manifest_that_are_shown_are_valid(folder: Path, containing: str, section: str) -> None:
    part = block(FIRST_RUN, "yaml", containing)
    assert part.startswith(f"{section}:")
    (folder / "scalable.yaml").write_text(with_parts(MANIFEST, part))
    done = start(folder, "scalable", "validate", "--target", "hpc")
    assert done.stdout.startswith("scalable.yaml: ok (")


def test_the_readmes_target_fits_its_manifest(folder: Path) -> None:
    text = with_parts(block(README, "yaml", "project:"), block(README, "yaml", "provider: slurm"))
    (folder / "scalable.yaml").write_text(text)
    done = start(folder, "scalable", "validate", "--target", "hpc")
    assert done.stdout.startswith("scalable.yaml: ok (")


def test_the_readmes_target_takes_the_lines_that_let_its_pools_grow_and_shrink(folder: Path) -> None:
    more = block(README, "yaml", "adaptive:").replace("\n", "\n    ").rstrip(" ")
    target = block(README, "yaml", "provider: slurm").replace("max_workers: 40\n", more)
    assert "core_hour" in target
    (folder / "scalable.yaml").write_text(with_parts(block(README, "yaml", "project:"), target))
    done = start(folder, "scalable", "validate", "--target", "hpc")
    assert done.stdout.startswith("scalable.yaml: ok ("), done.stderr


def test_larger_workers_have_as_much_memory_as_is_said() -> None:
    step = yaml.safe_load(block(FIRST_RUN, "yaml", "memory_step"))["tasks"]["simulate"]["memory_step"]
    assert step == "2G"
    sizes = []
    shape = PoolShape.of(ComponentSpec("simulate", ResourceRequest(1, 2**30)))
    for _ in range(2):
        shape = shape.enlarged(2 * 2**30)
        sizes.append((shape.component.resources.memory_bytes or 0) // 2**30)
    assert f"the first retry goes to one with {sizes[0]}G, the second to one with {sizes[1]}G" in _unwrapped(FIRST_RUN)


def test_a_task_that_asks_for_all_threads_is_alone_on_its_worker() -> None:
    shape = PoolShape.of(ComponentSpec("simulate", ResourceRequest(8, 2**30)))
    assert "A worker with `cpus: 8` runs eight tasks at a time" in _unwrapped(FIRST_RUN)
    assert shape.slots({"simulate": 1.0}) == 8
    asked = re.search(r"capabilities=(\{\"threads\".*?\})", FIRST_RUN)
    assert asked is not None
    route = Router([shape], {}).route("simulate", None, json.loads(asked[1]))
    assert shape.slots(route.resources) == 1


# What Slurm gets


def test_every_word_of_the_script_is_explained() -> None:
    text = runpy.run_path(str(DOCS / "tables.py"))["example_script"]()
    directives = re.findall(r"^#SBATCH (-\w|--[a-z-]+)", text, re.MULTILINE)
    flags = re.findall(r" (--[a-z-]+) ?", text.partition("\nexec ")[2])
    variables = re.findall(r"^export (\w+_NUM_THREADS|DASK_\w+)=", text, re.MULTILINE)
    assert len(directives) == 10
    assert len(flags) == 15
    terms = {word for line in re.findall(r"^(`.*)\n: ", SENT, re.MULTILINE) for word in re.findall("`(.*?)`", line)}
    assert {*directives, *flags, *variables, "exec"} == terms


@pytest.mark.parametrize(
    ("page", "words", "value"),
    [
        (SENT, "within {} milliseconds are one `sbatch`", jobs._GATHER_S * 1000),
        (SENT, "an array of up to {} jobs", jobs._MOST_IN_ARRAY),
        (SENT, "one `scancel` for up to {} names", jobs._MOST_IDS),
        (SENT, "down to every {} seconds", jobs._LONGEST_LOOK_S),
        (SENT, "waits for at most {} seconds until the cause is known", deaths._VERDICT_S),
        (SENT, "or after {} seconds, another one is submitted", cluster._LOST_AFTER_S),
        (FIRST_RUN, "a reserve of {} % of the walltime", cluster._SPARE_SHARE * 100),
        (FIRST_RUN, "at least {} and", cluster._SPARE_S[0]),
        (FIRST_RUN, "at most {} seconds", cluster._SPARE_S[1]),
        (FIRST_RUN, "After {} seconds the run itself says so", jobs._SAY_AFTER_S),
        (TARGETS, "in another job, {} seconds later", cluster._LOST_AFTER_S),
    ],
)
def test_a_figure_is_that_of_the_code(page: str, words: str, value: float) -> None:
    assert words.format(f"{value:g}") in _unwrapped(page)


def test_pauses_and_patience_are_those_of_the_code() -> None:
    assert "tried again after {:g}, {:g}, {:g}, {:g} and {:g} seconds".format(*jobs._PAUSES_S) in _unwrapped(SENT)
    assert "again after {:g}, {:g} and {:g} seconds".format(*watchdog._AGAIN_AFTER_S[1:]) in _unwrapped(SENT)
    assert "does not find the scheduler within a minute ends" in _unwrapped(SENT)
    assert script._DEATH_TIMEOUT_S <= 60
    assert "three workers of a pool in a row" in _unwrapped(SENT)
    assert cluster._FAILURES_ALLOWED == 3


# Troubleshooting


def test_the_reasons_that_never_go_away_are_the_last_three_lines() -> None:
    rows = re.findall(r"^\| (`\w.*?) \| ", TROUBLE.partition("## Jobs stay")[2].partition("\n## ")[0], re.MULTILINE)
    reasons = [re.findall("`(.*?)`", row) for row in rows]
    *passing, first, second, third = reasons
    assert "Waiting does not help with the last three lines" in TROUBLE
    assert {*first, *second, *third} <= PERMANENT_REASONS
    assert not PERMANENT_REASONS.intersection(reason for row in passing for reason in row)


def test_what_a_job_says_of_a_wrong_interface_is_told_as_shown() -> None:
    with pytest.raises(ValueError, match="is not a valid network interface"):
        get_ip_interface("no-such-interface")
    assert "\n`is not a valid network interface`\n" in TROUBLE


def test_a_worker_without_a_word_is_given_up_after_five_minutes() -> None:
    assert dask.config.get("distributed.scheduler.worker-ttl") == "5 minutes"
    assert "After five minutes Dask takes the worker for dead" in _unwrapped(TROUBLE)


@pytest.fixture
def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeSlurm:
    made = FakeSlurm(tmp_path / "bin")
    made.program("sbatch", "#!/bin/sh\necho 1\n")
    monkeypatch.setenv("PATH", f"{made.folder}:{os.environ['PATH']}")
    return made


def test_an_interface_that_is_not_there_is_told_as_shown(folder: Path, fake: FakeSlurm) -> None:
    done = start(folder, "scalable", "run", "--target", "hpc", "--workflow", "workflow.py")
    assert done.returncode == 4
    says = block(TROUBLE, "text", "interface").partition("; it has")[0]
    assert done.stderr.startswith(f"{says}; it has ")


def test_a_machine_without_slurm_is_told_as_shown(folder: Path, fake: FakeSlurm) -> None:
    path = f"{folder / 'empty'}"
    done = start(
        folder, sys.executable, "-m", "scalable.cli", "run", "--target", "hpc", "--workflow", "workflow.py", PATH=path
    )
    assert "target 'hpc' submits jobs with `sbatch`, which is not on this machine's PATH" in done.stderr


def test_ps_shows_a_run_as_on_the_page(folder: Path, fake: FakeSlurm) -> None:
    page = shown(FIRST_RUN, "scalable ps", containing="$ scalable ps\nRUN")
    run = made_run(folder, page, Owner.mine())
    fake.job("39_1", run, Owner.mine(), state="PENDING", reason="QOSMaxJobsPerUserLimit")
    fake.job("39_0", run, Owner.mine(), end=str(int(time.time()) + 7195))
    printed = start(folder, "scalable", "ps").stdout.rstrip("\n")
    assert re.sub("in .*", "in ...", printed) == re.sub("in 1h.*", "in ...", page)


def test_ps_and_clean_show_a_dead_run_as_on_the_page(folder: Path, fake: FakeSlurm) -> None:
    page = shown(TROUBLE, "scalable ps")
    made_run(folder, page, dead())
    assert start(folder, "scalable", "ps").stdout.rstrip("\n") == page
    assert start(folder, "scalable", "clean").stdout.rstrip("\n") == shown(TROUBLE, "scalable clean")


def made_run(folder: Path, page: str, owner: Owner) -> str:
    """Make the directory of the run that a page shows."""
    found = re.search(r"run-\S+", page)
    assert found is not None
    directory = folder / ".scalable" / "runs" / found[0]
    directory.mkdir(parents=True)
    facts = {"provider": "slurm", "target": "hpc", "host": socket.gethostname(), "pid": owner.pid}
    (directory / "run.json").write_text(json.dumps({"run_id": found[0], "started_at": time.time(), **facts}))
    return found[0]


# Targets


def options_of(system: str) -> dict[str, Any]:
    return {field.alias or name: field.default for name, field in options_model(system).model_fields.items()}


def table(text: str) -> list[list[str]]:
    """Return the cells of the first table of a text, without its head."""
    lines = [line for line in text.splitlines() if line.startswith("|")]
    end = next((n for n, line in enumerate(lines) if n > 1 and line.startswith("| option")), len(lines))
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines[2:end]]


def test_every_option_of_a_slurm_target_is_listed_with_its_default() -> None:
    listed = table(TARGETS.partition("\n## `slurm`")[2].partition("\n## ")[0])
    defaults = options_of("slurm")
    assert {row[0].strip("`") for row in listed} == set(defaults)
    for option, default, _ in listed:
        value = defaults[option.strip("`")]
        if isinstance(value, bool) or (isinstance(value, int) and value):
            assert default == f"`{json.dumps(value)}`".replace("`1`", "1")


def test_every_option_of_the_other_systems_is_listed() -> None:
    text = TARGETS.partition("\n## `pbs`")[2]
    further = {row[0].strip("`"): set(re.findall(r"`(\w+)`", row[1])) for row in table(text)}
    common = set(options_of("slurm")) - {"qos", "reservation"}
    for system in ("pbs", "lsf", "sge", "htcondor", "oar"):
        own = {option for option, systems in further.items() if system in systems}
        assert set(options_of(system)) == common | own
    assert set(BatchOptions.model_fields) == common


@pytest.mark.parametrize("system", ["pbs", "lsf", "sge", "htcondor", "oar"])
def test_the_words_of_the_other_systems_are_those_of_their_scripts(system: str) -> None:
    lines = [line for line in TARGETS.partition("\n## `pbs`")[2].splitlines() if line.startswith("| ")]
    head = next(line for line in lines if "`htcondor` | `oar`" in line)
    column = [cell.strip(" `") for cell in head.split("|")].index(system)
    given = {"queue": "long", "account": "GCIMS", "walltime": "90m"}
    if system == "htcondor":
        del given["queue"]
    text = "\n".join(directives(job_text(system, **given), system))
    for option in ("account", "walltime", *(["queue"] if system != "htcondor" else [])):
        (row,) = [line for line in lines[lines.index(head) :] if line.startswith(f"| `{option}`")]
        found = re.search("`(.*?)`", row.split("|")[column])
        assert found is not None
        value = {"queue": "long", "account": "GCIMS", "walltime": ""}[option]
        assert re.search(rf"^{re.escape(found[1])}[ =]+{value}", text, re.MULTILINE)


# On the real Slurm


def on_this_slurm(text: str, changes: Mapping[str, str] = {}) -> str:
    """Return a manifest or script of a page as the Slurm of the tests needs it, whose nodes are on this machine."""
    for old, new in {"ib0": "lo", **changes}.items():
        assert old in text
        text = text.replace(old, new)
    return text


@pytest.mark.slow
@pytest.mark.slurm
def test_the_first_run_prints_what_is_shown_with_as_many_calls_as_is_said(folder: Path, queue: Slurm) -> None:
    (folder / "scalable.yaml").write_text(on_this_slurm(MANIFEST))
    command = "scalable run --target hpc --workflow workflow.py"
    with queue.counted() as calls:
        done = start(folder, *command.split())
    assert done.returncode == 0, done.stderr
    assert done.stdout.rstrip("\n") == shown(FIRST_RUN, command)
    assert "has five jobs of two pools and calls `sbatch` twice" in _unwrapped(SENT)
    assert calls["sbatch"] == 2
    report = start(folder, "scalable", "report").stdout
    assert steady(report) == steady(shown(FIRST_RUN, "scalable report"))


@pytest.mark.slow
@pytest.mark.slurm
def test_nodes_find_modules_that_lie_where_the_run_was_started(folder: Path, queue: Slurm) -> None:
    assert "modules that lie there are found" in _unwrapped(FIRST_RUN)
    (folder / "scalable.yaml").write_text(on_this_slurm(MANIFEST))
    (folder / "model.py").write_text("def simulate(seed):\n    return seed * seed\n")
    (folder / "workflow.py").write_text(
        "import model\nprint(sum(client.gather(client.map(model.simulate, range(20)))))\n"
    )
    done = start(folder, "scalable", "run", "--target", "hpc", "--workflow", "workflow.py")
    assert done.stdout == "2470\n", done.stderr


@pytest.mark.slow
@pytest.mark.slurm
def test_the_script_without_a_manifest_prints_what_is_shown(folder: Path, queue: Slurm) -> None:
    (folder / "squares.py").write_text(on_this_slurm(block(FIRST_RUN, "python", "SlurmCluster")))
    done = start(folder, "python", "squares.py")
    assert done.returncode == 0, done.stderr
    assert done.stdout.rstrip("\n") == shown(FIRST_RUN, "python squares.py")


@pytest.mark.slow
@pytest.mark.slurm
def test_a_run_in_a_job_of_its_own_ends_in_order_with_that_job(folder: Path, queue: Slurm) -> None:
    (folder / "scalable.yaml").write_text(on_this_slurm(MANIFEST))
    (folder / "workflow.py").write_text("import time\nclient.submit(time.sleep, 600, tag='simulate').result()\n")
    (folder / "job.sh").write_text(block(FIRST_RUN, "bash", "exec scalable"))
    job = start(folder, "sbatch", "--parsable", "job.sh").stdout.strip()
    deadline = time.monotonic() + 100
    while sum(one.state == "RUNNING" for one in queue.jobs()) < 5:
        assert time.monotonic() < deadline, queue.jobs()
        time.sleep(0.2)
    (run_dir,) = (folder / ".scalable" / "runs").iterdir()
    # Not before the run has a worker: it could not be in the middle of its work.
    while not (run_dir / "workers.jsonl").exists():
        assert time.monotonic() < deadline
        time.sleep(0.2)
    (command,) = re.findall("`(scancel --batch .*) JOB`", FIRST_RUN)
    queue.run(*command.split(), job)
    queue.wait_empty()
    assert json.loads((run_dir / "summary.json").read_text())["status"] == "failed"


@pytest.mark.slow
@pytest.mark.slurm
@pytest.mark.parametrize(
    ("row", "changes"),
    [
        ("Invalid account", {"account: science": "account: nobody"}),
        ("invalid partition", {"queue: main": "queue: mian"}),
        ("Invalid qos", {"queue: main": "queue: main\n    qos: nosuch"}),
        ("Memory specification", {"memory: 1G": "memory: 100G"}),
        ("Requested node", {"memory: 1G": "memory: 100G"}),
    ],
)
def test_sbatch_refuses_in_the_words_of_the_page(
    folder: Path, queue: Slurm, row: str, changes: Mapping[str, str]
) -> None:
    (words,) = re.findall(rf"^\| `({row}.*?)` \|", TROUBLE, re.MULTILINE)
    (folder / "scalable.yaml").write_text(on_this_slurm(MANIFEST, changes))
    done = start(folder, "scalable", "run", "--target", "hpc", "--workflow", "workflow.py")
    assert done.returncode == 4
    assert words in done.stderr


@pytest.mark.slow
@pytest.mark.slurm
def test_jobs_that_can_never_start_end_the_run_in_the_words_of_the_page(folder: Path, queue: Slurm) -> None:
    found = re.search(r"`job 16_2 (can never start: PartitionTimeLimit)`", TROUBLE)
    assert found is not None
    (folder / "scalable.yaml").write_text(on_this_slurm(MANIFEST, {"queue: main": "queue: short"}))
    done = start(folder, "scalable", "run", "--target", "hpc", "--workflow", "workflow.py")
    assert done.returncode == 4
    assert found[1] in done.stderr


def _unwrapped(page: str) -> str:
    return re.sub(r"\s+", " ", page)
