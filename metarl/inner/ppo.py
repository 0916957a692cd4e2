"""PPO as an inner loop: epochs of Adam on the clipped surrogate."""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import Field

from metarl.config.settings import LARGEST, settings
from metarl.inner.learner import EpisodeLearner
from metarl.parameters import detach, leaves
from metarl.policy_gradient.gaussian_mlp import GaussianMLP
from metarl.types import Batch, Model, Params


@settings
class PPO(EpisodeLearner):
    """Each adaptation step is some epochs of Adam on the clipped surrogate (Schulman et al. 2017).

    The outer loop cannot differentiate through it: it is for Reptile.
    """

    name: Literal["ppo"] = "ppo"
    steps: int = Field(1, ge=0, le=1_000)
    """K, adaptation steps, each on fresh episodes."""
    epochs: int = Field(5, ge=1, le=10_000)
    """Steps of Adam on the same episodes."""
    learning_rate: float = Field(3e-3, gt=0, le=LARGEST)
    """Of Adam, whose moments start at zero in each adaptation step."""
    clip_range: float = Field(0.2, gt=0, lt=1)
    """The surrogate does not reward a probability ratio outside [1 - clip_range, 1 + clip_range]."""

    def start(self, model: Model, params: Params, rng: torch.Generator | None = None) -> Params:
        """theta before training."""
        return params

    def step(self, model: GaussianMLP, params: Params, batch: Batch, scale: float = 1.0) -> Params:
        """Epochs of Adam on each task's episodes; arguments as for `EpisodeLearner.step`."""
        at = leaves(params, model.names)
        optimizer = torch.optim.Adam(list(at.values()), lr=scale * self.learning_rate)
        for _ in range(self.epochs):
            optimizer.zero_grad()
            model.clipped_losses(at, batch, self.clip_range).sum().backward()
            optimizer.step()
        return params | detach(at)
