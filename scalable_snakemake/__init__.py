"""Snakemake executor of Scalable: ``snakemake --executor scalable``.

Snakemake finds it through the package ``snakemake_executor_plugin_scalable``. Nothing is
imported here, because workers import this package to run jobs.
"""

from __future__ import annotations

__all__: list[str] = []
