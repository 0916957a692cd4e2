"""The episodes of one iteration: every task from the shared theta to its own adapted parameters."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import numpy as np

from metarl.builders import simulations_of_one_task
from metarl.experiment import Experiment
from metarl.parameters import expand, require_finite_tasks
from metarl.policy_gradient.gaussian_mlp import GaussianMLP
from metarl.policy_gradient.normalizer import Moments
from metarl.sampling.lazy_rollout import LazyRollout
from metarl.sampling.protocols import TaskVectorEnv
from metarl.sampling.rollout import rollout
from metarl.seeding import Purpose, streams
from metarl.timing import Stopwatch
from metarl.types import Experience, Params


@dataclass(frozen=True)
class Collected:
    """The episodes of one iteration."""

    experience: Experience
    """What the outer step learns from."""
    returns: list[float]
    """Mean returns after 0, 1, … adaptation steps; after all K where the algorithm uses a query."""
    environment_steps: int
    observed: list[Moments]
    """Of the normalized observations of each phase."""
    seconds: dict[str, float]
    """What sampling, advantages and adaptation took."""


def collect(
    env: TaskVectorEnv, policy: GaussianMLP, params: Params, experiment: Experiment, iteration: int
) -> Collected:
    """Adapt `params` to every task by K steps, each on fresh episodes; then, for a query, sample once more.

    env: whose M tasks are set.
    """
    inner, K, stopwatch = experiment.algorithm.inner, experiment.algorithm.inner.steps, Stopwatch()
    rollout_of_step = partial(
        step_rollout, env, policy, experiment, experiment.seed, Purpose.TRAINING, iteration, stopwatch=stopwatch
    )
    adapted, taken = expand(params, len(env.tasks)), []
    for k in range(K):
        with stopwatch("adaptation"):
            taken.append(inner.adapt(policy, adapted, rollout_of_step(k, adapted)))
        adapted = taken[-1].params
        require_finite_tasks(adapted, f"adaptation step {k + 1}")
    support = tuple(step.support for step in taken if step.support is not None)
    returns = [step.mean_return for step in taken]
    steps, observed = sum(step.environment_steps for step in taken), [step.observed for step in taken]
    if not experiment.algorithm.uses_query:
        return Collected(Experience(support, adapted), returns, steps, observed, stopwatch.metrics())
    last = rollout_of_step(K, adapted)
    experience = Experience(support, adapted, last.batch)
    steps += last.trajectories.environment_steps
    observed.append(last.observed)
    return Collected(experience, [*returns, last.mean_return], steps, observed, stopwatch.metrics())


def step_rollout(
    env: TaskVectorEnv,
    policy: GaussianMLP,
    experiment: Experiment,
    seed: int,
    purpose: Purpose,
    iteration: int,
    k: int,
    params: Params,
    stopwatch: Stopwatch | None = None,
) -> LazyRollout:
    """The episodes of adaptation step k with `params`, (M, ...), on the tasks of `env`."""
    tasks, horizon = env.tasks, experiment.env.horizon

    def own(purpose: Purpose) -> list[np.random.Generator]:
        return streams(seed, purpose, iteration, k, len(tasks))

    return LazyRollout(
        sample=lambda: rollout(env, policy, params, own(purpose), horizon),
        tasks=tasks,
        streams=own,
        simulations=partial(simulations_of_one_task, env, experiment),
        horizon=horizon,
        gamma=experiment.sampling.gamma,
        gae_lambda=experiment.sampling.gae_lambda,
        stopwatch=stopwatch or Stopwatch(),
    )
