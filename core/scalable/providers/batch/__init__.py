"""Pools as jobs of a batch system: Slurm, and the others that dask-jobqueue knows."""
