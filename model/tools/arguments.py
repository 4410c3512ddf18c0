"""Arguments of a tool against its JSON schema, with sentences that help the model to do better.

Only what tool schemas use: objects of strings, numbers, integers, booleans and lists, with `required`, `enum`, lengths
and ranges. A schema that asks for more is refused when the toolbox is made, not silently taken for granted.
"""

import math
import re
from collections.abc import Iterator, Mapping
from typing import Any

from model.errors import ToolError

MAX_STRING_CHARS = 500
"""Longest string argument where the schema names no other limit."""
_MAX_ITEMS = 50
_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")
_TYPES = {"string": str, "number": (int, float), "integer": int, "boolean": bool, "array": list}
_KNOWN = {"type", "description", "enum", "default", "minLength", "maxLength", "minimum", "maximum", "items", "maxItems"}
_OBJECT_KEYS = {"type", "properties", "required", "additionalProperties", "description"}


def check_arguments(name: str, arguments: Mapping[str, Any], schema: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments a tool will get: unused ones left out, defaults filled in.

    An optional argument that is null or empty counts as not given: models like to fill in every field.

    Args:
        name: The tool, for the message.
        arguments: As the model wrote them.
        schema: The tool's parameters, already checked by `check_schema`.

    Raises:
        ToolError: With everything that is wrong, and what would be right.
    """
    properties, required = schema.get("properties", {}), schema.get("required", ())
    given = {key: value for key, value in arguments.items() if key in required or value not in (None, "")}
    problems = [f"no {key!r}" for key in required if key not in given]
    problems += [f"an unknown {str(key)!r:.60}" for key in given if key not in properties]
    for key, value in given.items():
        problems += [f"{key}={_shown(value)} {why}" for why in _problems(value, properties.get(key, {}))]
    if problems:
        raise ToolError(
            f"call {name}",
            found=" and ".join(problems),
            expected=_signature(schema),
            todo="Call it again with such arguments, or answer without it",
        )
    defaults = {key: each["default"] for key, each in properties.items() if "default" in each}
    return {**defaults, **given}


def _problems(value: Any, schema: Mapping[str, Any]) -> Iterator[str]:
    kind = schema.get("type")
    if kind is None:
        return
    if not _is(value, kind):
        yield f"which is no {kind}"
    elif kind == "string":
        yield from _string_problems(value, schema)
    elif kind in ("number", "integer"):
        if not schema.get("minimum", -math.inf) <= value <= schema.get("maximum", math.inf):
            yield "which is out of range"
    elif kind == "array":
        if len(value) > schema.get("maxItems", _MAX_ITEMS):
            yield "which is too long a list"
        for item in value[:_MAX_ITEMS]:
            yield from _problems(item, schema.get("items", {}))
    if "enum" in schema and value not in schema["enum"]:
        yield f"which is none of {', '.join(map(str, schema['enum']))}"


def _string_problems(value: str, schema: Mapping[str, Any]) -> Iterator[str]:
    longest = schema.get("maxLength", MAX_STRING_CHARS)
    if len(value) > longest:
        yield f"which is longer than {longest} characters"
    if len(value.strip()) < schema.get("minLength", 0):
        yield "which is too short"


def _is(value: Any, kind: str) -> bool:
    """Whether a value is of a JSON type; True is no number, NaN neither."""
    if isinstance(value, bool) or kind == "boolean":
        return isinstance(value, bool) and kind == "boolean"
    if isinstance(value, float) and not math.isfinite(value):
        return False
    return isinstance(value, _TYPES[kind])


def _shown(value: Any) -> str:
    return f"{value!r:.60}"


def _signature(schema: Mapping[str, Any]) -> str:
    """Describe the arguments as a model can follow: `{"query": string, "count": integer (optional)}`."""
    required = schema.get("required", ())
    words = [
        f'"{key}": {"|".join(map(str, each["enum"])) if "enum" in each else each.get("type", "any")}'
        + ("" if key in required else " (optional)")
        for key, each in schema.get("properties", {}).items()
    ]
    return "{" + ", ".join(words) + "}" if words else "no arguments"


def check_schema(name: Any, description: Any, schema: Any) -> None:
    """Refuse a tool that no model could call, or whose schema says things that nobody checks.

    Raises:
        ToolError: Naming the first problem.
    """
    problem = _tool_problem(name, description, schema)
    if problem:
        raise ToolError(
            f"add the tool {name!r:.80}",
            found=problem,
            expected="a name of letters, digits, _ and -, a description, and a flat JSON schema of type object",
            todo="Correct the tool, or the name it was given",
        )


def _tool_problem(name: Any, description: Any, schema: Any) -> str | None:
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        return "this name"
    if not isinstance(description, str) or not description.strip():
        return "no description"
    if not isinstance(schema, Mapping) or schema.get("type") != "object":
        return "parameters that are no schema of an object"
    properties, unknown = schema.get("properties", {}), set(schema) - _OBJECT_KEYS
    if unknown:
        return f"the schema keywords {', '.join(sorted(unknown))}"
    missing = [key for key in schema.get("required", ()) if key not in properties]
    if missing:
        return f"required arguments that have no schema: {', '.join(missing)}"
    return next(filter(None, (_property_problem(key, each) for key, each in properties.items())), None)


def _property_problem(key: str, schema: Any) -> str | None:
    if not isinstance(schema, Mapping) or schema.get("type") not in _TYPES:
        return f"an argument {key!r} of no known type"
    if "items" in schema and _property_problem(key, schema["items"]):
        return f"items of no known type in the argument {key!r}"
    unknown = set(schema) - _KNOWN
    return f"the keywords {', '.join(sorted(unknown))} of the argument {key!r}" if unknown else None
