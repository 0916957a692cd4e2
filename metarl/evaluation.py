"""Held-out evaluation: adapt to fixed tasks by 0..K steps and measure the return after each."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from metarl.advantages import estimate
from metarl.algorithms import Algorithm
from metarl.experiment import Sampling
from metarl.parameters import chunk, expand
from metarl.policies import GaussianMLP
from metarl.sampling import rollout
from metarl.seeding import Purpose, streams
from metarl.tasks import TaskVectorEnv
from metarl.types import Params


@dataclass(frozen=True)
class AdaptationReturns:
    """What adaptation brought on each test task."""

    returns: NDArray[np.floating]
    """(tasks, K+1, E): undiscounted return of each episode after 0..K adaptation steps."""
    adapted: tuple[Params, ...]
    """K+1 sets of parameters, (tasks, ...)."""

    @property
    def means(self) -> NDArray[np.floating]:
        """(tasks, K+1): mean return over episodes; NaN where all of a task's episodes diverged."""
        count = np.isfinite(self.returns).sum(axis=-1)
        return np.where(count, np.nansum(self.returns, axis=-1), np.nan) / np.maximum(count, 1)

    def of_task(self, m: int) -> list[Params]:
        """The parameters of one test task after 0..K steps, (1, ...)."""
        return [chunk(params, slice(m, m + 1)) for params in self.adapted]


def evaluate(
    env: TaskVectorEnv,
    tasks: Sequence[Any],
    policy: GaussianMLP,
    params: Params,
    algorithm: Algorithm,
    sampling: Sampling,
    *,
    horizon: int,
    steps: int,
    later_steps: float = 1.0,
    seed: int = 0,
    after_each: Callable[[], None] = lambda: None,
) -> AdaptationReturns:
    """Adapt `params` to every task by `steps` steps, each on fresh episodes, and record all returns.

    Args:
        env: batched environment of tasks * E simulations.
        tasks: the test tasks.
        policy, params: the policy and its parameters before adaptation, shared by all tasks.
        algorithm: its inner loop adapts.
        sampling: gamma and lambda of the advantages.
        horizon: T.
        steps: K.
        later_steps: step size of the steps beyond those that were trained, as a share of it; Finn et al. 2017 halve it.
        seed: of initial states and exploration; the same for everything that is to be compared.
        after_each: called after each of the K+1 rounds of episodes.
    """
    env.set_tasks(tasks)
    path, returns = [expand(params, len(tasks))], []
    for k in range(steps + 1):
        generators = streams(seed, Purpose.EVALUATION, 0, k, len(tasks))
        trajectories = rollout(env, policy, path[-1], generators, horizon)
        returns.append(trajectories.returns.numpy())
        if k < steps:
            batch = estimate(trajectories, sampling.gamma, sampling.gae_lambda)
            scale = 1.0 if k < max(algorithm.inner_steps, 1) else later_steps
            path.append(algorithm.adapt(policy, path[-1], batch, scale))
        after_each()
    return AdaptationReturns(np.stack(returns, axis=1), tuple(path))
