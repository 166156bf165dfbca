"""What the tests of job scripts have in common."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from hypothesis import strategies as st

from scalable.pools.shape import PoolShape
from scalable.providers.batch.script import Launch, TlsFiles, job_script
from scalable.providers.batch.systems import SYSTEMS
from scalable.providers.options.batch import BatchOptions
from scalable.providers.registry import options_model
from scalable.spec import ComponentSpec, ResourceRequest

MIB = 2**20
ANY_TEXT = st.text(st.characters(blacklist_categories=("Cc", "Cs", "Zl", "Zp")), min_size=1).filter(str.strip)
"""What a manifest lets through to a script: anything but control characters and line breaks."""

TLS = Path("/home/ada/.scalable/tls-1")
LAUNCH = Launch(
    run_id="solar-20260102-030405-a1b2",
    scheduler_address="tls://10.0.0.1:8786",
    log_directory=Path("/home/ada/runs/solar study/jobs"),
    tls=TlsFiles(TLS, TLS / "ca.pem", TLS / "cert.pem", TLS / "key.pem"),
    comment="scalable pool=simulate host=login1 pid=42 started=7",
)


def component(cpus: float = 4, memory: int | None = 1500 * MIB, gpus: int = 0, **others: Any) -> ComponentSpec:
    """Return the component ``simulate``."""
    return ComponentSpec("simulate", ResourceRequest(cpus, memory, gpus), **others)


def options(system: str, **given: Any) -> BatchOptions:
    """Return a system's options, with an interpreter that is the same everywhere."""
    made = options_model(system).model_validate({"python": "/opt/python/bin/python3", **given})
    assert isinstance(made, BatchOptions)
    return made


def script(
    system: str = "slurm",
    made_of: ComponentSpec | None = None,
    launch: Launch = LAUNCH,
    *,
    threads: int | None = None,
    group: int = 0,
    workers: int = 1,
    array: bool = False,
    **given: Any,
) -> str:
    """Return the text of a job."""
    shape = PoolShape.of(made_of or component(), threads)
    return job_script(
        SYSTEMS[system], options(system, **given), shape, launch, group=group, workers=workers, array=array
    )


def directives(text: str, system: str = "slurm") -> list[str]:
    """Return what a script tells the batch system, a line each."""
    mark = SYSTEMS[system].directive
    return [line.removeprefix(mark) for line in text.splitlines() if line.startswith(mark)]


def command(text: str) -> str:
    """Return the line that starts the worker."""
    return text.strip().splitlines()[-1]


def slurm_words(line: str) -> list[str]:
    """Read what follows ``#SBATCH`` as ``get_argument()`` in Slurm's ``src/sbatch/opt.c`` does."""
    words = []
    for match in _SLURM_WORD.finditer(line):
        if match[0].startswith("#"):
            break
        parts = (part[0] for part in _SLURM_PART.finditer(match[0]))
        bare = (part[1:-1] if part[0] in "\"'" else part for part in parts)
        words.append("".join(re.sub(r"\\(.)", r"\1", part) for part in bare))
    return words


# A backslash escapes everywhere, and `#` begins a comment wherever it is not quoted.
_PART = r"""\\.|'(?:\\.|[^'\\])*'|"(?:\\.|[^"\\])*"|[^\s'"\\#]"""
_SLURM_PART = re.compile(_PART, re.ASCII)
_SLURM_WORD = re.compile(rf"(?:{_PART})+|#.*", re.ASCII)
