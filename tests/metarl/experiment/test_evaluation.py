"""Evaluation on an environment that keeps who played each round: tasks, random streams, outputs of the policy."""

import json
import runpy
import sys
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium.vector import AutoresetMode, VectorEnv

from metarl import runs
from metarl.algorithms.maml_trpo import MAMLTRPO
from metarl.experiment import Environment, Evaluation, Experiment, Policy, Sampling
from metarl.experiment.builders import fixed_tasks, initial_params, make_policy, make_vector_env
from metarl.experiment.evaluation import AdaptationReturns, evaluate
from metarl.inner.sgd import SGD
from metarl.policy_gradient.gaussian_mlp import GaussianMLP
from metarl.runs.directory import State
from metarl.seeding import Purpose

SCRIPTS = Path(__file__).parents[3] / "scripts"
M, E, T, K = 3, 2, 2, 3
TASKS = ("cold", "warm", "hot")
POLICY = GaussianMLP(observation_size=1, action_size=1, hidden_sizes=(), action_scale=1e-3, min_std=0)
RISE = torch.arange(1.0, M + 1)


class Echo(VectorEnv):
    """Rewards simulation n by 100 n plus the policy's output, and keeps the tasks and streams of every round."""

    metadata: ClassVar = {"autoreset_mode": AutoresetMode.DISABLED}
    num_envs = M * E
    single_observation_space = single_action_space = gymnasium.spaces.Box(-1, 1, (1,), np.float32)

    def __init__(self):
        self.tasks, self.rounds = (), []

    def set_tasks(self, tasks):
        self.tasks = tuple(tasks)

    def reset(self, *, seed=None, options=None):
        addresses = [tuple(g.bit_generator.seed_seq.entropy) for g in options["generators"]]
        self.rounds.append((self.tasks, addresses))
        self.t = 0
        return np.zeros((self.num_envs, 1)), {}

    def step(self, actions):
        self.t += 1
        rewards = 100 * np.arange(self.num_envs) + actions[:, 0] / POLICY.action_scale
        never = np.zeros(self.num_envs, bool)
        return np.zeros((self.num_envs, 1)), rewards, never, never | (self.t == T), {"diverged": never}


class Climb(SGD):
    """An inner step raises the output of task m by m + 1, times the scale; it keeps the batches it learned from."""

    batches: ClassVar[list] = []

    def descend(self, model, params, batch, scale=1.0):
        self.batches.append(batch)
        return params | {"b0": params["b0"] + scale * RISE[:, None]}


@pytest.fixture(autouse=True)
def _nothing_learned_yet(monkeypatch):
    monkeypatch.setattr(Climb, "batches", [])


def parameters(output=0.0, log_std=-20.0):
    """The policy whose output is one number, all but without noise."""
    return {"w0": torch.zeros(1, 1), "b0": torch.tensor([output]), "log_std": torch.tensor([log_std])}


def adapted(env=None, trained=1, params=None, later_steps=1.0, **changes):
    experiment = Experiment(
        env=Environment(horizon=T),
        algorithm=MAMLTRPO(inner=Climb(steps=trained)),
        evaluation=Evaluation(later_steps=later_steps),
    )
    return evaluate(env or Echo(), POLICY, params or parameters(), experiment, TASKS, **{"steps": K, **changes})


@pytest.mark.parametrize("seed", [0, 5])
@pytest.mark.parametrize("output", [0.0, 50.0])
def test_every_round_has_its_own_streams_whatever_is_evaluated(seed, output):
    env, calls = Echo(), []
    adapted(env, params=parameters(output), seed=seed, after_each=lambda: calls.append(len(env.rounds)))
    streams = [[(seed, Purpose.EVALUATION, 0, k, m) for m in range(M)] for k in range(K + 1)]
    assert env.rounds == [(TASKS, of_round) for of_round in streams]
    assert calls == [1, 2, 3, 4]


@pytest.mark.parametrize(
    ("trained", "scales"), [(0, (1, 0.25, 0.25)), (1, (1, 0.25, 0.25)), (2, (1, 1, 0.25)), (9, (1, 1, 1))]
)
def test_each_return_is_of_its_task_step_and_episode(trained, scales):
    """Steps beyond those that were trained are scaled; an untrained algorithm takes one whole step."""
    result = adapted(trained=trained, params=parameters(7.0), later_steps=0.25)
    outputs = 7.0 + np.cumsum([0, *scales]) * RISE.numpy()[:, None]  # (M, K+1)
    n = np.arange(M * E).reshape(M, 1, E)
    np.testing.assert_allclose(result.returns, T * (100 * n + outputs[..., None]), rtol=1e-6)
    np.testing.assert_allclose([result.of_task(1)[k]["b0"].item() for k in range(K + 1)], outputs[1])
    learned_from = torch.stack([batch.policy.mean[:, 0, 0, 0] for batch in Climb.batches], dim=1)
    np.testing.assert_allclose(learned_from, outputs[:, :-1])


def test_deterministic_episodes_start_alike_and_change_nothing_else():
    env = Echo()
    with_them = adapted(env, params=parameters(7.0, log_std=0.0), deterministic=True)
    without = adapted(Echo(), params=parameters(7.0, log_std=0.0))
    assert env.rounds[::2] == env.rounds[1::2]
    assert len(env.rounds) == 2 * (K + 1)
    outputs = 7.0 + np.arange(K + 1) * RISE.numpy()[:, None]  # (M, K+1)
    n = np.arange(M * E).reshape(M, 1, E)
    np.testing.assert_allclose(with_them.deterministic, T * (100 * n + outputs[..., None]), rtol=1e-6)
    noise = with_them.returns - with_them.deterministic
    assert 0.5 < noise.std() / np.sqrt(T) < 2
    np.testing.assert_array_equal(with_them.returns, without.returns)
    for batch, other in zip(Climb.batches[:K], Climb.batches[K:], strict=True):
        assert torch.equal(batch.actions, other.actions)
    with pytest.raises(ValueError, match="deterministic=True"):
        _ = without.deterministic_means


def test_means_count_the_episodes_that_were_finished():
    returns = np.array([[[1.0, 3.0], [5.0, np.nan]], [[np.nan, np.nan], [-2.0, 0.0]]])
    result = AdaptationReturns(returns, (), 10 * returns)
    np.testing.assert_array_equal(result.means, [[2, 5], [np.nan, -1]])
    np.testing.assert_array_equal(result.deterministic_means, [[20, 50], [np.nan, -10]])


def test_the_noise_of_evaluation_is_the_standard_error_of_the_mean_from_test_episodes():
    rng = np.random.default_rng(0)
    hardness = 100 * rng.normal(size=(20, 1, 1))  # of the tasks, which plays no part
    means = [AdaptationReturns(hardness + rng.normal(size=(20, 2, 9)), ()).means.mean(0) for _ in range(2000)]
    found = AdaptationReturns(hardness + rng.normal(size=(20, 2, 9)), ()).noise
    np.testing.assert_allclose(found, np.std(means, axis=0), rtol=0.15)
    lost = np.array([[[1.0, 3.0, np.nan]], [[np.nan, 5.0, np.nan]]])  # of the second task there is one episode
    np.testing.assert_allclose(AdaptationReturns(lost, ()).noise, [1.0])


OWN = Evaluation(split="iid", tasks=2, episodes=3, later_steps=0.75, steps=1)
OTHER = Evaluation(split="held-out", tasks=3, episodes=2, later_steps=0.5, steps=2)
FLAGS = "--split held-out --tasks 3 --episodes 2 --later-steps 0.5 --steps 2 --seed 8"
TINY = Experiment(
    env=Environment(id="envs:metarl/PointNav-v0", horizon=5),
    policy=Policy(hidden_sizes=(4,)),
    sampling=Sampling(tasks=2, episodes=2),
    evaluation=OWN,
    seed=3,
)


@pytest.mark.parametrize(("flags", "test", "seed"), [("", replace(OWN, steps=3), 0), (FLAGS, OTHER, 8)])
def test_the_script_compares_the_trained_with_the_first_parameters(tmp_path, monkeypatch, flags, test, seed):
    monkeypatch.chdir(tmp_path)
    env = make_vector_env(TINY.env, test.tasks * test.episodes, 1)
    policy, tasks = make_policy(TINY, env), fixed_tasks(env, test.split, test.tasks)
    first = initial_params(policy, TINY)
    trained = {name: p + 0.5 for name, p in first.items()}
    runs.create(tmp_path / "run", TINY)
    runs.save(tmp_path / "run", TINY, State(6, 99, trained, algorithm_state={}, test_tasks=[]))

    monkeypatch.setattr(sys, "argv", ["evaluate.py", "run", "--json", "report.json", *flags.split()])
    runpy.run_path(str(SCRIPTS / "evaluate.py"), run_name="__main__")
    report = json.loads(Path("report.json").read_text())

    assert report["tasks"] == [env.task_space.to_dict(task) for task in tasks]
    assert report["training"] == {"seed": 3, "iterations": 6, "environment_steps": 99}
    about = {"split": test.split, "episodes": test.episodes, "later_steps": test.later_steps, "seed": seed}
    assert about.items() <= report.items()
    for name, params in {"meta-learned": trained, "random init": first}.items():
        expected = evaluate(env, policy, params, replace(TINY, evaluation=test), tasks, seed=seed, deterministic=True)
        assert report["returns"][name] == expected.means.tolist()
        assert report["deterministic"][name] == expected.deterministic_means.tolist()
        assert report["returns"][name] != report["deterministic"][name]
    assert report["returns"]["meta-learned"] != report["returns"]["random init"]


def test_with_tune_each_initialization_has_its_own_step_size(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    experiment = replace(TINY, evaluation=replace(OWN, split="validation"))
    env = make_vector_env(experiment.env, 2 * 3, 1)
    policy, tasks = make_policy(experiment, env), fixed_tasks(env, "held-out", 2)
    first = initial_params(policy, experiment)
    start = {"meta-learned": {name: p + 0.5 for name, p in first.items()}, "random init": first}
    runs.create(tmp_path / "run", experiment)
    state = State(6, 99, start["meta-learned"], algorithm_state={}, test_tasks=[])
    runs.save(tmp_path / "run", experiment, state)
    monkeypatch.setattr(sys, "argv", ["evaluate.py", "run", "--steps", "2", "--tune", "2"])
    runpy.run_path(str(SCRIPTS / "evaluate.py"), run_name="__main__")
    told, report = (
        " ".join(capsys.readouterr().out.split()),
        json.loads(Path("run/evaluation-held-out.json").read_text()),
    )
    for name, params in start.items():
        chosen = report["tuned"][name]["chosen"]
        own = replace(experiment, algorithm=MAMLTRPO(inner=SGD(step_size=chosen["step_size"])))
        own = replace(own, evaluation=replace(own.evaluation, later_steps=chosen["later_steps"]))
        np.testing.assert_allclose(
            report["returns"][name], evaluate(env, policy, params, own, tasks, steps=2).means, rtol=1e-6
        )
        assert f"{name}: step size {chosen['step_size']:g}" in told
    monkeypatch.setattr(sys, "argv", ["evaluate.py", "run", "--steps", "2"])
    with pytest.raises(SystemExit):
        runpy.run_path(str(SCRIPTS / "evaluate.py"), run_name="__main__")
    assert "tune = True, not False" in capsys.readouterr().err


def test_how_many_steps_is_a_setting_of_the_experiment():
    assert adapted(steps=None).returns.shape == (M, Evaluation().steps + 1, E)
    assert adapted(steps=0).returns.shape == (M, 1, E)
