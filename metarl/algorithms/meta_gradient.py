"""Derivatives through the adaptation: the meta-gradient, and the Hessian of the KL after adaptation.

Notation, for task i:

    g_i(theta)                                     gradient of the task's inner loss
    theta_i = theta - alpha g_i(theta)             the adapted parameters, after one step
    H_i     = d g_i / d theta                      Hessian of the inner loss
    J_i     = d theta_i / d theta = I - alpha H_i  for K steps, the product of K such factors
    F_i                                            Fisher matrix of the adapted policy on the episodes it collected

With L_i the loss after adaptation and theta_old the parameters that collected the episodes,

    gradient of sum_i L_i(theta_i)        sum_i J_i^T grad L_i(theta_i)
    Hessian of the mean KL at theta_old   mean_i J_i^T F_i J_i

The second is exact: the KL and its first derivative are zero at theta_old, so terms with derivatives of J_i vanish.

Learned step sizes (Meta-SGD) are part of theta: (theta, log alpha) -> (theta - alpha g_i(theta), log alpha). Then the
Jacobian of a step has the columns -alpha g_i for log alpha.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from metarl.errors import NonFinite
from metarl.inner.sgd import LOG_STEP_SIZE, SGD, gradient, gradient_step
from metarl.parameters import concatenate, detach, expand, leaves
from metarl.policy_gradient.gaussian_mlp import LATENT_MEAN, GaussianMLP, kl_divergence, log_prob
from metarl.policy_gradient.losses import mean_over_steps
from metarl.system import ranks
from metarl.types import Batch, Data, Gaussian, Model, Params


# -------------------------------------------------------------------------------------------- adaptation
@dataclass(frozen=True)
class Step:
    """One adaptation step of M tasks, theta -> theta - alpha g(theta), with its Jacobian J = I - alpha H."""

    rates: Mapping[str, Tensor | float]
    """alpha of each parameter that the step changes, by name."""
    grad: Params
    """g(theta), (M, ...), without its graph."""
    at: Params
    """theta, (M, ...), as the autograd leaves that `graph` starts from."""
    graph: Params
    """g(theta) with its autograd graph, for products with H. Empty: H is treated as zero (first-order MAML)."""

    def jvp(self, v: Params) -> Params:
        """J v = v - alpha H v, and with learned step sizes v - alpha H v - alpha g v[log alpha]."""
        hvp = self._hvp({name: v[name] for name in self.graph})
        pushforward = dict(v)
        for name, rate in self.rates.items():
            log_rate = v.get(LOG_STEP_SIZE + name, 0.0)
            pushforward[name] = v[name] - rate * (hvp.get(name, 0.0) + log_rate * self.grad[name])
        return pushforward

    def vjp(self, v: Params) -> Params:
        """J^T v = v - H alpha v; its entry of a learned log alpha is v[log alpha] - alpha g v."""
        weighted = {name: rate * v[name] for name, rate in self.rates.items()}
        hvp = self._hvp({name: weighted[name] for name in self.graph if name in weighted})
        pullback = {name: value - hvp[name] if name in hvp else value for name, value in v.items()}
        for name, weight in weighted.items():
            if LOG_STEP_SIZE + name in v:
                pullback[LOG_STEP_SIZE + name] = v[LOG_STEP_SIZE + name] - weight * self.grad[name]
        return pullback

    def _hvp(self, v: Params) -> Params:
        """H v of each task, (M, ...); empty if H is treated as zero."""
        if not self.graph:
            return {}
        outputs = [self.graph[name] for name in v]
        products = torch.autograd.grad(outputs, list(self.at.values()), list(v.values()), retain_graph=True)
        return dict(zip(self.at, products, strict=True))


@dataclass(frozen=True)
class Adaptation:
    """theta -> theta_i for M tasks, with products with its Jacobian J_i and with J_i^T.

    It holds the autograd graphs of the K inner gradients. A product costs one backward pass per adaptation step.
    """

    points: tuple[Params, ...]
    """K + 1 sets of parameters, (M, ...): before, between and after the adaptation steps."""
    steps: tuple[Step, ...]
    """K steps."""

    @property
    def adapted(self) -> Params:
        """theta_i, (M, ...)."""
        return self.points[-1]

    def jvp(self, tangent: Params) -> Params:
        """J_i v of each task, (M, ...) to (M, ...): the Jacobians of the steps are applied from first to last."""
        for step in self.steps:
            tangent = step.jvp(tangent)
        return tangent

    def vjp(self, cotangent: Params, before_steps: Sequence[Params] = ()) -> Params:
        """J_i^T v of each task, (M, ...) to (M, ...): the transposed Jacobians are applied from last to first.

        Args:
            cotangent: v, the gradient of a function of theta_i, (M, ...).
            before_steps: if the function also depends on the parameters before each of the K steps, its gradients with
                respect to these, (M, ...) each.
        """
        for k in reversed(range(len(self.steps))):
            cotangent = self.steps[k].vjp(cotangent)
            if before_steps:
                more = before_steps[k]
                cotangent = {name: v + more[name] if name in more else v for name, v in cotangent.items()}
        return cotangent

    def without_graphs(self) -> Adaptation:
        """A copy without the autograd graphs, which take nearly all of the memory."""
        return replace(self, steps=tuple(replace(step, at={}, graph={}) for step in self.steps))


def adapt_and_linearize(
    inner: SGD, model: Model, params: Params, num_tasks: int, support: Sequence[Data], *, first_order: bool = False
) -> Adaptation:
    """theta_i of each task and the Jacobian of the way there: one adaptation step on each batch of `support`.

    Args:
        inner: the inner loop.
        model: what adapts.
        params: theta, shared by all tasks.
        num_tasks: M.
        support: K batches of M tasks.
        first_order: treat the Jacobian as the identity (first-order MAML), which needs no graph.
    """
    points, steps = [expand(params, num_tasks)], []
    for batch in support:
        at = leaves(points[-1], model.names)
        grad = gradient(model, at, batch, inner.loss, create_graph=not first_order)
        step = Step(inner.rates(model, points[-1]), detach(grad), at, {} if first_order else grad)
        points.append(gradient_step(points[-1], step.grad, step.rates))
        steps.append(step)
    return Adaptation(tuple(points), tuple(steps))


def linearize_at(
    inner: SGD, model: Model, parts: Sequence[Adaptation], support: Sequence[Data], *, first_order: bool = False
) -> Adaptation:
    """Several adaptations joined along the axis of the tasks, with Hessians at the same points but on other batches.

    With a subsample of the steps as batches, products with the Jacobian are cheaper.

    Args:
        inner: the inner loop.
        model: what adapts.
        parts: adaptations of one or more tasks each; their graphs are not used.
        support: K batches of all these tasks together, on which the Hessians are taken.
        first_order: treat the Hessians as zero.
    """
    points = [concatenate([part.points[k] for part in parts]) for k in range(len(support) + 1)]
    steps = []
    for k, batch in enumerate(support):
        grad = concatenate([part.steps[k].grad for part in parts])
        at = leaves(points[k], model.names)
        graph = {} if first_order else gradient(model, at, batch, inner.loss, create_graph=True)
        steps.append(Step(inner.rates(model, points[k]), grad, at, graph))
    return Adaptation(tuple(points), tuple(steps))


# --------------------------------------------------------------------------------------------- gradients
def value_and_grad(function: Callable[[Params], Tensor], model: Model, params: Params) -> tuple[Tensor, Params]:
    """A function of the model's parameters: its value, (M,), and its gradient, (M, ...), for each task.

    Args:
        function: from parameters (M, ...) to one value per task, (M,).
        model: whose parameters it is a function of.
        params: (M, ...); those that are not the model's, such as step sizes, are left out.
    """
    at = leaves(params, model.names)
    values = function(at)
    return values.detach(), dict(zip(at, torch.autograd.grad(values.sum(), list(at.values())), strict=True))


def meta_gradient(
    model: Model, adaptation: Adaptation, function: Callable[[Params], Tensor], before_steps: Sequence[Params] = ()
) -> tuple[Tensor, Params]:
    """f(theta_i) of each task, (M,), and its gradient with respect to theta, J_i^T grad f(theta_i), (M, ...).

    Args:
        model: whose parameters f is a function of.
        adaptation: theta -> theta_i of M tasks.
        function: f, from theta_i (M, ...) to one value per task, (M,).
        before_steps: see `Adaptation.vjp`.
    """
    values, grad = value_and_grad(function, model, adaptation.adapted)
    return values, adaptation.vjp(with_zeros(grad, adaptation.adapted), before_steps)


def with_zeros(part: Params, like: Params) -> Params:
    """The parameters of `part`, and zeros for the others of `like`."""
    return {name: part[name] if name in part else torch.zeros_like(p) for name, p in like.items()}


def require_finite_gradients(gradients: Params, all_tasks: int) -> None:
    """Raise NonFinite, with the task and the names of the parameters, if a meta-gradient is infinite or NaN.

    Args:
        gradients: of this rank's tasks, (m, ...).
        all_tasks: number of tasks of all ranks together.
    """
    finite = {name: torch.isfinite(g).reshape(len(g), -1).all(1) for name, g in gradients.items()}
    for m in range(len(next(iter(finite.values())))):
        if wrong := [name for name, each in finite.items() if not each[m]]:
            task = ranks.share(all_tasks).start + m
            raise NonFinite(f"the meta-gradient of task {task} is not finite in {', '.join(wrong)}")


# --------------------------------------------------------------------------------------------- curvature
def surrogate_and_kl(policy: GaussianMLP, adapted: Params, query: Batch) -> tuple[Tensor, Tensor]:
    """mean[pi / pi_old A] and mean KL(pi_old || pi) on the query of each task, (M,) each.

    pi has the parameters `adapted`, (M, ...); pi_old collected the query.
    """
    distribution = policy.distribution(adapted, query.observations)
    ratio = torch.exp(log_prob(distribution, query.actions) - query.log_probs)
    kl = kl_divergence(query.policy, distribution)
    return mean_over_steps(ratio * query.advantages, query.valid), mean_over_steps(kl, query.valid)


def mean_kl(policy: GaussianMLP, params: Params, batch: Batch) -> Tensor:
    """Mean KL(pi_old || pi) of each task, (M,). pi has these parameters, (M, ...), and pi_old collected the batch.

    It is that of the actions, given the latents of the episodes, plus that of the distribution of the latents.
    """
    distribution = policy.distribution(params, batch.observations, batch.latents)
    kl = mean_over_steps(kl_divergence(batch.policy, distribution), batch.valid)
    if batch.latents is not None:
        kl = kl + 0.5 * (params[LATENT_MEAN] - batch.latents.mean).square().sum(-1)
    return kl


class Fisher:
    """Products with the Fisher matrix F_i of M adapted policies, each averaged over its own states.

    F_i = D^T metric D, with D the Jacobian of the policy's outputs (mean, log_std) in its parameters.
    """

    def __init__(self, policy: GaussianMLP, adapted: Params, query: Batch) -> None:
        self._at = leaves(adapted, policy.names)
        distribution = policy.distribution(self._at, query.observations)
        self._outputs = [distribution.mean, distribution.log_std]
        self._metric = _kl_metric(distribution, query.valid)
        # D v is the derivative of the linear function c -> D^T c with respect to c, in the direction v.
        self._cotangents = [torch.zeros_like(output, requires_grad=True) for output in self._outputs]
        self._vjp = torch.autograd.grad(self._outputs, list(self._at.values()), self._cotangents, create_graph=True)

    def product(self, v: Params) -> Params:
        """F_i v of each task, (M, ...); zero for parameters that are not the policy's, such as step sizes."""
        along = [v[name] for name in self._at]
        tangents = torch.autograd.grad(self._vjp, self._cotangents, along, retain_graph=True)
        weighted = [metric * tangent for metric, tangent in zip(self._metric, tangents, strict=True)]
        products = torch.autograd.grad(self._outputs, list(self._at.values()), weighted, retain_graph=True)
        return with_zeros(dict(zip(self._at, products, strict=True)), v)


def _kl_metric(distribution: Gaussian, valid: Tensor) -> list[Tensor]:
    """Second derivatives of the mean KL over n steps in (mean, log_std): the diagonal matrices 1 / (n std^2) and 2."""
    share = valid / valid.sum((1, 2), keepdim=True).clamp(min=1)
    precision = torch.exp(-2 * distribution.log_std.detach())[:, None, None, :]
    return [share.unsqueeze(-1) * precision, 2 * share.sum((1, 2)).unsqueeze(-1).expand_as(distribution.log_std)]


class KLCurvature:
    """Products with the Hessian, at theta_old, of the KL after adaptation, for each of M tasks."""

    def __init__(self, policy: GaussianMLP, adaptation: Adaptation, query: Batch) -> None:
        self._adaptation = adaptation
        self._fisher = Fisher(policy, adaptation.adapted, query)
        self._num_tasks = query.num_tasks

    def product(self, v: Params) -> Params:
        """J_i^T F_i J_i v of each task, (M, ...), for a v that all tasks share, (...)."""
        pushforward = self._adaptation.jvp(expand(v, self._num_tasks))
        return self._adaptation.vjp(self._fisher.product(pushforward))
