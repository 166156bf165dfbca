"""The JSON Schema for editors accepts what the reader accepts."""

from __future__ import annotations

import json
from typing import Any

import jsonschema  # type: ignore[import-untyped]
import pytest
import yaml

from scalable.manifest.schema import SCHEMA_FILE, json_schema
from scalable.providers.registry import BUILT_IN, catalogue
from tests.manifest.reading import BASE, HEAD, codes, read
from tests.manifest.test_documents import DOCUMENTS


@pytest.fixture(scope="module")
def schema() -> dict[str, Any]:
    """The schema as it is shipped."""
    return dict(json.loads(SCHEMA_FILE.read_text()))


def _valid(schema: dict[str, Any], text: str) -> bool:
    return bool(jsonschema.Draft202012Validator(schema).is_valid(yaml.safe_load(text)))


def test_the_schema_that_is_shipped_is_current(schema: dict[str, Any]) -> None:
    assert schema == json_schema(catalogue, BUILT_IN), "renew it with `make schema`"


def test_the_schema_is_a_schema(schema: dict[str, Any]) -> None:
    jsonschema.Draft202012Validator.check_schema(schema)


@pytest.mark.parametrize("name", DOCUMENTS)
def test_manifests_of_the_documents_fit_the_schema(schema: dict[str, Any], name: str) -> None:
    assert _valid(schema, DOCUMENTS[name])


@pytest.mark.parametrize(
    "text",
    [
        BASE + "components:\n  a: {memory: 1G, capabilities: [big], env: {A: 1, B: true}}\n  b:\n    cpus: ${N:-4}\n",
        BASE + "tasks: {t: {component: default, after: x, retries: 1}, x: {component: default}}\n",
        BASE + "overlays: {big: {components: {default: null}}, none: }\n",
        HEAD + "targets: {a: {provider: local, overlay: null, adaptive: {min: 1, max: 3}}}\n",
    ],
)
def test_what_the_reader_accepts_fits(schema: dict[str, Any], text: str) -> None:
    read(text)
    assert _valid(schema, text)


@pytest.mark.parametrize(
    "text",
    [
        BASE + "component: {}\n",
        BASE + "components: {a: {cpu: 1}}\n",
        BASE + "components: {a: {cpus: 0}}\n",
        BASE + "components: {a b: {}}\n",
        BASE + "tasks: {t: {}}\n",
        HEAD + "targets: {}\n",
        HEAD + "targets: {t: {provider: local, max_workers: 0}}\n",
        HEAD + "targets: {t: {provider: local, queue: short}}\n",
        HEAD + "targets: {t: {provider: slurm, container_runtime: docker}}\n",
        HEAD + "targets: {t: {provider: aws, adaptive: {min: 1}}}\n",
        BASE + "overlays: {o: {version: 1}}\n",
    ],
)
def test_what_the_reader_refuses_does_not_fit(schema: dict[str, Any], text: str) -> None:
    assert codes(text)
    assert not _valid(schema, text)


def test_every_option_is_described(schema: dict[str, Any]) -> None:
    silent = [
        f"{name}.{key}"
        for name, body in schema["$defs"].items()
        if name not in {"Overlay", "Target", "Toleration"}
        for key, value in body.get("properties", {}).items()
        if "description" not in value and key not in {"provider", "min", "max", "budget_usd", "deadline_hours"}
    ]
    assert silent == []
