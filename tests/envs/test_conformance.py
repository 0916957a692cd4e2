"""What every registered environment promises. A new family is tested by registering it."""

import copy
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import gymnasium
import mujoco
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from hypothesis import given, settings
from hypothesis import strategies as st

import envs  # noqa: F401  (registers the ids)
from envs import pusher
from envs.dynamics import DynamicsTask
from envs.tasks import HELD_OUT, IID, OUT_OF_RANGE, TRAIN, VALIDATION

IDS = sorted(name for name in gymnasium.registry if name.startswith("metarl/"))
STEPS = 40
PARTLY_ZERO = {"metarl/PointNavSparse-v0": {"dense": True}}  # rewards that equal 0 for most goals, and what does not


# ---------------------------------------------------------------------------------------- Gymnasium's robots
@dataclass(frozen=True)
class Facts:
    """One step of Gymnasium's robot: its data before and after, brought up to date, its info and its dt [s]."""

    before: mujoco.MjData
    after: mujoco.MjData
    info: dict[str, Any]
    dt: float

    def velocity(self, of: Callable[[mujoco.MjData], np.ndarray]) -> np.ndarray:
        return (of(self.after) - of(self.before)) / self.dt


@dataclass(frozen=True)
class Twin:
    """Gymnasium's robot with the same physics: what of it is observed, and the reward computed anew from its facts."""

    robot: str
    observation: Callable[[mujoco.MjData], np.ndarray]
    reward: Callable[[Facts, Any], float]
    place_goal: Callable[[np.ndarray, Any], np.ndarray] = field(default=lambda qpos, task: qpos)


def without(hidden: int) -> Callable[[mujoco.MjData], np.ndarray]:
    return lambda data: np.concatenate([data.qpos[hidden:], data.qvel])


def clipped(data: mujoco.MjData) -> np.ndarray:
    return np.concatenate([data.qpos[1:], data.qvel.clip(-10, 10)])


def forward_reward(facts: Facts, task: Any) -> float:
    return facts.info["reward_forward"] + facts.info["reward_survive"] + facts.info["reward_ctrl"]


def place(data: mujoco.MjData) -> np.ndarray:
    return data.qpos[:2].copy()


def centre_of_mass(data: mujoco.MjData) -> np.ndarray:
    masses = data.model.body_mass
    return (np.einsum("b,bj->j", masses, data.xipos) / masses.sum())[:2]


def reacher_observation(data: mujoco.MjData) -> np.ndarray:
    angles = data.qpos[:2]
    return np.concatenate([np.cos(angles), np.sin(angles), data.qvel[:2], data.body("fingertip").xpos[:2]])


def pusher_observation(data: mujoco.MjData) -> np.ndarray:
    return np.concatenate([data.qpos[:7], data.qvel[:7], data.body("tips_arm").xpos, data.body("object").xpos])


def pusher_reward(facts: Facts, task: Any) -> float:
    tip, puck = facts.after.body("tips_arm").xpos, facts.after.body("object").xpos
    near, far = np.linalg.norm(puck - tip), np.linalg.norm(puck[:2] - task.goal)
    return -far - 0.5 * near + facts.info["reward_ctrl"] / 2**2


V5 = {
    "metarl/HalfCheetahVel-v0": Twin(
        "HalfCheetah-v5",
        without(1),
        lambda facts, task: -abs(facts.info["x_velocity"] - task.velocity) + facts.info["reward_ctrl"] * 0.5,
    ),
    "metarl/HalfCheetahDir-v0": Twin(
        "HalfCheetah-v5",
        without(1),
        lambda facts, task: task.direction * facts.info["x_velocity"] + facts.info["reward_ctrl"] * 0.5,
    ),
    "metarl/HalfCheetahParams-v0": Twin(
        "HalfCheetah-v5",
        without(1),
        lambda facts, task: facts.info["x_velocity"] + facts.info["reward_ctrl"] * 0.5,
    ),
    "metarl/HalfCheetahLimbs-v0": Twin(
        "HalfCheetah-v5",
        without(1),
        lambda facts, task: facts.info["x_velocity"] + facts.info["reward_ctrl"] * 0.5,
    ),
    "metarl/Walker2dVel-v0": Twin(
        "Walker2d-v5",
        clipped,
        lambda facts, task: (
            -abs(facts.info["x_velocity"] - task.velocity)
            + 5 * facts.info["reward_survive"]
            + facts.info["reward_ctrl"]
        ),
    ),
    "metarl/Walker2dParams-v0": Twin("Walker2d-v5", clipped, forward_reward),
    "metarl/HopperParams-v0": Twin("Hopper-v5", clipped, forward_reward),
    "metarl/AntDir-v0": Twin(
        "Ant-v5",
        without(2),
        lambda facts, task: (
            np.dot(task.direction, facts.velocity(place)) + facts.info["reward_survive"] + facts.info["reward_ctrl"]
        ),
    ),
    "metarl/AntVel-v0": Twin(
        "Ant-v5",
        without(2),
        lambda facts, task: (
            1
            - abs(facts.velocity(place)[0] - task.velocity)
            + 0.05 * facts.info["reward_survive"]
            + 0.01 * facts.info["reward_ctrl"]
        ),
    ),
    "metarl/AntGoal-v0": Twin(
        "Ant-v5",
        without(0),
        lambda facts, task: -np.abs(place(facts.after) - task.goal).sum() + 0.2 * facts.info["reward_ctrl"],
    ),
    "metarl/HumanoidDir-v0": Twin(
        "Humanoid-v5",
        without(2),
        lambda facts, task: (
            1.25 * np.dot(task.direction, facts.velocity(centre_of_mass))
            + facts.info["reward_survive"]
            + facts.info["reward_ctrl"] / 0.4**2
        ),
    ),
    "metarl/SwimmerVel-v0": Twin(
        "Swimmer-v5",
        without(2),
        lambda facts, task: -abs(facts.info["x_velocity"] - task.velocity) + facts.info["reward_ctrl"],
    ),
    "metarl/ReacherGoal-v0": Twin(
        "Reacher-v5",
        reacher_observation,
        lambda facts, task: (
            -np.linalg.norm((facts.after.body("fingertip").xpos - facts.after.body("target").xpos)[:2])
            + 0.1 * facts.info["reward_ctrl"]
        ),
        place_goal=lambda qpos, task: np.concatenate([qpos[:2], task.goal]),
    ),
    "metarl/PusherGoal-v0": Twin("Pusher-v5", pusher_observation, pusher_reward, place_goal=pusher.place_goal),
}
DRIVEN = {"Reacher-v5": 2, "Pusher-v5": 9}  # how many coordinates belong to the robot; the others are the goal's


def up_to_date(reference: gymnasium.Env) -> mujoco.MjData:
    """A copy of its data whose derived quantities belong to the present positions: v5's lag behind after a step."""
    data = copy.copy(reference.data)
    mujoco.mj_kinematics(reference.model, data)
    mujoco.mj_comPos(reference.model, data)
    return data


SPACES = {name: gymnasium.make(name).unwrapped.task_space for name in IDS}


def embeddings(tasks):
    """Points whose distance is that of the tasks: their fields, or the exponents of multipliers, (M, k)."""
    return np.stack([t.coordinates() if isinstance(t, DynamicsTask) else np.hstack([*vars(t).values()]) for t in tasks])


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
    family = env.unwrapped.family
    return bool(family.dynamics or family.action_delay or family.sensor_noise)


def test_gymnasium_checks_the_single_environment(name):
    env = gymnasium.make(name, render_mode="rgb_array")
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*(minimum|maximum) value is -?inf.*")
        warnings.filterwarnings("error", category=DeprecationWarning)
        check_env(env.unwrapped)
    env.close()


def test_a_vector_environment_equals_single_environments_bit_for_bit(name, make):
    vector = make(3)
    tasks = vector.task_space.grid(3)
    vector.set_tasks(tasks)
    actions = commands(vector)
    observations, rewards, _ = play(vector, actions, seed=7)
    for n, task in enumerate(tasks):
        single = gymnasium.make(name).unwrapped
        first, _ = single.reset(seed=7 + n, options={"task": task})
        steps = [single.step(action[n]) for action in actions]
        np.testing.assert_array_equal(observations[:, n], [first, *(step[0] for step in steps)])
        np.testing.assert_array_equal(rewards[:, n], [step[1] for step in steps])


def test_drawn_tasks_equal_those_of_single_environments(name, make):
    vector = make(3)
    vector.reset(seed=11)
    for n, task in enumerate(vector.tasks):
        single = gymnasium.make(name).unwrapped
        single.reset(seed=11 + n)
        assert single.task == task
        assert vector.task_space.restrict(TRAIN).contains(task)


def test_physics_and_rewards_equal_gymnasiums_robot_bit_for_bit(name, make):
    if name not in V5:
        pytest.skip(f"Gymnasium has no robot like that of {name}")
    twin = V5[name]
    env, reference = make(2, max_episode_steps=None), gymnasium.make(twin.robot).unwrapped
    own = DRIVEN.get(twin.robot)
    full_command = reference.model.actuator_ctrlrange[:, 1]
    for seed in range(5, 8):
        tasks = env.task_space.sample(2, np.random.default_rng(seed))
        tasks = [task.nominal() if isinstance(task, DynamicsTask) else task for task in tasks]
        env.set_tasks(tasks)
        first, _ = env.reset(seed=seed)
        reference.reset(seed=seed)
        reference.set_state(twin.place_goal(reference.data.qpos.copy(), tasks[0]), reference.data.qvel.copy())
        before = up_to_date(reference)
        np.testing.assert_array_equal(first[0], twin.observation(before))
        for actions in commands(env, steps=200, seed=seed):
            observations, rewards, ends, _, _ = env.step(actions)
            _, _, end, _, info = reference.step(full_command * actions[0].clip(-1, 1))
            after = up_to_date(reference)
            np.testing.assert_array_equal(env.state_of(0).qpos[:own], after.qpos[:own])
            np.testing.assert_array_equal(env.state_of(0).qvel[:own], after.qvel[:own])
            np.testing.assert_array_equal(observations[0], twin.observation(after))
            facts = Facts(before, after, info, reference.dt)
            assert rewards[0] == pytest.approx(twin.reward(facts, tasks[0]), abs=1e-11)
            if env.family.terminated is not None:
                assert ends[0] == end
            if ends[0]:
                break
            before = after


def test_the_task_is_hidden_from_the_first_observation(name, make):
    env = make(5)
    if env.family.sensor_noise:
        pytest.skip(f"{name} hides the noise of all observations")
    starts = []
    for task in env.task_space.grid(3):
        env.set_tasks([task])
        starts.append(env.reset(seed=3)[0])
    np.testing.assert_array_equal(starts, [starts[0]] * 3)


def test_the_goal_is_hidden_from_observations_but_not_from_rewards(name, make):
    env = make(1, **PARTLY_ZERO.get(name, {}))
    if has_dynamics(env):
        pytest.skip(f"{name} hides dynamics")
    one, other = env.task_space.grid(2)
    actions = commands(env)
    env.set_tasks([one])
    observations, rewards, flags = play(env, actions)
    env.set_tasks([other])
    same, different, _ = play(env, actions)
    np.testing.assert_array_equal(observations, same)
    played = np.concatenate([[True], ~flags[:-1].any(axis=(1, 2))])  # standing still after the end pays 0
    assert (rewards != different)[played].all()


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
    if env.family.sensor_noise is None:
        np.testing.assert_array_equal(observations[0], different[0])
    late = 0 if env.family.action_delay is None else 2  # steps until an action arrives
    assert (observations[1 + late :] != different[1 + late :]).any(axis=-1).all()


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
    np.testing.assert_array_equal(seen[:, : hidden.shape[1]], hidden)
    assert not np.array_equal(seen[0, hidden.shape[1] :], seen[1, hidden.shape[1] :])
    assert oracle.observation_space.contains(seen)


def test_what_an_oracle_sees_of_the_goal_is_about_one(name, make):
    space = make(1).task_space
    for split in space.regions:
        tasks = space.restrict(split).sample(200, np.random.default_rng(0))
        goals = space.normalised(space.array(tasks))
        assert np.abs(goals).max() <= (2.0 if split == OUT_OF_RANGE else 1 + 1e-9)
    tasks = space.restrict(IID).sample(200, np.random.default_rng(0))
    assert (np.ptp(space.normalised(space.array(tasks)), axis=0) > 0.9).all()


@given(seed=st.integers(0, 2**32 - 1))
@settings(max_examples=15, deadline=None)
def test_no_test_task_is_within_the_gap_of_a_training_task(name, seed):
    space = SPACES[name]
    rng = np.random.default_rng(seed)
    train = embeddings(space.sample(300, rng))
    for split in {VALIDATION, HELD_OUT, OUT_OF_RANGE} & set(space.regions):
        tests = embeddings(space.restrict(split).sample(300, rng))
        assert space.gap > 0
        assert np.linalg.norm(train[:, None] - tests, axis=-1).min() >= space.gap * (1 - 1e-6)


@given(seed=st.integers(0, 2**32 - 1))
@settings(max_examples=10, deadline=None)
def test_splits_contain_their_tasks_and_no_others(name, seed):
    space = SPACES[name]
    rng = np.random.default_rng(seed)
    disjoint = [split for split in (TRAIN, VALIDATION, HELD_OUT, OUT_OF_RANGE) if split in space.regions]
    for split in disjoint:
        tasks = space.restrict(split).sample(50, rng)
        space.validate(tasks)
        for other in disjoint:
            assert all(space.restrict(other).contains(task) == (split == other) for task in tasks)
        if split != OUT_OF_RANGE:
            assert all(space.restrict(IID).contains(task) for task in tasks)


@given(seed=st.integers(0, 2**32 - 1))
@settings(max_examples=10, deadline=None)
def test_chart_coordinates_and_tasks_are_the_same_thing(name, seed):
    space = SPACES[name]
    for task in space.restrict(IID).sample(20, np.random.default_rng(seed)):
        again = type(task).from_coordinates(task.coordinates())
        np.testing.assert_allclose(embeddings([again]), embeddings([task]), atol=1e-12)


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
    for split in (TRAIN, VALIDATION, HELD_OUT, OUT_OF_RANGE, IID):
        assert (split in space.regions) != (split in space.absent)
        assert f"{split}: " in space.describe()


def test_tasks_survive_json(name, make):
    space = make(1).task_space
    for task in space.sample(5, np.random.default_rng(0)):
        assert space.from_dict(space.to_dict(task)) == task
