"""What makes a deployment stay the user's: merging, and round trips through YAML, for any of them."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from scalable_prefect.deploy.merge import Changes, Path, digests, merge
from scalable_prefect.deploy.records import joined, split
from scalable_prefect.deploy.roundtrip import editor, node, render

pytestmark = pytest.mark.engine

PATHS: tuple[Path, ...] = (("a",), ("b",), ("m", "x"), ("m", "y"), ("m", "n", "z"))
VALUES = st.one_of(st.integers(0, 3), st.sampled_from(["", "on", "a b"]), st.lists(st.integers(0, 1), max_size=2))
FLAT = st.dictionaries(st.sampled_from(PATHS), VALUES)

Flat = dict[Path, Any]


def nested(flat: Flat) -> dict[str, Any]:
    made: dict[str, Any] = {}
    for path, value in flat.items():
        inner = made
        for key in path[:-1]:
            inner = inner.setdefault(key, {})
        inner[path[-1]] = copy.deepcopy(value)
    return made


def flat(nodes: dict[str, Any], path: Path = ()) -> Flat:
    found: Flat = {}
    for key, value in nodes.items():
        found |= flat(value, (*path, key)) if isinstance(value, dict) else {(*path, key): value}
    return found


@given(FLAT, FLAT, FLAT, st.sets(st.sampled_from(PATHS)))
def test_only_what_the_user_left_alone_follows_the_manifest(
    old: Flat, new: Flat, edits: Flat, removals: set[Path]
) -> None:
    users = {path: value for path, value in {**old, **edits}.items() if path not in removals}
    current = nested(users)
    merge(current, nested(new), {}, digests(nested(old)))
    after = flat(current)
    for path in PATHS:
        if path in users and (path not in old or users[path] != old[path]):
            assert after[path] == users[path], "an edit is lost"
        elif path in old and path not in users:
            assert path not in after, "what was removed is back"
        else:
            assert after.get(path, None) == new.get(path, None), "it does not follow the manifest"


@given(FLAT, FLAT, FLAT)
def test_a_second_time_changes_nothing(old: Flat, new: Flat, said: Flat) -> None:
    current = nested(old)
    merge(current, nested(new), said, digests(nested(old)))
    before = copy.deepcopy(current)
    again = merge(current, nested(new), said, digests(nested(new)))
    assert current == before
    assert not again.any


def test_a_value_in_the_place_of_a_mapping_is_the_users() -> None:
    current: dict[str, Any] = {"work_pool": "mine"}
    changes = merge(current, {"work_pool": {"name": "x"}}, {("work_pool", "job_variables"): 1}, {})
    assert current == {"work_pool": "mine"}
    assert changes == Changes(kept=["work_pool.name", "work_pool.job_variables"])


# Text that one version of YAML or the other reads as something else.
TRAPS = ("yes", "on", "no", "1", "null", "~", "0x1f", "1e3", "1_000", "12:30:45", "2026-11-21", "- a", "a: b", "#",
         "*a", "{{ $X }}", "=", "<<")  # fmt: skip
TEXT = st.text() | st.sampled_from(TRAPS)
ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=6,
)


@given(ANYTHING)
def test_prefects_reader_gets_any_value_as_it_was_meant(value: Any) -> None:
    """Prefect reads YAML 1.1, in which `yes` is true and 12:30:45 is a number; ours writes 1.2."""
    made = editor("")
    text = render(made, node({"parameters": {"value": value}}))
    assert yaml.safe_load(text) == {"parameters": {"value": value}}


@given(st.dictionaries(st.tuples(st.text(), st.text()).filter(any), st.dictionaries(st.text(), st.text())), st.text())
def test_what_was_written_is_read_back_and_nothing_of_it_is_left_in_the_text(records: Any, text: str) -> None:
    body = "\n".join(line for line in text.split("\n") if not line.startswith("#")).rstrip("\n") + "\n"
    read, rest = split(body + joined(records))
    assert read == records
    assert rest.rstrip("\n") == body.rstrip("\n")
