"""Statistics of returns over seeds and test tasks: aggregates, gain, comparison, and 95% intervals.

Returns are arrays x (seeds, tasks): for each training run and test task, the mean over its episodes. NaN marks a task
that was left out of a run, and is not counted.

An interval says how the number would vary if the runs were trained again. A run counts as one number s_i, the statistic
of its tasks, because its returns on different tasks are correlated.

- 1 seed: no interval. Beside the value stands the spread over tasks, the standard deviation of their returns.
- 2 to 9 seeds: Student's t-interval, value ± t(0.975, S - 1) sd(s_i) / sqrt(S). With normal luck it covers the mean 95
  times in 100.
- From 10 seeds on: a bootstrap over runs, studentized: value - q sd(s_i) / sqrt(S), with the quantiles q of
  t* = (mean* - mean) / se* of resampled runs. It covers 95 times in 100, and 94 where luck is exponential, where the
  t-interval covers 90. Where two sets of runs are compared, it draws runs within each set (stratified).

Percentiles of resampled means would cover the mean 50, 75, 84 and 91 times with 2, 3, 5 and 10 runs. The bootstrap of
Agarwal et al. 2021, "Deep reinforcement learning at the edge of the statistical precipice", draws seeds within each
task, which is right if each task is trained separately: with 5 seeds, 40 tasks, and half of the variance between the
runs and half within them, it would cover the mean 30 times in 100.

Resampling takes RESAMPLES resamples from one fixed stream, so that the same data have the same interval.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from metarl.seeding import Purpose, stream

RESAMPLES = 2000
BOOTSTRAP_FROM = 10
"""The number of seeds from which on intervals are of the bootstrap; with fewer they are Student's."""

_STUDENT = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262)
"""t(0.975, f), the 97.5% quantile of Student's distribution, for f = 1, 2, … degrees of freedom."""

Array = NDArray[np.floating]
Statistic = Callable[..., Array]
"""A function of an array along an axis: `mean`, `interquartile_mean` or `worst_decile`."""


@dataclass(frozen=True)
class Estimate:
    """A statistic with its 95% interval over seeds or, of one seed, with the spread over tasks."""

    value: float
    low: float = np.nan
    high: float = np.nan
    spread: float = np.nan
    """Standard deviation over tasks, of one seed."""

    def __str__(self) -> str:
        """With one decimal, or without any if a number is 100 or more in absolute value."""
        numbers = np.abs([self.value, self.low, self.high, self.spread])
        return self.text(0 if np.nanmax(numbers, initial=0) >= 100 else 1)

    def text(self, decimals: int) -> str:
        """`value [low, high]`, of one seed `value (tasks ±spread)`, or `value` alone."""
        value = f"{self.value:z.{decimals}f}"
        if np.isfinite(self.spread):
            return f"{value} (tasks ±{self.spread:.{decimals}f})"
        return f"{value} [{self.low:z.{decimals}f}, {self.high:z.{decimals}f}]" if np.isfinite(self.low) else value

    @property
    def band(self) -> tuple[float, float]:
        """What a figure shows: the interval or, of one seed, the spread on either side of the value."""
        if np.isfinite(self.spread):
            return self.value - self.spread, self.value + self.spread
        return self.low, self.high


Curve: TypeAlias = Sequence[Estimate]
"""A statistic at P points, each with its interval or spread; for an adaptation curve, P = K + 1."""


UNDEFINED = Estimate(np.nan)
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
    """The statistic of all runs on all tasks, with its interval; of one seed, with the spread over tasks.

    Args:
        x: (seeds, tasks), or (tasks,) of one seed.
        statistic: of an array along an axis.
    """
    x = np.atleast_2d(x)
    if np.isnan(x).all():
        return UNDEFINED
    value = float(statistic(x.reshape(-1), axis=-1))
    if len(x) == 1:
        finite = x[~np.isnan(x)]
        return Estimate(value, spread=float(finite.std(ddof=1)) if len(finite) > 1 else np.nan)
    of_runs = statistic(x[~np.isnan(x).all(axis=1)], axis=-1)
    low, high = interval(of_runs) if len(of_runs) > 1 else (np.nan, np.nan)
    middle = float(of_runs.mean())
    return Estimate(value, value + low - middle, value + high - middle)


def shown_as(*seeds: int) -> str:
    """What stands beside the values of estimates of so many seeds each, in words."""
    interval, spread = "95% interval over seeds", "spread over tasks (standard deviation)"
    if min(seeds) > 1:
        return interval
    return f"{interval}; of one seed the {spread}" if max(seeds) > 1 else f"{spread}, one seed"


def over_tasks(x: Array) -> Estimate:
    """The mean of x (tasks,), with an interval that says how it would vary with other tasks, for the same run."""
    return estimate(x[~np.isnan(x)][:, None])


def interval(of_runs: Array) -> tuple[float, float]:
    """The 95% interval of the mean of S numbers, (S,), S of at least 2: Student's, or from 10 on of the bootstrap."""
    S, middle, error = len(of_runs), of_runs.mean(), _error(of_runs)
    if S < BOOTSTRAP_FROM:
        return middle - student(S - 1) * error, middle + student(S - 1) * error
    drawn = of_runs[stream(0, Purpose.BOOTSTRAP).integers(S, size=(RESAMPLES, S))]
    return _studentized(middle, error, drawn.mean(axis=1), _error(drawn))


def _error(x: Array) -> Array:
    """The standard error of the mean along the last axis."""
    return x.std(ddof=1, axis=-1) / np.sqrt(x.shape[-1])


def _studentized(middle: float, error: Array, resampled: Array, errors: Array) -> tuple[float, float]:
    """The interval from the distribution of (resampled - middle) / errors; resampled, errors: (RESAMPLES,)."""
    t = np.divide(resampled - middle, errors, out=np.zeros_like(errors), where=errors > 0)
    low, high = np.quantile(t, [0.025, 0.975])
    return float(middle - high * error), float(middle - low * error)


def student(freedom: int) -> float:
    """t(0.975, f) to three digits: from the table, or by an expansion in 1 / f (Abramowitz and Stegun, 26.7.5)."""
    if freedom <= len(_STUDENT):
        return _STUDENT[freedom - 1]
    z, f = 1.959964, freedom
    first, second = (z**3 + z) / 4, (5 * z**5 + 16 * z**3 + 3 * z) / 96
    third = (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384
    return z + first / f + second / f**2 + third / f**3


def paired_gain(before: Array, after: Array, statistic: Statistic = mean) -> Estimate:
    """The statistic of after - before, paired by seed and task; arrays and result as for `estimate`."""
    return estimate(after - before, statistic)


def probability_of_improvement(x: Array, y: Array) -> Estimate:
    """The probability that a run of X has a higher return than a run of Y on the same task, with its interval.

    The mean over tasks m of P(X_m > Y_m) + P(X_m = Y_m) / 2, over all pairs of a run of X and a run of Y (the
    Mann-Whitney statistic divided by the number of pairs; Agarwal et al. 2021, section 4.3). 0.5: neither is better.

    With at least 10 seeds on both sides it has an interval, of the stratified bootstrap, which covers the probability
    94 to 98 times in 100; with fewer it has none, because no interval that was tried covers it. With one seed each, the
    probability is the share of tasks on which the run of X is better.

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
    value = float(mean(mean(wins.reshape(-1, wins.shape[-1]), axis=0)))
    pairs = mean(wins)  # (X, Y)
    if min(pairs.shape) < BOOTSTRAP_FROM or np.isnan(pairs).any():
        return Estimate(value)
    rng = stream(0, Purpose.BOOTSTRAP)
    rows, columns = (rng.integers(S, size=(RESAMPLES, S)) for S in pairs.shape)
    drawn = pairs[rows[:, :, None], columns[:, None, :]]  # (RESAMPLES, X, Y)

    def error(pairs: Array) -> Array:
        """Of both sides: the variances of their means add up."""
        return np.hypot(_error(pairs.mean(axis=-1)), _error(pairs.mean(axis=-2)))

    low, high = _studentized(value, error(pairs), drawn.mean(axis=(1, 2)), error(drawn))
    return Estimate(value, max(low, 0.0), min(high, 1.0))


def performance_profile(x: Array, thresholds: Array) -> list[Estimate]:
    """The share of runs and tasks whose return is above each threshold (Agarwal et al. 2021, section 4.2).

    Args:
        x: (seeds, tasks), or (tasks,) of one seed.
        thresholds: (P,)

    Returns:
        P estimates; their intervals are pointwise. Of one seed there are none.
    """
    shares = [estimate(np.where(np.isnan(x), np.nan, x > threshold)) for threshold in thresholds]
    return [Estimate(share.value, max(share.low, 0.0), min(share.high, 1.0)) for share in shares]


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
    """Plain data for strict JSON; NaN and ±inf become null.

    An estimate becomes a mapping of value, low and high or, of one seed, of value and spread_over_tasks.
    """
    match x:
        case Estimate() if np.isfinite(x.spread):
            return plain({"value": x.value, "spread_over_tasks": x.spread})
        case Estimate():
            return plain({"value": x.value, "low": x.low, "high": x.high})
        case dict():
            return {key: plain(value) for key, value in x.items()}
        case float() if not np.isfinite(x):
            return None
        case str():
            return x
        case Sequence():
            return [plain(value) for value in x]
    return x
