"""The solar example as a plain script.

``python script.py --size small --out out/script``, or with the session that the command line starts:
``scalable run scalable.yaml --target local --workflow script.py``.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from solar import grid, postprocess, simulate

from scalable import ScalableSession

HERE = Path(__file__).resolve().parent


def main(session: ScalableSession, size: str, out: Path) -> None:
    client = session.start()
    designs = grid(size)
    features = [{"tilt_deg": one.tilt_deg, "azimuth_deg": one.azimuth_deg} for one in designs]
    results = client.map(simulate, designs, tag="simulate", features=features)
    made = client.submit(postprocess, results, out, tag="postprocess").result()
    session.record_artifact("yield surface", made["picture"], kind="image")
    session.record_artifact("ranking", made["ranking_csv"])
    best = made["best"]
    print(f"best of {made['designs']}: tilt {best['tilt_deg']:g}°, azimuth {best['azimuth_deg']:g}°, ", end="")
    print(f"{best['yield_kwh']:,.0f} kWh a year; {made['picture']}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Rank designs of a solar plant with a plain script.")
    parser.add_argument("--size", choices=("small", "large"), default="small")
    parser.add_argument("--out", type=Path, default=HERE / "out" / "script")
    parser.add_argument("--target", default=os.environ.get("SCALABLE_TARGET", "local"))
    options = parser.parse_args()
    started = globals().get("session")  # `scalable run` puts it there
    if started is not None:
        main(started, options.size, options.out.resolve())
    else:
        with ScalableSession.from_yaml(HERE / "scalable.yaml", target=options.target) as session:
            main(session, options.size, options.out.resolve())
