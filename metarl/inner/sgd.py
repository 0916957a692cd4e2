"""The inner loop: adapt parameters to a task by gradient steps on its own episodes."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor

from metarl.config.settings import LARGEST, settings
from metarl.inner.learner import EpisodeLearner
from metarl.parameters import leaves
from metarl.policy_gradient.gaussian_mlp import LATENT_MEAN
from metarl.types import Data, Model, Params

LOG_STEP_SIZE = "log_step_size."
"""Prefix of learned step sizes, which are stored with theta: `log_step_size.w0` is the logarithm of that of `w0`."""


@settings
class SGD(EpisodeLearner):
    """Plain gradient steps: theta'_i = theta_i - alpha grad L_i(theta_i)."""

    name: Literal["sgd"] = "sgd"
    steps: int = Field(1, ge=0, le=1_000)
    """K, adaptation steps, each on fresh episodes."""
    step_size: float = Field(0.1, gt=0, le=LARGEST)
    """alpha; with learned_step_sizes, its initial value."""
    latent_step_size: float = Field(1.0, gt=0, le=LARGEST)
    """alpha of the mean of the policy's latent variable, if it has one (policy.latent_size); with learned_step_sizes,
    its initial value."""
    loss: Literal["ratio", "reinforce", "dice"] = "ratio"
    """The inner loss. All three give the same adaptation step, but different second derivatives and so different
    meta-gradients."""
    learned_step_sizes: bool = False
    """Learn an alpha for each parameter, together with theta (Meta-SGD, Li et al. 2017). Its logarithm is what is
    learned, so that it stays positive."""
    last_layer_only: bool = False
    """Adapt only the last layer, and the mean of a latent variable (ANIL, Raghu et al. 2020)."""

    def __post_init__(self) -> None:
        if self.learned_step_sizes and not self.steps:
            raise ValueError("learned_step_sizes with steps = 0: no step would teach them. Choose steps of at least 1")

    def start(self, model: Model, params: Params, rng: torch.Generator | None = None) -> Params:
        """theta before training, with the logarithms of the step sizes if they are learned."""
        if not self.learned_step_sizes:
            return params
        return params | {
            LOG_STEP_SIZE + name: torch.full_like(params[name], math.log(rate))
            for name, rate in self.initial_rates(model).items()
        }

    def adapted(self, model: Model) -> tuple[str, ...]:
        """The names of the parameters that adaptation changes."""
        return model.head if self.last_layer_only else model.names

    def initial_rates(self, model: Model) -> Mapping[str, float]:
        """alpha of each parameter that adaptation changes, before any is learned."""
        rates = dict.fromkeys(self.adapted(model), self.step_size)
        return rates | {LATENT_MEAN: self.latent_step_size} if LATENT_MEAN in rates else rates

    def rates(self, model: Model, params: Params) -> Mapping[str, Tensor | float]:
        """alpha of each parameter that adaptation changes."""
        if self.learned_step_sizes:
            return {name: params[LOG_STEP_SIZE + name].exp() for name in self.adapted(model)}
        return self.initial_rates(model)

    def step(self, model: Model, params: Params, batch: Data, scale: float = 1.0) -> Params:
        """theta'_i = theta_i - scale alpha grad L_i(theta_i), (M, ...); arguments as for `EpisodeLearner.step`."""
        grad = gradient(model, leaves(params, model.names), batch, self.loss)
        return gradient_step(params, grad, self.rates(model, params), scale)


def gradient(model: Model, params: Params, batch: Data, loss: str, *, create_graph: bool = False) -> Params:
    """The gradient of each task's loss at its own parameters, (M, ...).

    It is taken of the sum over tasks. As a task's loss depends on its own parameters only, that is the gradient of each
    task's own loss, not divided by the number of tasks.

    Args:
        model: whose losses are differentiated.
        params: of the model only, one set per task, (M, ...), as autograd leaves.
        batch: data of each task.
        loss: which of the model's losses.
        create_graph: keep the graph of the gradient, for second derivatives.
    """
    total = model.inner_losses(params, batch, loss).sum()
    grads = torch.autograd.grad(total, list(params.values()), create_graph=create_graph)
    return dict(zip(params, grads, strict=True))


def gradient_step(params: Params, grad: Params, rates: Mapping[str, Tensor | float], scale: float = 1.0) -> Params:
    """params - scale * rate * grad, (M, ...), for the parameters that have a rate; the others are not changed."""
    return params | {name: params[name] - scale * rate * grad[name] for name, rate in rates.items()}
