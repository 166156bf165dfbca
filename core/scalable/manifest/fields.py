"""The kinds of values in a manifest, with the code and the words for a wrong one.

Models of provider options use them, too.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from typing import Annotated, Any, Self

from pydantic import (
    AfterValidator,
    AliasChoices,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    WithJsonSchema,
    model_validator,
)
from pydantic_core import PydanticCustomError

from scalable.units import parse_bytes, parse_duration

__all__ = [
    "NAME_PATTERN",
    "Adaptive",
    "Capabilities",
    "Count",
    "Cpus",
    "Dollars",
    "EnvName",
    "EnvValue",
    "Flag",
    "MaxWorkers",
    "Memory",
    "Mount",
    "Name",
    "NameOrList",
    "NonNegative",
    "Positive",
    "Seconds",
    "Section",
    "Tag",
    "Text",
    "Walltime",
    "check_flag",
    "check_positive_int",
    "problem",
]

NAME_PATTERN = r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}"
"""What names of components, tags, capabilities, targets and overlays look like."""

_NAME = re.compile(NAME_PATTERN, re.ASCII)
_ENV_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*", re.ASCII)
_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f\x85\u2028\u2029]")
_SMALLEST_MEMORY = 2**20
_SHORTEST_WALLTIME_S = 60.0

_SIZE_SCHEMA = {"type": ["string", "integer"], "description": "a size: 512M, 32G, 500MB, or bytes", "examples": ["32G"]}
_DURATION_SCHEMA = {
    "type": ["string", "number"],
    "description": "a duration: 90s, 1h30m, 02:00:00, or seconds",
    "examples": ["02:00:00"],
}


def problem(code: str, message: str, hint: str = "", *, at: str = "") -> PydanticCustomError:
    """Return the exception that makes a validator report an issue with a code of its own.

    Parameters
    ----------
    code : str
        ``E_...``, listed in :mod:`scalable.manifest.codes`.
    message, hint : str
        What is wrong, and how to mend it.
    at : str
        The key that is to blame, where the validator looks at several.
    """
    return PydanticCustomError(code, "{message}", {"message": message, "hint": hint, "at": at})


class Section(BaseModel):
    """A part of a manifest: nothing may be in it that it does not name; ``null`` counts as not given."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    @model_validator(mode="before")
    @classmethod
    def _drop_nothing(cls, data: object) -> object:
        if isinstance(data, Mapping):
            return {key: value for key, value in data.items() if value is not None}
        return data


def is_number(value: object) -> bool:
    """Whether a value is a number, which true and false are not."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def _must(name: str, what: str) -> str:
    return f"{name} must {what}".lstrip()


def _unquote_hint(value: object, kind: Callable[[str], object]) -> str:
    if isinstance(value, str):
        try:
            kind(value)
        except ValueError:
            return ""
        return "remove the quotes"
    return ""


def check_positive_int(code: str, name: str) -> Callable[[object], int]:
    """Return a validator for a positive integer."""

    def check(value: object) -> int:
        if isinstance(value, int) and not isinstance(value, bool) and value > 0:
            return value
        raise problem(code, _must(name, "be a positive integer"), _unquote_hint(value, int))

    return check


def _check_count(code: str, name: str) -> Callable[[object], int]:
    def check(value: object) -> int:
        if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
            return value
        raise problem(code, _must(name, "be a whole number, zero or more"), _unquote_hint(value, int))

    return check


def _check_positive(code: str, name: str) -> Callable[[object], float]:
    def check(value: object) -> float:
        if isinstance(value, int | float) and is_number(value) and value > 0 and math.isfinite(value):
            return value
        raise problem(code, _must(name, "be a positive number"), _unquote_hint(value, float))

    return check


def _check_dollars(value: object) -> float:
    if isinstance(value, int | float) and is_number(value) and value >= 0 and math.isfinite(value):
        return value
    raise problem("E_BAD_PRICE", "must be US dollars, zero or more", _unquote_hint(value, float))


def check_flag(code: str, name: str) -> Callable[[object], bool]:
    """Return a validator for true or false."""

    def check(value: object) -> bool:
        if isinstance(value, bool):
            return value
        words = {"yes": "true", "on": "true", "true": "true", "no": "false", "off": "false", "false": "false"}
        meant = words.get(value.lower()) if isinstance(value, str) else None
        hint = f"write {meant}, without quotes" if meant else ""
        raise problem(code, _must(name, "be true or false"), hint)

    return check


def _check_flag_anywhere(value: object) -> bool:
    return check_flag("E_BAD_TYPE", "")(value)


def _parse(code: str, what: str, parse: Callable[[Any], float], value: object) -> float:
    if not isinstance(value, str) and not is_number(value):
        raise problem(code, f"must be {what}")
    try:
        return parse(value)
    except (ValueError, OverflowError) as error:
        raise problem(code, str(error)) from None


def _check_memory(value: object) -> int:
    if isinstance(value, float):
        raise problem("E_BAD_MEMORY", f"{value} is not a size", f"write a unit: {value:g}G")
    size = int(_parse("E_BAD_MEMORY", "a size such as 32G", parse_bytes, value))
    if size < _SMALLEST_MEMORY:
        unit = f"write a unit: {value}G" if isinstance(value, int) and value > 0 else "give 1M or more"
        raise problem("E_BAD_MEMORY", f"{size} bytes is too little to work with", unit)
    return size


def _check_seconds(code: str) -> Callable[[object], float]:
    def check(value: object) -> float:
        seconds = _parse(code, "a duration such as 1h30m", parse_duration, value)
        if seconds <= 0:
            raise problem(code, "a duration must be more than zero")
        return seconds

    return check


def _check_walltime(value: object) -> float:
    seconds = _check_seconds("E_BAD_WALLTIME")(value)
    if seconds < _SHORTEST_WALLTIME_S:
        message = f"a walltime of {seconds:g} seconds is shorter than a minute, the least that schedulers count"
        raise problem("E_BAD_WALLTIME", message, "write it like 02:00:00 or 2h")
    return seconds


def _check_text(value: str) -> str:
    if not value.strip():
        raise problem("E_BAD_VALUE", "the text is empty")
    return _check_characters(value)


def _check_characters(value: str) -> str:
    if found := _CONTROL.search(value):
        name = "a line break" if found[0] in "\n\r\x85\u2028\u2029" else f"the character U+{ord(found[0]):04X}"
        raise problem("E_CONTROL_CHARACTER", f"holds {name}, which cannot be passed on to a script")
    return value


def _check_name(code: str) -> Callable[[str], str]:
    def check(value: str) -> str:
        if _NAME.fullmatch(value):
            return value
        raise problem(code, f"{value!r} cannot be a name", "use letters, digits, '.', '_' and '-', 63 at most")

    return check


def _check_env_name(value: str) -> str:
    if _ENV_NAME.fullmatch(value):
        return value
    raise problem("E_BAD_ENV_NAME", f"{value!r} cannot be the name of an environment variable",
                  "use letters, digits and '_', and no digit first")  # fmt: skip


def _check_mount(value: str) -> str:
    if ":" in value or "\n" in value:
        raise problem("E_BAD_MOUNT", f"{value!r} holds a ':' or a line break, which no container runtime can mount")
    _check_characters(value)
    if not value.startswith("/"):
        hint = "variables expand in values, not in keys" if "${" in value else "start it with '/'"
        raise problem("E_RELATIVE_MOUNT", f"{value!r} is not an absolute path", hint)
    return value


def _read_capabilities(value: object) -> object:
    if isinstance(value, list):
        if wrong := next((one for one in value if not isinstance(one, str)), None):
            raise problem("E_BAD_CAPABILITY", f"{wrong!r} is not a name")
        return dict.fromkeys(value)
    return value


def _check_amount(value: object) -> float:
    if value is None:
        return math.inf
    return float(_check_positive("E_BAD_CAPABILITY", "an amount")(value))


def _one_is_a_list(value: object) -> object:
    return [value] if isinstance(value, str) else value


_NAME_SCHEMA = {"type": "string", "pattern": f"^{NAME_PATTERN}$"}

Text = Annotated[str, AfterValidator(_check_text)]
Name = Annotated[str, AfterValidator(_check_name("E_BAD_NAME")), WithJsonSchema(_NAME_SCHEMA)]
Tag = Annotated[str, AfterValidator(_check_name("E_BAD_TAG")), WithJsonSchema(_NAME_SCHEMA)]
EnvName = Annotated[
    str, AfterValidator(_check_env_name), WithJsonSchema({"type": "string", "pattern": f"^{_ENV_NAME.pattern}$"})
]
EnvValue = Annotated[str, AfterValidator(_check_characters), WithJsonSchema({"type": ["string", "number", "boolean"]})]
Mount = Annotated[str, AfterValidator(_check_mount), WithJsonSchema({"type": "string", "pattern": "^/"})]
NameOrList = Annotated[
    tuple[Text, ...],
    BeforeValidator(_one_is_a_list),
    WithJsonSchema({"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}]}),
]
Flag = Annotated[bool, BeforeValidator(_check_flag_anywhere)]
Count = Annotated[int, Field(ge=1), BeforeValidator(check_positive_int("E_BAD_COUNT", "count"))]
NonNegative = Annotated[int, Field(ge=0), BeforeValidator(_check_count("E_BAD_VALUE", ""))]
Positive = Annotated[float, Field(gt=0), BeforeValidator(_check_positive("E_BAD_VALUE", ""))]
Dollars = Annotated[float, Field(ge=0), BeforeValidator(_check_dollars)]
# Both, so that `cpus: 4` stays a whole number.
Cpus = Annotated[int | float, BeforeValidator(_check_positive("E_BAD_CPUS", "cpus")),
                 WithJsonSchema({"type": "number", "exclusiveMinimum": 0})]  # fmt: skip
MaxWorkers = Annotated[int, Field(ge=1), BeforeValidator(check_positive_int("E_BAD_MAX_WORKERS", "max_workers"))]
Memory = Annotated[int, BeforeValidator(_check_memory), WithJsonSchema(_SIZE_SCHEMA)]
Seconds = Annotated[float, BeforeValidator(_check_seconds("E_BAD_DURATION")), WithJsonSchema(_DURATION_SCHEMA)]
Walltime = Annotated[float, BeforeValidator(_check_walltime), WithJsonSchema(_DURATION_SCHEMA)]
Capabilities = Annotated[
    dict[Tag, Annotated[float, BeforeValidator(_check_amount)]],
    BeforeValidator(_read_capabilities),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "array", "items": _NAME_SCHEMA},
                {"type": "object", "additionalProperties": {"type": ["number", "null"], "exclusiveMinimum": 0}},
            ]
        }
    ),
]
_Bound = Annotated[int, Field(ge=0), BeforeValidator(_check_count("E_BAD_ADAPTIVE", "a number of workers"))]


def _also_short(schema: dict[str, Any]) -> None:
    properties = schema["properties"]
    properties["min"], properties["max"] = properties["minimum"], properties["maximum"]
    schema["anyOf"] = [{"required": ["maximum"]}, {"required": ["max"]}]
    schema.pop("required", None)


class Adaptive(Section):
    """Bounds between which the number of workers follows the work.

    Attributes
    ----------
    minimum, maximum : int
        Workers; ``min`` and ``max`` are the same keys in short. The minimum is 0 if not given.
    """

    model_config = ConfigDict(json_schema_extra=_also_short)

    minimum: _Bound = Field(default=0, validation_alias=AliasChoices("minimum", "min"))
    maximum: _Bound = Field(validation_alias=AliasChoices("maximum", "max"))

    @model_validator(mode="before")
    @classmethod
    def _once(cls, data: object) -> object:
        for long, short in (("minimum", "min"), ("maximum", "max")):
            if isinstance(data, Mapping) and data.get(long) is not None and data.get(short) is not None:
                raise problem("E_BAD_ADAPTIVE", f"{long} and {short} are the same key", "remove one of them")
        return data

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if self.maximum < 1:
            raise problem("E_BAD_ADAPTIVE", "maximum must be 1 or more")
        if self.minimum > self.maximum:
            raise problem("E_BAD_ADAPTIVE", f"minimum {self.minimum} is more than maximum {self.maximum}")
        return self
