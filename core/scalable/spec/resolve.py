"""From a manifest to what is to run on one of its targets."""

from __future__ import annotations

from dataclasses import replace

from scalable.errors import InternalError, ManifestError
from scalable.manifest import Component, Manifest, Price, Task
from scalable.spec.model import ComponentSpec, DeploymentSpec, Objectives, PriceRates, ResourceRequest, TaskSpec

__all__ = ["resolve"]


def resolve(manifest: Manifest, target: str | None = None) -> DeploymentSpec:
    """Return what is to run on the target that the manifest was read for.

    Parameters
    ----------
    manifest : Manifest
        Read with a target chosen, because overlay and variables depend on it.
    target : str, optional
        The same target, for callers that want to be sure.

    Raises
    ------
    ManifestError
        If the manifest was read for another target, or for none.
    """
    chosen = manifest.target
    if chosen is None or target not in (None, chosen):
        read_for = f"target '{chosen}'" if chosen else "no target"
        raise ManifestError(f"{manifest.path} was read for {read_for}; read it again with target={target!r}")
    return replace(_of_target(manifest, chosen), parts={name: _of_target(manifest, name) for name in manifest.parts})


def _of_target(manifest: Manifest, target: str) -> DeploymentSpec:
    entry = manifest.targets[target]
    if entry.options is None:
        raise InternalError(f"target {target} was chosen without its options")
    return DeploymentSpec(
        project=manifest.project.name,
        target=target,
        provider=entry.provider,
        options=entry.options,
        components={name: _component(name, one) for name, one in manifest.components.items()},
        tasks={name: _task(name, one) for name, one in manifest.tasks.items()},
        objectives=Objectives(entry.objectives.budget_usd, entry.objectives.deadline_hours),
        overlay=manifest.overlay,
        fingerprint=manifest.fingerprint,
        manifest_path=manifest.path,
        manifest_text=manifest.to_yaml(),
        advise=bool(entry.advise),
        price=None if entry.price is None else _price(entry.price),
        locate=manifest.locate,
        file_of=manifest.file_of,
        tags_elsewhere=manifest.tags_elsewhere,
    )


def _price(price: Price) -> PriceRates:
    return PriceRates(
        price.core_hour, price.gb_hour, price.gpu_hour, price.worker_hour, minimum_s=price.minimum_s or 0.0
    )


def _component(name: str, component: Component) -> ComponentSpec:
    return ComponentSpec(
        name=name,
        resources=ResourceRequest(component.cpus, component.memory_bytes, component.gpus),
        image=component.image,
        runtime=component.runtime,
        mounts=dict(component.mounts),
        env=dict(component.env),
        tags=component.tags,
        capabilities=dict(component.capabilities),
        preload_script=component.preload_script,
    )


def _task(name: str, task: Task) -> TaskSpec:
    return TaskSpec(
        name=name,
        component=task.component,
        cache=task.cache,
        outputs=dict(task.outputs),
        after=task.after,
        count=task.count,
        duration_s=task.duration_s,
        memory_bytes=task.memory_bytes,
        retries=task.retries,
        timeout_s=task.timeout_s,
        inputs=task.inputs,
        memory_step_bytes=task.memory_step_bytes,
    )
