"""What Snakemake asks of the plugin before a run: its command line flags and its nature.

Snakemake evaluates the annotations of the settings while it builds its command line, and
knows `typing.Optional` only: neither `X | None` nor postponed annotations may be used here.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Optional

from snakemake_interface_executor_plugins.settings import CommonSettings, ExecutorSettingsBase

__all__ = ["ExecutorSettings", "common_settings"]


def _absolute(path: str) -> str:
    # Snakemake changes to --directory later, and a path is meant from where the user stands.
    return str(Path(path).expanduser().absolute())


def _absolute_file(overlay: str) -> str:
    path = Path(overlay).expanduser()
    # A manifest's own overlay may have such a name, too.
    return _absolute(overlay) if path.suffix in {".yaml", ".yml"} and path.is_file() else overlay


@dataclass
class ExecutorSettings(ExecutorSettingsBase):
    """The flags ``--scalable-...``.

    Attributes
    ----------
    manifest : str or None
        Path of the manifest; default is ``SCALABLE_MANIFEST``, or ``scalable.yaml``.
    target : str or None
        Which of its targets; default is ``SCALABLE_TARGET``, or the only one.
    overlay : str or None
        An overlay, by name or as a file, in place of the one that the target names.
    objective, policy : str or None
        What to aim at, and how; default is the manifest's numbers.
    advise : bool
        Whether to take the advice of past runs, even if the manifest does not say so.
    """

    manifest: Optional[str] = field(  # noqa: UP045  (see the module's text)
        default=None,
        metadata={
            "help": "Manifest that describes targets and components (default: $SCALABLE_MANIFEST, or scalable.yaml).",
            "metavar": "FILE",
            "parse_func": _absolute,
            "unparse_func": str,
        },
    )
    target: Optional[str] = field(  # noqa: UP045
        default=None,
        metadata={
            "help": "Target of the manifest to run on (default: $SCALABLE_TARGET, or the only target).",
            "metavar": "NAME",
        },
    )
    overlay: Optional[str] = field(  # noqa: UP045
        default=None,
        metadata={
            "help": "Overlay of the manifest to apply, or a file of one, in place of the one that the target names.",
            "metavar": "NAME",
            "parse_func": _absolute_file,
            "unparse_func": str,
        },
    )
    objective: Optional[str] = field(  # noqa: UP045
        default=None,
        metadata={
            "help": "Size the pools for the workflow: 'minimize cost', 'minimize time' or 'balance' "
            "(default: the manifest's numbers).",
            "metavar": "NAME",
        },
    )
    policy: Optional[str] = field(  # noqa: UP045
        default=None,
        metadata={
            "help": "How to size them: 'safe', with headroom, 'aggressive', by medians, or 'manual'.",
            "metavar": "NAME",
        },
    )
    advise: bool = field(
        default=False,
        metadata={"help": "Take the advice of past runs on memory and time (default: what the manifest says)."},
    )


common_settings = CommonSettings(
    non_local_exec=True,
    implies_no_shared_fs=False,
    job_deploy_sources=True,
    # Values of environment variables travel in the request: on a command line everyone could read them.
    pass_envvar_declarations_to_cmd=False,
    auto_deploy_default_storage_provider=False,
)
