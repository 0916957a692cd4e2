"""The ant: rewards by hand, and when an episode ends."""

import gymnasium
import numpy as np
import pytest

import envs  # noqa: F401  (registers the ids)
from envs import ant
from envs.family import State

ACTION = np.full((2, 8), 0.5)  # ‖a‖² = 2


def test_direction_reward_by_hand():
    measured = {"velocity": np.array([[2.0, 1.0], [2.0, 1.0]]), "healthy": np.array([True, False])}
    task = {"direction": np.array([[0.6, 0.8], [-1.0, 0.0]])}
    terms = ant.direction().reward(measured, ACTION, task)
    np.testing.assert_allclose(terms["direction"], [2.0, -2.0])
    np.testing.assert_allclose(terms["survive"], [1.0, 0.0])
    np.testing.assert_allclose(terms["control"], [-1.0, -1.0])


def test_velocity_reward_by_hand():
    measured = {"velocity": np.array([[2.0, 9.0], [0.5, 9.0]]), "healthy": np.array([True, True])}
    terms = ant.velocity().reward(measured, ACTION, {"velocity": np.array([1.5, 1.5])})
    np.testing.assert_allclose(terms["velocity"], [0.5, 0.0])
    np.testing.assert_allclose(terms["survive"], 0.05)
    np.testing.assert_allclose(terms["control"], -0.01)


def test_goal_reward_by_hand():
    measured = {"position": np.array([[1.0, 1.0], [0.0, 0.0]])}
    terms = ant.goal().reward(measured, ACTION, {"goal": np.array([[0.0, 3.0], [0.0, 0.0]])})
    np.testing.assert_allclose(terms["distance"], [-3.0, 0.0])
    np.testing.assert_allclose(terms["control"], -0.2)


def test_an_ant_is_healthy_within_its_heights_and_while_finite():
    qpos, qvel = np.zeros((5, 15)), np.zeros((5, 14))
    qpos[:, 2] = [0.2, 1.0, 0.19, 1.01, 0.5]
    qvel[4, 3] = np.nan
    assert ant.healthy(State(qpos, qvel)).tolist() == [True, True, False, False, False]


def test_the_coefficients_and_the_range_are_parameters():
    terms = ant.direction(survive=0.05, control_cost=0.005).reward(
        {"velocity": np.zeros((2, 2)), "healthy": np.array([True, True])}, ACTION, {"direction": np.ones((2, 2))}
    )
    np.testing.assert_allclose(terms["survive"] + terms["control"], 0.04)
    env = gymnasium.make_vec("metarl/AntDir-v0", num_envs=2, directions=2)
    np.testing.assert_allclose(env.task_space.array(env.task_space.grid(2))["direction"][:, 0], [1, -1])


def test_an_ant_that_falls_over_ends_its_episode_alone():
    env = gymnasium.make_vec("metarl/AntVel-v0", num_envs=2, nthread=1)
    env.set_tasks(env.task_space.grid(1))
    env.reset(seed=0)
    env._qpos[1, 2] = 1.5
    _, _, terminated, truncated, info = env.step(np.zeros((2, 8)))
    assert terminated.tolist() == [False, True]
    assert not truncated.any()
    assert not info["diverged"].any()
    assert info["reward_survive"].tolist() == [0.05, 0.0]


def test_only_the_goal_task_sees_the_position_and_never_ends():
    assert gymnasium.make("metarl/AntGoal-v0").observation_space.shape == (29,)
    assert gymnasium.make("metarl/AntDir-v0").observation_space.shape == (27,)
    assert ant.goal().terminated is None


@pytest.mark.parametrize("family", [ant.direction, ant.velocity, ant.goal])
def test_rewards_accept_any_leading_axes(family):
    family = family()
    measured = {
        "velocity": np.ones((2, 3, 5, 2)),
        "position": np.ones((2, 3, 5, 2)),
        "healthy": np.ones((2, 3, 5), dtype=bool),
    }
    task = {name: value[:, None, None] for name, value in family.task_space.array(family.task_space.grid(2)).items()}
    terms = family.reward(measured, np.zeros((2, 3, 5, 8)), task)
    assert {term.shape for term in terms.values()} == {(2, 3, 5)}
