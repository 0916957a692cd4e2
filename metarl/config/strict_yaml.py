"""YAML without its surprises: `1e-3` is a number, `on` is a word, and a key stands once.

Scalars are read by the core schema of YAML 1.2, apart from `1_000_000`, which is a number too. Only plain
data exists: tags that build other objects are refused.
"""

import re
from collections.abc import Mapping
from typing import Any

import yaml
from yaml import MappingNode, SafeDumper, SafeLoader, SequenceNode

from metarl.errors import UserError

_TAG = "tag:yaml.org,2002:"

_SCALARS = {
    "null": r"~|null|Null|NULL|",
    "bool": r"true|True|TRUE|false|False|FALSE",
    "int": r"[-+]?(0|[1-9][0-9_]*)",
    "float": r"[-+]?(\.[0-9]+|(0|[1-9][0-9_]*)(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.inf|\.nan",
}
"""How a word without quotes is recognised, first match first; every other word is a string."""

_RESOLVERS = {None: [(_TAG + kind, re.compile(rf"(?:{words})\Z")) for kind, words in _SCALARS.items()]}

_CONSTRUCTORS = {
    tag: make
    for tag, make in SafeLoader.yaml_constructors.items()
    if tag is None or tag in {_TAG + kind for kind in (*_SCALARS, "str", "seq")}
}


def parse(content: bytes, source: str) -> dict[str, Any]:
    """The mapping that a YAML document holds; an empty document is an empty mapping.

    Errors: `UserError`, with the line in `source`, when it is not YAML, repeats a key or is no mapping.
    """
    try:
        data = yaml.load(content, Loader=_Loader)
    except yaml.MarkedYAMLError as error:
        line = f", line {error.problem_mark.line + 1}" if error.problem_mark else ""
        raise UserError(f"{source}{line}: not valid YAML: {error.problem}.") from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise UserError(f"{source}: not valid YAML: {error}.") from error
    if data is not None and not isinstance(data, dict):
        found = type(data).__name__
        raise UserError(f"{source} holds a {found}; a config is a mapping, one 'key: value' per line.")
    return data or {}


def text(data: Mapping[str, Any]) -> str:
    """`data` as a YAML document, in ASCII, that `parse` reads back; lists stand on one line."""
    return yaml.dump(data, Dumper=_Dumper, sort_keys=False, width=110)


def inline(data: Mapping[str, Any]) -> str:
    """`data` as YAML on one line."""
    return yaml.dump(data, Dumper=_Dumper, sort_keys=False, width=10**6, default_flow_style=True).strip()


class _Loader(SafeLoader):
    yaml_implicit_resolvers = _RESOLVERS
    yaml_constructors = _CONSTRUCTORS


class _Dumper(SafeDumper):
    yaml_implicit_resolvers = _RESOLVERS

    def ignore_aliases(self, data: Any) -> bool:
        return True


def _mapping(loader: _Loader, node: MappingNode) -> dict[str, Any]:
    """A mapping whose keys are words, each of them once."""
    data: dict[str, Any] = {}
    for key_node, value_node in node.value:
        key = loader.construct_object(key_node, deep=True)
        if not isinstance(key, str) or key in data:
            problem = f"the key {key!r} {'stands twice' if isinstance(key, str) else 'is no word'}"
            raise yaml.MarkedYAMLError(problem=problem, problem_mark=key_node.start_mark)
        data[key] = loader.construct_object(value_node, deep=True)
    return data


def _sequence(dumper: _Dumper, items: list[Any]) -> SequenceNode:
    return dumper.represent_sequence(_TAG + "seq", items, flow_style=True)


_Loader.add_constructor(_TAG + "map", _mapping)
_Dumper.add_representer(list, _sequence)
