"""The one interface of all inner learners."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

import torch

from metarl.policy_gradient.gaussian_mlp import GaussianMLP
from metarl.policy_gradient.normalizer import Moments
from metarl.sampling.lazy_rollout import LazyRollout
from metarl.types import Batch, Params


@dataclass(frozen=True)
class Adapted:
    """What one adaptation step of all tasks came to."""

    params: Params
    """(M, ...): the new parameters of each task."""
    mean_return: float
    """Mean undiscounted return of the episodes that were learned from, all with the parameters before the step."""
    environment_steps: int
    """How many were learned from."""
    observed: Moments
    """Of the observations in them, as the policy normalized them."""
    support: Batch | None = None
    """The episodes that were learned from; None from a learner that keeps them to itself."""

    @classmethod
    def on(cls, rollout: LazyRollout, params: Params) -> Adapted:
        """From a learner that made `params` of the episodes of `rollout`."""
        return cls(
            params,
            rollout.mean_return,
            rollout.trajectories.environment_steps,
            rollout.observed,
            rollout.batch,
        )


class InnerLearner(Protocol):
    """The settings of an inner loop, which adapts parameters to each of M tasks, step by step."""

    scalable: ClassVar[bool]
    """Whether `scale` has a meaning to it."""

    @property
    def name(self) -> str: ...

    @property
    def steps(self) -> int:
        """K, adaptation steps in training."""
        ...

    def start(self, model: Any, params: Params, rng: torch.Generator) -> Params:
        """All meta-learned parameters before training: theta, and the learner's own, such as step sizes."""
        ...

    def check(self, episodes: int, horizon: int) -> None:
        """Raise UserError where nothing can be learned from rollouts of E episodes of T steps."""
        ...

    def adapt(self, policy: GaussianMLP, params: Params, rollout: LazyRollout, scale: float = 1.0) -> Adapted:
        """One adaptation step of every task.

        Args:
            policy: how parameters act.
            params: one set for each task, (M, ...).
            rollout: the episodes of this step, for those who learn from them.
            scale: of the step size, for steps beyond those that were trained.
        """
        ...
