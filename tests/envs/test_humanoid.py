"""The humanoid: reward by hand, the scaled action, and when an episode ends."""

import gymnasium
import numpy as np

import envs  # noqa: F401  (registers the ids)
from envs import humanoid
from envs.family import State


def test_direction_reward_by_hand():
    measured = {"velocity": np.array([[2.0, 1.0]]), "healthy": np.array([True])}
    terms = humanoid.direction().reward(measured, np.full((1, 17), 0.5), {"direction": np.array([[0.6, 0.8]])})
    np.testing.assert_allclose(terms["direction"], 2.5)
    np.testing.assert_allclose(terms["survive"], 5.0)
    np.testing.assert_allclose(terms["control"], -0.425)


def test_a_humanoid_is_healthy_strictly_within_its_heights():
    qpos = np.zeros((4, 24))
    qpos[:, 2] = [1.0, 1.001, 1.999, 2.0]
    assert humanoid.healthy(State(qpos, np.zeros((4, 23)))).tolist() == [False, True, True, False]


def test_an_action_is_stretched_to_the_motors_range():
    env = gymnasium.make_vec("metarl/HumanoidDir-v0", num_envs=2, nthread=1)
    env.reset(seed=0)
    env.step(np.stack([np.full(17, 0.5), np.full(17, -7.0)]))
    np.testing.assert_allclose(env._command, [[0.2] * 17, [-0.4] * 17])
    np.testing.assert_array_equal(env.single_action_space.high, np.ones(17))


def test_the_centre_of_mass_is_the_mean_of_all_bodies():
    env = gymnasium.make_vec("metarl/HumanoidDir-v0", num_envs=1, nthread=1)
    env.reset(seed=0)
    for _ in range(3):
        info = env.step(np.ones((1, 17)))[4]
    data, masses = env.get_data(0), env.model.body_mass
    np.testing.assert_allclose(info["position"][0], (masses @ data.xipos / masses.sum())[:2], rtol=0, atol=1e-12)
