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


INNER_LOSSES: dict[str, InnerLoss] = {"ratio": ratio, "reinforce": reinforce}
