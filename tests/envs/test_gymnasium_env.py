"""Environments of Gymnasium as families: told their task, in lockstep and in processes, or refused."""

import os
import warnings
from dataclasses import dataclass, replace
from functools import partial

import gymnasium
import numpy as np
import pytest
from gymnasium.envs.classic_control.pendulum import PendulumEnv
from gymnasium.spaces import Box, Dict, Discrete, Graph
from gymnasium.utils.env_checker import check_env

from envs.errors import ArgumentError, BrokenEnvError, FamilyError, NotResetError, RenderingError, TaskError
from envs.family import GymnasiumFamily
from envs.gymnasium_env import GymnasiumEnv, GymnasiumVectorEnv
from envs.point import navigation
from envs.tasks import Boxes, Task, held_out_space, quantity


@dataclass(frozen=True)
class GravityTask(Task):
    g: float = quantity("m/s²")


SPACE = held_out_space(
    GravityTask, Boxes.interval(5, 15), Boxes.interval(7, 8), Boxes.interval(3, 17), 0.2, Boxes.interval(12, 13)
)
TASKS = SPACE.grid(3)


class Told(PendulumEnv):
    """A pendulum that is told its gravity."""

    def set_task(self, task):
        self.g = task.g


class Counter(gymnasium.Env):
    """It observes the number of its steps, its gravity and its last action, and ends after 2, 3 or 4 steps."""

    observation_space = Dict({"step": Box(0, 9, (1,), np.int64), "rest": Box(-20, 20, (1, 3), np.float32)})
    action_space = Box(np.array([[0, -4]], np.float32), np.array([[10, -2]], np.float32))
    metadata = {"render_modes": ["rgb_array"], "render_fps": 7}  # noqa: RUF012

    def __init__(self, g, render_mode=None):
        self.g, self.render_mode = g, render_mode

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.count, self.length = 0, self.np_random.integers(2, 5)
        return self.observed([[0, 0]]), {}

    def step(self, action):
        assert self.action_space.contains(action)
        self.count += 1
        assert self.count <= self.length, "a step behind the end"
        return self.observed(action), self.g, self.count == self.length, False, {"speed": 1}

    def observed(self, action):
        return {"step": np.array([self.count]), "rest": np.array([[self.g, *action[0]]], np.float32)}

    def render(self):
        return np.full((4, 6, 3), self.count, np.uint8)


TOLD, MADE = GymnasiumFamily("Told", Told, SPACE, aim="swing up"), GymnasiumFamily("Made", Counter, SPACE)
by_family = pytest.mark.parametrize("family", [TOLD, MADE], ids=["told", "made"])


@pytest.fixture
def vector():
    """vector(family, num_envs, …), closed at the end."""
    opened = []

    def make(family=TOLD, num_envs=6, **settings):
        opened.append(GymnasiumVectorEnv(family, num_envs, **settings))
        return opened[-1]

    yield make
    for env in opened:
        env.close()


def play(env, steps=6, seed=0):
    """Observations (T + 1, N, O), rewards (T, N) and flags (T, N, 2) of one episode each."""
    rng = np.random.default_rng(seed)
    first, _ = env.reset(options={"generators": [np.random.default_rng([seed, m]) for m in range(3)]})
    played = [env.step(rng.uniform(-1.2, 1.2, env.action_space.shape)) for _ in range(steps)]
    observations, rewards, *flags, _ = zip(*played, strict=True)
    return np.stack([first, *observations]), np.stack(rewards), np.stack(flags, axis=-1)


# ---------------------------------------------------------------------------------------------- simulations
@by_family
@pytest.mark.parametrize("processes", [2, 3, 5])
def test_processes_give_the_same_bits_as_lockstep(vector, family, processes):
    """Five processes cannot share six simulations evenly: three do."""
    results = []
    for nthread in (1, processes):
        env = vector(family, nthread=nthread, max_episode_steps=4)
        env.set_tasks(TASKS)
        results.append([*play(env), *play(env, seed=1)])
    for alone, shared in zip(*results, strict=True):
        np.testing.assert_array_equal(alone, shared)


@by_family
def test_a_vector_environment_equals_single_environments(vector, family):
    env = vector(family, 3)
    env.set_tasks(TASKS)
    observations, _ = env.reset(seed=7)
    actions = np.random.default_rng(0).uniform(-1, 1, (2, *env.action_space.shape))
    steps = [env.step(each) for each in actions]
    for n, task in enumerate(TASKS):
        single = GymnasiumEnv(family, task=task)
        np.testing.assert_array_equal(single.reset(seed=7 + n)[0], observations[n])
        for each, step in zip(actions, steps, strict=True):
            observation, reward, terminated, truncated, info = single.step(each[n])
            np.testing.assert_array_equal(observation, step[0][n])
            assert (reward, terminated, truncated) == (step[1][n], step[2][n], step[3][n])
            assert not info["diverged"]


@by_family
def test_gymnasium_checks_the_single_environment(family):
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*(minimum|maximum) value is -?inf.*")
        check_env(GymnasiumEnv(family), skip_render_check=True)


def test_the_rewards_are_those_of_gymnasiums_pendulum(vector):
    env, reference = vector(num_envs=1), PendulumEnv(g=TASKS[1].g)
    env.set_tasks([TASKS[1]])
    observation, _ = env.reset(seed=3)
    reference.reset(seed=0)
    reference.state = np.array([np.arctan2(observation[0, 1], observation[0, 0]), observation[0, 2]])
    for command in (0.5, -1.0, 3.0):
        observation, reward, *_ = env.step(np.array([[command]]))
        expected, expected_reward, *_ = reference.step(np.array([2 * command]))
        np.testing.assert_allclose(observation[0], expected, rtol=1e-6)
        assert reward[0] == pytest.approx(expected_reward, rel=1e-6)


def test_an_environment_with_the_tasks_fields_as_arguments_is_made_for_its_task(vector):
    env = vector(MADE, 6)
    env.set_tasks(TASKS)
    env.reset(seed=0)
    assert env.step(np.zeros((6, 2)))[1].tolist() == [task.g for task in TASKS for _ in range(2)]
    env.set_tasks([TASKS[0]])
    env.reset(seed=0)
    assert env.step(np.zeros((6, 2)))[1].tolist() == [TASKS[0].g] * 6


def test_actions_are_spread_over_the_range_and_observations_flattened(vector):
    env = vector(MADE, 1)
    env.set_tasks([TASKS[0]])
    np.testing.assert_allclose(env.reset(seed=0)[0], [[TASKS[0].g, 0, 0, 0]], rtol=1e-6)
    np.testing.assert_allclose(env.step(np.array([[0.5, 7.0]]))[0], [[TASKS[0].g, 7.5, -2, 1]], rtol=1e-6)


@pytest.mark.parametrize("nthread", [1, 2])
def test_ended_episodes_stand_still_until_they_are_reset(vector, nthread):
    env = vector(MADE, nthread=nthread, max_episode_steps=3)
    env.set_tasks(TASKS)
    observations, rewards, flags = play(env)
    steps = observations[..., -1]
    lengths = steps[-1]
    assert set(lengths) == {2, 3}
    np.testing.assert_array_equal(steps, np.minimum(np.arange(7)[:, None], lengths))
    np.testing.assert_array_equal(rewards > 0, np.arange(1, 7)[:, None] <= lengths)
    np.testing.assert_array_equal(flags.any(axis=-1), np.arange(1, 7)[:, None] >= lengths)
    assert flags[-1, :, 1].any()  # a time limit was among them
    mask = np.arange(6) < 2
    observed, _ = env.reset(options={"reset_mask": mask})
    np.testing.assert_array_equal(observed[:, -1], np.where(mask, 0, lengths))
    np.testing.assert_array_equal(env.step(np.zeros((6, 2)))[1] > 0, mask)


def test_tasks_that_nobody_set_are_drawn_by_each_reset(vector):
    env = vector(MADE)
    env.reset(seed=0)
    first = env.tasks
    env.reset()
    assert len(set(first + env.tasks)) == 12
    assert all(SPACE.contains(task) for task in env.tasks)
    env.reset(seed=0)
    assert env.tasks == first


def test_an_oracle_sees_its_task(vector):
    env = vector(goal_visible=True)
    env.set_tasks([GravityTask(5.0), GravityTask(10.0), GravityTask(15.0)])
    assert env.reset(seed=0)[0][:, -1].tolist() == [-1, -1, 0, 0, 1, 1]
    assert env.single_observation_space.shape == (4,)


def test_pictures_are_the_environments_own():
    env = GymnasiumEnv(MADE, render_mode="rgb_array")
    env.reset(seed=0)
    env.step(np.zeros(2))
    np.testing.assert_array_equal(env.render(), np.ones((4, 6, 3)))
    assert env.metadata["render_fps"] == 7
    assert GymnasiumEnv(MADE).render() is None
    blind = GymnasiumEnv(replace(MADE, make=lambda g: Counter(g)), render_mode="rgb_array")
    blind.reset(seed=0)
    with pytest.raises(RenderingError, match="Made takes no render_mode 'rgb_array': it draws no pictures"):
        blind.render()


def test_environments_that_processes_simulate_are_not_made_here_too(vector):
    """But for one, whose spaces are read."""
    made = []

    class Counted(Told):
        def __init__(self):
            super().__init__()
            made.append(self)

    vector(replace(TOLD, make=Counted), 6, nthread=2).reset(seed=0)
    assert len(made) == 1
    vector(replace(TOLD, make=Counted), 6, nthread=1).reset(seed=0)
    assert len(made) == 7


# --------------------------------------------------------------------------------------------------- errors
class Broken(Told):
    """It goes wrong in its second step."""

    def __init__(self, how):
        super().__init__()
        self.how, self.count = how, 0

    def step(self, action):
        self.count += 1
        observation, reward, *rest = super().step(action)
        if self.count == 2:
            if self.how == "raises":
                raise RuntimeError("the motor is stuck")
            if self.how == "dies":
                os._exit(3)
            if self.how == "old gym":
                return observation, reward, False, {}
            observation = observation[:2]
        return observation, reward, *rest


BROKEN = {
    "raises": r"Told: simulation 0 \(g = .*\) raised RuntimeError: the motor is stuck \(test_gymnasium_env.py, line ",
    "old gym": r"raised ValueError: not enough values to unpack \(expected 5, got 4\)",
    "shape": r"raised ValueError: the observation has shape \(2,\), and observation_space has \(3,\)",
}


@pytest.mark.filterwarnings("ignore:.*ERROR")  # Gymnasium shows the traceback of a process in a warning
@pytest.mark.parametrize("nthread", [1, 2])
@pytest.mark.parametrize("how", BROKEN)
def test_an_environment_that_breaks_says_in_which_simulation_and_where(vector, how, nthread):
    env = vector(replace(TOLD, make=partial(Broken, how)), 4, nthread=nthread)
    env.reset(seed=0)
    env.step(np.zeros((4, 1)))
    pattern = BROKEN[how].replace("simulation 0", "simulation [02]")  # whichever process was first
    with pytest.raises(BrokenEnvError, match=pattern):
        env.step(np.zeros((4, 1)))


def test_a_process_that_dies_ends_the_vector_environment_with_its_exit_code(vector):
    env = vector(replace(TOLD, make=partial(Broken, "dies")), 2, nthread=2)
    env.reset(seed=0)
    env.step(np.zeros((2, 1)))
    with pytest.raises(BrokenEnvError, match="a process of its environments ended with exit code 3.*nthread=1"):
        env.step(np.zeros((2, 1)))


class Deaf(PendulumEnv):
    """It can be told nothing."""

    def __init__(self):
        super().__init__()


def with_space(name, space):
    """Makes pendulums with another action_space or observation_space."""

    def make():
        env = Told()
        setattr(env, name, space)
        return env

    return make


acting, observing = partial(with_space, "action_space"), partial(with_space, "observation_space")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (Deaf, r"Told: <Deaf instance> has no method set_task\(task\), and .*Deaf.* does not take g by keyword"),
        (acting(Discrete(2)), r"Told acts by Discrete\(2\): expected a Box.*Discrete actions are not supported"),
        (acting(Box(-np.inf, np.inf, (1,))), r"expected a Box of floating point numbers with a finite range"),
        (acting(Box(0, 4, (1,), np.int64)), r"expected a Box of floating point numbers"),
        (observing(Graph(Discrete(2), None)), r"Told observes Graph.*no vector when flattened"),
    ],
)
def test_environments_that_do_not_fit_are_refused(make, message):
    with pytest.raises(FamilyError, match=message):
        GymnasiumVectorEnv(replace(TOLD, make=make))


def test_families_of_the_two_kinds_are_not_mistaken():
    with pytest.raises(FamilyError, match=r"PointNav: got a Family, expected an envs\.family\.GymnasiumFamily"):
        GymnasiumVectorEnv(navigation())


def test_wrong_arguments_are_refused_as_those_of_robots(vector):
    env = vector(num_envs=4)
    with pytest.raises(NotResetError):
        env.step(np.zeros((4, 1)))
    with pytest.raises(TaskError, match="3 tasks cannot share num_envs = 4"):
        env.set_tasks(TASKS)
    with pytest.raises(TaskError, match="lies in no split"):
        env.set_tasks([GravityTask(90.0)])
    with pytest.raises(ArgumentError, match="nthread = -1"):
        vector(nthread=-1)
