"""Few-shot regression of sinusoids, the smallest problem for MAML and Reptile.

Every task is a sinusoid y = A sin(x + phase) with A in [0.1, 5], phase in [0, pi] and x in [-5, 5] (Finn et al. 2017;
Nichol et al. 2018 take phases up to 2 pi). The network sees a few points of one sinusoid and has to predict the rest.
The code that adapts and meta-learns policies is used for it, with squared errors in place of returns and points in
place of episodes. The axes are `M` tasks and `P` points.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from metarl.policy_gradient.mlp import init_mlp, layer_names, mlp
from metarl.types import Params

AMPLITUDE, PHASE, DOMAIN = (0.1, 5.0), (0.0, math.pi), (-5.0, 5.0)


@dataclass(frozen=True)
class Examples:
    """P labelled points of each of M tasks: the `Data` of the losses below."""

    inputs: Tensor
    """(M, P, I)"""
    targets: Tensor
    """(M, P, O)"""

    def __post_init__(self) -> None:
        if self.inputs.ndim != 3 or self.inputs.shape[:2] != self.targets.shape[:2] or self.targets.ndim != 3:
            raise ValueError(f"inputs {tuple(self.inputs.shape)} and targets {tuple(self.targets.shape)} are not of "
                             "shapes (M, P, I) and (M, P, O)")  # fmt: skip

    @property
    def num_tasks(self) -> int:
        return len(self.inputs)

    @property
    def chunks(self) -> list[slice]:
        """One chunk with all tasks, since they are small."""
        return [slice(0, self.num_tasks)]

    def tasks(self, chosen: slice) -> Examples:
        """The part that belongs to the chosen tasks."""
        return Examples(self.inputs[chosen], self.targets[chosen])


@dataclass(frozen=True)
class RegressionMLP:
    """A ReLU network whose loss is the mean squared error: a `Model` without actions."""

    hidden_sizes: tuple[int, ...] = (40, 40)
    input_size: int = 1
    output_size: int = 1

    @property
    def names(self) -> tuple[str, ...]:
        """The names of all parameters."""
        return tuple(name for layer in range(len(self.hidden_sizes) + 1) for name in layer_names(layer))

    @property
    def head(self) -> tuple[str, ...]:
        """The names of the parameters of the last layer."""
        return layer_names(len(self.hidden_sizes))

    def init(self, rng: torch.Generator) -> Params:
        """Xavier-uniform weights, zero biases."""
        return init_mlp((self.input_size, *self.hidden_sizes, self.output_size), rng)

    def predict(self, params: Params, inputs: Tensor) -> Tensor:
        """Outputs (M, P, O) at inputs (M, P, I)."""
        return mlp(params, inputs, len(self.hidden_sizes) + 1, torch.relu)

    def inner_losses(self, params: Params, batch: Examples, loss: str = "") -> Tensor:
        """Mean squared error of each task, (M,); `loss` is not used, as there is only this one."""
        return (self.predict(params, batch.inputs) - batch.targets).square().mean((1, 2))

    def outer_losses(self, params: Params, batch: Examples) -> Tensor:
        """Mean squared error of each task, (M,)."""
        return self.inner_losses(params, batch)


@dataclass(frozen=True)
class Sinusoids:
    """The sinusoids of M tasks."""

    amplitude: Tensor
    """(M,)"""
    phase: Tensor
    """(M,) [rad]"""

    @classmethod
    def sample(cls, n: int, rng: np.random.Generator) -> Sinusoids:
        """`n` sinusoids with independent uniform amplitudes and phases."""
        return cls(*(torch.from_numpy(rng.uniform(*r, size=n).astype(np.float32)) for r in (AMPLITUDE, PHASE)))

    def examples(self, points: int, rng: np.random.Generator) -> Examples:
        """`points` points of each sinusoid, at independent uniform inputs."""
        size = (len(self.amplitude), points, 1)
        return self.at(torch.from_numpy(rng.uniform(*DOMAIN, size=size).astype(np.float32)))

    def at(self, inputs: Tensor) -> Examples:
        """The points of each sinusoid at inputs (M, P, 1)."""
        return Examples(inputs, self.amplitude[:, None, None] * torch.sin(inputs + self.phase[:, None, None]))
