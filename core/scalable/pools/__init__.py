"""Heterogeneous worker pools on one Dask scheduler: routing, demand, growing and safe shrinking."""
