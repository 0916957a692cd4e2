"""Rollouts on an environment that tells in every number which simulation and step it belongs to."""

import warnings
from typing import ClassVar

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium.vector import AutoresetMode, VectorEnv

from metarl.errors import NonFinite, SimulationDiverged, UserError
from metarl.policy_gradient.gaussian_mlp import GaussianMLP, log_prob
from metarl.sampling.rollout import exploration_noise, rollout

M, E, T, A = 3, 4, 5, 2
N = M * E
BEHIND_THE_END = 1e6
POLICY = GaussianMLP(observation_size=3, action_size=A, hidden_sizes=(), action_scale=0.5)
ENDS = {1: (2, "terminated"), 3: (4, "terminated"), 6: (3, "truncated"), 8: (0, "terminated")}
"""Simulation -> its last step and why. The others are truncated in step 4."""


class Scripted(VectorEnv):
    """Observation (n, t, start), reward 100 n + 10 t + first action received; episodes end as scripted."""

    metadata: ClassVar = {"autoreset_mode": AutoresetMode.DISABLED}

    def __init__(self, num_envs=N, ends=ENDS, tasks=("cold", "warm", "hot")):
        self.num_envs, self.tasks = num_envs, tasks
        self.ends = {n: ends.get(n, (T - 1, "truncated")) for n in range(num_envs)}
        self.single_observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (3,), np.float64)
        self.single_action_space = gymnasium.spaces.Box(-1, 1, (A,), np.float32)
        self.received = []

    def reset(self, *, seed=None, options=None):
        share = self.num_envs // len(options["generators"])
        self.start = np.concatenate([g.normal(size=share) for g in options["generators"]])
        self.received = []
        return self.observation(), {}

    def observation(self):
        n, t = np.arange(self.num_envs), len(self.received)
        seen = np.stack([n, np.full_like(n, t), self.start], -1)
        seen[[self.ends[i][0] + 1 < t for i in n]] = BEHIND_THE_END
        return seen

    def step(self, actions):
        assert actions.shape == (self.num_envs, A)
        assert np.abs(actions).max() <= 1
        t, n = len(self.received), np.arange(self.num_envs)
        self.received.append(actions.copy())
        rewards = 100 * n + 10 * t + actions[:, 0].astype(float)
        flags = {}
        for kind in ("terminated", "truncated", "diverged"):
            flags[kind] = np.array([self.ends[i][0] <= t and self.ends[i][1] == kind for i in n])
        rewards[[self.ends[i][0] < t for i in n]] = BEHIND_THE_END
        rewards[flags["diverged"]] = np.nan
        terminated = flags["terminated"] | flags["diverged"]
        return self.observation(), rewards, terminated, flags["truncated"], {"diverged": flags["diverged"]}


def parameters(num_tasks=M):
    """Another policy for each task."""
    rng = torch.Generator().manual_seed(0)
    w, b = 0.1 * torch.randn(num_tasks, 3, A, generator=rng), torch.randn(num_tasks, A, generator=rng)
    return {"w0": w, "b0": b, "log_std": 0.5 * torch.randn(num_tasks, A, generator=rng)}


def generators(*seeds):
    return [np.random.default_rng(seed) for seed in seeds]


def play(env, params=None, seeds=(0, 1, 2), **options):
    return rollout(env, POLICY, params or parameters(len(seeds)), generators(*seeds), T, **options)


def last(n):
    return ENDS.get(n, (T - 1, "truncated"))


def test_each_number_lands_at_its_task_episode_and_step():
    env, params = Scripted(), parameters()
    episodes = play(env, params)
    for n in range(N):
        (m, e), (end, why) = divmod(n, E), last(n)
        for t in range(end + 1):
            at = m, e, t
            observation = torch.tensor([n, t, env.start[n]]).float()
            assert torch.equal(episodes.observations[at], observation)
            mean = observation @ params["w0"][m] + params["b0"][m]
            torch.testing.assert_close(episodes.policy.mean[at], mean)
            received = torch.from_numpy(env.received[t][n])
            torch.testing.assert_close(received, (0.5 * episodes.actions[at]).clamp(-1, 1))
            assert episodes.rewards[at].item() == pytest.approx(100 * n + 10 * t + received[0].item(), rel=1e-6)
            assert episodes.discounts[at] == (0 if (t, why) == (end, "terminated") else 1)
        assert torch.equal(episodes.observations[m, e, end + 1], torch.tensor([n, end + 1, env.start[n]]).float())
        assert episodes.valid[m, e].tolist() == [1.0] * (end + 1) + [0.0] * (T - 1 - end)


def test_actions_are_recorded_before_scaling_and_clipping():
    episodes = play(Scripted())
    assert (0.5 * episodes.actions.abs()).max() > 1.2
    noise = exploration_noise(generators(0, 1, 2), E, T, A)
    z = (episodes.actions - episodes.policy.mean) / episodes.policy.log_std.exp()[:, None, None]
    taken = episodes.valid.bool()
    torch.testing.assert_close(z[taken], noise[taken], rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(episodes.policy.log_std, POLICY.log_std(parameters()))


def test_returns_are_those_of_the_steps_taken():
    env = Scripted()
    episodes = play(env)
    for n in range(N):
        steps = range(last(n)[0] + 1)
        expected = sum(100 * n + 10 * t + env.received[t][n, 0] for t in steps)
        assert episodes.returns[divmod(n, E)].item() == pytest.approx(expected, rel=1e-5)
    assert episodes.environment_steps == sum(last(n)[0] + 1 for n in range(N))


def fields_of(episodes):
    own = [episodes.observations, episodes.actions, episodes.rewards, episodes.discounts, episodes.valid]
    return [*own, episodes.policy.mean, episodes.policy.log_std]


@pytest.fixture
def memory_of_nan():
    """Uninitialized memory is filled with NaN."""
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(False)


@pytest.mark.usefixtures("memory_of_nan")
def test_all_padding_is_finite_where_every_episode_is_short():
    """A product with valid = 0 removes any number but one that is not finite."""
    env = Scripted(ends={n: (1 + n % 2, "terminated") for n in range(N)})
    episodes = play(env)
    assert len(env.received) == 3  # nobody is left after step 2
    for field in fields_of(episodes):
        assert torch.isfinite(field).all()
    assert torch.isfinite(log_prob(episodes.policy, episodes.actions)).all()


def test_episodes_can_be_differentiated_through():
    assert not any(field.is_inference() for field in fields_of(play(Scripted())))


def test_the_noise_of_a_task_is_that_of_its_own_generator():
    """The generator draws all noise first and the initial states after it."""
    episodes = play(Scripted(), seeds=(7, 8, 9))
    fresh = np.random.default_rng(8)
    noise = fresh.standard_normal((E, T, A), dtype=np.float32)
    assert torch.equal(exploration_noise(generators(7, 8, 9), E, T, A)[1], torch.from_numpy(noise))
    np.testing.assert_array_equal(episodes.observations[1, :, 0, 2], fresh.normal(size=E).astype(np.float32))

    beside_others = play(Scripted(), seeds=(70, 8, 90))
    for mine, other in zip(fields_of(episodes), fields_of(beside_others), strict=True):
        assert torch.equal(mine[1], other[1])
    assert not torch.equal(episodes.actions[0], beside_others.actions[0])


def test_a_deterministic_rollout_acts_by_the_mean_from_the_same_initial_states():
    params, stochastic = parameters(), play(Scripted())
    deterministic = play(Scripted(), deterministic=True)
    assert torch.equal(deterministic.observations[:, :, 0], stochastic.observations[:, :, 0])
    for n in range(N):
        for t in range(last(n)[0] + 1):
            at = *divmod(n, E), t
            mean = deterministic.observations[at] @ params["w0"][n // E] + params["b0"][n // E]
            torch.testing.assert_close(deterministic.actions[at], mean)
            assert not torch.allclose(stochastic.actions[at], mean, rtol=1e-3)


def test_a_diverged_simulation_is_left_out_with_a_warning():
    """One of ten, just not too many."""
    env = Scripted(num_envs=10, ends={7: (1, "diverged"), 8: (2, "terminated")}, tasks=("cold", "warm"))
    with pytest.warns(Warning, match="1 of 10 simulations diverged.*warm") as record:
        episodes = play(env, seeds=(0, 1))
    assert "cold" not in str(record[0].message)
    assert not episodes.valid[1, 2].any()
    for field in fields_of(episodes):
        assert torch.isfinite(field).all()
    left_out = torch.zeros(2, 5, dtype=torch.bool)
    left_out[1, 2] = True
    assert torch.equal(episodes.returns.isnan(), left_out)
    assert episodes.environment_steps == 8 * T + 3


def test_too_many_diverged_simulations_stop_the_run():
    env = Scripted(ends={5: (1, "diverged"), 11: (4, "diverged")})
    with pytest.raises(SimulationDiverged, match="2 of 12") as error:
        play(env)
    for name, affected in zip(env.tasks, (False, True, True), strict=True):
        assert (name in str(error.value)) == affected


def test_nothing_is_said_where_nothing_diverged():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        play(Scripted())


class Paying(Scripted):
    """Pays `pay` for every step of the simulations of the last task."""

    pay = 1.0

    def step(self, actions):
        observation, _, *rest = super().step(actions)
        return observation, np.where(np.arange(N) < N - E, 0.0, self.pay), *rest


@pytest.mark.parametrize("pay", [1e37, -1e37, 3e38])
def test_rewards_whose_sum_no_float_holds_are_refused(pay):
    env = Paying(ends={})
    env.pay = pay
    with pytest.raises(NonFinite, match=r"rewards of task 2 \(hot\) are too large: their sum is .*3.4e\+38"):
        play(env)


def test_large_rewards_that_a_float_holds_are_kept():
    env = Paying(ends={})
    env.pay = 1e36
    episodes = play(env)
    assert torch.isfinite(episodes.returns.mean())
    torch.testing.assert_close(episodes.returns[2], torch.full((E,), T * 1e36))


@pytest.mark.parametrize("pay", [np.nan, np.inf, 1e39])
def test_rewards_that_are_not_finite_are_refused_with_their_task(pay):
    env = Paying(ends={})
    env.pay = pay
    with pytest.raises(NonFinite, match=r"the rewards of task 2 \(hot\) are not finite"):
        play(env)


class Misshapen(Scripted):
    """Returns something else than it should."""

    returns: ClassVar = {}

    def step(self, actions):
        observation, rewards, *rest = super().step(actions)
        return self.returns.get("observation", observation), self.returns.get("reward", rewards), *rest


@pytest.mark.parametrize(
    ("returns", "message"),
    [
        ({"observation": np.zeros((N, 1))}, r"observations of shape \(12, 1\): expected \(12, 3\)"),
        ({"observation": np.zeros(3)}, r"observations of shape \(3,\): expected \(12, 3\)"),
        ({"observation": 0.0}, r"observations of shape \(\): expected"),
        ({"observation": [[None] * 3] * N}, r"the observation \[\[None, None.*expected numbers"),
        ({"reward": 1.0}, r"rewards of shape \(\): expected \(12,\)"),
        ({"reward": np.zeros((N, 1))}, r"rewards of shape \(12, 1\): expected \(12,\)"),
        ({"reward": ["much"] * N}, r"the reward \['much', .*expected numbers"),
    ],
)
def test_what_is_no_array_of_its_shape_is_refused(returns, message):
    env = Misshapen()
    env.returns = returns
    with pytest.raises(UserError, match=message):
        play(env)
