"""Pages of the documentation, taken apart."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
TUTORIAL = (ROOT / "docs/tutorial/first-run.md").read_text(encoding="utf-8")

_MEASURED = re.compile(r"\d[\d.,]*(ms|s|%|[KMG]B?|m\d\ds)?(?=[\s;,]|$)")


def block(text: str, language: str, containing: str = "") -> str:
    """Return the one code block of a page that is in this language and has these words."""
    found = [body for kind, body in re.findall(r"```(\w+)\n(.*?)```", text, re.DOTALL) if kind == language]
    (one,) = [body for body in found if containing in body]
    return one


def steady(text: str) -> list[str]:
    """Return the lines of a demo without what differs from one run to the next: paths, identifiers, measurements."""
    return [_steady(line) for line in text.strip().splitlines()]


def _steady(line: str) -> str:
    line = re.sub(r"run-\d{8}T\d{6}Z-([\w-]+)-[0-9a-f]{8}", r"run-\1", line)
    line = re.sub(r"^(\s*(?:picture|report|Files:) ).*/(\S+/\S+)$", r"\1 \2", line)
    measured = re.match(r"(Workers|Duration|Efficiency|Scaling events|  \S+: \d|  \w+ +\d|   \d+ tasks)", line)
    if measured:
        line = _MEASURED.sub("N", line)
    return re.sub(r" +", " ", line).strip()
