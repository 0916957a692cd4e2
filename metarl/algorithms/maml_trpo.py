"""MAML with the outer step of TRPO (Finn et al. 2017), and the low-variance curvature of Rothfuss et al. 2018."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from metarl.algorithms import e_maml, trust_region
from metarl.algorithms.differentiable import Differentiable, refuse_senseless
from metarl.algorithms.meta_gradient import (
    Adaptation,
    KLCurvature,
    adapt_and_linearize,
    linearize_at,
    meta_gradient,
    require_finite_gradients,
    surrogate_and_kl,
)
from metarl.config.settings import settings
from metarl.inner.sgd import SGD
from metarl.parameters import add, expand, flatten, unflatten
from metarl.policy_gradient.gaussian_mlp import GaussianMLP
from metarl.threads import parallel_map
from metarl.timing import Stopwatch
from metarl.types import AlgorithmState, Experience, Params


@settings
class MAMLTRPO:
    """Model-agnostic meta-learning: theta <- argmax mean_i S_i(theta - alpha grad L_i(theta)) within a trust region."""

    name: Literal["maml_trpo"] = "maml_trpo"
    uses_query: ClassVar[bool] = True
    inner: Differentiable = SGD()
    """How a policy adapts to one task."""
    first_order: bool = False
    """Take the adaptation's derivative for the identity (FOMAML)."""
    exploration_credit: float = Field(0.0, ge=0)
    """Weight of the credit that episodes before adaptation get for the return after it (E-MAML); 1 is unbiased."""
    max_kl: float = Field(0.01, gt=0)
    """delta: the mean KL between the adapted policies before and after the outer step stays within it."""
    cg_iterations: int = Field(10, ge=1)
    """Steps of the conjugate gradient that finds the natural gradient."""
    cg_damping: float = Field(1e-5, ge=0)
    """Added to the diagonal of the curvature."""
    backtrack_ratio: float = Field(0.8, gt=0, lt=1)
    """Each trial step of the line search is this part of the one before."""
    max_backtracks: int = Field(15, ge=1)
    """Trial steps before the outer step is given up."""
    curvature_stride: int = Field(5, ge=1)
    """Curvature products use every so-many-th step of the episodes; the line search checks all of them."""

    def __post_init__(self) -> None:
        refuse_senseless(self.inner, self.first_order, self.exploration_credit)

    def update(
        self, policy: GaussianMLP, params: Params, state: AlgorithmState, experience: Experience
    ) -> tuple[Params, AlgorithmState, dict[str, float]]:
        """One outer step.

        Args:
            policy: how parameters act.
            params: theta, and learned step sizes; shared by all tasks.
            state: nothing is remembered from step to step.
            experience: K support batches, and the query that the adapted policies collected.

        Returns:
            The new theta, the very same one if no step was accepted; the state as it was; and metrics.
        """
        tasks = experience.by_chunk
        credits = e_maml.credits(self.exploration_credit, experience)
        stopwatch = Stopwatch()
        with stopwatch("gradient"):
            linear = parallel_map(partial(self._linearize, policy, params), tasks, credits)
        require_finite_gradients([at.gradient for at in linear], experience.chunks)
        with stopwatch("curvature"):
            curvatures = self._curvatures(policy, [at.adaptation for at in linear], experience)

        def curvature(v: Tensor) -> Tensor:
            tangent = unflatten(v, params)
            products = parallel_map(lambda group: flatten(group.product(tangent)), curvatures)
            return torch.stack(products).sum(0) / len(tasks)

        def evaluate(step: Tensor) -> tuple[Tensor, Tensor]:
            found = parallel_map(partial(self._evaluate, policy, add(params, step)), tasks, credits)
            surrogate, kl = torch.stack(found).mean(0)
            return surrogate, kl

        step, metrics = trust_region.trust_region_step(
            torch.stack([flatten(at.gradient) for at in linear]).mean(0),
            curvature,
            evaluate,
            torch.stack([at.surrogate for at in linear]).mean(),
            stopwatch,
            max_kl=self.max_kl,
            cg_iterations=self.cg_iterations,
            cg_damping=self.cg_damping,
            backtrack_ratio=self.backtrack_ratio,
            max_backtracks=self.max_backtracks,
        )
        return add(params, step) if metrics["accepted"] else params, state, metrics | stopwatch.metrics()

    def _linearize(self, policy: GaussianMLP, params: Params, task: Experience, credit: Tensor | None) -> Linearized:
        """What one task contributes to the gradient."""
        adaptation = adapt_and_linearize(self.inner, policy, params, 1, task.support, first_order=self.first_order)
        credited = e_maml.grads(policy, adaptation, task.support, credit)
        surrogate, gradient = meta_gradient(
            policy, adaptation, lambda adapted: -policy.outer_losses(adapted, task.query), credited
        )
        return Linearized(surrogate, gradient, adaptation)

    def _curvatures(
        self, policy: GaussianMLP, adaptations: Sequence[Adaptation], experience: Experience
    ) -> list[KLCurvature]:
        """The KL's Hessian on a part of the steps, for groups of tasks that together are as large as one task whole."""
        stride = 1 if self.inner.loss == "dice" else self.curvature_stride  # dice alone needs whole episodes

        def of_group(first: int) -> KLCurvature:
            group = slice(first, first + stride)
            thin = [batch.tasks(group).every(stride) for batch in experience.support]
            adaptation = linearize_at(self.inner, policy, adaptations[group], thin, first_order=self.first_order)
            return KLCurvature(policy, adaptation, experience.query.tasks(group).every(stride))

        return parallel_map(of_group, range(0, experience.num_tasks, stride))

    def _evaluate(self, policy: GaussianMLP, params: Params, task: Experience, credit: Tensor | None) -> Tensor:
        """One task's exact surrogate and mean KL after adapting from `params`, (2,)."""
        adapted, credited = expand(params, 1), torch.zeros(1)
        for batch in task.support:
            credited = credited + e_maml.value(policy, adapted, batch, credit)
            adapted = self.inner.step(policy, adapted, batch)
        with torch.no_grad():
            surrogate, kl = surrogate_and_kl(policy, adapted, task.query)
        return torch.cat([surrogate + credited, kl])


@dataclass(frozen=True)
class Linearized:
    """One task's surrogate, (), its gradient with respect to theta, (...), and its adaptation from there."""

    surrogate: Tensor
    gradient: Params
    adaptation: Adaptation
