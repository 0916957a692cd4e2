"""Command-line flags: tyro parses them, the settings classes check the values.

Two kinds of declarations become flags. The fields of a config are flags with dots, such as `--algorithm.inner.steps 2`.
A command's own options are a class of `settings` too, whose fields are flags such as `--run-dir DIR`, or positional
arguments where they are annotated with `tyro.conf.Positional`. Hyphens and underscores are the same in a flag.
"""

import contextlib
import io
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import field, fields, is_dataclass, make_dataclass
from functools import partial
from itertools import dropwhile, takewhile
from pathlib import Path
from typing import Annotated, Any, get_args, get_origin

import tyro
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined, to_jsonable_python

from metarl.config import strict_yaml
from metarl.config.settings import NAME, fields_of, is_settings, kinds, names_of
from metarl.errors import UserError, nearest, shortened

_GROUPED = "[0-9]{1,3}(_[0-9]{3})+"
_WRITTEN = {
    bool: ("true|false|True|False", "neither true nor false"),
    int: (f"[-+]?([0-9]+|{_GROUPED})", "no whole number"),
    float: (rf"[-+]?([0-9]+\.?[0-9]*|\.[0-9]+|{_GROUPED})([eE][-+]?[0-9]+)?|[-+]?(inf|nan)", "no number"),
    Path: ("(?s).+", "no file or folder; the current folder is '.'"),
}
"""How values are written, and what others are. Python also accepts full-width digits and `1_0` as numbers, which are
most likely typing errors, and an empty path, as from a variable of the shell that is not set."""

_WRITTEN_OUT = tyro.conf.FlagConversionOff[bool].__metadata__[0]
_POSITIONAL = tyro.conf.Positional[str].__metadata__[0]

_LIST = re.compile(r"\[.*\]|[^,\s]+(\s*,\s*[^,\s]+)+,?")
"""A list in one argument, such as `[64, 64]` or `64,64`, instead of `64 64`."""


def read(
    config: Any,
    args: Sequence[str],
    prog: str | None,
    description: str | None,
    hints: Mapping[str, str] | None = None,
    options: type | None = None,
) -> dict[str, Any]:
    """`config` as plain data, with the settings that `args` names replaced. Their values are not checked yet.

    `--help` prints every flag with its docstring and its value in `config`, those of `options` first, and exits.

    Errors: `UserError` for an unknown flag, and for text that does not parse as the field's type.
    """
    form = _form(type(config), config)
    if options and {"-h", "--help"} & {*args}:
        form = _both(_form(options), form)
    filled, unknown = _fill(form, _one_word_each(args, form()), prog, description)
    refuse_unknown(unknown, [key for key, _ in _leaves(filled)], hints or {})
    return to_jsonable_python(filled)


def read_options(
    options: type, args: Sequence[str], prog: str | None, description: str | None, *, add_help: bool = True
) -> tuple[dict[str, Any], list[str]]:
    """A command's own options as plain data that is not checked yet, and the other arguments.

    `--help` prints the options and exits, unless `add_help` is false.
    """
    helps, leads = add_help and bool({"-h", "--help"} & {*args}), bool(args) and not args[0].startswith("-")
    filled, unknown = _fill(_form(options, positional=helps or leads), args, prog, description, add_help)
    named = {entry.name: getattr(filled, entry.name) for entry in fields(filled)}
    return to_jsonable_python({name: value for name, value in named.items() if value is not None}), unknown


def kinds_chosen(cls: type, args: Sequence[str]) -> tuple[list[tuple[str, str]], list[str]]:
    """The kinds that arguments such as `--algorithm NAME` choose, and the other arguments.

    Kinds are (dotted key, name), outer sections first. `cls` is a class of settings.

    Errors: `UserError` for a flag without a name.
    """
    sections, chosen, rest = {*_sections(cls)}, [], []
    words = iter(args)
    for word in words:
        flag, equals, value = word.partition("=")
        key = flag.removeprefix("--").replace("-", "_").removesuffix(f".{NAME}")
        if flag.startswith("--") and key in sections:
            value = value if equals else next(words, "")
            if not value or value.startswith("--"):
                raise UserError(f"--{key} needs the name of a kind.")
            chosen.append((key, value))
        else:
            rest.append(word)
    return sorted(chosen, key=lambda pair: pair[0].count(".")), rest


def _sections(cls: type, prefix: str = "") -> Iterator[str]:
    """The dotted keys of all sections that can be of several kinds, in all kinds of their outer sections."""
    for key, info in fields_of(cls).items():
        own = list(kinds(info.annotation))
        if any(map(names_of, own)):
            yield prefix + key
        for kind in own:
            yield from _sections(kind, f"{prefix}{key}.")


def _fill(
    form: type, args: Sequence[str], prog: str | None, description: str | None, add_help: bool = True
) -> tuple[Any, list[str]]:
    complaint = io.StringIO()
    try:
        with contextlib.redirect_stderr(complaint):
            return tyro.cli(
                form,
                args=args,
                prog=prog,
                description=f"{description or ''}\n\nHyphens and underscores are the same in a flag.",
                return_unknown_args=True,
                add_help=add_help,
                registry=_registry(),
            )
    except SystemExit as stop:
        if not stop.code:
            raise
    raise UserError(_unboxed(complaint.getvalue()))


def _registry() -> tyro.constructors.ConstructorRegistry:
    """Makes tyro accept only what `_WRITTEN` has."""
    registry = tyro.constructors.ConstructorRegistry()

    @registry.primitive_rule
    def strict(info: tyro.constructors.PrimitiveTypeInfo) -> tyro.constructors.PrimitiveConstructorSpec | None:
        kind = info.type
        if kind not in _WRITTEN:
            return None
        return tyro.constructors.PrimitiveConstructorSpec(
            nargs=1,
            metavar="{true,false}" if kind is bool else kind.__name__.upper(),
            instance_from_str=lambda args: _value(args[0], kind),
            is_instance=lambda value: isinstance(value, (int, kind)) and isinstance(value, bool) == (kind is bool),
            str_from_instance=lambda value: [str(value).lower() if kind is bool else str(value)],
        )

    return registry


def _value(text: str, kind: Any) -> Any:
    written, otherwise = _WRITTEN[kind]
    if not re.fullmatch(written, text):
        raise ValueError(f"{shortened(text)!r} is {otherwise}")
    return text in ("true", "True") if kind is bool else kind(text)


def _form(cls: type, config: Any = None, *, positional: bool = True) -> Any:
    """A plain dataclass with the fields of a class of settings, which tyro fills in without checks.

    Defaults are the values in `config`, or those of the class. The literal `name` of a section is left out, and so is a
    section that is null.

    Args:
        positional: whether to include optional positional arguments.
    """
    tags = {NAME} if names_of(cls) else set()
    rows = []
    for key, info in fields_of(cls).items():
        default = info.get_default(call_default_factory=True) if config is None else getattr(config, key)
        if default is not PydanticUndefined and not positional and _POSITIONAL in info.metadata:
            continue
        if key not in tags and not (default is None and any(kinds(info.annotation))):
            rows.append(_row(key, info, default, is_option=config is None))
    return make_dataclass(cls.__name__, rows, namespace={"__doc__": cls.__doc__}, kw_only=True)


def _both(options: Any, settings: Any) -> type:
    """A form with the fields of two, so that `--help` prints both."""
    own = {entry.name for entry in fields(settings)}
    entries = [*(entry for entry in fields(options) if entry.name not in own), *fields(settings)]
    return make_dataclass("Flags", [(entry.name, entry.type, entry) for entry in entries], kw_only=True)


def _row(key: str, info: FieldInfo, default: Any, *, is_option: bool) -> tuple[str, Any, Any]:
    """One field of a form: its name, its type with the help text, and its default."""
    about: dict[str, Any] = {"help": info.description or ""}
    annotation = info.annotation
    if is_settings(type(default)):
        section = _form(type(default), default)
        return key, _annotated(section, tyro.conf.arg(**about)), field(default_factory=section)
    if default in (None, "") or (get_origin(annotation) is tuple and is_option):  # the docstring explains the default
        about |= {"help_behavior_hint": "", "metavar": _metavar(annotation)}
    for note in info.metadata:
        about |= note if isinstance(note, dict) else {}
    notes = [note for note in info.metadata if type(note).__module__.startswith("tyro.")]
    if not is_option:
        notes.append(_WRITTEN_OUT)
    if isinstance(default, dict):
        annotation, notes = dict, [*notes, _yaml_text(key)]
    for note in (*notes, tyro.conf.arg(**about)):
        annotation = _annotated(annotation, note)
    absent = default is PydanticUndefined
    return key, annotation, field() if absent else field(default_factory=partial(lambda value: value, default))


def _annotated(annotation: Any, note: Any) -> Any:
    return Annotated[annotation, note]


def _metavar(annotation: Any) -> str:
    """The placeholder of an optional value in the help: `INT` for `int | None`."""
    optional = [part for part in get_args(annotation) if part is not type(None)]
    first = annotation if get_origin(annotation) is tuple or not optional else optional[0]
    if get_origin(first) is tuple:
        return f"{get_args(first)[0].__name__.upper()} ..."
    return getattr(first, "__name__", "VALUE").upper()


def _yaml_text(key: str) -> tyro.constructors.PrimitiveConstructorSpec[dict[str, Any]]:
    """A free mapping is one argument, written as in a YAML file: `{low: 0, high: 2}`."""
    return tyro.constructors.PrimitiveConstructorSpec(
        nargs=1,
        metavar="YAML",
        instance_from_str=lambda args: strict_yaml.parse(args[0].encode(), f"the value of {key}"),
        is_instance=lambda value: isinstance(value, dict),
        str_from_instance=lambda value: [strict_yaml.inline(value)],
    )


def _one_word_each(args: Sequence[str], form: Any) -> list[str]:
    """The arguments, with `--hidden 64,64` and `--hidden [64, 64]` changed to `--hidden 64 64`."""
    lists, words = {key for key, value in _leaves(form) if isinstance(value, tuple)}, []
    is_list = False
    for word in args:
        flag, equals, value = word.partition("=")
        if flag.startswith("--"):
            is_list = flag.removeprefix("--").replace("-", "_") in lists
            words, word = ([*words, flag], value) if is_list and equals else (words, word)
        if is_list and _LIST.fullmatch(word):
            words += [part.strip() for part in word.strip("[]").split(",") if part.strip()]
        else:
            words.append(word)
    return words


def refuse_unknown(unknown: Sequence[str], known: Sequence[str], hints: Mapping[str, str]) -> None:
    """Raise `UserError` for unknown arguments, with a line for each flag.

    Args:
        unknown: the arguments that were not recognised.
        known: dotted keys of the flags that exist.
        hints: name of a setting elsewhere -> a sentence, or the last parts of the keys that mean the same here.
    """
    flags = [arg.removeprefix("--").partition("=")[0] for arg in unknown if arg.startswith("--")]
    if flags:
        raise UserError("\n  ".join(["unknown flags:", *(_hint(flag, known, hints) for flag in flags)]))
    if unknown:
        raise UserError(f"{shortened(' '.join(unknown))!r} belongs to no flag; a setting is changed by --key value.")


def _hint(flag: str, known: Sequence[str], hints: Mapping[str, str]) -> str:
    key, says = flag.replace("-", "_"), f"--{shortened(flag)}: no such flag."
    *_, last = key.split(".")
    if hint := hints.get(last):
        if hint.endswith("."):
            return f"{says} {hint}"
        same = [name for name in known if name.split(".")[-1] in hint.split()]
        here = [name for name in same if name.rpartition(".")[0] == key.rpartition(".")[0]] or same
        if here:
            return f"{says} Here it is {' or '.join(map(spelled, here))}."
    elsewhere = [spelled(name) for name in known if name.split(".")[-1] == last]
    if elsewhere:
        return f"{says} Did you mean {' or '.join(elsewhere[:4])}?"
    return says + nearest(spelled(key), map(spelled, known), "--help lists all flags.")


def spelled(key: str) -> str:
    """A setting as a flag: `--env.horizon`."""
    return f"--{key.replace('_', '-')}"


def _leaves(form: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    for entry in fields(form):
        value = getattr(form, entry.name)
        yield from _leaves(value, f"{prefix}{entry.name}.") if is_dataclass(value) else [(prefix + entry.name, value)]


def _unboxed(complaint: str) -> str:
    """The first paragraph of an error message of tyro, without the frame around it."""
    lines = [line.strip("│╭╮╰╯ ") for line in complaint.splitlines()[1:]]
    lines = [*dropwhile(_is_rule, lines)]  # one is above the text where the terminal is not UTF-8
    lines = [*takewhile(lambda line: not _is_rule(line), lines)]
    return re.sub(r"(no type matching|\[''\] does not match) .* - <class '[\w.]+'>: ", "", " ".join(lines))


def _is_rule(line: str) -> bool:
    return bool(line) and not line.strip("─-")
