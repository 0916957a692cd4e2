"""Rewards of the cheetah, by hand."""

import numpy as np

from envs import half_cheetah


def test_velocity_reward_by_hand():
    measured = {"x_velocity": np.array([1.0, 2.5])}
    action = np.array([[1.0, 1.0, 0, 0, 0, 0], [0.5, -0.5, 0.5, 0.5, 0, 0]])
    terms = half_cheetah.velocity_reward(measured, action, {"velocity": np.array([1.5, 2.0])})
    np.testing.assert_allclose(terms["velocity"], [-0.5, -0.5])
    np.testing.assert_allclose(terms["control"], [-0.1, -0.05])


def test_direction_reward_by_hand():
    measured = {"x_velocity": np.array([2.0, 2.0])}
    action = np.full((2, 6), 0.5)
    terms = half_cheetah.direction_reward(measured, action, {"direction": np.array([1.0, -1.0])})
    np.testing.assert_allclose(terms["direction"], [2.0, -2.0])
    np.testing.assert_allclose(terms["control"], [-0.075, -0.075])


def test_rewards_accept_any_leading_axes():
    measured = {"x_velocity": np.ones((2, 3, 5))}
    terms = half_cheetah.velocity_reward(measured, np.zeros((2, 3, 5, 6)), {"velocity": np.zeros((2, 1, 1))})
    assert {term.shape for term in terms.values()} == {(2, 3, 5)}
