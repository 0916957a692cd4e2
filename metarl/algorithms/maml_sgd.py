"""MAML in its plain form (Finn et al. 2017, eq. 4): theta <- theta - beta grad sum_i L_i(theta'_i)."""

from __future__ import annotations

from functools import partial
from typing import Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from metarl.algorithms import e_maml, optimizers
from metarl.algorithms.differentiable import Differentiable, refuse_senseless
from metarl.algorithms.meta_gradient import adapt_and_linearize, meta_gradient, require_finite_gradients
from metarl.algorithms.optimizers import Optimizer
from metarl.config.settings import settings
from metarl.inner.sgd import SGD
from metarl.parameters import flatten, total
from metarl.threads import parallel_map
from metarl.timing import Stopwatch
from metarl.types import AlgorithmState, Experience, Model, Params


@settings
class MAMLSGD:
    """One gradient step on the loss after adaptation, summed over tasks. Any model that adapts can be trained so."""

    name: Literal["maml_sgd"] = "maml_sgd"
    uses_query: ClassVar[bool] = True
    inner: Differentiable = SGD()
    """How a model adapts to one task."""
    first_order: bool = False
    """Take the adaptation's derivative for the identity (FOMAML)."""
    exploration_credit: float = Field(0.0, ge=0)
    """Weight of the credit that episodes before adaptation get for the return after it (E-MAML); 1 is unbiased."""
    optimizer: Optimizer = "adam"
    """sgd: the formula as it stands; adam: its gradient in Adam."""
    step_size: float = Field(1e-3, gt=0)
    """beta. With sgd it multiplies a sum over tasks: with twice the tasks, half of it takes steps as long."""

    def __post_init__(self) -> None:
        refuse_senseless(self.inner, self.first_order, self.exploration_credit)

    def update(
        self, model: Model, params: Params, state: AlgorithmState, experience: Experience
    ) -> tuple[Params, AlgorithmState, dict[str, float]]:
        """One outer step; arguments and results as for `MAMLTRPO.update`, `state` is that of the optimizer."""
        credits = e_maml.credits(self.exploration_credit, experience)
        stopwatch = Stopwatch()
        with stopwatch("gradient"):
            of_chunks = parallel_map(partial(self._of_chunk, model, params), experience.by_chunk, credits)
        losses, gradients = zip(*of_chunks, strict=True)
        require_finite_gradients(gradients, experience.chunks)
        gradient = total(gradients)
        updated, state = optimizers.step(self.optimizer, params, gradient, state, self.step_size)
        loss = torch.stack(losses).sum().item() / experience.num_tasks
        norm = flatten(gradient).norm().item()
        return updated, state, {"loss": loss, "gradient_norm": norm} | stopwatch.metrics()

    def _of_chunk(self, model: Any, params: Params, chunk: Experience, credit: Tensor | None) -> tuple[Tensor, Params]:
        """The summed loss after adaptation of a few tasks, and its gradient with respect to theta."""
        adaptation = adapt_and_linearize(
            self.inner, model, params, chunk.num_tasks, chunk.support, first_order=self.first_order
        )
        credited = e_maml.grads(model, adaptation, chunk.support, None if credit is None else -credit)
        return meta_gradient(model, adaptation, lambda adapted: model.outer_losses(adapted, chunk.query), credited)
