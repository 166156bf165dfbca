"""Asking a batch system from the command line: one program, its words, and no surprises."""

from __future__ import annotations

import shlex
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from scalable.errors import ProviderError, ProviderUnavailable

__all__ = ["Answer", "call"]

_PATIENCE_S: Final = 120.0
_SHOWN: Final = 300


@dataclass(frozen=True, slots=True)
class Answer:
    """What a program said."""

    command: str
    code: int
    out: str
    err: str

    def failure(self) -> ProviderError:
        """Return what went wrong, in the program's words."""
        words = self.err.strip() or self.out.strip() or "it said nothing"
        return ProviderError(f"`{self.command}` exited with {self.code}: {words}")


def call(arguments: Sequence[str], environment: Mapping[str, str] | None = None) -> Answer:
    """Run a program to its end.

    Parameters
    ----------
    arguments : sequence of str
        The program and what it is given.
    environment : mapping, optional
        The whole environment; default is the process's own.

    Raises
    ------
    ProviderUnavailable
        If there is no such program.
    ProviderError
        If it does not end.
    """
    command = shlex.join(arguments)
    shown = command if len(command) <= _SHOWN else command[: _SHOWN - 3] + "..."
    try:
        done = subprocess.run(  # noqa: S603  (a batch system's own program, and no shell)
            list(arguments),
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_PATIENCE_S,
            check=False,
        )
    except FileNotFoundError as error:
        raise ProviderUnavailable(f"there is no `{arguments[0]}` on this machine's PATH; use a login node") from error
    except OSError as error:
        raise ProviderUnavailable(f"cannot run `{arguments[0]}`: {error.strerror}") from error
    except subprocess.TimeoutExpired as error:
        raise ProviderError(f"`{shown}` did not end within {_PATIENCE_S:.0f} s") from error
    return Answer(shown, done.returncode, done.stdout, done.stderr)
