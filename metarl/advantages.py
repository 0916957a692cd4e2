"""From trajectories to what a policy gradient needs."""

from __future__ import annotations

import torch
from torch import Tensor

from metarl import baselines
from metarl.policies import log_prob
from metarl.returns import discounted_returns, gae, standardize
from metarl.types import Batch, Trajectories


def estimate(trajectories: Trajectories, gamma: float, lambda_: float) -> Batch:
    """Standardized generalized advantages over a linear baseline that is fitted to each task's own episodes.

    The baseline V = phi w is one and the same function where it is fitted and where it stands for the rewards that a
    time limit cut off: with G_t the discounted rewards up to the limit and D_t the product of the discounts up to it,
    w is the least-squares solution of phi(o_t) w = G_t + D_t phi(o_end) w.

    Args:
        trajectories: (M, E, T, ...).
        gamma: discount per step.
        lambda_: of the generalized advantage estimate.
    """
    valid, discounts = trajectories.valid, gamma * trajectories.discounts.double()
    rewards = trajectories.rewards.double() * valid
    features = baselines.features(trajectories.observations)
    returns = discounted_returns(rewards, discounts, bootstrap=torch.zeros_like(rewards[..., 0]))
    own_part = features[:, :, :-1] - discounted_end(features, discounts, valid)
    values = baselines.predict(features, baselines.fit(own_part, returns, valid))
    advantages = gae(rewards, values, discounts, lambda_, valid)
    return Batch(
        observations=trajectories.observations[:, :, :-1],
        actions=trajectories.actions,
        advantages=standardize(advantages, valid).float(),
        valid=valid,
        log_probs=log_prob(trajectories.policy, trajectories.actions),
        policy=trajectories.policy,
    )


def discounted_end(features: Tensor, discounts: Tensor, valid: Tensor) -> Tensor:
    """D_t phi(o_end): the features of the state that an episode ends in, as they count at each of its steps.

    Args:
        features: (M, E, T+1, F).
        discounts: (M, E, T), 0 where the episode terminated.
        valid: (M, E, T); the observation behind the last valid step is the end.

    Returns:
        (M, E, T, F), without meaning where not valid.
    """
    out, end = torch.empty_like(features[:, :, 1:]), features[:, :, -1]
    for t in reversed(range(discounts.shape[-1])):
        end = discounts[:, :, t, None] * end
        out[:, :, t] = end
        end = torch.where(valid[:, :, t, None] > 0, end, features[:, :, t])
    return out
