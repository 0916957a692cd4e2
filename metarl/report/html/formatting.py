"""Numbers as the page writes them."""

from __future__ import annotations

import re

import numpy as np
from numpy.typing import NDArray

from metarl.statistics import Estimate, estimate


def parts(found: Estimate) -> tuple[str, str]:
    """The value of an estimate and its interval in brackets, with signs of minus; an undefined one is a dash."""
    if np.isnan(found.value):
        return "–", ""
    written = re.sub(r"-(0(?:\.0)?)(?![\d.])", r"\1", str(found)).replace("-", "−")
    value, _, interval = written.partition(" ")
    return value, interval


def told(found: Estimate) -> str:
    """An estimate with its interval."""
    return " ".join(filter(None, parts(found)))


def mean(x: NDArray[np.floating]) -> str:
    """The mean of one number per task, with its interval."""
    return told(estimate(x))


def number(value: float) -> str:
    """With one decimal, or none from 100 on, as estimates have it."""
    return parts(Estimate(float(value), float(value), float(value)))[0]


def grouped(count: float) -> str:
    """A whole number with a comma between thousands."""
    return f"{int(count):,}".replace("-", "−")


def written(text: str) -> str:
    """A sentence of another script, with signs of minus before numbers."""
    return re.sub(r"(?<![\w.])-(?=\d)", "−", text)


def counted(count: int, noun: str) -> str:
    """`1 step`, `2 steps`."""
    return f"{count} {noun}{'s' * (count != 1)}"
