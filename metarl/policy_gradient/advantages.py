"""From trajectories to the batch that a policy gradient is computed from."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from metarl.policy_gradient import value_function
from metarl.policy_gradient.gaussian_mlp import log_prob
from metarl.policy_gradient.returns import discounted_returns, gae, spread, standardize
from metarl.types import Batch, Trajectories


def policy_gradient_batch(trajectories: Trajectories, gamma: float, lambda_: float) -> Batch:
    """Trajectories with generalized advantage estimates, standardized for each task.

    The value function is linear in features and fitted to each task's own episodes. Its targets are the discounted sums
    of the rewards until the end of the episode, and time is one of its features (Duan et al. 2016). At a time limit,
    the value of the final state is added (bootstrapping), although it is one step later than any state in the fit.
    Targets that include this value learned more slowly on HalfCheetahDir, and unsteadily on Walker2dVel, whose episodes
    can end early.

    Args:
        trajectories: (M, E, T, ...).
        gamma: discount per step.
        lambda_: lambda of the generalized advantage estimates.

    Errors: NonFinite if observations or rewards are not finite.
    """
    discounts = gamma * trajectories.discounts.double()
    rewards = trajectories.rewards.double() * trajectories.valid
    features = value_function.features(trajectories.observations)
    targets = discounted_returns(rewards, discounts, bootstrap=rewards.new_zeros(rewards.shape[:-1]))
    coefficients = value_function.fit(features[:, :, :-1], targets, trajectories.valid)
    values = value_function.predict(features, coefficients)
    advantages = gae(rewards, values, discounts, lambda_, trajectories.valid)
    scale = spread(advantages, trajectories.valid) + 1e-8
    latents = trajectories.latents
    lengths = trajectories.valid.sum(-1)
    steps = lengths.where(lengths > 0, torch.nan).nanmean(-1)  # a diverged simulation has neither return nor length
    return Batch(
        observations=trajectories.observations[:, :, :-1],
        actions=trajectories.actions,
        advantages=standardize(advantages, trajectories.valid).float(),
        valid=trajectories.valid,
        log_probs=log_prob(trajectories.policy, trajectories.actions),
        policy=trajectories.policy,
        latents=latents and replace(latents, advantages=episode_advantages(trajectories.returns)),
        returns=((trajectories.returns.nanmean(-1) / steps).nan_to_num() / scale).float(),
    )


def episode_advantages(returns: Tensor) -> Tensor:
    """The returns (M, E) of episodes, NaN for diverged ones, standardized over each task's; 0 for diverged ones."""
    played = ~returns.isnan()
    return standardize(returns.nan_to_num().unsqueeze(-1).double(), played.unsqueeze(-1).double()).squeeze(-1).float()
