"""Command-line flags for every field of a config; tyro reads their text, the config judges the values."""

import contextlib
import io
from collections.abc import Iterator, Sequence
from dataclasses import field, fields, is_dataclass, make_dataclass
from typing import Annotated, Any

import tyro
from pydantic.fields import FieldInfo
from pydantic_core import to_jsonable_python

from metarl.config import strict_yaml
from metarl.config.settings import NAME, fields_of, is_settings, kinds, names_of
from metarl.errors import UserError, nearest


def read(config: Any, args: Sequence[str], prog: str | None, description: str | None) -> dict[str, Any]:
    """The settings of `config` as plain data, with those that `args` names replaced and not yet checked.

    `--help` prints every flag with its docstring and its value in `config`, and exits.

    Errors: `UserError` for an unknown flag and for text that cannot be of the field's type.
    """
    form = _form(config)
    complaint = io.StringIO()
    try:
        with contextlib.redirect_stderr(complaint):
            filled, unknown = tyro.cli(
                type(form),
                args=args,
                prog=prog,
                description=description,
                return_unknown_args=True,
                use_underscores=True,
                config=(tyro.conf.FlagConversionOff,),
            )
    except SystemExit as stop:
        if not stop.code:
            raise
        raise UserError(_unboxed(complaint.getvalue())) from None
    _refuse(unknown, form)
    return to_jsonable_python(filled)


def _form(config: Any) -> Any:
    """`config` as a tree of plain dataclasses, which tyro can fill in before anything is checked.

    A section has the kind that it has in `config`: its literal `name` is no flag, and neither is what belongs
    to a section that is null.
    """
    cls = type(config)
    tags = {NAME} if names_of(cls) else set()
    values = {key: getattr(config, key) for key in fields_of(cls) if key not in tags}
    rows = [
        _row(key, fields_of(cls)[key], _form(value) if is_settings(type(value)) else value)
        for key, value in values.items()
        if value is not None or not any(kinds(fields_of(cls)[key].annotation))
    ]
    return make_dataclass(cls.__name__, rows, namespace={"__doc__": cls.__doc__})()


def _row(key: str, info: FieldInfo, value: Any) -> tuple[str, Any, Any]:
    """One field of a form: its name, its type with the help text, and its default."""
    annotation = _annotated(_annotation(key, info, value), tyro.conf.arg(help=info.description or ""))
    return key, annotation, field(default_factory=lambda: value)


def _annotated(annotation: Any, note: Any) -> Any:
    return Annotated[annotation, note]


def _annotation(key: str, info: FieldInfo, value: Any) -> Any:
    if isinstance(value, dict):
        return _annotated(dict, _yaml_text(key))
    return type(value) if is_dataclass(value) else info.annotation


def _yaml_text(key: str) -> tyro.constructors.PrimitiveConstructorSpec[dict[str, Any]]:
    """A free mapping is one argument, as it stands in a YAML file: `{low: 0, high: 2}`."""
    return tyro.constructors.PrimitiveConstructorSpec(
        nargs=1,
        metavar="YAML",
        instance_from_str=lambda args: strict_yaml.parse(args[0].encode(), f"the value of {key}"),
        is_instance=lambda value: isinstance(value, dict),
        str_from_instance=lambda value: [strict_yaml.inline(value)],
    )


def _refuse(unknown: Sequence[str], form: Any) -> None:
    """Errors: `UserError` when arguments are left over, with a line for each unknown flag."""
    known = list(_keys(form))
    flags = [arg.removeprefix("--").partition("=")[0] for arg in unknown if arg.startswith("--")]
    if flags:
        raise UserError("\n  ".join(["unknown flags:", *(_hint(flag, known) for flag in flags)]))
    if unknown:
        raise UserError(f"{' '.join(unknown)!r} belongs to no flag; a setting is changed by --key value.")


def _keys(form: Any, prefix: str = "") -> Iterator[str]:
    for entry in fields(form):
        value = getattr(form, entry.name)
        is_section = is_dataclass(value) and not is_settings(type(value))
        yield from _keys(value, f"{prefix}{entry.name}.") if is_section else [prefix + entry.name]


def _hint(flag: str, known: Sequence[str]) -> str:
    section, _, key = flag.rpartition(".")
    if key == NAME and any(other.startswith(f"{section}.") for other in known):
        return f"--{flag}: the kind of a section is chosen in the YAML file, {section}: {{{NAME}: …}}."
    return f"--{flag}: no such flag.{nearest(flag, known)}"


def _unboxed(complaint: str) -> str:
    """The first paragraph of a message that tyro framed."""
    lines = [line.strip("│╭╮╰╯ ") for line in complaint.splitlines()[1:]]
    end = next((i for i, line in enumerate(lines) if line.startswith("─")), len(lines))
    return " ".join(lines[:end])
