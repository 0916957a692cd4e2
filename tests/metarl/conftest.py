"""Episodes without a simulator, in float64."""

import pytest
import torch

from metarl.policy_gradient.gaussian_mlp import GaussianMLP, log_prob
from metarl.types import Batch


@pytest.fixture
def policy():
    """A small policy whose floor of the standard deviation is near enough to bend it."""
    return GaussianMLP(observation_size=3, action_size=2, hidden_sizes=(4,), initial_std=0.7, min_std=0.3)


@pytest.fixture
def theta(policy):
    """Shared parameters with no entry that is zero by construction."""
    rng = torch.Generator().manual_seed(0)
    return {name: (p + 0.3 * torch.randn(p.shape, generator=rng)).double() for name, p in policy.init(rng).items()}


@pytest.fixture
def collect(policy):
    """collect(params, seed): a batch drawn with `params`, (M, ...); every third episode is short."""

    def collect(params, seed, episodes=4, horizon=6):
        rng = torch.Generator().manual_seed(seed)
        shape = (len(params["log_std"]), episodes, horizon)

        def normal(*size):
            return torch.randn(*shape, *size, generator=rng, dtype=torch.float64)

        observations = normal(policy.observation_size)
        drawn_from = policy.distribution(params, observations)
        actions = drawn_from.mean + drawn_from.log_std.exp()[:, None, None] * normal(policy.action_size)
        valid = torch.ones(shape, dtype=torch.float64)
        valid[:, ::3, horizon // 2 :] = 0
        advantages, returns = normal(), normal()[:, 0, 0]
        return Batch(observations, actions, advantages, valid, log_prob(drawn_from, actions), drawn_from, returns)

    return collect
