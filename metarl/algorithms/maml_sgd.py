"""MAML with a gradient step as the outer step (Finn et al. 2017, eq. 4).

theta <- theta - beta grad sum_i L_i(theta_i(theta))
"""

from __future__ import annotations

from functools import partial
from typing import Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from metarl.algorithms import e_maml, optimizers
from metarl.algorithms.differentiable import Differentiable, check_combination
from metarl.algorithms.meta_gradient import adapt_and_linearize, meta_gradient, require_finite_gradients
from metarl.algorithms.optimizers import Optimizer
from metarl.config.settings import LARGEST, settings
from metarl.inner.sgd import SGD
from metarl.parameters import concatenate, rows, unflatten
from metarl.system import ranks
from metarl.system.threads import parallel_map
from metarl.system.timing import Stopwatch
from metarl.types import AlgorithmState, Experience, Model, Params


@settings
class MAMLSGD:
    """One gradient step on the loss after adaptation, summed over tasks. It trains any `Model`, not only policies."""

    name: Literal["maml_sgd"] = "maml_sgd"
    uses_query: ClassVar[bool] = True
    inner: Differentiable = SGD()
    """The inner loop, which adapts a model to one task."""
    first_order: bool = False
    """Treat the Jacobian of the adaptation as the identity (first-order MAML)."""
    exploration_credit: float = Field(0.0, ge=0, le=LARGEST)
    """E-MAML: weight of the credit that episodes before adaptation get for the return after it; 1 is unbiased."""
    optimizer: Optimizer = "adam"
    """sgd: the step of the formula above; adam: a step of Adam with the same gradient."""
    step_size: float = Field(1e-3, gt=0, le=LARGEST)
    """beta. With sgd it multiplies a sum over tasks: halve it when the number of tasks is doubled."""

    def __post_init__(self) -> None:
        check_combination(self.inner, self.first_order, self.exploration_credit)

    def update(
        self, model: Model, params: Params, state: AlgorithmState, experience: Experience
    ) -> tuple[Params, AlgorithmState, dict[str, float]]:
        """One outer step; arguments, results and errors as for `MAMLTRPO.update`. `state` is that of the optimizer."""
        credits = e_maml.exploration_credits(self.exploration_credit, experience)
        stopwatch = Stopwatch()
        with stopwatch("gradient"):
            results = parallel_map(partial(self._gradient, model, params), experience.by_chunk, credits)
        losses, parts = zip(*results, strict=True)
        gradients = concatenate(parts)
        require_finite_gradients(gradients, experience.all_tasks)
        gradient = ranks.total(rows(gradients), experience.all_tasks)
        updated, state = optimizers.step(self.optimizer, params, unflatten(gradient, params), state, self.step_size)
        loss = ranks.mean(torch.cat(losses), experience.all_tasks).item()
        return updated, state, {"loss": loss, "gradient_norm": gradient.norm().item()} | stopwatch.metrics()

    def _gradient(self, model: Any, params: Params, chunk: Experience, credit: Tensor | None) -> tuple[Tensor, Params]:
        """L_i(theta_i) of the m tasks of a chunk, (m,), and its gradient with respect to theta, (m, ...)."""
        adaptation = adapt_and_linearize(
            self.inner, model, params, chunk.num_tasks, chunk.support, first_order=self.first_order
        )
        exploration = e_maml.exploration_grads(model, adaptation, chunk.support, None if credit is None else -credit)
        return meta_gradient(model, adaptation, lambda adapted: model.outer_losses(adapted, chunk.query), exploration)
