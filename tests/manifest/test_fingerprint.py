"""The fingerprint identifies what will run, and holds no secret; neither does the text that is kept."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from scalable.errors import ManifestError
from scalable.spec import resolve
from tests.manifest.reading import HEAD, read

TEXT = (
    HEAD
    + """\
targets:
  local: {provider: local, max_workers: 2}
  hpc:
    provider: slurm
    account: ${ACCOUNT:-none}
components:
  simulate:
    cpus: ${CPUS:-4}
    env:
      API_TOKEN: hunter2
      DATABASE: ${DATABASE:-sqlite}
      VERSION: 1.10
overlays:
  large:
    components: {simulate: {memory: 8G}}
"""
)


def _print(text: str = TEXT, target: str | None = "local", overlay: str | None = None, **environ: str) -> str:
    return read(text, target=target, overlay=overlay, environ=environ).fingerprint


def test_comments_quotes_and_the_order_of_keys_do_not_count() -> None:
    assert len(_print()) == 64
    other = "# a comment\n" + TEXT.replace("provider: local, max_workers: 2", "max_workers: 2, provider: 'local'")
    assert _print(other) == _print()


@pytest.mark.parametrize(
    ("before", "after"),
    [("max_workers: 2", "max_workers: 3"), ("${CPUS:-4}", "${CPUS:-5}"), ("1.10", "1.1"), ("tests", "test")],
)
def test_what_will_run_counts(before: str, after: str) -> None:
    assert _print(TEXT.replace(before, after)) != _print()


def test_the_first_component_counts_as_it_is_the_default() -> None:
    first = TEXT.replace("components:\n  simulate", "components:\n  other: {}\n  simulate")
    last = TEXT.replace("VERSION: 1.10\n", "VERSION: 1.10\n  other: {}\n")
    assert _print(first) != _print(last)


def test_a_target_that_is_not_chosen_does_not_count() -> None:
    assert _print(TEXT.replace("${ACCOUNT:-none}", "other")) == _print()
    assert _print(TEXT.replace("${ACCOUNT:-none}", "other"), target=None) != _print(target=None)


def test_the_overlay_in_force_counts() -> None:
    assert _print(overlay="large") != _print()
    assert _print(TEXT.replace("8G", "9G")) == _print()


def test_secrets_and_values_from_the_environment_do_not_count() -> None:
    assert _print(TEXT.replace("hunter2", "hunter3")) == _print()
    assert _print(CPUS="8", DATABASE="postgres://me:pw@host") == _print()


def test_the_lock_file_holds_version_and_fingerprint() -> None:
    made = read(TEXT, target="local")
    made.write_lock("manifest.lock")
    assert json.loads(Path("manifest.lock").read_text()) == {"version": 1, "fingerprint": made.fingerprint}
    assert [path.name for path in Path().iterdir() if "lock" in path.name] == ["manifest.lock"]


def test_a_lock_file_that_cannot_be_written_is_one_error() -> None:
    with pytest.raises(ManifestError, match=r"cannot write nowhere/manifest.lock: No such file"):
        read(TEXT).write_lock("nowhere/manifest.lock")


def test_the_text_that_is_kept_holds_no_secret() -> None:
    text = read(
        TEXT, target="hpc", environ={"DATABASE": "postgres://me:pw@host", "ACCOUNT": "a7", "CPUS": "8"}
    ).to_yaml()
    assert "hunter2" not in text
    assert "postgres" not in text
    assert "DATABASE: '***'" in text
    assert "account: a7" in text
    assert "cpus: 8" in text


def test_the_text_that_is_kept_reads_back_to_the_same_but_for_secrets() -> None:
    text = TEXT.replace("hunter2", "'***'").replace("${DATABASE:-sqlite}", "$${x} $HOME")
    first = read(text, target="local", overlay="large")
    second = read(first.to_yaml(), target="local")
    assert second.components == first.components
    assert second.targets["local"] == first.targets["local"]
    assert resolve(second).components == resolve(first).components


def test_a_variable_whose_name_sounds_secret_is_redacted_wherever_it_stands() -> None:
    text = TEXT.replace("${ACCOUNT:-none}", "${MY_SECRET}")
    assert "account: '***'" in read(text, target="hpc", environ={"MY_SECRET": "s3"}).to_yaml()
