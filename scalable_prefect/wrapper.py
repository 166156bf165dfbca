"""What runs a task's function with something around it."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

__all__ = ["Wrapper"]


class Wrapper:
    """Calls a function, and passes for it where Prefect looks at it.

    Parameters
    ----------
    function : callable
        Of a task.
    """

    def __init__(self, function: Callable[..., Any]) -> None:
        functools.update_wrapper(self, function)
        # Cache policies look at it where the source is not to be had.
        self.__code__ = getattr(function, "__code__", None)
        self._function = function

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call it."""
        return self._function(*args, **kwargs)
