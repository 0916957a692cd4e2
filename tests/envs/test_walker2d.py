"""The walker and the hopper: rewards and ends, by hand."""

import gymnasium
import numpy as np
import pytest

import envs  # noqa: F401  (registers the ids)
from envs import hopper, walker2d
from envs.family import State
from envs.velocity import VelocityTask


def test_walker_rewards_by_hand():
    measured = {"x_velocity": np.array([1.0, 2.5]), "healthy": np.array([True, False])}
    action = np.array([[1.0, 1.0, 0, 0, 0, 0], [0.0] * 6])
    terms = walker2d.velocity_reward(5.0, measured, action, {"velocity": np.array([1.5, 2.0])})
    np.testing.assert_allclose(terms["velocity"], [-0.5, -0.5])
    np.testing.assert_allclose(terms["healthy"], [5.0, 0.0])
    np.testing.assert_allclose(terms["control"], [-0.002, 0.0])
    for module in (walker2d, hopper):
        terms = module.params().reward(measured, action, {})
        np.testing.assert_allclose(sum(terms.values()), [1.998, 2.5])


@pytest.mark.parametrize("velocity_range", [(0.0, 3.0), (0.0, 10.0), (-4.0, 1.0)])
def test_standing_pays_more_than_falling_whatever_the_target(velocity_range):
    space = walker2d.velocity(velocity_range).task_space
    alive = walker2d.alive_bonus(space)
    for split in ("train", "held-out", "out-of-range", "iid"):
        fastest = max(abs(task.velocity) for task in space.restrict(split).grid(100))
        assert alive - fastest >= walker2d.MARGIN * (1 - 1e-9)
    assert walker2d.alive_bonus(walker2d.velocity().task_space) == 5.0


def standing(height, pitch, nv, speed=0.0):
    return State(qpos=np.array([0.0, height, pitch, *[0.0] * (nv - 3)]), qvel=np.full(nv, speed))


@pytest.mark.parametrize(
    ("height", "pitch", "healthy"),
    [(1.25, 0, True), (0.8, 0, False), (0.81, 0, True), (2.0, 0, False), (1.25, 1.0, False), (1.25, -0.99, True)],
)
def test_when_a_walker_is_healthy(height, pitch, healthy):
    assert walker2d.healthy(standing(height, pitch, 9)) == healthy
    assert walker2d.params().terminated(standing(height, pitch, 9)) != healthy


@pytest.mark.parametrize(
    ("height", "pitch", "speed", "healthy"),
    [(1.25, 0, 0, True), (0.7, 0, 0, False), (9, 0, 0, True), (1.25, 0.2, 0, False), (1.25, 0, 100, False)],
)
def test_when_a_hopper_is_healthy(height, pitch, speed, healthy):
    assert hopper.healthy(standing(height, pitch, 6, speed)) == healthy
    assert hopper.params().terminated(standing(height, pitch, 6, speed)) != healthy


def test_observed_velocities_are_cut_off():
    state = standing(1.25, 0, 6, 50.0)
    np.testing.assert_array_equal(hopper.params().observe(state), [1.25, 0, 0, 0, 0, *[10.0] * 6])


def test_hoppers_fall_one_after_the_other_and_the_rest_go_on():
    env = gymnasium.make_vec("metarl/HopperParams-v0", num_envs=30, nthread=1)
    env.reset(seed=0)
    actions = np.random.default_rng(0).uniform(-1, 1, (60, 30, 3))
    fell, last = np.full(30, -1), None
    for t in range(60):
        observations, rewards, terminated, truncated, info = env.step(actions[t])
        fell[terminated & (fell < 0)] = t
        np.testing.assert_array_equal(rewards[fell >= 0] == 0, fell[fell >= 0] < t)
        if last is not None:
            np.testing.assert_array_equal(observations[last[1]], last[0][last[1]])
        last = observations, terminated
        np.testing.assert_array_equal(info["healthy"], ~terminated)
    assert not truncated.any()
    assert len(set(fell.tolist())) > 5


def test_ended_hoppers_cost_no_simulation():
    env = gymnasium.make_vec("metarl/HopperParams-v0", num_envs=4, nthread=1)
    env.set_tasks([env.task_space.grid(1)[0].nominal()])
    env.reset(seed=0)
    env._terminated[:2] = True
    for _ in range(3):
        env.step(np.zeros((4, 3)))
    assert [env.get_data(n).time for n in range(4)] == pytest.approx([0, 0, 3 * env.dt, 3 * env.dt])


def test_a_velocity_range_reaches_the_walker():
    env = gymnasium.make_vec("metarl/Walker2dVel-v0", num_envs=1, nthread=1, velocity_range=(1.0, 2.0))
    env.set_tasks([VelocityTask(1.0)])
    env.reset(seed=0)
    _, rewards, *_, info = env.step(np.zeros((1, 6)))
    assert rewards[0] == pytest.approx(2.5 + 0.5 - abs(info["x_velocity"][0] - 1.0))
