"""Actions that arrive late, checked step by step, and sensor noise, checked by its moments and by whose it is."""

from dataclasses import dataclass, replace

import gymnasium
import numpy as np
import pytest

import envs  # noqa: F401  (registers the ids)
from envs import half_cheetah, point
from envs.errors import ArgumentError, FamilyError
from envs.signals import DelayedActions
from envs.tasks import TRAIN, Boxes, Task, TaskSpace, quantity
from envs.vector import RobotVectorEnv


@dataclass(frozen=True)
class SignalTask(Task):
    delay: float = quantity("steps")
    noise: float = quantity("m")


SPACE = TaskSpace(SignalTask, {TRAIN: Boxes(np.array([[-1.0, 0.0]]), np.array([[9.0, 9.0]]))})
POINT = replace(
    point.navigation(),
    task_space=SPACE,
    reward=lambda measured, action, task: {"x": measured["position"][..., 0]},
    markers=lambda state, time, task: [],
    action_delay=lambda task: task["delay"],
    sensor_noise=lambda task: task["noise"][..., None] * np.array([1.0, 2.0]),
)
QUIET = replace(POINT, sensor_noise=None)


def points(family, tasks, num_envs=None, **settings):
    env = RobotVectorEnv(family, num_envs=num_envs or len(tasks), nthread=1, **settings)
    env.set_tasks(tasks)
    return env


# -------------------------------------------------------------------------------------------------- delay
def test_actions_arrive_whole_steps_later_and_fractions_are_mixed():
    env = points(QUIET, [SignalTask(delay, 0.0) for delay in (0, 1, 3, 1.25)])
    env.reset(seed=0)
    sent = np.random.default_rng(0).uniform(-1, 1, 8)
    moved, before = [], np.zeros(4)
    for action in sent:
        env.step(np.full((4, 2), action))
        after = env.state_of(slice(None)).qpos[:, 0]
        moved.append((after - before) / 0.1)
        before = after
    arrived = np.array(moved).T
    np.testing.assert_allclose(arrived[0], sent)
    np.testing.assert_allclose(arrived[1], [0, *sent[:-1]], atol=1e-12)
    np.testing.assert_allclose(arrived[2], [0, 0, 0, *sent[:-3]], atol=1e-12)
    np.testing.assert_allclose(arrived[3], 0.75 * arrived[1] + 0.25 * np.array([0, 0, *sent[:-2]]), atol=1e-12)


def test_a_reset_forgets_what_was_sent_to_its_simulations_alone():
    env = points(QUIET, [SignalTask(2, 0.0)], num_envs=2)
    env.reset(seed=0)
    env.step(np.ones((2, 2)))
    env.reset(options={"reset_mask": np.array([True, False])})
    env.step(np.ones((2, 2)))
    env.step(np.ones((2, 2)))
    np.testing.assert_allclose(env.state_of(slice(None)).qpos[:, 0], [0.0, 0.1], atol=1e-12)


def test_a_longer_delay_in_the_middle_of_an_episode_keeps_what_was_sent():
    late = DelayedActions(lambda task: task["delay"], 1, 1)
    late.set_tasks({"delay": np.array([0.0])})
    assert late(np.array([[5.0]])) == 5.0
    late.set_tasks({"delay": np.array([1.0])})
    assert late(np.array([[6.0]])) == 5.0
    late.set_tasks({"delay": np.array([4.0])})
    assert [late(np.array([[action]])).item() for action in (7.0, 8.0, 9.0, 10.0, 11.0)] == [0.0, 0.0, 5.0, 6.0, 7.0]


def test_a_negative_delay_is_refused():
    with pytest.raises(FamilyError, match=r"an action delay of -1\.0 control steps: expected at least 0"):
        points(QUIET, [SignalTask(-1, 0.0)])


def test_the_reward_judges_the_action_that_was_sent():
    env = gymnasium.make_vec("metarl/HalfCheetahDelay-v0", num_envs=1, nthread=1)
    env.set_tasks([half_cheetah.DelayTask(6.0)])
    env.reset(seed=0)
    *_, info = env.step(np.ones((1, 6)))
    np.testing.assert_allclose(info["reward_control"], -0.05 * 6)


# -------------------------------------------------------------------------------------------------- noise
def noise_of(env, steps=3, **reset):
    """(steps + 1, N, O): what is observed beyond where the points are."""
    observed = [env.reset(**reset)[0] - env.state_of(slice(None)).qpos]
    for _ in range(steps):
        observed.append(env.step(np.ones((env.num_envs, 2)))[0] - env.state_of(slice(None)).qpos)
    return np.array(observed)


def test_noise_is_normal_with_the_deviations_of_the_task_and_independent():
    tasks = [SignalTask(0, noise) for noise in (0.0, 0.5, 2.0)]
    drawn = noise_of(points(POINT, tasks, num_envs=600), steps=40, seed=0).reshape(41, 3, 200, 2)
    np.testing.assert_allclose(drawn[:, 0], 0, atol=1e-12)
    np.testing.assert_allclose(drawn.std(axis=(0, 2)), [[0, 0], [0.5, 1.0], [2.0, 4.0]], rtol=0.05)
    np.testing.assert_allclose(drawn.mean(axis=(0, 2)), 0, atol=0.15)
    alike = drawn[:, 2].reshape(41, -1)
    assert np.abs(np.corrcoef(alike.T) - np.eye(400)).mean() < 0.2  # of simulations and of sensors
    assert abs(np.corrcoef(alike[1:].ravel(), alike[:-1].ravel())[0, 1]) < 0.05  # from step to step


def test_noise_is_that_of_the_seed_and_of_no_other_simulation():
    tasks = [SignalTask(0, 1.0)]
    drawn = noise_of(points(POINT, tasks, num_envs=4), seed=3)
    np.testing.assert_array_equal(noise_of(points(POINT, tasks, num_envs=2), seed=5), drawn[:, 2:])
    assert len(np.unique(drawn)) == drawn.size
    assert not np.array_equal(noise_of(points(POINT, tasks, num_envs=4), seed=4)[:, 0], drawn[:, 0])


def test_noise_of_generators_leaves_their_draws_and_each_others_alone():
    def generators(*seeds):
        return {"generators": [np.random.default_rng(seed) for seed in seeds]}

    drawn = noise_of(points(POINT, [SignalTask(0, 1.0)], num_envs=6), options=generators(1, 2, 3))
    again = noise_of(points(POINT, [SignalTask(0, 1.0)], num_envs=4), options=generators(3, 2))
    np.testing.assert_array_equal(again[:, :2], drawn[:, 4:])
    np.testing.assert_array_equal(again[:, 2:], drawn[:, 2:4])
    given = generators(1)
    noise_of(points(POINT, [SignalTask(0, 1.0)]), options=given)
    assert given["generators"][0].random() == np.random.default_rng(1).random()


def test_a_masked_reset_begins_the_noise_of_its_simulations_anew():
    env, single = points(POINT, [SignalTask(0, 1.0)], num_envs=3), points(POINT, [SignalTask(0, 1.0)])
    untouched = noise_of(points(POINT, [SignalTask(0, 1.0)], num_envs=3), steps=6, seed=0)
    noise_of(env, steps=2, seed=0)
    after = noise_of(env, steps=3, options={"reset_mask": np.array([False, True, False])})
    np.testing.assert_array_equal(after[1:, [0, 2]], untouched[3:6, [0, 2]])
    noise_of(single, steps=2, seed=1)
    np.testing.assert_array_equal(after[:, 1:2], noise_of(single, steps=3))


def test_rewards_and_states_are_without_noise():
    quiet, noisy = points(QUIET, [SignalTask(0, 9.0)]), points(POINT, [SignalTask(0, 9.0)])
    for env in (quiet, noisy):
        env.reset(seed=0)
    assert quiet.step(np.ones((1, 2)))[1] == noisy.step(np.ones((1, 2)))[1]


def test_a_generator_that_has_no_seed_is_refused():
    stream = np.random.Generator(np.random.RandomState(0)._bit_generator)
    with pytest.raises(ArgumentError, match="cannot spawn a stream to draw noise"):
        points(POINT, [SignalTask(0, 1.0)]).reset(options={"generators": [stream]})
