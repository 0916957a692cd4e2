"""Strict YAML: `1e-3` is a number, `on` is a string, and no key occurs twice.

Scalars follow the core schema of YAML 1.2, but `1_000_000` is a number too, and `0x10` is a string. Only plain data is
read: tags that build other objects are refused, and so are aliases, with which a few hundred bytes can expand to
gigabytes.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from yaml import AliasEvent, MappingNode, Node, SafeDumper, SafeLoader, ScalarNode, SequenceNode

from metarl.errors import UserError, shortened

LARGEST = 2**16
"""Size of the largest file that is read [bytes]."""

PROBLEM = 200
"""Most characters of a message of the YAML parser, which may quote the file."""

_TAG = "tag:yaml.org,2002:"

_DIGITS = r"(0|[1-9][0-9]*|[1-9][0-9]{0,2}(_[0-9]{3})+)"

_SCALARS = {
    "null": r"~|null|Null|NULL|",
    "bool": r"true|True|TRUE|false|False|FALSE",
    "int": rf"[-+]?{_DIGITS}",
    "float": rf"[-+]?(\.[0-9]+|{_DIGITS}(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.inf|\.nan",
}
"""The types of unquoted scalars, tried in this order; every other scalar is a string. A tag, such as `!!int`, takes the
same texts only."""

_RESOLVERS = {None: [(_TAG + kind, re.compile(rf"(?:{words})\Z")) for kind, words in _SCALARS.items()]}

_CONSTRUCTORS = {
    tag: make
    for tag, make in SafeLoader.yaml_constructors.items()
    if tag is None or tag in {_TAG + kind for kind in (*_SCALARS, "str", "seq")}
}


def parse(content: bytes, source: str) -> dict[str, Any]:
    """The mapping that a YAML document holds; an empty document is an empty mapping.

    Errors: `UserError`, with the line in `source`, if it is not YAML, repeats a key, has an alias, is not a mapping, or
    is larger than `LARGEST`.
    """
    if len(content) > LARGEST:
        raise UserError(f"{source} has more than {LARGEST:,} bytes: no config is as large as that.")
    try:
        data = yaml.load(content.decode(), Loader=_Loader)
    except yaml.MarkedYAMLError as error:
        line = f", line {error.problem_mark.line + 1}" if error.problem_mark else ""
        raise UserError(f"{source}{line}: not valid YAML: {shortened(str(error.problem), PROBLEM)}.") from error
    except RecursionError as error:
        raise UserError(f"{source}: not valid YAML: it is nested too deeply.") from error
    except (yaml.YAMLError, ValueError) as error:
        raise UserError(f"{source}: not valid YAML: {shortened(str(error), PROBLEM)}.") from error
    if data is not None and not isinstance(data, dict):
        found = type(data).__name__
        raise UserError(f"{source} holds a {found}; a config is a mapping, one 'key: value' per line.")
    return data or {}


def read(path: Path) -> dict[str, Any]:
    """The mapping in the file at `path`. Errors: those of `parse`."""
    with path.open("rb") as file:
        return parse(file.read(LARGEST + 1), str(path))


def text(data: Mapping[str, Any]) -> str:
    """`data` as a YAML document in ASCII, which `parse` reads back, with each list on one line."""
    return yaml.dump(data, Dumper=_Dumper, sort_keys=False, width=110)


def inline(data: Mapping[str, Any]) -> str:
    """`data` as YAML on one line."""
    return yaml.dump(data, Dumper=_Dumper, sort_keys=False, width=10**6, default_flow_style=True).strip()


class _Loader(SafeLoader):
    yaml_implicit_resolvers = _RESOLVERS
    yaml_constructors = _CONSTRUCTORS

    def compose_node(self, parent: Node | None, index: Any) -> Node | None:
        """The next node; an alias is refused."""
        if self.check_event(AliasEvent):
            event = self.peek_event()
            problem = f"the alias *{event.anchor} is not read: write out what it stands for"
            raise yaml.MarkedYAMLError(problem=problem, problem_mark=event.start_mark)
        return super().compose_node(parent, index)

    def construct_object(self, node: Node, deep: bool = False) -> Any:
        """The value of a node; one that does not fit its tag, such as `!!bool maybe`, is refused."""
        try:
            if words := _SCALARS.get(node.tag.removeprefix(_TAG)):
                _check_written(node.value, words)
            return super().construct_object(node, deep=deep)
        except (ValueError, KeyError, TypeError, IndexError, AttributeError) as error:
            kind = node.tag.removeprefix(_TAG)
            found = shortened(repr(node.value)) if isinstance(node, ScalarNode) else "the list or mapping"
            problem = f"{found} is no {kind}"
            raise yaml.MarkedYAMLError(problem=problem, problem_mark=node.start_mark) from error


def _check_written(text: str, words: str) -> None:
    if not re.fullmatch(words, text):
        raise ValueError(text)


class _Dumper(SafeDumper):
    yaml_implicit_resolvers = _RESOLVERS

    def ignore_aliases(self, data: Any) -> bool:
        return True


def _mapping(loader: _Loader, node: MappingNode) -> dict[str, Any]:
    """A mapping whose keys are strings, none of them twice."""
    data: dict[str, Any] = {}
    for key_node, value_node in node.value:
        key = loader.construct_object(key_node, deep=True)
        if not isinstance(key, str) or key in data:
            problem = f"the key {shortened(repr(key))} {'occurs twice' if isinstance(key, str) else 'is not a string'}"
            raise yaml.MarkedYAMLError(problem=problem, problem_mark=key_node.start_mark)
        data[key] = loader.construct_object(value_node, deep=True)
    return data


def _sequence(dumper: _Dumper, items: list[Any]) -> SequenceNode:
    return dumper.represent_sequence(_TAG + "seq", items, flow_style=True)


_Loader.add_constructor(_TAG + "map", _mapping)
_Dumper.add_representer(list, _sequence)
