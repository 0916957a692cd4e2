"""MAML with the outer step of TRPO (Finn et al. 2017), and the low-variance curvature of Rothfuss et al. 2018."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

import torch
from pydantic import Field
from torch import Tensor

from metarl import inner, outer
from metarl.errors import NonFinite
from metarl.meta_gradient import KLCurvature, follow, relinearize, surrogate_and_kl, surrogate_gradient
from metarl.parameters import add, chunk, expand, flatten, unflatten
from metarl.policies import GaussianMLP
from metarl.settings import settings
from metarl.threads import each_task, map_tasks
from metarl.timing import Stopwatch
from metarl.types import Batch, Params


@settings
class MAML:
    """Model-agnostic meta-learning: theta <- argmax mean_i S_i(theta - alpha grad L_i(theta)) within a trust region."""

    name: Literal["maml"] = "maml"
    inner_steps: int = Field(1, ge=0)
    """K, adaptation steps before the episodes that the outer step learns from."""
    inner_step_size: float = Field(0.1, gt=0)
    """alpha."""
    inner_loss: Literal["ratio", "reinforce"] = "ratio"
    """What the inner step descends: they differ in the meta-gradient only."""
    first_order: bool = False
    """Take the adaptation's derivative for the identity (FOMAML)."""
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

    def adapt(self, policy: GaussianMLP, params: Params, batch: Batch, scale: float = 1.0) -> Params:
        """One adaptation step of every task: theta_i, (M, ...), and their episodes -> theta'_i, (M, ...).

        scale: of the step size, for steps beyond those that were trained.
        """

        def one(task: slice) -> Params:
            step_size = scale * self.inner_step_size
            return inner.adapt(policy, chunk(params, task), batch.tasks(task), step_size, self.inner_loss)

        adapted = map_tasks(one, each_task(batch.num_tasks))
        return {name: torch.cat([a[name] for a in adapted]) for name in params}

    def update(
        self, policy: GaussianMLP, params: Params, support: Sequence[Batch], query: Batch
    ) -> tuple[Params, dict[str, float]]:
        """One outer step.

        Args:
            policy: how parameters act.
            params: theta, shared by all tasks.
            support: K batches, each collected by the policies of one adaptation step.
            query: collected by the adapted policies.

        Returns:
            The new theta, the very same one if no step was accepted, and metrics.
        """
        tasks = [TaskData([b.tasks(m) for b in support], query.tasks(m)) for m in each_task(query.num_tasks)]
        stopwatch = Stopwatch()
        with stopwatch("gradient"):
            linear = map_tasks(lambda task: self._linearize(policy, params, task), tasks)
        _require_finite(linear, params)

        def curvature(v: Tensor) -> Tensor:
            tangent = unflatten(v, params)
            return torch.stack(map_tasks(lambda at: flatten(at.curvature.product(tangent)), linear)).mean(0)

        def evaluate(step: Tensor) -> tuple[Tensor, Tensor]:
            moved = add(params, step)
            surrogate, kl = torch.stack(map_tasks(lambda task: self._evaluate(policy, moved, task), tasks)).mean(0)
            return surrogate, kl

        step, metrics = outer.trust_region_step(
            torch.stack([at.gradient for at in linear]).mean(0),
            curvature,
            evaluate,
            torch.stack([at.surrogate for at in linear]).mean(),
            max_kl=self.max_kl,
            cg_iterations=self.cg_iterations,
            cg_damping=self.cg_damping,
            backtrack_ratio=self.backtrack_ratio,
            max_backtracks=self.max_backtracks,
        )
        return add(params, step) if metrics["accepted"] else params, metrics | stopwatch.metrics()

    def _linearize(self, policy: GaussianMLP, params: Params, task: TaskData) -> Linearized:
        """What one task contributes to the gradient, and to the curvature on a part of its steps."""
        step_size, loss = self.inner_step_size, self.inner_loss
        adaptation = follow(policy, params, 1, task.support, step_size, loss, first_order=self.first_order)
        surrogate, gradient = surrogate_gradient(policy, adaptation, task.query)
        stride = self.curvature_stride
        rough = relinearize(policy, adaptation, [batch.every(stride) for batch in task.support], loss)
        return Linearized(surrogate, flatten(gradient), KLCurvature(policy, rough, task.query.every(stride)))

    def _evaluate(self, policy: GaussianMLP, params: Params, task: TaskData) -> Tensor:
        """One task's exact surrogate and mean KL after adapting from `params`, (2,)."""
        adapted = expand(params, 1)
        for batch in task.support:
            adapted = inner.adapt(policy, adapted, batch, self.inner_step_size, self.inner_loss)
        with torch.no_grad():
            return torch.cat(surrogate_and_kl(policy, adapted, task.query))


def _require_finite(linear: Sequence[Linearized], params: Params) -> None:
    """Refuse a meta-gradient that is infinite or undefined, naming the task and the parameter."""
    for m, at in enumerate(linear):
        if not torch.isfinite(at.gradient).all():
            wrong = [name for name, g in unflatten(at.gradient, params).items() if not torch.isfinite(g).all()]
            raise NonFinite(f"the meta-gradient of task {m} is not finite in {', '.join(wrong)}")


class TaskData(NamedTuple):
    """The episodes of one task."""

    support: list[Batch]
    query: Batch


class Linearized(NamedTuple):
    """One task's surrogate, (), its gradient with respect to theta, (P,), and its KL curvature there."""

    surrogate: Tensor
    gradient: Tensor
    curvature: KLCurvature
