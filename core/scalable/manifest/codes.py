"""Every code that an issue can have, and what it means."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

__all__ = ["CODES"]

CODES: Mapping[str, str] = MappingProxyType(
    {
        # the file
        "E_UNREADABLE": "The file is not there, is a directory, or cannot be opened.",
        "E_TOO_LARGE": "The file is larger than 1 MiB, nested too deep, or holds too many values (an alias counts as "
        "what it stands for).",
        "E_EMPTY": "The file holds nothing.",
        "E_NOT_A_MAPPING": "At the top there is a list or a single value.",
        "E_SYNTAX": "The text is not YAML, not UTF-8, or more than one document.",
        "E_CONTROL_CHARACTER": "A character that text cannot have, or a line break in a value that reaches a script.",
        "E_DUPLICATE_KEY": "A mapping has the same key twice.",
        "E_BAD_KEY": "A key is empty, is a list or mapping, or is the merge key of YAML 1.1.",
        "E_YAML_TAG": "A value has a YAML tag other than `!!str`.",
        "E_DATE_VALUE": "A date without quotes: readers of YAML disagree about it.",
        # variables
        "E_BAD_VARIABLE": "`${` is not followed by a name, or by `NAME:-default`, and `}`.",
        "E_UNSET_VARIABLE": "A variable of the chosen target, or of what all targets share, has no value.",
        "W_UNSET_VARIABLE": "A variable of some target or overlay has no value; no target was chosen.",
        # keys
        "E_MISSING_KEY": "A required key is not there.",
        "E_UNKNOWN_TOP_KEY": "A key at the top that a manifest does not have.",
        "E_UNKNOWN_PROJECT_KEY": "A key that `project` does not have.",
        "E_UNKNOWN_COMPONENT_KEY": "A key that a component does not have.",
        "E_UNKNOWN_TASK_KEY": "A key that a task does not have.",
        "E_UNKNOWN_TARGET_KEY": "An option that the target's provider does not have.",
        "E_UNKNOWN_OBJECTIVE_KEY": "A key that `objectives` does not have.",
        "E_UNKNOWN_PRICE_KEY": "A key that `price` does not have.",
        "E_UNKNOWN_OVERLAY_KEY": "A key that an overlay cannot hold.",
        # values
        "E_BAD_VERSION": "`version` is not 1.",
        "E_BAD_TYPE": "A value of the wrong kind, such as a number where a list must be.",
        "E_BAD_VALUE": "A value of the right kind that is out of range, or not among those allowed.",
        "E_BAD_NAME": "A target or an overlay has a name with characters that names cannot have.",
        "E_BAD_TAG": "A component, tag or capability has a name with characters that names cannot have.",
        "E_TAG_COLLISION": "A tag or a capability has the name of something else that tasks ask for.",
        "E_BAD_CPUS": "`cpus` is not a positive number.",
        "E_BAD_MEMORY": "`memory` is not a size, or less than 1M.",
        "E_BAD_CAPABILITY": "A capability is no name, its amount is not positive, or it is given twice.",
        "E_BAD_ENV_NAME": "A key of `env` cannot name an environment variable.",
        "E_RELATIVE_MOUNT": "A path of `mounts` is not absolute.",
        "E_BAD_MOUNT": "A path of `mounts` holds a colon, a line break, or, for Apptainer, a comma.",
        "E_BAD_COUNT": "`count` is not a positive integer.",
        "E_BAD_DURATION": "`duration` or `timeout` is not a duration.",
        "E_BAD_WALLTIME": "`walltime` is not a duration, or shorter than a minute.",
        "E_BAD_MAX_WORKERS": "`max_workers` is not a positive integer.",
        "E_BAD_N_WORKERS": "`n_workers` is not a positive integer, or outside the other bounds.",
        "E_BAD_THREADS_PER_WORKER": "`threads_per_worker` is not a positive integer.",
        "E_BAD_PROCESSES_FLAG": "`processes` is neither true nor false.",
        "E_BAD_CONTAINERS_MODE": "`containers` is a mode that the provider does not have.",
        "E_BAD_ADAPTIVE": "The bounds of `adaptive` are no numbers of workers, or contradict each other.",
        "E_BAD_PRICE": "A rate of `price` is not a number, zero or more, or `price` has no rate.",
        "E_BAD_SCALING": "There is no such scaling policy, or it has no such parameter.",
        "E_BAD_FARGATE_SIZE": "Fargate does not offer this pair of `worker_cpu` and `worker_mem`.",
        "E_OPTION_CONFLICT": "Two options of a target exclude each other.",
        # references
        "E_UNKNOWN_PROVIDER": "No provider has this name.",
        "E_PROVIDER_UNAVAILABLE": "The chosen target's provider cannot be loaded here.",
        "E_UNKNOWN_TARGET": "The manifest has no target of this name.",
        "E_NO_TARGET": "The manifest has several targets, and none was chosen.",
        "E_UNKNOWN_OVERLAY": "The manifest has no overlay of this name.",
        "E_TARGET_REF": "A target is to be made of one that is not there, or cannot be a part of it.",
        "E_TASK_COMPONENT_REF": "A task names a component that is not there.",
        "E_TASK_AFTER_REF": "A task waits for a task that is not there.",
        "E_TASK_CYCLE": "Tasks wait for each other.",
        "W_TASK_SHADOWED": "A task has the name of a component that it does not run on.",
        "W_TASK_MEMORY": "A task needs more memory than its component's workers have.",
        # what a provider finds
        "E_TOO_FEW_WORKERS": "More pools have work at once than there may be workers.",
        "E_MISSING_FILE": "A file that a component names is not there.",
        "E_NEEDS_MEMORY": "A component has no `memory`, which the batch system wants to know.",
        "E_WALLTIME_TOO_SHORT": "A task takes longer than the target's jobs may run.",
        "W_ENV_NEEDS_PROCESSES": "`env` cannot be applied where workers are threads of one process.",
        "W_PRELOAD_NEEDS_PROCESSES": "A shell script cannot be preloaded where workers are threads of one process.",
        "W_IMAGE_NOT_USED": "A component has an image, but its workers are to run without a container.",
        "W_MOUNTS_NEED_CONTAINER": "A component has mounts, but its workers run without a container.",
        "W_MEMORY_STEP": "A task has a `memory_step`, but no `retries` in which it would be used.",
        "W_NOT_BOOKED": "The batch system is not told what the jobs need, because every cluster has its own words.",
        "W_NO_PRICE": "No price is known of a target's workers, so that what a run costs is not known either.",
        "W_INSECURE": "A target does without encryption and certificates.",
    }
)
