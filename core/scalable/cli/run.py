"""``scalable run``: a script with a session already started."""

from __future__ import annotations

import logging
import signal
import sys
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from scalable.errors import PlanError, ScalableError

if TYPE_CHECKING:
    from scalable.planning import Plan

__all__ = ["run", "show_log"]


def run(
    manifest: Path | None = None,
    *arguments: Annotated[str, Parameter(allow_leading_hyphen=True)],
    workflow: Path,
    target: str | None = None,
    overlay: str | None = None,
    plan: Path | None = None,
    objective: str | None = None,
    policy: str | None = None,
    budget_usd: float | None = None,
    deadline_hours: float | None = None,
    advise: bool | None = None,
) -> int:
    """Run a Python script on the pools of a target.

    The script runs as ``__main__`` and finds ``session`` and ``client`` among its globals.
    On a terminal its progress is shown.

    Parameters
    ----------
    manifest
        The manifest; default is $SCALABLE_MANIFEST, or scalable.yaml here.
    arguments
        Further arguments for the script.
    workflow
        The script.
    target
        Name of the target; default is $SCALABLE_TARGET, or the manifest's only one.
    overlay
        Name of an overlay, or a file of one (.yaml), in place of the one that the target names.
    plan
        A plan that `scalable plan --format json` printed, to run exactly that.
    objective
        What to aim at: 'minimize cost', 'minimize time' or 'balance'; default is the manifest's numbers.
    policy
        How to get there: 'safe', with headroom, 'aggressive', by medians, or 'manual', the manifest's numbers.
    budget_usd
        US dollars that it may cost, in place of the manifest's.
    deadline_hours
        Hours that it may take, in place of the manifest's.
    advise
        Take the advice of past runs, or not; default is what the manifest says.
    """
    from scalable.cli.plan import objectives_of  # noqa: PLC0415  (help must not wait for it)
    from scalable.session import ScalableSession  # noqa: PLC0415  (as above)

    show_log()
    source = _read(workflow)
    asked = {"objective": objective, "policy": policy, "budget-usd": budget_usd, "deadline-hours": deadline_hours}
    given = None if plan is None else _given(plan, asked)
    with _as_main(workflow, arguments), _terminated_is_exit():
        bounds = objectives_of(budget_usd, deadline_hours)
        if given is not None:
            target = target or given.origin.target or None
            bounds = objectives_of(given.budget_usd, given.deadline_hours)
        session = ScalableSession.from_yaml(manifest, target=target, overlay=overlay, advise=advise, objectives=bounds)
        with session:
            if given is None and (objective is not None or policy is not None):
                given = session.plan(objective=objective, policy=policy)
            client = session.start(given)
            names = {"__name__": "__main__", "__file__": str(workflow), "session": session, "client": client}
            code = _execute(source, workflow, names, session)
        if session.run_dir is not None and code is None:
            print(f"run: {session.run_dir}", file=sys.stderr)  # noqa: T201
    return code or 0


def _given(plan: Path, asked: Mapping[str, object]) -> Plan:
    from scalable.planning.planfile import read_plan  # noqa: PLC0415  (help must not wait for it)

    if besides := [f"--{name}" for name, value in asked.items() if value is not None]:
        raise PlanError(f"--plan {plan} says all of it; leave {' and '.join(besides)} out, or plan again with it")
    return read_plan(plan)


def _execute(source: str, workflow: Path, names: dict[str, Any], session: Any) -> int | None:
    from scalable.cli.progress import shown  # noqa: PLC0415  (only here)

    # Not by `runpy`: that makes the script the process's main module, which worker
    # processes started later would import and so run a second time.
    with shown(session.progress):
        try:
            exec(compile(source, str(workflow), "exec"), names)  # noqa: S102  (the user's own script)
        except ScalableError:
            raise
        except Exception:  # noqa: BLE001  (whatever the script raises is the script's failure)
            traceback.print_exc()
            session.close("failed")
            return 1
    return None


def show_log() -> None:
    """Show what Scalable itself logs; the root logger is the workflow's to set up."""
    from scalable.settings import Settings  # noqa: PLC0415  (help must not wait for it)

    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(levelname)s %(name)s: %(message)s"))
    logger = logging.getLogger("scalable")
    logger.handlers[:] = [handler]
    logger.propagate = False
    logger.setLevel(Settings.from_environ().log_level.upper())


def _read(workflow: Path) -> str:
    try:
        return workflow.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ScalableError(f"cannot read the workflow {workflow}: {error}") from error


@contextmanager
def _as_main(workflow: Path, arguments: tuple[str, ...]) -> Iterator[None]:
    """Give the script the arguments and the import path that ``python script.py`` would."""
    argv, path = sys.argv, list(sys.path)
    sys.argv = [str(workflow), *arguments]
    sys.path.insert(0, str(workflow.resolve().parent))
    try:
        yield
    finally:
        sys.argv, sys.path[:] = argv, path


@contextmanager
def _terminated_is_exit() -> Iterator[None]:
    """Turn SIGTERM into an orderly exit, so that no worker outlives the run."""

    def leave(number: int, frame: FrameType | None) -> None:
        raise SystemExit(128 + number)

    before = signal.signal(signal.SIGTERM, leave)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
