"""Models beside the runs: found again, never stale, never somebody else's, and never in the way."""

from __future__ import annotations

import logging
import os
import stat
import time
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from scalable.errors import ScalableError
from scalable.ml import cache
from scalable.ml.cache import CacheKey, ModelCache, cache_key
from scalable.ml.models import fit_location, location_from

ARRAYS = {"a": np.arange(3.0), "name": np.array("text")}
META = {"encoder": {"version": 1}, "note": "Ä"}

posix = pytest.mark.skipif(not hasattr(os, "geteuid"), reason="owners and modes are those of POSIX")


def key(task: str = "simulate", fingerprint: str = "f00", model_type: str = "linear", **params: Any) -> CacheKey:
    return cache_key(task, fingerprint, model_type, params)


@pytest.fixture
def models(tmp_path: Path) -> ModelCache:
    return ModelCache(tmp_path)


def files(models: ModelCache) -> set[str]:
    return {path.name for path in models.folder.iterdir()}


def test_what_was_stored_is_found_again(models: ModelCache) -> None:
    assert models.load(key()) is None
    assert models.store(key(), ARRAYS, META)
    found = models.load(key())
    assert found is not None
    assert found.meta == META
    assert found.arrays["a"].tolist() == [0.0, 1.0, 2.0]
    assert str(found.arrays["name"]) == "text"


def test_a_fitted_model_goes_in_and_comes_out(models: ModelCache) -> None:
    X = np.random.default_rng(0).normal(size=(30, 2))  # noqa: N806
    location = fit_location("linear", X, np.exp(X[:, 0]))
    models.store(key(), location.arrays(), {})
    found = models.load(key())
    assert found is not None
    np.testing.assert_array_equal(location_from(found.arrays).predict(X), location.predict(X))


@pytest.mark.parametrize(
    "other",
    [key("other"), key(fingerprint="f01"), key(model_type="random_forest"), key(alpha=2.0)],
    ids=["task", "data", "type", "parameters"],
)
def test_a_model_of_anything_else_is_not_found(models: ModelCache, other: CacheKey) -> None:
    models.store(key(), ARRAYS, META)
    assert models.load(other) is None


@pytest.mark.parametrize("library", ["scalable-workflows", "scikit-learn"])
def test_a_model_of_another_version_is_not_found(
    models: ModelCache, library: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    models.store(key(), ARRAYS, META)
    real = metadata.version
    monkeypatch.setattr(metadata, "version", lambda name: "99" if name == library else real(name))
    assert models.load(key()) is None


def test_the_order_of_parameters_does_not_matter() -> None:
    assert key(a=1, b=2) == key(b=2, a=1)
    assert key("ab", "c") != key("a", "bc")
    with pytest.raises(ScalableError, match="JSON"):
        key(a=object())


def test_stale_models_of_a_task_are_removed_and_others_stay(models: ModelCache) -> None:
    stay = [key("other"), key(fingerprint="new", model_type="random_forest"), key(fingerprint="new", alpha=2.0)]
    for one in (key(), *stay, key(fingerprint="new")):
        models.store(one, ARRAYS, META)
    assert files(models) == {one.file for one in (*stay, key(fingerprint="new"))}


def test_only_the_latest_used_are_kept(models: ModelCache, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache, "_MOST", 8)
    first, second = key(number=-1), key(number=-2)
    for one in (first, second):
        models.store(one, ARRAYS, META)
        os.utime(models.folder / one.file, (1.0, 1.0))
    assert models.load(first) is not None
    for number in range(7):
        models.store(key(number=number), ARRAYS, META)
    assert len(files(models)) == 8
    assert models.load(first) is not None
    assert models.load(second) is None


def test_a_damaged_model_is_not_there_and_is_written_anew(models: ModelCache) -> None:
    models.store(key(), ARRAYS, META)
    path = models.folder / key().file
    whole = path.read_bytes()
    for damaged in (b"", b"text", whole[: len(whole) // 2]):
        path.write_bytes(damaged)
        assert models.load(key()) is None
    assert models.store(key(), ARRAYS, META)
    assert models.load(key()) is not None


def test_nothing_is_unpickled(models: ModelCache, tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self) -> Any:
            return (open, (str(tmp_path / "sprung"), "w"))

    assert not models.store(key(), {"a": np.array([Trap()], dtype=object)}, {})
    models.store(key(), ARRAYS, META)
    with (models.folder / key().file).open("wb") as out:
        np.savez(out, meta=np.array([Trap()], dtype=object))
    assert models.load(key()) is None
    assert not (tmp_path / "sprung").exists()


def test_only_plain_arrays_and_json_are_kept(models: ModelCache) -> None:
    assert not models.store(key(), ARRAYS, {"a": object()})
    assert not models.store(key(), {"meta": np.zeros(1)}, {})
    assert not models.folder.exists() or files(models) == set()


@posix
def test_nobody_else_can_read_or_write_what_is_kept(models: ModelCache) -> None:
    old = os.umask(0)
    try:
        models.store(key(), ARRAYS, META)
    finally:
        os.umask(old)
    assert stat.S_IMODE(models.folder.stat().st_mode) == 0o700
    assert stat.S_IMODE((models.folder / key().file).stat().st_mode) == 0o600


@posix
@pytest.mark.parametrize("mode", [0o620, 0o602])
def test_a_file_that_others_can_write_is_not_used(
    models: ModelCache, mode: int, caplog: pytest.LogCaptureFixture
) -> None:
    models.store(key(), ARRAYS, META)
    (models.folder / key().file).chmod(mode)
    with caplog.at_level(logging.DEBUG, logger="scalable"):
        assert models.load(key()) is None
    assert "others can write to it" in caplog.text


@posix
def test_a_folder_that_others_can_write_is_not_used(models: ModelCache) -> None:
    models.store(key(), ARRAYS, META)
    models.folder.chmod(0o770)
    assert models.load(key()) is None
    assert not models.store(key("other"), ARRAYS, META)


@posix
def test_what_belongs_to_another_user_is_not_used(models: ModelCache, monkeypatch: pytest.MonkeyPatch) -> None:
    models.store(key(), ARRAYS, META)
    myself = os.geteuid()
    with monkeypatch.context() as patch:
        patch.setattr(os, "geteuid", lambda: myself + 1)
        assert models.load(key()) is None
        assert not models.store(key(), ARRAYS, META)
    assert models.load(key()) is not None


@posix
def test_the_file_itself_must_be_ours_too(models: ModelCache, monkeypatch: pytest.MonkeyPatch) -> None:
    models.store(key(), ARRAYS, META)
    real = os.fstat

    def foreign(descriptor: int) -> os.stat_result:
        found = list(real(descriptor))
        found[stat.ST_UID] += 1
        return os.stat_result(found)

    monkeypatch.setattr(os, "fstat", foreign)
    assert models.load(key()) is None


@posix
def test_links_are_not_followed(models: ModelCache, tmp_path: Path) -> None:
    models.store(key(), ARRAYS, META)
    path = models.folder / key().file
    path.rename(tmp_path / "elsewhere.npz")
    path.symlink_to(tmp_path / "elsewhere.npz")
    assert models.load(key()) is None
    path.unlink()
    models.folder.rename(tmp_path / "folder")
    models.folder.symlink_to(tmp_path / "folder")
    assert not models.store(key(), ARRAYS, META)


def test_where_users_have_no_numbers_models_are_kept_all_the_same(
    models: ModelCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(os, "geteuid", raising=False)
    assert models.store(key(), ARRAYS, META)
    assert models.load(key()) is not None


def test_without_a_folder_to_write_to_there_is_no_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    away = ModelCache(tmp_path / "no" / "such" / "folder")
    assert not away.store(key(), ARRAYS, META)
    assert away.load(key()) is None
    (tmp_path / ".models").write_text("a file in its place")
    assert not ModelCache(tmp_path).store(key(), ARRAYS, META)
    assert ModelCache(tmp_path).load(key()) is None


def test_a_folder_that_can_only_be_read_is_read(models: ModelCache, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise PermissionError(13, "Permission denied")

    models.store(key(), ARRAYS, META)
    monkeypatch.setattr("tempfile.mkstemp", refuse)
    monkeypatch.setattr(os, "utime", refuse)
    assert not models.store(key("other"), ARRAYS, META)
    assert models.load(key()) is not None


def test_drafts_that_a_kill_left_are_removed_and_fresh_ones_stay(models: ModelCache) -> None:
    models.store(key(), ARRAYS, META)
    old, fresh = models.folder / ".draft-old", models.folder / ".draft-fresh"
    for draft in (old, fresh):
        draft.write_text("half")
    os.utime(old, (time.time() - 7200,) * 2)
    models.store(key(), ARRAYS, META)
    assert (old.exists(), fresh.exists()) == (False, True)


def test_a_write_that_fails_leaves_what_was_there(models: ModelCache, monkeypatch: pytest.MonkeyPatch) -> None:
    models.store(key(), ARRAYS, META)

    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", full)
    assert not models.store(key(), {"a": np.zeros(1)}, META)
    assert files(models) == {key().file}
    found = models.load(key())
    assert found is not None
    assert found.arrays["a"].tolist() == [0.0, 1.0, 2.0]


def test_runs_are_listed_as_if_the_cache_were_not_there(models: ModelCache, tmp_path: Path) -> None:
    from scalable.telemetry.history import list_runs

    models.store(key(), ARRAYS, META)
    assert list_runs(tmp_path) == []
