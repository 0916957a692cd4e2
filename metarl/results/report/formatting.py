"""Format numbers and texts of the page: minus signs, intervals in brackets, a dash for undefined numbers."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
from markupsafe import Markup

from metarl.statistics import Estimate


def split_estimate(found: Estimate) -> tuple[str, str]:
    """The value of an estimate, and its interval or spread in brackets; a dash and nothing for an undefined one."""
    if np.isnan(found.value):
        return "–", ""
    value, _, interval = str(found).replace("-", "−").partition(" ")
    return value, interval


def format_estimate(found: Estimate) -> str:
    """An estimate with its interval, as text."""
    return " ".join(filter(None, split_estimate(found)))


def mark_estimate(found: Estimate) -> Markup:
    """An estimate with its interval as HTML; the interval moves to a new line where there is no room for it."""
    value, interval = split_estimate(found)
    return Markup('{} <span class="interval">{}</span>').format(value, interval) if interval else Markup(value)


def format_number(value: float) -> str:
    """A number with one decimal, or none from 100 on, as in estimates."""
    return split_estimate(Estimate(float(value)))[0]


def format_count(count: float) -> str:
    """A whole number with commas between thousands."""
    return f"{int(count):,}".replace("-", "−")


def format_noun(count: int, noun: str) -> str:
    """`1 step`, `2 steps`."""
    return f"{count} {noun}{'s' * (count != 1)}"


def format_text(text: str) -> str:
    """A text with minus signs in place of hyphens before numbers."""
    return re.sub(r"(?<![\w.])-(?=\d)", "−", text)


def format_setting(value: Any) -> str:
    """A value as it is written in a config."""
    words = {True: "true", False: "false", None: "null"}
    return words[value] if value is None or isinstance(value, bool) else str(value)


def format_cell(value: Any) -> str:
    """A cell of the table in baseline.json."""
    if value is None:
        return "not reached"
    if isinstance(value, int | float) and not isinstance(value, bool):
        return format_count(value) if float(value).is_integer() else format_number(value)
    return str(value)
