"""Every exception of Scalable, and what a problem in a manifest is made of.

    ScalableError 1
    ├ ManifestError 2     ManifestSyntax · ManifestInvalid(issues)
    ├ PlanError 3         Infeasible
    ├ ProviderError 4     ProviderUnavailable · SubmitFailed · WorkersLost
    ├ TaskError 5         UnknownTag · TaskOutOfMemory · TaskTimedOut
    ├ MissingExtra 6
    └ InternalError 70

The number is the exit code of the ``scalable`` command for that branch.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar, Literal

__all__ = [
    "Infeasible",
    "InternalError",
    "Issue",
    "ManifestError",
    "ManifestInvalid",
    "ManifestSyntax",
    "MissingExtra",
    "PlanError",
    "ProviderError",
    "ProviderUnavailable",
    "ScalableError",
    "SubmitFailed",
    "TaskError",
    "TaskOutOfMemory",
    "TaskTimedOut",
    "UnknownTag",
    "ValidationReport",
    "WorkersLost",
    "did_you_mean",
]


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Return ``"did you mean 'x'?"`` for the nearest known word, or ``""``."""
    close = difflib.get_close_matches(word, list(known), n=1)
    return f"did you mean '{close[0]}'?" if close else ""


@dataclass(frozen=True, slots=True)
class Issue:
    """One problem, or one warning, found while validating.

    Attributes
    ----------
    code : str
        Stable identifier, ``E_...`` for an error and ``W_...`` for a warning.
    path : str
        Dotted path inside the manifest, such as ``targets.local.max_workers``.
    message : str
        What is wrong.
    hint : str
        How to mend it; may be empty.
    file : str
        The manifest's path as the user gave it; empty if unknown.
    line, column : int
        Position counted from one; zero if unknown.
    """

    code: str
    path: str
    message: str
    hint: str = ""
    file: str = ""
    line: int = 0
    column: int = 0

    @property
    def severity(self) -> Literal["error", "warning"]:
        """Whether this stops a run."""
        return "error" if self.code.startswith("E_") else "warning"

    def __str__(self) -> str:
        where = self.file
        if self.line:
            where += f":{self.line}:{self.column}"
        place = " ".join(part for part in (where, self.path) if part)
        text = f"{place}: {self.message}" if place else self.message
        if self.hint:
            text += f"; {self.hint}"
        return f"{text} [{self.code}]"


@dataclass(frozen=True, slots=True)
class ValidationReport:
    """What a validation found; :attr:`ok` when nothing stops a run."""

    issues: tuple[Issue, ...] = ()

    @property
    def errors(self) -> tuple[Issue, ...]:
        """The issues that stop a run."""
        return tuple(issue for issue in self.issues if issue.severity == "error")

    @property
    def warnings(self) -> tuple[Issue, ...]:
        """The issues that do not."""
        return tuple(issue for issue in self.issues if issue.severity == "warning")

    @property
    def ok(self) -> bool:
        """Whether there are no errors."""
        return not self.errors


class ScalableError(Exception):
    """Base of everything that Scalable raises on purpose."""

    exit_code: ClassVar[int] = 1


class ManifestError(ScalableError):
    """The manifest cannot be used."""

    exit_code = 2


class _IssuesError(ManifestError):
    def __init__(self, issues: Iterable[Issue]) -> None:
        self.issues = tuple(issues)
        super().__init__(self.issues)

    def __str__(self) -> str:
        return "\n".join(str(issue) for issue in self.issues)


class ManifestSyntax(_IssuesError):
    """The text is not a manifest at all: unreadable, or not YAML.

    Parameters
    ----------
    issues : iterable of Issue
        Usually one.
    """


class ManifestInvalid(_IssuesError):
    """The text is YAML, but says things that a manifest cannot say.

    Parameters
    ----------
    issues : iterable of Issue
        Every problem found, in the order of the file.
    """


class PlanError(ScalableError):
    """No plan can be made from what was asked."""

    exit_code = 3


class Infeasible(PlanError):
    """What was asked cannot be met; the message says which limit binds."""


class ProviderError(ScalableError):
    """Workers could not be had, or could not be kept."""

    exit_code = 4


class ProviderUnavailable(ProviderError):
    """The target's provider cannot build clusters here."""


class SubmitFailed(ProviderError):
    """A command that starts workers failed.

    Parameters
    ----------
    command : str
        What was run.
    exit_code : int
        Its exit code.
    stderr : str
        Its last words.
    passing : bool
        Whether the same may succeed later: nobody answered, or a limit on how many jobs
        somebody may have is reached.
    """

    def __init__(self, command: str, code: int, stderr: str, *, passing: bool = False) -> None:
        self.command = command
        self.code = code
        self.stderr = stderr
        self.passing = passing
        super().__init__(command, code, stderr)

    def __str__(self) -> str:
        return f"`{self.command}` exited with {self.code}: {self.stderr.strip()}"


class WorkersLost(ProviderError):
    """Workers died, or never came, and the work cannot go on without them."""


class TaskError(ScalableError):
    """A task cannot be run, or could not be finished."""

    exit_code = 5


class UnknownTag(TaskError):
    """A task asks for workers that no pool of the target can ever offer.

    Parameters
    ----------
    asked : str
        The tag, or the capabilities as text.
    known : iterable of str
        What the target's pools offer.
    what : str
        ``"tag"`` or ``"capabilities"``.
    """

    def __init__(self, asked: str, known: Iterable[str], what: str = "tag") -> None:
        self.asked = asked
        self.known = tuple(known)
        self.what = what
        super().__init__(asked, self.known, what)

    def __str__(self) -> str:
        hint = did_you_mean(self.asked, self.known)
        return f"no pool of this target offers {self.what} '{self.asked}'; known: {', '.join(self.known) or 'none'}" + (
            f"; {hint}" if hint else ""
        )


class TaskOutOfMemory(TaskError):
    """A task used more memory than its worker has.

    Parameters
    ----------
    asked, peak : int
        Bytes the worker had, and bytes seen at the most; 0 if not measured.
    """

    def __init__(self, message: str, asked: int = 0, peak: int = 0) -> None:
        self.asked = asked
        self.peak = peak
        super().__init__(message, asked, peak)

    def __str__(self) -> str:
        return str(self.args[0])


class TaskTimedOut(TaskError):
    """A task ran longer than its ``timeout``."""


class MissingExtra(ScalableError):
    """A library that an optional part needs is not installed."""

    exit_code = 6


class InternalError(ScalableError):
    """A defect of Scalable itself; please report it."""

    exit_code = 70
