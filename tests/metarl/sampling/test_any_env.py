"""Episodes from environments whose every observation says which environment, episode and step it belongs to."""

from functools import partial
from typing import ClassVar

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium.spaces import Box, Dict, Discrete
from gymnasium.vector import AsyncVectorEnv, AutoresetMode, SyncVectorEnv
from gymnasium.wrappers import FlattenObservation, TimeLimit

import envs  # noqa: F401  (registers the ids)
from envs.velocity import VelocityTask
from metarl.errors import UserError
from metarl.policy_gradient.gaussian_mlp import GaussianMLP
from metarl.sampling.any_env import Episodes, onto

T, A, FIELDS = 4, 2, 7
N, EPISODE, STEP, LENGTH, DIES, ACTION = 0, 1, 2, 3, 4, slice(5, 7)
"""What the numbers of an observation are."""
POLICY = GaussianMLP(observation_size=FIELDS, action_size=A, hidden_sizes=(), action_scale=0.5)
RANGE = Box(np.array([-1, 2], np.float32), np.array([5, 3], np.float32))


class Diary(gymnasium.Env):
    """Every observation names its environment, episode and step, how long the episode is and whether it ends by death
    or by a time limit, and the last action; the reward names episode and step. It refuses to go on behind the end.
    """

    observation_space = Box(-np.inf, np.inf, (FIELDS,), np.float64)
    action_space: ClassVar = RANGE

    def __init__(self, n=0):
        self.n, self.episode, self.over = n, -1, True

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.episode, self.step_number, self.over = self.episode + 1, 0, False
        self.length, self.dies = self.np_random.integers(1, T + 3), self.np_random.integers(2)
        return self.observe(np.zeros(A)), {}

    def step(self, action):
        assert not self.over
        assert self.action_space.contains(action)
        self.step_number += 1
        self.over = self.step_number == self.length
        reward = 100.0 * self.episode + self.step_number
        return self.observe(action), reward, bool(self.over and self.dies), bool(self.over and not self.dies), {}

    def observe(self, action):
        return np.array([self.n, self.episode, self.step_number, self.length, self.dies, *action], np.float64)


def diaries(vector, mode, **settings):
    return vector([partial(Diary, n) for n in range(3)], autoreset_mode=mode, **settings)


KINDS = {
    "single": Diary,
    **{f"sync {mode.value}": partial(diaries, SyncVectorEnv, mode) for mode in AutoresetMode},
    "without copies": partial(diaries, SyncVectorEnv, AutoresetMode.DISABLED, copy=False),
    "async same step": partial(diaries, AsyncVectorEnv, AutoresetMode.SAME_STEP),
    "wrapped": lambda: gymnasium.wrappers.vector.RecordEpisodeStatistics(
        diaries(SyncVectorEnv, AutoresetMode.NEXT_STEP)
    ),
}


def parameters():
    """A policy whose actions depend a little on what it sees, and often lie beyond the range."""
    w = 0.05 * torch.randn(1, FIELDS, A, generator=torch.Generator().manual_seed(0))
    return {"w0": w, "b0": torch.zeros(1, A), "log_std": torch.full((1, A), 0.7)}


def collect(env, count, seed=0, horizon=T):
    return Episodes(env, POLICY).collect(parameters(), np.random.default_rng(seed), count, horizon)


@pytest.fixture(params=KINDS)
def env(request):
    env = KINDS[request.param]()
    yield env
    env.close()


def test_each_episode_is_whole_and_holds_no_step_of_another(env):
    """With time limits that bootstrap, deaths that do not, and a horizon that cuts off what goes on."""
    num_envs = getattr(env, "num_envs", 1)
    episodes = collect(env, count=10)
    assert episodes.observations.shape == (1, 10, T + 1, FIELDS)
    seen, ends = set(), set()
    for e in range(10):
        observations, rewards = episodes.observations[0, e].numpy(), episodes.rewards[0, e].numpy()
        n, episode, _, length, dies = observations[0, :5].astype(int)
        end = min(length, T)
        assert episodes.valid[0, e].tolist() == [1.0] * end + [0.0] * (T - end)
        taken = observations[: end + 1]
        assert n == e % num_envs
        np.testing.assert_array_equal(taken[:, [N, EPISODE, LENGTH, DIES]], [[n, episode, length, dies]] * (end + 1))
        np.testing.assert_array_equal(taken[:, STEP], np.arange(end + 1))
        np.testing.assert_array_equal(rewards[:end], 100 * episode + np.arange(1, end + 1))
        died = bool(dies) and length <= T
        assert episodes.discounts[0, e, :end].tolist() == [1.0] * (end - 1) + [0.0 if died else 1.0]
        seen.add((n, episode))
        ends.add((died, length > T))
    assert len(seen) == 10
    assert ends == {(True, False), (False, False), (False, True)}  # a death, a time limit and a cut were among them


def test_what_is_learned_from_is_the_policy_that_acted(env):
    episodes, params = collect(env, count=10), parameters()
    taken = episodes.valid[0].bool()
    means = POLICY.mean(params, episodes.observations[:, :, :-1].flatten(1, 2)).unflatten(1, (10, T))
    torch.testing.assert_close(episodes.policy.mean[0][taken], means[0][taken])
    torch.testing.assert_close(episodes.policy.log_std, POLICY.log_std(params))


@pytest.mark.parametrize(("count", "rounds"), [(1, 1), (3, 1), (4, 2), (6, 2)])
def test_no_more_rounds_than_needed(count, rounds):
    env, calls = diaries(SyncVectorEnv, AutoresetMode.SAME_STEP), []
    source = Episodes(env, POLICY)
    rng = np.random.default_rng(0)
    assert source.collect(parameters(), rng, count, T, lambda: calls.append(0)).valid.shape == (1, count, T)
    assert source.rounds(count) == len(calls) == rounds


def test_the_environment_gets_the_policys_actions_spread_over_its_range(env):
    episodes = collect(env, count=10)
    taken = episodes.valid[0].bool()
    commands = (POLICY.action_scale * episodes.actions[0][taken]).numpy()
    assert np.abs(commands).max() > 1.2
    middle, half = np.array([2.0, 2.5]), np.array([3.0, 0.5])
    received = episodes.observations[0, :, 1:][taken][:, ACTION]
    np.testing.assert_allclose(received, middle + half * commands.clip(-1, 1), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("kind", ["single", "sync Disabled"])
def test_episodes_are_a_function_of_the_random_stream_and_of_the_environment(kind):
    first, again, other = (collect(KINDS[kind](), count=7, seed=seed) for seed in (5, 5, 6))
    assert torch.equal(first.observations, again.observations)
    assert torch.equal(first.actions, again.actions)
    assert not torch.equal(first.observations, other.observations)


def test_short_episodes_count_no_more_often_than_long_ones():
    """Each of three environments gives as many, whoever ends first."""

    class Lasting(Diary):
        def reset(self, *, seed=None, options=None):
            super().reset(seed=seed)
            self.length = (1, 2, 50)[self.n]
            return self.observe(np.zeros(A)), {}

    vector = SyncVectorEnv([partial(Lasting, n) for n in range(3)])
    episodes = collect(vector, count=9, horizon=60)
    assert episodes.observations[0, :, 0, N].tolist() == [0, 1, 2] * 3
    assert episodes.valid.sum(-1).tolist() == [[1.0, 2.0, 50.0] * 3]


def test_a_time_limit_of_a_wrapper_bootstraps():
    class Endless(Diary):
        def reset(self, *, seed=None, options=None):
            super().reset(seed=seed)
            self.length = 10**6
            return self.observe(np.zeros(A)), {}

    episodes = collect(TimeLimit(Endless(), max_episode_steps=3), count=2, horizon=5)
    assert episodes.valid[0].tolist() == [[1.0] * 3 + [0.0] * 2] * 2
    assert (episodes.discounts == 1).all()


def test_a_command_of_one_is_the_end_of_the_range():
    """Whatever its numbers, without leaving it by a rounding; on [-1, 1] a command is the action, bit for bit."""
    odd = Box(np.array([-1.4, 1 / 3]), np.array([0.8, 123.4]), dtype=np.float64)
    np.testing.assert_array_equal(onto(odd, np.array([[-1.0, -1], [1, 1]])), [odd.low, odd.high])
    assert all(odd.contains(action) for action in onto(odd, np.linspace(-1, 1, 1001)[:, None]))
    commands = np.random.default_rng(0).uniform(-1, 1, (1000, 1)).astype(np.float32)
    np.testing.assert_array_equal(onto(Box(-1, 1, (1,), np.float32), commands), commands)


class Spaces(gymnasium.Env):
    def __init__(self, observations, actions):
        self.observation_space, self.action_space = observations, actions


FITTING = Box(-np.inf, np.inf, (FIELDS,), np.float64)


@pytest.mark.parametrize(
    ("observations", "actions", "message"),
    [
        (Box(-1, 1, (6,)), RANGE, r"\(6,\).*observations of shape \(7,\) and actions of shape \(2,\)"),
        (FITTING, Box(-1, 1, (3,)), r"\(3,\).*observations of shape \(7,\) and actions of shape \(2,\)"),
        (FITTING, Discrete(2), r"Discrete\(2\).*of shape \(2,\)"),
        (Dict(all=FITTING), RANGE, r"Dict.*FlattenObservation"),
        (FITTING, Box(-np.inf, np.inf, (A,)), "must be finite.*RescaleAction"),
        (FITTING, Box(-1, 1, (A,), np.int32), "int32"),
    ],
)
def test_an_environment_of_other_shapes_is_refused(observations, actions, message):
    with pytest.raises(UserError, match=message):
        Episodes(Spaces(observations, actions), POLICY)


def test_what_the_error_advises_works():
    Episodes(FlattenObservation(Spaces(Dict(all=FITTING), RANGE)), POLICY)


def test_what_is_no_environment_is_refused():
    with pytest.raises(UserError, match="'HalfCheetahVel' is no environment"):
        Episodes("HalfCheetahVel", POLICY)


# --------------------------------------------------------------------------------------------------- tasks
CHEETAH = GaussianMLP(observation_size=17, action_size=6, hidden_sizes=())
ID = "metarl/HalfCheetahVel-v0"
TASKS = [VelocityTask(0.5), VelocityTask(1.5)]


def run(env, count=4):
    params = {name: p[None] for name, p in CHEETAH.init(torch.Generator().manual_seed(0)).items()}
    return Episodes(env, CHEETAH).collect(params, np.random.default_rng(0), count, horizon=3)


def native(tasks, num_envs=2):
    env = gymnasium.make_vec(ID, num_envs=num_envs, nthread=1)
    if tasks:
        env.set_tasks(tasks)
    return env


SEVERAL = {
    "a TaskVectorEnv with two tasks": lambda: native(TASKS),
    "a wrapped TaskVectorEnv with two tasks": lambda: gymnasium.wrappers.vector.RecordEpisodeStatistics(native(TASKS)),
    "a wrapped TaskVectorEnv that draws tasks": lambda: gymnasium.wrappers.vector.RecordEpisodeStatistics(native([])),
    "a robot that draws tasks": lambda: gymnasium.make(ID),
    "robots that draw tasks": lambda: gymnasium.make_vec(ID, num_envs=2, vectorization_mode="sync"),
    "robots with different tasks": lambda: SyncVectorEnv([partial(gymnasium.make, ID, task=task) for task in TASKS]),
}


@pytest.mark.parametrize("make", SEVERAL.values(), ids=SEVERAL)
def test_more_than_one_task_is_refused(make):
    env = make()
    with pytest.raises(
        UserError, match=r"several tasks, such as VelocityTask.*and VelocityTask.*env.set_tasks\(\[task"
    ):
        run(env)
    env.close()


def test_a_vector_environment_without_a_task_is_refused():
    with pytest.raises(UserError, match=r"no task to adapt to.*env.set_tasks\(\[task\]\)"):
        Episodes(native([]), CHEETAH)


ONE = {
    "a TaskVectorEnv": lambda: native([TASKS[0]]),
    "a TaskVectorEnv with a task twice": lambda: native([TASKS[0]] * 2),
    "a wrapped TaskVectorEnv": lambda: gymnasium.wrappers.vector.RecordEpisodeStatistics(native([TASKS[0]])),
    "a robot": lambda: gymnasium.make(ID, task={"velocity": 0.5}),
    "robots": lambda: gymnasium.make_vec(ID, num_envs=2, vectorization_mode="sync", task=TASKS[0]),
}


@pytest.mark.parametrize("make", ONE.values(), ids=ONE)
def test_one_task_in_as_many_episodes_as_asked_for(make):
    env = make()
    episodes = run(env, count=5)
    assert episodes.observations.shape == (1, 5, 4, 17)
    assert episodes.valid.all()
    assert len(episodes.observations[0, :, 0].unique(dim=0)) == 5
    env.close()


# -------------------------------------------------------------------------------- what does not fit the interface
class Wrong(Diary):
    """Returns something else than it should."""

    def __init__(self, **returns):
        super().__init__()
        self.returns = returns

    def reset(self, *, seed=None, options=None):
        return self.returns.get("reset", super().reset(seed=seed))

    def step(self, action):
        names = ("observation", "reward", "terminated", "truncated", "info")
        outcome = super().step(action)
        return self.returns.get("step", tuple(self.returns.get(n, x) for n, x in zip(names, outcome, strict=True)))


OBSERVATION = np.zeros(FIELDS)


@pytest.mark.parametrize(
    ("returns", "message"),
    [
        ({"reset": OBSERVATION}, r"reset returned a ndarray: expected a tuple of 2, \(observation, info\)"),
        ({"reset": (0.0, {})}, r"observations of shape \(1,\): expected \(1, 7\)"),
        ({"reset": (OBSERVATION[:1], {})}, r"observations of shape \(1, 1\): expected \(1, 7\)"),
        ({"step": (OBSERVATION, 0.0, False, {})}, r"step returned a tuple of 4: expected a tuple of 5.*shimmy"),
        ({"step": None}, r"step returned a NoneType"),
        ({"observation": 3.0}, r"observations of shape \(1,\): expected \(1, 7\)"),
        ({"observation": {"a": 1}}, r"the observation \[\{'a': 1\}\]: expected numbers"),
        ({"observation": [[1], [1, 2]]}, r"the observation .*expected numbers"),
        ({"reward": None}, r"the reward \[None\]: expected numbers"),
        ({"reward": [1.0, 2.0]}, r"rewards of shape \(1, 2\): expected \(1,\)"),
        ({"terminated": "no"}, r"the terminated flag \['no'\]: expected numbers"),
        ({"truncated": [True, False]}, r"truncated flags of shape \(1, 2\)"),
    ],
)
def test_what_an_environment_should_not_return_is_named(returns, message):
    with pytest.raises(UserError, match=message):
        collect(Wrong(**returns), 2)
