"""Parts of the documentation that are made from the code, so that they cannot lag behind it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from docutils import nodes
from docutils.parsers.rst import Directive
from sphinx.application import Sphinx

from scalable.manifest.codes import CODES
from scalable.pools.shape import PoolShape
from scalable.providers.batch.queue import comment_of
from scalable.providers.batch.script import Launch, TlsFiles, job_script
from scalable.providers.batch.systems import SYSTEMS
from scalable.providers.options.batch import SlurmOptions
from scalable.spec import ComponentSpec, ResourceRequest
from scalable.telemetry.owner import Owner


def _row(texts: tuple[str, ...], first: type[nodes.TextElement] | None = None) -> nodes.row:
    row = nodes.row()
    for number, text in enumerate(texts):
        cell = first(text, text) if first is not None and number == 0 else nodes.Text(text)
        row += nodes.entry("", nodes.paragraph("", "", cell))
    return row


def _table(titles: tuple[str, ...], rows: list[tuple[str, ...]]) -> nodes.table:
    group = nodes.tgroup("", *(nodes.colspec(colwidth=width) for width in (30, 70)), cols=len(titles))
    group += nodes.thead("", _row(titles))
    group += nodes.tbody("", *(_row(row, nodes.literal) for row in rows))
    return nodes.table("", group)


class ManifestCodes(Directive):
    """Every code that a manifest's problems have."""

    def run(self) -> list[nodes.Node]:
        """Return the table."""
        return [_table(("code", "meaning"), sorted(CODES.items()))]


def example_script() -> str:
    """Return the script of an array of jobs, the worker's command broken into lines that can be read."""
    run_id = "run-20260520T101500Z-first-run-1f0a9b3c"
    run_dir = Path("/home/ada/study/.scalable/runs") / run_id
    tls = run_dir / "scalable-tls-k3v8x2qa"
    component = ComponentSpec(
        "simulate", ResourceRequest(cpus=4, memory_bytes=8 * 2**30), env={"GCAM_DATA": "/data/gcam"}
    )
    options = SlurmOptions.model_validate(
        {
            "queue": "main",
            "account": "science",
            "walltime": "2h",
            "interface": "ib0",
            "python": "/home/ada/scalable-env/bin/python",
        }
    )
    launch = Launch(
        run_id=run_id,
        scheduler_address="tls://10.0.0.1:8786",
        log_directory=run_dir / "jobs",
        tls=TlsFiles(tls, tls / "ca.pem", tls / "cert.pem", tls / "key.pem"),
        comment=comment_of("simulate", Owner("login1", 4242, 123456)),
    )
    shape = PoolShape.of(component)
    text = job_script(SYSTEMS["slurm"], options, shape, launch, group=0, workers=1, array=True)
    *lines, worker = text.strip().splitlines()
    return "\n".join([*lines, worker.replace(" --", " \\\n    --")])


class JobScript(Directive):
    """A script as Slurm gets it."""

    def run(self) -> list[nodes.Node]:
        """Return the text."""
        text = example_script()
        return [nodes.literal_block(text, text, language="bash")]


def setup(app: Sphinx) -> dict[str, Any]:
    """Add the directive."""
    app.add_directive("manifest-codes", ManifestCodes)
    app.add_directive("job-script", JobScript)
    return {"parallel_read_safe": True}
