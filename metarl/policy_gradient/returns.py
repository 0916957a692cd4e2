"""Returns and advantages, as pure functions of tensors (..., T)."""

from __future__ import annotations

import torch
from torch import Tensor


def discounted_returns(rewards: Tensor, discounts: Tensor, bootstrap: Tensor) -> Tensor:
    """G_t = r_t + d_t G_{t+1}, with G_T = bootstrap.

    Args:
        rewards: (..., T).
        discounts: (..., T), gamma, but 0 for the step at which an episode terminated.
        bootstrap: (...), the value of the state after the last step.

    Returns:
        (..., T)
    """
    following, out = bootstrap, torch.empty_like(rewards)
    for t in reversed(range(rewards.shape[-1])):
        following = rewards[..., t] + discounts[..., t] * following
        out[..., t] = following
    return out


def gae(rewards: Tensor, values: Tensor, discounts: Tensor, lambda_: float, valid: Tensor | None = None) -> Tensor:
    """Generalized advantage estimates (Schulman et al. 2016, eq. 16).

    A_t = delta_t + d_t lambda A_{t+1} with delta_t = r_t + d_t V(s_{t+1}) - V(s_t). The discount d_t is gamma at a time
    limit, so the value of the final state counts there. It is 0 at a termination, after which there are no rewards.

    Args:
        rewards: (..., T).
        values: (..., T+1), the last for the state after the last step.
        discounts: (..., T), gamma, but 0 for the step at which an episode terminated.
        lambda_: 0 gives one-step advantages, 1 the return minus the value.
        valid: (..., T), 0 for padding, which has no influence on earlier steps; None: there is no padding.

    Returns:
        (..., T)
    """
    deltas = rewards + discounts * values[..., 1:] - values[..., :-1]
    if valid is not None:
        deltas = torch.where(valid > 0, deltas, 0)
    return discounted_returns(deltas, lambda_ * discounts, torch.zeros_like(deltas[..., 0]))


def standardize(advantages: Tensor, valid: Tensor) -> Tensor:
    """Zero mean and unit standard deviation over the valid steps of each task; 0 elsewhere.

    Args:
        advantages: (M, E, T).
        valid: (M, E, T).
    """
    centred, std = _centred(advantages, valid)
    return centred / (std.view(-1, 1, 1) + 1e-8)


def spread(advantages: Tensor, valid: Tensor) -> Tensor:
    """The standard deviation over the valid steps of each task, (M,), from (M, E, T)."""
    return _centred(advantages, valid)[1]


def _centred(advantages: Tensor, valid: Tensor) -> tuple[Tensor, Tensor]:
    """Deviations from each task's mean over its valid steps, (M, E, T), and their root mean square, (M,)."""
    count = valid.sum((1, 2)).clamp(min=1)
    mean = (advantages * valid).sum((1, 2)) / count
    centred = (advantages - mean.view(-1, 1, 1)) * valid
    return centred, (centred.square().sum((1, 2)) / count).sqrt()
