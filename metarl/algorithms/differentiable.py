"""What the algorithms that differentiate through the adaptation have in common: their inner loop, and its checks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import BeforeValidator

from metarl.config.settings import NAME, names_of
from metarl.inner.sgd import SGD


def _refuse_other_learners(value: Any) -> Any:
    """Raise ValueError for an inner loop other than SGD."""
    name = value.get(NAME, "sgd") if isinstance(value, Mapping) else getattr(value, NAME, "sgd")
    if name not in names_of(SGD):
        raise ValueError(
            f"{name!r} cannot be differentiated through. Choose inner: sgd, or algorithm: reptile, which needs no "
            "derivative of the adaptation"
        )
    return value


Differentiable = Annotated[SGD, BeforeValidator(_refuse_other_learners)]
"""The type of a setting for an inner loop of gradient steps; others are refused with a reason."""


def check_combination(inner: SGD, first_order: bool, exploration_credit: float = 0.0) -> None:
    """Raise ValueError for settings that contradict each other."""
    if first_order and inner.loss == "dice":
        raise ValueError(
            "inner.loss = 'dice' with first_order: dice differs from ratio in the second derivative alone, which first "
            "order leaves out. Choose inner.loss ratio, or first_order: false"
        )
    if exploration_credit and not inner.steps:
        raise ValueError(
            "exploration_credit with inner.steps = 0: there are no episodes before adaptation to be credited. Choose 1 "
            "step or more"
        )
    if exploration_credit and inner.loss != "reinforce":
        raise ValueError(
            f"exploration_credit with inner.loss = {inner.loss!r}: both account for how theta changes the episodes "
            "that are collected, which would count twice. Choose inner.loss reinforce"
        )
