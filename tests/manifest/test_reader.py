"""Text that is no manifest is one clear error, and never a traceback."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from scalable.errors import Issue, ManifestSyntax, ScalableError
from scalable.manifest import load
from scalable.manifest.nodes import plain_value
from scalable.manifest.reader import parse
from scalable.providers.registry import catalogue
from tests.manifest.reading import BASE, HEAD, codes, lines, only, read

FIRST_LINE = "a manifest starts with `version: 1`"

BOMB = "a0: &a0 [x,x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"a{level}: &a{level} [{','.join([f'*a{level - 1}'] * 10)}]\n" for level in range(1, 9)
)


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("", "scalable.yaml: is empty; a manifest starts with `version: 1` [E_EMPTY]"),
        ("# nothing yet\n", "scalable.yaml: is empty; a manifest starts with `version: 1` [E_EMPTY]"),
        ("- a\n- b\n", f"scalable.yaml:1:1: is a list, not a mapping; {FIRST_LINE} [E_NOT_A_MAPPING]"),
        ("hello", f"scalable.yaml:1:1: is a single value, not a mapping; {FIRST_LINE} [E_NOT_A_MAPPING]"),
        (
            "version: 1\nproject:\n\tname: x\n",
            "scalable.yaml:3:1: is not YAML: a tab stands where the line is indented; indent with spaces [E_SYNTAX]",
        ),
        (
            "a: [1, 2\nb: }",
            ("scalable.yaml:2:2: is not YAML: did not find expected ',' or ']' (while parsing a flow sequence) "
            "[E_SYNTAX]"),
        ),
        (BASE + "---\na: 1\n", "scalable.yaml:5:1: holds more than one document; remove the line `---` [E_SYNTAX]"),
        ("a: &a [*a]\n", "scalable.yaml:1:8: the alias *a has no anchor before it [E_SYNTAX]"),
        (
            BOMB,
            "scalable.yaml:5:10: holds more than 20000 values, aliases counted as what they stand for [E_TOO_LARGE]",
        ),
        ("a: " + "[" * 100_000, "scalable.yaml:1:43: is nested more than 40 levels deep [E_TOO_LARGE]"),
        ("a: " + "{a: " * 100_000, "scalable.yaml:1:160: is nested more than 40 levels deep [E_TOO_LARGE]"),
        ("version: 1\0", "scalable.yaml:1:11: has the character U+0000, which text cannot have [E_CONTROL_CHARACTER]"),
        (BASE + "? [a]\n: b\n", "scalable.yaml:5:3: a list or a mapping cannot be a key [E_BAD_KEY]"),
        (BASE + '"": b\n', "scalable.yaml:5:1: a key is empty [E_BAD_KEY]"),
    ],
)  # fmt: skip
def test_text_that_is_no_manifest_is_one_error_with_its_place(text: str, line: str) -> None:
    assert lines(text) == [line]


def test_a_file_of_ten_megabytes_is_refused_without_being_parsed() -> None:
    assert only("x" * 10_000_000).code == "E_TOO_LARGE"


def test_text_that_is_not_utf8_is_refused_with_the_place_of_the_byte() -> None:
    Path("scalable.yaml").write_bytes(HEAD.encode() + b"x: \xff\n")
    with pytest.raises(ManifestSyntax, match=r"scalable.yaml:3:4: is not UTF-8 text: byte 0xff; save it as UTF-8"):
        load("scalable.yaml", catalogue=catalogue)


@pytest.mark.parametrize(
    ("path", "words"),
    [("missing.yaml", "there is no such file"), (".", "Is a directory"), ("a\0b", "cannot be read")],
)
def test_a_file_that_cannot_be_read_is_one_error(path: str, words: str) -> None:
    with pytest.raises(ManifestSyntax, match=words) as caught:
        load(path, catalogue=catalogue)
    assert [issue.code for issue in caught.value.issues] == ["E_UNREADABLE"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read every file")
def test_a_file_without_permission_is_one_error() -> None:
    Path("scalable.yaml").touch(mode=0o000)
    with pytest.raises(ManifestSyntax, match="Permission denied"):
        load("scalable.yaml", catalogue=catalogue)


def test_a_byte_order_mark_and_windows_line_ends_are_no_problem() -> None:
    assert read("\ufeff" + BASE.replace("\n", "\r\n")).project.name == "tests"


def test_a_key_that_is_there_twice_is_reported_beside_other_problems() -> None:
    assert lines(BASE + "components:\n  a: {cpus: 1, cpus: 2}\n  b: {cpus: 0}\n") == [
        (
            "scalable.yaml:6:16 components.a.cpus: the key 'cpus' is there twice; the first one is in line 6; "
            "remove one of them [E_DUPLICATE_KEY]"
        ),
        "scalable.yaml:7:13 components.b.cpus: cpus must be a positive number [E_BAD_CPUS]",
    ]


def test_a_date_must_be_quoted() -> None:
    text = BASE + "components:\n  a:\n    env: {DAY: 2024-01-01, TIME: 2024-01-01 10:00:00, QUOTED: '2024-01-01'}\n"
    assert [(issue.code, issue.path) for issue in _found(text)] == [
        ("E_DATE_VALUE", "components.a.env.DAY"),
        ("E_DATE_VALUE", "components.a.env.TIME"),
    ]


def _found(text: str) -> list[Issue]:
    return parse(text)[1]


def test_tags_of_yaml_and_merge_keys_are_refused() -> None:
    assert codes(BASE + "components: !!python/object:os.system {}\n") == ["E_YAML_TAG"]
    assert codes(BASE + "components:\n  a: &a {cpus: 1}\n  b:\n    <<: *a\n") == ["E_BAD_KEY"]


def test_an_alias_stands_for_its_anchor() -> None:
    made = read(BASE + "components:\n  a: &big {cpus: 8, memory: 32G}\n  b: *big\n")
    assert made.components["a"] == made.components["b"]


def test_a_variable_inside_braces_gets_a_hint_to_quote_it() -> None:
    assert "a variable needs quotes" in only(BASE + "components: {a: {cpus: ${N:-4}}}\n").hint


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("4", 4), ("-4", -4), ("010", 10), ("0o10", 8), ("0x10", 16), ("1.5", 1.5), ("1e3", 1000.0), (".5", 0.5),
        ("true", True), ("False", False), ("~", None), ("", None), ("null", None),
        ("yes", "yes"), ("no", "no"), ("on", "on"), ("off", "off"), ("02:00:00", "02:00:00"), ("1:30", "1:30"),
        ("1_000", "1_000"), ("0b11", "0b11"), ("=", "="), ("9" * 400, "9" * 400),
    ],
)  # fmt: skip
def test_scalars_mean_what_yaml_1_2_says(text: str, value: object) -> None:
    found = plain_value(text)
    assert (found, type(found)) == (value, type(value))


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.text(alphabet=st.sampled_from("ab:-[]{}#&*!|>'\"%@`,?\n\t $\\0~<"), max_size=60))
def test_any_text_is_read_or_refused_with_an_error_of_ours(text: str) -> None:
    Path("scalable.yaml").write_text(BASE + text, encoding="utf-8")
    with contextlib.suppress(ScalableError):
        load("scalable.yaml", catalogue=catalogue, environ={})
