"""Statistics of returns over seeds and test tasks: aggregates, gain, comparison, and bootstrap intervals.

Returns are arrays x (seeds, tasks), one number for each training run and test task: the mean over its episodes. NaN
marks a task that was left out of a run, and is not counted. Intervals come from resampling:

- Of several seeds, the seeds are resampled and the tasks stay: the interval says how the number would vary if the runs
  were trained again. A run is drawn with all its tasks, because one training meets them all: its luck is in each of
  them. The stratified bootstrap of Agarwal et al. 2021, "Deep reinforcement learning at the edge of the statistical
  precipice", draws seeds within each task instead, which is right where each task is trained separately. For runs
  that share their luck it would be far too sure: with 5 seeds, 40 tasks, and half of the variance between the runs and
  half within them, its 95% intervals cover the truth 3 times in 10.
- Of one seed, the tasks are resampled: the interval says how the number would vary with other tasks, and nothing about
  other seeds.

All are percentile intervals of RESAMPLES resamples from one fixed stream, so a number always has the same interval.
Like every bootstrap of a few values, those of a few seeds are too narrow: of 2, 3, 5 and 10 normal numbers they cover
the mean 50, 75, 84 and 90 times in 100.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from metarl.seeding import Purpose, stream

RESAMPLES = 2000

Array = NDArray[np.floating]
Statistic = Callable[..., Array]
"""Of an array along an axis: `mean`, `interquartile_mean`, `worst_decile`."""


@dataclass(frozen=True)
class Estimate:
    """A statistic with its 95% bootstrap interval."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        """With one decimal, or none where a number has three digits before it."""
        return self.text(0 if max(abs(self.value), abs(self.low), abs(self.high)) >= 100 else 1)

    def text(self, decimals: int) -> str:
        """`value [low, high]`."""
        return f"{self.value:z.{decimals}f} [{self.low:z.{decimals}f}, {self.high:z.{decimals}f}]"


Curve: TypeAlias = Sequence[Estimate]
"""A statistic at P points, each with its interval; for an adaptation curve, P = K + 1."""


UNDEFINED = Estimate(np.nan, np.nan, np.nan)
"""Of no runs or no tasks."""


# ------------------------------------------------------------------------------------------------ aggregates
def mean(x: Array, axis: int = -1) -> Array:
    """Mean of the values that are there; NaN of none."""
    count = (~np.isnan(x)).sum(axis=axis)
    return np.where(count, np.nansum(x, axis=axis), np.nan) / np.maximum(count, 1)


def interquartile_mean(x: Array, axis: int = -1) -> Array:
    """Mean of the middle half (Agarwal et al. 2021), with the boundary values weighted by the part that is inside."""
    return mean_between(x, 0.25, 0.75, axis)


def worst_decile(x: Array, axis: int = -1) -> Array:
    """Mean of the lowest tenth, what adaptation is worth where it works worst; of up to ten values the lowest one."""
    return mean_between(x, 0.0, 0.1, axis)


def mean_between(x: Array, low: float, high: float, axis: int = -1) -> Array:
    """Mean of the values between two quantiles, the boundary ones weighted by the part inside; NaN is not counted."""
    ordered = np.sort(np.moveaxis(x, axis, -1), axis=-1)  # NaN comes last
    n = np.maximum((~np.isnan(ordered)).sum(axis=-1, keepdims=True), 1)
    edges = np.arange(ordered.shape[-1] + 1) / n
    inside = np.clip(np.minimum(edges[..., 1:], high) - np.maximum(edges[..., :-1], low), 0, None)
    return np.where(inside > 0, inside * ordered, 0).sum(axis=-1) / inside.sum(axis=-1)


# ------------------------------------------------------------------------------------------------- intervals
def estimate(x: Array, statistic: Statistic = mean) -> Estimate:
    """The statistic of all runs on all tasks, with its interval.

    Args:
        x: (seeds, tasks) or, of one seed, (tasks,).
        statistic: of an array along an axis.
    """
    x = _of_runs(x)
    if np.isnan(x).all():
        return UNDEFINED
    return _interval(statistic(x.reshape(-1), axis=-1), statistic(_flat(resample(x)), axis=-1))


def paired_gain(before: Array, after: Array, statistic: Statistic = mean) -> Estimate:
    """The statistic of after - before, paired by seed and task, with its interval; arrays as for `estimate`."""
    return estimate(after - before, statistic)


def probability_of_improvement(x: Array, y: Array) -> Estimate:
    """How likely a run of X is better than a run of Y on the same task, with its interval.

    The mean over tasks m of P(X_m > Y_m) + P(X_m = Y_m) / 2, over all pairs of a run of X and a run of Y (the
    Mann-Whitney statistic divided by the number of pairs; Agarwal et al. 2021, section 4.3). 0.5: neither is better.

    With one seed each it is the share of tasks on which this run of X is better than this run of Y, and the interval
    resamples tasks. Where only one side has several seeds, only these are resampled.

    Args:
        x, y: (seeds of X, tasks), (seeds of Y, tasks), or (tasks,) of one seed.
    """
    x, y = np.atleast_2d(x, y)
    if x.shape[1] != y.shape[1]:
        raise ValueError(f"x is of {x.shape[1]} tasks and y of {y.shape[1]}: the comparison is task by task")
    wins = np.where(np.isnan(x[:, None] - y), np.nan, (x[:, None] > y) + 0.5 * (x[:, None] == y))  # (X, Y, tasks)
    if np.isnan(wins).all():
        return UNDEFINED
    if len(x) == len(y) == 1:
        return estimate(wins[0])
    rng = stream(0, Purpose.BOOTSTRAP)
    drawn = [_counts(len(runs), runs.shape[1], rng) for runs in (x, y)]
    pairs = [np.einsum("rxm,rym,xym->rm", *drawn, part) for part in (np.nan_to_num(wins), 1.0 * ~np.isnan(wins))]
    of_tasks = np.divide(*pairs, out=np.full_like(pairs[0], np.nan), where=pairs[1] > 0)  # (RESAMPLES, tasks)
    return _interval(mean(mean(wins.reshape(-1, wins.shape[-1]), axis=0)), mean(of_tasks))


def performance_profile(x: Array, thresholds: Array) -> list[Estimate]:
    """The share of runs and tasks whose return is above each threshold (Agarwal et al. 2021, section 4.2).

    Args:
        x: (seeds, tasks) or, of one seed, (tasks,).
        thresholds: (P,)

    Returns:
        P estimates; their intervals are pointwise.
    """
    x = _of_runs(x)
    if np.isnan(x).all():
        return [UNDEFINED] * len(thresholds)
    resampled = _flat(resample(x))
    known, resampled_known = (~np.isnan(x)).sum(), np.maximum((~np.isnan(resampled)).sum(axis=-1), 1)
    return [
        _interval((x > threshold).sum() / known, (resampled > threshold).sum(axis=-1) / resampled_known)
        for threshold in thresholds
    ]


def resample(x: Array) -> Array:
    """(RESAMPLES, seeds, tasks): as x (seeds, tasks), with seeds drawn with replacement; of one seed, tasks."""
    rng, (S, M) = stream(0, Purpose.BOOTSTRAP), x.shape
    if S == 1:
        return x[0, rng.integers(M, size=(RESAMPLES, M))][:, None]
    return x[rng.integers(S, size=(RESAMPLES, S, 1)), np.arange(M)]


# --------------------------------------------------------------------------------------------------- summary
def summary(x: Array) -> list[dict[str, Any]]:
    """For each number of adaptation steps: mean, interquartile mean (IQM), worst decile, and gain over no step.

    x: (seeds, tasks, K+1), returns after 0..K steps. The gain is paired by seed and task.
    """
    return [
        {
            "steps": k,
            "mean": estimate(x[..., k]),
            "iqm": estimate(x[..., k], interquartile_mean),
            "worst_decile": estimate(x[..., k], worst_decile),
            "gain": paired_gain(x[..., 0], x[..., k]),
        }
        for k in range(x.shape[-1])
    ]


def plain(x: Any) -> Any:
    """Plain data for strict JSON: an estimate becomes a mapping of value, low and high; NaN and ±inf become null."""
    match x:
        case Estimate():
            return plain(vars(x))
        case dict():
            return {key: plain(value) for key, value in x.items()}
        case float() if not np.isfinite(x):
            return None
        case str():
            return x
        case Sequence():
            return [plain(value) for value in x]
    return x


def _of_runs(x: Array) -> Array:
    """(seeds, tasks), of one seed without the tasks that were left out."""
    x = np.atleast_2d(x)
    return x[:, ~np.isnan(x[0])] if len(x) == 1 else x


def _flat(resampled: Array) -> Array:
    return resampled.reshape(len(resampled), -1)


def _interval(value: Any, resampled: Array) -> Estimate:
    low, high = np.nanquantile(resampled, [0.025, 0.975])
    return Estimate(float(value), float(low), float(high))


def _counts(S: int, M: int, rng: np.random.Generator) -> Array:
    """(RESAMPLES, S, M): how often each of S seeds is drawn in S draws; the same for each of M tasks."""
    drawn = rng.integers(S, size=(RESAMPLES, S, 1))
    counts = (drawn[:, None] == np.arange(S)[:, None, None]).sum(axis=2)
    return np.broadcast_to(counts.astype(float), (RESAMPLES, S, M))
