"""From trajectories to what a policy gradient needs."""

from __future__ import annotations

from metarl.policy_gradient import linear_baseline
from metarl.policy_gradient.gaussian_mlp import log_prob
from metarl.policy_gradient.returns import discounted_returns, gae, spread, standardize
from metarl.types import Batch, Trajectories


def policy_gradient_batch(trajectories: Trajectories, gamma: float, lambda_: float) -> Batch:
    """Standardized generalized advantages over a linear baseline that is fitted to each task's own episodes.

    The baseline is fitted to the discounted rewards that an episode still brings, as in Duan et al. 2016, and knows the
    time; at a time limit its value of the final state bootstraps. That value is one step beyond the times it was fitted
    at. Fitting a baseline to its own bootstrap as well, for a value without a horizon, learned more slowly on
    HalfCheetahDir and unsteadily on Walker2dVel, whose episodes end early.

    Args:
        trajectories: (M, E, T, ...).
        gamma: discount per step.
        lambda_: of the generalized advantage estimate.
    """
    discounts = gamma * trajectories.discounts.double()
    rewards = trajectories.rewards.double() * trajectories.valid
    features = linear_baseline.features(trajectories.observations)
    nothing_after = rewards.new_zeros(rewards.shape[:-1])
    targets = discounted_returns(rewards, discounts, nothing_after)
    coefficients = linear_baseline.fit(features[:, :, :-1], targets, trajectories.valid)
    values = linear_baseline.predict(features, coefficients)
    advantages = gae(rewards, values, discounts, lambda_, trajectories.valid)
    scale = spread(advantages, trajectories.valid) + 1e-8
    return Batch(
        observations=trajectories.observations[:, :, :-1],
        actions=trajectories.actions,
        advantages=standardize(advantages, trajectories.valid).float(),
        valid=trajectories.valid,
        log_probs=log_prob(trajectories.policy, trajectories.actions),
        policy=trajectories.policy,
        returns=(trajectories.returns.nanmean(-1).nan_to_num() / rewards.shape[-1] / scale).float(),
    )
