"""The inner loop: adapt parameters to a task by gradient steps on its own episodes."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from metarl.config.settings import LARGEST, settings
from metarl.inner.learner import Adapted
from metarl.parameters import leaves, select
from metarl.policy_gradient.gaussian_mlp import GaussianMLP
from metarl.sampling.lazy_rollout import LazyRollout
from metarl.threads import parallel_map
from metarl.types import Data, Model, Params

LOG_STEP_SIZE = "log_step_size."
"""Learned step sizes travel with theta: the logarithm of that of `w0` is the parameter `log_step_size.w0`."""


@settings
class SGD:
    """Plain gradient steps: theta'_i = theta_i - alpha grad L_i(theta_i)."""

    scalable: ClassVar[bool] = True
    name: Literal["sgd"] = "sgd"
    steps: int = Field(1, ge=0, le=1_000)
    """K, adaptation steps, each on fresh episodes."""
    step_size: float = Field(0.1, gt=0, le=LARGEST)
    """alpha; where step sizes are learned, what they start from."""
    loss: Literal["ratio", "reinforce", "dice"] = "ratio"
    """What a step descends. The step is the same for all three; they differ in the meta-gradient through it."""
    learned_step_sizes: bool = False
    """Learn an alpha for each parameter together with theta, by its logarithm so that it stays positive (Meta-SGD)."""
    last_layer_only: bool = False
    """Adapt the last layer and leave the rest as it was learned (ANIL)."""

    def __post_init__(self) -> None:
        if self.learned_step_sizes and not self.steps:
            raise ValueError("learned_step_sizes with steps = 0: no step would teach them. Choose steps of at least 1")

    def start(self, model: Model, params: Params, rng: torch.Generator | None = None) -> Params:
        """All that is meta-learned before any training: theta, and the step sizes where they are learned."""
        if not self.learned_step_sizes:
            return params
        log = math.log(self.step_size)
        return params | {LOG_STEP_SIZE + name: torch.full_like(params[name], log) for name in self.adapted(model)}

    def adapted(self, model: Model) -> tuple[str, ...]:
        """The parameters that adaptation changes."""
        return model.head if self.last_layer_only else model.names

    def rates(self, model: Model, params: Params) -> Mapping[str, Tensor | float]:
        """alpha of each parameter that adaptation changes."""
        if self.learned_step_sizes:
            return {name: params[LOG_STEP_SIZE + name].exp() for name in self.adapted(model)}
        return dict.fromkeys(self.adapted(model), self.step_size)

    def check(self, episodes: int, horizon: int) -> None:
        """Any rollout will do."""

    def adapt(self, policy: GaussianMLP, params: Params, rollout: LazyRollout, scale: float = 1.0) -> Adapted:
        """One gradient step of every task; see `InnerLearner.adapt`."""
        return Adapted.on(rollout, self.descend(policy, params, rollout.batch, scale))

    def descend(self, model: Model, params: Params, batch: Data, scale: float = 1.0) -> Params:
        """`step` of every task, on the threads, (M, ...)."""
        return map_over_tasks(lambda part, own_batch: self.step(model, part, own_batch, scale), params, batch)

    def step(self, model: Model, params: Params, batch: Data, scale: float = 1.0) -> Params:
        """theta'_i = theta_i - scale alpha grad L_i(theta_i), (M, ...), without history.

        Args:
            model: how parameters act.
            params: one set per task, (M, ...), the one that collected `batch`.
            batch: data of each task.
            scale: of the step size, for steps beyond those that were trained.
        """
        grad = gradient(model, leaves(own(model, params)), batch, self.loss)
        return gradient_step(params, grad, self.rates(model, params), scale)


def gradient_step(params: Params, grad: Params, rates: Mapping[str, Tensor | float], scale: float = 1.0) -> Params:
    """One step against `grad`, (M, ...); what has no rate stays as it is."""
    return params | {name: params[name] - scale * rate * grad[name] for name, rate in rates.items()}


def own(model: Model, params: Params) -> Params:
    """The model's own parameters, without others that are meta-learned, such as step sizes."""
    return {name: params[name] for name in model.names}


def gradient(model: Model, params: Params, batch: Data, loss: str, *, create_graph: bool = False) -> Params:
    """The gradient of each task's loss at its own parameters, (M, ...), which are leaves.

    The sum over tasks separates: no task's gradient is divided by the number of tasks.
    """
    total = model.inner_losses(params, batch, loss).sum()
    grads = torch.autograd.grad(total, list(params.values()), create_graph=create_graph)
    return dict(zip(params, grads, strict=True))


def map_over_tasks(step: Callable[[Params, Any], Params], params: Params, batch: Data) -> Params:
    """A step of every task, (M, ...): chunk by chunk, on the threads."""
    parts = parallel_map(lambda chunk: step(select(params, chunk), batch.tasks(chunk)), batch.chunks)
    return {name: torch.cat([part[name] for part in parts]) for name in params}
