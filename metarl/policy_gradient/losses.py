"""Policy-gradient losses. At the policy that drew the actions, all of them have the same gradient.

They differ in their second derivatives, and so in the meta-gradient through an adaptation step. All take
log-probabilities, advantages and valid masks (M, E, T), and return one loss per task, (M,).
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
    """-mean log pi(a|s) A (Williams 1992), the inner loss of Finn et al. 2017.

    Its second derivative lacks the term grad log pi (grad log pi)^T A, so the meta-gradient is biased.
    """
    return -mean_over_steps(log_probs * advantages, valid)


def ratio(log_probs: Tensor, old_log_probs: Tensor, advantages: Tensor, valid: Tensor) -> Tensor:
    """-mean pi(a|s) / pi_old(a|s) A, where pi_old is the policy that drew the actions.

    The low-variance curvature objective of Rothfuss et al. 2018 (eq. 8).
    """
    return -mean_over_steps(torch.exp(log_probs - old_log_probs) * advantages, valid)


def clipped(log_probs: Tensor, old_log_probs: Tensor, advantages: Tensor, valid: Tensor, clip_range: float) -> Tensor:
    """-mean min(r A, clip(r, 1 - clip_range, 1 + clip_range) A) with r = pi / pi_old (Schulman et al. 2017, eq. 7)."""
    ratio = torch.exp(log_probs - old_log_probs)
    bounded = ratio.clamp(1 - clip_range, 1 + clip_range)
    return -mean_over_steps(torch.minimum(ratio * advantages, bounded * advantages), valid)


def dice(log_probs: Tensor, old_log_probs: Tensor, advantages: Tensor, valid: Tensor) -> Tensor:
    """-mean (w_t - w_{t-1}) A_t, where w_t is the product of pi / pi_old up to step t: all derivatives are unbiased.

    The estimator of Foerster et al. 2018 in its form for advantages (Farquhar et al. 2019, eq. 11, at lambda = 1). It
    includes the effect of an action's probability on all later steps, so episodes must not be subsampled. The variance
    of the second derivative grows with their length.
    """
    log_ratio = (log_probs - old_log_probs).where(valid > 0, 0)
    so_far = log_ratio.cumsum(-1)
    return -mean_over_steps((torch.exp(so_far) - torch.exp(so_far - log_ratio)) * advantages, valid)


INNER_LOSSES: dict[str, InnerLoss] = {"ratio": ratio, "reinforce": reinforce, "dice": dice}
