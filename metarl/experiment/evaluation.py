"""Evaluation: adapt to fixed test tasks and measure the returns after 0..K adaptation steps."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from metarl.experiment import Experiment
from metarl.experiment.collection import step_rollout
from metarl.parameters import expand, select
from metarl.policy_gradient.gaussian_mlp import GaussianMLP
from metarl.sampling.protocols import TaskVectorEnv
from metarl.sampling.rollout import require_few_diverged, rollout
from metarl.seeding import Purpose, streams
from metarl.statistics import mean
from metarl.system import ranks
from metarl.types import Params


@dataclass(frozen=True)
class AdaptationReturns:
    """The returns on each test task after 0..K adaptation steps, and the adapted parameters."""

    returns: NDArray[np.floating]
    """(tasks, K+1, E): undiscounted return of each episode of the stochastic policy; NaN for one that diverged."""
    adapted: tuple[Params, ...]
    """K+1 sets of parameters, (tasks, ...)."""
    deterministic: NDArray[np.floating] | None = None
    """(tasks, K+1, E): the same for the policy's mean action, from the same initial states; None if not measured."""

    @property
    def means(self) -> NDArray[np.floating]:
        """(tasks, K+1): mean over episodes of the stochastic policy; NaN if all of a task's episodes diverged."""
        return mean(self.returns)

    @property
    def noise(self) -> NDArray[np.floating]:
        """(K+1,): standard error of the mean over tasks that comes from the finite number of test episodes.

        It is of the adapted policies as they are. That they adapted to a finite number of episodes adds to it. NaN for
        a single episode.
        """
        count = (~np.isnan(self.returns)).sum(axis=-1)  # (tasks, K+1)
        apart = np.nansum((self.returns - self.means[..., None]) ** 2, axis=-1)
        squared = np.divide(apart, (count - 1) * count, out=np.full(count.shape, np.nan), where=count > 1)
        return np.sqrt(mean(squared, axis=0) / (~np.isnan(squared)).sum(axis=0).clip(1))

    @property
    def deterministic_means(self) -> NDArray[np.floating]:
        """(tasks, K+1): the same for the policy's mean action.

        Errors: ValueError if it was not measured.
        """
        if self.deterministic is None:
            raise ValueError("the mean action was not evaluated: call evaluate(…, deterministic=True)")
        return mean(self.deterministic)

    def of_task(self, m: int) -> list[Params]:
        """The parameters of one test task after 0..K steps, (1, ...)."""
        return [select(params, slice(m, m + 1)) for params in self.adapted]


def gathered(result: AdaptationReturns, tasks: int) -> AdaptationReturns:
    """The stochastic policy's results of this rank's share of the tasks -> those of all tasks, on every rank.

    Raises:
        SimulationDiverged: more than a tenth of the simulations of a round diverged.
    """
    returns = ranks.gather(torch.from_numpy(result.returns), tasks)
    for k in range(returns.shape[1]):
        require_few_diverged(returns[:, k])
    adapted = tuple({name: ranks.gather(p, tasks) for name, p in params.items()} for params in result.adapted)
    return AdaptationReturns(returns.numpy(), adapted)


def evaluate(
    env: TaskVectorEnv,
    policy: GaussianMLP,
    params: Params,
    experiment: Experiment,
    tasks: Sequence[Any],
    *,
    steps: int | None = None,
    seed: int = 0,
    purpose: Purpose = Purpose.EVALUATION,
    scale: float = 1.0,
    deterministic: bool = False,
    first_task: int = 0,
    of_tasks: int = 0,
    after_each: Callable[[], None] = lambda: None,
) -> AdaptationReturns:
    """Adapt `params` to every task by K steps, each on new episodes, and record the return of every episode.

    Adaptation always learns from episodes of the stochastic policy, because it needs exploration. The same episodes are
    measured, unless the policy has a latent variable: that is drawn for the former, and is its mean for the latter.

    Args:
        env: simulations of the family, E for each test task.
        policy, params: the policy and its parameters before adaptation, shared by all tasks.
        experiment: the settings: the inner loop, the horizon, the discounts, and the size of later steps.
        tasks: the test tasks.
        steps: K; by default `experiment.evaluation.steps`.
        seed, purpose: of initial states and exploration; use the same for results that are to be compared.
        scale: factor on the size of all adaptation steps.
        deterministic: after each step, also play E episodes with the policy's mean action, from the same initial
            states. The other results do not depend on this.
        first_task, of_tasks: index of the first of these tasks among those of all ranks, and number of these (0: all).
        after_each: called after each of the K+1 rounds of episodes.

    Errors: UserError if the inner loop cannot learn from E episodes.
    """
    env.set_tasks(tasks)
    inner, horizon = experiment.algorithm.inner, experiment.env.horizon
    K = experiment.evaluation.steps if steps is None else steps
    if K:
        inner.check(env.num_envs // len(tasks), horizon)
    path, returns, by_mean = [expand(params, len(tasks))], [], []
    for k in range(K + 1):
        rollout_at = partial(step_rollout, env, policy, experiment, seed, purpose, 0, k, path[k], first_task, of_tasks)
        measured = rollout_at(explore=False)
        returns.append(measured.trajectories.returns.numpy())
        if deterministic:
            same_streams = streams(seed, purpose, 0, k, len(tasks), first_task)
            by_mean.append(rollout(env, policy, path[k], same_streams, horizon, deterministic=True).returns.numpy())
        if k < K:
            episodes = rollout_at() if policy.latent_size else measured
            path.append(inner.adapt(policy, path[k], episodes, scale * experiment.step_scale(k)).params)
        after_each()
    return AdaptationReturns(np.stack(returns, 1), tuple(path), np.stack(by_mean, 1) if deterministic else None)
