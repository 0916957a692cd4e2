"""The data of the two loops, and the names of their axes.

`M` tasks, `E` episodes per task, `T` steps (horizon), `O` observation, `A` action, `K` adaptation steps.
Simulations are numbered from 0 to N - 1, `N = M * E`: simulation `n = m * E + e` plays episode `e` of task `m`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, Protocol, Self

import torch
from torch import Tensor

Params = dict[str, Tensor]
"""Parameters by name: shared by all tasks `(...)`, or one set per task `(M, ...)`. Never changed in place."""

AlgorithmState = dict[str, Any]
"""What an algorithm keeps from one outer step to the next, such as the moments of Adam: tensors and plain data."""


def _check_shapes(owner: object, axes: Mapping[str, str], sizes: dict[str, int]) -> None:
    """Raise ValueError unless each tensor has the axes in `axes`, such as MET, and each letter has one size."""
    for name, letters in axes.items():
        tensor = getattr(owner, name)
        spelled = f"{type(owner).__name__}.{name} has shape {tuple(tensor.shape)}, not ({', '.join(letters)})"
        if tensor.ndim != len(letters):
            raise ValueError(spelled)
        for letter, size in zip(letters, tensor.shape, strict=True):
            if sizes.setdefault(letter, size) != size:
                raise ValueError(f"{spelled} with {letter} = {sizes[letter]}")


class Data(Protocol):
    """The data of M tasks from which losses are computed: episodes (`Batch`) or labelled examples."""

    @property
    def num_tasks(self) -> int: ...

    @property
    def chunks(self) -> list[slice]:
        """Slices of tasks that are computed together."""
        ...

    def tasks(self, chosen: slice) -> Self:
        """The data of the chosen tasks."""
        ...


class Model(Protocol):
    """A model that adapts. Its losses (M,) are functions of parameters (M, ...), one set per task, and of data."""

    @property
    def names(self) -> tuple[str, ...]:
        """The parameters that the losses depend on. The dictionary may have others, such as learned step sizes."""
        ...

    @property
    def head(self) -> tuple[str, ...]:
        """The parameters of the last layer."""
        ...

    def inner_losses(self, params: Params, batch: Any, loss: str) -> Tensor:
        """The losses (M,) that an adaptation step descends; `loss` names one of several."""
        ...

    def outer_losses(self, params: Params, batch: Any) -> Tensor:
        """The losses (M,) that are to be low after adaptation."""
        ...


@dataclass(frozen=True)
class Gaussian:
    """The diagonal Gaussian of the policy's outputs, for each state of a batch."""

    mean: Tensor
    """(M, E, T, A)"""
    log_std: Tensor
    """(M, A): it does not depend on the state."""


@dataclass(frozen=True)
class Latents:
    """The latent variables z of E episodes of each of M tasks, drawn from N(mean, I)."""

    values: Tensor
    """(M, E, L)"""
    mean: Tensor
    """(M, L)"""
    advantages: Tensor
    """(M, E): the returns of the episodes, standardized over each task's; 0 as long as they are not known."""

    def log_probs(self, mean: Tensor | None = None) -> Tensor:
        """log N(z; mean, I), (M, E), at another mean (M, L) or that of the draws."""
        mean = self.mean if mean is None else mean
        return -0.5 * ((self.values - mean.unsqueeze(1)).square() + math.log(2 * math.pi)).sum(-1)

    def tasks(self, chosen: slice) -> Latents:
        """The latents of the chosen tasks."""
        return Latents(self.values[chosen], self.mean[chosen], self.advantages[chosen])


@dataclass(frozen=True)
class Trajectories:
    """E episodes of each of M tasks. Raises ValueError if the shapes do not fit."""

    observations: Tensor
    """(M, E, T+1, O), normalized if the policy does so; the last one follows the last action."""
    actions: Tensor
    """(M, E, T, A): policy outputs, before scaling and clipping to the environment's range."""
    rewards: Tensor
    """(M, E, T)"""
    discounts: Tensor
    """(M, E, T): 0 where the episode terminated, 1 elsewhere. A time limit is no termination."""
    valid: Tensor
    """(M, E, T): 1 for a step that was taken, 0 after the end of an episode and for a diverged simulation."""
    policy: Gaussian
    """The distribution that the actions were drawn from."""
    latents: Latents | None = None
    """The latent variable of each episode; None for episodes without exploration by one."""

    def __post_init__(self) -> None:
        sizes: dict[str, int] = {}
        _check_shapes(self, {"rewards": "MET", "discounts": "MET", "valid": "MET", "actions": "META"}, sizes)
        _check_shapes(self.policy, {"mean": "META", "log_std": "MA"}, sizes)
        M, E, T = self.rewards.shape
        if self.observations.shape[:3] != (M, E, T + 1):
            raise ValueError(
                f"Trajectories.observations has shape {tuple(self.observations.shape)}, "
                f"not ({M}, {E}, {T} + 1, O): one more than rewards"
            )

    @property
    def returns(self) -> Tensor:
        """(M, E): the undiscounted sum of rewards of each episode; NaN for a diverged simulation."""
        total = (self.rewards * self.valid).sum(-1)
        return torch.where(self.valid.any(-1), total, torch.nan)

    @property
    def environment_steps(self) -> int:
        """Number of steps that were taken."""
        return int(self.valid.sum())


@dataclass(frozen=True)
class Batch:
    """What a policy gradient needs of the trajectories of M tasks. Raises ValueError if the shapes do not fit."""

    observations: Tensor
    """(M, E, T, O)"""
    actions: Tensor
    """(M, E, T, A)"""
    advantages: Tensor
    """(M, E, T)"""
    valid: Tensor
    """(M, E, T)"""
    log_probs: Tensor
    """(M, E, T): log-probability of the actions under the policy that drew them."""
    policy: Gaussian
    """That policy's distribution."""
    returns: Tensor
    """(M,): mean reward of the steps that were taken, divided by the standard deviation of the advantages before they
    were standardized; 0 without any step."""
    latents: Latents | None = None
    """The latent variable of each episode, with advantages; None for episodes without exploration by one."""

    def __post_init__(self) -> None:
        sizes: dict[str, int] = {}
        axes = {
            "advantages": "MET",
            "valid": "MET",
            "log_probs": "MET",
            "actions": "META",
            "observations": "METO",
            "returns": "M",
        }
        _check_shapes(self, axes, sizes)
        _check_shapes(self.policy, {"mean": "META", "log_std": "MA"}, sizes)

    @property
    def num_tasks(self) -> int:
        return self.advantages.shape[0]

    @property
    def chunks(self) -> list[slice]:
        """The tasks one by one: the activations of one task fit a processor's cache."""
        return [slice(m, m + 1) for m in range(self.num_tasks)]

    def tasks(self, chosen: slice) -> Batch:
        """The batch of the chosen tasks."""
        policy = Gaussian(self.policy.mean[chosen], self.policy.log_std[chosen])
        own = {f.name: getattr(self, f.name)[chosen] for f in fields(self) if f.name not in ("policy", "latents")}
        return Batch(**own, policy=policy, latents=self.latents and self.latents.tasks(chosen))

    def every(self, stride: int) -> Batch:
        """Every `stride`-th step of each episode."""
        policy = replace(self.policy, mean=self.policy.mean[:, :, ::stride])
        whole = ("policy", "returns", "latents")
        own = {f.name: getattr(self, f.name)[:, :, ::stride] for f in fields(self) if f.name not in whole}
        return Batch(**own, policy=policy, returns=self.returns, latents=self.latents)


@dataclass(frozen=True)
class Experience:
    """The data of one outer step."""

    support: tuple[Any, ...]
    """K batches of M tasks, each collected before one of the adaptation steps."""
    adapted: Params
    """(M, ...): the parameters after the last of them."""
    query: Any = None
    """The batch collected with the adapted parameters; None for an algorithm that does not use it."""
    of_tasks: int = 0
    """Number of tasks of all ranks together (see `metarl.system.ranks`), M of which are this rank's; 0: M."""

    @property
    def num_tasks(self) -> int:
        return len(next(iter(self.adapted.values())))

    @property
    def all_tasks(self) -> int:
        """Number of tasks of all ranks together."""
        return self.of_tasks or self.num_tasks

    @property
    def chunks(self) -> list[slice]:
        """Slices of tasks that are computed together."""
        return (self.query or self.support[0]).chunks

    @property
    def by_chunk(self) -> list[Experience]:
        """The experience of each chunk of tasks."""
        return [
            Experience(
                tuple(batch.tasks(chunk) for batch in self.support),
                {name: p[chunk] for name, p in self.adapted.items()},
                self.query and self.query.tasks(chunk),
            )
            for chunk in self.chunks
        ]
