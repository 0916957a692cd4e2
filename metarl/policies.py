"""The Gaussian MLP policy, as functions of its parameters.

All functions take one set of parameters, shared by all tasks, or one set per task (a leading axis `M` on every
tensor), and act on observations `(M, B, O)`: B states for each of M tasks.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import softplus

from metarl.types import Gaussian, Params

_LOG_2PI = math.log(2 * math.pi)


@dataclass(frozen=True)
class GaussianMLP:
    """a = clip(action_scale * u), u ~ N(mean(o), std): a tanh MLP with a state-independent standard deviation."""

    observation_size: int
    action_size: int
    hidden_sizes: tuple[int, ...] = (64, 64)
    action_scale: float = 0.1
    """Environment action per unit of policy output: with 0.1, exploration starts at a tenth of the action range."""
    initial_std: float = 1.0
    """Standard deviation of the policy output at the start."""
    min_std: float = 1e-3
    """Floor of the standard deviation, approached smoothly so that its gradient never vanishes at once. 0: none."""

    @property
    def layer_sizes(self) -> tuple[int, ...]:
        return (self.observation_size, *self.hidden_sizes, self.action_size)

    def init(self, rng: torch.Generator) -> Params:
        """Xavier-uniform weights, zero biases."""
        params: Params = {}
        for layer, (fan_in, fan_out) in enumerate(zip(self.layer_sizes, self.layer_sizes[1:], strict=False)):
            limit = math.sqrt(6 / (fan_in + fan_out))
            params[f"w{layer}"] = (2 * torch.rand(fan_in, fan_out, generator=rng) - 1) * limit
            params[f"b{layer}"] = torch.zeros(fan_out)
        params["log_std"] = torch.full((self.action_size,), self._initial_log_std())
        return params

    def _initial_log_std(self) -> float:
        """The parameter at which the bent standard deviation is `initial_std`."""
        if self.min_std == 0:
            return math.log(self.initial_std)
        return math.log(self.min_std) + math.log(math.expm1(math.log(self.initial_std / self.min_std)))

    def mean(self, params: Params, observations: Tensor) -> Tensor:
        """(M, B, A) from observations (M, B, O)."""
        hidden = observations
        last = len(self.hidden_sizes)
        for layer in range(last + 1):
            w, b = params[f"w{layer}"], params[f"b{layer}"]
            hidden = torch.baddbmm(b.unsqueeze(-2), hidden, w) if w.ndim == 3 else hidden @ w + b
            if layer < last:
                hidden = torch.tanh(hidden)
        return hidden

    def log_std(self, params: Params) -> Tensor:
        """(A,) or (M, A): the parameter, bent smoothly so that it stays above log(min_std)."""
        raw = params["log_std"]
        if self.min_std == 0:
            return raw
        floor = math.log(self.min_std)
        return floor + softplus(raw - floor)

    def distribution(self, params: Params, observations: Tensor) -> Gaussian:
        """The distribution over outputs at observations (M, E, T, O)."""
        M, E, T, _ = observations.shape
        mean = self.mean(params, observations.flatten(1, 2)).unflatten(1, (E, T))
        return Gaussian(mean, self.log_std(params).expand(M, self.action_size))


def log_prob(policy: Gaussian, actions: Tensor) -> Tensor:
    """log N(actions; mean, std), summed over action dimensions: (M, E, T) from (M, E, T, A)."""
    log_std = policy.log_std[:, None, None, :]
    z = (actions - policy.mean) * torch.exp(-log_std)
    return -0.5 * (z.square() + _LOG_2PI).sum(-1) - log_std.sum(-1)


def kl_divergence(p: Gaussian, q: Gaussian) -> Tensor:
    """KL(p || q) of each state, summed over action dimensions: (M, E, T)."""
    p_log_std, q_log_std = p.log_std[:, None, None, :], q.log_std[:, None, None, :]
    variance_ratio = torch.exp(2 * (p_log_std - q_log_std))
    distance = ((p.mean - q.mean) * torch.exp(-q_log_std)).square()
    return (q_log_std - p_log_std + 0.5 * (variance_ratio + distance - 1)).sum(-1)
