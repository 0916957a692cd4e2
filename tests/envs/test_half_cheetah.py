"""Rewards of the cheetah, by hand."""

import gymnasium
import numpy as np
import pytest

from envs import half_cheetah
from envs.family import State
from envs.velocity import VelocityTask


def test_velocity_reward_by_hand():
    measured = {"x_velocity": np.array([1.0, 2.5])}
    action = np.array([[1.0, 1.0, 0, 0, 0, 0], [0.5, -0.5, 0.5, 0.5, 0, 0]])
    terms = half_cheetah.velocity().reward(measured, action, {"velocity": np.array([1.5, 2.0])})
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
    terms = half_cheetah.velocity().reward(measured, np.zeros((2, 3, 5, 6)), {"velocity": np.zeros((2, 1, 1))})
    assert {term.shape for term in terms.values()} == {(2, 3, 5)}


@pytest.mark.parametrize(("x", "time", "seen"), [(0.5, 0.5, 1.0), (0.0, 9.0, 1.4), (30.0, 1.0, 28.6)])
def test_the_ball_moves_at_the_goal_velocity_and_stays_in_the_picture(x, time, seen):
    env = gymnasium.make("envs:metarl/HalfCheetahVel-v0").unwrapped
    state = State(np.array([x, *[0.0] * 8]), np.zeros(9))
    _, ball = env.family.markers(state, time, VelocityTask(2.0))
    assert ball.centre[0] == pytest.approx(seen)
