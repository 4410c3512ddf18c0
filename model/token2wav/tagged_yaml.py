"""Read YAML that names Python objects, without any of them: tags are left aside, values stay plain.

    flow: !new:some.module.Class          ->   {"flow": {"width": 512, "bins": 80}}
      width: 512
      bins: !ref <n_mels>                      looked up at the top level of the file
    n_mels: 80                                 (which is in the result too)

The loader knows plain values only, so a file can name any class or function and nothing is imported or called.
"""

import re
from typing import Any

import yaml


class _Reference(str):
    """What stands after `!ref`."""


class _Loader(yaml.SafeLoader):
    """Safe loader that also takes any `!tag`, as if it were not there."""


def _untagged(loader: _Loader, tag: str, node: yaml.Node) -> Any:
    if isinstance(node, yaml.MappingNode):
        return loader.construct_mapping(node, deep=True)
    if isinstance(node, yaml.SequenceNode):
        return loader.construct_sequence(node, deep=True)
    return (_Reference if tag == "ref" else str)(loader.construct_scalar(node))


_Loader.add_multi_constructor("!", _untagged)


def parse_tagged_yaml(text: str) -> Any:
    """Return the plain values of a YAML text.

    Raises:
        ValueError: If it is no YAML, or asks for objects by YAML's own `!!python` tags.
    """
    try:
        values = yaml.load(text, _Loader)
    except yaml.YAMLError as error:
        raise ValueError(" ".join(str(error).split())) from error
    if isinstance(values, dict | list):
        _resolve(values, values if isinstance(values, dict) else {}, set())
    return values


def _resolve(values: dict | list, top: dict, seen: set[int]) -> None:
    """Put what names stand for in the place of `!ref <name>`; each part is visited once, however often it is shared."""
    if id(values) in seen:
        return
    seen.add(id(values))
    for key, value in list(values.items() if isinstance(values, dict) else enumerate(values)):
        if isinstance(value, dict | list):
            _resolve(value, top, seen)
        elif isinstance(value, _Reference):
            values[key] = _look_up(value, top)


def _look_up(reference: _Reference, top: dict) -> Any:
    """Follow a name to a number or a text; arithmetic, circles and names of whole sections stay as they are written."""
    value: Any = reference
    for _ in top:
        name = re.fullmatch(r"<(\w+)>", value) if isinstance(value, _Reference) else None
        if not name or name[1] not in top or isinstance(top[name[1]], dict | list):
            break
        value = top[name[1]]
    return str(reference) if isinstance(value, _Reference) else value
