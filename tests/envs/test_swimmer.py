"""The swimmer: reward by hand."""

import numpy as np

from envs import swimmer


def test_velocity_reward_by_hand():
    measured = {"x_velocity": np.array([0.1, 0.25])}
    action = np.array([[1.0, 1.0], [0.0, 0.0]])
    terms = swimmer.velocity().reward(measured, action, {"velocity": np.array([0.15, 0.15])})
    np.testing.assert_allclose(terms["velocity"], [-0.05, -0.1])
    np.testing.assert_allclose(terms["control"], [-0.0002, 0.0])
