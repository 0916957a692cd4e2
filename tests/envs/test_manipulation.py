"""Reacher and pusher: rewards by hand, their starts, and pictures that leave the simulation alone."""

import gymnasium
import mujoco
import numpy as np
import pytest

import envs  # noqa: F401  (registers the ids)
from envs import pusher, reacher
from envs.errors import FamilyError, TaskError
from envs.goals_2d import DiskGoalTask
from envs.pusher import PuckTask

MANIPULATORS = pytest.mark.parametrize("name", ["metarl/ReacherGoal-v0", "metarl/PusherGoal-v0"])


# ------------------------------------------------------------------------------------------------- rewards
def test_reacher_reward_by_hand():
    measured = {"fingertip": np.array([[0.1, 0.0]])}
    terms = reacher.goal().reward(measured, np.array([[0.5, 0.5]]), {"goal": np.array([[0.1, 0.2]])})
    np.testing.assert_allclose(terms["distance"], -0.2)
    np.testing.assert_allclose(terms["control"], -0.05)


def test_pusher_reward_by_hand():
    measured = {"tip": np.array([[0.5, 0.0, 0.0]]), "puck": np.array([[0.5, 0.3, -0.4]])}
    terms = pusher.goal().reward(measured, np.full((1, 7), 1.0), {"goal": np.array([[0.5, 0.1]])})
    np.testing.assert_allclose(terms["distance"], -0.2)
    np.testing.assert_allclose(terms["near"], -0.25)
    np.testing.assert_allclose(terms["control"], -0.7)


# -------------------------------------------------------------------------------------------------- starts
@pytest.mark.parametrize(("noise", "nq", "nv"), [(reacher.ReacherNoise(), 4, 4), (pusher.PusherNoise(), 11, 11)])
def test_a_start_leaves_the_models_goal_alone(noise, nq, nv):
    positions, velocities = noise.draw(np.random.default_rng(0), 500, nq, nv)
    np.testing.assert_array_equal(positions[:, -2:], 0.0)
    np.testing.assert_array_equal(velocities[:, -2:], 0.0)
    assert np.abs(velocities).max() <= 0.005


def test_the_puck_starts_away_from_its_origin_and_where_the_arm_can_pass_it():
    positions, _ = pusher.PusherNoise().draw(np.random.default_rng(0), 2000, 11, 11)
    y, x = positions[:, 7], positions[:, 8]
    assert np.hypot(x, y).min() > 0.17
    assert y.min() >= -0.3
    assert y.max() <= 0.0
    assert np.abs(x).max() <= 0.2


@MANIPULATORS
def test_several_simulations_share_a_generator(name):
    env = gymnasium.make_vec(name, num_envs=6, nthread=1)
    env.set_tasks(env.task_space.grid(3))
    first, _ = env.reset(options={"generators": [np.random.default_rng(g) for g in range(3)]})
    again, _ = env.reset(options={"generators": [np.random.default_rng(g) for g in range(3)]})
    np.testing.assert_array_equal(first, again)
    assert len(np.unique(first, axis=0)) == 6


# ------------------------------------------------------------------------------------------------- pictures
@MANIPULATORS
def test_a_picture_changes_nothing(name):
    def episode(look):
        env = gymnasium.make(name, render_mode="rgb_array").unwrapped
        rng, seen = np.random.default_rng(0), []
        env.reset(seed=0, options={"task": env.task_space.grid(1)[0]})
        for _ in range(4):
            if look:
                env.render()
            seen.append(env.step(rng.uniform(-1, 1, env.action_space.shape))[0])
        env.close()
        return seen

    np.testing.assert_array_equal(episode(look=True), episode(look=False))


@pytest.mark.parametrize(
    ("family", "body", "task"),
    [(reacher.goal(), "target", DiskGoalTask((-0.1, 0.05))), (pusher.goal(), "goal", PuckTask((0.3, 0.1)))],
)
def test_the_models_goal_body_is_at_the_goal_in_pictures(family, body, task):
    model = family.robot.load()
    data = mujoco.MjData(model)
    data.qpos[:] = family.place_goal(data.qpos.copy(), task)
    mujoco.mj_forward(model, data)
    np.testing.assert_allclose(data.body(body).xpos[:2], task.goal, atol=1e-12)


# --------------------------------------------------------------------------------------------------- tasks
def test_the_reacher_has_a_ring_only_if_the_arm_reaches_it():
    with pytest.raises(TaskError, match="the arm reaches hardly further"):
        reacher.goal().task_space.restrict("out-of-range")
    assert reacher.goal(radius=0.1).task_space.restrict("out-of-range").contains(DiskGoalTask((0.15, 0.0)))
    with pytest.raises(FamilyError, match=r"radius = 0\.3"):
        reacher.goal(radius=0.3)


def test_a_malformed_rectangle_is_refused():
    with pytest.raises(FamilyError, match="y_range = "):
        pusher.goal_space(y_range=(0.2, 0.1))
