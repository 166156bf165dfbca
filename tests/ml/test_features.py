"""Features of tasks as numbers: stable, bounded, and honest about what the history does not have."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scalable.errors import ScalableError
from scalable.ml.features import FeatureEncoder


def task(**facts: Any) -> Any:
    known = {
        "target": "hpc", "component": "demeter", "features": {}, "n_args": 1, "arg_bytes": 28.0,
        "n_inputs": 0, "input_bytes": math.nan, "threads": 1,
    }  # fmt: skip
    return SimpleNamespace(**{**known, **facts})


def featured(*values: Any) -> list[Any]:
    return [task(features={} if value is ... else {"x": value}) for value in values]


def column(rows: list[Any]) -> list[float]:
    encoder = FeatureEncoder.fit(rows)
    assert encoder.names == ("features.x",)
    return [float(encoder.row(row)[0]) for row in rows]


def test_sizes_are_logarithms_and_counts_are_as_they_are() -> None:
    rows = [task(input_bytes=0.0, n_inputs=1), task(input_bytes=1e9, n_inputs=3)]
    encoder = FeatureEncoder.fit(rows)
    assert encoder.names == ("input_bytes", "n_inputs")
    assert encoder.rows(rows).tolist() == [[0.0, 1.0], [math.log1p(1e9), 3.0]]


def test_sizes_and_inputs_are_where_more_needs_more() -> None:
    rows = [task(input_bytes=n, arg_bytes=n, n_inputs=n, threads=n, n_args=n, features={"x": n}) for n in range(1, 9)]
    encoder = FeatureEncoder.fit(rows)
    assert [encoder.names[index] for index in encoder.size_columns] == ["input_bytes", "arg_bytes", "n_inputs"]


@pytest.mark.parametrize(
    ("values", "encoded"),
    [
        ([1, 5], [1, 5]),
        ([-1, 500], [-1, 500]),
        ([1, 100], [0, math.log(100)]),
        (["2015", "2020"], [2015, 2020]),
        ([True, False], [1, 0]),
        ([1, 2.5, None, ...], [1, 2.5, math.nan, math.nan]),
        ([1, 2, [3], {"a": 1}], [1, 2, math.nan, math.nan]),
        (["b", "a", "b", "a"], [1, 0, 1, 0]),
        (["s10", "s9", "s10", "s9"], [1, 0, 1, 0]),
        (["a", 1, "a", 1], [1, 0, 1, 0]),
        (["a", "b", "", "a", "b"], [0, 1, math.nan, 0, 1]),
        ([10**400, 1, 10**400, 1], [1, 0, 1, 0]),
    ],
    ids=str,
)
def test_user_features_become_numbers_by_what_they_are(values: list[Any], encoded: list[float]) -> None:
    np.testing.assert_allclose(column(featured(*values)), encoded)


def test_what_never_varies_is_no_column() -> None:
    assert FeatureEncoder.fit(featured("a", "a", "a")).names == ()
    assert FeatureEncoder.fit([]).names == ()
    assert FeatureEncoder.fit([]).row(task()).shape == (0,)


def test_texts_that_nearly_all_differ_are_no_column() -> None:
    assert FeatureEncoder.fit(featured("a", "b", "c", "a")).names == ()
    assert FeatureEncoder.fit(featured("a", "b", "a", "b")).names == ("features.x",)


def test_rare_texts_share_a_code_and_unknown_ones_have_another() -> None:
    often = [f"s{number}" for number in range(32) for _ in range(3)]
    rare = [f"r{number}" for number in range(6) for _ in range(2)]
    encoder = FeatureEncoder.fit(featured(*often, *rare))
    codes = {value: float(encoder.row(featured(value)[0])[0]) for value in [*often, *rare, "new"]}
    assert sorted({codes[value] for value in often}) == list(range(32))
    assert {codes[value] for value in rare} == {32.0}
    assert codes["new"] == 33.0


def test_there_are_at_most_32_columns_and_the_most_often_given_stay() -> None:
    rows = [task(features={f"f{n:02}": i for n in range(50) if n % 2 or i % 2}) for i in range(20)]
    encoder = FeatureEncoder.fit(rows)
    assert len(encoder.names) <= 32
    assert all(f"features.f{n:02}" in encoder.names for n in range(1, 50, 2))


def test_many_rows_are_encoded_as_each_alone() -> None:
    rows = [
        task(input_bytes=size, arg_bytes=None, target=where, component=None, features={"x": x, "y": y}, n_args=-1)
        for size, where, x, y in [
            (10.0, "a", 1, "u"),
            (None, "b", None, "v"),
            (-1.0, "a", "t", "u"),
            (9.0, "b", 5, "v"),
        ]
    ]
    encoder = FeatureEncoder.fit(rows)
    assert {"input_bytes", "target", "features.y"} <= set(encoder.names)
    np.testing.assert_array_equal(encoder.rows(rows), [encoder.row(row) for row in rows])


def test_a_table_is_encoded_as_its_rows() -> None:
    rows = [task(input_bytes=float(n), n_inputs=n % 3, features={"x": "ab"[n % 2]}) for n in range(10)]
    names = ("component", "n_args", "arg_bytes", "n_inputs", "input_bytes", "threads")
    columns: dict[str, Any] = {name: np.array([getattr(row, name) for row in rows]) for name in names}

    class Table(SimpleNamespace):
        def __len__(self) -> int:
            return len(self.features)

    table: Any = Table(**columns, features=[row.features for row in rows])
    encoder = FeatureEncoder.fit(table, targets=["hpc", "local"] * 5)
    assert encoder.names == ("input_bytes", "n_inputs", "target", "features.x")
    assert encoder.to_json() == FeatureEncoder.fit(rows, targets=["hpc", "local"] * 5).to_json()
    np.testing.assert_array_equal(encoder.rows(table, ["hpc", "local"] * 5), encoder.rows(rows, ["hpc", "local"] * 5))


def test_numbers_beyond_the_range_by_more_than_a_tenth_of_it_are_outside() -> None:
    encoder = FeatureEncoder.fit(featured(10, 12, 20))
    assert [encoder.outside(encoder.row(row)) for row in featured(9, 21, ...)] == [(), (), ()]
    assert [encoder.outside(encoder.row(row)) for row in featured(8.9, 21.1, "much")] == [("features.x",)] * 3


def test_the_range_of_sizes_is_one_of_logarithms() -> None:
    encoder = FeatureEncoder.fit([task(input_bytes=1e6), task(input_bytes=1e9)])
    inside, outside = task(input_bytes=1.9e9), task(input_bytes=2.1e9)
    assert encoder.outside(encoder.row(inside)) == ()
    assert encoder.outside(encoder.row(outside)) == ("input_bytes",)


def test_nothing_where_the_history_has_logarithms_is_outside() -> None:
    encoder = FeatureEncoder.fit(featured(1, 1000))
    assert encoder.outside(encoder.row(featured(0)[0])) == ("features.x",)


def test_texts_that_the_history_does_not_have_are_outside() -> None:
    encoder = FeatureEncoder.fit([task(target=where) for where in ("a", "b", "a", "b")])
    assert encoder.outside(encoder.row(task(target="c"))) == ("target",)
    assert encoder.outside(encoder.row(task(target="b"))) == ()


def test_what_the_history_always_has_is_missed() -> None:
    encoder = FeatureEncoder.fit(
        [task(features={"x": 1, "y": 1}), task(features={"x": 2}), task(features={"x": 3, "y": 2})]
    )
    assert encoder.missing(encoder.row(task())) == ("features.x",)


def test_what_never_varied_and_does_now_is_told() -> None:
    encoder = FeatureEncoder.fit([task(features={"year": 2015, "case": "ref"}, arg_bytes=1e6) for _ in range(3)])
    assert encoder.changed(task(features={"year": 2015, "case": "ref"}, arg_bytes=1.05e6)) == ()
    changed = encoder.changed(task(features={"year": 3000, "case": "high"}, arg_bytes=2e6))
    assert changed == ("arg_bytes", "features.case", "features.year")


facts = st.fixed_dictionaries(
    {
        "target": st.sampled_from(["a", "b", None]),
        "arg_bytes": st.none() | st.floats(),
        "input_bytes": st.none() | st.floats(0, 1e15),
        "n_inputs": st.integers(-1, 100),
        "features": st.dictionaries(
            st.sampled_from("xyz"),
            st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3) | st.lists(st.integers()),
        ),
    }
)


@given(st.lists(facts, max_size=12), facts)
def test_any_history_gives_an_encoding_that_survives_json(history: list[dict[str, Any]], other: dict[str, Any]) -> None:
    rows, new = [task(**one) for one in history], task(**other)
    encoder = FeatureEncoder.fit(rows)
    copy = FeatureEncoder.from_json(json.loads(json.dumps(encoder.to_json(), allow_nan=False)))
    assert copy.names == encoder.names
    for row in [*rows, new]:
        np.testing.assert_array_equal(copy.row(row), encoder.row(row))
        assert copy.changed(row) == encoder.changed(row)
        assert copy.outside(copy.row(row)) == encoder.outside(encoder.row(row))
    assert not any(encoder.outside(encoder.row(row)) or encoder.changed(row) for row in rows)
    np.testing.assert_array_equal(
        encoder.rows(rows), np.array([encoder.row(row) for row in rows]).reshape(len(rows), len(encoder.names))
    )


@pytest.mark.parametrize(
    "data", [{}, {"version": 99, "columns": []}, {"version": 1, "columns": [{"name": 1}]}, {"version": 1, "columns": 5}]
)
def test_what_is_no_encoding_is_refused(data: dict[str, Any]) -> None:
    with pytest.raises(ScalableError, match=r"encoding"):
        FeatureEncoder.from_json(data)


def test_the_encoding_is_the_same_in_every_process() -> None:
    code = (
        "import json; from types import SimpleNamespace as S; from scalable.ml.features import FeatureEncoder as F;"
        "rows = [S(target=t, component='c', features={'x': x, 'y': x}, n_args=1, arg_bytes=1, n_inputs=1,"
        " input_bytes=1, threads=1) for t in 'abc' for x in 'uvw']; e = F.fit(rows);"
        "print(json.dumps([e.to_json(), e.rows(rows).tolist()]))"
    )
    outputs = {
        subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "PYTHONHASHSEED": seed}, capture_output=True, text=True, check=True,
        ).stdout
        for seed in ("1", "2")
    }  # fmt: skip
    assert len(outputs) == 1
