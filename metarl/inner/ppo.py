"""PPO as an inner loop: epochs of Adam on the clipped surrogate."""

from __future__ import annotations

from typing import ClassVar, Literal

import torch
from pydantic import Field

from metarl.config.settings import LARGEST, settings
from metarl.inner.learner import Adapted
from metarl.inner.sgd import map_over_tasks, own
from metarl.parameters import detach, leaves
from metarl.policy_gradient.gaussian_mlp import GaussianMLP
from metarl.sampling.lazy_rollout import LazyRollout
from metarl.types import Batch, Model, Params


@settings
class PPO:
    """Epochs of Adam on the clipped surrogate (Schulman et al. 2017), anew in each step; without a derivative."""

    scalable: ClassVar[bool] = True
    name: Literal["ppo"] = "ppo"
    steps: int = Field(1, ge=0, le=1_000)
    """K, adaptation steps, each on fresh episodes."""
    epochs: int = Field(5, ge=1, le=10_000)
    """Steps of Adam on the same episodes."""
    learning_rate: float = Field(3e-3, gt=0, le=LARGEST)
    """Of Adam, whose moments start at zero in each adaptation step."""
    clip_range: float = Field(0.2, gt=0, lt=1)
    """The surrogate rewards no ratio beyond 1 - clip_range and 1 + clip_range."""

    def start(self, model: Model, params: Params, rng: torch.Generator | None = None) -> Params:
        """All that is meta-learned before any training: theta."""
        return params

    def check(self, episodes: int, horizon: int) -> None:
        """Any rollout will do."""

    def adapt(self, policy: GaussianMLP, params: Params, rollout: LazyRollout, scale: float = 1.0) -> Adapted:
        """Epochs of Adam on every task's episodes; see `InnerLearner.adapt`."""
        return Adapted.on(rollout, self.descend(policy, params, rollout.batch, scale))

    def descend(self, model: GaussianMLP, params: Params, batch: Batch, scale: float = 1.0) -> Params:
        """`step` of every task, on the threads, (M, ...)."""
        return map_over_tasks(lambda part, own_batch: self.step(model, part, own_batch, scale), params, batch)

    def step(self, model: GaussianMLP, params: Params, batch: Batch, scale: float = 1.0) -> Params:
        """One adaptation step of each task; arguments as for `SGD.step`, where `scale` is that of the learning rate."""
        at = leaves(own(model, params))
        optimizer = torch.optim.Adam(list(at.values()), lr=scale * self.learning_rate)
        for _ in range(self.epochs):
            optimizer.zero_grad()
            model.clipped_losses(at, batch, self.clip_range).sum().backward()
            optimizer.step()
        return params | detach(at)
