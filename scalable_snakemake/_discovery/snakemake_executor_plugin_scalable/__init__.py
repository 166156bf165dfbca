"""Where Snakemake looks for the executor ``scalable``; the executor itself is in ``scalable_snakemake``."""

from scalable_snakemake.executor import Executor
from scalable_snakemake.settings import ExecutorSettings, common_settings

__all__ = ["Executor", "ExecutorSettings", "common_settings"]
