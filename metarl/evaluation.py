"""Held-out evaluation: adapt to fixed tasks by 0..K steps and measure the return after each."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from metarl.collection import step_rollout
from metarl.experiment import Experiment
from metarl.parameters import expand, select
from metarl.policy_gradient.gaussian_mlp import GaussianMLP
from metarl.sampling.protocols import TaskVectorEnv
from metarl.sampling.rollout import rollout
from metarl.seeding import Purpose, streams
from metarl.statistics import mean
from metarl.types import Params


@dataclass(frozen=True)
class AdaptationReturns:
    """What adaptation brought on each test task."""

    returns: NDArray[np.floating]
    """(tasks, K+1, E): undiscounted return of each episode of the stochastic policy after 0..K adaptation steps."""
    adapted: tuple[Params, ...]
    """K+1 sets of parameters, (tasks, ...)."""
    deterministic: NDArray[np.floating] | None = None
    """(tasks, K+1, E): the same of the policy that acts by its mean, from the same initial states; None: not asked."""

    @property
    def means(self) -> NDArray[np.floating]:
        """(tasks, K+1): mean over episodes of the stochastic policy; NaN where all of a task's episodes diverged."""
        return mean(self.returns)

    @property
    def deterministic_means(self) -> NDArray[np.floating]:
        """(tasks, K+1): the same of the policy that acts by its mean."""
        if self.deterministic is None:
            raise ValueError("nothing was played by the mean: evaluate(…, deterministic=True) does so")
        return mean(self.deterministic)

    def of_task(self, m: int) -> list[Params]:
        """The parameters of one test task after 0..K steps, (1, ...)."""
        return [select(params, slice(m, m + 1)) for params in self.adapted]


def evaluate(
    env: TaskVectorEnv,
    policy: GaussianMLP,
    params: Params,
    experiment: Experiment,
    tasks: Sequence[Any],
    *,
    steps: int | None = None,
    seed: int = 0,
    deterministic: bool = False,
    after_each: Callable[[], None] = lambda: None,
) -> AdaptationReturns:
    """Adapt `params` to every task by K steps, each on fresh episodes, and record all returns.

    Adaptation needs exploration, so it always learns from stochastic episodes.

    Args:
        env: batched environment of tasks * E simulations.
        policy, params: the policy and its parameters before adaptation, shared by all tasks.
        experiment: its inner loop adapts, with the horizon, the discounts and the later steps of its settings.
        tasks: the test tasks.
        steps: K; by default that of the experiment's evaluation.
        seed: of initial states and exploration; the same for everything that is to be compared.
        deterministic: after each step, also play as many episodes by the policy's mean, from the same initial states.
            Everything else stays what it is without them.
        after_each: called after each of the K+1 rounds of episodes.

    Errors: UserError where the inner loop cannot learn from so many episodes.
    """
    env.set_tasks(tasks)
    inner, horizon = experiment.algorithm.inner, experiment.env.horizon
    K = experiment.evaluation.steps if steps is None else steps
    if K:
        inner.check(env.num_envs // len(tasks), horizon)
    path, returns, by_mean = [expand(params, len(tasks))], [], []
    for k in range(K + 1):
        episodes = step_rollout(env, policy, experiment, seed, Purpose.EVALUATION, 0, k, path[k])
        returns.append(episodes.trajectories.returns.numpy())
        if deterministic:
            alike = streams(seed, Purpose.EVALUATION, 0, k, len(tasks))
            played = rollout(env, policy, path[k], alike, horizon, deterministic=True)
            by_mean.append(played.returns.numpy())
        if k < K:
            path.append(inner.adapt(policy, path[k], episodes, experiment.step_scale(k)).params)
        after_each()
    return AdaptationReturns(np.stack(returns, 1), tuple(path), np.stack(by_mean, 1) if deterministic else None)
