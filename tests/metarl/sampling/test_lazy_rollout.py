"""The episodes of an adaptation step: sampled once, when they are asked for, by every learner that asks."""

import numpy as np
import pytest
import torch

from metarl.inner import PPO, SGD
from metarl.parameters import expand
from metarl.policy_gradient.advantages import policy_gradient_batch
from metarl.sampling.lazy_rollout import LazyRollout
from metarl.types import Gaussian, Trajectories

M, E, T = 2, 3, 5


@pytest.fixture
def sampled():
    """How often episodes were sampled."""
    return []


@pytest.fixture
def rollout(policy, theta, sampled):
    rng = torch.Generator().manual_seed(0)

    def sample():
        sampled.append(1)
        actions = torch.randn(M, E, T, 2, generator=rng)
        return Trajectories(
            observations=torch.randn(M, E, T + 1, 3, generator=rng),
            actions=actions,
            rewards=torch.arange(1.0 * M * E * T).view(M, E, T),
            discounts=torch.ones(M, E, T),
            valid=torch.ones(M, E, T),
            policy=Gaussian(torch.zeros_like(actions), torch.zeros(M, 2)),
        )

    return LazyRollout(sample, ["cold", "warm"], lambda purpose: [], None, horizon=T, gamma=0.9, gae_lambda=0.8)


def test_nothing_is_sampled_before_it_is_asked_for_and_nothing_twice(rollout, sampled):
    assert sampled == []
    assert rollout.trajectories.returns.tolist() == np.arange(M * E * T).reshape(M, E, T).sum(-1).tolist()
    assert rollout.batch is rollout.batch
    assert sampled == [1]
    assert rollout.stopwatch.seconds.keys() == {"sampling", "advantages"}


@pytest.mark.parametrize("inner", [SGD(), PPO()], ids=["sgd", "ppo"])
def test_a_learner_descends_the_batch_and_says_what_it_learned_from(rollout, sampled, policy, theta, inner):
    params = expand({name: p.float() for name, p in theta.items()}, M)
    step = inner.adapt(policy, params, rollout, scale=0.5)
    batch = policy_gradient_batch(rollout.trajectories, 0.9, 0.8)
    for name, p in inner.descend(policy, params, batch, 0.5).items():
        assert torch.equal(step.params[name], p)
        assert not torch.equal(step.params[name], params[name])
    assert step.support is rollout.batch
    assert torch.equal(step.returns, rollout.trajectories.returns)
    assert step.environment_steps == M * E * T
    assert [moments.count for moments in step.observed] == [E * T] * M
    assert sampled == [1]
