"""Generalized advantages by hand: rewards 1, 2, 3; values 10, 20, 30, 40; gamma = lambda = 1/2."""

import pytest
import torch

from metarl.policy_gradient.returns import discounted_returns, gae, standardize

REWARDS = torch.tensor([1.0, 2.0, 3.0], dtype=torch.float64)
VALUES = torch.tensor([10.0, 20.0, 30.0, 40.0], dtype=torch.float64)
GAMMA = 0.5
TERMINATED = torch.tensor([GAMMA, GAMMA, 0.0], dtype=torch.float64)
TIME_LIMIT = torch.tensor([GAMMA, GAMMA, GAMMA], dtype=torch.float64)


def assert_values(actual, expected):
    torch.testing.assert_close(actual, torch.as_tensor(expected, dtype=torch.float64), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(
    ("discounts", "lambda_", "expected"),
    [
        # delta = 1 + 10 - 10, 2 + 15 - 20, 3 + 20 - 30 and, at a termination, 3 - 30
        (TIME_LIMIT, 0.0, [1.0, -3.0, -7.0]),
        (TERMINATED, 0.0, [1.0, -3.0, -27.0]),
        (TIME_LIMIT, 0.5, [1 + (-3 - 7 / 4) / 4, -3 - 7 / 4, -7.0]),
        (TERMINATED, 0.5, [1 + (-3 - 27 / 4) / 4, -3 - 27 / 4, -27.0]),
        # the discounted return (plus 40 / 2^n at a time limit) minus the value
        (TIME_LIMIT, 1.0, [1 + 2 / 2 + 3 / 4 + 40 / 8 - 10, 2 + 3 / 2 + 40 / 4 - 20, 3 + 40 / 2 - 30]),
        (TERMINATED, 1.0, [1 + 2 / 2 + 3 / 4 - 10, 2 + 3 / 2 - 20, 3 - 30]),
    ],
)
def test_gae(discounts, lambda_, expected):
    assert_values(gae(REWARDS, VALUES, discounts, lambda_), expected)


def test_discounted_returns_bootstrap_at_a_time_limit_only():
    bootstrap = torch.tensor(40.0, dtype=torch.float64)
    assert_values(discounted_returns(REWARDS, TIME_LIMIT, bootstrap), [7.75, 13.5, 23.0])
    assert_values(discounted_returns(REWARDS, TERMINATED, bootstrap), [2.75, 3.5, 3.0])


def test_what_follows_a_termination_does_not_leak():
    discounts = torch.tensor([GAMMA, 0.0, GAMMA], dtype=torch.float64)
    garbage = torch.tensor([0.0, 0.0, 1e9], dtype=torch.float64)
    expected = gae(REWARDS[:2], VALUES[:3], discounts[:2], 0.9)
    actual = gae(REWARDS + garbage, torch.cat([VALUES[:2], 1e9 + VALUES[2:]]), discounts, 0.9)
    assert_values(actual[:2], expected)


def test_leading_axes_are_independent():
    rng = torch.Generator().manual_seed(0)
    rewards, values = (torch.rand(2, 3, n, generator=rng, dtype=torch.float64) for n in (4, 5))
    discounts = torch.rand(2, 3, 4, generator=rng, dtype=torch.float64).round()
    together = gae(rewards, values, discounts, 0.7)
    for m in range(2):
        for e in range(3):
            assert_values(together[m, e], gae(rewards[m, e], values[m, e], discounts[m, e], 0.7))


def test_standardize_divides_by_the_standard_deviation_of_each_task():
    """Task 0 has valid advantages 0, 4, 8, 12 (mean 6, variance 20), task 1 a hundred times those."""
    one = torch.tensor([[0.0, 4.0, 1e6], [8.0, 12.0, 1e6]], dtype=torch.float64)
    valid = torch.tensor([[1.0, 1.0, 0.0], [1.0, 1.0, 0.0]], dtype=torch.float64).expand(2, 2, 3)
    expected = torch.tensor([[-6.0, -2.0, 0.0], [2.0, 6.0, 0.0]], dtype=torch.float64) / 20**0.5
    standard = standardize(torch.stack([one, 100 * one]), valid)
    torch.testing.assert_close(standard, expected.expand(2, 2, 3), rtol=1e-8, atol=0)


@pytest.mark.parametrize("valid", [torch.ones(1, 4, 25), torch.zeros(1, 4, 25)])
def test_standardize_leaves_constant_advantages_near_zero(valid):
    assert standardize(torch.full((1, 4, 25), 0.1, dtype=torch.float64), valid).abs().max() < 1e-6
