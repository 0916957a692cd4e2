"""Configs: a YAML file changes defaults of a settings class, and flags change the result.

Files and flags are checked alike. One message has all wrong values, one per line, with the dotted key, the value and
what is expected.
"""

import contextlib
import difflib
import functools
import inspect
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from metarl.config import flags, strict_yaml
from metarl.config.settings import NAME, fields_of, kinds, names_of
from metarl.errors import UserError, nearest, no_such_file, shortened
from metarl.system.files import write_atomically

T = TypeVar("T")

COMMAND_LINE = "the command line"
ABSENT = "(absent)"
"""The value, in a `difference`, of a key that one of the configs does not have."""

LINES = 18
"""Most problems that a message lists: with the title and the number of the others it has 20 lines."""

_EXPECTED = {
    "missing": "missing, and it has no default",
    "union_tag_not_found": "missing: which kind of section this is",
    "dataclass_type": "should be a section, key: value",
    "tuple_type": "should be a list",
    "list_type": "should be a list",
    "dict_type": "should be a mapping, key: value",
}
"""pydantic's kind of error -> message in terms of YAML."""


def load(path: Path | str, cls: type[T]) -> T:
    """The config in the YAML file at `path`. Settings that it does not name have the defaults of `cls`.

    A section of another kind than the default (`name: …`, or the name alone, as in `algorithm: reptile`) starts from
    that kind's defaults. Lists and free mappings are replaced as a whole.

    Errors: `UserError` if the file is missing or not YAML, or has an unknown key or a wrong value.
    """
    path = Path(path)
    if not path.is_file():
        raise no_such_file("config", path, "*.yaml")
    return from_dict(strict_yaml.read(path), cls, source=str(path))


def override(
    config: T,
    args: Sequence[str],
    *,
    prog: str | None = None,
    description: str | None = None,
    hints: Mapping[str, str] | None = None,
    options: type | None = None,
) -> T:
    """`config` with changes by command-line flags such as `--algorithm.delta 0.02 --hidden 64 64 --algorithm reptile`.

    `--help` in `args` prints every flag with its docstring and its value in `config`, and exits.

    Args:
        hints: what to say about flags that do not exist; see `flags.refuse_unknown`.
        options: the command's own options, which `--help` prints too.

    Errors: `UserError` for an unknown flag or a wrong value.
    """
    chosen, args = flags.kinds_chosen(type(config), args)
    for key, name in chosen:
        config = _checked(_nested(key, name), type(config), config, COMMAND_LINE)
    data = flags.read(config, args, prog, description, hints, options)
    return _checked(data, type(config), config, COMMAND_LINE)


def options(cls: type[T], args: Sequence[str] | None, *, command: str, description: str | None) -> T:
    """A command's own options, a class of settings, from its arguments (None: those of the process).

    Errors: `UserError` for an unknown flag or a wrong value.
    """
    words = sys.argv[1:] if args is None else list(args)
    data, unknown = flags.read_options(cls, words, f"metarl {command}", description)
    flags.refuse_unknown(unknown, list(fields_of(cls)), {})
    return _checked(data, cls, None, COMMAND_LINE)


def known_options(
    cls: type[T], args: Sequence[str] | None, *, command: str | None = None, description: str | None = None
) -> tuple[T, list[str]]:
    """Like `options`, but returns the arguments that are no option of `cls`, for `override`.

    Without a `command`, `--help` is one of them; `override` prints the help of both.
    """
    words = sys.argv[1:] if args is None else list(args)
    data, rest = flags.read_options(cls, words, f"metarl {command}", description, add_help=command is not None)
    return _checked(data, cls, None, COMMAND_LINE), rest


def save(config: Any, path: Path | str) -> None:
    """Write every setting of `config` to the YAML file `path`, atomically; `load` returns an equal config.

    Errors: `OSError`, which names `path`; a file that was there before is unchanged.
    """
    write_atomically(Path(path), strict_yaml.text(to_dict(config)).encode())


def to_dict(config: Any) -> dict[str, Any]:
    """`config` as plain data: dict, list, str, int, float, bool and None."""
    return _adapter(type(config)).dump_python(config, mode="json")


def from_dict(data: Mapping[str, Any], cls: type[T], *, source: str = "the data") -> T:
    """A config from plain data, as `load` reads it from a file; `source` is its name in error messages."""
    return _checked(data, cls, None, source)


def difference(a: Any, b: Any) -> dict[str, tuple[Any, Any]]:
    """The dotted keys in which two configs, or their `to_dict`, differ, with the value in `a` and in `b`."""
    left, right = (dict(_leaves(x if isinstance(x, Mapping) else to_dict(x))) for x in (a, b))
    pairs = {key: (left.get(key, ABSENT), right.get(key, ABSENT)) for key in left | right}
    return {key: (x, y) for key, (x, y) in pairs.items() if x != y}


_adapter = functools.cache(TypeAdapter)


def _leaves(data: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in data.items():
        if isinstance(value, Mapping) and value:
            yield from _leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _kind(annotation: Any, value: Any, default: Any = None) -> type | None:
    """The settings class of the section `value`; None if it is no section or of an unknown kind."""
    if not isinstance(value, Mapping):
        return None
    known = list(kinds(annotation))
    name = value.get(NAME, getattr(default, NAME, None))
    named = [kind for kind in known if name in names_of(kind)]
    return next(iter(named or known[: len(known) == 1]), None)


def _completed(data: Mapping[str, Any], cls: type, base: Any) -> dict[str, Any]:
    """`data`, with the settings that it lacks taken from `base`; without a `base` they are left to the defaults."""
    full = {} if base is None else to_dict(base)
    full.update(data)
    for key, info in fields_of(cls).items():
        default = info.get_default(call_default_factory=True) if base is None else getattr(base, key)
        if key in data:
            full[key] = section = _spelled_out(data[key], info.annotation)
            if kind := _kind(info.annotation, section, default):
                full[key] = _completed(section, kind, default if isinstance(default, kind) else None)
    return full


def _spelled_out(value: Any, annotation: Any) -> Any:
    """The name of a kind alone stands for a section of that kind."""
    return {NAME: value} if isinstance(value, str) and any(map(names_of, kinds(annotation))) else value


def _checked(data: Mapping[str, Any], cls: type[T], base: T | None, source: str) -> T:
    full = _completed(data, cls, base)
    if unfit := [line for key, value in _leaves(full) if (line := _unfit(key, value))]:
        raise UserError(_refused(source, unfit[:LINES]))
    try:
        return _adapter(cls).validate_json(json.dumps(full))
    except ValidationError as error:
        details = error.errors(include_url=False)
    lines = [_line(detail, full, cls) for detail in details[:LINES]]
    more = [f"… and {len(details) - LINES:,} lines more"] if len(details) > LINES else []
    raise UserError(_refused(source, [*lines, *more]))


def _unfit(key: str, value: Any) -> str:
    """The problem of a value that cannot be saved, such as an integer of more than 64 bits or the name of a folder that
    is not UTF-8; empty if there is none."""
    for entry in (key, *_entries(value)):
        if isinstance(entry, int) and not -(2**63) <= entry < 2**63:
            return f"{shortened(key)} = {shortened(str(entry))}: should be an integer of at most 64 bits"
        if not isinstance(entry, str | int | float | None):
            return f"{shortened(key)}: should be plain data, not a {type(entry).__name__}"
        if isinstance(entry, str) and any("\ud800" <= letter <= "\udfff" for letter in entry):
            written = f"{shortened(ascii(key)[1:-1])} = {shortened(ascii(value))}"
            return f"{written}: is not UTF-8. Give the file or folder another name"
    return ""


def _entries(value: Any) -> Iterator[Any]:
    """The value itself, or all that a list or mapping holds."""
    if isinstance(value, Mapping):
        value = [*value, *value.values()]
    if isinstance(value, list | tuple):
        for entry in value:
            yield from _entries(entry)
    else:
        yield value


def _refused(source: str, lines: Sequence[str]) -> str:
    title = "wrong values on the command line:" if source == COMMAND_LINE else f"{source} is no valid config:"
    return "\n  ".join([title, *dict.fromkeys(lines)])


def _nested(key: str, value: Any) -> dict[str, Any]:
    """`a.b` and a value as {a: {b: value}}."""
    first, _, rest = key.partition(".")
    return {first: _nested(rest, value) if rest else value}


def _line(detail: ErrorDetails, data: Mapping[str, Any], cls: type) -> str:
    """One problem: `key = value: what is expected`."""
    keys = _keys(detail, data)
    match detail["type"]:
        case "unexpected_keyword_argument":
            siblings = fields_of(section) if (section := _section(keys, data, cls)) else ()
            return f"{_dotted(keys)}: no such setting.{nearest(str(keys[-1]), siblings)}"
        case "union_tag_invalid":
            section = _section(keys, data, cls)
            assert section is not None  # pydantic enters a section only where its kind is known
            tag, field = detail["ctx"]["tag"], fields_of(section)[str(keys[-1])]
            known = [name for kind in kinds(field.annotation) for name in names_of(kind)]
            close = difflib.get_close_matches(str(tag).casefold(), known, n=1, cutoff=0.8)  # no more than a slip
            hint = f" Did you mean {close[0]!r}?" if close else ""
            found = f"{_dotted([*keys, NAME])} = {shortened(repr(tag))}: no such name.{hint} There are"
            return "\n    ".join([found, *_alternatives(field)])
        case "union_tag_not_found":
            keys.append(NAME)
    expected = _EXPECTED.get(detail["type"]) or _in_short(detail["msg"])
    silent = isinstance(detail["input"], dict) or detail["type"] == "missing"
    value = "" if silent else f" = {shortened(repr(detail['input']))}"
    return f"{_dotted(keys)}{value}: {expected}" if keys else expected


def _alternatives(field: FieldInfo) -> list[str]:
    """A line about each kind of section that a setting may hold, then the setting's own description."""
    lines = [f"{', '.join(names_of(kind))}: {_first_line(kind)}" for kind in kinds(field.annotation)]
    return lines + ([" ".join(field.description.split())] if field.description else [])


def _first_line(cls: type) -> str:
    """Of the docstring."""
    return (inspect.getdoc(cls) or "").split("\n")[0]


def _keys(detail: ErrorDetails, data: Any) -> list[str | int]:
    """The keys of the setting with the problem: pydantic's path without the members of unions."""
    keys: list[str | int] = []
    for part in detail["loc"]:
        with contextlib.suppress(KeyError, IndexError, TypeError):
            data = data[part]
            keys.append(part)
    return [*keys, detail["loc"][-1]] if detail["type"] == "missing" else keys


def _section(keys: Sequence[str | int], data: Any, cls: type | None) -> type | None:
    """The settings class of the section that holds `keys`; None below a list, where types are not followed."""
    for key in keys[:-1]:
        known = fields_of(cls) if cls else {}
        data = data[key]
        cls = _kind(known[key].annotation, data) if isinstance(key, str) and key in known else None
    return cls


def _dotted(keys: Sequence[str | int]) -> str:
    return shortened(".".join(map(str, keys)))


def _in_short(message: str) -> str:
    return message.removeprefix("Input ").removeprefix("Value error, ").removeprefix("Assertion failed, ")
