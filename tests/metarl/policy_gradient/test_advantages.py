"""Advantages whose values are known beforehand.

Each observation is the discounted sum of the rewards that follow it, so the value function fits V(o) = o and
every delta is 0 but the one at a time limit, gamma V(o_final). So
A_t = gamma V(o_final) (gamma lambda)^(steps to the end).
"""

import numpy as np
import pytest
import torch

from metarl.policy_gradient.advantages import policy_gradient_batch
from metarl.policy_gradient.gaussian_mlp import log_prob
from metarl.types import Gaussian, Trajectories

GAMMA, LAMBDA, T = 0.9, 0.8, 6


def episodes(*tasks, garbage=0.0):
    """Trajectories and advantages from (length, terminated, final observation) of each task's episodes.

    All that lies behind the end of an episode is `garbage`. An episode of length 0 was left out.
    """
    rng = np.random.default_rng(0)
    M, E = len(tasks), len(tasks[0])
    observations = np.full((M, E, T + 1, 1), garbage)
    rewards, valid, discounts = np.full((M, E, T), garbage), np.zeros((M, E, T)), np.ones((M, E, T))
    advantages = np.zeros((M, E, T))
    for m, task in enumerate(tasks):
        for e, (length, terminated, final) in enumerate(task):
            rewards[m, e, :length] = rng.normal(size=length)
            valid[m, e, :length] = 1
            if length:
                observations[m, e, length] = final
                discounts[m, e, length - 1] = 0 if terminated else 1
            following = 0.0
            for t in reversed(range(length)):
                following = rewards[m, e, t] + GAMMA * following
                observations[m, e, t] = following
                rest = (GAMMA * LAMBDA) ** (length - 1 - t)
                advantages[m, e, t] = 0.0 if terminated else GAMMA * final * rest
    actions, mean = rng.normal(size=(2, M, E, T, 2))
    arrays = [torch.from_numpy(x) for x in (observations, actions, rewards, discounts, valid)]
    policy = Gaussian(torch.from_numpy(mean), torch.from_numpy(rng.normal(size=(M, 2))))
    return Trajectories(*arrays, policy=policy), advantages


def standardized(advantages, valid):
    out = np.zeros_like(advantages)
    for m, keep in enumerate(valid.numpy().astype(bool)):
        own = advantages[m][keep]
        out[m][keep] = (own - own.mean()) / own.std()
    return out


def assert_estimated(trajectories, advantages):
    batch = policy_gradient_batch(trajectories, GAMMA, LAMBDA)
    expected = standardized(advantages, trajectories.valid)
    np.testing.assert_allclose(batch.advantages.numpy(), expected, atol=1e-3)
    return batch


TERMINATED, TIME_LIMIT = (T, True, 7.0), (T, False, 2.0)


def test_only_a_time_limit_is_worth_its_final_state():
    trajectories, advantages = episodes(
        [TERMINATED, TIME_LIMIT, TERMINATED, (T, False, -1.5), TERMINATED],
        [TIME_LIMIT, TIME_LIMIT, (T, True, -3.0), (T, False, 1.0), TIME_LIMIT],
    )
    assert_estimated(trajectories, advantages)


def test_what_lies_behind_a_termination_and_in_an_episode_left_out_does_not_count():
    trajectories, advantages = episodes(
        [(3, True, 7.0), TIME_LIMIT, (5, True, 1.0), (0, False, 0.0), (T, False, -1.0), TERMINATED],
        garbage=1e3,
    )
    batch = assert_estimated(trajectories, advantages)
    assert not batch.advantages[batch.valid == 0].any()


def test_what_lies_behind_a_time_limit_does_not_count():
    trajectories, advantages = episodes(
        [(3, False, 2.0), TERMINATED, TIME_LIMIT, (5, False, -1.0), TERMINATED, (4, True, 1.0)], garbage=1e3
    )
    assert_estimated(trajectories, advantages)


def test_tasks_are_independent():
    one, two = [TERMINATED, TIME_LIMIT, (3, True, 7.0)], [TIME_LIMIT, TIME_LIMIT, (T, False, -4.0)]
    (alone, _), (together, _) = episodes(one), episodes(one, two)
    expected = policy_gradient_batch(alone, GAMMA, LAMBDA).advantages
    torch.testing.assert_close(
        policy_gradient_batch(together, GAMMA, LAMBDA).advantages[:1], expected, rtol=1e-5, atol=1e-6
    )


def test_the_return_is_per_step_taken_in_the_unit_of_the_advantages():
    """The last task has no step that counts."""
    left_out = (0, False, 0.0)
    trajectories, advantages = episodes([(3, True, 7.0), TIME_LIMIT, left_out], [left_out] * 3)
    counts = trajectories.valid[0].numpy() > 0
    expected = trajectories.rewards[0].numpy()[counts].mean() / advantages[0][counts].std()
    returns = policy_gradient_batch(trajectories, GAMMA, LAMBDA).returns
    assert returns.tolist() == [pytest.approx(expected, rel=1e-3), 0]


def test_the_batch_carries_what_was_recorded():
    trajectories, _ = episodes([TERMINATED, TIME_LIMIT])
    batch = policy_gradient_batch(trajectories, GAMMA, LAMBDA)
    assert torch.equal(batch.observations, trajectories.observations[:, :, :-1])
    assert torch.equal(batch.actions, trajectories.actions)
    assert torch.equal(batch.valid, trajectories.valid)
    assert batch.policy is trajectories.policy
    assert torch.equal(batch.log_probs, log_prob(trajectories.policy, trajectories.actions))


@pytest.mark.parametrize("field", ["observations", "rewards"])
def test_numbers_that_are_not_finite_are_refused(field):
    trajectories, _ = episodes([TERMINATED, TIME_LIMIT])
    getattr(trajectories, field)[0, 1, 2] = torch.nan
    with pytest.raises(ValueError, match="not finite"):
        policy_gradient_batch(trajectories, GAMMA, LAMBDA)
