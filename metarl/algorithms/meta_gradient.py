"""Derivatives of what is measured after adaptation, with respect to where adaptation starts.

Notation, for task i: theta_i = theta - alpha g_i(theta), the adapted parameters; H_i = dg_i/dtheta, the Hessian of
its inner loss; J_i = d theta_i / d theta = I - alpha H_i (the product of such factors for several steps); F_i, the
Fisher matrix of the adapted policy on the episodes that it collected. Then

    gradient of an outer loss            sum_i J_i^T grad L_i(theta_i)
    Hessian of the mean KL at theta_old  mean_i J_i^T F_i J_i

exactly: the KL and its first derivative vanish there, so no derivative of J_i survives.

Where step sizes are learned, they belong to theta: (theta, log alpha) -> (theta - alpha g_i(theta), log alpha). The
factor of one step then has -alpha g_i in the columns of log alpha.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from metarl.errors import NonFinite
from metarl.inner.sgd import LOG_STEP_SIZE, SGD, gradient, gradient_step, own
from metarl.parameters import detach, expand, leaves
from metarl.policy_gradient.gaussian_mlp import GaussianMLP, kl_divergence, log_prob
from metarl.policy_gradient.losses import mean_over_steps
from metarl.types import Batch, Data, Gaussian, Model, Params


# -------------------------------------------------------------------------------------------- adaptation
@dataclass(frozen=True)
class Step:
    """One adaptation step of a few tasks, theta -> theta - alpha g(theta), linearized at one theta each."""

    rates: Mapping[str, Tensor | float]
    """alpha of each parameter that the step changes."""
    grad: Params
    """g there, (M, ...), without its graph."""
    at: Params
    """The leaves that `graph` was taken at."""
    graph: Params
    """g with its graph, for products with the Hessian; empty for first order, which takes these for zero."""

    def jvp(self, v: Params) -> Params:
        """J v: v - alpha H v, less alpha g times what v says of a learned log alpha."""
        hvp = self._hvp({name: v[name] for name in self.graph})
        pushforward = dict(v)
        for name, rate in self.rates.items():
            log_rate = v.get(LOG_STEP_SIZE + name, 0.0)
            pushforward[name] = v[name] - rate * (hvp.get(name, 0.0) + log_rate * self.grad[name])
        return pushforward

    def vjp(self, v: Params) -> Params:
        """J^T v: v - H alpha v, and for a learned log alpha its own less alpha g v."""
        weighted = {name: rate * v[name] for name, rate in self.rates.items()}
        hvp = self._hvp({name: weighted[name] for name in self.graph if name in weighted})
        pullback = {name: value - hvp[name] if name in hvp else value for name, value in v.items()}
        for name, weight in weighted.items():
            if LOG_STEP_SIZE + name in v:
                pullback[LOG_STEP_SIZE + name] = v[LOG_STEP_SIZE + name] - weight * self.grad[name]
        return pullback

    def _hvp(self, v: Params) -> Params:
        """H v of each task; nothing for first order."""
        if not self.graph:
            return {}
        outputs = [self.graph[name] for name in v]
        products = torch.autograd.grad(outputs, list(self.at.values()), list(v.values()), retain_graph=True)
        return dict(zip(self.at, products, strict=True))


@dataclass(frozen=True)
class Adaptation:
    """theta -> theta_i for a few tasks, linearized at one theta: products with J and J^T.

    The graphs of the inner gradients are kept, so that each product costs one backward pass per adaptation step.
    """

    points: tuple[Params, ...]
    """K + 1 sets of parameters, (M, ...): theta of each task before and after each adaptation step."""
    steps: tuple[Step, ...]

    @property
    def adapted(self) -> Params:
        """theta_i, (M, ...)."""
        return self.points[-1]

    def jvp(self, tangent: Params) -> Params:
        """J_i v of each task, step after step."""
        for step in self.steps:
            tangent = step.jvp(tangent)
        return tangent

    def vjp(self, cotangent: Params, along: Sequence[Params] = ()) -> Params:
        """J_i^T v of each task: the same factors in the opposite order.

        along: K more cotangents, at the points before each step, for what depends on these as well.
        """
        for k in reversed(range(len(self.steps))):
            cotangent = self.steps[k].vjp(cotangent)
            if along:
                cotangent = {name: v + along[k][name] if name in along[k] else v for name, v in cotangent.items()}
        return cotangent


def adapt_and_linearize(
    inner: SGD, model: Model, params: Params, num_tasks: int, support: Sequence[Data], *, first_order: bool = False
) -> Adaptation:
    """Adapt one shared set of `params` to each task, one step on each batch of `support`, and linearize on the way."""
    points, steps = [expand(params, num_tasks)], []
    for batch in support:
        at = leaves(own(model, points[-1]))
        grad = gradient(model, at, batch, inner.loss, create_graph=not first_order)
        step = Step(inner.rates(model, points[-1]), detach(grad), at, {} if first_order else grad)
        points.append(gradient_step(points[-1], step.grad, step.rates))
        steps.append(step)
    return Adaptation(tuple(points), tuple(steps))


def linearize_at(
    inner: SGD, model: Model, parts: Sequence[Adaptation], support: Sequence[Data], *, first_order: bool = False
) -> Adaptation:
    """The same paths as one, with their Hessians taken on other batches: a subsample makes each product cheaper.

    parts: the adaptations of some tasks and of others.
    support: K batches of all these tasks.
    """
    points = [_together([part.points[k] for part in parts]) for k in range(len(support) + 1)]
    steps = []
    for k, batch in enumerate(support):
        grad = _together([part.steps[k].grad for part in parts])
        at = leaves(own(model, points[k]))
        graph = {} if first_order else gradient(model, at, batch, inner.loss, create_graph=True)
        steps.append(Step(inner.rates(model, points[k]), grad, at, graph))
    return Adaptation(tuple(points), tuple(steps))


def _together(sets: Sequence[Params]) -> Params:
    """Parameters of some tasks and of others, one after the other along the tasks."""
    return {name: torch.cat([params[name] for params in sets]) for name in sets[0]}


# --------------------------------------------------------------------------------------------- gradients
def value_and_grad(function: Callable[[Params], Tensor], model: Model, params: Params) -> tuple[Tensor, Params]:
    """The sum over tasks of a function of their parameters (M, ...) -> (M,), and each task's gradient there."""
    at = leaves(own(model, params))
    value = function(at).sum()
    return value.detach(), dict(zip(at, torch.autograd.grad(value, list(at.values())), strict=True))


def meta_gradient(
    model: Model, adaptation: Adaptation, function: Callable[[Params], Tensor], along: Sequence[Params] = ()
) -> tuple[Tensor, Params]:
    """A function of the adapted parameters, summed over a few tasks, and its gradient where adaptation starts.

    Args:
        model: whose parameters the function depends on.
        adaptation: theta -> theta_i.
        function: theta_i (M, ...) -> (M,).
        along: gradients of what depends on the points before each step, to be added; see `Adaptation.vjp`.
    """
    value, grad = value_and_grad(function, model, adaptation.adapted)
    return value, sum_over_tasks(adaptation.vjp(completed(grad, adaptation.adapted), along))


def completed(part: Params, like: Params) -> Params:
    """`part`, and zeros for the other parameters of `like`."""
    return {name: part[name] if name in part else torch.zeros_like(p) for name, p in like.items()}


def sum_over_tasks(params: Params) -> Params:
    """(M, ...) -> (...)"""
    return {name: p.sum(0) for name, p in params.items()}


def require_finite_gradients(gradients: Sequence[Params], chunks: Sequence[slice]) -> None:
    """Refuse a meta-gradient that is infinite or undefined, naming the tasks, by their places, and the parameters."""
    for part, chunk in zip(gradients, chunks, strict=True):
        wrong = [name for name, g in part.items() if not torch.isfinite(g).all()]
        if wrong:
            one = chunk.stop - chunk.start == 1
            tasks = f"task {chunk.start}" if one else f"tasks {chunk.start} to {chunk.stop - 1}"
            raise NonFinite(f"the meta-gradient of {tasks} is not finite in {', '.join(wrong)}")


# --------------------------------------------------------------------------------------------- curvature
def surrogate_and_kl(policy: GaussianMLP, adapted: Params, query: Batch) -> tuple[Tensor, Tensor]:
    """mean[pi / pi_old A'] and mean KL(pi_old || pi) of each task, (M,), at adapted parameters (M, ...)."""
    distribution = policy.distribution(adapted, query.observations)
    ratio = torch.exp(log_prob(distribution, query.actions) - query.log_probs)
    kl = kl_divergence(query.policy, distribution)
    return mean_over_steps(ratio * query.advantages, query.valid), mean_over_steps(kl, query.valid)


def mean_kl(policy: GaussianMLP, params: Params, batch: Batch) -> Tensor:
    """Mean KL of each task, (M,), of the policy with `params`, (M, ...), from the one that collected the batch."""
    return mean_over_steps(kl_divergence(batch.policy, policy.distribution(params, batch.observations)), batch.valid)


class Fisher:
    """The Fisher matrix of a few adapted policies, each averaged over its own states, by its products with vectors."""

    def __init__(self, policy: GaussianMLP, adapted: Params, query: Batch) -> None:
        self._at = leaves(own(policy, adapted))
        distribution = policy.distribution(self._at, query.observations)
        self._outputs = [distribution.mean, distribution.log_std]
        self._metric = _kl_metric(distribution, query.valid)
        # Forward products by differentiating the pullback with respect to what is pulled back.
        self._cotangents = [torch.zeros_like(output, requires_grad=True) for output in self._outputs]
        self._pullback = torch.autograd.grad(
            self._outputs, list(self._at.values()), self._cotangents, create_graph=True
        )

    def product(self, v: Params) -> Params:
        """F_i v of each task, (M, ...); zero for what the policy does not act with."""
        along = [v[name] for name in self._at]
        tangents = torch.autograd.grad(self._pullback, self._cotangents, along, retain_graph=True)
        weighted = [metric * tangent for metric, tangent in zip(self._metric, tangents, strict=True)]
        products = torch.autograd.grad(self._outputs, list(self._at.values()), weighted, retain_graph=True)
        return completed(dict(zip(self._at, products, strict=True)), v)


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
        pushforward = self._adaptation.jvp(expand(v, self._num_tasks))
        return sum_over_tasks(self._adaptation.vjp(self._fisher.product(pushforward)))
