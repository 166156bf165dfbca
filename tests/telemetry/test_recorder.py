from __future__ import annotations

import json
import threading
from pathlib import Path

import pytest

from scalable.errors import ScalableError
from scalable.telemetry.recorder import Recorder, new_run_id


def test_a_run_id_is_safe_as_a_folder_and_never_the_same_twice() -> None:
    one, two = (new_run_id("Démo / ../x y") for _ in range(2))
    assert one != two
    assert one.startswith("run-")
    assert "-d-mo-x-y-" in one
    assert "/" not in one


def test_lines_from_many_threads_are_all_there_and_whole(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path / "run")
    threads = [
        threading.Thread(target=lambda n=n: [recorder.append("tasks", {"key": f"{n}-{i}"}) for i in range(3_000)])
        for n in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    recorder.finish("completed", {"completed": 12_000})
    keys = [json.loads(line)["key"] for line in (tmp_path / "run/tasks.jsonl").read_text().splitlines()]
    assert len(keys) == len(set(keys)) == 12_000
    for n in range(4):
        own = [int(key.split("-")[1]) for key in keys if key.startswith(f"{n}-")]
        assert own == list(range(3_000))


def test_a_file_is_replaced_whole_and_no_draft_is_left(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path / "run")
    recorder.write("manifest.yaml", "a: 1\n")
    recorder.write("manifest.yaml", "a: 2\n")
    recorder.finish("failed", {})
    assert (tmp_path / "run/manifest.yaml").read_text() == "a: 2\n"
    assert sorted(path.name for path in (tmp_path / "run").iterdir()) == ["manifest.yaml", "summary.json"]


def test_a_full_disk_is_said_once_and_stops_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    recorder = Recorder(tmp_path / "run")
    (tmp_path / "run/tasks.jsonl").mkdir()
    for i in range(10):
        recorder.append("tasks", {"key": i})
    recorder.append("workers", {"worker": "a"})
    recorder.finish("completed", {})
    assert (tmp_path / "run/workers.jsonl").read_text() == '{"worker":"a"}\n'
    assert [record.levelname for record in caplog.records if "telemetry is incomplete" in record.message] == ["ERROR"]


def test_without_a_directory_nothing_is_written(tmp_path: Path) -> None:
    recorder = Recorder(None)
    recorder.append("tasks", {})
    recorder.write("x", "y")
    recorder.finish("completed", {})
    assert list(tmp_path.iterdir()) == []


def test_a_directory_that_exists_is_not_written_into(tmp_path: Path) -> None:
    with pytest.raises(ScalableError, match="cannot make the run's directory"):
        Recorder(tmp_path)


def test_a_text_that_is_no_unicode_still_makes_a_readable_line(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path / "run")
    recorder.append("tasks", {"error": "no file \udcff", "name": "Größe"})
    recorder.finish("failed", {})
    text = (tmp_path / "run/tasks.jsonl").read_bytes().decode("utf-8")
    assert json.loads(text) == {"error": "no file ?", "name": "Größe"}
    assert "\\u" not in text
