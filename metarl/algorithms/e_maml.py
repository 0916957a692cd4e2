"""E-MAML (Stadie et al. 2018): credit the episodes before adaptation with the return after it.

theta also determines which episodes D_i a task adapts to. The derivative of the expected return after adaptation,
E[J(theta_i)], therefore has two terms: the one through the adaptation to fixed episodes, which is MAML's, and

    E[ J(theta_i) grad log p(D_i) ],    log p(D_i) = sum over all episodes and steps of log pi(a|s)

which is E-MAML's. J(theta_i) is the credit of the episodes D_i. The log-probability is a sum over episodes, not a mean.
With many episodes the term is therefore unbiased but noisy; a weight below 1 lowers the variance at the cost of a bias.
J(theta_i) is estimated per step taken and divided by the standard deviation of the task's advantages. The surrogate is
a mean over the same steps of advantages in the same unit, so a weight of 1 gives both terms the same factor, also where
episodes end early.

The inner loss must be `reinforce`, whose derivative is that of fixed episodes. With `ratio` and `dice` the first term
already accounts for the change of the episodes' distribution, so the second would count it twice.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from metarl.algorithms.meta_gradient import Adaptation, value_and_grad
from metarl.policy_gradient.gaussian_mlp import GaussianMLP
from metarl.system import ranks
from metarl.types import Batch, Experience, Params


def exploration_credits(weight: float, experience: Experience) -> list[Tensor | None]:
    """weight (J(theta_i) - mean of the other tasks' J), (m,), for each chunk of m tasks; None for each if weight is 0.

    J is `returns` of the query batch. The mean over the other tasks does not depend on the task's own episodes, so it
    lowers the variance without a bias. A task without a valid step has the credit 0.
    """
    if not weight:
        return [None] * len(experience.by_chunk)
    M = experience.all_tasks
    played = ranks.gather(experience.query.valid.bool().flatten(1).any(1), M)
    returns = ranks.gather(experience.query.returns, M) * played
    others = (returns.sum() - returns) / (played.sum() - 1).clamp(min=1)
    credits = weight * ((returns - others) * played)[ranks.share(M)]
    return [credits[chunk] for chunk in experience.query.chunks]


def exploration_term(policy: GaussianMLP, params: Params, support: Batch, credit: Tensor | None) -> Tensor:
    """credit * log(p(D_i) / p_old(D_i)) of each task, (M,), where p_old is the probability under the collecting policy.

    Its gradient is E-MAML's second term. Its value is zero at the parameters that collected the episodes.

    Args:
        params: theta, or the parameters before a later adaptation step, (M, ...).
        support: the episodes D_i, collected before that step.
        credit: (M,); None for none.
    """
    if credit is None:
        return torch.zeros(support.num_tasks)
    return credit * ((policy.log_probs(params, support) - support.log_probs) * support.valid).sum((1, 2))


def exploration_grads(
    policy: GaussianMLP, adaptation: Adaptation, support: Sequence[Batch], credit: Tensor | None
) -> list[Params]:
    """Gradients of `exploration_term` at the parameters before each adaptation step, (M, ...); [] without credit."""
    if credit is None:
        return []
    points = zip(adaptation.points[:-1], support, strict=True)
    return [
        value_and_grad(lambda at, b=batch: exploration_term(policy, at, b, credit), policy, at)[1]
        for at, batch in points
    ]
