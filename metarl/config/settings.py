"""Declaration of settings: frozen, keyword-only dataclasses that are checked when they are built."""

import inspect
import types
from collections.abc import Iterator
from dataclasses import field
from typing import Annotated, Any, Literal, TypeVar, Union, dataclass_transform, get_args, get_origin

from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass
from pydantic.fields import FieldInfo

LARGEST = 1e6
"""Upper limit of step sizes and weights: above every useful value, and far below the overflow of float32."""

NAME = "name"
"""The literal field that distinguishes the members of a union of settings."""

_CONFIG = ConfigDict(
    extra="forbid",
    strict=True,
    allow_inf_nan=False,
    ser_json_inf_nan="constants",  # infinity in free mappings would become null
    use_attribute_docstrings=True,
)

T = TypeVar("T")


@dataclass_transform(frozen_default=True, kw_only_default=True, field_specifiers=(field, Field))
def settings(cls: type[T]) -> type[T]:
    """Make `cls` a frozen, keyword-only dataclass that checks types and ranges, and refuses NaN and infinity.

    An integer is accepted for a float; nothing else is converted. The docstring below a field is its help text on the
    command line. A section of several kinds is a union whose members each have a literal `name`:

        algorithm: Annotated[MAML | Reptile, Field(discriminator="name")] = MAML()

    Errors: building an instance raises `pydantic.ValidationError`, a `ValueError` that lists every bad field.
    """
    return with_signature(dataclass(frozen=True, kw_only=True, config=_CONFIG)(cls))


def with_signature(cls: type[T]) -> type[T]:
    """Give a pydantic dataclass an `__init__` that shows its fields in `help` and in the API reference."""
    fields = [
        parameter.replace(annotation=fields_of(cls)[name].annotation)
        for name, parameter in inspect.signature(cls).parameters.items()
    ]
    own = inspect.Parameter("self", inspect.Parameter.POSITIONAL_ONLY)
    init: Any = cls.__init__
    init.__signature__ = inspect.Signature([own, *fields])
    return cls


def is_settings(cls: Any) -> bool:
    """Whether `cls` was declared with `settings`."""
    return isinstance(cls, type) and "__pydantic_fields__" in vars(cls)


def fields_of(cls: type) -> dict[str, FieldInfo]:
    """The fields of a settings class by name, with resolved annotation, default and description."""
    return vars(cls)["__pydantic_fields__"]


def kinds(annotation: Any) -> Iterator[type]:
    """The settings classes that a field with this annotation may hold."""
    if is_settings(annotation):
        yield annotation
    elif get_origin(annotation) in (Union, types.UnionType, Annotated):
        for part in get_args(annotation):
            yield from kinds(part)


def names_of(cls: type) -> tuple[Any, ...]:
    """The values of the literal `name` of a settings class; empty if it has none."""
    annotation = fields_of(cls)[NAME].annotation if NAME in fields_of(cls) else None
    return get_args(annotation) if get_origin(annotation) is Literal else ()
