"""The data of the two loops, and the one legend of axes.

`M` tasks, `E` episodes per task, `T` steps (horizon), `O` observation, `A` action, `K` adaptation steps.
A batch of simulations is flat, `N = M * E`: simulation `n = m * E + e` plays episode `e` of task `m`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, Protocol, Self

import torch
from torch import Tensor

Params = dict[str, Tensor]
"""Parameters are values: a name for each tensor. Shared by all tasks `(...)`, or one set per task `(M, ...)`."""

AlgorithmState = dict[str, Any]
"""What an algorithm remembers from one outer step to the next, such as the moments of Adam: tensors and plain data."""


def _check_shapes(owner: object, axes: Mapping[str, str], sizes: dict[str, int]) -> None:
    """Raise ValueError unless each named tensor has the axes spelled in `axes`; letters agree across tensors."""
    for name, letters in axes.items():
        tensor = getattr(owner, name)
        spelled = f"{type(owner).__name__}.{name} has shape {tuple(tensor.shape)}, not ({', '.join(letters)})"
        if tensor.ndim != len(letters):
            raise ValueError(spelled)
        for letter, size in zip(letters, tensor.shape, strict=True):
            if sizes.setdefault(letter, size) != size:
                raise ValueError(f"{spelled} with {letter} = {sizes[letter]}")


class Data(Protocol):
    """What the losses of M tasks are computed from: episodes (`Batch`) or labelled examples."""

    @property
    def num_tasks(self) -> int: ...

    @property
    def chunks(self) -> list[slice]:
        """The tasks that are worked on at once, chunk by chunk."""
        ...

    def tasks(self, chosen: slice) -> Self:
        """The part that belongs to the chosen tasks."""
        ...


class Model(Protocol):
    """What adapts. Its losses are functions of one set of parameters per task, (M, ...), and of their data: (M,)."""

    @property
    def names(self) -> tuple[str, ...]:
        """The parameters that the losses depend on. The dictionary may hold others, such as learned step sizes."""
        ...

    @property
    def head(self) -> tuple[str, ...]:
        """Those of the last layer."""
        ...

    def inner_losses(self, params: Params, batch: Any, loss: str) -> Tensor:
        """What an adaptation step descends; where there are several, `loss` names one."""
        ...

    def outer_losses(self, params: Params, batch: Any) -> Tensor:
        """What is to be low after adaptation."""
        ...


@dataclass(frozen=True)
class Gaussian:
    """A diagonal Gaussian over policy outputs, for each state of a batch."""

    mean: Tensor
    """(M, E, T, A)"""
    log_std: Tensor
    """(M, A): it does not depend on the state."""


@dataclass(frozen=True)
class Trajectories:
    """What E episodes of each of M tasks looked like."""

    observations: Tensor
    """(M, E, T+1, O), normalized where the policy does so: the last one is what the final action led to."""
    actions: Tensor
    """(M, E, T, A): policy outputs, before scaling and clipping to the environment's range."""
    rewards: Tensor
    """(M, E, T)"""
    discounts: Tensor
    """(M, E, T): 0 where the episode terminated, 1 elsewhere. A time limit is no termination."""
    valid: Tensor
    """(M, E, T): 1 for a step that was really taken, 0 for padding after the end or a diverged simulation."""
    policy: Gaussian
    """The distribution that the actions were drawn from."""

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
        """(M, E): the undiscounted sum of rewards of each episode; NaN for one that was left out."""
        total = (self.rewards * self.valid).sum(-1)
        return torch.where(self.valid.any(-1), total, torch.nan)

    @property
    def environment_steps(self) -> int:
        """Number of steps that were really taken."""
        return int(self.valid.sum())


@dataclass(frozen=True)
class Batch:
    """What a policy gradient needs of the trajectories of M tasks."""

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
    """(M,): mean return per step of the horizon, in the unit of the advantages: their deviation before scaling."""

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
        """The tasks one by one: the activations of one fit a processor's cache."""
        return [slice(m, m + 1) for m in range(self.num_tasks)]

    def tasks(self, chosen: slice) -> Batch:
        """The part of the batch that belongs to the chosen tasks."""
        policy = Gaussian(self.policy.mean[chosen], self.policy.log_std[chosen])
        own = {f.name: getattr(self, f.name)[chosen] for f in fields(self) if f.name != "policy"}
        return Batch(**own, policy=policy)

    def every(self, stride: int) -> Batch:
        """Every `stride`-th step of each episode, for estimates on a subsample."""
        policy = replace(self.policy, mean=self.policy.mean[:, :, ::stride])
        whole = ("policy", "returns")
        own = {f.name: getattr(self, f.name)[:, :, ::stride] for f in fields(self) if f.name not in whole}
        return Batch(**own, policy=policy, returns=self.returns)


@dataclass(frozen=True)
class Experience:
    """What one outer step learns from."""

    support: tuple[Any, ...]
    """K batches of M tasks, each collected before one of the adaptation steps."""
    adapted: Params
    """(M, ...): the parameters after the last of them."""
    query: Any = None
    """The batch that was collected with the adapted parameters; None for an algorithm that does not use it."""

    @property
    def num_tasks(self) -> int:
        return len(next(iter(self.adapted.values())))

    @property
    def chunks(self) -> list[slice]:
        """The tasks that are worked on at once, chunk by chunk."""
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
