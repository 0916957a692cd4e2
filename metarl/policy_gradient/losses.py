"""Policy-gradient losses of one task. Each has the same gradient at the policy that drew the actions.

They differ in their second derivative, and so in the meta-gradient that flows through an adaptation step.
All take log-probabilities, advantages and valid masks of shape (M, E, T) and return one loss per task, (M,).
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

InnerLoss = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]


def mean_over_steps(values: Tensor, valid: Tensor) -> Tensor:
    """Mean of (M, E, T) values over each task's own valid steps: (M,)."""
    return (values * valid).sum((1, 2)) / valid.sum((1, 2)).clamp(min=1)


def reinforce(log_probs: Tensor, old_log_probs: Tensor, advantages: Tensor, valid: Tensor) -> Tensor:
    """-mean log pi(a|s) A. Differentiated twice, it lacks the score's outer product: a biased meta-gradient.

    Williams 1992; the inner loss of Finn et al. 2017.
    """
    return -mean_over_steps(log_probs * advantages, valid)


def ratio(log_probs: Tensor, old_log_probs: Tensor, advantages: Tensor, valid: Tensor) -> Tensor:
    """-mean pi(a|s) / pi_old(a|s) A, with pi_old the policy that drew the actions.

    The low-variance curvature surrogate of Rothfuss et al. 2018 (eq. 8).
    """
    return -mean_over_steps(torch.exp(log_probs - old_log_probs) * advantages, valid)


def clipped(log_probs: Tensor, old_log_probs: Tensor, advantages: Tensor, valid: Tensor, clip_range: float) -> Tensor:
    """-mean min(r A, clip(r, 1 - clip_range, 1 + clip_range) A) with r = pi / pi_old (Schulman et al. 2017, eq. 7)."""
    ratio = torch.exp(log_probs - old_log_probs)
    bounded = ratio.clamp(1 - clip_range, 1 + clip_range)
    return -mean_over_steps(torch.minimum(ratio * advantages, bounded * advantages), valid)


def dice(log_probs: Tensor, old_log_probs: Tensor, advantages: Tensor, valid: Tensor) -> Tensor:
    """-mean (w_t - w_{t-1}) A_t, with w_t the product of pi / pi_old up to step t: unbiased to any derivative.

    The estimator of Foerster et al. 2018 in its form for advantages (Farquhar et al. 2019, eq. 11, at lambda = 1). An
    action is credited with what its probability does to all later steps, so episodes must be whole; the variance of the
    second derivative grows with their length.
    """
    log_ratio = (log_probs - old_log_probs).where(valid > 0, 0)
    so_far = log_ratio.cumsum(-1)
    return -mean_over_steps((torch.exp(so_far) - torch.exp(so_far - log_ratio)) * advantages, valid)


INNER_LOSSES: dict[str, InnerLoss] = {"ratio": ratio, "reinforce": reinforce, "dice": dice}
