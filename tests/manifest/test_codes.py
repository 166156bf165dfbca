"""Each code is in the one table of codes, and each entry of the table has a manifest that earns it."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
from pydantic import BaseModel

import scalable
from scalable import ScalableSession
from scalable.errors import Issue, ManifestInvalid, ProviderUnavailable
from scalable.manifest import CODES, load
from scalable.providers import registry
from scalable.spec import resolve
from tests.manifest.reading import BASE, HEAD, problems, read

# What stands below `targets.t`, in braces.
TARGETS = {
    "E_UNKNOWN_TARGET_KEY": "provider: local, max_worker: 2",
    "E_BAD_MAX_WORKERS": "provider: local, max_workers: 0",
    "E_BAD_N_WORKERS": "provider: aws, n_workers: 0",
    "E_BAD_THREADS_PER_WORKER": "provider: local, threads_per_worker: 1.5",
    "E_BAD_PROCESSES_FLAG": "provider: local, processes: yes",
    "E_BAD_CONTAINERS_MODE": "provider: local, containers: docker",
    "E_BAD_WALLTIME": "provider: slurm, walltime: tomorrow",
    "E_BAD_ADAPTIVE": "provider: local, adaptive: {min: 3, max: 2}",
    "E_BAD_FARGATE_SIZE": "provider: aws, worker_cpu: 1024, worker_mem: 1024",
    "E_OPTION_CONFLICT": "provider: aws, instance_type: t3.large",
    "E_UNKNOWN_PROVIDER": "provider: lokal",
    "E_UNKNOWN_OVERLAY": "provider: local, overlay: big",
    "E_UNKNOWN_OBJECTIVE_KEY": "provider: local, objectives: {budget: 3}",
    "E_UNKNOWN_PRICE_KEY": "provider: slurm, price: {core_hours: 0.02}",
    "E_BAD_PRICE": "provider: slurm, price: {core_hour: -0.02}",
    "E_BAD_VALUE": "provider: aws, cluster_type: fargat",
    "E_TARGET_REF": "provider: hybrid, primary: t, secondary: s",
    "W_UNSET_VARIABLE": 'provider: slurm, account: "${ACCOUNT}"',
}

# What stands below `components.c`, in braces.
COMPONENTS = {
    "E_UNKNOWN_COMPONENT_KEY": "cpu: 3",
    "E_BAD_CPUS": "cpus: 0",
    "E_BAD_MEMORY": "memory: 32",
    "E_BAD_TYPE": "tags: gpu",
    "E_BAD_TAG": "tags: [a b]",
    "E_TAG_COLLISION": "tags: [gpu], gpus: 1",
    "E_BAD_CAPABILITY": "capabilities: {big: -1}",
    "E_BAD_ENV_NAME": "env: {1A: x}",
    "E_RELATIVE_MOUNT": "mounts: {data: /data}",
    "E_BAD_MOUNT": "mounts: {/data: '/d:ro'}",
    "E_DATE_VALUE": "env: {DAY: 2024-01-01}",
    "E_DUPLICATE_KEY": "cpus: 1, cpus: 2",
    "E_CONTROL_CHARACTER": 'image: "a\\nb"',
    "E_UNSET_VARIABLE": 'image: "${IMAGE}"',
    "E_BAD_VARIABLE": 'image: "${}"',
    "E_YAML_TAG": "cpus: !!int 3",
}

# What stands below `tasks.t`, in braces, where there are the components `small` (1G) and `t`.
TASKS = {
    "E_UNKNOWN_TASK_KEY": "component: small, afther: x",
    "E_TASK_COMPONENT_REF": "component: smal",
    "E_TASK_AFTER_REF": "component: t, after: nothing",
    "E_TASK_CYCLE": "component: t, after: t",
    "E_BAD_COUNT": "component: t, count: 0",
    "E_BAD_DURATION": "component: t, duration: long",
    "W_TASK_SHADOWED": "component: small",
    "W_TASK_MEMORY": "component: small, memory: 2G",
}

WHOLE = {
    "E_TOO_LARGE": "x" * 2_000_000,
    "E_EMPTY": "",
    "E_NOT_A_MAPPING": "[]",
    "E_SYNTAX": "a: b: c",
    "E_BAD_KEY": BASE + '"": x\n',
    "E_MISSING_KEY": BASE.replace("name: tests", ""),
    "E_BAD_VERSION": BASE.replace("version: 1", "version: 2"),
    "E_UNKNOWN_TOP_KEY": BASE + "component: {}\n",
    "E_UNKNOWN_PROJECT_KEY": BASE.replace("name: tests", "name: tests, storage: s3://x"),
    "E_UNKNOWN_OVERLAY_KEY": BASE + "overlays: {big: {version: 1}}\n",
    "E_BAD_NAME": HEAD + "targets: {a b: {provider: local}}\n",
}


def _unreadable() -> tuple[Issue, ...]:
    with pytest.raises(scalable.errors.ManifestError) as caught:
        load("missing.yaml", catalogue=registry.catalogue)
    return caught.value.issues  # type: ignore[attr-defined,no-any-return]


def _provider_unavailable() -> tuple[Issue, ...]:
    class Broken:
        def names(self) -> tuple[str, ...]:
            return ("local",)

        def options_model(self, name: str) -> type[BaseModel]:
            raise ProviderUnavailable(f"{name} needs a library")

    Path("scalable.yaml").write_text(BASE)
    with pytest.raises(ManifestInvalid) as caught:
        load("scalable.yaml", target="local", catalogue=Broken())
    return caught.value.issues


def _no_target() -> tuple[Issue, ...]:
    return problems(BASE + "  other: {provider: local}\n", single_target=True)


def _checked(component: str) -> tuple[Issue, ...]:
    made = read(BASE + f"components: {{a: {{{component}}}}}\n", target="local")
    return registry.check(resolve(made)).issues


def _queued(component: str, task: str = "component: a", target: str = "provider: slurm") -> tuple[Issue, ...]:
    text = HEAD + f"targets: {{t: {{{target}}}}}\ncomponents: {{a: {{{component}}}}}\ntasks: {{b: {{{task}}}}}\n"
    return registry.check(resolve(read(text, target="t"))).issues


def _scaled(scaling: str) -> tuple[Issue, ...]:
    text = HEAD + f"targets: {{t: {{provider: local, scaling: {scaling}}}}}\n"
    return ScalableSession(resolve(read(text, target="t"))).validate().issues


OTHERS: dict[str, Callable[[], tuple[Issue, ...]]] = {
    "E_UNREADABLE": _unreadable,
    "E_PROVIDER_UNAVAILABLE": _provider_unavailable,
    "E_UNKNOWN_TARGET": lambda: problems(BASE, target="hpc"),
    "E_NO_TARGET": _no_target,
    "E_MISSING_FILE": lambda: _checked("preload_script: nowhere.py"),
    "E_TOO_FEW_WORKERS": lambda: _checked("cpus: 1}, b: {cpus: 1"),
    "E_BAD_SCALING": lambda: _scaled("{policy: vanila}"),
    "W_ENV_NEEDS_PROCESSES": lambda: _checked("env: {A: b}"),
    "W_PRELOAD_NEEDS_PROCESSES": lambda: _checked("preload_script: modules.sh"),
    "E_NEEDS_MEMORY": lambda: _queued("cpus: 1"),
    "E_WALLTIME_TOO_SHORT": lambda: _queued(
        "memory: 1G", "component: a, duration: 2h", "provider: slurm, walltime: 1h"
    ),
    "W_IMAGE_NOT_USED": lambda: _queued("memory: 1G, image: a.sif, runtime: none"),
    "W_MOUNTS_NEED_CONTAINER": lambda: _queued("memory: 1G, mounts: {/a: /b}"),
    "W_MEMORY_STEP": lambda: _queued("memory: 1G", "component: a, memory_step: 1G"),
    "W_NOT_BOOKED": lambda: _queued("memory: 1G", target="provider: sge"),
    "W_NO_PRICE": lambda: _queued(
        "memory: 1G", target="provider: gcp, zone: us-central1-a, machine_type: n9-standard-2"
    ),
    "W_INSECURE": lambda: _queued("memory: 1G", target="provider: slurm, insecure: true"),
}

# Whole manifests, and fragments completed to such.
MANIFESTS = {
    **WHOLE,
    **{code: HEAD + f"targets: {{t: {{{body}}}}}\n" for code, body in TARGETS.items()},
    **{code: BASE + f"components: {{c: {{{body}}}}}\n" for code, body in COMPONENTS.items()},
    **{
        code: BASE + f"components: {{small: {{memory: 1G}}, t: }}\ntasks: {{t: {{{body}}}}}\n"
        for code, body in TASKS.items()
    },
}

CASES: dict[str, Callable[[], tuple[Issue, ...]]] = {
    **{code: partial(problems, text) for code, text in MANIFESTS.items()},
    **OTHERS,
}


@pytest.mark.parametrize("code", sorted(CASES))
def test_each_code_is_earned_by_a_small_manifest(code: str) -> None:
    assert code in [issue.code for issue in CASES[code]()]


def test_the_table_lists_exactly_the_codes_that_can_be_earned() -> None:
    assert set(CODES) == set(CASES)


def test_every_code_in_the_source_is_in_the_table() -> None:
    root = Path(scalable.__file__).parent
    used = {code for file in root.rglob("*.py") for code in re.findall(r'"([EW]_[A-Z0-9_]+)"', file.read_text())}
    assert used == set(CODES)


@pytest.mark.parametrize("code", sorted(set(CASES) - {"E_UNREADABLE", "E_TOO_LARGE", "E_EMPTY"}))
def test_each_issue_says_in_which_file_line_and_column(code: str) -> None:
    for issue in CASES[code]():
        assert issue.file == "scalable.yaml"
        assert issue.line >= 1
        assert issue.column >= 1
