"""The solar example: its science, its picture, and that three engines give the same ranking."""

from __future__ import annotations

import csv
import importlib
import json
import math
import os
import shutil
import struct
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pvlib
import pytest

from tests.pages import README, block, steady

EXAMPLE = Path(__file__).parents[2] / "examples" / "solar"
# pvlib still uses a name that pandas is about to drop.
pytestmark = pytest.mark.filterwarnings("ignore:DatetimeIndex.dayofyear:DeprecationWarning")


@pytest.fixture
def solar(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(EXAMPLE))
    return importlib.import_module("solar")


def yield_by_hand(tilt: float, azimuth: float) -> float:
    """kWh per kW and year, with school geometry, an even sky, and a module that loses 0.4 % per degree."""
    latitude, longitude, zone = math.radians(36.1), -79.95, -5
    beta, gamma = math.radians(tilt), math.radians(azimuth - 180)
    total = 0.0
    with (Path(pvlib.__file__).parent / "data" / "723170TYA.CSV").open(encoding="utf-8") as file:
        file.readline()
        for number, row in enumerate(csv.DictReader(file)):
            day, hour = number // 24 + 1, number % 24 + 0.5
            declination = math.radians(23.45) * math.sin(2 * math.pi * (284 + day) / 365)
            b = 2 * math.pi * (day - 81) / 364
            minutes = 9.87 * math.sin(2 * b) - 7.53 * math.cos(b) - 1.5 * math.sin(b)
            angle = math.radians(15 * (hour - 12 + longitude / 15 - zone + minutes / 60))
            up = math.sin(latitude) * math.sin(declination) + math.cos(latitude) * math.cos(declination) * math.cos(
                angle
            )
            south = math.cos(declination) * math.cos(angle) * math.sin(latitude) - math.sin(declination) * math.cos(
                latitude
            )
            west = math.cos(declination) * math.sin(angle)
            facing = up * math.cos(beta) + math.sin(beta) * (south * math.cos(gamma) + west * math.sin(gamma))
            direct = float(row["DNI (W/m^2)"]) * max(facing, 0) * (up > 0)
            diffuse = float(row["DHI (W/m^2)"]) * (1 + math.cos(beta)) / 2
            ground = 0.25 * float(row["GHI (W/m^2)"]) * (1 - math.cos(beta)) / 2
            sun = direct + diffuse + ground
            cell = float(row["Dry-bulb (C)"]) + 0.028 * sun
            total += sun / 1000 * (1 - 0.004 * (cell - 25))
    return total * 0.97 * 0.885  # inverter, and what PVWatts takes off for wires, dirt and the rest


@pytest.mark.parametrize(("tilt", "azimuth"), [(30, 180), (10, 90), (60, 180), (45, 270), (0, 180)])
def test_the_yield_agrees_with_a_calculation_by_hand(solar: ModuleType, tilt: float, azimuth: float) -> None:
    result = solar.simulate(solar.Design(tilt_deg=tilt, azimuth_deg=azimuth))
    assert result["yield_kwh_per_kw"] == pytest.approx(yield_by_hand(tilt, azimuth), rel=0.04)


def test_the_best_plant_yields_what_such_plants_yield_in_north_carolina(solar: ModuleType) -> None:
    result = solar.simulate(solar.Design())
    assert 1300 < result["yield_kwh_per_kw"] < 1500
    assert result["yield_kwh"] == pytest.approx(result["yield_kwh_per_kw"] * result["peak_kw"], rel=1e-4)
    assert result["peak_kw"] == pytest.approx(6.0, abs=0.01)


def test_the_losses_lead_from_the_sun_to_the_yield(solar: ModuleType) -> None:
    result = solar.simulate(solar.Design())
    left = result["sun_kwh_per_m2"]
    for stage in ("reflection", "module", "system", "inverter"):
        assert 0 < result[f"{stage}_loss_pct"] < 15
        left *= 1 - result[f"{stage}_loss_pct"] / 100
    assert left == pytest.approx(result["yield_kwh_per_kw"], rel=1e-3)


@pytest.mark.parametrize(
    ("better", "worse"),
    [
        ({"azimuth_deg": 180.0, "tilt_deg": 35.0}, {"azimuth_deg": 0.0, "tilt_deg": 35.0}),
        ({"tilt_deg": 30.0}, {"tilt_deg": 0.0}),
        ({"tilt_deg": 30.0}, {"tilt_deg": 90.0}),
        ({"azimuth_deg": 135.0}, {"azimuth_deg": 90.0}),
    ],
)
def test_turning_a_plant_away_from_the_sun_costs_yield(
    solar: ModuleType, better: dict[str, float], worse: dict[str, float]
) -> None:
    first, second = (solar.simulate(replace(solar.Design(), **change)) for change in (better, worse))
    assert first["yield_kwh"] > second["yield_kwh"]


def test_more_modules_yield_more_but_the_inverter_cuts_off_more(solar: ModuleType) -> None:
    two, three = (solar.simulate(solar.Design(strings=strings)) for strings in (2, 3))
    assert two["yield_kwh"] < three["yield_kwh"] < 1.5 * two["yield_kwh"]
    assert three["inverter_loss_pct"] > two["inverter_loss_pct"]


def test_a_result_is_the_same_each_time_and_survives_json(solar: ModuleType) -> None:
    first, again = (solar.simulate(solar.Design()) for _ in range(2))
    assert first == again == json.loads(json.dumps(first))


def test_an_unknown_module_is_refused_with_the_nearest_names(solar: ModuleType) -> None:
    with pytest.raises(solar.DesignError, match=r"no module 'Canadian_Solar_CS6K_300MS'; nearest: .*CS6K_300MS"):
        solar.simulate(solar.Design(module="Canadian_Solar_CS6K_300MS"))


def test_an_unknown_inverter_is_refused_with_the_nearest_names(solar: ModuleType) -> None:
    with pytest.raises(solar.DesignError, match=r"no inverter 'SMA_SB5_0_1SP_US_40_240V'; nearest: SMA_America__SB5_0"):
        solar.simulate(solar.Design(inverter="SMA_SB5_0_1SP_US_40_240V"))


def test_a_name_like_no_other_is_refused_without_guesses(solar: ModuleType) -> None:
    with pytest.raises(solar.DesignError, match="the list has 21,535, none like it"):
        solar.check(solar.Design(module="§§§"))


def test_a_string_too_long_for_the_inverter_on_a_cold_morning_is_refused(solar: ModuleType) -> None:
    with pytest.raises(
        solar.DesignError, match=r"11 modules .* reach 492 V at -17 °C, more than the 480 V .* at most 10"
    ):
        solar.simulate(solar.Design(modules_per_string=11))
    solar.check(solar.Design(modules_per_string=10))


def test_a_string_too_short_for_the_inverter_on_a_hot_noon_is_refused(solar: ModuleType) -> None:
    with pytest.raises(solar.DesignError, match=r"8 modules .* fall to 2\d\d V .*, less than the 220 V .* at least 9"):
        solar.simulate(solar.Design(modules_per_string=8))
    solar.check(solar.Design(modules_per_string=9))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"tilt_deg": 91.0}, "tilt_deg is 91; it must lie within 0 and 90"),
        ({"azimuth_deg": -1.0}, "azimuth_deg is -1; it must lie within 0 and 360"),
        ({"tilt_deg": math.nan}, "tilt_deg is nan"),
        ({"strings": 0}, "strings is 0; it must be at least 1"),
        ({"modules_per_string": 0}, "modules_per_string is 0"),
    ],
)
def test_a_number_out_of_range_is_refused(solar: ModuleType, change: dict[str, Any], message: str) -> None:
    with pytest.raises(solar.DesignError, match=message):
        solar.check(replace(solar.Design(), **change))


@pytest.mark.parametrize(("size", "count"), [("small", 15), ("large", 676)])
def test_every_design_of_a_grid_is_different_and_can_be_built(solar: ModuleType, size: str, count: int) -> None:
    designs = solar.grid(size)
    assert len(designs) == len(set(designs)) == count
    for design in {replace(one, tilt_deg=30.0, azimuth_deg=180.0) for one in designs}:
        solar.check(design)


def test_an_unknown_grid_is_refused_with_the_known_ones(solar: ModuleType) -> None:
    with pytest.raises(ValueError, match="no grid 'huge'; known: small, large"):
        solar.grid("huge")


def fake_results(solar: ModuleType) -> list[dict[str, Any]]:
    best = {"module": "M_1", "inverter": "I_1", "modules_per_string": 9, "strings": 2, "peak_kw": 5.0}
    return [
        best | {"tilt_deg": tilt, "azimuth_deg": azimuth, "yield_kwh": 5 * per_kw, "yield_kwh_per_kw": per_kw}
        for tilt, azimuth, per_kw in [
            (0.0, 90.0, 1100.0),
            (30.0, 90.0, 1000.0),
            (0.0, 180.0, 1100.0),
            (30.0, 180.0, 1400.0),
        ]
    ]


def test_the_ranking_goes_by_yield_and_does_not_depend_on_the_order_of_the_results(solar: ModuleType) -> None:
    results = fake_results(solar)
    ranking = solar.rank(results)
    assert [one["yield_kwh_per_kw"] for one in ranking] == [1400, 1100, 1100, 1000]
    assert [one["rank"] for one in ranking] == [1, 2, 3, 4]
    assert [one["azimuth_deg"] for one in ranking[1:3]] == [90, 180]
    assert solar.rank(results[::-1]) == ranking


def test_postprocess_writes_the_same_ranking_as_csv_and_json_and_draws_it(solar: ModuleType, tmp_path: Path) -> None:
    made = solar.postprocess(fake_results(solar), tmp_path / "new" / "folder")
    ranking = json.loads(Path(made["ranking_json"]).read_text(encoding="utf-8"))
    with Path(made["ranking_csv"]).open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert rows == [{name: str(value) for name, value in one.items()} for one in ranking]
    assert made["best"] == ranking[0]
    assert made["best"]["tilt_deg"] == 30
    assert made["designs"] == 4
    assert png_size(Path(made["picture"])) == importlib.import_module("picture").PIXELS


@pytest.mark.parametrize("count", [1, 2, 3])
def test_a_picture_of_too_few_designs_for_a_surface_is_drawn_all_the_same(
    solar: ModuleType, tmp_path: Path, count: int
) -> None:
    made = solar.postprocess(fake_results(solar)[:count], tmp_path)
    assert png_size(Path(made["picture"])) == (1440, 900)


def test_a_ranking_of_nothing_is_refused(solar: ModuleType, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="nothing to rank"):
        solar.postprocess([], tmp_path)


def png_size(path: Path) -> tuple[int, int]:
    data = path.read_bytes()
    assert data.startswith(b"\x89PNG\r\n\x1a\n")
    assert data.endswith(b"IEND\xaeB`\x82")
    width, height = struct.unpack(">II", data[16:24])
    return width, height


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """The example as a user has it: a folder somewhere, no checkout around it."""
    folder = tmp_path / "my solar"
    shutil.copytree(EXAMPLE, folder, ignore=shutil.ignore_patterns("out", "__pycache__", ".*"))
    return folder


def start(folder: Path, *command: str, **environ: str) -> subprocess.CompletedProcess[str]:
    runs = str(folder / "runs")
    env = {name: value for name, value in os.environ.items() if not name.startswith(("SCALABLE_", "PREFECT_"))}
    return subprocess.run(
        [sys.executable, *command],
        cwd=folder,
        env=env | {"SCALABLE_RUNS_DIR": runs} | environ,
        capture_output=True,
        text=True,
        check=False,
        timeout=170,
    )


def expected_ranking(solar: ModuleType) -> list[dict[str, Any]]:
    return list(solar.rank(map(solar.simulate, solar.grid("small"))))


@pytest.mark.slow
@pytest.mark.parametrize("target", ["local", "threads"])
def test_the_script_ranks_as_plain_python_does(solar: ModuleType, copy: Path, target: str) -> None:
    done = start(copy, "script.py", "--size", "small", "--out", "here", "--target", target)
    assert done.returncode == 0, done.stderr
    assert "best of 15: tilt 30°, azimuth 180°" in done.stdout
    assert json.loads((copy / "here" / "ranking.json").read_text(encoding="utf-8")) == expected_ranking(solar)


@pytest.mark.slow
def test_the_script_uses_the_session_that_the_command_line_hands_it(copy: Path) -> None:
    command = "import sys; from scalable.cli import main; sys.exit(main())"
    arguments = ("run", "scalable.yaml", "--target", "threads", "--workflow", "script.py")
    done = start(copy, "-c", command, *arguments)
    assert done.returncode == 0, done.stderr
    assert (copy / "out" / "script" / "ranking.json").is_file()
    assert len(list((copy / "runs").glob("run-*"))) == 1


@pytest.mark.slow
@pytest.mark.engine
def test_the_demo_ranks_alike_with_a_script_with_prefect_and_with_snakemake(solar: ModuleType, copy: Path) -> None:
    done = start(copy, "demo.py", "--out", "made here")
    assert done.returncode == 0, done.stdout + done.stderr
    out = copy / "made here"
    rankings = [json.loads((out / one / "ranking.json").read_text()) for one in ("script", "flow", "snakemake")]
    assert rankings[0] == rankings[1] == rankings[2] == expected_ranking(solar)
    assert "The three rankings are equal: 15 designs each." in done.stdout
    assert steady(done.stdout) == steady(block(README, "text", "Yearly yield"))
    for one, tasks in (("script", 16), ("flow", 16), ("snakemake", 4)):
        assert png_size(out / one / "yield.png") == (1440, 900)
        assert str(Path("made here") / one / "report.txt") in done.stdout
        assert f"Tasks: {tasks} completed, 0 failed" in (out / one / "report.txt").read_text(encoding="utf-8")
    assert {path.name for path in copy.iterdir()} - {path.name for path in EXAMPLE.iterdir()} <= {
        "made here",
        "__pycache__",
    }


@pytest.mark.slow
@pytest.mark.engine
def test_the_demo_says_which_engine_failed_and_why(copy: Path) -> None:
    script = copy / "script.py"
    script.write_text("raise SystemExit('no sun today')\n", encoding="utf-8")
    done = start(copy, "demo.py")
    assert done.returncode == 1
    assert "plain script failed" in done.stdout
    assert "no sun today" in done.stdout


@pytest.fixture
def demo(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(EXAMPLE))
    return importlib.import_module("demo")


def write_rankings(folder: Path, **tilts: list[int]) -> None:
    for name, ranked in tilts.items():
        (folder / name).mkdir()
        ranking = [{"rank": rank, "tilt_deg": tilt} for rank, tilt in enumerate(ranked, start=1)]
        (folder / name / "ranking.json").write_text(json.dumps(ranking), encoding="utf-8")


def test_equal_rankings_compare_equal(demo: ModuleType, tmp_path: Path) -> None:
    write_rankings(tmp_path, script=[30, 15], flow=[30, 15], snakemake=[30, 15])
    assert demo.compare(tmp_path) == 2


def test_the_demo_fails_where_two_rankings_differ(demo: ModuleType, tmp_path: Path) -> None:
    write_rankings(tmp_path, script=[30, 15], flow=[30, 15], snakemake=[30, 16])
    with pytest.raises(demo.DemoError, match=r"script and snakemake differ at rank 2:(?s:.)*15(?s:.)*16"):
        demo.compare(tmp_path)


def test_the_demo_fails_where_a_ranking_lacks_a_design(demo: ModuleType, tmp_path: Path) -> None:
    write_rankings(tmp_path, script=[30, 15], flow=[30], snakemake=[30, 15])
    with pytest.raises(demo.DemoError, match="script ranked 2 designs, flow 1"):
        demo.compare(tmp_path)
