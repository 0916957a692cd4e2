"""Policies to and from Stable-Baselines3, as a model in memory or as a file."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import gymnasium
import numpy as np
import torch
from gymnasium.spaces import Box
from stable_baselines3 import A2C, PPO
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.policies import ActorCriticPolicy
from stable_baselines3.common.torch_layers import FlattenExtractor
from stable_baselines3.common.vec_env import DummyVecEnv, VecEnv
from torch import Tensor, nn

from metarl.errors import UserError, nearest, no_such_file
from metarl.policy_gradient.gaussian_mlp import GaussianMLP
from metarl.sb3.conversion import (
    actor_params,
    actor_state,
    architecture,
    critic_state,
    has_critic,
    one_set,
    units,
)
from metarl.sb3.vec_normalize import read_statistics, statistics_of
from metarl.system.files import check_unpacked, write_atomically
from metarl.types import Params

Kind = Literal["ppo", "a2c"]

_READABLE = "Give a PPO or A2C model with an MlpPolicy, tanh between its layers and Gaussian actions."


def algorithm(kind: Kind) -> type[PPO] | type[A2C]:
    """PPO or A2C. Errors: UserError for another name."""
    if kind not in get_args(Kind):
        raise UserError(f"kind = {kind!r}.{nearest(kind, get_args(Kind))}")
    return PPO if kind == "ppo" else A2C


def to_sb3(
    policy: GaussianMLP, params: Params, env: VecEnv, kind: Kind = "ppo", device: str = "cpu", **options: Any
) -> PPO | A2C:
    """A model of Stable-Baselines3 on `env` whose actor is our policy.

    On a `TaskVecEnv` with the policy's `action_scale`, the model's actions are our policy's outputs. With an action
    range of [-1, 1], the scale is multiplied into the last layer and the standard deviation.

    Args:
        policy: how `params` act. Stable-Baselines3 has no lower bound of the standard deviation.
        params: (...), or (1, ...) of one task. If they include a critic, it becomes the model's; otherwise the model
            has a new one.
        env: where the model is to learn, with an action range from -h to h.
        kind: "ppo" or "a2c".
        device: of PyTorch; small networks are fastest on a CPU.
        options: further arguments of the constructor of PPO or A2C, such as `n_steps`.

    Raises:
        UserError: `params` or `env` do not fit the policy, or there is no such kind.
    """
    params, unit = one_set(policy, params), units(policy, env.action_space)
    if env.observation_space.shape != (policy.observation_size,):
        raise UserError(
            f"the observations are {env.observation_space}: the policy takes {policy.observation_size} numbers"
        )
    kwargs: dict[str, Any] = options.pop("policy_kwargs", {}) | architecture(policy)
    model = algorithm(kind)("MlpPolicy", env, policy_kwargs=kwargs, device=device, **options)
    load(model, policy, params, unit)
    return model


def load(model: PPO | A2C, policy: GaussianMLP, params: Params, unit: Tensor) -> None:
    """Replace the model's parameters by `params`, without a task axis; if they have no critic, the model's is kept.

    unit: as from `conversion.units`.
    """
    state = model.policy.state_dict() | actor_state(policy, params, unit)
    if has_critic(params):
        state |= critic_state(policy, params)
    model.policy.load_state_dict(state)


def export(path: Path | str, policy: GaussianMLP, params: Params, kind: Kind = "ppo") -> None:
    """Write a file for `PPO.load(path)` (or `A2C.load`), which needs Stable-Baselines3 but nothing of this package.

    In the loaded model, `model.predict(observation, deterministic=True)` is the action
    clip(action_scale * mean, -1, 1), and the standard deviation is `action_scale` times the policy's. Arguments as for
    `to_sb3`.

    Raises:
        UserError: `params` do not fit the policy.
        OSError: the file cannot be written; a file that was there before is kept.
    """
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)  # so that a new critic is the same in every file
        model = to_sb3(policy, params, DummyVecEnv([lambda: _Spaces(policy)]), kind)
    content = io.BytesIO()
    model.save(content)
    write_atomically(Path(path), content.getvalue())


class _Spaces(gymnasium.Env):
    """The spaces of a family's observations and actions, which a model is built from; it cannot be stepped."""

    def __init__(self, policy: GaussianMLP) -> None:
        self.observation_space = Box(-np.inf, np.inf, (policy.observation_size,), np.float64)
        self.action_space = Box(-1.0, 1.0, (policy.action_size,), np.float32)


# ------------------------------------------------------------------------------------------------- reading
def read(source: Path | str | BaseAlgorithm, policy: GaussianMLP, statistics: Path | str | None = None) -> Params:
    """The actor of a model of Stable-Baselines3, as parameters of our policy, without a task axis.

    With them, our policy acts as the model does on the same action range; the parameters of a latent variable are not
    among them. A standard deviation below the policy's floor is raised to just above it. No code in a file is ever run.

    Args:
        source: the model, or a file that its `save` wrote.
        policy: with the layer sizes of the model.
        statistics: a file that `VecNormalize.save` wrote, if `source` is a file and its observations were normalized.
            The statistics of a model in memory are read from its environment. VecNormalize also clips observations
            that are, by default, more than ten standard deviations from the mean; our policy does not.

    Raises:
        UserError: a file is missing, damaged or of another program; or the model's policy is not a Gaussian tanh
            network of the policy's layer sizes.
    """
    found = _of_model(source) if isinstance(source, BaseAlgorithm) else _of_file(Path(source))
    _check_kind(found)
    _check_sizes(found, policy)
    params = actor_params(policy, found.state, units(policy, found.action_space))
    if statistics is not None:
        return params | read_statistics(Path(statistics), policy.observation_size)
    if isinstance(source, BaseAlgorithm) and (env := source.get_vec_normalize_env()) is not None:
        return params | statistics_of(env, policy.observation_size)
    return params


@dataclass(frozen=True)
class _Found:
    """What `read` needs to know of a model."""

    where: str
    """The model or its file, for error messages."""
    state: Mapping[str, Tensor]
    module: str
    """The module of its policy's class."""
    activation: str
    extractor: str
    """The class of its feature extractor, which observations pass through first."""
    gsde: bool
    """Whether it uses generalized state-dependent exploration (gSDE)."""
    action_space: object

    def unfit(self, reason: str, way_out: str = _READABLE) -> UserError:
        return UserError(f"{self.where} has another policy than ours: {reason}. {way_out}")


def _of_model(model: BaseAlgorithm) -> _Found:
    return _Found(
        where=f"this {type(model).__name__} model",
        state=model.policy.state_dict(),
        module=type(model.policy).__module__,
        activation=str(getattr(model.policy, "activation_fn", None)),
        extractor=str(getattr(model.policy, "features_extractor_class", None)),
        gsde=model.use_sde,
        action_space=model.action_space,
    )


def _of_file(path: Path) -> _Found:
    if not path.is_file():
        raise no_such_file("model of Stable-Baselines3", path, "*.zip")
    try:
        with path.open("rb") as file, zipfile.ZipFile(file) as archive:
            check_unpacked(archive, path.stat().st_size)
            settings = json.loads(archive.read("data"))  # not strictly: max_grad_norm may be Infinity, for example
            state = _tensors(archive.read("policy.pth"))
        return _Found(
            where=str(path),
            state=dict(state),
            module=settings["policy_class"]["__module__"],
            activation=settings["policy_kwargs"].get("activation_fn", str(nn.Tanh)),
            extractor=settings["policy_kwargs"].get("features_extractor_class", str(FlattenExtractor)),
            gsde=settings["use_sde"],
            action_space=_action_space(settings["action_space"]),
        )
    except Exception as error:  # neither zipfile nor torch promises a type of exception for a foreign file
        raise UserError(
            f"{path} cannot be read as a model of Stable-Baselines3 ({type(error).__name__}: {error}). "
            "Use a file that model.save() wrote."
        ) from error


def _tensors(content: bytes) -> Mapping[str, Tensor]:
    """The parameters in a file that `torch.save` wrote, which is a zip archive itself."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        check_unpacked(archive, len(content))
    state = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    for name, tensor in state.items():
        if not isinstance(tensor, Tensor):
            raise ValueError(f"{name} is not a tensor")
        if tensor.numel() * tensor.element_size() > len(content):
            raise ValueError(f"{name} has shape {tuple(tensor.shape)}, and its numbers are not all in the file")
    return state


def _action_space(described: Mapping[str, Any]) -> object:
    """The Box, from the text that is stored beside its pickle; for a space of another kind, its name."""
    if "low" not in described or len(described["_shape"]) != 1:
        return described[":type:"]
    low, high = (np.array(described[end].strip("[]").split(), np.float32) for end in ("low", "high"))
    return Box(low, high)


def _check_kind(found: _Found) -> None:
    if "action_net.weight" not in found.state:
        raise found.unfit(f"it has no action_net, but {', '.join(_parts(found.state))}")
    if found.module != ActorCriticPolicy.__module__:
        raise found.unfit(f"its class is one of {found.module}, which may act in a way of its own")
    if found.gsde:
        raise found.unfit("its noise depends on the state (use_sde=True)")
    if "log_std" not in found.state:
        raise found.unfit("its actions are not Gaussian: they have no log_std")
    if found.activation != str(nn.Tanh):
        raise found.unfit(f"between its layers is {found.activation}, not tanh")
    if found.extractor != str(FlattenExtractor):
        raise found.unfit(f"observations first pass through {found.extractor}")


def _parts(state: Mapping[str, Tensor]) -> list[str]:
    return sorted({name.rpartition(".")[0] or name for name in state})


def _check_sizes(found: _Found, policy: GaussianMLP) -> None:
    actor = [name for name in found.state if name.startswith("mlp_extractor.policy_net.") and name.endswith("weight")]
    layers = [found.state[name] for name in (*actor, "action_net.weight")]
    sizes = (*(weight.shape[-1] for weight in layers), layers[-1].shape[0])
    if sizes != policy.layer_sizes:
        raise found.unfit(
            f"its layers are {_chain(sizes)}, and ours {_chain(policy.layer_sizes)}",
            f"Give a policy with hidden_sizes = {tuple(sizes[1:-1])} on a robot of its observations and actions.",
        )


def _chain(sizes: tuple[int, ...]) -> str:
    return "-".join(map(str, sizes))
