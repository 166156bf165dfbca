"""From pydantic's errors to issues."""

from __future__ import annotations

import types
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import AliasChoices, BaseModel, ValidationError
from pydantic_core import ErrorDetails

from scalable.errors import Issue, did_you_mean
from scalable.manifest.model import Component
from scalable.manifest.nodes import Table, find

__all__ = ["Location", "Translator", "known_keys"]

Location = tuple[str | int, ...]

_MESSAGES: Mapping[str, str] = {
    "string_type": "must be text",
    "bool_type": "must be true or false",
    "int_type": "must be a whole number",
    "float_type": "must be a number",
    "dict_type": "must be a mapping",
    "model_type": "must be a mapping",
    "model_attributes_type": "must be a mapping",
    "list_type": "must be a list",
    "tuple_type": "must be a list",
}

_UNKNOWN_KEY = {
    "project": "E_UNKNOWN_PROJECT_KEY",
    "components": "E_UNKNOWN_COMPONENT_KEY",
    "tasks": "E_UNKNOWN_TASK_KEY",
    "objectives": "E_UNKNOWN_OBJECTIVE_KEY",
    "targets": "E_UNKNOWN_TARGET_KEY",
}


@dataclass(frozen=True, slots=True)
class Translator:
    """Turn what validation found in one tree into issues.

    Attributes
    ----------
    root : Table
        The tree that was validated.
    file : str
        The manifest's name.
    unchecked : collection of tuple
        Locations whose value is not known, so that nothing can be said of them.
    """

    root: Table
    file: str
    unchecked: Collection[Location] = ()

    def issues(self, error: ValidationError, model: type[BaseModel], prefix: Location = ()) -> list[Issue]:
        """Return an issue for each error of one validation.

        Parameters
        ----------
        error : ValidationError
            What pydantic raised.
        model : type
            The model that was applied, to know its keys.
        prefix : tuple
            Where in the tree it was applied.
        """
        found = (self._issue(one, model, prefix) for one in error.errors(include_url=False))
        return [issue for issue in found if issue is not None]

    def issue(self, code: str, location: Location, message: str, hint: str = "", *, at_key: bool = False) -> Issue:
        """Return an issue about what is at a location: about its value, or about its key."""
        place = find(self.root, location)
        return Issue(code, place.path, message, hint, self.file, *(place.key if at_key else place.value))

    def _issue(self, error: ErrorDetails, model: type[BaseModel], prefix: Location) -> Issue | None:
        kind, inner = error["type"], error["loc"]
        about_key = inner[-1:] == ("[key]",)
        location = (*prefix, *(inner[:-1] if about_key else inner))
        if kind == "missing":
            if location in self.unchecked:
                return None
            hint = "add `version: 1`" if location == ("version",) else f"add `{location[-1]}: ...`"
            return self.issue("E_MISSING_KEY", location, f"the key '{location[-1]}' is missing", hint, at_key=True)
        if kind == "extra_forbidden":
            return self._unknown_key(location, known_keys(model, inner[:-1]))
        if kind.startswith("E_"):
            if kind == "E_BAD_PRICE" and any(one[: len(location)] == location for one in self.unchecked):
                # Its rate hangs on a variable.
                return None
            context = error.get("ctx", {})
            location = (*location, context["at"]) if context["at"] else location
            return self.issue(kind, location, context["message"], context["hint"], at_key=about_key)
        return self._plain(error, location)

    def _plain(self, error: ErrorDetails, location: Location) -> Issue:
        kind = error["type"]
        if kind == "literal_error":
            allowed = str(error.get("ctx", {}).get("expected", ""))
            hint = did_you_mean(
                str(error["input"]), [word.strip(" '") for word in allowed.replace(" or ", ",").split(",")]
            )
            return self.issue("E_BAD_VALUE", location, f"must be {allowed}", hint)
        message = _MESSAGES.get(kind)
        if message is None:
            return self.issue("E_BAD_VALUE", location, _lower_first(error["msg"]))
        given = error["input"]
        hint = "quote it" if kind == "string_type" and isinstance(given, int | float) else ""
        return self.issue("E_BAD_TYPE", location, f"{message}, not {_kind_of(given)}", hint)

    def _unknown_key(self, location: Location, known: list[str]) -> Issue:
        key = str(location[-1])
        code = _UNKNOWN_KEY.get(str(location[0]), "E_UNKNOWN_TOP_KEY")
        if "objectives" in location[:-1]:
            code = _UNKNOWN_KEY["objectives"]
        if location[0] == "targets" and location[2:-1] == ("price",):
            code = "E_UNKNOWN_PRICE_KEY"
        hint = did_you_mean(key, known)
        if not hint and location[0] == "targets" and key in known_keys(Component):
            hint = "it belongs to a component"
        return self.issue(code, location, f"unknown key '{key}'", hint or f"known: {', '.join(known)}", at_key=True)


def known_keys(model: type[BaseModel], location: Location = ()) -> list[str]:
    """Return the keys that a model, or a model inside it, takes in a manifest."""
    current: object = model
    for step in location:
        current = _below(current, step)
    found = _model_of(current)
    if found is None:
        return []
    return [_key_of(name, field.validation_alias or field.alias) for name, field in found.model_fields.items()]


def _key_of(name: str, alias: object) -> str:
    if isinstance(alias, AliasChoices):
        return str(alias.choices[0])
    return alias if isinstance(alias, str) else name


def _below(annotation: object, step: str | int) -> object:
    model = _model_of(annotation)
    if model is not None:
        fields = model.model_fields.items()
        return next((one.annotation for name, one in fields if step in (name, one.alias)), None)
    container = _strip(annotation)
    arguments = get_args(container)
    if get_origin(container) in (dict, Mapping):
        return arguments[1]
    return arguments[0] if arguments else None


def _model_of(annotation: object) -> type[BaseModel] | None:
    stripped = _strip(annotation)
    return stripped if isinstance(stripped, type) and issubclass(stripped, BaseModel) else None


def _strip(annotation: object) -> Any:
    """Return an annotation without ``Annotated`` and ``| None``."""
    while True:
        if get_origin(annotation) is Annotated:
            annotation = get_args(annotation)[0]
        elif get_origin(annotation) in (Union, types.UnionType):
            annotation = next(one for one in get_args(annotation) if one is not type(None))
        else:
            return annotation


def _kind_of(value: object) -> str:
    match value:
        case None:
            return "nothing"
        case bool():
            return f"the truth value {str(value).lower()}"
        case int() | float():
            return f"the number {value}"
        case str():
            return f"the text '{value[:40]}'"
        case list() | tuple():
            return "a list"
        case _:
            return "a mapping"


def _lower_first(message: str) -> str:
    return message[:1].lower() + message[1:]
