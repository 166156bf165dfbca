"""The page on costs says what is so."""

from __future__ import annotations

from pathlib import Path

import pytest

from scalable.manifest import load
from scalable.pricing.tables import tables
from scalable.providers.prices import rates_of
from scalable.providers.registry import catalogue, check
from scalable.spec import resolve
from tests.pages import ROOT, block

PAGE = (ROOT / "docs/how-to/what-it-costs.md").read_text(encoding="utf-8")


def test_its_manifest_costs_what_it_says(tmp_path: Path) -> None:
    (tmp_path / "scalable.yaml").write_text(block(PAGE, "yaml"))
    spec = resolve(load(tmp_path / "scalable.yaml", target="hpc", catalogue=catalogue))
    assert rates_of(spec)["simulate"].usd(3600) == pytest.approx(0.08)
    assert "costs 0.08 dollars an hour" in " ".join(PAGE.split())


def test_its_warning_is_the_one_that_comes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    target = "    provider: aws\n    cluster_type: ec2\n    region: us-east-1\n    instance_type: m9.large\n"
    Path("scalable.yaml").write_text(f"version: 1\nproject: {{name: study}}\ntargets:\n  cloud:\n{target}")
    spec = resolve(load("scalable.yaml", target="cloud", catalogue=catalogue))
    assert [str(issue) for issue in check(spec).issues] == [block(PAGE, "text", "m9.large").strip()]


def test_it_lists_the_families_and_counts_the_regions_that_the_tables_have() -> None:
    words = " ".join(PAGE.split())
    ec2 = [table for table in tables() if table.service == "ec2"]
    for table in ec2:
        families = list(dict.fromkeys(name.partition(".")[0] for name in table.prices))
        assert f"{', '.join(families[:-1])} and {families[-1]} in " in words
        assert all(region in words for region in table.regions)
    counts = {name: sum(len(one.regions) for one in tables() if one.service == name) for name in ("fargate", "gce")}
    assert counts == {"fargate": 9, "gce": 7}
    assert "Fargate: nine regions" in words
    assert "c2 and c3 in seven regions" in words
