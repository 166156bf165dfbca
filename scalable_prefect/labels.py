"""What a task run's name and tags say of where it runs."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any, Final, cast
from uuid import UUID

from prefect.context import TaskRunContext
from prefect.tasks import Task

from scalable_prefect import compat
from scalable_prefect.wrapper import Wrapper

__all__ = ["label", "pool_tag"]

_TAG: Final = "pool:"


def pool_tag(pool: str) -> str:
    """Return the tag that task runs of a pool have.

    Examples
    --------
    >>> pool_tag("simulate")
    'pool:simulate'
    """
    return f"{_TAG}{pool}"


def label(task: Task[Any, Any], task_run_id: UUID, pool: str) -> None:
    """Let a task run be called after its pool, too, such as ``energy-3f2@simulate``, and have its tag.

    Parameters
    ----------
    task : Task
        Changed in place: it must be the task run's own.
    task_run_id : UUID
        Its last digits tell runs of one task apart, where the user names them not.
    """
    task.fn = _Tagged(task.fn, pool_tag(pool))
    if not task.task_run_name:
        name = f"{task.name}-{task_run_id.hex[-3:]}@{pool}"
        task.task_run_name = lambda: name
        return
    users_own = copy.copy(task)

    def called(*, parameters: dict[str, Any]) -> str:
        return f"{compat.custom_run_name(users_own, parameters)}@{pool}"

    task.task_run_name = cast("Any", called)


class _Tagged(Wrapper):
    """A task's function; its run has one more tag from when it begins.

    Not earlier: Prefect asks its server for limits of all tags that a task run has before, and
    changes threads for that, which takes as long as all the rest.
    """

    def __init__(self, function: Callable[..., Any], tag: str) -> None:
        super().__init__(function)
        self._tag = tag

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        context = TaskRunContext.get()
        if context is not None and self._tag not in context.task_run.tags:
            context.task_run.tags.append(self._tag)
        return super().__call__(*args, **kwargs)
