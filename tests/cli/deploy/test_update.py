"""`scalable deploy prefect` where the file is there: what it brings up to date, and what is the user's."""

from __future__ import annotations

from pathlib import Path

import pytest

from scalable.cli import main
from tests.cli.deploy.project import Deploy, edit, variables

pytestmark = pytest.mark.engine


def test_writing_again_touches_nothing(deploy: Deploy, capsys: pytest.CaptureFixture[str]) -> None:
    deploy("--param", "count=4")
    before, stat = Path("prefect.yaml").read_bytes(), Path("prefect.yaml").stat()
    capsys.readouterr()
    deploy("--param", "count=4")
    assert Path("prefect.yaml").read_bytes() == before
    assert Path("prefect.yaml").stat().st_ino == stat.st_ino
    assert capsys.readouterr().out.startswith("prefect.yaml: 5 unchanged\n")


def test_what_changed_in_the_manifest_is_brought_in_and_what_the_user_changed_stays(
    deploy: Deploy, capsys: pytest.CaptureFixture[str]
) -> None:
    deploy("--target", "cloud")
    edit("namespace: flows", "namespace: mine")
    edit("  tags:\n  - scalable\n", "  tags:\n  - nightly\n  - scalable\n")
    edit("      service_account_name: runner\n", "      finished_job_ttl: 60\n")
    edit("namespace: flows", "namespace: theirs", "scalable.yaml")
    edit("registry.example/study:1", "registry.example/study:2", "scalable.yaml")
    capsys.readouterr()
    (cloud,) = deploy("--target", "cloud")
    job = variables(cloud)
    assert cloud["tags"] == ["nightly", "scalable", "target:cloud"]
    assert (job["namespace"], job["image"], job["finished_job_ttl"]) == ("mine", "registry.example/study:2", 60)
    assert "service_account_name" not in job
    out = capsys.readouterr().out
    assert "cloud  updated\n           updated: work_pool.job_variables.image\n" in out
    assert "kept as you have it: tags, work_pool.job_variables.namespace, " in out


def test_what_the_manifest_no_longer_says_is_removed_unless_the_user_changed_it(deploy: Deploy) -> None:
    deploy("--target", "cloud")
    edit("service_account_name: runner", "service_account_name: mine")
    edit("    image: registry.example/study:1\n    service_account: runner\n", "", "scalable.yaml")
    (cloud,) = deploy("--target", "cloud")
    assert "image" not in variables(cloud)
    assert variables(cloud)["service_account_name"] == "mine"


def test_a_deployment_that_was_removed_comes_back_only_by_name(
    deploy: Deploy, capsys: pytest.CaptureFixture[str]
) -> None:
    deploy("--target", "hpc", "--target", "laptop")
    text = Path("prefect.yaml").read_text()
    Path("prefect.yaml").write_text(text[: text.index("- name: laptop")] + text[text.index("\n# By the lines") :])
    capsys.readouterr()
    assert "laptop" not in [one["name"] for one in deploy()]
    assert "you removed it; --target laptop brings it back" in capsys.readouterr().out
    assert "laptop" in [one["name"] for one in deploy("--target", "laptop")]


def test_a_deployment_that_was_renamed_is_still_its_targets(deploy: Deploy) -> None:
    deploy("--target", "cloud")
    edit("- name: cloud", "- name: nightly")
    edit("registry.example/study:1", "registry.example/study:2", "scalable.yaml")
    (nightly,) = deploy("--target", "cloud")
    assert (nightly["name"], variables(nightly)["image"]) == ("nightly", "registry.example/study:2")


def test_what_an_option_said_stays_without_it_and_what_it_says_goes_before_an_edit(deploy: Deploy) -> None:
    deploy("--target", "hpc", "--param", "count=4", "--concurrency-limit", "2", "--work-pool", "login")
    (hpc,) = deploy("--target", "hpc")
    assert (hpc["parameters"], hpc["concurrency_limit"], hpc["work_pool"]["name"]) == ({"count": 4}, 2, "login")
    edit("concurrency_limit: 2", "concurrency_limit: 7")
    assert deploy("--target", "hpc")[0]["concurrency_limit"] == 7
    assert deploy("--target", "hpc", "--concurrency-limit", "3")[0]["concurrency_limit"] == 3


@pytest.mark.parametrize("damage", ["# scalable: {not json", '# scalable: {"entrypoint": 1, "written": [1]}', ""])
def test_without_the_lines_that_tell_everything_that_stands_there_is_the_users(deploy: Deploy, damage: str) -> None:
    deploy("--target", "cloud")
    lines = Path("prefect.yaml").read_text().splitlines()
    Path("prefect.yaml").write_text("\n".join(damage if one.startswith("# scalable:") else one for one in lines))
    edit("registry.example/study:1", "registry.example/study:2", "scalable.yaml")
    (cloud,) = deploy("--target", "cloud")
    assert variables(cloud)["image"] == "registry.example/study:1"


COMMENTED = """\
# Ours.
name: 'study'  # quoted by hand

deployments:
  # The first.
  - name: other
    entrypoint: "other.py:other"
    schedules:
      - cron: "0 * * * *"
        # not in winter

  # Now the one that Scalable writes.
  - name: laptop   # mine
    entrypoint: flow.py:pipeline  # from here

  # The last, which stays where it is.
  - name: third
    entrypoint: third.py:third
    parameters: {on: yes, octal: 010}   # as Prefect reads it
# The end.
"""


def test_other_deployments_comments_and_the_layout_survive(here: Path, deploy: Deploy) -> None:
    (here / "prefect.yaml").write_text(COMMENTED)
    deploy("--target", "laptop")
    text = (here / "prefect.yaml").read_text()
    mine = "    entrypoint: flow.py:pipeline  # from here\n"
    before, after = COMMENTED.split(mine)
    assert text.startswith(before + mine + "    tags:\n      - scalable\n      - target:laptop\n    work_pool:\n")
    assert after in text


def test_a_comment_after_the_last_line_stays_there_when_the_last_line_is_removed(here: Path, deploy: Deploy) -> None:
    edit("    task_role_arn: arn:aws:iam::1:role/task\n", "", "scalable.yaml")
    deploy("--target", "aws")
    edit("        AWS_DEFAULT_REGION: eu-central-1\n", "        AWS_DEFAULT_REGION: eu-central-1\n\n# The end.\n")
    edit("    region: eu-central-1\n", "", "scalable.yaml")
    deploy("--target", "aws")
    assert "        SCALABLE_TARGET: aws\n\n# The end.\n" in Path("prefect.yaml").read_text()


def test_a_file_of_comments_keeps_them(here: Path, deploy: Deploy) -> None:
    (here / "prefect.yaml").write_text("# Nothing yet.\n")
    deploy("--target", "hpc")
    assert Path("prefect.yaml").read_text().startswith("# Nothing yet.\ndeployments:\n- name: hpc\n")


@pytest.mark.parametrize("shared", ["work_pool: *pool", "work_pool:\n    <<: *pool"])
def test_what_two_deployments_share_is_not_changed_for_one(here: Path, deploy: Deploy, shared: str) -> None:
    (here / "prefect.yaml").write_text(
        "deployments:\n- name: other\n  entrypoint: other.py:other\n  work_pool: &pool\n    name: pool\n"
        f"    job_variables: {{env: {{A: b}}}}\n- name: hpc\n  entrypoint: flow.py:pipeline\n  {shared}\n"
    )
    other, hpc = deploy("--target", "hpc")
    assert other["work_pool"] == {"name": "pool", "job_variables": {"env": {"A": "b"}}} == hpc["work_pool"]


def test_line_ends_links_and_rights_stay(here: Path, deploy: Deploy) -> None:
    (here / "real.yaml").write_bytes(b"name: study\r\ndeployments: []\r\n")
    (here / "real.yaml").chmod(0o600)
    (here / "prefect.yaml").symlink_to("real.yaml")
    deploy("--target", "hpc")
    assert (here / "prefect.yaml").is_symlink()
    assert (here / "real.yaml").stat().st_mode & 0o777 == 0o600
    data = (here / "real.yaml").read_bytes()
    assert data.count(b"\n") == data.count(b"\r\n") > 5


def test_a_write_that_fails_leaves_the_file_as_it_was(
    here: Path, deploy: Deploy, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (here / "prefect.yaml").write_text(COMMENTED)

    def full(self: Path, target: Path) -> Path:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", full)
    assert main(["deploy", "prefect", "--flow", "flow.py:pipeline"]) == 1
    assert "prefect.yaml cannot be written: No space left on device" in capsys.readouterr().err
    assert (here / "prefect.yaml").read_text() == COMMENTED
    assert sorted(path.name for path in here.iterdir()) == ["flow.py", "prefect.yaml", "scalable.yaml"]


def test_a_dry_run_prints_what_would_be_written(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ["deploy", "prefect", "--flow", "flow.py:pipeline"]
    assert main([*options, "--dry-run"]) == 0
    printed = capsys.readouterr()
    assert not (here / "prefect.yaml").exists()
    assert printed.err.startswith("prefect.yaml (not written): 5 added\n")
    assert main(options) == 0
    assert printed.out == (here / "prefect.yaml").read_text()
