"""The episodes of one iteration: every task from the shared theta to its own adapted parameters."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from metarl.experiment import Experiment
from metarl.inner.sb3 import Practising, practise
from metarl.parameters import expand, require_finite_tasks
from metarl.policy_gradient.advantages import policy_gradient_batch
from metarl.policy_gradient.gaussian_mlp import GaussianMLP
from metarl.sampling.protocols import TaskVectorEnv
from metarl.sampling.rollout import rollout
from metarl.seeding import Purpose, streams
from metarl.timing import Stopwatch
from metarl.types import Experience, Params

if TYPE_CHECKING:
    from metarl.sb3 import TaskLearner


@dataclass(frozen=True)
class Collected:
    """The episodes of one iteration."""

    experience: Experience
    """What the outer step learns from."""
    returns: list[float]
    """Mean returns after 0, 1, … adaptation steps; after all K where the algorithm uses a query."""
    environment_steps: int
    seconds: dict[str, float]
    """What sampling, advantages and adaptation took."""


def collect(
    env: TaskVectorEnv,
    policy: GaussianMLP,
    params: Params,
    experiment: Experiment,
    iteration: int,
    task_learner: TaskLearner | None = None,
) -> Collected:
    """Episodes of every task before, between and, where the algorithm asks for it, after its K adaptation steps.

    env: whose M tasks are set.
    task_learner: the inner learner, if it is one that collects its own episodes, in place of those of `env`.
    """
    algorithm, sampling, stopwatch = experiment.algorithm, experiment.sampling, Stopwatch()
    inner, K = algorithm.inner, algorithm.inner.steps
    if task_learner:
        return practise_all(task_learner, env.tasks, params, experiment, iteration)
    assert not isinstance(inner, Practising)
    adapted, batches, returns, steps = expand(params, sampling.tasks), [], [], 0
    for k in range(K + algorithm.uses_query):
        with stopwatch("sampling"):
            generators = streams(experiment.seed, Purpose.TRAINING, iteration, k, sampling.tasks)
            trajectories = rollout(env, policy, adapted, generators, experiment.env.horizon)
        with stopwatch("advantages"):
            batches.append(policy_gradient_batch(trajectories, sampling.gamma, sampling.gae_lambda))
        if k < K:
            with stopwatch("adaptation"):
                adapted = inner.adapt(policy, adapted, batches[k])
            require_finite_tasks(adapted, f"adaptation step {k + 1}")
        returns.append(trajectories.returns.nanmean().item())
        steps += trajectories.environment_steps
    experience = Experience(tuple(batches[:K]), adapted, batches[K] if algorithm.uses_query else None)
    return Collected(experience, returns, steps, stopwatch.metrics())


def practise_all(
    learner: TaskLearner, tasks: Sequence[Any], params: Params, experiment: Experiment, iteration: int
) -> Collected:
    """Let a learner that collects its own episodes adapt to every task, K times."""
    adapted, returns, steps, stopwatch = expand(params, len(tasks)), [], 0, Stopwatch()
    for k in range(experiment.algorithm.inner.steps):
        with stopwatch("practice"):
            own = streams(experiment.seed, Purpose.SB3, iteration, k, len(tasks))
            practised = practise(learner, adapted, tasks, own)
        adapted = practised.params
        returns.append(float(np.nanmean(practised.returns)))
        steps += practised.environment_steps
    return Collected(Experience((), adapted), returns, steps, stopwatch.metrics())
