"""Check of a family's parameters against the signature of the function that builds it."""

from __future__ import annotations

import inspect
import reprlib
from collections.abc import Callable, Mapping
from typing import Any, get_type_hints

import numpy as np
from pydantic import ConfigDict, TypeAdapter, ValidationError
from pydantic_core import ErrorDetails

from .errors import FamilyError, unknown

_STRICT = ConfigDict(strict=True, allow_inf_nan=False, arbitrary_types_allowed=True)
_EXPECTED = {
    "bool_type": "true or false",
    "finite_number": "a finite number",
    "float_type": "a number",
    "int_type": "an integer",
    "is_instance_of": "a list",
    "sequence_str": "a list",
    "string_type": "a text",
}
"""pydantic's kind of error -> what was expected, in fewer words than pydantic's."""


def check(name: str, function: Callable[..., Any], parameters: Mapping[str, Any]) -> None:
    """Raise `FamilyError` for a parameter that the function does not have, or a value of another type.

    Nothing is converted: "1" is not a number and 1 is not true. Numbers must be finite.
    """
    known = inspect.signature(function).parameters
    for parameter in parameters:
        if parameter not in known:
            raise FamilyError(unknown(f"parameter of the family {name}", parameter, known))
    hints = get_type_hints(function, include_extras=True) if parameters else {}
    for parameter, value in parameters.items():
        if (expected := _mismatch(hints.get(parameter, Any), value)) is not None:
            default = known[parameter].default
            by_default = "" if default is inspect.Parameter.empty else f", such as the default {default!r}"
            raise FamilyError(f"{name}: {parameter} = {reprlib.repr(value)}: expected {expected}{by_default}")


def _mismatch(hint: Any, value: Any) -> str | None:
    """What was expected instead of the value; None if it is of the type `hint`."""
    plain = value.tolist() if isinstance(value, np.ndarray | np.generic) else value
    try:
        TypeAdapter(hint, config=_STRICT).validate_python(plain)
    except ValidationError as error:
        return _in_words(error.errors(include_url=False)[0])
    return None


def _in_words(detail: ErrorDetails) -> str:
    message = detail["msg"].removeprefix("Input should be ").removeprefix("a valid ")
    expected = _EXPECTED.get(detail["type"], message)
    places = [place for place in detail["loc"] if isinstance(place, int)]
    return f"{expected} at place {places[0] + 1}" if places else expected
