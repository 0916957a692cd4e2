"""Normalized observations: z = (o - mean) / std, with statistics that are stored with theta.

The statistics are those of all observations in training so far. They are stored among the parameters, as
`observation_mean`, `observation_std` and `observation_count`, and have no gradient. They change only between iterations
and are the same for all tasks. If the parameters have no statistics, z = o.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from metarl.errors import NonFinite
from metarl.types import Params

MEAN, STD, COUNT = "observation_mean", "observation_std", "observation_count"
NAMES = (MEAN, STD, COUNT)
SMALLEST_STD = 1e-3
"""Lower bound of the standard deviation: an entry that was nearly constant in training may vary elsewhere."""
LARGEST_COUNT = 1e7
"""The count stops growing here; from then on, older observations slowly lose weight."""


@dataclass(frozen=True)
class Moments:
    """Number, mean and variance of a set of normalized observations."""

    count: int
    mean: Tensor
    """(O,) float64"""
    variance: Tensor
    """(O,) float64"""

    @classmethod
    def of(cls, observations: Tensor, valid: Tensor) -> Moments:
        """The moments of those observations (..., O) whose `valid` (...) is not 0."""
        rows = observations[valid > 0].double()
        if not len(rows):
            nothing = torch.zeros(observations.shape[-1], dtype=torch.float64)
            return cls(0, nothing, nothing)
        variance, mean = torch.var_mean(rows, dim=0, correction=0)
        return cls(len(rows), mean, variance)

    @classmethod
    def joined(cls, parts: Sequence[Moments]) -> Moments:
        """The moments of several sets together, mean_i(mean_i) and mean_i(variance_i + (mean_i - mean)^2), by count."""
        count = sum(part.count for part in parts)
        weights = torch.tensor([part.count / max(count, 1) for part in parts], dtype=torch.float64).unsqueeze(1)
        means = torch.stack([part.mean for part in parts])
        mean = (weights * means).sum(0)
        variances = torch.stack([part.variance for part in parts]) + (means - mean) ** 2
        return cls(count, mean, (weights * variances).sum(0))

    @property
    def numbers(self) -> Tensor:
        """Count, mean and variance in one vector, (1 + 2 O,)."""
        return torch.cat([self.mean.new_tensor([self.count]), self.mean, self.variance])

    @classmethod
    def from_numbers(cls, numbers: Tensor) -> Moments:
        """The moments whose `numbers` these are."""
        return cls(int(numbers[0]), *numbers[1:].chunk(2))


def initial(observation_size: int) -> Params:
    """Statistics (O,) with which z = o. They count as one observation, of mean 0 and variance 1."""
    return {MEAN: torch.zeros(observation_size), STD: torch.ones(observation_size), COUNT: torch.ones(())}


def normalized(params: Params, observations: Tensor) -> Tensor:
    """z of observations (..., O), with the statistics in `params`: (O,), or (M, O) for observations (M, B, O)."""
    if MEAN not in params:
        return observations
    mean, std = params[MEAN], params[STD]
    if mean.ndim == 2:
        mean, std = mean.unsqueeze(1), std.unsqueeze(1)
    return (observations - mean) / std


def without(params: Params) -> Params:
    """The parameters without the statistics."""
    return {name: p for name, p in params.items() if name not in NAMES}


def updated(params: Params, parts: Sequence[Moments]) -> Params:
    """`params` with statistics that include more observations; unchanged if `params` have none, or `parts` is empty.

    Args:
        params: shared by all tasks, (...).
        parts: moments of the new observations, normalized by the statistics in `params`.

    Errors: NonFinite if an observation is infinite, NaN, or too large for a float32.
    """
    if MEAN not in params or not parts:
        return params
    mean, std, count = (params[name].double() for name in NAMES)
    before = Moments(int(count), torch.zeros_like(mean), torch.ones_like(std))  # of z: mean 0, variance 1
    after = Moments.joined([before, *parts])
    statistics = {
        MEAN: (mean + std * after.mean).float(),
        STD: (std * after.variance.sqrt()).clamp(min=SMALLEST_STD).float(),
        COUNT: count.new_tensor(min(after.count, LARGEST_COUNT)).float(),
    }
    usable = torch.isfinite(statistics[MEAN]) & torch.isfinite(statistics[STD])
    if not usable.all():
        wrong = torch.nonzero(~usable).flatten().tolist()
        raise NonFinite(f"observations are too large or undefined to be normalized, in the entries {wrong}")
    return params | statistics
