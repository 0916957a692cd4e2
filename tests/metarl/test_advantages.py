"""Advantages whose values are known beforehand.

Each observation is its own value: the discounted rewards that follow, and behind a time limit the last observation's.
So the baseline is V(o) = o and every delta is 0. Episodes come in pairs that differ in one reward, more in one and as
much less in the other, which leaves the fit as it is: the advantage is then `extra` (gamma lambda)^(steps until it).
"""

import numpy as np
import pytest
import torch

from metarl.advantages import estimate
from metarl.policies import log_prob
from metarl.types import Gaussian, Trajectories

GAMMA, LAMBDA, T = 0.9, 0.8, 6
EXTRA = 0.5


def episodes(*tasks, garbage=0.0):
    """Trajectories and advantages from (length, terminated, final observation, step with the extra reward).

    Each becomes a pair of episodes. All that lies behind the end is `garbage`; an episode of length 0 was left out.
    """
    rng = np.random.default_rng(0)
    M, E = len(tasks), 2 * len(tasks[0])
    observations = np.full((M, E, T + 1, 1), garbage)
    rewards, valid, discounts = np.full((M, E, T), garbage), np.zeros((M, E, T)), np.ones((M, E, T))
    advantages = np.zeros((M, E, T))
    for m, task in enumerate(tasks):
        for e, (length, terminated, final, step) in enumerate([twin for twin in task for _ in range(2)]):
            if not length:
                continue
            sign = 1 if e % 2 else -1
            rewards[m, e, :length] = rng.normal(size=length) if e % 2 == 0 else rewards[m, e - 1, :length]
            observations[m, e, length] = final
            following = 0.0 if terminated else final
            for t in reversed(range(length)):
                following = rewards[m, e, t] + GAMMA * following
                observations[m, e, t] = following
            valid[m, e, :length] = 1
            discounts[m, e, length - 1] = 0 if terminated else 1
            advantages[m, e, : step + 1] = sign * EXTRA * (GAMMA * LAMBDA) ** np.arange(step, -1, -1.0)
    for m, task in enumerate(tasks):
        for pair, (length, _, _, step) in enumerate(task):
            if length:
                rewards[m, 2 * pair, step] -= EXTRA
                rewards[m, 2 * pair + 1, step] += EXTRA
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
    batch = estimate(trajectories, GAMMA, LAMBDA)
    expected = standardized(advantages, trajectories.valid)
    np.testing.assert_allclose(batch.advantages.numpy(), expected, atol=1e-3)
    return batch


TERMINATED, TIME_LIMIT = (T, True, 7.0, 3), (T, False, 2.0, 4)


def test_the_state_at_a_time_limit_is_worth_what_the_baseline_says_and_one_at_a_termination_nothing():
    trajectories, advantages = episodes(
        [TERMINATED, TIME_LIMIT, TERMINATED, (T, False, -1.5, 0), TERMINATED],
        [TIME_LIMIT, TIME_LIMIT, (T, True, -3.0, 5), (T, False, 1.0, 2), TIME_LIMIT],
    )
    assert_estimated(trajectories, advantages)


def test_what_lies_behind_an_end_and_in_an_episode_left_out_does_not_count():
    trajectories, advantages = episodes(
        [(3, True, 7.0, 1), TIME_LIMIT, (5, True, 1.0, 4), (0, False, 0.0, 0), (T, False, -1.0, 2), TERMINATED],
        [(3, False, 2.0, 2), TERMINATED, TIME_LIMIT, (5, False, -1.0, 0), (2, False, 4.0, 1), (4, True, 1.0, 3)],
        garbage=1e3,
    )
    batch = assert_estimated(trajectories, advantages)
    assert not batch.advantages[batch.valid == 0].any()


def test_tasks_are_independent():
    one, two = [TERMINATED, TIME_LIMIT, (3, True, 7.0, 2)], [TIME_LIMIT, TIME_LIMIT, (T, False, -4.0, 1)]
    (alone, _), (together, _) = episodes(one), episodes(one, two)
    expected = estimate(alone, GAMMA, LAMBDA).advantages
    torch.testing.assert_close(estimate(together, GAMMA, LAMBDA).advantages[:1], expected, rtol=1e-5, atol=1e-6)


def test_the_batch_carries_what_was_recorded():
    trajectories, _ = episodes([TERMINATED, TIME_LIMIT])
    batch = estimate(trajectories, GAMMA, LAMBDA)
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
        estimate(trajectories, GAMMA, LAMBDA)
