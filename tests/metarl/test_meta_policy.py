"""A run that is loaded: adapting on vector environments and single environments, acting, exports and refusals."""

import os
import re
import subprocess
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium.spaces import Box
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from stable_baselines3 import PPO

import metarl
from envs.point import GoalTask
from metarl import runs
from metarl.algorithms.maml_trpo import MAMLTRPO
from metarl.algorithms.reptile import Reptile
from metarl.errors import NonFinite, UserError
from metarl.experiment import Environment, Evaluation, Experiment, Policy, Sampling
from metarl.experiment.builders import initial_params, make_vector_env, policy_of_sizes
from metarl.experiment.evaluation import evaluate
from metarl.inner.sb3 import SB3A2C, SB3PPO
from metarl.inner.sgd import SGD
from metarl.meta_policy import MetaPolicy, commands_of, load
from metarl.policy_gradient.gaussian_mlp import LATENT_MEAN
from metarl.policy_gradient.normalizer import normalized
from metarl.runs import checkpoints
from metarl.runs.directory import State
from metarl.sampling.rollout import rollout
from metarl.seeding import Purpose, streams

ROOT = Path(__file__).parents[2]
E, T = 6, 8
GOAL = GoalTask((0.3, -0.2))
EXPERIMENT = Experiment(
    env=Environment(id="envs:metarl/PointNav-v0", horizon=T),
    policy=Policy(hidden_sizes=(8,)),
    sampling=Sampling(episodes=E, gamma=0.9, gae_lambda=0.8),
    algorithm=MAMLTRPO(inner=SGD(steps=2, step_size=0.3)),
    evaluation=Evaluation(later_steps=0.25),
)


def saved(path, experiment=EXPERIMENT):
    """A run whose parameters are all different from zero."""
    policy = policy_of_sizes(experiment.policy, 2, 2)
    params = {name: p + 0.1 for name, p in initial_params(policy, experiment).items()}
    runs.create(path, experiment)
    runs.save(path, experiment, State(5, 100, params, algorithm_state={}, test_tasks=[]))
    return path


@pytest.fixture
def run_dir(tmp_path):
    return saved(tmp_path / "run")


@pytest.fixture
def policy(run_dir):
    return metarl.load(run_dir)


def point(**changes):
    return gymnasium.make("envs:metarl/PointNav-v0", task={"goal": GOAL.goal}, **changes)


def vector(num_envs=E):
    env = make_vector_env(EXPERIMENT.env, num_envs, threads=1)
    env.set_tasks([GOAL])
    return env


def assert_same(params, expected, same=True):
    assert params.keys() == expected.keys()
    assert all(torch.equal(p, expected[name]) for name, p in params.items()) == same


# ------------------------------------------------------------------------------------------------ adapting
@pytest.mark.parametrize("seed", [0, 3])
def test_on_a_vector_environment_of_tasks_it_adapts_exactly_as_the_evaluation_does(policy, seed):
    """With smaller steps after the second, the last that was trained."""
    env = make_vector_env(EXPERIMENT.env, E, threads=1)
    result = evaluate(env, policy.policy, policy.params, EXPERIMENT, [GOAL], steps=4, seed=seed)
    for k, expected in enumerate(result.of_task(0)):
        adapted = policy.adapt(vector(), steps=k, seed=seed)
        assert_same(adapted.params, {name: p[0] for name, p in expected.items()})
        assert adapted.adaptation_steps == k


ENVIRONMENTS = {
    "vector of tasks": vector,
    "small vector of tasks": lambda: vector(4),
    "single": point,
    "vector": lambda: gymnasium.make_vec(
        "envs:metarl/PointNav-v0", 4, vectorization_mode="sync", task={"goal": GOAL.goal}
    ),
}


@pytest.mark.parametrize("make", ENVIRONMENTS.values(), ids=ENVIRONMENTS)
def test_what_it_becomes_is_a_function_of_seed_and_steps(policy, make):
    """Not of how the steps are shared out over calls, nor of what the environment did before; what was loaded stays."""
    before = {name: p.clone() for name, p in policy.params.items()}
    env = make()
    twice = policy.adapt(env, steps=3, seed=4)
    assert_same(policy.params, before)
    assert_same(twice.params, before, same=False)
    assert_same(policy.adapt(env, steps=1, seed=4).adapt(env, steps=2, seed=4).params, twice.params)
    assert_same(policy.adapt(env, steps=3, seed=5).params, twice.params, same=False)
    assert policy.adaptation_steps == 0


def test_what_is_not_said_is_as_in_training(policy):
    assert_same(policy.adapt(vector()).params, policy.adapt(vector(), steps=2, episodes=E, horizon=T).params)
    for other in ({"steps": 1}, {"episodes": E - 1}, {"horizon": T - 1}):
        assert_same(policy.adapt(vector(), **other).params, policy.adapt(vector()).params, same=False)


class Target(gymnasium.Env):
    """The nearer the action is to a hidden number in [0, 10], the better. It observes nothing of use."""

    observation_space = Box(-1, 1, (2,))
    action_space = Box(0, 10, (2,))

    def __init__(self, target):
        self.target = target

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return self.np_random.uniform(-1, 1, 2).astype(np.float32), {}

    def step(self, action):
        observation = self.np_random.uniform(-1, 1, 2).astype(np.float32)
        return observation, -float(np.abs(action - self.target).sum()), False, False, {}


@pytest.mark.parametrize("target", [3.0, 7.0])
@pytest.mark.parametrize("vector", [False, True])
def test_it_learns_on_an_environment_of_ones_own(policy, target, vector):
    """One without a time limit, whose actions are not those of training."""
    env = SyncVectorEnv([partial(Target, target)] * 5) if vector else Target(target)
    before, after = policy.adapt(env, steps=0), policy.adapt(env, steps=8, episodes=40)
    seen = np.random.default_rng(1).uniform(-1, 1, (50, 2))
    distances = [np.abs(p.act(seen, deterministic=True) - target).mean() for p in (before, after)]
    assert distances[1] < 0.8 * distances[0]


def test_a_number_that_is_not_finite_ends_it(policy):
    with pytest.raises(NonFinite, match="rewards"):
        policy.adapt(Target(np.nan))
    learned = replace(policy.experiment, algorithm=MAMLTRPO(inner=SGD(learned_step_sizes=True)))
    reckless = {f"log_step_size.{name}": torch.full_like(p, 200) for name, p in policy.params.items()}
    with pytest.raises(NonFinite, match="after adaptation step 1"):
        replace(policy, experiment=learned, params=policy.params | reckless).adapt(vector(), steps=1)


@pytest.mark.parametrize("context", [torch.inference_mode, torch.no_grad])
def test_it_adapts_the_same_where_gradients_are_switched_off(policy, run_dir, context):
    with context():
        adapted, loaded_there = policy.adapt(vector(), seed=1), load(run_dir).adapt(vector(), seed=1)
        assert not torch.is_grad_enabled()
    expected = policy.adapt(vector(), seed=1)
    for found in (adapted, loaded_there, load(run_dir).adapt(vector(), seed=1)):
        assert_same(found.params, expected.params)
    assert_same(adapted.adapt(vector(), seed=2).params, expected.adapt(vector(), seed=2).params)


@pytest.mark.parametrize("huge", [{"horizon": 10**9}, {"episodes": 10**12}, {"horizon": 10**30, "episodes": 1}])
def test_episodes_that_fit_in_no_memory_are_refused(policy, huge):
    with pytest.raises(UserError, match=r"episodes = .* of horizon = .* steps take at least .* GB of memory, and"):
        policy.adapt(vector(), **huge)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="processes are not forked here")
def test_a_forked_process_adapts(run_dir):
    code = f"""
import os, signal, gymnasium, metarl
def adapt():
    env = gymnasium.make("envs:metarl/PointNav-v0", task={{"goal": (0.3, -0.2)}})
    return metarl.load({str(run_dir)!r}).adapt(env, episodes=3).params["w0"].tolist()
here, child = adapt(), os.fork()
if not child:
    signal.alarm(60)  # what hangs is ended
    os._exit(0 if adapt() == here else 1)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""
    process = subprocess.run([sys.executable, "-W", "ignore", "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert (process.stdout.strip(), process.stderr) == ("0", "")


@pytest.mark.parametrize("name", ["steps", "episodes", "horizon", "seed"])
def test_an_argument_out_of_range_is_named(policy, name):
    with pytest.raises(UserError, match=f"{name} = -1: expected at least"):
        policy.adapt(vector(), **{name: -1})


def test_a_robot_of_other_shapes_is_refused(policy):
    with pytest.raises(UserError, match=r"\(17,\).*observations of shape \(2,\) and actions of shape \(2,\)"):
        policy.adapt(gymnasium.make("envs:metarl/HalfCheetahVel-v0"))


@pytest.mark.parametrize("inner", [SB3PPO(steps=2, minibatches=2), SB3A2C(steps=2)], ids=["ppo", "a2c"])
def test_inner_learners_of_stable_baselines_adapt_as_in_the_evaluation(tmp_path, inner):
    experiment = replace(EXPERIMENT, algorithm=Reptile(inner=inner))
    policy = load(saved(tmp_path / "run", experiment))
    env = make_vector_env(EXPERIMENT.env, E, threads=1)
    result = evaluate(env, policy.policy, policy.params, experiment, [GOAL], steps=3, seed=2)
    for k, expected in enumerate(result.of_task(0)):
        assert_same(policy.adapt(vector(), steps=k, seed=2).params, {name: p[0] for name, p in expected.items()})


def test_what_such_a_learner_cannot_learn_on_is_refused(tmp_path):
    experiment = replace(EXPERIMENT, algorithm=Reptile(inner=SB3PPO(minibatches=2)))
    policy = load(saved(tmp_path / "run", experiment))
    with pytest.raises(UserError, match=r"'sb3_ppo' samples by itself.*vector environment of tasks.*export_sb3"):
        policy.adapt(point())
    with pytest.raises(UserError, match="takes 6 simulations at once, and the environment has 4.*episodes=4"):
        policy.adapt(vector(4))
    with pytest.raises(UserError, match="minibatches = 2 cannot share the 5 steps"):
        policy.adapt(vector(1), episodes=1, horizon=5)


# -------------------------------------------------------------------------------------------------- acting
def test_on_an_environment_it_acts_in_its_range_without_adaptation(policy):
    env, seen = Target(2.0), np.random.default_rng(1).uniform(-1, 1, (50, 2))
    there, adapted = policy.on(env), policy.adapt(env, steps=0)
    np.testing.assert_array_equal(there.act(seen), adapted.act(seen))
    commands = policy.act(seen, deterministic=True)
    np.testing.assert_allclose(there.act(seen, deterministic=True), 5 + 5 * commands, rtol=1e-6)
    assert_same(there.params, policy.params)
    assert (there.adaptation_steps, there.action_space) == (0, env.action_space)
    assert policy.action_space == commands_of(policy.policy)
    with pytest.raises(UserError, match="observations of shape"):
        policy.on(gymnasium.make("envs:metarl/HalfCheetahVel-v0"))


@pytest.mark.parametrize("bad", [np.nan, np.inf, 1e300])
@pytest.mark.filterwarnings("error")
def test_an_observation_that_is_not_finite_is_refused(policy, bad):
    for observation in ([bad, 0], [[0, 0], [0, bad]]):
        with pytest.raises(
            NonFinite, match=rf"the observation is not finite in float32: its number \d is {re.escape(str(bad))}"
        ):
            policy.act(observation)


def test_an_action_that_is_not_finite_is_refused(policy):
    broken = replace(policy, params=policy.params | {"b1": torch.tensor([torch.nan, 0])})
    with pytest.raises(NonFinite, match="the action is not finite"):
        broken.act([0, 0])


@pytest.mark.parametrize("observation", [None, "left", {"a": 1}, [[1, 2], [3]]])
def test_what_is_no_observation_is_refused(policy, observation):
    with pytest.raises(UserError, match=r"the observation is .*: expected 2 numbers, or rows of so many"):
        policy.act(observation)


@pytest.mark.parametrize("low", [0.0, -5.0])
def test_actions_are_the_policys_spread_over_the_range(policy, low):
    space = Box(low, 5, (2,), np.float64)
    bound = replace(policy, action_space=space, params=policy.params | {"b1": torch.tensor([0.4, 99.0])})
    observations = np.random.default_rng(0).normal(size=(4, 3, 2))
    rows = torch.from_numpy(observations).float().reshape(1, 12, 2)
    means = policy.policy.mean(bound.params, normalized(bound.params, rows))[0].reshape(4, 3, 2).numpy()
    expected = (low + 5) / 2 + (5 - low) / 2 * (0.1 * means).clip(-1, 1)
    actions = bound.act(observations, deterministic=True)
    np.testing.assert_allclose(actions, expected, rtol=1e-6)
    assert (actions[..., 1] == 5).all()
    np.testing.assert_allclose(bound.act(observations[0, 0], deterministic=True), expected[0, 0], rtol=1e-6)
    assert space.contains(bound.act(observations[0, 0]))


def test_exploration_is_that_of_training_and_follows_the_seed(policy):
    std = policy.policy.log_std(policy.params).exp().numpy()
    observation = np.array([0.1, -0.2])
    first, again, other = (policy.adapt(vector(), steps=0, seed=seed) for seed in (1, 1, 2))
    drawn = first.act(np.tile(observation, (5000, 1)))
    noise = (drawn - first.act(observation, deterministic=True)) / 0.1
    np.testing.assert_allclose(noise.std(0), std, rtol=0.05)
    np.testing.assert_allclose(noise.mean(0), 0, atol=0.05)
    np.testing.assert_array_equal(again.act(np.tile(observation, (5000, 1))), drawn)
    assert not np.array_equal(again.act(observation), drawn[0])
    assert not np.array_equal(other.act(observation), drawn[0])


def test_actions_fit_the_environment_that_was_adapted_to(policy):
    env = Target(2.0)
    adapted = policy.adapt(env, steps=1, episodes=2)
    observation, _ = env.reset(seed=0)
    assert env.action_space.contains(adapted.act(observation))
    assert adapted.action_space == env.action_space
    assert policy.action_space == commands_of(policy.policy)


@pytest.mark.filterwarnings("error")
def test_observations_may_be_read_only_a_list_or_none_at_all(policy):
    frozen = np.full(2, 0.5, np.float32)
    frozen.flags.writeable = False
    expected = policy.act([0.5, 0.5], deterministic=True)
    np.testing.assert_array_equal(policy.act(frozen, deterministic=True), expected)
    assert policy.act(np.zeros((0, 2))).shape == (0, 2)


@pytest.mark.parametrize("observation", [np.zeros(3), np.zeros((2, 4)), 0.0])
def test_an_observation_of_another_size_is_refused(policy, observation):
    with pytest.raises(UserError, match=r"was trained with \(2,\)"):
        policy.act(observation)


# ------------------------------------------------------------------------------------------------- exports
ELSEWHERE = """
import sys
sys.modules["metarl"] = sys.modules["envs"] = None  # not even if it is installed
import numpy, torch
act = torch.export.load(sys.argv[1]).module()
for name in sys.argv[2:]:
    observations = torch.from_numpy(numpy.load(name))
    numpy.save(name, act(observations).numpy())
"""


LEARNED = replace(EXPERIMENT, algorithm=MAMLTRPO(inner=SGD(learned_step_sizes=True)))
"""What is meta-learned is more than what a policy acts with."""


def test_an_exported_policy_acts_the_same_without_this_package(tmp_path):
    policy = metarl.load(saved(tmp_path / "run", LEARNED))
    adapted = policy.adapt(Target(1.0), steps=1, episodes=3)  # actions in [0, 10], but the program's are in [-1, 1]
    adapted.export(tmp_path / "policy.pt2")
    inputs = {size: np.random.default_rng(size).normal(0, 3, (size, 2)).astype(np.float32) for size in (1, 2, 7)}
    files = [tmp_path / f"{size}.npy" for size in inputs]
    for file, observations in zip(files, inputs.values(), strict=True):
        np.save(file, observations)
    subprocess.run([sys.executable, "-I", "-c", ELSEWHERE, tmp_path / "policy.pt2", *files], check=True, cwd=tmp_path)
    own = replace(adapted, action_space=policy.action_space)
    for file, observations in zip(files, inputs.values(), strict=True):
        np.testing.assert_allclose(np.load(file), own.act(observations, deterministic=True), atol=1e-6)


@pytest.mark.parametrize("experiment", [EXPERIMENT, LEARNED], ids=["plain", "learned step sizes"])
def test_an_exported_model_of_stable_baselines_acts_the_same(tmp_path, experiment):
    adapted = metarl.load(saved(tmp_path / "run", experiment)).adapt(vector(), steps=1)
    adapted.export_sb3(tmp_path / "policy.zip")
    model = PPO.load(tmp_path / "policy.zip", device="cpu")
    observations = np.random.default_rng(0).normal(size=(9, 2))
    actions, _ = model.predict(observations, deterministic=True)
    np.testing.assert_allclose(actions, adapted.act(observations, deterministic=True), atol=1e-6)


LATENT = replace(EXPERIMENT, policy=Policy(hidden_sizes=(8,), latent_size=2))


def test_a_latent_variable_is_drawn_to_adapt_and_is_its_mean_to_act(tmp_path):
    policy = metarl.load(saved(tmp_path / "run", LATENT))
    env = make_vector_env(EXPERIMENT.env, E, threads=1)
    result = evaluate(env, policy.policy, policy.params, LATENT, [GOAL], steps=2)
    for k, expected in enumerate(result.of_task(0)):
        assert_same(policy.adapt(vector(), steps=k).params, {name: p[0] for name, p in expected.items()})
        acting = rollout(env, policy.policy, expected, streams(0, Purpose.EVALUATION, 0, k, 1), T)
        assert torch.equal(acting.returns[0], torch.from_numpy(result.returns[0, k]))
    adapted = policy.adapt(point(), steps=1)
    assert not torch.equal(adapted.params[LATENT_MEAN], policy.params[LATENT_MEAN])


def test_an_exported_policy_with_a_latent_variable_acts_the_same(tmp_path):
    adapted = metarl.load(saved(tmp_path / "run", LATENT)).adapt(vector(), steps=1)
    observations = np.random.default_rng(0).normal(size=(9, 2)).astype(np.float32)
    own = adapted.act(observations, deterministic=True)
    adapted.export_sb3(tmp_path / "policy.zip")
    actions, _ = PPO.load(tmp_path / "policy.zip", device="cpu").predict(observations, deterministic=True)
    np.testing.assert_allclose(actions, own, atol=1e-6)
    adapted.export(tmp_path / "policy.pt2")
    exported = torch.export.load(tmp_path / "policy.pt2").module()(torch.from_numpy(observations))
    np.testing.assert_allclose(exported, own, atol=1e-6)


# ------------------------------------------------------------------------------------------------- loading
def test_what_is_loaded_is_what_was_saved(run_dir, policy):
    assert_same(policy.params, checkpoints.load(run_dir / "checkpoint.pt")["params"])
    assert policy.experiment == EXPERIMENT
    assert (policy.policy.observation_size, policy.policy.action_size, policy.policy.hidden_sizes) == (2, 2, (8,))
    assert isinstance(metarl.load(str(run_dir)), MetaPolicy)
    assert "maml_trpo on envs:metarl/PointNav-v0, observation 2, action 2, adaptation steps 0" in repr(policy)


def test_the_best_checkpoint_can_be_loaded(run_dir, policy):
    with pytest.raises(UserError, match=r"best\.pt"):
        metarl.load(run_dir, checkpoint="best")
    best = {name: p + 1 for name, p in policy.params.items()}
    state = State(3, 50, best, algorithm_state={}, test_tasks=[])
    runs.keep_best(run_dir, EXPERIMENT, state, 7.0)
    assert_same(metarl.load(run_dir, checkpoint="best").params, best)
    assert_same(metarl.load(run_dir, "latest").params, policy.params)
    with pytest.raises(UserError, match="checkpoint = 'bset'. Did you mean 'best'?"):
        metarl.load(run_dir, checkpoint="bset")


def test_loading_needs_no_environment(run_dir):
    """So a policy whose family cannot be imported here still adapts to other environments."""
    code = f"import sys, metarl; metarl.load({str(run_dir)!r}); assert not {{'envs', 'mujoco'}} & {{*sys.modules}}"
    subprocess.run([sys.executable, "-c", code], check=True, env={**os.environ, "PYTHONPATH": str(ROOT)})


def test_what_is_no_run_is_refused(tmp_path, run_dir):
    with pytest.raises(UserError, match="holds no run"):
        load(tmp_path)
    content = checkpoints.load(run_dir / "checkpoint.pt")
    checkpoints.save(run_dir / "checkpoint.pt", content | {"params": {"w": torch.zeros(1)}})
    with pytest.raises(UserError, match="holds no Gaussian policy, but w"):
        load(run_dir)
    checkpoints.save(run_dir / "checkpoint.pt", content | {"params": content["params"] | {"b0": torch.zeros(9)}})
    with pytest.raises(UserError, match=r"b0 has shape \(9,\), expected \(8,\)"):
        load(run_dir)
    (run_dir / "checkpoint.pt").unlink()
    with pytest.raises(UserError, match="there is no checkpoint"):
        load(run_dir)


def test_reptile_adapts_by_its_own_steps(tmp_path):
    adapted = load(saved(tmp_path / "run", replace(EXPERIMENT, algorithm=Reptile(inner=SGD(steps=3))))).adapt(vector())
    assert adapted.adaptation_steps == 3


def test_autoreset_does_not_matter(policy):
    """The same environments with the same seeds, whoever resets them."""
    adapted = [
        policy.adapt(SyncVectorEnv([point] * 3, autoreset_mode=mode), steps=2, horizon=20).params
        for mode in AutoresetMode
    ]
    for params in adapted[1:]:
        assert_same(params, adapted[0])
