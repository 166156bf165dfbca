"""The JSON Schema of manifests, for editors."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from scalable.manifest.fields import NAME_PATTERN
from scalable.manifest.model import Document, TargetHead
from scalable.manifest.tree import Catalogue

__all__ = ["SCHEMA_FILE", "json_schema"]

SCHEMA_FILE = Path(__file__).with_name("schema.json")
"""The schema as it is shipped, with the providers that are built in."""

_DEFINITIONS = "#/$defs/{model}"
_VARIABLE = {"$ref": "#/$defs/Variable"}
_ATTRIBUTE = re.compile(r"^(\w[\w, ]*) : .*\n((?: {4}.*\n?)+)", re.MULTILINE)
_UNIT = re.compile(r"_(?:bytes|s)$")
_OVERLAY_KEYS = ("project", "targets", "components", "tasks", "objectives")


def json_schema(catalogue: Catalogue, names: Iterable[str]) -> dict[str, Any]:
    """Return the JSON Schema of a manifest.

    Parameters
    ----------
    catalogue : Catalogue
        Knows the providers' options.
    names : iterable of str
        The providers whose options it is to describe.
    """
    providers = {name: catalogue.options_model(name) for name in names}
    models: list[type[BaseModel]] = [Document, TargetHead, *providers.values()]
    references, definitions = models_json_schema([(model, "validation") for model in models], ref_template=_DEFINITIONS)
    made: dict[str, Any] = {name: _described(_with_variables(body)) for name, body in definitions["$defs"].items()}
    head = made.pop("TargetHead")
    document = made.pop("Document")
    for name, model in providers.items():
        key = references[(model, "validation")]["$ref"].rpartition("/")[2]
        inherited = "\n".join(inspect.cleandoc(base.__doc__ or "") for base in model.__mro__[1:-1])
        made[f"{name}-target"] = _target(name, _described(made.pop(key), inherited), head)
    made["Target"] = {
        "type": "object",
        "required": ["provider"],
        "properties": {"provider": {"type": "string", "examples": list(providers)}},
        "allOf": [
            {
                "if": {"properties": {"provider": {"const": name}}, "required": ["provider"]},
                "then": {"$ref": f"#/$defs/{name}-target"},
            }
            for name in providers
        ],
    }
    made["Overlay"] = {
        "type": ["object", "null"],
        "description": "A part of a manifest that is laid over the rest; null takes a key away.",
        "additionalProperties": False,
        "properties": {key: {"type": ["object", "null"]} for key in _OVERLAY_KEYS},
    }
    made["Variable"] = {"type": "string", "pattern": r"\$\{", "description": "${NAME} or ${NAME:-default}"}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Scalable manifest",
        **_document(document),
        "$defs": dict(sorted(made.items())),
    }


def _document(document: dict[str, Any]) -> dict[str, Any]:
    properties = document["properties"]
    names = {"type": "object", "propertyNames": {"pattern": f"^{NAME_PATTERN}$"}}
    properties["targets"] = {**names, "minProperties": 1, "additionalProperties": {"$ref": "#/$defs/Target"}}
    overlays = {**names, "additionalProperties": {"$ref": "#/$defs/Overlay"}}
    properties["overlays"] = {"anyOf": [overlays, {"type": "null"}]}
    return document


def _target(name: str, options: dict[str, Any], head: dict[str, Any]) -> dict[str, Any]:
    common = {key: value for key, value in head["properties"].items() if key != "provider"}
    required = ["provider", *options.get("required", ())]
    properties = {"provider": {"const": name}, **common, **options.get("properties", {})}
    return {**options, "title": f"Target with provider {name}", "properties": properties, "required": required}


def _with_variables(schema: Any) -> Any:
    """Let a variable stand wherever a single value may, and drop pydantic's titles."""
    if isinstance(schema, list):
        return [_with_variables(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    made = {
        key: _with_variables(value) for key, value in schema.items() if key not in {"properties", "title", "default"}
    }
    if "patternProperties" in schema:
        made["additionalProperties"] = False
    if "properties" in schema:
        made["properties"] = {key: _or_nothing(_with_variables(value)) for key, value in schema["properties"].items()}
    default = schema.get("default")
    if default is not None and not isinstance(default, dict | list):
        made["default"] = default
    kinds = schema.get("type", [])
    narrow = "enum" in schema or "const" in schema or "pattern" in schema
    if narrow or (
        "string" not in kinds and set([kinds] if isinstance(kinds, str) else kinds) & {"integer", "number", "boolean"}
    ):
        return {"anyOf": [made, _VARIABLE]}
    return made


def _described(schema: dict[str, Any], inherited: str = "") -> dict[str, Any]:
    """Move what a model's docstring, or that of a base, says of each attribute to the key that it is about."""
    summary, _, attributes = schema.get("description", "").partition("\n\nAttributes\n----------\n")
    attributes += f"\n{inherited}"
    for names, text in _ATTRIBUTE.findall(attributes):
        for name in names.split(", "):
            body = schema["properties"].get(_UNIT.sub("", name)) or schema["properties"].get(name)
            if body is not None and not (inherited and "description" in body):
                body["description"] = " ".join(text.split()).replace("``", "`")
    return {**schema, "description": summary.replace("``", "`")} if summary else schema


def _or_nothing(schema: dict[str, Any]) -> dict[str, Any]:
    """Let nothing (``null``) stand for a key that is not given."""
    options = schema.get("anyOf", [schema])
    return {"anyOf": [*(one for one in options if one != {"type": "null"}), {"type": "null"}]}
