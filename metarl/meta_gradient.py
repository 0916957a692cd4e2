"""Derivatives of what is measured after adaptation, with respect to where adaptation starts.

Notation, for task i: theta_i = theta - alpha g_i(theta), the adapted parameters; H_i = dg_i/dtheta, the Hessian of
its inner loss; J_i = d theta_i / d theta = I - alpha H_i (the product of such factors for several steps); F_i, the
Fisher matrix of the adapted policy on the episodes that it collected. Then

    gradient of the surrogate            mean_i J_i^T grad S_i(theta_i)
    Hessian of the mean KL at theta_old  mean_i J_i^T F_i J_i

exactly: the KL and its first derivative vanish there, so no derivative of J_i survives.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from metarl import inner
from metarl.losses import mean_over_steps
from metarl.parameters import detach, expand, leaves
from metarl.policies import GaussianMLP, kl_divergence, log_prob
from metarl.types import Batch, Gaussian, Params


def surrogate_and_kl(policy: GaussianMLP, adapted: Params, query: Batch) -> tuple[Tensor, Tensor]:
    """mean[pi / pi_old A'] and mean KL(pi_old || pi) of each task, (M,), at adapted parameters (M, ...)."""
    distribution = policy.distribution(adapted, query.observations)
    ratio = torch.exp(log_prob(distribution, query.actions) - query.log_probs)
    kl = kl_divergence(query.policy, distribution)
    return mean_over_steps(ratio * query.advantages, query.valid), mean_over_steps(kl, query.valid)


@dataclass(frozen=True)
class Adaptation:
    """theta -> theta_i for a few tasks, linearized at one theta: products with J and J^T.

    The graphs of the inner gradients are kept, so that each product costs one backward pass per adaptation step.
    """

    points: tuple[Params, ...]
    """K + 1 sets of parameters, (M, ...): theta of each task before and after each adaptation step."""
    gradients: tuple[tuple[Params, Params], ...]
    """For each step, the leaves it was taken at and the inner gradient with its graph; none if first order."""
    step_size: float

    @property
    def adapted(self) -> Params:
        """theta_i, (M, ...)."""
        return self.points[-1]

    def push(self, tangent: Params) -> Params:
        """J_i v of each task: v - alpha H v, step after step."""
        for at, gradient in self.gradients:
            tangent = self._minus_hessian(at, gradient, tangent)
        return tangent

    def pull(self, cotangent: Params) -> Params:
        """J_i^T v of each task: the same factors in the opposite order, since a Hessian is symmetric."""
        for at, gradient in reversed(self.gradients):
            cotangent = self._minus_hessian(at, gradient, cotangent)
        return cotangent

    def _minus_hessian(self, at: Params, gradient: Params, v: Params) -> Params:
        products = torch.autograd.grad(
            list(gradient.values()), list(at.values()), [v[name] for name in gradient], retain_graph=True
        )
        return {name: v[name] - self.step_size * h for name, h in zip(at, products, strict=True)}


def follow(
    policy: GaussianMLP,
    params: Params,
    num_tasks: int,
    support: Sequence[Batch],
    step_size: float,
    loss: str,
    *,
    first_order: bool = False,
) -> Adaptation:
    """Adapt one shared set of `params` to each task, one step on each batch of `support`, and linearize on the way."""
    points, gradients = [expand(params, num_tasks)], []
    for batch in support:
        at = leaves(points[-1])
        gradient = inner.gradient(policy, at, batch, loss, create_graph=not first_order)
        points.append(inner.descend(detach(at), detach(gradient), step_size))
        gradients.append((at, gradient))
    return Adaptation(tuple(points), () if first_order else tuple(gradients), step_size)


def relinearize(policy: GaussianMLP, adaptation: Adaptation, support: Sequence[Batch], loss: str) -> Adaptation:
    """The same path, with its Hessians taken on other batches: a subsample makes each product cheaper."""
    if not adaptation.gradients:  # first order, or no steps: J = I
        return adaptation
    gradients = []
    for point, batch in zip(adaptation.points[:-1], support, strict=True):
        at = leaves(point)
        gradients.append((at, inner.gradient(policy, at, batch, loss, create_graph=True)))
    return Adaptation(adaptation.points, tuple(gradients), adaptation.step_size)


class Fisher:
    """The Fisher matrix of a few adapted policies, each averaged over its own states, by its products with vectors."""

    def __init__(self, policy: GaussianMLP, adapted: Params, query: Batch) -> None:
        self._at = leaves(adapted)
        distribution = policy.distribution(self._at, query.observations)
        self._outputs = [distribution.mean, distribution.log_std]
        self._metric = _kl_metric(distribution, query.valid)
        # Forward products by differentiating the pullback with respect to what is pulled back.
        self._cotangents = [torch.zeros_like(output, requires_grad=True) for output in self._outputs]
        self._pullback = torch.autograd.grad(
            self._outputs, list(self._at.values()), self._cotangents, create_graph=True
        )

    def product(self, v: Params) -> Params:
        """F_i v of each task, (M, ...)."""
        tangents = torch.autograd.grad(self._pullback, self._cotangents, list(v.values()), retain_graph=True)
        weighted = [metric * tangent for metric, tangent in zip(self._metric, tangents, strict=True)]
        products = torch.autograd.grad(self._outputs, list(self._at.values()), weighted, retain_graph=True)
        return dict(zip(v, products, strict=True))


def _kl_metric(distribution: Gaussian, valid: Tensor) -> list[Tensor]:
    """Second derivative of the mean KL in (mean, log_std), which is diagonal: 1 / (n std^2) and 2."""
    share = valid / valid.sum((1, 2), keepdim=True).clamp(min=1)
    precision = torch.exp(-2 * distribution.log_std.detach())[:, None, None, :]
    return [share.unsqueeze(-1) * precision, 2 * share.sum((1, 2)).unsqueeze(-1).expand_as(distribution.log_std)]


class KLCurvature:
    """The Hessian of a few tasks' summed post-adaptation KL at theta_old, by its products with vectors."""

    def __init__(self, policy: GaussianMLP, adaptation: Adaptation, query: Batch) -> None:
        self._adaptation = adaptation
        self._fisher = Fisher(policy, adaptation.adapted, query)
        self._num_tasks = query.num_tasks

    def product(self, v: Params) -> Params:
        """sum_i J_i^T F_i J_i v for one shared v."""
        pushed = self._adaptation.push(expand(v, self._num_tasks))
        return sum_over_tasks(self._adaptation.pull(self._fisher.product(pushed)))


def surrogate_gradient(policy: GaussianMLP, adaptation: Adaptation, query: Batch) -> tuple[Tensor, Params]:
    """The summed surrogate of a few tasks and its gradient with respect to where adaptation starts."""
    at = leaves(adaptation.adapted)
    surrogate = surrogate_and_kl(policy, at, query)[0].sum()
    grads = torch.autograd.grad(surrogate, list(at.values()))
    return surrogate.detach(), sum_over_tasks(adaptation.pull(dict(zip(at, grads, strict=True))))


def sum_over_tasks(params: Params) -> Params:
    """(M, ...) -> (...)"""
    return {name: p.sum(0) for name, p in params.items()}
