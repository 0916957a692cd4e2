"""MAML with the outer step of TRPO (Finn et al. 2017).

    inner loop   theta_i = theta - alpha grad L_i(theta), K times, on episodes of the policy before each step
    outer step   maximise mean_i S_i(theta_i(theta))  within  mean_i KL(pi_old,i || pi_theta_i(theta)) <= delta

S_i is the surrogate mean[pi / pi_old,i A] on the query, the episodes that the adapted policy pi_old,i collected.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, partial
from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from metarl.algorithms import e_maml, memory, optimizers, trust_region
from metarl.algorithms.differentiable import Differentiable, check_combination
from metarl.algorithms.meta_gradient import (
    Adaptation,
    KLCurvature,
    adapt_and_linearize,
    linearize_at,
    meta_gradient,
    require_finite_gradients,
    surrogate_and_kl,
)
from metarl.config.settings import LARGEST, settings
from metarl.inner.sgd import SGD
from metarl.parameters import add, concatenate, expand, rows, unflatten
from metarl.policy_gradient.gaussian_mlp import GaussianMLP
from metarl.system import ranks
from metarl.system.threads import parallel_map
from metarl.system.timing import Stopwatch
from metarl.types import AlgorithmState, Experience, Params


@settings
class MAMLTRPO:
    """Model-agnostic meta-learning: theta <- argmax mean_i S_i(theta_i(theta)) within a trust region."""

    name: Literal["maml_trpo"] = "maml_trpo"
    uses_query: ClassVar[bool] = True
    inner: Differentiable = SGD()
    """The inner loop, which adapts a policy to one task."""
    first_order: bool = False
    """Treat the Jacobian of the adaptation as the identity (first-order MAML)."""
    exploration_credit: float = Field(0.0, ge=0, le=LARGEST)
    """E-MAML: weight of the credit that episodes before adaptation get for the return after it; 1 is unbiased."""
    max_kl: float = Field(0.01, gt=0, le=LARGEST)
    """delta, the largest mean KL between the adapted policies before and after the outer step."""
    final_max_kl: float = Field(0.0, ge=0, le=LARGEST)
    """delta at the end of the annealing."""
    anneal_iterations: int = Field(0, ge=0, le=10**9)
    """Outer iterations in which delta changes linearly from max_kl to final_max_kl; 0: it is constant."""
    cg_iterations: int = Field(10, ge=1, le=10_000)
    """Steps of the conjugate gradient method, which solves for the natural gradient."""
    cg_damping: float = Field(1e-5, ge=0, le=LARGEST)
    """Added to the diagonal of the KL's Hessian."""
    backtrack_ratio: float = Field(0.8, gt=0, lt=1)
    """Each trial step of the line search is shorter than the one before by this factor."""
    max_backtracks: int = Field(15, ge=1, le=1_000)
    """Trial steps of the line search; if none is accepted, theta is not changed."""
    curvature_stride: int = Field(5, ge=1, le=10_000)
    """n: products with the KL's Hessian use every n-th step of the episodes; the line search uses all steps."""

    def __post_init__(self) -> None:
        check_combination(self.inner, self.first_order, self.exploration_credit)
        optimizers.check_annealing("final_max_kl", self.final_max_kl, self.anneal_iterations)

    def update(
        self, policy: GaussianMLP, params: Params, state: AlgorithmState, experience: Experience
    ) -> tuple[Params, AlgorithmState, dict[str, float]]:
        """One outer step.

        Args:
            policy: how parameters act.
            params: theta, and learned step sizes; shared by all tasks.
            state: the number of iterations done.
            experience: K support batches, and the query batch that the adapted policies collected.

        Returns:
            The new theta, or `params` itself if no step was accepted; the new state; and metrics.

        Raises:
            NonFinite: the meta-gradient is infinite or NaN.
        """
        iteration = state.get("iteration", 0)
        max_kl = optimizers.annealed(self.max_kl, self.final_max_kl, self.anneal_iterations, iteration)
        tasks, M = experience.by_chunk, experience.all_tasks
        credits = e_maml.exploration_credits(self.exploration_credit, experience)
        stopwatch = Stopwatch()
        with stopwatch("gradient"):
            results = parallel_map(partial(self._gradient, policy, params), tasks, credits)
        gradients = concatenate([task.gradient for task in results])
        require_finite_gradients(gradients, M)
        with stopwatch("curvature"):
            curvatures = self._curvatures(policy, [task.adaptation for task in results], experience)

        def hvp(v: Tensor) -> Tensor:
            tangent = unflatten(v, params)
            products = parallel_map(lambda curvature: rows(curvature().product(tangent)), curvatures)
            return ranks.mean(torch.cat(products), M)

        def evaluate(step: Tensor) -> tuple[Tensor, Tensor]:
            values = parallel_map(partial(self._evaluate, policy, add(params, step)), tasks, credits)
            surrogate, kl = ranks.mean(torch.stack(values), M)
            return surrogate, kl

        step, metrics = trust_region.trust_region_step(
            ranks.mean(rows(gradients), M),
            hvp,
            evaluate,
            ranks.mean(torch.cat([task.surrogate for task in results]), M),
            stopwatch,
            max_kl=max_kl,
            cg_iterations=self.cg_iterations,
            cg_damping=self.cg_damping,
            backtrack_ratio=self.backtrack_ratio,
            max_backtracks=self.max_backtracks,
        )
        updated = add(params, step) if metrics["accepted"] else params
        return updated, {"iteration": iteration + 1}, metrics | {"max_kl": max_kl} | stopwatch.metrics()

    def _gradient(self, policy: GaussianMLP, params: Params, task: Experience, credit: Tensor | None) -> TaskGradient:
        """S_i and J_i^T grad S_i(theta_i) of one task. Its autograd graphs are freed when this returns."""
        adaptation = adapt_and_linearize(self.inner, policy, params, 1, task.support, first_order=self.first_order)
        exploration = e_maml.exploration_grads(policy, adaptation, task.support, credit)
        surrogate, gradient = meta_gradient(
            policy, adaptation, lambda adapted: -policy.outer_losses(adapted, task.query), exploration
        )
        return TaskGradient(surrogate, gradient, adaptation.without_graphs())

    def _curvatures(
        self, policy: GaussianMLP, adaptations: Sequence[Adaptation], experience: Experience
    ) -> list[Callable[[], KLCurvature]]:
        """For each task a function that returns the KL's Hessian on every `curvature_stride`-th step.

        The first ones, whose graphs fit in `KEPT_GRAPHS` together, build it at the first call and keep it; the others
        build it at every call. Tasks are not joined: the last bits of a product would depend on those beside it.
        """
        stride = 1 if self.inner.loss == "dice" else self.curvature_stride  # dice needs all steps of an episode
        inner_steps = 0 if self.first_order else len(experience.support)

        def build(task: slice) -> KLCurvature:
            support = [batch.tasks(task).every(stride) for batch in experience.support]
            adaptation = linearize_at(self.inner, policy, adaptations[task], support, first_order=self.first_order)
            return KLCurvature(policy, adaptation, experience.query.tasks(task).every(stride))

        tasks = [slice(m, m + 1) for m in range(experience.num_tasks)]
        steps = experience.query.tasks(tasks[0]).every(stride).valid.numel()
        kept = memory.KEPT_GRAPHS // memory.curvature_graph_bytes(policy, inner_steps, 1, steps)
        return [cache(partial(build, task)) if m < kept else partial(build, task) for m, task in enumerate(tasks)]

    def _evaluate(self, policy: GaussianMLP, params: Params, task: Experience, credit: Tensor | None) -> Tensor:
        """One task's exact surrogate and mean KL after adapting from `params`, (2,)."""
        adapted, exploration = expand(params, 1), torch.zeros(1)
        for batch in task.support:
            exploration = exploration + e_maml.exploration_term(policy, adapted, batch, credit)
            adapted = self.inner.step(policy, adapted, batch)
        with torch.no_grad():
            surrogate, kl = surrogate_and_kl(policy, adapted, task.query)
        return torch.cat([surrogate + exploration, kl])


@dataclass(frozen=True)
class TaskGradient:
    """The gradient of one task's surrogate through the adaptation."""

    surrogate: Tensor
    """S_i(theta_i), (1,)."""
    gradient: Params
    """J_i^T grad S_i(theta_i), (1, ...)."""
    adaptation: Adaptation
    """theta -> theta_i, without graphs."""
