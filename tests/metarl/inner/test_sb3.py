"""Stable-Baselines3 as the inner learner of all tasks, on the point that navigates."""

import gc
import weakref
from dataclasses import replace

import numpy as np
import pytest
import torch

from metarl.algorithms.reptile import Reptile
from metarl.errors import UserError
from metarl.experiment import Environment, Evaluation, Experiment, Policy, Sampling
from metarl.experiment.builders import (
    fixed_tasks,
    initial_params,
    make_policy,
    make_vector_env,
    simulations_of_one_task,
)
from metarl.experiment.collection import collect, step_rollout
from metarl.experiment.evaluation import evaluate
from metarl.inner.sb3 import SB3A2C, SB3PPO
from metarl.parameters import expand
from metarl.policy_gradient import normalizer
from metarl.seeding import Purpose, stream
from metarl.training import prepare

M, E, T = 3, 4, 10
EXPERIMENT = Experiment(
    env=Environment(id="envs:metarl/PointNav-v0", horizon=T),
    policy=Policy(hidden_sizes=(8,)),
    sampling=Sampling(tasks=M, episodes=E),
    algorithm=Reptile(inner=SB3PPO(steps=2)),
    evaluation=Evaluation(tasks=2, episodes=E, videos=0),
    threads=1,
)


@pytest.fixture(params=[SB3PPO(steps=2), SB3A2C(steps=2)], ids=["ppo", "a2c"])
def experiment(request):
    return replace(EXPERIMENT, algorithm=Reptile(inner=request.param))


def batch(tasks=None):
    env = make_vector_env(EXPERIMENT.env, M * E, 1)
    env.set_tasks(tasks or env.task_space.grid(M))
    return env


def learned_alone(experiment, policy, params, task, own):
    """One rollout and update on one task, by Stable-Baselines3 on simulations of its own."""
    sampling = experiment.sampling
    settings = {"horizon": T, "gamma": sampling.gamma, "gae_lambda": sampling.gae_lambda}
    learner = experiment.algorithm.inner.learner(policy, make_vector_env(experiment.env, E, 1), **settings)
    return learner.learn(params, task, 1, own)


def adapted(experiment, env, policy, params, seed, k=0, iteration=0):
    rollout = step_rollout(env, policy, experiment, seed, Purpose.TRAINING, iteration, k, params)
    step = experiment.algorithm.inner.adapt(policy, params, rollout)
    assert "trajectories" not in vars(rollout)  # nothing was sampled beside what it samples itself
    return step


def test_every_task_is_learned_from_its_own_parameters_on_its_own_stream(experiment):
    env = batch()
    policy = make_policy(experiment, env)
    params = expand(initial_params(policy, experiment), M)
    params = params | {"b1": torch.arange(2.0 * M).view(M, 2) / 10}
    together = adapted(experiment, env, policy, params, seed=0)
    assert together.environment_steps == M * E * T
    assert together.support is None
    returns = []
    for m in reversed(range(M)):
        own = {name: p[m] for name, p in params.items()}
        alone = learned_alone(experiment, policy, own, env.tasks[m], stream(0, Purpose.SB3, 0, 0, m))
        returns.append(alone.returns[0])
        for name, p in alone.params[0].items():
            assert torch.equal(together.params[name][m], p)
            assert torch.equal(p, params[name][m]) == (name in normalizer.NAMES)
    assert together.returns.mean().item() == pytest.approx(np.mean(returns))


def test_training_takes_all_steps(experiment):
    setup = prepare(experiment)
    theta = setup.first_params
    setup.env.set_tasks(setup.env.task_space.grid(M))
    collected = collect(setup.env, setup.policy, theta, experiment, 5)
    params, returns = expand(theta, M), []
    for k in range(2):
        step = adapted(experiment, setup.env, setup.policy, params, experiment.seed, k, iteration=5)
        params, returns = step.params, [*returns, step.returns.mean().item()]
    assert collected.environment_steps == 2 * M * E * T
    assert collected.returns == returns
    assert collected.experience.support == ()
    for name, p in params.items():
        assert torch.equal(collected.experience.adapted[name], p)
    updated, *_ = experiment.algorithm.update(setup.policy, theta, {}, collected.experience)
    assert updated.keys() == theta.keys() > {"value.w0", "w0", "log_std"}
    torch.testing.assert_close(updated["value.w1"], params["value.w1"].mean(0))


def test_evaluation_measures_episodes_of_its_own_and_steps_keep_their_size(experiment):
    env = make_vector_env(experiment.env, 2 * E, 1)
    policy = make_policy(experiment, env)
    theta, tasks = initial_params(policy, experiment), fixed_tasks(env, "held-out", 2)
    result = evaluate(env, policy, theta, experiment, tasks, steps=3, seed=3)
    params = expand(theta, 2)
    for k in range(3):  # the last one beyond those that were trained
        params = adapted(experiment, env, policy, params, 3, k).params
        for name, p in result.adapted[k + 1].items():
            assert torch.equal(p, params[name])
    assert result.returns.shape == (2, 4, E)
    assert np.isfinite(result.returns).all()


def test_its_simulations_are_built_once_for_a_batch_and_go_with_it():
    env = batch()
    beside = simulations_of_one_task(env, EXPERIMENT)
    assert beside.num_envs == E
    assert simulations_of_one_task(env, EXPERIMENT) is beside
    assert simulations_of_one_task(batch(), EXPERIMENT) is not beside
    env.set_tasks(env.task_space.grid(1))
    assert simulations_of_one_task(env, EXPERIMENT).num_envs == M * E
    gone = weakref.ref(simulations_of_one_task(env, EXPERIMENT))
    del env, beside
    gc.collect()
    assert gone() is None


@pytest.mark.parametrize("inner", [SB3PPO, SB3A2C])
def test_the_scale_of_rewards_is_a_setting(inner):
    env = batch()
    policy, steps = make_policy(EXPERIMENT, env), []
    for scale in (1.0, 0.01):
        experiment = replace(EXPERIMENT, algorithm=Reptile(inner=inner(reward_scale=scale)))
        params = expand(initial_params(policy, experiment), M)
        steps.append(adapted(experiment, env, policy, params, seed=0))
    assert torch.equal(steps[0].returns, steps[1].returns)
    assert not torch.equal(steps[0].params["value.w0"], steps[1].params["value.w0"])


def test_minibatches_that_do_not_share_a_rollout_are_refused_before_anything_runs():
    experiment = replace(EXPERIMENT, algorithm=Reptile(inner=SB3PPO(minibatches=7)))
    with pytest.raises(UserError, match="minibatches = 7 cannot share the 40 steps"):
        prepare(experiment)
    env = batch()
    policy = make_policy(experiment, env)
    with pytest.raises(UserError, match="minibatches = 7 cannot share the 40 steps"):
        evaluate(env, policy, initial_params(policy, experiment), experiment, env.tasks)
