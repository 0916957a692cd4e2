"""The metrics of Stable-Baselines3, for our tracker."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from stable_baselines3.common.logger import KVWriter

SECTION = "sb3"
"""Prefix of the names of the metrics, and so their section in W&B."""


class Metrics(KVWriter):
    """Calls `log({"sb3/rollout/ep_rew_mean": …}, step)` with the scalars, where step counts environment steps.

    Use it as `model.set_logger(Logger(folder=None, output_formats=[Metrics(log)]))`. Texts, images and videos are
    left out.
    """

    def __init__(self, log: Callable[[dict[str, float], int], None]) -> None:
        self._log = log

    def write(self, key_values: dict[str, Any], key_excluded: dict[str, tuple[str, ...]], step: int = 0) -> None:
        scalars = {key: float(value) for key, value in key_values.items() if isinstance(value, int | float | np.number)}
        self._log({f"{SECTION}/{key}": value for key, value in scalars.items()}, step)

    def close(self) -> None:
        """There is nothing to close."""
