"""Libraries of optional parts, imported where they are needed."""

from __future__ import annotations

from importlib import import_module
from types import ModuleType

from scalable.errors import MissingExtra

__all__ = ["require"]


def require(extra: str, module: str) -> ModuleType:
    """Return a module of a library that only an optional part needs.

    Parameters
    ----------
    extra : str
        The extra that installs it, such as ``"ml"``.
    module : str
        Its dotted import name, such as ``"sklearn.tree"``.

    Raises
    ------
    MissingExtra
        If it is not installed, or is installed and cannot be imported; the message names the
        line for pip.

    Examples
    --------
    >>> require("ml", "no_such_library")
    Traceback (most recent call last):
    ...
    scalable.errors.MissingExtra: no_such_library is not installed: pip install 'scalable-workflows[ml]'
    """
    library = module.partition(".")[0]
    line = f"pip install 'scalable-workflows[{extra}]'"
    try:
        # First, because a part that was imported earlier would be found without it.
        import_module(library)
        return import_module(module)
    except ModuleNotFoundError as error:
        if error.name == library:
            raise MissingExtra(f"{library} is not installed: {line}") from error
        raise MissingExtra(f"{library} cannot be imported ({error}): {line}") from error
    except ImportError as error:
        # It is there, but not whole: a shared library that the machine lacks, or versions that do not fit.
        raise MissingExtra(f"{library} cannot be imported ({error}): {line}") from error
