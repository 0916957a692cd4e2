"""Statistics over test tasks: mean, interquartile mean, and bootstrap intervals."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from metarl.seeding import Purpose, stream

RESAMPLES = 2000


@dataclass(frozen=True)
class Estimate:
    """A statistic with its 95% bootstrap interval."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        """With one decimal, or none where a number has three digits before it."""
        decimals = 0 if max(abs(self.value), abs(self.low), abs(self.high)) >= 100 else 1
        return f"{self.value:.{decimals}f} [{self.low:.{decimals}f}, {self.high:.{decimals}f}]"


def interquartile_mean(x: NDArray[np.floating], axis: int = -1) -> NDArray[np.floating]:
    """Mean of the middle half (Agarwal et al. 2021), with the boundary values weighted by the part that is inside."""
    ordered = np.sort(x, axis=axis)
    n = ordered.shape[axis]
    edges = np.arange(n + 1) / n
    inside = np.clip(np.minimum(edges[1:], 0.75) - np.maximum(edges[:-1], 0.25), 0, None)
    return np.average(ordered, axis=axis, weights=inside)


def estimate(x: NDArray[np.floating], statistic: Callable[..., NDArray[np.floating]] = np.mean) -> Estimate:
    """The statistic of one number per task, with a percentile bootstrap over tasks.

    Args:
        x: (tasks,); NaN for a task that was left out, and then not counted.
        statistic: of an array along an axis, such as `np.mean` or `interquartile_mean`.
    """
    x = x[~np.isnan(x)]
    if not len(x):
        return Estimate(np.nan, np.nan, np.nan)
    chosen = stream(0, Purpose.BOOTSTRAP).integers(len(x), size=(RESAMPLES, len(x)))
    low, high = np.quantile(statistic(x[chosen], axis=-1), [0.025, 0.975])
    return Estimate(float(statistic(x, axis=-1)), float(low), float(high))
