"""Held-out evaluation: adapt to fixed tasks by 0..K steps and measure the return after each."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from metarl.algorithms import Algorithm
from metarl.experiment import Sampling
from metarl.inner.sb3 import Practising, practise
from metarl.parameters import expand, select
from metarl.policy_gradient.advantages import policy_gradient_batch
from metarl.policy_gradient.gaussian_mlp import GaussianMLP
from metarl.sampling.protocols import TaskVectorEnv
from metarl.sampling.rollout import rollout
from metarl.seeding import Purpose, streams
from metarl.statistics import mean
from metarl.types import Params, Trajectories

if TYPE_CHECKING:
    from metarl.sb3 import TaskLearner


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
    task_learner: TaskLearner | None = None,
    deterministic: bool = False,
    after_each: Callable[[], None] = lambda: None,
) -> AdaptationReturns:
    """Adapt `params` to every task by `steps` steps, each on fresh episodes, and record all returns.

    Adaptation needs exploration, so it always learns from the episodes of the stochastic policy.

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
        task_learner: adapts in place of the inner loop, if that collects its own episodes (which then come on top).
        deterministic: after each step, also play as many episodes by the policy's mean, from the same initial states.
            Everything else stays what it is without them.
        after_each: called after each of the K+1 rounds of episodes.
    """
    env.set_tasks(tasks)
    inner = algorithm.inner
    path, returns, by_mean = [expand(params, len(tasks))], [], []

    def play(k: int, *, deterministic: bool = False) -> Trajectories:
        generators = streams(seed, Purpose.EVALUATION, 0, k, len(tasks))
        return rollout(env, policy, path[-1], generators, horizon, deterministic=deterministic)

    for k in range(steps + 1):
        trajectories = play(k)
        returns.append(trajectories.returns.numpy())
        if deterministic:
            by_mean.append(play(k, deterministic=True).returns.numpy())
        if k < steps and task_learner:
            own = streams(seed, Purpose.SB3, 0, k, len(tasks))
            path.append(practise(task_learner, path[-1], tasks, own).params)
        elif k < steps:
            batch = policy_gradient_batch(trajectories, sampling.gamma, sampling.gae_lambda)
            scale = step_scale(inner.steps, k, later_steps)
            assert not isinstance(inner, Practising)
            path.append(inner.adapt(policy, path[-1], batch, scale))
        after_each()
    return AdaptationReturns(np.stack(returns, 1), tuple(path), np.stack(by_mean, 1) if deterministic else None)


def step_scale(trained: int, k: int, later_steps: float) -> float:
    """What to multiply the size of adaptation step k = 0, 1, … with, after training with so many steps.

    Those beyond the trained ones take `later_steps` of it; where none were trained, the first one is whole.
    """
    return 1.0 if k < max(trained, 1) else later_steps
