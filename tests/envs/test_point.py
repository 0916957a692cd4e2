"""The point: kinematics and reward, by hand."""

import gymnasium
import numpy as np
import pytest

import envs  # noqa: F401  (registers the ids)
from envs import point
from envs.errors import FamilyError
from envs.point import GoalTask


def points(num_envs):
    return gymnasium.make_vec("metarl/PointNav-v0", num_envs=num_envs, nthread=1)


def test_the_point_moves_by_a_tenth_of_its_clipped_action_and_pays_its_distance():
    env = points(2)
    env.set_tasks([GoalTask((0.4, -0.3)), GoalTask((0.1, 0.1))])
    start, _ = env.reset(seed=0)
    np.testing.assert_array_equal(start, np.zeros((2, 2)))
    observations, rewards, *_ = env.step(np.array([[0.0, 0.0], [5.0, -0.5]]))
    np.testing.assert_allclose(observations, [[0.0, 0.0], [0.1, -0.05]], rtol=0, atol=1e-15)
    np.testing.assert_allclose(rewards, [-0.5, -0.15])


def test_the_point_keeps_no_momentum():
    env = points(1)
    env.reset(seed=0)
    env.step(np.ones((1, 2)))
    observations, *_ = env.step(np.zeros((1, 2)))
    np.testing.assert_allclose(observations, [[0.1, 0.1]])


def test_the_sparse_reward_is_zero_but_near_the_goal():
    measured = {"position": np.array([[1.0, 0.1], [1.0, 0.3], [0.95, 0.0]])}
    task = {"goal": np.array([[1.0, 0.0]] * 3)}
    np.testing.assert_allclose(
        point.sparse_navigation().reward(measured, np.zeros((3, 2)), task)["nearness"], [0.9, 0, 0.95]
    )
    wide = point.sparse_navigation(radius=0.5).reward(measured, np.zeros((3, 2)), task)["nearness"]
    np.testing.assert_allclose(wide, [0.9, 0.7, 0.95])
    dense = point.sparse_navigation(dense=True).reward(measured, np.zeros((3, 2)), task)
    np.testing.assert_allclose(dense["distance"], [-0.1, -0.3, -0.05])


def test_a_sparse_goal_needs_a_radius():
    with pytest.raises(FamilyError, match="radius = 0"):
        point.sparse_navigation(radius=0)
