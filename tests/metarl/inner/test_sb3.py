"""Stable-Baselines3 as the inner learner of all tasks, on the point that navigates."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from metarl.algorithms.reptile import Reptile
from metarl.builders import fixed_tasks, initial_params, make_policy, make_task_learner, make_vector_env
from metarl.collection import collect
from metarl.evaluation import evaluate
from metarl.experiment import Environment, Evaluation, Experiment, Policy, Sampling
from metarl.inner.sb3 import SB3A2C, SB3PPO, practise
from metarl.parameters import expand
from metarl.seeding import Purpose, streams
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


def test_every_task_practises_by_itself_from_its_own_parameters(experiment):
    env = make_vector_env(experiment.env, M * E, 1)
    policy, tasks = make_policy(experiment, env), env.task_space.grid(M)
    learner = make_task_learner(experiment, policy, E)
    params = expand(initial_params(policy, experiment), M)
    params = params | {"b1": torch.arange(2.0 * M).view(M, 2) / 10}
    together = practise(learner, params, tasks, streams(0, Purpose.SB3, 0, 0, M))
    assert together.environment_steps == M * E * T
    assert together.returns.shape == (M,)
    for m in (2, 0):
        alone = learner.learn({k: p[m] for k, p in params.items()}, tasks[m], 1, streams(0, Purpose.SB3, 0, 0, M)[m])
        assert together.returns[m] == alone.returns[0]
        for name, p in alone.params[0].items():
            assert torch.equal(together.params[name][m], p)
            assert not torch.equal(p, params[name][m])


def test_training_takes_all_steps_on_streams_of_its_own(experiment):
    setup = prepare(experiment)
    tasks, theta = setup.env.task_space.grid(M), setup.first_params
    setup.env.set_tasks(tasks)
    collected = collect(setup.env, setup.policy, theta, experiment, 5, setup.task_learner)
    adapted = expand(theta, M)
    for k in range(2):
        adapted = practise(setup.task_learner, adapted, tasks, streams(0, Purpose.SB3, 5, k, M)).params
    assert collected.environment_steps == 2 * M * E * T
    assert len(collected.returns) == 2
    for name, p in adapted.items():
        assert torch.equal(collected.experience.adapted[name], p)
    updated, *_ = experiment.algorithm.update(setup.policy, theta, {}, collected.experience)
    assert updated.keys() == theta.keys() > {"value.w0", "w0", "log_std"}
    torch.testing.assert_close(updated["value.w1"], adapted["value.w1"].mean(0))


def test_evaluation_adapts_by_practice(experiment):
    env = make_vector_env(experiment.env, 2 * E, 1)
    policy = make_policy(experiment, env)
    theta, tasks = initial_params(policy, experiment), fixed_tasks(env, "held-out", 2)
    learner = make_task_learner(experiment, policy, E)
    settings = {"horizon": T, "steps": 2, "seed": 3, "task_learner": learner}
    result = evaluate(env, tasks, policy, theta, experiment.algorithm, experiment.sampling, **settings)
    once = practise(learner, expand(theta, 2), tasks, streams(3, Purpose.SB3, 0, 0, 2)).params
    for name, p in result.adapted[1].items():
        assert torch.equal(p, once[name])
    assert np.isfinite(result.returns).all()


def test_other_learners_need_no_simulations_of_their_own():
    setup = prepare(replace(EXPERIMENT, algorithm=Reptile()))
    assert setup.task_learner is None
    setup.env.set_tasks(setup.env.task_space.grid(M))
    collected = collect(setup.env, setup.policy, setup.first_params, setup.experiment, 0)
    assert len(collected.experience.support) == Reptile().inner.steps


@pytest.mark.parametrize("inner", [SB3PPO, SB3A2C])
def test_the_scale_of_rewards_is_a_setting(inner):
    theta, learned = None, []
    for scale in (1.0, 0.01):
        setup = prepare(replace(EXPERIMENT, algorithm=Reptile(inner=inner(reward_scale=scale))))
        theta, task = setup.first_params, setup.env.task_space.grid(1)
        learned.append(practise(setup.task_learner, expand(theta, 1), task, streams(0, Purpose.SB3, 0, 0, 1)))
    assert learned[0].returns == learned[1].returns
    assert not torch.equal(learned[0].params["value.w0"], learned[1].params["value.w0"])


def test_minibatches_that_do_not_share_a_rollout_are_refused_before_anything_runs():
    with pytest.raises(Exception, match="minibatches = 7 cannot share the 40 steps"):
        prepare(replace(EXPERIMENT, algorithm=Reptile(inner=SB3PPO(minibatches=7))))
