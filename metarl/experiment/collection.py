"""The inner loop of one iteration: collect episodes and adapt the shared theta to each of the M tasks.

Each rank does this for its share of the tasks (see `metarl.system.ranks`); returns, steps and moments are those of all
tasks.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import numpy as np
import torch

from metarl.experiment import Experiment
from metarl.experiment.builders import simulations_of_one_task
from metarl.inner.learner import Adapted
from metarl.parameters import expand, require_finite_tasks
from metarl.policy_gradient.gaussian_mlp import GaussianMLP
from metarl.policy_gradient.normalizer import Moments
from metarl.sampling.lazy_rollout import LazyRollout
from metarl.sampling.protocols import TaskVectorEnv
from metarl.sampling.rollout import draw_latents, require_few_diverged, rollout
from metarl.seeding import Purpose, streams
from metarl.system import ranks
from metarl.system.timing import Stopwatch
from metarl.types import Experience, Params, Trajectories


@dataclass(frozen=True)
class Collected:
    """The episodes of one iteration: a round before each of the K adaptation steps and, for a query, one after them."""

    experience: Experience
    """What the outer step learns from: the episodes of this rank's tasks."""
    returns: list[float]
    """Mean undiscounted return of each round."""
    environment_steps: int
    """Number of steps in all rounds and tasks together."""
    observed: list[Moments]
    """Moments of each round's observations of each task, as the policy normalized them, to update its statistics with.
    """
    seconds: dict[str, float]
    """Durations [s] of sampling, advantages and adaptation, by metric name."""


def collect(
    env: TaskVectorEnv, policy: GaussianMLP, params: Params, experiment: Experiment, iteration: int
) -> Collected:
    """Adapt theta to every task by K steps, each on new episodes; then collect the query, if the algorithm uses one.

    Args:
        env: simulations of this rank's share of the M tasks, which are set, E of each.
        policy: how parameters act.
        params: theta, shared by all tasks.
        experiment: the settings.
        iteration: number of the outer iteration; every random stream is a function of it.

    Raises:
        SimulationDiverged: more than a tenth of the simulations of a round diverged.
        NonFinite: actions, rewards or adapted parameters became infinite or NaN.
    """
    inner, K, stopwatch = experiment.algorithm.inner, experiment.algorithm.inner.steps, Stopwatch()
    M = experiment.sampling.tasks
    own = ranks.share(M)
    address = experiment.seed, Purpose.TRAINING, iteration
    rollout_of_step = partial(
        step_rollout, env, policy, experiment, *address, first_task=own.start, of_tasks=M, stopwatch=stopwatch
    )
    adapted, steps = expand(params, len(env.tasks)), []
    for k in range(K):
        with stopwatch("adaptation"):
            steps.append(inner.adapt(policy, adapted, rollout_of_step(k, adapted)))
        adapted = steps[-1].params
        require_finite_tasks(adapted, f"adaptation step {k + 1}", own.start)

    support, query = tuple(step.support for step in steps if step.support is not None), None
    if experiment.algorithm.uses_query:
        last = rollout_of_step(K, adapted, explore=False)
        query = last.batch
        steps.append(Adapted.from_rollout(last, adapted))
    returns = [ranks.gather(step.returns, M) for step in steps]  # (M, E) each
    for step, each in zip(steps, returns, strict=True):
        if step.support is not None:
            require_few_diverged(each)
    numbers = [ranks.gather(torch.stack([moments.numbers for moments in step.observed]), M) for step in steps]
    return Collected(
        Experience(support, adapted, query, M),
        [each.nanmean().item() for each in returns],
        sum(ranks.from_all(sum(step.environment_steps for step in steps))),
        [Moments.from_numbers(row) for row in torch.cat(numbers)],
        stopwatch.metrics(),
    )


def step_rollout(
    env: TaskVectorEnv,
    policy: GaussianMLP,
    experiment: Experiment,
    seed: int,
    purpose: Purpose,
    iteration: int,
    k: int,
    params: Params,
    first_task: int = 0,
    of_tasks: int = 0,
    stopwatch: Stopwatch | None = None,
    explore: bool = True,
) -> LazyRollout:
    """The episodes of adaptation step k, on the M tasks that are set in `env`.

    Args:
        env: M*E simulations.
        policy: how parameters act.
        experiment: horizon and discounts.
        seed, purpose, iteration, k: address of the random streams of starts and exploration; see `seeding.stream`.
        params: one set per task, (M, ...).
        first_task, of_tasks: index of the first of these tasks among those of all ranks, and number of these (0: M).
        stopwatch: measures sampling and advantages.
        explore: draw the policy's latent variable for each episode, if it has one; otherwise it is the latent mean.
    """
    tasks, horizon = env.tasks, experiment.env.horizon

    def streams_for(purpose: Purpose) -> list[np.random.Generator]:
        return streams(seed, purpose, iteration, k, len(tasks), first_task)

    def sample() -> Trajectories:
        generators = streams_for(purpose)
        latents = draw_latents(policy, params, generators, env.num_envs // len(tasks)) if explore else None
        return rollout(env, policy, params, generators, horizon, latents=latents, of_tasks=of_tasks)

    return LazyRollout(
        sample=sample,
        tasks=tasks,
        streams=streams_for,
        simulations=partial(simulations_of_one_task, env, experiment),
        horizon=horizon,
        gamma=experiment.sampling.gamma,
        gae_lambda=experiment.sampling.gae_lambda,
        stopwatch=stopwatch or Stopwatch(),
    )
