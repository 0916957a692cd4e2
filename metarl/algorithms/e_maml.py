"""Credit for what the episodes before adaptation made of the return after it (E-MAML, Stadie et al. 2018).

theta also decides which episodes D_i are collected. The derivative of E[J(theta_i(theta, D_i))] therefore has, besides
what flows through the adaptation of fixed episodes, the score of these episodes times the return that they led to:

    E[ J(theta_i) grad log p(D_i) ],    log p(D_i) = sum over all episodes and steps of log pi(a|s)

a sum, not a mean: many episodes make it exact and noisy, and a weight below 1 trades bias for variance. The adaptation
has to be that of `reinforce`, whose derivative is that of fixed episodes; `ratio` and `dice` account for the change of
the episodes' distribution within the adaptation, so together with the credit they would count it twice.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from metarl.algorithms.meta_gradient import Adaptation, value_and_grad
from metarl.policy_gradient.gaussian_mlp import GaussianMLP
from metarl.types import Batch, Experience, Params


def credits(weight: float, experience: Experience) -> list[Tensor | None]:
    """Weight times by how much each task's return after adaptation exceeds the other tasks' mean; (m,) for each chunk.

    Returns are per step and, as the advantages are, in units of each task's own advantages. The others' mean does not
    depend on the task's own episodes, so that it changes the variance alone. A task without a step has no credit.
    """
    if not weight:
        return [None] * len(experience.by_chunk)
    played = experience.query.valid.bool().flatten(1).any(1)
    returns = experience.query.returns * played
    others = (returns.sum() - returns) / (played.sum() - 1).clamp(min=1)
    return [weight * ((returns - others) * played)[chunk] for chunk in experience.query.chunks]


def value(policy: GaussianMLP, params: Params, batch: Batch, credit: Tensor | None) -> Tensor:
    """credit times the log-probability of each task's episodes, less what it was when they were collected, (M,)."""
    if credit is None:
        return torch.zeros(batch.num_tasks)
    return credit * ((policy.log_probs(params, batch) - batch.log_probs) * batch.valid).sum((1, 2))


def grads(policy: GaussianMLP, adaptation: Adaptation, support: Sequence[Batch], credit: Tensor | None) -> list[Params]:
    """The gradient of `value` at the point before each adaptation step; none without credit."""
    if credit is None:
        return []
    before = zip(adaptation.points[:-1], support, strict=True)
    return [value_and_grad(lambda at, b=batch: value(policy, at, b, credit), policy, at)[1] for at, batch in before]
