"""MAML-PPO, which is MAML with the clipped surrogate of PPO in its outer loop, and ProMP (Rothfuss et al. 2018).

    loss(theta) = mean_i [ clipped loss of task i at theta_i(theta) + sum_k eta_k KL(pi_old,ik || pi_ik) ]

pi_ik is the policy of task i before its k-th adaptation step, which starts from theta; pi_old,ik is the policy that
collected the episodes of that step. MAML-PPO has no KL penalties: all eta_k are 0.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from metarl.algorithms import optimizers
from metarl.algorithms.differentiable import Differentiable, check_combination
from metarl.algorithms.meta_gradient import (
    adapt_and_linearize,
    mean_kl,
    meta_gradient,
    require_finite_gradients,
    value_and_grad,
)
from metarl.config.settings import LARGEST, settings
from metarl.inner.sgd import SGD
from metarl.parameters import concatenate, expand, rows, unflatten
from metarl.policy_gradient.gaussian_mlp import GaussianMLP
from metarl.system import ranks
from metarl.system.threads import parallel_map
from metarl.system.timing import Stopwatch
from metarl.types import AlgorithmState, Experience, Params


@settings
class Proximal:
    """The settings and the outer step that MAML-PPO and ProMP share."""

    uses_query: ClassVar[bool] = True
    inner: Differentiable = SGD()
    """The inner loop, which adapts a policy to one task."""
    first_order: bool = False
    """Treat the Jacobian of the adaptation as the identity (first-order MAML)."""
    epochs: int = Field(5, ge=1, le=10_000)
    """Steps of Adam on the same episodes; each differentiates through the adaptation anew."""
    step_size: float = Field(1e-3, gt=0, le=LARGEST)
    """beta, the learning rate of Adam, at the start."""
    final_step_size: float = Field(0.0, ge=0, le=LARGEST)
    """beta at the end of the annealing."""
    anneal_iterations: int = Field(0, ge=0, le=10**9)
    """Outer iterations in which beta changes linearly from step_size to final_step_size; 0: it is constant."""
    target_kl: float | None = Field(None, gt=0, le=LARGEST)
    """Skip the remaining epochs once the mean KL(pi_old,i || pi_i) is above this. pi_i is the adapted policy of task i,
    and pi_old,i the one that collected the query. None: do all epochs."""
    clip_range: float = Field(0.3, gt=0, lt=1)
    """The surrogate does not reward a probability ratio outside [1 - clip_range, 1 + clip_range]."""

    def __post_init__(self) -> None:
        check_combination(self.inner, self.first_order)
        optimizers.check_annealing("final_step_size", self.final_step_size, self.anneal_iterations)

    def outer_step(
        self,
        policy: GaussianMLP,
        params: Params,
        state: AlgorithmState,
        experience: Experience,
        penalties: Sequence[float],
    ) -> tuple[Params, AlgorithmState, dict[str, float]]:
        """Epochs of Adam on the loss above; arguments, results and errors as for `MAMLTRPO.update`.

        Args:
            state: the number of outer iterations done, and Adam's state.
            penalties: eta_k of the K adaptation steps; empty for no KL penalties.
        """
        iteration = state.get("iteration", 0)
        adam = state.get("adam", state)  # up to version 0.1, the state of MAML-PPO was that of Adam alone
        step_size = optimizers.annealed(self.step_size, self.final_step_size, self.anneal_iterations, iteration)
        stopwatch, losses, kl, M = Stopwatch(), [], None, experience.all_tasks
        with stopwatch("epochs"):
            for _ in range(self.epochs):
                gradient_of = partial(self.task_gradient, policy, params, penalties)
                values, parts, kls = zip(*parallel_map(gradient_of, experience.by_chunk), strict=True)
                gradients = concatenate(parts)
                require_finite_gradients(gradients, M)
                if self.target_kl is not None:
                    kl = ranks.mean(torch.cat(kls), M).item()
                    if losses and kl > self.target_kl:
                        break
                gradient = ranks.mean(rows(gradients), M)
                params, adam = optimizers.step("adam", params, unflatten(gradient, params), adam, step_size)
                losses.append(ranks.mean(torch.cat(values), M).item())
        metrics = {
            "loss_first_epoch": losses[0],
            "loss_last_epoch": losses[-1],
            "gradient_norm": gradient.norm().item(),
            "epochs": len(losses),
            "step_size": step_size,
        }
        if kl is not None:
            metrics["kl"] = kl
        return params, {"iteration": iteration + 1, "adam": adam}, metrics | stopwatch.metrics()

    def task_gradient(
        self, policy: GaussianMLP, params: Params, penalties: Sequence[float], task: Experience
    ) -> tuple[Tensor, Params, Tensor]:
        """The loss of one task and its gradient at theta.

        Returns:
            The clipped loss at theta_i, (1,), without the KL penalties; the gradient of clipped loss and penalties,
            (1, ...); and the mean KL(pi_old,i || pi_i) on the query, (1,), or (0,) without a `target_kl`.
        """
        adaptation = adapt_and_linearize(self.inner, policy, params, 1, task.support, first_order=self.first_order)
        penalty_grads = [
            value_and_grad(lambda at, b=batch, eta=eta: eta * mean_kl(policy, at, b), policy, at)[1]
            for at, batch, eta in zip(adaptation.points[:-1], task.support, penalties, strict=bool(penalties))
        ]

        def loss(adapted: Params) -> Tensor:
            return policy.clipped_losses(adapted, task.query, self.clip_range)

        kl = torch.empty(0)
        if self.target_kl is not None:
            with torch.no_grad():
                kl = mean_kl(policy, adaptation.adapted, task.query)
        return *meta_gradient(policy, adaptation, loss, penalty_grads), kl


@settings
class MAMLPPO(Proximal):
    """Epochs of Adam on the clipped surrogate after adaptation, without KL penalties."""

    name: Literal["maml_ppo"] = "maml_ppo"

    def update(
        self, policy: GaussianMLP, params: Params, state: AlgorithmState, experience: Experience
    ) -> tuple[Params, AlgorithmState, dict[str, float]]:
        """One outer step; see `Proximal.outer_step`."""
        return self.outer_step(policy, params, state, experience, penalties=())


@settings
class ProMP(Proximal):
    """MAML-PPO with KL penalties on the policies that collect the support: theta's, and those between the steps."""

    name: Literal["promp"] = "promp"
    kl_penalty: float = Field(5e-4, ge=0, le=LARGEST)
    """eta, the weight of the KL before each adaptation step; with adaptive_kl_penalty, its first value."""
    adaptive_kl_penalty: bool = False
    """After each outer step, double eta if its KL is above 1.5 kl_target, and halve it if below kl_target / 1.5."""
    kl_target: float = Field(0.01, gt=0, le=LARGEST)
    """The KL that adaptive_kl_penalty aims at."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.adaptive_kl_penalty and not self.kl_penalty:
            raise ValueError("adaptive_kl_penalty with kl_penalty = 0, which stays 0 when doubled. Start above 0")

    def update(
        self, policy: GaussianMLP, params: Params, state: AlgorithmState, experience: Experience
    ) -> tuple[Params, AlgorithmState, dict[str, float]]:
        """One outer step; see `Proximal.outer_step`. The state also holds eta of each adaptation step."""
        penalties = state.get("kl_penalties", [self.kl_penalty] * len(experience.support))
        updated, new_state, metrics = self.outer_step(policy, params, state, experience, penalties)
        results = parallel_map(partial(inner_kls, self.inner, policy, updated), experience.by_chunk)
        kls = ranks.mean(torch.stack(results), experience.all_tasks).tolist()
        if self.adaptive_kl_penalty:
            penalties = [adapted_penalty(eta, kl, self.kl_target) for eta, kl in zip(penalties, kls, strict=True)]
        metrics |= {f"kl_before_step_{k + 1}": kl for k, kl in enumerate(kls)}
        metrics |= {f"kl_penalty_{k + 1}": eta for k, eta in enumerate(penalties)}
        return updated, new_state | {"kl_penalties": penalties}, metrics


def inner_kls(inner: SGD, policy: GaussianMLP, params: Params, task: Experience) -> Tensor:
    """KL(pi_old,ik || pi_ik) of one task before each of the K adaptation steps that start from `params`, (K,)."""
    kls, at = [], expand(params, 1)
    for batch in task.support:
        with torch.no_grad():
            kls.append(mean_kl(policy, at, batch))
        at = inner.step(policy, at, batch)
    return torch.cat(kls) if kls else torch.empty(0)


def adapted_penalty(eta: float, kl: float, target: float) -> float:
    """eta doubled if the KL is above 1.5 target, halved if it is below target / 1.5 (Schulman et al. 2017, sec. 4)."""
    if kl > 1.5 * target:
        return 2 * eta
    return eta / 2 if kl < target / 1.5 else eta
