"""The Gaussian MLP policy, as functions of its parameters.

Parameters are one set, shared by all tasks, or one set per task, with a leading axis `M` on every tensor. Batches hold
observations that are already normalized (see `metarl.policy_gradient.normalizer`), so all functions but `command` take
normalized ones.
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
from metarl.types import Batch, Gaussian, Latents, Params

NEAREST_TO_FLOOR = 1e-3
"""`raw_log_std` returns parameters whose log_std is at least this far above its floor. Closer to the floor, log_std has
nearly no gradient with respect to the parameter."""

LATENT_MEAN, LATENT_WEIGHTS = "latent_mean", "latent_weights"
"""The parameters of a policy with a latent variable: mean of the variable, (L,), and its weights in the first layer."""

_LOG_2PI = math.log(2 * math.pi)


@dataclass(frozen=True)
class GaussianMLP:
    """a = clip(action_scale * u, -1, 1), u ~ N(mean(o), std): a tanh MLP with a standard deviation for all states."""

    observation_size: int
    action_size: int
    hidden_sizes: tuple[int, ...] = (64, 64)
    action_scale: float = 0.1
    """Action of the environment per unit of policy output: with 0.1, exploration starts at a tenth of its range."""
    initial_std: float = 1.0
    """Standard deviation of the policy output at the start."""
    min_std: float = 1e-3
    """Lower bound of the standard deviation, approached smoothly, since a clamp has no gradient below it; 0: none."""
    normalize_observations: bool = False
    """Whether `init` adds statistics of observations, which training updates: see `policy_gradient.normalizer`."""
    latent_size: int = 0
    """L, size of a latent variable z ~ N(latent_mean, I) that the network observes beside the state; 0: none.

    To explore, z is drawn once per episode, so that episodes differ as wholes and their returns tell which z suits the
    task. Otherwise z = latent_mean, which adaptation changes (structured exploration, Gupta et al. 2018)."""

    @property
    def layer_sizes(self) -> tuple[int, ...]:
        return (self.observation_size, *self.hidden_sizes, self.action_size)

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the parameters that have a gradient: weights, biases, log_std, and those of the latent."""
        layers = (name for layer in range(len(self.hidden_sizes) + 1) for name in layer_names(layer))
        return (*layers, "log_std", *((LATENT_MEAN, LATENT_WEIGHTS) if self.latent_size else ()))

    @property
    def head(self) -> tuple[str, ...]:
        """The names of the parameters of the last layer, and of the latent mean."""
        return (*layer_names(len(self.hidden_sizes)), *((LATENT_MEAN,) if self.latent_size else ()))

    def init(self, rng: torch.Generator) -> Params:
        """New parameters without a task axis: Xavier-uniform weights, zero biases, and log_std of `initial_std`.

        The mean of a latent variable is zero. Its weights are so large that it counts as much as all observations
        together: with small ones, training tends to leave it unused.
        """
        initial = torch.full((self.action_size,), math.log(self.initial_std), dtype=torch.float64)
        params = init_mlp(self.layer_sizes, rng) | {"log_std": self.raw_log_std(initial).float()}
        if L := self.latent_size:
            std = params["w0"].std() * math.sqrt(self.observation_size / L)
            weights = std * torch.randn(L, self.layer_sizes[1], generator=rng)
            params |= {LATENT_MEAN: torch.zeros(L), LATENT_WEIGHTS: weights}
        return params | (normalizer.initial(self.observation_size) if self.normalize_observations else {})

    def acting(self, params: Params) -> Params:
        """The parameters that `command` depends on: those of `names`, and the statistics of observations, if any."""
        return {name: params[name] for name in (*self.names, *normalizer.NAMES) if name in params}

    def mean(self, params: Params, observations: Tensor, latents: Tensor | None = None) -> Tensor:
        """Mean outputs (M, B, A) at normalized observations (M, B, O).

        Args:
            latents: z, (M, B, L); None for latent_mean.
        """
        if self.latent_size:
            z = params[LATENT_MEAN].unsqueeze(-2) if latents is None else latents
            observations = torch.cat([observations, z.expand(*observations.shape[:-1], -1)], -1)
            params = params | {"w0": torch.cat([params["w0"], params[LATENT_WEIGHTS]], -2)}
        return mlp(params, observations, len(self.hidden_sizes) + 1, torch.tanh)

    def log_std(self, params: Params) -> Tensor:
        """floor + softplus(params["log_std"] - floor), with floor = log(min_std): (A,) or (M, A)."""
        raw = params["log_std"]
        if self.min_std == 0:
            return raw
        floor = math.log(self.min_std)
        return floor + softplus(raw - floor)

    def raw_log_std(self, log_std: Tensor) -> Tensor:
        """The inverse of `log_std`: the value of params["log_std"] that gives `log_std`, of the same shape.

        No parameter gives the floor itself. A `log_std` below floor + NEAREST_TO_FLOOR is raised to that.
        """
        if self.min_std == 0:
            return log_std
        floor = math.log(self.min_std)
        above = (log_std - floor).clamp(min=NEAREST_TO_FLOOR)
        return floor + above + torch.log(-torch.expm1(-above))

    def command(self, params: Params, observations: Tensor, noise: Tensor | None = None) -> Tensor:
        """Actions of the environment in [-1, 1], (M, B, A).

        Args:
            params: with the statistics of observations, if there are any.
            observations: of the environment, not normalized, (M, B, O).
            noise: standard normal, (M, B, A); None for the deterministic action clip(action_scale * mean, -1, 1).
        """
        output = self.mean(params, normalizer.normalized(params, observations))
        if noise is not None:
            output = output + self.log_std(params).exp().unsqueeze(-2) * noise
        return to_command(output, self.action_scale)

    def distribution(self, params: Params, observations: Tensor, latents: Latents | None = None) -> Gaussian:
        """The distribution of outputs at normalized observations (M, E, T, O), in episodes with these latents."""
        M, E, T, _ = observations.shape
        z = None if latents is None else latents.values.repeat_interleave(T, dim=1)
        mean = self.mean(params, observations.flatten(1, 2), z).unflatten(1, (E, T))
        return Gaussian(mean, self.log_std(params).expand(M, self.action_size))

    def inner_losses(self, params: Params, batch: Batch, loss: str) -> Tensor:
        """The loss of an adaptation step for each task, (M,): `loss` is a name in `INNER_LOSSES`.

        If the episodes have latents, it is the sum of two: that of the actions given z, and that of z, which is one
        draw per episode with the episode's return as its advantage.
        """
        losses = INNER_LOSSES[loss](self.log_probs(params, batch), batch.log_probs, batch.advantages, batch.valid)
        if batch.latents is None:
            return losses
        drawn = (batch.latents.log_probs(params[LATENT_MEAN]), batch.latents.log_probs(), batch.latents.advantages)
        played = batch.valid.amax(-1, keepdim=True)
        return losses + INNER_LOSSES[loss](*(each.unsqueeze(-1) for each in drawn), played)

    def outer_losses(self, params: Params, batch: Batch) -> Tensor:
        """Minus the surrogate, -mean[pi / pi_old A], of each task, (M,)."""
        return self.inner_losses(params, batch, "ratio")

    def clipped_losses(self, params: Params, batch: Batch, clip_range: float) -> Tensor:
        """Minus the clipped surrogate of PPO for each task, (M,); see `losses.clipped`."""
        return clipped(self.log_probs(params, batch), batch.log_probs, batch.advantages, batch.valid, clip_range)

    def log_probs(self, params: Params, batch: Batch) -> Tensor:
        """Log-probabilities of the actions in a batch, (M, E, T)."""
        return log_prob(self.distribution(params, batch.observations, batch.latents), batch.actions)


def at_latent_mean(params: Params) -> Params:
    """The parameters, (...), of a policy without a latent variable that acts as these do at z = latent_mean."""
    if LATENT_MEAN not in params:
        return params
    kept = {name: p for name, p in params.items() if name not in (LATENT_MEAN, LATENT_WEIGHTS)}
    return kept | {"b0": params["b0"] + params[LATENT_MEAN] @ params[LATENT_WEIGHTS]}


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
