"""Stable-Baselines3's metrics in our tracker."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from stable_baselines3.common.logger import KVWriter

SECTION = "sb3"
"""What the names of the metrics start with, and so where W&B shows them."""


class Metrics(KVWriter):
    """Passes scalars on as `log({"sb3/rollout/ep_rew_mean": …}, step)`; step is the number of environment steps.

    For `model.set_logger(Logger(folder=None, output_formats=[Metrics(log)]))`. Text, pictures and videos are left out.
    """

    def __init__(self, log: Callable[[dict[str, float], int], None]) -> None:
        self._log = log

    def write(self, key_values: dict[str, Any], key_excluded: dict[str, tuple[str, ...]], step: int = 0) -> None:
        self._log({f"{SECTION}/{key}": float(value) for key, value in key_values.items() if _is_number(value)}, step)

    def close(self) -> None:
        """Nothing is held open."""


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float | np.number)
