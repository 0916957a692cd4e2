"""What every registered environment promises. A new family is tested by registering it."""

import warnings
from dataclasses import fields

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

import envs  # noqa: F401  (registers the ids)
from envs.dynamics import DynamicsTask
from envs.tasks import HELD_OUT, IID, OUT_OF_RANGE, TRAIN

IDS = sorted(name for name in gymnasium.registry if name.startswith("metarl/"))
STEPS = 40
V5 = {  # the Gymnasium robot with the same physics, by prefix, and the reward computed anew from its info
    "metarl/HalfCheetahVel": (
        "HalfCheetah-v5",
        lambda info, task: -abs(info["x_velocity"] - task.velocity) + info["reward_ctrl"] * 0.5,
    ),
    "metarl/HalfCheetahDir": (
        "HalfCheetah-v5",
        lambda info, task: task.direction * info["x_velocity"] + info["reward_ctrl"] * 0.5,
    ),
    "metarl/HalfCheetahParams": (
        "HalfCheetah-v5",
        lambda info, task: info["x_velocity"] + info["reward_ctrl"] * 0.5,
    ),
    "metarl/Walker2dVel": (
        "Walker2d-v5",
        lambda info, task: -abs(info["x_velocity"] - task.velocity) + 5 * info["reward_survive"] + info["reward_ctrl"],
    ),
    "metarl/Walker2dParams": (
        "Walker2d-v5",
        lambda info, task: info["reward_forward"] + info["reward_survive"] + info["reward_ctrl"],
    ),
    "metarl/HopperParams": (
        "Hopper-v5",
        lambda info, task: info["reward_forward"] + info["reward_survive"] + info["reward_ctrl"],
    ),
}

pytestmark = pytest.mark.parametrize("name", IDS)


@pytest.fixture
def make(name):
    """Vector environments of the id, closed at the end."""
    opened = []

    def make_vec(num_envs, **parameters):
        env = gymnasium.make_vec(name, num_envs=num_envs, **{"nthread": 1, **parameters})
        opened.append(env)
        return env

    yield make_vec
    for env in opened:
        env.close()


def commands(env, steps=STEPS, seed=0):
    """Actions (T, N, A), partly beyond the range."""
    return np.random.default_rng(seed).uniform(-1.2, 1.2, (steps, *env.action_space.shape))


def play(env, actions, seed=0):
    """Observations (T + 1, N, O), rewards (T, N) and flags (T, N, 2) of one episode."""
    first, _ = env.reset(seed=seed)
    steps = [env.step(action) for action in actions]
    observations = np.stack([first, *(step[0] for step in steps)])
    flags = np.stack([np.stack(step[2:4], axis=-1) for step in steps])
    return observations, np.stack([step[1] for step in steps]), flags


def has_dynamics(env):
    return bool(env.unwrapped.family.dynamics)


def test_gymnasium_checks_the_single_environment(name):
    env = gymnasium.make(name, render_mode="rgb_array")
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*(minimum|maximum) value is -?inf.*")
        warnings.filterwarnings("error", category=DeprecationWarning)
        check_env(env.unwrapped)
    env.close()


def test_batch_equals_single_environments_bit_for_bit(name, make):
    batch = make(3)
    tasks = batch.task_space.grid(3)
    batch.set_tasks(tasks)
    actions = commands(batch)
    observations, rewards, _ = play(batch, actions, seed=7)
    for n, task in enumerate(tasks):
        single = gymnasium.make(name).unwrapped
        first, _ = single.reset(seed=7 + n, options={"task": task})
        steps = [single.step(action[n]) for action in actions]
        np.testing.assert_array_equal(observations[:, n], [first, *(step[0] for step in steps)])
        np.testing.assert_array_equal(rewards[:, n], [step[1] for step in steps])


def test_drawn_tasks_equal_those_of_single_environments(name, make):
    batch = make(3)
    batch.reset(seed=11)
    for n, task in enumerate(batch.tasks):
        single = gymnasium.make(name).unwrapped
        single.reset(seed=11 + n)
        assert single.task == task
        assert batch.task_space.restrict(TRAIN).contains(task)


def test_physics_and_rewards_equal_gymnasiums_robot_bit_for_bit(name, make):
    known = [V5[prefix] for prefix in V5 if name.startswith(prefix)]
    if not known:
        pytest.skip(f"Gymnasium has no robot like that of {name}")
    ((robot, reward_of),) = known
    env, reference = make(2, max_episode_steps=None), gymnasium.make(robot).unwrapped
    tasks = env.task_space.grid(2)
    tasks = [task.nominal() if isinstance(task, DynamicsTask) else task for task in tasks]
    env.set_tasks(tasks)
    ended = True
    for t, actions in enumerate(commands(env, steps=200)):
        if ended:
            first, _ = env.reset(seed=t)
            np.testing.assert_array_equal(first[0], reference.reset(seed=t)[0])
        observations, rewards, terminations, _, info = env.step(actions)
        observation, _, ended, _, expected = reference.step(actions[0].clip(-1, 1))
        np.testing.assert_array_equal(observations[0], observation)
        assert terminations[0] == ended
        assert info["x_position"][0] == expected["x_position"]
        assert info["x_velocity"][0] == expected["x_velocity"]
        assert rewards[0] == pytest.approx(reward_of(expected, tasks[0]), abs=1e-12)


def test_the_task_is_hidden_from_the_first_observation(name, make):
    env = make(5)
    starts = []
    for task in env.task_space.grid(3):
        env.set_tasks([task])
        starts.append(env.reset(seed=3)[0])
    np.testing.assert_array_equal(starts, [starts[0]] * 3)


def test_the_goal_is_hidden_from_observations_but_not_from_rewards(name, make):
    env = make(1)
    if has_dynamics(env):
        pytest.skip(f"{name} hides dynamics")
    one, other = env.task_space.grid(2)
    actions = commands(env)
    env.set_tasks([one])
    observations, rewards, flags = play(env, actions)
    env.set_tasks([other])
    same, different, _ = play(env, actions)
    np.testing.assert_array_equal(observations, same)
    live = np.roll(~flags.any(axis=-1), 1, axis=0)
    live[0] = True
    assert (rewards != different)[live].all()


def test_hidden_dynamics_move_the_robot_differently(name, make):
    env = make(1)
    if not has_dynamics(env):
        pytest.skip(f"{name} hides a goal")
    actions = commands(env, steps=5)
    one, other = env.task_space.grid(2)
    env.set_tasks([one])
    observations, *_ = play(env, actions)
    env.set_tasks([other])
    different, *_ = play(env, actions)
    np.testing.assert_array_equal(observations[0], different[0])
    assert (observations[1:] != different[1:]).any(axis=-1).all()


def test_ended_episodes_stand_still(name, make):
    env = make(6)
    observations, rewards, flags = play(env, commands(env, steps=120))
    ended = np.cumsum(flags.any(axis=-1), axis=0) > 1
    np.testing.assert_array_equal(rewards[ended], 0.0)
    np.testing.assert_array_equal(observations[1:][ended], observations[:-1][ended])
    np.testing.assert_array_equal(flags[1:][ended[1:]], flags[:-1][ended[1:]])


def test_an_oracle_sees_the_goal_after_the_hidden_observation(name, make):
    env, oracle = make(2), make(2, goal_visible=True)
    tasks = env.task_space.grid(2)
    env.set_tasks(tasks)
    oracle.set_tasks(tasks)
    hidden, _ = env.reset(seed=0)
    seen, _ = oracle.reset(seed=0)
    numbers = np.stack([np.hstack([getattr(task, field.name) for field in fields(task)]) for task in tasks])
    np.testing.assert_array_equal(seen, np.concatenate([hidden, numbers], axis=1))
    assert oracle.observation_space.contains(seen)


def test_an_episode_is_determined_by_its_seed(name, make):
    env, again = make(4), make(4)
    actions = commands(env)
    for first, second in zip(play(env, actions), play(again, actions), strict=True):
        np.testing.assert_array_equal(first, second)
    for first, second in zip(play(env, actions), play(again, actions), strict=True):
        np.testing.assert_array_equal(first, second)


def test_threads_do_not_change_an_episode(name, make):
    one, two = make(12, nthread=1), make(12, nthread=2)
    actions = commands(one)
    for first, second in zip(play(one, actions), play(two, actions), strict=True):
        np.testing.assert_array_equal(first, second)


def test_everything_is_finite_and_within_its_space(name, make):
    env = make(8)
    observations, rewards, _ = play(env, commands(env, steps=100))
    assert np.isfinite(observations).all()
    assert np.isfinite(rewards).all()
    assert env.observation_space.contains(observations[0])
    assert env.single_observation_space.contains(observations[0, 0])


def test_the_reward_is_the_sum_of_its_reported_terms(name, make):
    env = make(4)
    env.reset(seed=0)
    for actions in commands(env, steps=10):
        _, rewards, _, _, info = env.step(actions)
        terms = [value for key, value in info.items() if key.startswith("reward_")]
        np.testing.assert_allclose(rewards, np.sum(terms, axis=0), rtol=0, atol=1e-12)
        assert not info["diverged"].any()


def test_setting_a_task_twice_changes_nothing(name, make):
    env = make(2)
    tasks = env.task_space.grid(2)
    actions = commands(env)
    env.set_tasks(tasks)
    once = play(env, actions)
    env.set_tasks(tasks)
    env.set_tasks(tasks)
    for first, second in zip(once, play(env, actions), strict=True):
        np.testing.assert_array_equal(first, second)


def test_the_picture_shows_the_goal(name):
    env = gymnasium.make(name, render_mode="rgb_array").unwrapped
    pictures = []
    for task in env.task_space.grid(2):
        env.reset(seed=0, options={"task": task})
        pictures.append(env.render())
    env.close()
    assert pictures[0].shape == (480, 480, 3)
    assert pictures[0].dtype == np.uint8
    differing = (pictures[0] != pictures[1]).any(axis=-1)
    assert differing.sum() > 100


def test_splits_are_declared_or_their_absence_explained(name, make):
    space = make(1).task_space
    for split in (TRAIN, HELD_OUT, OUT_OF_RANGE, IID):
        assert (split in space.regions) != (split in space.absent)
        assert f"{split}: " in space.describe()


def test_tasks_survive_json(name, make):
    space = make(1).task_space
    for task in space.sample(5, np.random.default_rng(0)):
        assert space.from_dict(space.to_dict(task)) == task
