"""The bridge to Stable-Baselines3, on its own algorithms and on robots of the suite."""

import base64
import io
import json
import math
import pickle
import shutil
import struct
import subprocess
import sys
import warnings
import zipfile
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import gymnasium
import numpy as np
import pytest
import torch
from stable_baselines3 import A2C, DQN, PPO, SAC, TD3
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.logger import Logger
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.policies import ActorCriticPolicy
from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize
from torch import nn

from envs.point import GoalTask
from envs.vector import RobotVectorEnv
from envs.velocity import VelocityTask
from metarl.errors import NonFinite, SimulationDiverged, UserError
from metarl.parameters import expand
from metarl.policy_gradient import normalizer
from metarl.policy_gradient.gaussian_mlp import GaussianMLP
from metarl.sb3 import Metrics, TaskLearner, TaskVecEnv, export, read, to_sb3
from metarl.sb3.conversion import initial_critic
from metarl.sb3.task_learner import _randomness

GOALS = [GoalTask((0.4, -0.1)), GoalTask((-0.2, 0.3))]
ALGORITHMS = {"ppo": PPO, "a2c": A2C}
POINT = GaussianMLP(observation_size=2, action_size=2, hidden_sizes=(8, 5), action_scale=0.3, initial_std=0.7)


@pytest.fixture(autouse=True)
def _in_a_temporary_directory(tmp_path, monkeypatch):
    """MuJoCo writes its warnings to a file in the working directory."""
    monkeypatch.chdir(tmp_path)


@pytest.fixture(autouse=True)
def _on_one_thread():
    """A second one would only wait for the first."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def vector(name, num_envs, horizon, tasks=()):
    env = gymnasium.make_vec(f"envs:metarl/{name}-v0", num_envs=num_envs, max_episode_steps=horizon, nthread=1)
    if tasks:
        env.set_tasks(tasks)
    return env


def points(num_envs=4, horizon=5, action_scale=1.0):
    return TaskVecEnv(vector("PointNav", num_envs, horizon, GOALS), action_scale)


def parameters(policy, seed=0):
    """Parameters with no entry that is zero by construction."""
    rng = torch.Generator().manual_seed(seed)
    return {name: p + 0.3 * torch.randn(p.shape, generator=rng) for name, p in policy.init(rng).items()}


def observations(size, count=64):
    return 2 * torch.randn(count, size, generator=torch.Generator().manual_seed(5))


def assert_close(params, expected, atol=1e-6):
    assert list(params) == list(expected)
    for name, p in params.items():
        torch.testing.assert_close(p, expected[name], rtol=1e-5, atol=atol)


def assert_equal(params, expected):
    assert list(params) == list(expected)
    assert all(torch.equal(p, expected[name]) for name, p in params.items())


# ------------------------------------------------------------------------------------------ environments
WALKERS = [VelocityTask(1.0), VelocityTask(2.0)]
CASES = [("PointNav", GOALS, 4), ("Walker2dVel", WALKERS, 18)]


def singles(name, tasks, num_envs, horizon):
    """As many ordinary environments as there are simulations, the way Stable-Baselines3 runs them."""

    def single(task):
        env = gymnasium.make(f"envs:metarl/{name}-v0", max_episode_steps=horizon)
        env.unwrapped.set_task(task)
        return Monitor(env)

    share = num_envs // len(tasks)
    return DummyVecEnv([lambda task=tasks[n // share]: single(task) for n in range(num_envs)])


def test_networks_this_small_learn_on_one_thread():
    torch.set_num_threads(2)
    points()
    assert torch.get_num_threads() == 1


@pytest.mark.parametrize(("name", "tasks", "horizon"), CASES)
def test_every_transition_is_that_of_single_environments(name, tasks, horizon):
    """Start states, ends by falling and by the time limit, last observations and episodes: bit for bit."""
    N = 6
    ours, theirs = TaskVecEnv(vector(name, N, horizon, tasks)), singles(name, tasks, N, horizon)
    assert ours.observation_space == theirs.observation_space
    assert ours.action_space == theirs.action_space
    assert ours.seed(7) == theirs.seed(7)
    np.testing.assert_array_equal(ours.reset(), theirs.reset())
    rng, limits = np.random.default_rng(0), set()
    for _ in range(60):
        actions = rng.uniform(-1.2, 1.2, (N, *ours.action_space.shape)).astype(np.float32)
        (obs, reward, done, infos), expected = ours.step(actions), theirs.step(actions)
        np.testing.assert_array_equal(obs, expected[0])
        np.testing.assert_array_equal(reward, expected[1])
        np.testing.assert_array_equal(done, expected[2])
        for n, (info, full) in enumerate(zip(infos, expected[3], strict=True)):
            if not done[n]:
                assert info == {}
                continue
            limits.add(info["TimeLimit.truncated"])
            assert info["TimeLimit.truncated"] == full["TimeLimit.truncated"]
            np.testing.assert_array_equal(info["terminal_observation"], full["terminal_observation"])
            assert info["episode"]["l"] == full["episode"]["l"]
            assert info["episode"]["r"] == pytest.approx(full["episode"]["r"], abs=1e-5)
    assert limits == ({True} if name == "PointNav" else {True, False})


def test_a_fall_in_the_last_step_is_no_time_limit():
    def first_end(horizon):
        env = TaskVecEnv(vector("Walker2dVel", 1, horizon, WALKERS[:1]))
        env.seed(3)
        env.reset()
        while not (infos := env.step(np.ones((1, 6), np.float32))[3])[0]:
            pass
        return infos[0]

    fall = first_end(horizon=None)
    assert not fall["TimeLimit.truncated"]
    assert not first_end(horizon=fall["episode"]["l"])["TimeLimit.truncated"]
    assert first_end(horizon=fall["episode"]["l"] - 1)["TimeLimit.truncated"]


@pytest.mark.parametrize(
    "other",
    [
        lambda: gymnasium.make_vec("Pendulum-v1", num_envs=2),
        lambda: gymnasium.make("envs:metarl/PointNav-v0"),
    ],
)
def test_what_is_no_vector_environment_of_tasks_is_refused(other):
    with pytest.raises(UserError, match=r"not a vector environment of tasks.*gymnasium\.make_vec"):
        TaskVecEnv(other())


def test_actions_are_in_units_of_the_policy():
    env = points(action_scale=0.1)
    assert env.action_space == gymnasium.spaces.Box(-10, 10, (2,), np.float32)
    env.reset()
    positions = env.step(np.array([[10, -10], [2, -4], [30, 0], [0, -30]], np.float32))[0]
    np.testing.assert_allclose(positions / 0.1, [[1, -1], [0.2, -0.4], [1, 0], [0, -1]], atol=1e-6)  # dt = 0.1 s
    for wrong in (0.0, -1.0, math.nan):
        with pytest.raises(UserError, match="action_scale = .*positive"):
            points(action_scale=wrong)


def test_rewards_are_scaled_and_returns_are_not():
    plain, scaled = points(), TaskVecEnv(vector("PointNav", 4, 5, GOALS), reward_scale=0.25)
    for env in (plain, scaled):
        env.seed(0)
        env.reset()
    for _ in range(5):
        (_, reward, _, infos), (_, quarter, _, same) = (env.step(np.ones((4, 2))) for env in (plain, scaled))
        np.testing.assert_allclose(quarter, 0.25 * reward, rtol=1e-6)
        assert (reward < 0).all()
    assert [info["episode"]["r"] for info in infos] == [info["episode"]["r"] for info in same]
    with pytest.raises(UserError, match="reward_scale = 0"):
        TaskVecEnv(vector("PointNav", 4, 5), reward_scale=0)


def test_infos_are_not_shared():
    env = points()
    env.reset()
    infos = env.step(np.zeros((4, 2)))[3]
    infos[0]["mark"] = 1
    assert infos[1:] == env.step(np.zeros((4, 2)))[3][1:] == [{}, {}, {}]


def test_a_diverged_simulation_terminates_with_one_warning():
    cheetahs = vector("HalfCheetahVel", 4, 100, WALKERS)
    env = TaskVecEnv(cheetahs)
    env.reset()

    def step_with_diverging(row):
        cheetahs._qvel[row] = np.nan
        obs, reward, done, infos = env.step(np.zeros((4, 6)))
        assert done.tolist() == [n == row for n in range(4)]
        assert reward[row] == 0
        assert not infos[row]["TimeLimit.truncated"]
        assert np.isfinite(obs).all()
        assert np.isfinite(infos[row]["terminal_observation"]).all()

    for rows in ((3, 3, 0), (1,)):
        env.reset()
        assert env.diverged == 0
        with pytest.warns(UserWarning, match=f"velocity={WALKERS[rows[0] // 2].velocity}.*diverged") as record:
            step_with_diverging(rows[0])
        assert record[0].filename == __file__
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            for row in rows[1:]:
                step_with_diverging(row)
        assert env.diverged == len(rows)


def test_the_same_seed_gives_the_same_start_and_no_seed_another():
    env = TaskVecEnv(vector("Walker2dVel", 2, 5, WALKERS))
    starts = []
    for seed in (1, 1, None):
        if seed is not None:
            env.seed(seed)
        starts.append(env.reset())
    np.testing.assert_array_equal(starts[0], starts[1])
    assert not np.isin(starts[2][:, 0], starts[0][:, 0]).any()
    assert starts[0][0, 0] != starts[0][1, 0]


def test_what_a_vector_environment_cannot_do_names_what_does():
    env = points()
    with pytest.raises(UserError, match=r"gymnasium\.make\(id, render_mode='rgb_array'\)"):
        env.get_images()
    for name in ("task", "tasks"):
        with pytest.raises(UserError, match="env_method"):
            env.set_attr(name, GOALS[0])


def test_attributes_and_methods_are_those_of_the_vector_environment():
    env = points()
    assert env.render_mode is None
    assert env.get_attr("max_episode_steps", [0, 2]) == [5, 5]
    assert not env.has_attr("max_episode_step")
    env.set_attr("max_episode_steps", 3)
    assert env.env.max_episode_steps == 3
    assert env.env_method("set_tasks", GOALS[:1], indices=range(4)) == [None] * 4
    assert list(env.env.tasks) == GOALS[:1]
    assert env.env_is_wrapped(Monitor, 0) == [True]
    assert env.env_is_wrapped(gymnasium.wrappers.ClipAction) == [False] * 4
    with pytest.raises(AttributeError, match="max_steps"):
        env.set_attr("max_steps", 3)
    for action in (
        lambda: env.set_attr("max_episode_steps", 9, 1),
        lambda: env.env_method("set_tasks", GOALS, indices=[1]),
    ):
        with pytest.raises(UserError, match="alone: all 4 are stepped together. Leave out indices"):
            action()
    with pytest.raises(UserError, match="env.reset"):
        env.set_options({"reset_mask": None})
    env.set_options()


@pytest.mark.parametrize("algorithm", [PPO, A2C, SAC, TD3])
def test_any_algorithm_learns_on_it_and_sees_the_returns(algorithm):
    env = points(action_scale=0.5)
    options = {
        PPO: {"n_steps": 10, "batch_size": 8},
        A2C: {"n_steps": 10},
        SAC: {"learning_starts": 8, "batch_size": 8},
        TD3: {"learning_starts": 8, "batch_size": 8},
    }
    settings = options[algorithm] | {"policy_kwargs": {"net_arch": [8]}}
    model = algorithm("MlpPolicy", env, device="cpu", seed=0, **settings)
    rows = []
    model.set_logger(Logger(folder=None, output_formats=[Metrics(lambda metrics, step: rows.append((step, metrics)))]))
    model.learn(40, log_interval=1)
    assert {episode["l"] for episode in model.ep_info_buffer} == {5}
    seen = np.mean([episode["r"] for episode in model.ep_info_buffer])
    step, metrics = rows[-1]
    assert step == 40
    assert all(name.startswith("sb3/") and isinstance(value, float) for name, value in metrics.items())
    assert metrics["sb3/rollout/ep_rew_mean"] == pytest.approx(seen)
    assert metrics["sb3/rollout/ep_len_mean"] == 5


def test_only_numbers_are_metrics():
    rows = []
    Metrics(lambda *row: rows.append(row)).write({"a": 1, "b": np.float32(0.5), "text": "no", "none": None}, {}, step=7)
    assert rows == [({"sb3/a": 1.0, "sb3/b": 0.5}, 7)]


def test_stable_baselines_evaluates_on_it():
    env = points()
    model = to_sb3(POINT, parameters(POINT), env)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        returns, lengths = evaluate_policy(model, env, n_eval_episodes=8, return_episode_rewards=True)
    assert lengths == [5] * 8
    assert len(set(np.round(returns, 4))) == 2  # the point has no start noise, and there are two goals


class BeforeTraining(BaseCallback):
    """Keeps what a rollout buffer holds when the rollout ends, and the returns of all episodes until then."""

    def _on_step(self):
        return True

    def _on_rollout_end(self):
        self.ended = [*getattr(self, "ended", []), [episode["r"] for episode in self.model.ep_info_buffer]]
        self.buffer = SimpleNamespace(
            **{name: np.copy(value) for name, value in vars(self.model.rollout_buffer).items()}
        )


@pytest.mark.parametrize(("name", "tasks", "horizon"), CASES)
def test_the_time_limit_bootstraps_from_the_last_observation(name, tasks, horizon):
    """Of the reward and the value that PPO learns from, at every step of a rollout over several episodes."""
    env, by_hand = (TaskVecEnv(vector(name, 4, horizon, tasks)) for _ in range(2))
    policy = GaussianMLP(env.observation_space.shape[0], env.action_space.shape[0], (8,), action_scale=1.0)
    model = to_sb3(policy, parameters(policy), env, n_steps=60, batch_size=240, learning_rate=0.0, gamma=0.9, seed=1)
    kept = BeforeTraining()
    model.learn(240, callback=kept)
    by_hand.seed(1)
    obs, limits, falls = by_hand.reset(), 0, 0
    for t in range(60):
        np.testing.assert_array_equal(kept.buffer.observations[t], obs)
        obs, expected, done, infos = by_hand.step(kept.buffer.actions[t].clip(-1, 1))
        for n in np.flatnonzero(done):
            falls += not infos[n]["TimeLimit.truncated"]
            if infos[n]["TimeLimit.truncated"]:
                limits += 1
                last = torch.as_tensor(infos[n]["terminal_observation"])[None]
                expected[n] += 0.9 * model.policy.predict_values(last).item()
        np.testing.assert_allclose(kept.buffer.rewards[t], expected, rtol=1e-5)
    assert limits > 3
    assert falls > 0 or name == "PointNav"


# ---------------------------------------------------------------------------------------------- policies
def acts_as(model, policy, params, unit):
    """Whether the model's distribution is `unit` times that of our policy."""
    seen = observations(policy.observation_size)
    distribution = model.policy.get_distribution(seen).distribution
    ours = policy.distribution(params, seen[None, None])
    torch.testing.assert_close(distribution.mean, unit * ours.mean[0, 0], rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(distribution.stddev[0], unit * ours.log_std[0].exp(), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("kind", ["ppo", "a2c"])
@pytest.mark.parametrize("hidden", [(), (4,), (8, 5)])
def test_a_model_acts_as_the_policy_and_is_read_back(kind, hidden):
    policy = replace(POINT, hidden_sizes=hidden)
    params = parameters(policy)
    for action_scale, unit in ((policy.action_scale, 1.0), (1.0, policy.action_scale)):
        model = to_sb3(policy, params, points(action_scale=action_scale), kind, n_steps=16)
        assert isinstance(model, ALGORITHMS[kind])
        acts_as(model, policy, params, unit)
        assert_close(read(model, policy), params)


def test_options_reach_the_model():
    model = to_sb3(POINT, parameters(POINT), points(), n_steps=16, gamma=0.5, policy_kwargs={"log_std_init": -3.0})
    assert (model.n_steps, model.gamma, model.policy.log_std_init) == (16, 0.5, -3.0)
    acts_as(model, POINT, parameters(POINT), POINT.action_scale)


def test_each_dimension_has_its_own_range():
    low, high = np.array([-0.5, -2.0], np.float32), np.array([0.5, 2.0], np.float32)
    env = gymnasium.wrappers.RescaleAction(gymnasium.make("envs:metarl/PointNav-v0"), low, high)
    params = parameters(POINT)
    model = to_sb3(POINT, params, DummyVecEnv([lambda: env]))
    acts_as(model, POINT, params, POINT.action_scale * torch.from_numpy(high))
    model.save("ranges.zip")
    for source in (model, "ranges.zip"):
        assert_close(read(source, POINT), params)


@pytest.mark.parametrize("kind", ["ppo", "a2c"])
def test_a_file_is_read_back(kind, tmp_path):
    params = parameters(POINT)
    before = torch.get_rng_state()
    for _ in range(2):
        export(tmp_path / "new" / "policy.zip", POINT, params, kind)
    assert torch.equal(torch.get_rng_state(), before)
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["policy.zip"]
    acts_as(ALGORITHMS[kind].load(tmp_path / "new" / "policy.zip"), POINT, params, POINT.action_scale)
    assert_close(read(tmp_path / "new" / "policy.zip", POINT), params)
    assert_close(read(str(tmp_path / "new" / "policy.zip"), POINT), params)


def test_a_critic_that_is_lacking_is_the_same_in_every_file():
    values = []
    for name in ("one.zip", "two.zip"):
        export(name, POINT, parameters(POINT))
        values.append(PPO.load(name).policy.predict_values(observations(2)))
    assert torch.equal(*values)


def test_one_tasks_parameters_are_those_of_all():
    params = parameters(POINT)
    export("one.zip", POINT, expand(params, 1))
    assert_close(read("one.zip", POINT), params)
    with pytest.raises(UserError, match="parameters of 3 tasks"):
        export("three.zip", POINT, expand(params, 3))


def test_the_critic_travels_along():
    params = with_critic(parameters(POINT), seed=1)
    export("critic.zip", POINT, params)
    seen = observations(2)
    hidden = seen
    for layer in range(3):
        hidden = hidden @ params[f"value.w{layer}"] + params[f"value.b{layer}"]
        hidden = torch.tanh(hidden) if layer < 2 else hidden
    for model in (PPO.load("critic.zip"), to_sb3(POINT, params, points())):
        torch.testing.assert_close(model.policy.predict_values(seen), hidden, rtol=1e-5, atol=1e-6)


def test_a_standard_deviation_below_the_floor_is_raised_to_it():
    narrow = replace(POINT, min_std=0.0)
    params = parameters(narrow) | {"log_std": torch.tensor([-9.0, -0.5])}
    model = to_sb3(narrow, params, points())
    assert_close(read(model, narrow), params)
    log_std = POINT.log_std(read(model, POINT))
    assert log_std[0].item() == pytest.approx(math.log(POINT.min_std), abs=2e-3)
    assert log_std[0] > math.log(POINT.min_std)
    assert log_std[1].item() == pytest.approx(-0.5, abs=1e-6)


ELSEWHERE = """
import sys
sys.modules["metarl"] = sys.modules["envs"] = None  # neither can be imported
import numpy as np
from stable_baselines3 import PPO
model = PPO.load("policy.zip")
seen = np.load("seen.npy")
std = model.policy.get_distribution(model.policy.obs_to_tensor(seen)[0]).distribution.stddev[0].detach().numpy()
np.savez("acted.npz", actions=model.predict(seen, deterministic=True)[0], std=std)
print(model.observation_space, model.action_space)
assert not [name for name in sys.modules if name.startswith(("metarl.", "envs.", "mujoco"))]
"""


@pytest.mark.parametrize("normalize", [False, True])
def test_a_file_acts_in_a_process_that_knows_stable_baselines_alone(normalize):
    sizes = {"observation_size": 17, "action_size": 6, "hidden_sizes": (32, 16)}
    policy = GaussianMLP(**sizes, action_scale=0.4, normalize_observations=normalize)
    params = parameters(policy)
    export("policy.zip", policy, params)
    seen = observations(17).double()
    np.save("seen.npy", seen.numpy())
    process = subprocess.run([sys.executable, "-I", "-c", ELSEWHERE], capture_output=True, text=True)
    assert process.returncode == 0, process.stderr
    assert process.stdout.split() == [
        "Box(-inf,",
        "inf,",
        "(17,),",
        "float64)",
        "Box(-1.0,",
        "1.0,",
        "(6,),",
        "float32)",
    ]
    acted = np.load("acted.npz")
    expected = policy.command(params, seen.float()[None])[0].numpy()
    assert (np.abs(expected) == 1).any()
    np.testing.assert_allclose(acted["actions"], expected, atol=1e-6)
    np.testing.assert_allclose(acted["std"], policy.action_scale * policy.log_std(params).exp().numpy(), rtol=1e-6)


def test_a_file_goes_on_learning_on_the_family():
    """Its spaces are those of the environment that anybody makes."""
    export("policy.zip", POINT, parameters(POINT))
    PPO.load("policy.zip", env=gymnasium.make("envs:metarl/PointNav-v0"), n_steps=8, batch_size=8).learn(8)
    PPO.load("policy.zip", env=points(), n_steps=8, batch_size=8).learn(8)


def edit(path, to, **members):
    """A copy of an archive with some members replaced."""
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(to, "w") as new:
        for name in old.namelist():
            new.writestr(name, members.get(name.replace(".", "_"), old.read(name)))


class Attack:
    def __reduce__(self):
        return open, ("attacked", "w")


def test_reading_runs_no_code(tmp_path):
    export("policy.zip", POINT, parameters(POINT))
    with zipfile.ZipFile("policy.zip") as archive:
        data = json.loads(archive.read("data"))
    for value in data.values():
        if isinstance(value, dict) and ":serialized:" in value:
            value[":serialized:"] = base64.b64encode(pickle.dumps(Attack())).decode()
    edit("policy.zip", "settings.zip", data=json.dumps(data))
    assert_close(read("settings.zip", POINT), parameters(POINT))
    torch.save({"action_net.weight": Attack()}, "attack.pth")
    edit("policy.zip", "weights.zip", policy_pth=(tmp_path / "attack.pth").read_bytes())
    with pytest.raises(UserError, match="cannot be read"):
        read("weights.zip", POINT)
    assert not (tmp_path / "attacked").exists()


def saved(model, name="theirs.zip"):
    model.save(name)
    return name


def theirs(**policy_kwargs):
    return PPO("MlpPolicy", points(), policy_kwargs={"net_arch": [8, 5], **policy_kwargs}, device="cpu")


class Careful(ActorCriticPolicy):
    def forward(self, obs, deterministic=False):
        return super().forward(0.5 * obs, deterministic)


class Scaled(nn.Module):
    def __init__(self, observation_space, factor):
        super().__init__()
        self.features_dim = observation_space.shape[0]
        self.factor = nn.Parameter(torch.tensor(factor))

    def forward(self, obs):
        return self.factor * obs


UNFIT = {
    "activation": (lambda: theirs(activation_fn=nn.ReLU), "ReLU.*not tanh"),
    "like tanh": (lambda: theirs(activation_fn=nn.Tanhshrink), "Tanhshrink.*not tanh"),
    "class": (
        lambda: PPO(Careful, points(), policy_kwargs={"net_arch": [8, 5]}, device="cpu"),
        "class is one of .*test_sb3",
    ),
    "narrower": (lambda: theirs(net_arch=[8]), r"2-8-2, and ours 2-8-5-2.*hidden_sizes = \(8,\)"),
    "wider": (lambda: theirs(net_arch=[8, 6]), "2-8-6-2, and ours 2-8-5-2"),
    "features": (
        lambda: theirs(features_extractor_class=Scaled, features_extractor_kwargs={"factor": 2.0}),
        "first pass through .*Scaled",
    ),
    "gsde": (lambda: PPO("MlpPolicy", points(), use_sde=True, device="cpu"), "use_sde=True"),
    "sac": (lambda: SAC("MlpPolicy", points(), buffer_size=10, device="cpu"), "no action_net, but actor.*PPO or A2C"),
    "dqn": (lambda: DQN("MlpPolicy", "CartPole-v1", buffer_size=10, device="cpu"), "no action_net, but q_net"),
    "discrete": (lambda: PPO("MlpPolicy", "CartPole-v1", device="cpu"), "not Gaussian"),
    "robot": (lambda: PPO("MlpPolicy", "Pendulum-v1", device="cpu"), "3-64-64-1, and ours 2-8-5-2"),
}


@pytest.mark.parametrize("case", UNFIT)
def test_a_policy_of_another_kind_is_refused(case):
    make, reason = UNFIT[case]
    model = make()
    for source in (model, saved(model)):
        with pytest.raises(UserError, match=f"another policy than ours.*{reason}"):
            read(source, POINT)


def test_a_range_of_actions_that_is_not_symmetric_is_refused():
    env = gymnasium.wrappers.RescaleAction(gymnasium.make("envs:metarl/PointNav-v0"), np.float32(0), np.float32(1))
    model = PPO("MlpPolicy", env, policy_kwargs={"net_arch": [8, 5]}, device="cpu")
    for source in (model, saved(model)):
        with pytest.raises(UserError, match=r"Box\(0.0, 1.0.*expected a Box from -h to h"):
            read(source, POINT)
    with pytest.raises(UserError, match="expected a Box"):
        to_sb3(POINT, parameters(POINT), model.get_env())


def normalized_model(tmp_path, **options):
    """A model that learned a little behind VecNormalize, its environment, its file and that of its statistics."""
    env = VecNormalize(points(), **options)
    model = PPO("MlpPolicy", env, n_steps=16, batch_size=64, policy_kwargs={"net_arch": [8, 5]}, device="cpu")
    model.learn(64)
    model.save(tmp_path / "model.zip")
    env.save(tmp_path / "statistics.pkl")
    return model, env


def test_a_model_behind_vec_normalize_acts_as_before(tmp_path):
    """In memory, and from its file with that of its statistics."""
    model, env = normalized_model(tmp_path)
    rms = env.obs_rms  # within ten standard deviations of the mean, beyond which VecNormalize clips
    observations = rms.mean + np.random.default_rng(0).normal(size=(50, 2)) * np.sqrt(rms.var)
    expected = model.predict(env.normalize_obs(observations), deterministic=True)[0]
    from_files = read(tmp_path / "model.zip", POINT, tmp_path / "statistics.pkl")
    for params in (read(model, POINT), from_files):
        actions = POINT.command(expand(params, 1), torch.from_numpy(observations).float()[None])[0]
        np.testing.assert_allclose(actions, expected, atol=1e-6)
    assert float(from_files["observation_count"]) == pytest.approx(env.obs_rms.count)


def test_without_scaled_observations_there_are_no_statistics(tmp_path):
    model, _ = normalized_model(tmp_path, norm_obs=False)
    for params in (read(model, POINT), read(tmp_path / "model.zip", POINT, tmp_path / "statistics.pkl")):
        assert not set(params) & set(normalizer.NAMES)


class Opens:
    """Pickled so that reading it naively makes a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (open, (str(self.path), "w"))


def test_statistics_that_cannot_be_used_are_refused(tmp_path):
    """Without running anything that is in their file."""
    model, env = normalized_model(tmp_path)
    content = (tmp_path / "statistics.pkl").read_bytes()
    env.obs_rms.mean = np.full(2, np.nan)
    files = {
        "missing.pkl": (None, "no statistics of VecNormalize"),
        "cut.pkl": (content[:200], "Use a file that VecNormalize.save"),
        "code.pkl": (pickle.dumps(Opens(tmp_path / "made")), "Use a file that VecNormalize.save"),
        "model.zip": ((tmp_path / "model.zip").read_bytes(), "Use a file that VecNormalize.save"),
        "nan.pkl": (pickle.dumps(env), "not finite"),
    }
    env.obs_rms.mean = np.zeros(3)
    files["three.pkl"] = (pickle.dumps(env), "the policy takes 2")
    for name, (damaged, message) in files.items():
        if damaged is not None:
            (tmp_path / name).write_bytes(damaged)
        with pytest.raises(UserError, match=message):
            read(tmp_path / "model.zip" if name != "model.zip" else saved(model), POINT, tmp_path / name)
    assert not (tmp_path / "made").exists()


def test_files_that_are_no_models_are_refused(tmp_path):
    export("policy.zip", POINT, parameters(POINT))
    with pytest.raises(UserError, match="no model.*polcy.zip.*Did you mean 'policy.zip'"):
        read("polcy.zip", POINT)
    with pytest.raises(UserError, match="is a folder"):
        read(tmp_path, POINT)
    (tmp_path / "text.zip").write_text("not a zip")
    torch.save(parameters(POINT), "torch.zip")
    shutil.copy("policy.zip", "cut.zip")
    with (tmp_path / "cut.zip").open("r+b") as file:
        file.truncate(500)
    edit("policy.zip", "list.zip", data="[]")
    for name in ("text.zip", "torch.zip", "cut.zip", "list.zip"):
        with pytest.raises(UserError, match=f"{name} cannot be read as a model.*Use a file that model.save"):
            read(name, POINT)


def test_parameters_of_another_policy_are_refused():
    params, env = parameters(POINT), points()
    for wrong in (
        {name: p for name, p in params.items() if name != "log_std"},
        params | {"w1": params["w1"].T},
        params | {"w3": params["w2"]},
        params | {"value.w0": params["w0"]},
    ):
        with pytest.raises(UserError, match="has the shape.*give the parameters together with the policy"):
            to_sb3(POINT, wrong, env)
    with pytest.raises(UserError, match="the policy takes 2 numbers"):
        to_sb3(POINT, params, TaskVecEnv(gymnasium.make_vec("envs:metarl/PointNav-v0", num_envs=1, goal_visible=True)))
    with pytest.raises(UserError, match="kind = 'pop'. Did you mean 'ppo'?"):
        to_sb3(POINT, params, env, "pop")


# ---------------------------------------------------------------------------------------------- learning
def learner(kind="ppo", num_envs=4, horizon=5, policy=POINT, env=None, **options):
    return TaskLearner(kind, policy, env or vector("PointNav", num_envs, horizon), horizon=horizon, **options)


def start(policy=POINT, seed=0):
    return with_critic(parameters(policy, seed), policy, seed=1)


def with_critic(params, policy=POINT, seed=0):
    return params | initial_critic(policy, torch.Generator().manual_seed(seed))


def learn(learner, params, task=GOALS[0], rollouts=2, seed=0):
    return learner.learn(params, task, rollouts, np.random.default_rng(seed))


def test_a_new_critic_is_added_to_the_policy():
    params = parameters(POINT)
    both = with_critic(params, seed=1)
    shapes = {name.removeprefix("value."): tuple(p.shape) for name, p in both.items() if name.startswith("value.")}
    assert shapes == {"w0": (2, 8), "b0": (8,), "w1": (8, 5), "b1": (5,), "w2": (5, 1), "b2": (1,)}
    assert_equal({name: both[name] for name in params}, params)
    assert_equal(with_critic(params, seed=1), both)
    assert not torch.equal(with_critic(params, seed=2)["value.w0"], both["value.w0"])
    torch.testing.assert_close(both["value.w0"] @ both["value.w0"].T, 2 * torch.eye(2))
    torch.testing.assert_close(both["value.w2"].T @ both["value.w2"], torch.eye(1))


class Counted(RobotVectorEnv):
    """Knows how many steps its simulations have taken."""

    taken = 0

    def step(self, actions):
        self.taken += len(actions)
        return super().step(actions)


@pytest.mark.parametrize("kind", ["ppo", "a2c"])
def test_a_rollout_has_exactly_its_steps_and_changes_every_parameter(kind):
    env = Counted("envs.point:navigation", num_envs=4, max_episode_steps=5)
    first = learner(kind, env=env, learning_rate=1e-2)
    params = start()
    learned = learn(first, params, rollouts=3)
    assert env.taken == learned.environment_steps == 3 * 4 * 5
    assert list(env.tasks) == GOALS[:1]
    assert len(learned.params) == len(learned.returns) == 3
    before = params
    for after in learned.params:
        assert list(after) == list(params)
        for name, p in after.items():
            assert p.shape == params[name].shape
            assert not p.requires_grad
            assert not torch.equal(p, before[name])
        before = after


def test_what_is_learned_depends_on_parameters_task_and_stream_alone():
    first, fresh = learner(), learner()
    params, others = start(), start(seed=9)
    learn(first, others, GOALS[1], rollouts=3, seed=4)
    first._env.env.set_tasks(GOALS)
    first._env.env.reset(seed=3)
    first._env.env.step(np.ones((4, 2)))
    torch.manual_seed(12)
    np.random.seed(12)
    kept = torch.get_rng_state(), np.random.get_state()[1].copy()
    one = learn(first, params)
    assert torch.equal(torch.get_rng_state(), kept[0])
    assert (np.random.get_state()[1] == kept[1]).all()
    torch.manual_seed(13)
    np.random.seed(13)
    two = learn(fresh, params)
    assert one.returns == two.returns
    for mine, same in zip(one.params, two.params, strict=True):
        assert_equal(mine, same)
    assert_equal(learn(fresh, params, rollouts=1).params[0], one.params[0])
    assert not torch.equal(learn(fresh, params, seed=1).params[0]["w0"], one.params[0]["w0"])
    assert not torch.equal(learn(fresh, params, GOALS[1]).params[0]["w0"], one.params[0]["w0"])


@pytest.mark.parametrize("kind", ["ppo", "a2c"])
def test_it_learns_what_stable_baselines_learns_in_one_go(kind):
    """Also over episodes that end by falling, and that go on from one rollout to the next."""
    policy = GaussianMLP(observation_size=17, action_size=6, hidden_sizes=(8,), action_scale=1.0)
    mine = learner(kind, 4, 25, policy, vector("Walker2dVel", 4, 18), learning_rate=1e-3)
    params = start(policy)
    learned = learn(mine, params, WALKERS[0], rollouts=3, seed=5)

    stream = np.random.default_rng(5)
    env = TaskVecEnv(vector("Walker2dVel", 4, 18, WALKERS[:1]), policy.action_scale)
    options = {"batch_size": 25, "n_epochs": 10} if kind == "ppo" else {}
    model = to_sb3(policy, params, env, kind, n_steps=25, gae_lambda=0.95, learning_rate=1e-3, **options)
    kept = BeforeTraining()
    with _randomness(stream):
        env.seed(int(stream.integers(2**62)))
        model.learn(3 * 4 * 25, callback=kept)
    assert model.num_timesteps == learned.environment_steps
    actor = {name: p for name, p in learned.params[-1].items() if not name.startswith("value.")}
    assert_equal(actor, read(model, policy))
    assert torch.equal(learned.params[-1]["value.w1"].T, model.policy.value_net.weight)
    assert {episode["l"] < 18 for episode in model.ep_info_buffer} == {False, True}
    for before, until, mean in zip([[], *kept.ended], kept.ended, learned.returns, strict=False):
        assert mean == pytest.approx(np.mean(until[len(before) :]))


def test_returns_are_those_of_the_episodes_that_ended():
    still = replace(POINT, min_std=1e-6)
    params = {name: torch.zeros_like(p) for name, p in still.init(torch.Generator()).items()}
    params["log_std"] = torch.full((2,), -100.0)
    short = learner(policy=still, horizon=5)
    learned = learn(short, with_critic(params, still), rollouts=2)
    distance = math.hypot(*GOALS[0].goal)
    assert learned.returns[0] == pytest.approx(-5 * distance, rel=1e-4)

    longer = learner(policy=still, env=vector("PointNav", 4, 8), horizon=5)
    learned = learn(longer, with_critic(params, still), rollouts=2)
    assert math.isnan(learned.returns[0])
    assert learned.returns[1] == pytest.approx(-8 * distance, rel=0.05)


def test_the_floor_of_the_standard_deviation_holds():
    policy = replace(POINT, min_std=0.5, initial_std=0.501)
    first = learner(policy=policy, learning_rate=0.5)
    for params in learn(first, with_critic(policy.init(torch.Generator()), policy), rollouts=4).params:
        assert (policy.log_std(params) >= math.log(0.5)).all()
        assert (params["log_std"] > math.log(0.5) - 7).all()  # near enough to have a gradient


def test_nothing_is_learned_without_a_learning_rate():
    first = learner(learning_rate=0.0)
    params = start()
    for after in learn(first, params).params:
        assert_close(after, params)


@pytest.mark.parametrize("kind", ["ppo", "a2c"])
def test_scaled_rewards_change_what_is_learned_and_not_what_is_reported(kind):
    plain, scaled = learner(kind), learner(kind, reward_scale=0.01)
    params = start()
    one, other = (learn(each, params) for each in (plain, scaled))
    assert one.returns[0] == other.returns[0]  # from the same parameters
    assert not torch.equal(one.params[0]["value.w2"], other.params[0]["value.w2"])


def test_large_rewards_leave_the_actor_next_to_nothing():
    """The gradient of actor and critic is clipped as one, and then the critic takes all of it."""

    def moved(reward_scale):
        first = learner(reward_scale=reward_scale)
        params = start()
        after = learn(first, params, rollouts=1).params[0]
        names = ("w0", "b0", "w1", "b1", "w2", "b2")
        return torch.cat([(after[name] - params[name]).flatten() for name in names]).norm()

    assert moved(1.0) > 3 * moved(1e4)


def test_the_learners_own_metrics_are_passed_on():
    rows = []
    first = learner(log=lambda metrics, step: rows.append((step, metrics)))
    returns = learn(first, start(), rollouts=3).returns
    assert [step for step, _ in rows] == [20, 40, 60]
    assert [metrics["sb3/rollout/ep_rew_mean"] for _, metrics in rows] == pytest.approx(returns)
    assert "sb3/train/value_loss" in rows[-1][1]


def test_learning_finds_a_goal():
    policy = replace(POINT, hidden_sizes=(32, 32), action_scale=0.5)
    first = learner(policy=policy, num_envs=8, horizon=50, learning_rate=1e-3)
    params = with_critic(policy.init(torch.Generator().manual_seed(0)), policy, seed=1)
    returns = learn(first, params, rollouts=8).returns
    assert returns[-1] > returns[0] + 0.3 * abs(returns[0])


class Unstable(RobotVectorEnv):
    """All simulations diverge in the second step."""

    def step(self, actions):
        if self._elapsed[0] == 1:
            self._qvel[:] = np.nan
        return super().step(actions)


@pytest.mark.filterwarnings("ignore:a simulation of")
def test_too_many_diverged_simulations_stop_it():
    env = Unstable("envs.half_cheetah:velocity", num_envs=2, max_episode_steps=5)
    policy = replace(POINT, observation_size=17, action_size=6)
    first = learner(policy=policy, env=env, minibatches=1)
    with pytest.raises(SimulationDiverged, match=r"\d simulations diverged while learning on VelocityTask"):
        learn(first, start(policy), WALKERS[0])


def test_parameters_that_are_not_finite_stop_it():
    first = learner(learning_rate=math.inf)
    params = start()
    with pytest.raises(NonFinite, match="w0 before learning is not finite"):
        learn(first, params | {"w0": params["w0"] * math.nan})
    with pytest.raises(NonFinite, match="while learning is not finite.*smaller learning_rate"):
        learn(first, params)


def test_settings_that_make_no_sense_are_refused():
    with pytest.raises(UserError, match="minibatches = 3 cannot share the 20 steps.*divides 20"):
        learner(minibatches=3)
    with pytest.raises(UserError, match="minibatches = 20 cannot"):
        learner(minibatches=20)
    with pytest.raises(UserError, match="horizon = 0"):
        learner(env=vector("PointNav", 4, 5), horizon=0)
    with pytest.raises(UserError, match="kind = 'a2d'. Did you mean 'a2c'?"):
        learner("a2d")
    with pytest.raises(UserError, match="the policy takes 3 numbers"):
        learner(policy=replace(POINT, observation_size=3))
    with pytest.raises(UserError, match="Box from -h to h in 3 dimensions"):
        learner(policy=replace(POINT, action_size=3))
    with pytest.raises(UserError, match=r"have no critic"):
        learn(learner(), parameters(POINT))


def test_a_file_that_unpacks_to_gigabytes_is_refused_before_it_is_read():
    export("policy.zip", POINT, parameters(POINT))
    content = Path("policy.zip").read_bytes()
    at = content.rindex(b"policy.pth") - 22  # the size in the directory at the end
    Path("bomb.zip").write_bytes(content[:at] + struct.pack("<I", 3 * 2**30) + content[at + 4 :])
    with pytest.raises(UserError, match=r"it unpacks to 3,22\d,\d{3},\d{3} bytes, and at most 1,073,741,824 are read"):
        read("bomb.zip", POINT)


def test_settings_and_parameters_that_unpack_to_many_megabytes_are_refused():
    with zipfile.ZipFile("settings.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("data", b"[" * (2**24 + 1))
    with pytest.raises(UserError, match=r"its part 'data' unpacks to 16,777,217 bytes"):
        read("settings.zip", POINT)
    torch_file = io.BytesIO()
    with zipfile.ZipFile(torch_file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("policy/data.pkl", b"]" * (2**24 + 1))
    with zipfile.ZipFile("policy.zip", "w") as archive:
        archive.writestr("data", "{}")
        archive.writestr("policy.pth", torch_file.getvalue())
    with pytest.raises(UserError, match=r"its part 'policy/data.pkl' unpacks to 16,777,217 bytes"):
        read("policy.zip", POINT)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (torch.zeros(1).expand(10**10), r"action_net.bias has shape \(10000000000,\), and its numbers are not all in"),
        (3, "action_net.bias is not a tensor"),
    ],
)
def test_parameters_that_are_none_are_refused(change, message):
    export("policy.zip", POINT, parameters(POINT))
    with zipfile.ZipFile("policy.zip") as archive:
        settings, state = archive.read("data"), torch.load(io.BytesIO(archive.read("policy.pth")), weights_only=True)
    changed = io.BytesIO()
    torch.save({**state, "action_net.bias": change}, changed)
    with zipfile.ZipFile("changed.zip", "w") as archive:
        archive.writestr("data", settings)
        archive.writestr("policy.pth", changed.getvalue())
    with pytest.raises(UserError, match=message):
        read("changed.zip", POINT)
