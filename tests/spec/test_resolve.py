"""From a manifest to plain data about one target."""

from __future__ import annotations

import math
import pickle
from pathlib import Path

import pytest

from scalable.errors import Issue, ManifestError
from scalable.manifest import Manifest, load
from scalable.providers.options.local import LocalOptions
from scalable.providers.registry import catalogue
from scalable.spec import ComponentSpec, DeploymentSpec, Objectives, ResourceRequest, TaskSpec, resolve

TEXT = """\
version: 1
project: {name: forecast}
targets:
  local: {provider: local, max_workers: 3, objectives: {budget_usd: 5}}
  hpc: {provider: slurm}
objectives: {deadline_hours: 2}
components:
  demeter:
    image: ghcr.io/jgcri/demeter:2.0.1
    runtime: apptainer
    cpus: 8
    gpus: 1
    memory: 32G
    mounts: {/rcfs: /rcfs}
    env: {MODE: fast}
    tags: [compute-heavy]
    capabilities: [high_memory]
    preload_script: setup.py
tasks:
  simulate:
    component: demeter
    cache: true
    outputs: {database: dir}
    count: 20
    duration: 1h30m
    memory: 16G
    retries: 2
    memory_step: 2G
    timeout: 02:00:00
    inputs: [a.csv]
  analyze: {component: demeter, after: simulate}
"""


@pytest.fixture
def made(tmp_path: Path) -> Manifest:
    path = tmp_path / "scalable.yaml"
    path.write_text(TEXT)
    return load(path, target="local", catalogue=catalogue, environ={})


def test_everything_that_the_manifest_says_arrives(made: Manifest) -> None:
    spec = resolve(made)
    assert (spec.project, spec.target, spec.provider, spec.overlay) == ("forecast", "local", "local", None)
    assert spec.options == LocalOptions(max_workers=3)
    assert spec.objectives == Objectives(budget_usd=5, deadline_hours=2)
    assert spec.components == {
        "demeter": ComponentSpec(
            name="demeter",
            resources=ResourceRequest(cpus=8, memory_bytes=32 * 2**30, gpus=1),
            image="ghcr.io/jgcri/demeter:2.0.1",
            runtime="apptainer",
            mounts={"/rcfs": "/rcfs"},
            env={"MODE": "fast"},
            tags=("compute-heavy",),
            capabilities={"high_memory": math.inf},
            preload_script="setup.py",
        )
    }
    assert spec.tasks == {
        "simulate": TaskSpec(
            name="simulate",
            component="demeter",
            cache=True,
            outputs={"database": "dir"},
            count=20,
            duration_s=5400.0,
            memory_bytes=16 * 2**30,
            retries=2,
            timeout_s=7200.0,
            memory_step_bytes=2 * 2**30,
            inputs=("a.csv",),
        ),
        "analyze": TaskSpec(name="analyze", component="demeter", after=("simulate",)),
    }
    assert spec.fingerprint == made.fingerprint
    assert spec.manifest_path == made.path
    assert spec.manifest_text == made.to_yaml()


def test_only_options_that_the_manifest_gives_count_as_set(made: Manifest) -> None:
    assert resolve(made).options.model_fields_set == {"max_workers"}


def test_an_issue_of_a_provider_says_where_in_the_manifest_it_is(made: Manifest) -> None:
    issue = resolve(made).issue("W_X", "components.demeter.env", "not applied", "set `processes: true`")
    assert issue == Issue(
        "W_X", "components.demeter.env", "not applied", "set `processes: true`", str(made.path), 15, 5
    )


def test_a_spec_that_comes_from_no_manifest_knows_no_places() -> None:
    spec = DeploymentSpec("p", "t", "local", LocalOptions(), {}, {})
    assert str(spec.issue("W_X", "components.a", "odd")) == "components.a: odd [W_X]"


def test_a_spec_can_be_sent_to_another_process(made: Manifest) -> None:
    spec = resolve(made)
    assert pickle.loads(pickle.dumps(spec)) == spec


def test_a_manifest_that_was_read_for_another_target_is_refused(made: Manifest) -> None:
    assert resolve(made, "local").target == "local"
    with pytest.raises(ManifestError, match="was read for target 'local'; read it again with target='hpc'"):
        resolve(made, "hpc")


def test_a_manifest_that_was_read_for_no_target_is_refused(made: Manifest) -> None:
    with pytest.raises(ManifestError, match="was read for no target"):
        resolve(load(made.path, catalogue=catalogue, environ={}))
