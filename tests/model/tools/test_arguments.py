"""Arguments are checked, and what is wrong is said."""

import pytest

from model.errors import ToolError
from model.tools.arguments import check_arguments, check_schema
from model.tools.base import object_schema

SCHEMA = object_schema(
    ("query",),
    query={"type": "string", "minLength": 1, "maxLength": 5},
    count={"type": "integer", "minimum": 1, "maximum": 9, "default": 3},
    kind={"type": "string", "enum": ["a", "b"]},
    exact={"type": "boolean"},
    share={"type": "number"},
    tags={"type": "array", "items": {"type": "string"}, "maxItems": 2},
)


def test_good_arguments_pass_with_defaults():
    given = {"query": "x", "exact": True, "share": 0.5, "tags": ["a"], "kind": "a"}
    assert check_arguments("t", given, SCHEMA) == {"count": 3, **given}


def test_optional_ones_that_are_empty_are_not_given():
    assert check_arguments("t", {"query": "x", "kind": "", "exact": None}, SCHEMA) == {"count": 3, "query": "x"}


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({}, "no 'query'"),
        ({"query": ""}, "too short"),
        ({"query": "   "}, "too short"),
        ({"query": "123456"}, "longer than 5"),
        ({"query": 5}, "query=5 which is no string"),
        ({"query": None}, "no string"),
        ({"query": ["x"]}, "no string"),
        ({"query": "x", "other": 1}, "an unknown 'other'"),
        ({"query": "x", "count": "3"}, "no integer"),
        ({"query": "x", "count": 3.0}, "no integer"),
        ({"query": "x", "count": True}, "no integer"),
        ({"query": "x", "count": 10}, "out of range"),
        ({"query": "x", "kind": "c"}, "none of a, b"),
        ({"query": "x", "exact": 1}, "no boolean"),
        ({"query": "x", "share": float("nan")}, "no number"),
        ({"query": "x", "tags": ["a", "b", "c"]}, "too long"),
        ({"query": "x", "tags": [1]}, "no string"),
        ({"query": "x", "tags": "ab"}, "no array"),
    ],
)
def test_bad_arguments_are_named(arguments, words):
    with pytest.raises(ToolError, match="Could not call t: ") as caught:
        check_arguments("t", arguments, SCHEMA)
    assert words in caught.value.found
    assert '"query": string' in caught.value.expected and '"kind": a|b (optional)' in caught.value.expected


def test_all_problems_are_named_at_once():
    with pytest.raises(ToolError) as caught:
        check_arguments("t", {"count": 0, "bad": 1}, SCHEMA)
    assert all(words in caught.value.found for words in ("no 'query'", "out of range", "unknown 'bad'"))


def test_a_string_without_a_limit_has_one():
    schema = object_schema(a={"type": "string"})
    with pytest.raises(ToolError, match="longer than 500"):
        check_arguments("t", {"a": "x" * 501}, schema)
    with pytest.raises(ToolError, match="no arguments"):
        check_arguments("t", {"a": "x"}, object_schema())


@pytest.mark.parametrize(
    ("name", "description", "schema", "words"),
    [
        ("a b", "d", SCHEMA, "this name"),
        ("", "d", SCHEMA, "this name"),
        ("x" * 65, "d", SCHEMA, "this name"),
        (3, "d", SCHEMA, "this name"),
        ("a", " ", SCHEMA, "no description"),
        ("a", "d", {"type": "string"}, "no schema of an object"),
        ("a", "d", [], "no schema of an object"),
        ("a", "d", {"type": "object", "oneOf": []}, "oneOf"),
        ("a", "d", {"type": "object", "required": ["q"]}, "required arguments that have no schema: q"),
        ("a", "d", object_schema(q={"type": "object"}), "no known type"),
        ("a", "d", object_schema(q={"type": "string", "pattern": "x"}), "pattern"),
        ("a", "d", object_schema(q={"type": "array", "items": {}}), "items of no known type"),
    ],
)
def test_tools_that_nobody_could_call_are_refused(name, description, schema, words):
    with pytest.raises(ToolError, match="Could not add the tool") as caught:
        check_schema(name, description, schema)
    assert words in caught.value.found


def test_a_good_tool_passes():
    check_schema("get-x_2", "d", SCHEMA)
