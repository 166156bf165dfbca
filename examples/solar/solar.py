"""The science of the example: the yearly yield of a solar power plant, and the ranking of many."""

from __future__ import annotations

import csv
import difflib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from itertools import product
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeAlias

import numpy as np
import pandas as pd
import pvlib
from pvlib import iotools, location, modelchain, pvsystem, temperature

__all__ = ["Design", "DesignError", "Result", "Size", "check", "grid", "postprocess", "rank", "simulate"]

Result: TypeAlias = dict[str, Any]
Size: TypeAlias = Literal["small", "large"]

# What pvlib's own sample data holds: a typical year of Greensboro, North Carolina.
STATION = "723170TYA.CSV"
PLACE = "Greensboro NC (TMY3 723170)"
# Per cent of the modules' power, as PVWatts assumes them for a plant that nothing shades.
SYSTEM_LOSSES = {
    "soiling": 2,
    "shading": 0,
    "snow": 0,
    "mismatch": 2,
    "wiring": 2,
    "connections": 0.5,
    "lid": 1.5,
    "nameplate_rating": 1,
    "age": 0,
    "availability": 3,
}
_REFERENCE_CELL_C = 25.0


class DesignError(ValueError):
    """A design that cannot be built; the message says why, and what could be."""


@dataclass(frozen=True, slots=True, order=True)
class Design:
    """One plant: what it is made of and how it stands.

    Attributes
    ----------
    module, inverter : str
        Names from the CEC lists that come with pvlib.
    tilt_deg : float
        Degrees from the horizontal: 0 lies flat, 90 stands upright.
    azimuth_deg : float
        Degrees clockwise from north: 180 looks south.
    modules_per_string : int
        Modules in series.
    strings : int
        Strings in parallel on the inverter.
    """

    module: str = "Canadian_Solar_Inc__CS6K_300MS"
    inverter: str = "SMA_America__SB5_0_1SP_US_40__240V_"
    tilt_deg: float = 30.0
    azimuth_deg: float = 180.0
    modules_per_string: int = 10
    strings: int = 2


class _Weather(NamedTuple):
    """A typical year at one place: hourly means, and the extremes of the air in °C."""

    site: location.Location
    hours: pd.DataFrame
    coldest_c: float
    hottest_c: float


_HARDWARE = (
    ("Canadian_Solar_Inc__CS6K_300MS", "SMA_America__SB5_0_1SP_US_40__240V_", 10, 2),
    ("LG_Electronics_Inc__LG340N1C_A5", "SMA_America__SB6_0_1SP_US_40__240V_", 10, 2),
    ("Hanwha_Q_CELLS_Q_PEAK_DUO_G5_325", "Fronius_USA__Fronius_Primo_5_0_1_208_240__240V_", 17, 1),
    ("SunPower_SPR_X22_360", "Fronius_USA__Fronius_Primo_7_6_1_208_240__240V_", 10, 2),
)
# Hardware, tilts and azimuths in degrees.
_GRIDS: dict[Size, tuple[Sequence[tuple[str, str, int, int]], Iterable[int], Iterable[int]]] = {
    "small": (_HARDWARE[:1], (15, 30, 45), (90, 135, 180, 225, 270)),
    "large": (_HARDWARE, range(0, 61, 5), range(90, 271, 15)),
}


def grid(size: Size = "small") -> list[Design]:
    """Return the designs to compare.

    Parameters
    ----------
    size : {"small", "large"}
        15 designs of one plant, or 676 of four.

    Raises
    ------
    ValueError
        If there is no such size.
    """
    if size not in _GRIDS:
        raise ValueError(f"there is no grid '{size}'; known: {', '.join(_GRIDS)}")
    hardware, tilts, azimuths = _GRIDS[size]
    return [
        Design(module, inverter, float(tilt), float(azimuth), in_series, strings)
        for (module, inverter, in_series, strings), tilt, azimuth in product(hardware, tilts, azimuths)
    ]


def check(design: Design) -> None:
    """Refuse a design that cannot be built.

    Raises
    ------
    DesignError
        If a name is unknown, an angle or a count is out of range, or the
        string's voltage leaves what the inverter bears on the coldest morning
        or tracks on the hottest noon.
    """
    module, inverter = _parts(design)
    for name, most in (("tilt_deg", 90), ("azimuth_deg", 360)):
        if not 0 <= getattr(design, name) <= most:
            raise DesignError(f"{name} is {getattr(design, name):g}; it must lie within 0 and {most} degrees")
    for name in ("modules_per_string", "strings"):
        if getattr(design, name) < 1:
            raise DesignError(f"{name} is {getattr(design, name)}; it must be at least 1")
    _check_voltage(design, module, inverter)


def simulate(design: Design) -> Result:
    """Compute the yearly yield of a design from sun, weather and wiring.

    Parameters
    ----------
    design : Design
        What to simulate.

    Returns
    -------
    dict
        The design's fields, ``peak_kw``, ``yield_kwh`` and ``yield_kwh_per_kw``
        a year, ``sun_kwh_per_m2`` on the module plane, and where energy is lost
        on the way, each as per cent of what reaches that stage:
        ``reflection_loss_pct``, ``module_loss_pct`` (heat and weak light),
        ``system_loss_pct`` and ``inverter_loss_pct`` (with what it cuts off).

    Raises
    ------
    DesignError
        If it cannot be built.
    """
    check(design)
    module, inverter = _parts(design)
    array = pvsystem.Array(
        pvsystem.FixedMount(design.tilt_deg, design.azimuth_deg),
        module_parameters=module,
        temperature_model_parameters=temperature.TEMPERATURE_MODEL_PARAMETERS["sapm"]["open_rack_glass_polymer"],
        modules_per_string=design.modules_per_string,
        strings=design.strings,
    )
    weather = _weather()
    chain = modelchain.ModelChain(
        pvsystem.PVSystem([array], inverter_parameters=inverter),
        weather.site,
        aoi_model="physical",
        spectral_model="no_loss",
        losses_model=_lose_in_system,
    )
    # At night pvlib divides nothing by nothing, and then writes zero.
    with np.errstate(invalid="ignore"):
        chain.run_model(weather.hours)
    peak_kw = float(module["STC"]) * design.modules_per_string * design.strings / 1000
    return asdict(design) | _summary(chain.results, peak_kw)


def rank(results: Iterable[Mapping[str, Any]]) -> list[Result]:
    """Return the results from the best yield per installed kW to the worst, each with its ``rank``."""
    fields = tuple(Design.__dataclass_fields__)
    ordered = sorted(results, key=lambda one: (-one["yield_kwh_per_kw"], *(one[name] for name in fields)))
    return [{"rank": place, **one} for place, one in enumerate(ordered, start=1)]


def postprocess(results: Sequence[Mapping[str, Any]], out_dir: str | Path) -> Result:
    """Rank the designs, and draw the yield over tilt and azimuth.

    Parameters
    ----------
    results : sequence of dict
        What :func:`simulate` returned.
    out_dir : path
        Directory for ``ranking.csv``, ``ranking.json`` and ``yield.png``; made if needed.

    Returns
    -------
    dict
        ``best``, ``designs`` (how many), and the three paths as text:
        ``ranking_csv``, ``ranking_json`` and ``picture``.

    Raises
    ------
    ValueError
        If there are no results.
    """
    if not results:
        raise ValueError("nothing to rank: give at least one result of simulate()")
    folder = Path(out_dir)
    folder.mkdir(parents=True, exist_ok=True)
    ranking = rank(results)
    table, data, picture = folder / "ranking.csv", folder / "ranking.json", folder / "yield.png"
    data.write_text(json.dumps(ranking, indent=1) + "\n", encoding="utf-8")
    with table.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, fieldnames=list(ranking[0]))
        writer.writeheader()
        writer.writerows(ranking)
    # Only ranking draws: whoever simulates is spared the import.
    from picture import draw  # noqa: PLC0415

    draw(ranking, picture, place=PLACE)
    return {
        "best": ranking[0],
        "designs": len(ranking),
        "ranking_csv": str(table),
        "ranking_json": str(data),
        "picture": str(picture),
    }


@lru_cache(maxsize=1)
def _weather() -> _Weather:
    path = Path(pvlib.__file__).parent / "data" / STATION
    hours, station = iotools.read_tmy3(path, coerce_year=1990, map_variables=True)
    hours = hours[["ghi", "dni", "dhi", "temp_air", "wind_speed"]].astype(float)
    # TMY3 stamps the end of the hour; the sun's mean place is that of its middle.
    hours.index = hours.index - pd.Timedelta(minutes=30)
    air = hours["temp_air"]
    return _Weather(location.Location.from_tmy(station), hours, float(air.min()), float(air.max()))


@lru_cache(maxsize=2)
def _catalogue(kind: Literal["CECMod", "CECInverter"]) -> pd.DataFrame:
    return pvsystem.retrieve_sam(kind)


def _part(kind: Literal["CECMod", "CECInverter"], word: str, name: str) -> pd.Series:
    known = _catalogue(kind)
    if name not in known:
        near = difflib.get_close_matches(name, known.columns, n=3, cutoff=0.4)
        hint = f"nearest: {', '.join(near)}" if near else f"the list has {known.shape[1]:,}, none like it"
        raise DesignError(f"there is no {word} '{name}'; {hint}")
    return known[name]


def _parts(design: Design) -> tuple[pd.Series, pd.Series]:
    return _part("CECMod", "module", design.module), _part("CECInverter", "inverter", design.inverter)


def _check_voltage(design: Design, module: pd.Series, inverter: pd.Series) -> None:
    weather = _weather()
    in_series = design.modules_per_string
    cold = module["V_oc_ref"] + module["beta_oc"] * (weather.coldest_c - _REFERENCE_CELL_C)
    if in_series * cold > inverter["Vdcmax"]:
        raise DesignError(
            f"{in_series} modules in series reach {in_series * cold:.0f} V at {weather.coldest_c:.0f} °C, "
            f"more than the {inverter['Vdcmax']:.0f} V that {design.inverter} bears; "
            f"put at most {inverter['Vdcmax'] // cold:.0f} in series"
        )
    # A cell in full sun is as much warmer than the air as its nominal temperature, given at 800 W/m2, says.
    cell_c = weather.hottest_c + (module["T_NOCT"] - 20) / 0.8
    hot = module["V_mp_ref"] + module["beta_oc"] * (cell_c - _REFERENCE_CELL_C)
    if in_series * hot < inverter["Mppt_low"]:
        raise DesignError(
            f"{in_series} modules in series fall to {in_series * hot:.0f} V with cells at {cell_c:.0f} °C, "
            f"less than the {inverter['Mppt_low']:.0f} V that {design.inverter} needs; "
            f"put at least {-(-inverter['Mppt_low'] // hot):.0f} in series"
        )


def _lose_in_system(chain: Any) -> None:
    chain.results.losses = 1 - pvsystem.pvwatts_losses(**SYSTEM_LOSSES) / 100
    chain.results.dc["p_mp"] *= chain.results.losses


def _summary(results: Any, peak_kw: float) -> Result:
    sun = results.total_irrad["poa_global"].sum() / 1000
    absorbed = results.effective_irradiance.sum() / 1000
    delivered = results.dc["p_mp"].sum() / 1000
    generated = delivered / results.losses
    fed_in = results.ac.sum() / 1000
    # Rounded far above the noise of floating point, so that a result is the same wherever it is computed.
    return {
        "peak_kw": round(peak_kw, 3),
        "yield_kwh": round(float(fed_in), 2),
        "yield_kwh_per_kw": round(float(fed_in / peak_kw), 3),
        "sun_kwh_per_m2": round(float(sun), 2),
        "reflection_loss_pct": _loss(sun, absorbed),
        "module_loss_pct": _loss(absorbed * peak_kw, generated),
        "system_loss_pct": _loss(generated, delivered),
        "inverter_loss_pct": _loss(delivered, fed_in),
    }


def _loss(before: float, after: float) -> float:
    return round(float(100 * (1 - after / before)), 3)
