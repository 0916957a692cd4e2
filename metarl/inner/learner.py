"""The interface of all inner loops, and what those share that learn from episodes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

import torch
from torch import Tensor

from metarl.parameters import concatenate, select
from metarl.policy_gradient.gaussian_mlp import GaussianMLP
from metarl.policy_gradient.normalizer import Moments
from metarl.sampling.lazy_rollout import LazyRollout
from metarl.system.threads import parallel_map
from metarl.types import Batch, Data, Params


@dataclass(frozen=True)
class Adapted:
    """The result of one adaptation step of all M tasks."""

    params: Params
    """(M, ...): the adapted parameters of each task."""
    returns: Tensor
    """(M, E): undiscounted returns of the episodes that the step learned from, which the parameters before it
    collected, NaN for one that diverged; (M, 1): their means, from a learner that samples by itself."""
    environment_steps: int
    """Number of environment steps in these episodes."""
    observed: list[Moments]
    """Moments of each task's observations, as the policy normalized them; training updates its statistics with them."""
    support: Batch | None = None
    """These episodes; None from a learner that samples by itself."""

    @classmethod
    def from_rollout(cls, rollout: LazyRollout, params: Params) -> Adapted:
        """The result of a step that made `params` from the episodes of `rollout`."""
        played = rollout.trajectories
        return cls(params, played.returns, played.environment_steps, rollout.observed, rollout.batch)


class InnerLearner(Protocol):
    """The settings of an inner loop, which adapts parameters to each of M tasks, step by step."""

    scalable: ClassVar[bool]
    """Whether `adapt` uses its argument `scale`."""

    @property
    def name(self) -> str: ...

    @property
    def steps(self) -> int:
        """K, adaptation steps in training."""
        ...

    def start(self, model: Any, params: Params, rng: torch.Generator) -> Params:
        """All meta-learned parameters before training: theta, and the learner's own, such as step sizes or a critic."""
        ...

    def check(self, episodes: int, horizon: int) -> None:
        """Raise UserError if the learner cannot learn from rollouts of E episodes of T steps."""
        ...

    def adapt(self, policy: GaussianMLP, params: Params, rollout: LazyRollout, scale: float = 1.0) -> Adapted:
        """One adaptation step of every task.

        Args:
            policy: how parameters act.
            params: theta_i, one set for each task, (M, ...).
            rollout: the episodes of this step. A learner that samples by itself takes only its tasks, random streams
                and simulations.
            scale: factor on the step size, for steps beyond those of training.
        """
        ...


class EpisodeLearner:
    """What `SGD` and `PPO` share: the step of a task learns from its own episodes; all steps are taken in parallel."""

    scalable: ClassVar[bool] = True

    def check(self, episodes: int, horizon: int) -> None:
        """There is nothing to check: any number of episodes and steps will do."""

    def adapt(self, policy: GaussianMLP, params: Params, rollout: LazyRollout, scale: float = 1.0) -> Adapted:
        """One step of every task; see `InnerLearner.adapt`."""
        return Adapted.from_rollout(rollout, self.descend(policy, params, rollout.batch, scale))

    def descend(self, model: Any, params: Params, batch: Data, scale: float = 1.0) -> Params:
        """`step` for all M tasks, those of each chunk together."""

        def of_chunk(chunk: slice) -> Params:
            return self.step(model, select(params, chunk), batch.tasks(chunk), scale)

        return concatenate(parallel_map(of_chunk, batch.chunks))

    def step(self, model: Any, params: Params, batch: Any, scale: float = 1.0) -> Params:
        """One adaptation step of each task.

        Args:
            model: how parameters act.
            params: theta_i, one set per task, (M, ...): those that collected `batch`.
            batch: data of each task.
            scale: factor on the step size, for steps beyond those of training.

        Returns:
            The adapted parameters, (M, ...), detached from any graph.
        """
        raise NotImplementedError
