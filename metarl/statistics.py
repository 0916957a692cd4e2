"""Statistics of returns over seeds and test tasks: aggregates, gain, comparison, and 95% intervals.

Returns are arrays x (seeds, tasks): for each training run and test task, the mean over its episodes. NaN marks a task
that was left out of a run, and is not counted.

- With several seeds, the interval says how the number would vary if the runs were trained again. It is Student's: with
  the statistic s_i of each of S runs, value +- t(0.975, S - 1) sd(s_i) / sqrt(S). A run counts as one number, because
  its returns on different tasks are correlated. For 2, 3, 5, 10 and 20 runs with normal luck it covers the mean 95
  times in 100, where a percentile bootstrap over seeds covers it 50, 75, 84, 90 and 93 times. The stratified bootstrap
  of Agarwal et al. 2021, "Deep reinforcement learning at the edge of the statistical precipice", draws seeds within
  each task, which is right if each task is trained separately: with 5 seeds, 40 tasks, and half of the variance between
  the runs and half within them, it would cover the mean 30 times in 100.
- With one seed, the tasks are resampled: the interval says how the number would vary with other tasks, and nothing
  about other seeds.

Resampling takes percentiles of RESAMPLES resamples from one fixed stream, so that the same data have the same interval.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from metarl.seeding import Purpose, stream

RESAMPLES = 2000

_STUDENT = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262)
"""t(0.975, f), the 97.5% quantile of Student's distribution, for f = 1, 2, … degrees of freedom."""

Array = NDArray[np.floating]
Statistic = Callable[..., Array]
"""A function of an array along an axis: `mean`, `interquartile_mean` or `worst_decile`."""


@dataclass(frozen=True)
class Estimate:
    """A statistic with its 95% interval."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        """With one decimal, or without any if a number is 100 or more in absolute value."""
        return self.text(0 if max(abs(self.value), abs(self.low), abs(self.high)) >= 100 else 1)

    def text(self, decimals: int) -> str:
        """`value [low, high]`."""
        return f"{self.value:z.{decimals}f} [{self.low:z.{decimals}f}, {self.high:z.{decimals}f}]"


Curve: TypeAlias = Sequence[Estimate]
"""A statistic at P points, each with its interval; for an adaptation curve, P = K + 1."""


UNDEFINED = Estimate(np.nan, np.nan, np.nan)
"""The estimate from no runs or no tasks."""


# ------------------------------------------------------------------------------------------------ aggregates
def mean(x: Array, axis: int = -1) -> Array:
    """Mean of the values that are not NaN; NaN if there are none."""
    count = (~np.isnan(x)).sum(axis=axis)
    return np.where(count, np.nansum(x, axis=axis), np.nan) / np.maximum(count, 1)


def interquartile_mean(x: Array, axis: int = -1) -> Array:
    """Mean of the middle half of the values (Agarwal et al. 2021)."""
    return mean_between(x, 0.25, 0.75, axis)


def worst_decile(x: Array, axis: int = -1) -> Array:
    """Mean of the lowest tenth of the values; of up to ten values, the lowest one."""
    return mean_between(x, 0.0, 0.1, axis)


def mean_between(x: Array, low: float, high: float, axis: int = -1) -> Array:
    """Mean of the values between two quantiles; a value at the boundary has the weight of its part inside."""
    ordered = np.sort(np.moveaxis(x, axis, -1), axis=-1)  # NaN comes last
    n = np.maximum((~np.isnan(ordered)).sum(axis=-1, keepdims=True), 1)
    edges = np.arange(ordered.shape[-1] + 1) / n
    inside = np.clip(np.minimum(edges[..., 1:], high) - np.maximum(edges[..., :-1], low), 0, None)
    return np.where(inside > 0, inside * ordered, 0).sum(axis=-1) / inside.sum(axis=-1)


# ------------------------------------------------------------------------------------------------- intervals
def estimate(x: Array, statistic: Statistic = mean) -> Estimate:
    """The statistic of all runs on all tasks, with its interval.

    Args:
        x: (seeds, tasks), or (tasks,) of one seed.
        statistic: of an array along an axis.
    """
    x = _of_runs(x)
    if np.isnan(x).all():
        return UNDEFINED
    value = statistic(x.reshape(-1), axis=-1)
    if len(x) == 1:
        return _percentiles(value, statistic(_resampled_tasks(x[0]), axis=-1))
    of_runs = statistic(x[~np.isnan(x).all(axis=1)], axis=-1)
    half = student(len(of_runs) - 1) * of_runs.std(ddof=1) / np.sqrt(len(of_runs)) if len(of_runs) > 1 else np.nan
    return Estimate(float(value), float(value - half), float(value + half))


def student(freedom: int) -> float:
    """t(0.975, f) to three digits: from the table, or by an expansion in 1 / f (Abramowitz and Stegun, 26.7.5)."""
    if freedom <= len(_STUDENT):
        return _STUDENT[freedom - 1]
    z, f = 1.959964, freedom
    first, second = (z**3 + z) / 4, (5 * z**5 + 16 * z**3 + 3 * z) / 96
    third = (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384
    return z + first / f + second / f**2 + third / f**3


def paired_gain(before: Array, after: Array, statistic: Statistic = mean) -> Estimate:
    """The statistic of after - before, paired by seed and task, with its interval; arrays as for `estimate`."""
    return estimate(after - before, statistic)


def probability_of_improvement(x: Array, y: Array) -> Estimate:
    """The probability that a run of X has a higher return than a run of Y on the same task, with its interval.

    The mean over tasks m of P(X_m > Y_m) + P(X_m = Y_m) / 2, over all pairs of a run of X and a run of Y (the
    Mann-Whitney statistic divided by the number of pairs; Agarwal et al. 2021, section 4.3). 0.5: neither is better.

    The interval resamples seeds, or those of the one side that has several. With one seed each, the probability is the
    share of tasks on which the run of X is better, and the interval resamples tasks.

    Args:
        x, y: (seeds of X, tasks) and (seeds of Y, tasks), or (tasks,) of one seed.

    Errors: ValueError if x and y have different numbers of tasks.
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
    return _percentiles(mean(mean(wins.reshape(-1, wins.shape[-1]), axis=0)), mean(of_tasks))


def performance_profile(x: Array, thresholds: Array) -> list[Estimate]:
    """The share of runs and tasks whose return is above each threshold (Agarwal et al. 2021, section 4.2).

    Args:
        x: (seeds, tasks), or (tasks,) of one seed.
        thresholds: (P,)

    Returns:
        P estimates; their intervals are pointwise.
    """
    shares = [estimate(np.where(np.isnan(x), np.nan, x > threshold)) for threshold in thresholds]
    return [Estimate(share.value, max(share.low, 0.0), min(share.high, 1.0)) for share in shares]


def _resampled_tasks(x: Array) -> Array:
    """(RESAMPLES, tasks): x (tasks,) with tasks drawn with replacement."""
    return x[stream(0, Purpose.BOOTSTRAP).integers(len(x), size=(RESAMPLES, len(x)))]


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
    """(seeds, tasks); with one seed, without the tasks that were left out."""
    x = np.atleast_2d(x)
    return x[:, ~np.isnan(x[0])] if len(x) == 1 else x


def _percentiles(value: Any, resampled: Array) -> Estimate:
    low, high = np.nanquantile(resampled, [0.025, 0.975])
    return Estimate(float(value), float(low), float(high))


def _counts(S: int, M: int, rng: np.random.Generator) -> Array:
    """(RESAMPLES, S, M): how often each of S seeds occurs in S draws, the same for each of M tasks."""
    drawn = rng.integers(S, size=(RESAMPLES, S, 1))
    counts = (drawn[:, None] == np.arange(S)[:, None, None]).sum(axis=2)
    return np.broadcast_to(counts.astype(float), (RESAMPLES, S, M))
