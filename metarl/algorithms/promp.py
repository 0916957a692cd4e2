"""Proximal outer steps: MAML-PPO, and ProMP (Rothfuss et al. 2018), which also stays near the policies that sampled."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from metarl.algorithms import optimizers
from metarl.algorithms.differentiable import Differentiable, refuse_senseless
from metarl.algorithms.meta_gradient import (
    adapt_and_linearize,
    mean_kl,
    meta_gradient,
    require_finite_gradients,
    value_and_grad,
)
from metarl.config.settings import settings
from metarl.inner.sgd import SGD
from metarl.parameters import expand, flatten, total
from metarl.policy_gradient.gaussian_mlp import GaussianMLP
from metarl.threads import parallel_map
from metarl.timing import Stopwatch
from metarl.types import AlgorithmState, Experience, Params


@settings
class Proximal:
    """What the two have in common."""

    uses_query: ClassVar[bool] = True
    inner: Differentiable = SGD()
    """How a policy adapts to one task."""
    first_order: bool = False
    """Take the adaptation's derivative for the identity (FOMAML)."""
    epochs: int = Field(5, ge=1)
    """Steps of Adam on the same episodes, each of which differentiates through the adaptation anew."""
    step_size: float = Field(1e-3, gt=0)
    """beta, the learning rate of Adam."""
    clip_range: float = Field(0.3, gt=0, lt=1)
    """The surrogate rewards no ratio beyond 1 - clip_range and 1 + clip_range."""

    def __post_init__(self) -> None:
        refuse_senseless(self.inner, self.first_order)


@settings
class MAMLPPO(Proximal):
    """Epochs of Adam on the clipped surrogate after adaptation."""

    name: Literal["maml_ppo"] = "maml_ppo"

    def update(
        self, policy: GaussianMLP, params: Params, state: AlgorithmState, experience: Experience
    ) -> tuple[Params, AlgorithmState, dict[str, float]]:
        """One outer step; arguments and results as for `MAMLTRPO.update`, `state` is that of Adam."""
        return proximal_epochs(self, policy, params, state, experience, penalties=())


@settings
class ProMP(Proximal):
    """MAML-PPO with the KL of every policy that collected support episodes, from what it was then, as a penalty."""

    name: Literal["promp"] = "promp"
    kl_penalty: float = Field(5e-4, ge=0)
    """eta, the weight of the KL before each adaptation step; where it adapts, what it starts from."""
    adaptive_kl_penalty: bool = False
    """After the outer step, double eta where the KL exceeds 1.5 kl_target, and halve it below kl_target / 1.5."""
    kl_target: float = Field(0.01, gt=0)
    """The KL that an adaptive eta aims at."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.adaptive_kl_penalty and not self.kl_penalty:
            raise ValueError("adaptive_kl_penalty with kl_penalty = 0, which stays 0 when doubled. Start above 0")

    def update(
        self, policy: GaussianMLP, params: Params, state: AlgorithmState, experience: Experience
    ) -> tuple[Params, AlgorithmState, dict[str, float]]:
        """One outer step; as for `MAMLTRPO.update`, `state` is Adam's, and eta of each adaptation step."""
        penalties = state.get("kl_penalties", [self.kl_penalty] * len(experience.support))
        updated, adam, metrics = proximal_epochs(self, policy, params, state.get("adam", {}), experience, penalties)
        of_tasks = parallel_map(partial(inner_kls, self.inner, policy, updated), experience.by_chunk)
        kls = torch.stack(of_tasks).mean(0).tolist()
        if self.adaptive_kl_penalty:
            penalties = [adapted_penalty(eta, kl, self.kl_target) for eta, kl in zip(penalties, kls, strict=True)]
        metrics |= {f"kl_before_step_{k + 1}": kl for k, kl in enumerate(kls)}
        metrics |= {f"kl_penalty_{k + 1}": eta for k, eta in enumerate(penalties)}
        return updated, {"adam": adam, "kl_penalties": penalties}, metrics


def proximal_epochs(
    algorithm: Proximal,
    policy: GaussianMLP,
    params: Params,
    adam: AlgorithmState,
    experience: Experience,
    penalties: Sequence[float],
) -> tuple[Params, AlgorithmState, dict[str, float]]:
    """Adam on mean_i [clipped loss at theta_i + sum_k penalties[k] KL before adaptation step k]; () for no penalty."""
    stopwatch, losses = Stopwatch(), []
    with stopwatch("epochs"):
        for _ in range(algorithm.epochs):
            of_task = partial(penalized, algorithm, policy, params, penalties)
            values, gradients = zip(*parallel_map(of_task, experience.by_chunk), strict=True)
            require_finite_gradients(gradients, experience.chunks)
            mean = {name: g / experience.num_tasks for name, g in total(gradients).items()}
            params, adam = optimizers.step("adam", params, mean, adam, algorithm.step_size)
            losses.append(torch.stack(values).mean().item())
    metrics = {
        "loss_first_epoch": losses[0],
        "loss_last_epoch": losses[-1],
        "gradient_norm": flatten(mean).norm().item(),
    }
    return params, adam, metrics | stopwatch.metrics()


def penalized(
    algorithm: Proximal, policy: GaussianMLP, params: Params, penalties: Sequence[float], task: Experience
) -> tuple[Tensor, Params]:
    """One task's clipped loss after adapting from `params`, (), and the gradient of it and of its KL penalties."""
    adaptation = adapt_and_linearize(
        algorithm.inner, policy, params, 1, task.support, first_order=algorithm.first_order
    )
    penalty_grads = [
        value_and_grad(lambda at, b=batch, eta=eta: eta * mean_kl(policy, at, b), policy, at)[1]
        for at, batch, eta in zip(adaptation.points[:-1], task.support, penalties, strict=bool(penalties))
    ]

    def loss(adapted: Params) -> Tensor:
        return policy.clipped_losses(adapted, task.query, algorithm.clip_range)

    return meta_gradient(policy, adaptation, loss, penalty_grads)


def inner_kls(inner: SGD, policy: GaussianMLP, params: Params, task: Experience) -> Tensor:
    """Mean KL of each policy on the way from `params` to theta_i from the one that collected its episodes, (K,)."""
    kls, at = [], expand(params, 1)
    for batch in task.support:
        with torch.no_grad():
            kls.append(mean_kl(policy, at, batch))
        at = inner.step(policy, at, batch)
    return torch.cat(kls) if kls else torch.empty(0)


def adapted_penalty(eta: float, kl: float, target: float) -> float:
    """Double or halve eta where the KL left [target / 1.5, 1.5 target]."""
    if kl > 1.5 * target:
        return 2 * eta
    return eta / 2 if kl < target / 1.5 else eta
