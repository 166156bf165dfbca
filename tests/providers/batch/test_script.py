"""The text of a job, for each batch system as a whole and then piece by piece."""

from __future__ import annotations

import math
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import dask
import pytest
from distributed.cli.dask_worker import main as dask_worker
from hypothesis import given, settings
from hypothesis import strategies as st

from scalable.errors import MissingExtra, ProviderError
from scalable.providers.batch.systems import SYSTEMS
from tests.providers.batch.made import ANY_TEXT, LAUNCH, MIB, command, component, directives, script, slurm_words

GOLDEN = Path(__file__).parent / "golden"

FULL: dict[str, Any] = {
    "account": "GCIMS",
    "walltime": "1h30m",
    "interface": "ib0",
    "job_script_prologue": ["module load python"],
    "queue": "long",
    "job_extra_directives": ["--exclusive"],
}
OPTIONS: dict[str, dict[str, Any]] = {
    "slurm": {**FULL, "qos": "high", "reservation": "for us"},
    "pbs": {**FULL, "job_extra_directives": ["-m n"]},
    "lsf": {**FULL, "job_extra_directives": ["-x"]},
    "sge": {**FULL, "job_extra_directives": ["-pe smp 10"], "resource_spec": "h_vmem={memory_mb}M"},
    "oar": {**FULL, "job_extra_directives": ["-t besteffort"]},
    "htcondor": {**FULL, "queue": None, "job_extra_directives": ['MY.Project = "sun"'], "disk": "4G"},
}
PLAIN = dict.fromkeys(("queue", "account", "qos", "reservation"), "x")
WHOLE = component(
    cpus=4.5,
    tags=("compute-heavy",),
    capabilities={"licence": 2.0, "big": math.inf},
    env={"SUN_HOME": "/opt/sun city", "MOTTO": "it's $HOME"},
    preload_script="/models/setup.sh",
)


@pytest.mark.parametrize("system", SYSTEMS)
def test_the_script_of_a_job(system: str) -> None:
    made = script(system, WHOLE, group=3, workers=2, array=system == "slurm", **OPTIONS[system])
    assert made == (GOLDEN / f"{system}.sh").read_text()


@pytest.mark.parametrize("system", SYSTEMS)
def test_the_least_that_a_job_says(system: str) -> None:
    made = script(system, launch=replace(LAUNCH, tls=None, comment="", scheduler_address="tcp://10.0.0.1:8786"))
    assert "None" not in made
    assert "tls" not in made
    assert re.search(r"walltime|h_rt|-W |-t |periodic_remove", made) is None


@pytest.mark.parametrize("system", SYSTEMS)
def test_neither_the_users_configuration_nor_the_machine_has_a_say(
    system: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    before = script(system)
    monkeypatch.setenv("PBS_ACCOUNT", "somebody")
    monkeypatch.setenv("LSF_ENVDIR", str(tmp_path))
    (tmp_path / "lsf.conf").write_text("LSF_UNIT_FOR_LIMITS=GB\n")
    theirs = {
        "queue": "theirs", "account": "theirs", "project": "theirs", "walltime": "00:01:00", "interface": "eth7",
        "job-extra-directives": ["--theirs"], "env-extra": ["theirs"], "log-directory": str(tmp_path / "theirs"),
        "job-mem": "1M", "shebang": "#!theirs", "local-directory": "/theirs", "memory-per-core-property-name": "theirs",
    }  # fmt: skip
    with dask.config.set({f"jobqueue.{system}": theirs}):
        assert script(system) == before
    assert not (tmp_path / "theirs").exists()
    assert dask.config.get("jobqueue.scalable", None) is None


def test_without_dask_jobqueue_the_message_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "dask_jobqueue.slurm", None)
    with pytest.raises(MissingExtra, match=re.escape("pip install 'scalable-workflows[slurm]'")):
        script()


class TestWhatIsAskedFor:
    @pytest.mark.parametrize(
        ("memory", "asked"), [(1500 * MIB, "1500M"), (32 * 1024 * MIB, "32G"), (2_000_000_000, "1908M"), (MIB, "1M")]
    )
    def test_memory_is_not_rounded_up_to_the_next_unit(self, memory: int, asked: str) -> None:
        made = script(made_of=component(memory=memory))
        assert f"--mem={asked}" in directives(made)
        assert f"--memory-limit {memory} " in made

    def test_a_job_books_what_all_its_workers_need_and_each_has_its_share(self) -> None:
        made = script(made_of=component(cpus=1.5, memory=700 * MIB), workers=3)
        assert {"-n 1", "--cpus-per-task=6", "--mem=2100M"} < set(directives(made))
        assert f"--nthreads 1 --memory-limit {700 * MIB} --nworkers 3 --nanny" in made

    def test_gpus_are_devices_of_the_node(self) -> None:
        assert "--gres=gpu:2" in directives(script(made_of=component(gpus=2)))
        assert "gres" not in script()

    @pytest.mark.parametrize(
        ("walltime", "asked"), [(60, "00:01:00"), ("1h30m", "01:30:00"), ("2-00:00:00", "48:00:00")]
    )
    def test_a_walltime_is_in_hours_minutes_and_seconds(self, walltime: object, asked: str) -> None:
        assert f"-t {asked}" in directives(script(walltime=walltime))

    def test_lsf_counts_whole_minutes_and_gets_no_less(self) -> None:
        assert "-W 00:02" in directives(script("lsf", walltime=61), "lsf")

    def test_a_component_without_memory_cannot_be_asked_for(self) -> None:
        with pytest.raises(ProviderError, match="'simulate' does not say how much memory"):
            script(made_of=component(memory=None))

    def test_a_request_by_hand_takes_the_place_of_ours_and_knows_the_pools_numbers(self) -> None:
        spec = "select=1:ncpus={cpus}:mem={memory_mb}mb:mpiprocs=1"
        made = directives(script("pbs", workers=2, resource_spec=spec), "pbs")
        assert [line for line in made if line.startswith("-l")] == ["-l select=1:ncpus=8:mem=3000mb:mpiprocs=1"]
        made = directives(script("oar", resource_spec="{memnode>=24000}/core={cpus}", walltime="1h"), "oar")
        assert "-l '{memnode>=24000}/core=4',walltime=01:00:00" in made

    def test_what_the_user_adds_comes_last_and_so_wins(self) -> None:
        made = directives(script(job_extra_directives=["--requeue", "--mem=0"]))
        assert made[-2:] == ["--requeue", "--mem=0"]
        assert made.index("--no-requeue") < made.index("--requeue")


class TestNames:
    def test_all_jobs_of_a_run_have_its_name(self) -> None:
        assert directives(script())[0] == f"-J {LAUNCH.run_id}"

    def test_a_worker_is_named_by_its_pool_and_number(self) -> None:
        assert " --name simulate-7 " in script(group=7)

    @pytest.mark.parametrize(("workers", "name"), [(1, "simulate-12"), (2, "simulate-12~")])
    def test_in_an_array_each_job_counts_on_from_the_first(self, workers: int, name: str) -> None:
        line = command(script(group=7, workers=workers, array=True)).replace("exec /opt/python/bin/python3", "echo")
        done = _bash(line, SLURM_ARRAY_TASK_ID="5")
        assert done.split()[done.split().index("--name") + 1] == name

    def test_the_log_of_a_job_has_its_pool_and_id(self) -> None:
        log = f"{LAUNCH.log_directory}/simulate-"
        assert f"-o '{log}%j.log'" in directives(script())
        assert f"-o '{log}%A_%a.log'" in directives(script(array=True))


class TestTheWorker:
    def test_every_option_is_one_that_dask_has(self) -> None:
        made_of = component(preload_script="/models/setup.py", tags=("a.b",))
        words = shlex.split(command(script(made_of=made_of, workers=2, interface="ib0")))
        assert words[:4] == ["exec", "/opt/python/bin/python3", "-m", "distributed.cli.dask_worker"]
        known = {flag: one for one in dask_worker.params for flag in (*one.opts, *one.secondary_opts)}
        rest = iter(words[5:])
        for flag in rest:
            assert flag in known
            if not getattr(known[flag], "is_flag", False):
                next(rest)

    def test_it_offers_what_the_pool_is_asked_for(self) -> None:
        words = shlex.split(command(script(made_of=WHOLE)))
        assert words[words.index("--resources") + 1] == (
            "simulate=1000000000 compute-heavy=1000000000 licence=2 big=1000000000 threads=4"
        )

    def test_it_connects_with_the_certificates_of_the_run(self) -> None:
        assert "--protocol tls --tls-ca-file /home/ada/.scalable/tls-1/ca.pem" in script()
        assert "--tls-cert /home/ada/.scalable/tls-1/cert.pem --tls-key /home/ada/.scalable/tls-1/key.pem" in script()

    def test_it_loads_what_every_worker_loads_and_then_the_components_file_or_module(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(tmp_path)
        ours = "--preload scalable.pools.worker_setup"
        assert f"{ours} --preload {tmp_path}/setup.py" in script(made_of=component(preload_script="setup.py"))
        assert f"{ours} --preload models.setup" in script(made_of=component(preload_script="models.setup"))
        assert script(made_of=component(preload_script="setup.sh")).count("--preload ") == 1

    def test_this_interpreter_is_started_unless_another_is_named(self) -> None:
        assert command(script(python=None)).startswith(f"exec {shlex.quote(sys.executable)} -m ")
        assert command(script(python="/opt/my env/python")).startswith("exec '/opt/my env/python' -m ")

    def test_an_address_of_ipv6_is_no_pattern(self) -> None:
        assert " 'tls://[fe80::1]:8786' " in script(launch=replace(LAUNCH, scheduler_address="tls://[fe80::1]:8786"))


class TestItsEnvironment:
    @pytest.mark.parametrize(("cpus", "threads", "share"), [(8, None, "1"), (8, 2, "4"), (0.5, None, "1"), (7, 2, "3")])
    def test_libraries_may_use_a_tasks_share_of_the_cores(self, cpus: float, threads: int | None, share: str) -> None:
        found = environment(script(made_of=component(cpus=cpus), threads=threads))
        assert {found[name] for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")} == {share}

    def test_the_later_says_what_holds_threads_prologue_script_env(self, tmp_path: Path) -> None:
        setup = tmp_path / "it's a set;up.sh"
        setup.write_text("export A=script B=script C=script\n")
        prologue = ["export OMP_NUM_THREADS=9", "A=prologue; export A"]
        made_of = component(preload_script=str(setup), env={"C": "env"})
        found = environment(script(made_of=made_of, job_script_prologue=prologue))
        assert [found[name] for name in ("OMP_NUM_THREADS", "A", "B", "C")] == ["9", "script", "script", "env"]

    def test_a_preload_script_that_fails_ends_the_job_before_the_worker_starts(self, tmp_path: Path) -> None:
        made = script(made_of=component(preload_script=str(tmp_path / "nowhere.sh")), python="/bin/echo")
        done = subprocess.run(["bash", "-c", made], capture_output=True, text=True, check=False)
        assert done.returncode != 0
        assert done.stdout == ""

    @settings(max_examples=40, deadline=None)
    @given(st.dictionaries(st.from_regex(r"[B-Z][B-Z_]{8}", fullmatch=True), ANY_TEXT, min_size=1))
    def test_any_value_arrives_as_it_is(self, env: dict[str, str]) -> None:
        for system in ("slurm", "htcondor"):
            found = environment(script(system, component(env=env)), system)
            assert {name: found[name] for name in env} == env


class TestQuoting:
    AWKWARD = ("a b", "it's", 'say "x"', "$(touch /tmp/x)", "`x`", "a;b", "50%", "a\\b", "#1", "*", "é", "~")

    @pytest.mark.parametrize("value", AWKWARD)
    @pytest.mark.parametrize("system", sorted(set(SYSTEMS) - {"htcondor"}))
    def test_every_script_is_one_that_bash_can_read(self, system: str, value: str) -> None:
        made_of = component(env={"A": value}, preload_script=f"/x/{value}.py", tags=())
        launch = replace(LAUNCH, run_id=value, comment=value, tls=None)
        made = script(system, made_of, launch, queue=value, account=value, interface=value, python=value)
        assert subprocess.run(["bash", "-n"], input=made, text=True, check=False).returncode == 0
        words = shlex.split(command(made))
        assert words[1] == value
        assert words[words.index("--interface") + 1] == value
        assert f"/x/{value}.py" in words

    @given(ANY_TEXT)
    @settings(max_examples=40, deadline=None)
    def test_a_value_stays_within_its_directive(self, value: str) -> None:
        launch = replace(LAUNCH, run_id=value, comment=value)
        made = script(launch=launch, queue=value, account=value, qos=value, reservation=value)
        words = [word for line in directives(made) for word in slurm_words(f" {line}")]
        assert [words[words.index(flag) + 1] for flag in ("-J", "-p", "-A")] == [value] * 3
        assert {f"--qos={value}", f"--reservation={value}", f"--comment={value}", "--no-requeue"} < set(words)
        assert len(words) == len([word for line in directives(script(**PLAIN)) for word in slurm_words(f" {line}")])

    def test_a_percent_sign_in_the_directory_of_logs_stands_for_itself(self) -> None:
        made = script(launch=replace(LAUNCH, log_directory=Path("/logs/50%j")))
        assert "-o /logs/50%%j/simulate-%j.log" in directives(made)

    @pytest.mark.parametrize(
        ("system", "directory"),
        [("slurm", "/a\\b"), ("pbs", "/a:b"), ("sge", "/a$b"), ("lsf", "/a%b"), ("oar", "/a%b")],
    )
    def test_a_directory_that_a_system_cannot_name_is_refused(self, system: str, directory: str) -> None:
        with pytest.raises(ProviderError, match="cannot write logs to"):
            script(system, launch=replace(LAUNCH, log_directory=Path(directory)))

    def test_a_submit_file_of_htcondor_has_no_macro_of_ours(self) -> None:
        made = script(
            "htcondor",
            component(env={"A": "$(HOME)$$(x)"}),
            replace(LAUNCH, run_id="$ENV(HOME)", log_directory=Path("/a$(b)")),
            account="$(x)",
        )
        lines = [line for line in made.splitlines() if not line.startswith("MY.")]
        macros = set(re.findall(r"\$+\w*\(\w*\)", "\n".join(lines)))
        assert macros == {"$(DOLLAR)", "$(ClusterId)"}

    def test_a_directory_that_no_container_can_have_is_refused(self, tmp_path: Path) -> None:
        files = replace(LAUNCH.tls, directory=Path("/a,b")) if LAUNCH.tls else None
        script(launch=replace(LAUNCH, tls=files))
        with pytest.raises(ProviderError, match="/a,b cannot be bound into a container"):
            script(made_of=component(image="a.sif"), launch=replace(LAUNCH, tls=files))


def environment(made: str, system: str = "slurm") -> dict[str, str]:
    """Run a script up to where the worker would start, and return the environment that it would have."""
    if system == "htcondor":
        lines = condor_arguments(made)[1].rpartition("; exec ")[0]
    else:
        lines = "\n".join(made.strip().splitlines()[:-1])
    return dict(pair.partition("=")[::2] for pair in _bash(f"{lines}\nenv -0").split("\0") if pair)


def condor_arguments(made: str) -> list[str]:
    """Read ``Arguments`` of a submit file as HTCondor's manual says: macros, double quotes, single quotes."""
    (value,) = re.findall(r'^Arguments = "(.*)"$', made, re.MULTILINE)
    text = value.replace("$(DOLLAR)", "$").replace('""', '"')
    return [
        "".join(part.replace("''", "'") if quoted else part for part, quoted in pieces) for pieces in _arguments(text)
    ]


def _arguments(text: str) -> Iterator[list[tuple[str, bool]]]:
    for match in re.finditer(r"(?:'((?:[^']|'')*)'|(\S+))", text):
        yield [(match[1], True)] if match[1] is not None else [(match[2], False)]


def _bash(text: str, **variables: str) -> str:
    done = subprocess.run(
        ["bash", "-c", text], capture_output=True, check=True, env={"PATH": os.environ["PATH"], **variables}
    )
    return done.stdout.decode()
