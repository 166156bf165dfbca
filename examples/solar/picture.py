"""The picture of the example: yearly yield over tilt and azimuth."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from scipy.interpolate import RectBivariateSpline

__all__ = ["PIXELS", "draw"]

PIXELS = (1440, 900)
_DPI = 160
_COLOURS = "inferno"
_COMPASS = {0: "N", 45: "NE", 90: "E", 135: "SE", 180: "S", 225: "SW", 270: "W", 315: "NW"}
_HARDWARE = ("module", "inverter", "modules_per_string", "strings")
_INK = "#1c1c28"
_GREY = "#55556b"


def draw(ranking: Sequence[Mapping[str, Any]], path: str | Path, *, place: str = "") -> None:
    """Draw the yield surface of the hardware that the best design uses.

    Parameters
    ----------
    ranking : sequence of dict
        Results, the best one first.
    path : path
        The PNG to write, 1440 by 900 pixels.
    place : str, optional
        What to name as the weather's origin.
    """
    best = ranking[0]
    shown = [one for one in ranking if all(one[name] == best[name] for name in _HARDWARE)]
    figure = Figure(figsize=(PIXELS[0] / _DPI, PIXELS[1] / _DPI), dpi=_DPI, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    values = [one["yield_kwh_per_kw"] for one in shown]
    norm = Normalize(min(values), max(values))
    _surface(axes, shown, norm)
    _designs(axes, shown, norm)
    _mark_best(axes, best)
    _label(axes, best, place)
    bar = figure.colorbar(ScalarMappable(norm, _COLOURS), ax=axes, pad=0.02, aspect=28)
    bar.set_label("Yearly yield (kWh per kW of modules)", color=_INK)
    bar.outline.set_visible(False)
    figure.savefig(path)


def _surface(axes: Axes, shown: Sequence[Mapping[str, Any]], norm: Normalize) -> None:
    yields = {(one["tilt_deg"], one["azimuth_deg"]): one["yield_kwh_per_kw"] for one in shown}
    tilts, azimuths = (sorted({key[axis] for key in yields}) for axis in (0, 1))
    if len(tilts) < 2 or len(azimuths) < 2 or len(yields) < len(tilts) * len(azimuths):
        return
    known = np.array([[yields[tilt, azimuth] for azimuth in azimuths] for tilt in tilts])
    spline = RectBivariateSpline(tilts, azimuths, known, kx=min(3, len(tilts) - 1), ky=min(3, len(azimuths) - 1))
    fine_tilts, fine_azimuths = (np.linspace(one[0], one[-1], 200) for one in (tilts, azimuths))
    surface = spline(fine_tilts, fine_azimuths)
    axes.pcolormesh(fine_azimuths, fine_tilts, surface, norm=norm, cmap=_COLOURS, shading="gouraud", rasterized=True)
    levels = MaxNLocator(9).tick_values(float(known.min()), float(known.max()))
    ink = [_INK if norm(level) > 0.75 else "white" for level in levels]
    lines = axes.contour(fine_azimuths, fine_tilts, surface, levels=levels, colors=ink, linewidths=0.7, alpha=0.7)
    axes.clabel(lines, fmt="%.0f", fontsize=8)
    axes.set_xlim(azimuths[0], azimuths[-1])
    axes.set_ylim(tilts[0], tilts[-1])
    note = "dots: simulated; interpolated between"
    axes.text(1, 1.02, note, transform=axes.transAxes, ha="right", color=_GREY, fontsize=8)


def _designs(axes: Axes, shown: Sequence[Mapping[str, Any]], norm: Normalize) -> None:
    axes.scatter(
        [one["azimuth_deg"] for one in shown],
        [one["tilt_deg"] for one in shown],
        c=[one["yield_kwh_per_kw"] for one in shown],
        norm=norm,
        cmap=_COLOURS,
        s=14 if len(shown) > 40 else 34,
        edgecolors="white",
        linewidths=0.8,
        clip_on=False,
        zorder=3,
    )


def _mark_best(axes: Axes, best: Mapping[str, Any]) -> None:
    where = (best["azimuth_deg"], best["tilt_deg"])
    (left, right), (bottom, top) = axes.get_xlim(), axes.get_ylim()
    across = (where[0] - left) / (right - left)
    low = (where[1] - bottom) / (top - bottom) < 0.3
    axes.plot(*where, marker="*", markersize=20, color="#27d3a2", markeredgecolor=_INK, clip_on=False, zorder=5)
    axes.annotate(
        f"best: {best['yield_kwh_per_kw']:,.0f} kWh/kW, {best['yield_kwh']:,.0f} kWh a year\n"
        f"tilt {best['tilt_deg']:g}°, azimuth {best['azimuth_deg']:g}°",
        where,
        xytext=(0, 18 if low else -18),
        textcoords="offset points",
        ha="left" if across < 0.2 else "right" if across > 0.8 else "center",
        va="bottom" if low else "top",
        color=_INK,
        fontsize=9,
        bbox={"boxstyle": "round,pad=0.5", "facecolor": "white", "edgecolor": "none", "alpha": 0.92},
        zorder=4,
    )


def _label(axes: Axes, best: Mapping[str, Any], place: str) -> None:
    title = f"{_spoken(best['module'])}, {best['strings']} × {best['modules_per_string']} modules"
    axes.set_title(title, loc="left", color=_INK, fontsize=12, fontweight="bold", pad=24)
    under = f"{_spoken(best['inverter'])}, {best['peak_kw']:.1f} kW of modules"
    axes.text(0, 1.02, f"{under} · {place}" if place else under, transform=axes.transAxes, color=_GREY, fontsize=9)
    axes.set_xlabel("Azimuth (degrees clockwise from north)", color=_INK)
    axes.set_ylabel("Tilt (degrees from horizontal)", color=_INK)
    low, high = axes.get_xlim()
    ticks = [degrees for degrees in _COMPASS if low <= degrees <= high]
    if ticks:
        axes.set_xticks(ticks, [f"{_COMPASS[degrees]}\n{degrees}°" for degrees in ticks])
    axes.yaxis.set_major_formatter("{x:g}°")
    axes.spines[:].set_visible(False)
    axes.tick_params(colors=_INK, length=0, pad=7)


def _spoken(name: str) -> str:
    return " ".join(name.replace("_", " ").split())
