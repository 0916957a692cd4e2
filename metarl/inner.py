"""The inner loop: adapt parameters to a task by gradient steps on its own episodes."""

from __future__ import annotations

import torch
from torch import Tensor

from metarl.losses import INNER_LOSSES
from metarl.parameters import leaves
from metarl.policies import GaussianMLP, log_prob
from metarl.types import Batch, Params


def losses(policy: GaussianMLP, params: Params, batch: Batch, loss: str) -> Tensor:
    """The inner loss of each task, (M,), at one set of parameters per task."""
    distribution = policy.distribution(params, batch.observations)
    log_probs = log_prob(distribution, batch.actions)
    return INNER_LOSSES[loss](log_probs, batch.log_probs, batch.advantages, batch.valid)


def gradient(policy: GaussianMLP, params: Params, batch: Batch, loss: str, *, create_graph: bool = False) -> Params:
    """The gradient of each task's loss at its own parameters, (M, ...).

    The sum over tasks separates: no task's gradient is divided by the number of tasks.
    """
    total = losses(policy, params, batch, loss).sum()
    grads = torch.autograd.grad(total, list(params.values()), create_graph=create_graph)
    return dict(zip(params, grads, strict=True))


def descend(params: Params, gradient: Params, step_size: float) -> Params:
    """theta' = theta - alpha g."""
    return {name: p - step_size * gradient[name] for name, p in params.items()}


def adapt(policy: GaussianMLP, params: Params, batch: Batch, step_size: float, loss: str) -> Params:
    """One adaptation step of each task, without history: what to collect the next episodes with.

    Args:
        policy: how parameters act.
        params: one set per task, (M, ...), the policy that collected `batch`.
        batch: episodes of each task.
        step_size: alpha.
        loss: a key of `INNER_LOSSES`.

    Returns:
        theta'_i = theta_i - alpha grad L_i(theta_i), (M, ...).
    """
    at = leaves(params)
    return {name: p.detach() for name, p in descend(at, gradient(policy, at, batch, loss), step_size).items()}
