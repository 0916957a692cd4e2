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

from metarl.policy_gradient import normalizer
from metarl.policy_gradient.losses import INNER_LOSSES, clipped
from metarl.policy_gradient.mlp import init_mlp, layer_names, mlp
from metarl.types import Batch, Gaussian, Params

NEAREST_TO_FLOOR = 1e-3
"""So near to the floor of its logarithm a standard deviation can be set; nearer, its gradient would vanish."""

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

    normalize_observations: bool = False
    """Begin with statistics of observations, which training then keeps: see `metarl.policy_gradient.normalizer`."""

    @property
    def layer_sizes(self) -> tuple[int, ...]:
        return (self.observation_size, *self.hidden_sizes, self.action_size)

    @property
    def names(self) -> tuple[str, ...]:
        """The parameters that the policy acts with."""
        return (*(name for layer in range(len(self.hidden_sizes) + 1) for name in layer_names(layer)), "log_std")

    @property
    def head(self) -> tuple[str, ...]:
        """Those of the last layer."""
        return layer_names(len(self.hidden_sizes))

    def init(self, rng: torch.Generator) -> Params:
        """Xavier-uniform weights, zero biases."""
        initial = torch.full((self.action_size,), math.log(self.initial_std), dtype=torch.float64)
        params = init_mlp(self.layer_sizes, rng) | {"log_std": self.raw_log_std(initial).float()}
        return params | (normalizer.initial(self.observation_size) if self.normalize_observations else {})

    def acting(self, params: Params) -> Params:
        """What `command` depends on: the parameters of `names`, and the statistics of observations where there are."""
        return {name: params[name] for name in (*self.names, *normalizer.NAMES) if name in params}

    def mean(self, params: Params, observations: Tensor) -> Tensor:
        """(M, B, A) from normalized observations (M, B, O)."""
        return mlp(params, observations, len(self.hidden_sizes) + 1, torch.tanh)

    def log_std(self, params: Params) -> Tensor:
        """(A,) or (M, A): the parameter, bent smoothly so that it stays above log(min_std)."""
        raw = params["log_std"]
        if self.min_std == 0:
            return raw
        floor = math.log(self.min_std)
        return floor + softplus(raw - floor)

    def raw_log_std(self, log_std: Tensor) -> Tensor:
        """The inverse of `log_std`: the parameter at which the bent logarithm is `log_std`.

        No parameter reaches the floor. What lies below NEAREST_TO_FLOOR above it is taken to lie there.
        """
        if self.min_std == 0:
            return log_std
        floor = math.log(self.min_std)
        above = (log_std - floor).clamp(min=NEAREST_TO_FLOOR)
        return floor + above + torch.log(-torch.expm1(-above))

    def command(self, params: Params, observations: Tensor, noise: Tensor | None = None) -> Tensor:
        """Actions of the environment in [-1, 1], (M, B, A), from its observations (M, B, O).

        noise: standard normal, (M, B, A); None for the deterministic action clip(action_scale * mean).
        """
        output = self.mean(params, normalizer.normalized(params, observations))
        if noise is not None:
            output = output + self.log_std(params).exp().unsqueeze(-2) * noise
        return to_command(output, self.action_scale)

    def distribution(self, params: Params, observations: Tensor) -> Gaussian:
        """The distribution over outputs at normalized observations (M, E, T, O)."""
        M, E, T, _ = observations.shape
        mean = self.mean(params, observations.flatten(1, 2)).unflatten(1, (E, T))
        return Gaussian(mean, self.log_std(params).expand(M, self.action_size))

    def inner_losses(self, params: Params, batch: Batch, loss: str) -> Tensor:
        """The policy-gradient loss that an inner step descends, (M,), at one set of parameters per task."""
        return INNER_LOSSES[loss](self.log_probs(params, batch), batch.log_probs, batch.advantages, batch.valid)

    def outer_losses(self, params: Params, batch: Batch) -> Tensor:
        """Minus the surrogate mean[pi / pi_old A] of each task, (M,)."""
        return self.inner_losses(params, batch, "ratio")

    def clipped_losses(self, params: Params, batch: Batch, clip_range: float) -> Tensor:
        """Minus the clipped surrogate of each task, (M,)."""
        return clipped(self.log_probs(params, batch), batch.log_probs, batch.advantages, batch.valid, clip_range)

    def log_probs(self, params: Params, batch: Batch) -> Tensor:
        """Of the actions of a batch, (M, E, T)."""
        return log_prob(self.distribution(params, batch.observations), batch.actions)


def to_command(outputs: Tensor, action_scale: float) -> Tensor:
    """Actions of the environment, clip(action_scale * u) in [-1, 1], from policy outputs u of any shape."""
    return (outputs * action_scale).clamp(-1, 1)


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
