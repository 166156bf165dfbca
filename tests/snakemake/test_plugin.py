"""What Snakemake sees of the plugin: found by name, light to import, its flags in the help."""

from __future__ import annotations

import subprocess
import sys
import typing
from dataclasses import fields
from pathlib import Path

import pytest

from scalable_snakemake.settings import ExecutorSettings, common_settings

_IMPORT = """
import sys, time
import snakemake_interface_executor_plugins.registry, snakemake_interface_executor_plugins.executors.remote
began = time.process_time()
import snakemake_executor_plugin_scalable
print(time.process_time() - began)
print(*sys.modules)
"""


def test_snakemake_finds_the_executor_and_its_flags() -> None:
    from snakemake_interface_executor_plugins.registry import ExecutorPluginRegistry

    plugin = ExecutorPluginRegistry().get_plugin("scalable")
    assert {info["cliarg"] for info in plugin.get_settings_info()} == {
        "--scalable-manifest",
        "--scalable-target",
        "--scalable-overlay",
        "--scalable-advise",
        "--scalable-objective",
        "--scalable-policy",
    }


def test_every_flag_has_a_default_and_a_type_that_snakemake_understands() -> None:
    for one in fields(ExecutorSettings):
        assert one.metadata["help"]
        if one.type is bool:
            # A flag without a value.
            assert one.default is False
            continue
        assert one.default is None
        assert typing.get_origin(one.type) is typing.Union, f"{one.name}: {one.type}"


def test_the_import_costs_next_to_nothing_and_brings_nothing_heavy() -> None:
    runs = [
        subprocess.run([sys.executable, "-c", _IMPORT], capture_output=True, text=True, check=True).stdout.splitlines()
        for _ in range(3)
    ]
    assert min(float(seconds) for seconds, _ in runs) < 0.020
    loaded = {name.partition(".")[0] for name in runs[0][1].split()}
    assert not loaded & {"scalable", "dask", "distributed", "yaml", "pydantic", "psutil", "snakemake"}


def test_secrets_stay_off_the_command_line() -> None:
    assert not common_settings.pass_envvar_declarations_to_cmd


def test_the_shim_does_nothing_but_pass_names_on() -> None:
    import snakemake_executor_plugin_scalable as shim

    code = [line for line in Path(shim.__file__).read_text().splitlines() if line and not line.startswith(('"', "#"))]
    assert all(line.startswith(("from scalable_snakemake.", "__all__")) for line in code)


@pytest.mark.slow
def test_help_lists_the_executor() -> None:
    text = subprocess.run(
        [sys.executable, "-m", "snakemake", "--help"], capture_output=True, text=True, check=True
    ).stdout
    assert "scalable executor plugin settings" in text
    assert "--scalable-manifest FILE" in text
