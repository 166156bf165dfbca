"""``scalable deploy prefect``: a manifest's targets as deployments in ``prefect.yaml``; needs no Prefect itself."""
