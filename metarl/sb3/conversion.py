"""Conversion between our `Params` and the state of Stable-Baselines3's `ActorCriticPolicy`.

| `GaussianMLP` with L hidden layers | `ActorCriticPolicy` |
|---|---|
| `w0` (in, out), `b0` (out,), … | `mlp_extractor.policy_net.0.weight` (out, in), `.bias`, …: layer l at 2 l |
| `wL`, `bL` | `action_net.weight`, `.bias` |
| `log_std`, the parameter of `GaussianMLP.log_std` | `log_std`, the logarithm itself |
| `value.w0`, `value.b0`, … | `mlp_extractor.value_net.0`, … |
| `value.wL`, `value.bL` | `value_net` |

Mean and standard deviation on the right are those on the left times a unit: the action in Stable-Baselines3 that
corresponds to an output of 1 of our policy.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from itertools import pairwise

import numpy as np
import torch
from gymnasium.spaces import Box
from torch import Tensor, nn

from metarl.errors import UserError
from metarl.policy_gradient import normalizer
from metarl.policy_gradient.gaussian_mlp import LATENT_MEAN, LATENT_WEIGHTS, GaussianMLP, at_latent_mean
from metarl.types import Params

CRITIC = "value."
"""Prefix of the names of the critic's parameters."""


def architecture(policy: GaussianMLP) -> dict[str, object]:
    """`policy_kwargs` for an actor with the policy's layers, and a critic with the same hidden layers."""
    hidden = list(policy.hidden_sizes)
    return {"net_arch": {"pi": hidden, "vf": hidden}, "activation_fn": nn.Tanh}


def actor_modules(policy: GaussianMLP) -> list[str]:
    """The names of the policy's linear layers in Stable-Baselines3, from first to last."""
    return [*(f"mlp_extractor.policy_net.{2 * layer}" for layer in range(len(policy.hidden_sizes))), "action_net"]


def critic_modules(policy: GaussianMLP) -> list[str]:
    """The names of the critic's linear layers in Stable-Baselines3, from first to last."""
    return [*(f"mlp_extractor.value_net.{2 * layer}" for layer in range(len(policy.hidden_sizes))), "value_net"]


def units(policy: GaussianMLP, space: object) -> Tensor:
    """action_scale * h, (A,): the actions in a Box from -h to h that correspond to policy outputs of 1.

    Errors: UserError if `space` is not such a Box, of the policy's dimensions.
    """
    if not isinstance(space, Box) or space.shape != (policy.action_size,) or not _symmetric(space):
        raise UserError(
            f"the action space is {space}: expected a Box from -h to h in {policy.action_size} dimensions. "
            "gymnasium.wrappers.RescaleAction makes one."
        )
    return torch.from_numpy(space.high.astype(np.float64)) * policy.action_scale


def _symmetric(space: Box) -> bool:
    return bool(np.isfinite(space.high).all() and (space.high == -space.low).all() and (space.high > 0).all())


def actor_state(policy: GaussianMLP, params: Params, unit: Tensor) -> dict[str, Tensor]:
    """The actor's part of the state, from `params` without a task axis; unit: (A,), as from `units`."""
    state = _state(folded(params), "", actor_modules(policy))
    state["action_net.weight"] *= unit[:, None]
    state["action_net.bias"] *= unit
    state["log_std"] = policy.log_std({"log_std": params["log_std"].double()}) + unit.log()
    return state


def critic_state(policy: GaussianMLP, params: Params) -> dict[str, Tensor]:
    """The critic's part of the state."""
    return _state(folded(params, CRITIC), CRITIC, critic_modules(policy))


def actor_params(policy: GaussianMLP, state: Mapping[str, Tensor], unit: Tensor) -> Params:
    """The inverse of `actor_state`. A standard deviation below the policy's floor is raised to just above it."""
    params = _params(state, "", actor_modules(policy))
    last = len(policy.hidden_sizes)
    params[f"w{last}"] = (params[f"w{last}"] / unit).float()
    params[f"b{last}"] = (params[f"b{last}"] / unit).float()
    params["log_std"] = policy.raw_log_std(state["log_std"].double() - unit.log()).float()
    return params


def critic_params(policy: GaussianMLP, state: Mapping[str, Tensor]) -> Params:
    """The inverse of `critic_state`."""
    return _params(state, CRITIC, critic_modules(policy))


def folded(params: Params, prefix: str = "") -> Params:
    """The same network as a function of observations that are not normalized, and of nothing else.

    In its first layer, w (o - mean) / std + b = (w / std) o + b - (w / std) mean. A latent variable is at its mean.
    """
    params = params if prefix else at_latent_mean(params)
    if normalizer.MEAN not in params:
        return params
    w, b = (params[f"{prefix}{name}"].double() for name in ("w0", "b0"))
    mean, std = (params[name].double() for name in (normalizer.MEAN, normalizer.STD))
    w = w / std.unsqueeze(-1)
    return params | {f"{prefix}w0": w.float(), f"{prefix}b0": (b - mean @ w).float()}


def initial_critic(policy: GaussianMLP, rng: torch.Generator) -> Params:
    """A new critic, initialized as in Stable-Baselines3: orthogonal weights, with gain √2 but 1 in the last layer."""
    sizes = (*policy.layer_sizes[:-1], 1)
    params: Params = {}
    for layer, (fan_in, fan_out) in enumerate(pairwise(sizes)):
        gain = 1.0 if layer == len(policy.hidden_sizes) else math.sqrt(2)
        weight = nn.init.orthogonal_(torch.empty(fan_out, fan_in), gain, generator=rng)
        params[f"{CRITIC}w{layer}"], params[f"{CRITIC}b{layer}"] = weight.T.contiguous(), torch.zeros(fan_out)
    return params


def one_set(policy: GaussianMLP, params: Params) -> Params:
    """`params`, (...) or (1, ...) of one task, without a task axis and detached.

    Errors: UserError for parameters of several tasks, or of another policy.
    """
    if "log_std" in params and params["log_std"].ndim == 2:
        if (tasks := len(params["log_std"])) != 1:
            raise UserError(
                f"the parameters of {tasks} tasks were given: choose one, {{name: p[m] for name, p in params.items()}}"
            )
        params = {name: p[0] for name, p in params.items()}
    _check_shapes(policy, params)
    return {name: p.detach() for name, p in params.items()}


def has_critic(params: Params) -> bool:
    """Whether `params` include a critic."""
    return f"{CRITIC}w0" in params


def _check_shapes(policy: GaussianMLP, params: Params) -> None:
    expected = _shapes("", policy.layer_sizes) | {"log_std": (policy.action_size,)}
    if L := policy.latent_size:
        expected |= {LATENT_MEAN: (L,), LATENT_WEIGHTS: (L, policy.layer_sizes[1])}
    if has_critic(params):
        expected |= _shapes(CRITIC, (*policy.layer_sizes[:-1], 1))
    found = {name: tuple(p.shape) for name, p in normalizer.without(params).items()}
    for name in expected.keys() | found.keys():
        if found.get(name) != expected.get(name):
            raise UserError(
                f"the parameter {name} has the shape {found.get(name)}, in the policy {expected.get(name)} "
                f"(observation {policy.observation_size}, hidden {policy.hidden_sizes}, action {policy.action_size}): "
                "give the parameters together with the policy that they belong to"
            )


def _shapes(prefix: str, sizes: tuple[int, ...]) -> dict[str, tuple[int, ...]]:
    layers = list(enumerate(pairwise(sizes)))
    weights = {f"{prefix}w{layer}": size for layer, size in layers}
    return weights | {f"{prefix}b{layer}": size[1:] for layer, size in layers}


def _state(params: Params, prefix: str, modules: list[str]) -> dict[str, Tensor]:
    state = {f"{module}.weight": params[f"{prefix}w{layer}"].T.clone() for layer, module in enumerate(modules)}
    return state | {f"{module}.bias": params[f"{prefix}b{layer}"].clone() for layer, module in enumerate(modules)}


def _params(state: Mapping[str, Tensor], prefix: str, modules: list[str]) -> Params:
    params: Params = {}
    for layer, module in enumerate(modules):
        params[f"{prefix}w{layer}"] = state[f"{module}.weight"].detach().T.clone(memory_format=torch.contiguous_format)
        params[f"{prefix}b{layer}"] = state[f"{module}.bias"].detach().clone()
    return params
