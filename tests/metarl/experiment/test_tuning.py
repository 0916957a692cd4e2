"""Choosing how a method adapts, on validation tasks."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from metarl.algorithms.maml_trpo import MAMLTRPO
from metarl.algorithms.reptile import Reptile
from metarl.experiment import Environment, Evaluation, Experiment, Policy
from metarl.experiment.builders import initial_params, make_policy, make_vector_env
from metarl.experiment.evaluation import evaluate
from metarl.experiment.tuning import (
    STEP_SCALES,
    adaptation_candidates,
    adapting_with,
    choose,
    tune_adaptation,
    tuning_tasks,
)
from metarl.inner.ppo import PPO
from metarl.inner.sb3 import SB3PPO
from metarl.inner.sgd import SGD
from metarl.seeding import Purpose
from metarl.statistics import plain

POINT = Experiment(
    env=Environment(id="envs:metarl/PointNav-v0", horizon=10),
    policy=Policy(hidden_sizes=(4,)),
    evaluation=Evaluation(episodes=3),
    threads=1,
)


def with_inner(inner, algorithm=MAMLTRPO):
    return replace(POINT, algorithm=algorithm(inner=inner))


def tuned(experiment, tasks=2, steps=2, **changes):
    policy = make_policy(experiment, make_vector_env(experiment.env, 1, 1))
    return tune_adaptation(policy, initial_params(policy, experiment), experiment, tasks=tasks, steps=steps, **changes)


# ------------------------------------------------------------------------------------------------ the choice
def test_the_best_mean_over_all_tests_after_learning_began_is_chosen():
    """The return before learning plays no part, nor does a single test."""
    measured = [
        ({"step_size": 1.0}, np.array([[90.0, 1, 1], [90, 1, 1]])),
        ({"step_size": 2.0}, np.array([[0.0, 5, 2], [0, 5, 2]])),
        ({"step_size": 3.0}, np.array([[0.0, 0, 6], [0, 0, 6]])),
    ]
    found = choose(measured, "validation", 2)
    assert found.chosen == {"step_size": 2.0}
    assert [candidate["return"] for candidate in found.candidates] == [1, 3.5, 3]
    assert (found.in_words, found.how) == ("step size 2", "the best of 3 on 2 validation tasks")


def test_a_candidate_that_diverges_on_a_task_is_not_chosen():
    lost = ({"step_size": 2.0}, np.array([[0, 9.0], [0, np.nan]]))
    kept = ({"step_size": 1.0}, np.array([[0, 1.0], [0, 1.0]]))
    found = choose([lost, kept], "validation", 2)
    assert found.chosen == {"step_size": 1.0}
    assert json.loads(json.dumps(plain(vars(found)), allow_nan=False))["candidates"][0]["return"] is None
    assert choose([lost], "validation", 2) is None


# -------------------------------------------------------------------------------------------- what is offered
@pytest.mark.parametrize(
    ("inner", "steps", "names", "number"),
    [
        (SGD(steps=1, step_size=0.2), 3, {"step_scale", "step_size", "later_steps"}, 12),
        (SGD(steps=0), 3, {"step_scale", "step_size", "later_steps"}, 12),
        (SGD(steps=1), 1, {"step_scale", "step_size", "later_steps"}, 6),  # there are no later steps
        (SGD(learned_step_sizes=True), 3, {"step_scale", "later_steps"}, 12),
        (SGD(), 0, set(), 0),
    ],
)
def test_every_method_has_equally_many_candidates(inner, steps, names, number):
    found = adaptation_candidates(with_inner(inner), steps)
    assert len(found) == number
    assert {name for candidate in found for name in candidate} == names
    if "step_size" in names:
        assert {candidate["step_size"] for candidate in found} == {scale * inner.step_size for scale in STEP_SCALES}


def test_inner_loops_of_their_own_kind():
    assert "learning_rate" in adaptation_candidates(with_inner(PPO(), Reptile), 2)[0]
    assert adaptation_candidates(with_inner(SB3PPO(), Reptile), 2) == []


def test_whole_and_half_later_steps_are_those_of_an_evaluation():
    own, scale = adapting_with(POINT, {"step_scale": 4.0, "later_steps": 1.0})
    assert (scale, own.step_scale(0), own.step_scale(1)) == (4, 1, 1)
    assert adapting_with(POINT, {}) == (POINT, 1.0)


# ------------------------------------------------------------------------------------------------- the tasks
def test_tasks_are_of_the_validation_split():
    tasks, split = tuning_tasks(POINT, 3)
    space = make_vector_env(POINT.env, 1, 1).task_space
    assert (len(tasks), split) == (3, "validation")
    assert all(space.restrict("validation").contains(task) for task in tasks)


def test_a_family_without_validation_tasks_chooses_on_training_tasks_and_says_so():
    two = replace(POINT, env=Environment(id="envs:metarl/HalfCheetahDir-v0", horizon=5))
    tasks, split = tuning_tasks(two, 10)
    assert (len(tasks), split) == (2, "train")
    found = tuned(two, tasks=10, steps=1)
    assert found.how == "the best of 6 on 2 train tasks"


# ------------------------------------------------------------------------------------------ what is measured
def test_candidates_are_measured_as_by_an_evaluation_on_streams_of_their_own():
    rounds = []
    found = tuned(POINT, seed=5, after_each=lambda: rounds.append(1))
    assert len(rounds) == 12 * 3
    policy = make_policy(POINT, make_vector_env(POINT.env, 1, 1))
    env, (tasks, _) = make_vector_env(POINT.env, 6, 1), tuning_tasks(POINT, 2)
    candidate = found.candidates[7]
    own = with_inner(SGD(step_size=candidate["step_size"]))
    own = replace(own, evaluation=replace(own.evaluation, later_steps=candidate["later_steps"]))
    params = initial_params(policy, POINT)
    returns = evaluate(env, policy, params, own, tasks, steps=2, seed=5, purpose=Purpose.TUNING).means
    assert candidate["return"] == pytest.approx(returns[:, 1:].mean())
    assert found == tuned(POINT, seed=5)
    assert found.candidates != tuned(POINT, seed=6).candidates


def test_learned_step_sizes_are_multiplied():
    """A factor 2 is what doubled step sizes are."""
    learned = with_inner(SGD(learned_step_sizes=True))
    policy = make_policy(learned, make_vector_env(learned.env, 1, 1))
    params = initial_params(policy, learned)
    doubled = {name: p + math.log(2) * name.startswith("log_step_size.") for name, p in params.items()}
    env, (tasks, _) = make_vector_env(learned.env, 6, 1), tuning_tasks(learned, 2)
    a = evaluate(env, policy, params, learned, tasks, steps=1, scale=2.0)
    b = evaluate(env, policy, doubled, learned, tasks, steps=1)
    torch.testing.assert_close(a.adapted[1]["w0"], b.adapted[1]["w0"])
