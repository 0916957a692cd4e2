"""The inner loop of one iteration: collect episodes and adapt the shared theta to each of the M tasks."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import numpy as np

from metarl.experiment import Experiment
from metarl.experiment.builders import simulations_of_one_task
from metarl.parameters import expand, require_finite_tasks
from metarl.policy_gradient.gaussian_mlp import GaussianMLP
from metarl.policy_gradient.normalizer import Moments
from metarl.sampling.lazy_rollout import LazyRollout
from metarl.sampling.protocols import TaskVectorEnv
from metarl.sampling.rollout import rollout
from metarl.seeding import Purpose, streams
from metarl.system.timing import Stopwatch
from metarl.types import Experience, Params


@dataclass(frozen=True)
class Collected:
    """The episodes of one iteration: a round before each of the K adaptation steps and, for a query, one after them."""

    experience: Experience
    """What the outer step learns from."""
    returns: list[float]
    """Mean undiscounted return of each round."""
    environment_steps: int
    """Number of steps in all rounds and tasks together."""
    observed: list[Moments]
    """Moments of each round's observations, as the policy normalized them, to update its statistics with."""
    seconds: dict[str, float]
    """Durations [s] of sampling, advantages and adaptation, by metric name."""


def collect(
    env: TaskVectorEnv, policy: GaussianMLP, params: Params, experiment: Experiment, iteration: int
) -> Collected:
    """Adapt theta to every task by K steps, each on new episodes; then collect the query, if the algorithm uses one.

    Args:
        env: M*E simulations, whose M tasks are set.
        policy: how parameters act.
        params: theta, shared by all tasks.
        experiment: the settings.
        iteration: number of the outer iteration; every random stream is a function of it.

    Raises:
        SimulationDiverged: more than a tenth of the simulations of a round diverged.
        NonFinite: actions, rewards or adapted parameters became infinite or NaN.
    """
    inner, K, stopwatch = experiment.algorithm.inner, experiment.algorithm.inner.steps, Stopwatch()
    rollout_of_step = partial(
        step_rollout, env, policy, experiment, experiment.seed, Purpose.TRAINING, iteration, stopwatch=stopwatch
    )
    adapted, steps = expand(params, len(env.tasks)), []
    for k in range(K):
        with stopwatch("adaptation"):
            steps.append(inner.adapt(policy, adapted, rollout_of_step(k, adapted)))
        adapted = steps[-1].params
        require_finite_tasks(adapted, f"adaptation step {k + 1}")

    support = tuple(step.support for step in steps if step.support is not None)
    query = None
    returns, observed = [step.mean_return for step in steps], [step.observed for step in steps]
    environment_steps = sum(step.environment_steps for step in steps)
    if experiment.algorithm.uses_query:
        last = rollout_of_step(K, adapted)
        query = last.batch
        returns.append(last.mean_return)
        observed.append(last.observed)
        environment_steps += last.trajectories.environment_steps
    return Collected(Experience(support, adapted, query), returns, environment_steps, observed, stopwatch.metrics())


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
    """The episodes of adaptation step k, on the M tasks that are set in `env`.

    Args:
        env: M*E simulations.
        policy: how parameters act.
        experiment: horizon and discounts.
        seed, purpose, iteration, k: address of the random streams of starts and exploration; see `seeding.stream`.
        params: one set per task, (M, ...).
        stopwatch: measures sampling and advantages.
    """
    tasks, horizon = env.tasks, experiment.env.horizon

    def streams_for(purpose: Purpose) -> list[np.random.Generator]:
        return streams(seed, purpose, iteration, k, len(tasks))

    return LazyRollout(
        sample=lambda: rollout(env, policy, params, streams_for(purpose), horizon),
        tasks=tasks,
        streams=streams_for,
        simulations=partial(simulations_of_one_task, env, experiment),
        horizon=horizon,
        gamma=experiment.sampling.gamma,
        gae_lambda=experiment.sampling.gae_lambda,
        stopwatch=stopwatch or Stopwatch(),
    )
