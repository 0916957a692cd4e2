"""Numbers and words as the page has them: signs of minus, intervals in brackets, a dash for what is undefined."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from metarl.statistics import Estimate, estimate


def split_estimate(found: Estimate) -> tuple[str, str]:
    """The value of an estimate and its interval in brackets; of an undefined one a dash, and nothing."""
    if np.isnan(found.value):
        return "–", ""
    value, _, interval = str(found).replace("-", "−").partition(" ")
    return value, interval


def format_estimate(found: Estimate) -> str:
    """An estimate with its interval, as text."""
    return " ".join(filter(None, split_estimate(found)))


def format_mean(x: NDArray[np.floating]) -> str:
    """The mean of one number per task with its interval, as text."""
    return format_estimate(estimate(x))


def mark_estimate(found: Estimate) -> Markup:
    """An estimate with its interval, which goes on a line of its own where there is no room beside the value."""
    value, interval = split_estimate(found)
    return Markup('{} <span class="interval">{}</span>').format(value, interval) if interval else Markup(value)


def format_number(value: float) -> str:
    """A number with one decimal, or none from 100 on, as estimates have it."""
    return split_estimate(Estimate(float(value), float(value), float(value)))[0]


def format_count(count: float) -> str:
    """A whole number with a comma between thousands."""
    return f"{int(count):,}".replace("-", "−")


def format_noun(count: int, noun: str) -> str:
    """`1 step`, `2 steps`."""
    return f"{count} {noun}{'s' * (count != 1)}"


def format_text(text: str) -> str:
    """A sentence with signs of minus before its numbers."""
    return re.sub(r"(?<![\w.])-(?=\d)", "−", text)


def format_setting(value: Any) -> str:
    """A value as a config has it."""
    words = {True: "true", False: "false", None: "null"}
    return words[value] if value is None or isinstance(value, bool) else str(value)


def format_cell(value: Any) -> str:
    """A value of a table that another program wrote."""
    if value is None:
        return "not reached"
    if isinstance(value, int | float) and not isinstance(value, bool):
        return format_count(value) if float(value).is_integer() else format_number(value)
    return str(value)
