"""The batch systems: one row each."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Literal

__all__ = ["SYSTEMS", "BatchSystem", "Submission", "only_gone", "submit_command"]

# What the systems say of a job that is no longer there, which is as good as cancelled.
_GONE = re.compile(
    r"invalid job id|already complet|already finished|has finished|already terminated|unknown job|does not exist"
    r"|no matching job|not found|couldn't find",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class BatchSystem:
    """How one batch system is spoken to.

    Attributes
    ----------
    name, title : str
        What a target's ``provider`` says, and what people call it.
    job_class : str
        Class of dask-jobqueue that writes its scripts, as ``module:class``.
    submit, cancel : tuple of str
        Commands; ids are appended to the second, as many as one likes.
    how : str
        How the first gets the script: as a ``file``, by ``stdin``, or ``inline``, as an argument.
    job_id : re.Pattern
        Finds the id, as the group ``job_id``, in what ``submit`` prints.
    directive : str
        What a line of the script begins with that is meant for the batch system.
    quote : callable
        Makes any text one word of such a line.
    verbatim : callable
        Makes text that is meant for the shell survive the batch system.
    array_option, array : str or None
        Option by which one submission makes several jobs, and the variable by which a job
        knows its number among them; ``None`` where each job is submitted by itself.
    log_id, log_array_id : str
        What stands for the job's id in the name of its log.
    not_in_logs : str
        Characters that the path of a log cannot have, however it is quoted.
    variables : str
        What the names of the variables begin with that a job is given.
    """

    name: str
    title: str
    job_class: str
    submit: tuple[str, ...]
    cancel: tuple[str, ...]
    how: Literal["file", "stdin", "inline"]
    job_id: re.Pattern[str]
    directive: str
    quote: Callable[[str], str] = shlex.quote
    verbatim: Callable[[str], str] = str
    array_option: str | None = None
    array: str | None = None
    log_id: str = ""
    log_array_id: str = ""
    not_in_logs: str = ""
    variables: str = ""


@dataclass(frozen=True, slots=True)
class Submission:
    """A command that submits a script.

    Attributes
    ----------
    argv : tuple of str
        The command with its arguments.
    stdin : str or None
        What it reads from its standard input; ``None``: nothing.
    """

    argv: tuple[str, ...]
    stdin: str | None = None


def only_gone(complaints: str) -> bool:
    """Tell whether all that a command to cancel jobs complains of is that they have ended.

    Examples
    --------
    >>> only_gone("scancel: error: Kill job error on job id 7: Invalid job id specified")
    True
    """
    lines = [line for line in complaints.splitlines() if line.strip()]
    return bool(lines) and all(_GONE.search(line) for line in lines)


def submit_command(system: BatchSystem, script: str, path: Path, *, elements: int | None = None) -> Submission:
    """Return the command that hands a script to its batch system.

    Parameters
    ----------
    system : BatchSystem
        A row of the table.
    script : str
        The text from :func:`scalable.providers.batch.script.job_script`.
    path : Path
        A file that holds the same text; read by systems that take files.
    elements : int, optional
        Submit an array of so many jobs, numbered from 0; for a script that was made for one.

    Examples
    --------
    >>> submit_command(SYSTEMS["slurm"], "...", Path("/logs/a.sh"), elements=4).argv
    ('sbatch', '--parsable', '--array=0-3', '/logs/a.sh')
    """
    argv = system.submit
    if elements is not None:
        if system.array_option is None:
            raise ValueError(f"{system.title} jobs are submitted one by one")
        argv = (*argv, system.array_option.format(last=elements - 1))
    if system.how == "file":
        return Submission((*argv, str(path)))
    if system.how == "stdin":
        return Submission(argv, script)
    lines = script.splitlines()
    # As dask-jobqueue does it: the file would have to be there still when the job starts, so the
    # options and the lines to run are given as arguments.
    marked = [line.removeprefix(system.directive) for line in lines if line.startswith(system.directive)]
    inline = "\n".join(line for line in lines if not line.startswith("#")).strip()
    return Submission((*argv, *(word for line in marked for word in shlex.split(line)), inline))


def _slurm_quote(value: str) -> str:
    """Quote for ``#SBATCH`` lines, where a backslash escapes even between single quotes.

    See ``get_argument()`` in Slurm's ``src/sbatch/opt.c``, which also takes the word ``hetjob``
    (once ``packjob``) out of a line wherever it finds it.
    """
    quoted = value
    if shlex.quote(value) != value:
        quoted = "'" + re.sub(r"['\\]", r"\\\g<0>", value) + "'"
    return re.sub(r"(?i)(het|pack)(job)", r"\1\\\2", quoted)


def _condor_dollars(text: str) -> str:
    """Keep ``$(...)`` from being taken for a macro of the submit file."""
    return text.replace("$", "$(DOLLAR)")


_ROWS = (
    BatchSystem(
        name="slurm",
        title="Slurm",
        job_class="dask_jobqueue.slurm:SLURMJob",
        submit=("sbatch", "--parsable"),
        cancel=("scancel",),
        how="file",
        job_id=re.compile(r"^(?P<job_id>\d+)(?:;\S+)?$", re.MULTILINE),
        directive="#SBATCH ",
        quote=_slurm_quote,
        array_option="--array=0-{last}",
        array="SLURM_ARRAY_TASK_ID",
        log_id="%j",
        log_array_id="%A_%a",
        # A backslash in a name switches off what `%` stands for.
        not_in_logs="\\",
        variables="SLURM_",
    ),
    BatchSystem(
        name="pbs",
        title="PBS",
        job_class="dask_jobqueue.pbs:PBSJob",
        submit=("qsub",),
        cancel=("qdel",),
        how="file",
        job_id=re.compile(r"^(?P<job_id>\d+(?:\.[\w.-]+)?)$", re.MULTILINE | re.ASCII),
        directive="#PBS ",
        not_in_logs=":,",
        variables="PBS_",
    ),
    BatchSystem(
        name="lsf",
        title="LSF",
        job_class="dask_jobqueue.lsf:LSFJob",
        submit=("bsub",),
        cancel=("bkill",),
        how="stdin",
        job_id=re.compile(r"Job <(?P<job_id>\d+)>"),
        directive="#BSUB ",
        log_id="%J",
        not_in_logs="%",
        variables="LSB_",
    ),
    BatchSystem(
        name="sge",
        title="Grid Engine",
        job_class="dask_jobqueue.sge:SGEJob",
        submit=("qsub",),
        cancel=("qdel",),
        how="file",
        job_id=re.compile(r"[Yy]our job (?P<job_id>\d+)"),
        directive="#$ ",
        log_id="$JOB_ID",
        not_in_logs=":$",
        variables="SGE_",
    ),
    BatchSystem(
        name="htcondor",
        title="HTCondor",
        job_class="dask_jobqueue.htcondor:HTCondorJob",
        submit=("condor_submit",),
        cancel=("condor_rm",),
        how="file",
        job_id=re.compile(r"submitted to cluster (?P<job_id>\d+)"),
        # A submit file has no words: a value is all that is right of the sign.
        directive="",
        quote=_condor_dollars,
        verbatim=_condor_dollars,
        log_id="$(ClusterId)",
        variables="_CONDOR_",
    ),
    BatchSystem(
        name="oar",
        title="OAR",
        job_class="dask_jobqueue.oar:OARJob",
        submit=("oarsub",),
        cancel=("oardel",),
        how="inline",
        job_id=re.compile(r"OAR_JOB_ID=(?P<job_id>\d+)"),
        directive="#OAR ",
        log_id="%jobid%",
        not_in_logs="%",
        variables="OAR_",
    ),
)

SYSTEMS: Mapping[str, BatchSystem] = MappingProxyType({row.name: row for row in _ROWS})
"""The batch systems, by what a target's ``provider`` says."""
