"""A vector environment of tasks as a `VecEnv` of Stable-Baselines3."""

from __future__ import annotations

import time
import warnings
from collections.abc import Sequence
from typing import Any, NoReturn

import gymnasium
import numpy as np
import torch
from gymnasium.vector import AutoresetMode
from numpy.typing import NDArray
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import VecEnv
from stable_baselines3.common.vec_env.base_vec_env import VecEnvIndices, VecEnvStepReturn

from metarl.errors import UserError
from metarl.policy_gradient import normalizer
from metarl.policy_gradient.gaussian_mlp import to_command
from metarl.sampling.protocols import TaskVectorEnv
from metarl.types import Params


class TaskVecEnv(VecEnv):
    """N simulations of a family for any algorithm of Stable-Baselines3, stepped together.

    A simulation whose episode ends is reset within the same step. Its info then holds `terminal_observation` (O,),
    `TimeLimit.truncated`, and `episode` with return `r`, length `l` and time `t` [s], as a `Monitor` writes them;
    all other infos are empty. The tasks are those of `env`: set them with `env.set_tasks`, or let every reset draw
    them. A simulation that diverges counts as terminated.

    PyTorch is set to one thread for the whole process: with networks this small, `learn` takes up to 20 times as long
    on several threads. For large networks, call `torch.set_num_threads` afterwards.

    Args:
        env: vector environment of tasks, without autoreset; it is closed with this environment.
        action_scale: s. The action space is [-1/s, 1/s], and an action u is passed to `env` as clip(s u, -1, 1). With
            s = `GaussianMLP.action_scale`, actions here are outputs of our policy.
        reward_scale: factor on the rewards that an algorithm learns from. The returns in infos do not include it.

    Errors: UserError if `env` is not such a family, or a scale is not positive.
    """

    def __init__(self, env: TaskVectorEnv, action_scale: float = 1.0, reward_scale: float = 1.0) -> None:
        mode = getattr(env, "metadata", {}).get("autoreset_mode")
        if not hasattr(env, "set_tasks") or mode != AutoresetMode.DISABLED:
            raise UserError(
                f"{env} is not a vector environment of tasks without autoreset: make one by "
                "gymnasium.make_vec('envs:metarl/HalfCheetahVel-v0', num_envs=20)"
            )
        if not action_scale > 0:
            raise UserError(
                f"action_scale = {action_scale}: expected a positive number, 1.0 for the range of the environment"
            )
        if not reward_scale > 0:
            raise UserError(f"reward_scale = {reward_scale}: expected a positive number, 1.0 for the family's rewards")
        torch.set_num_threads(1)
        self.env = env
        self.action_scale = action_scale
        self.reward_scale = reward_scale
        self.diverged = 0
        """Number of episodes that ended with a diverged simulation since the last `reset`."""
        single = env.single_action_space
        assert single.shape is not None
        actions = gymnasium.spaces.Box(-1 / action_scale, 1 / action_scale, single.shape, np.float32)
        super().__init__(env.num_envs, env.single_observation_space, actions)
        self.statistics: Params = {}
        """Statistics that observations are normalized with, as by `policy_gradient.normalizer`; {}: they are not."""
        self.observed: list[NDArray[np.floating]] | None = None
        """If this is a list, the observations (N, O) of every step are appended to it."""
        self._started = time.perf_counter()  # [s]
        self._actions = np.zeros((self.num_envs, *single.shape), np.float32)
        self._returns = np.zeros(self.num_envs)
        self._lengths = np.zeros(self.num_envs, int)

    def reset(self) -> NDArray[np.floating]:
        """Start all episodes; returns observations (N, O). After `seed(s)`, simulation n has the seed s + n."""
        observation, _ = self.env.reset(seed=self._seeds[0])
        self._reset_seeds()
        self._returns[:], self._lengths[:], self.diverged = 0, 0, 0
        return self._normalized(observation)

    def _normalized(self, observation: NDArray[np.floating]) -> NDArray[np.floating]:
        """Observations (N, O), normalized if there are statistics."""
        if not self.statistics:
            return observation
        return normalizer.normalized(self.statistics, torch.from_numpy(observation).float()).numpy()

    def step_async(self, actions: NDArray[np.floating]) -> None:
        self._actions = actions

    def step_wait(self) -> VecEnvStepReturn:
        command = to_command(torch.as_tensor(self._actions), self.action_scale).numpy()
        observation, reward, terminated, truncated, info = self.env.step(command)
        observation = self._normalized(observation)
        self._returns += reward
        self._lengths += 1
        done = terminated | truncated
        infos: list[dict[str, Any]] = [{} for _ in range(self.num_envs)]
        if done.any():
            self._count_diverged(info["diverged"])
            self._finish(np.flatnonzero(done), observation, truncated & ~terminated, infos)
            observation = self._normalized(self.env.reset(options={"reset_mask": done})[0])
        if self.observed is not None:
            self.observed.append(observation)
        return observation, (self.reward_scale * reward).astype(np.float32), done, infos

    def _finish(
        self,
        ended: NDArray[np.integer],
        observation: NDArray[np.floating],
        timed_out: NDArray[np.bool_],
        infos: list[dict[str, Any]],
    ) -> None:
        """Fill the infos of the simulations whose episodes `ended`, and reset their returns and lengths."""
        elapsed = round(time.perf_counter() - self._started, 6)
        for n, last in zip(ended.tolist(), observation[ended], strict=True):
            infos[n] = {
                "terminal_observation": last,
                "TimeLimit.truncated": bool(timed_out[n]),
                "episode": {"r": float(self._returns[n]), "l": int(self._lengths[n]), "t": elapsed},
            }
        self._returns[ended], self._lengths[ended] = 0, 0

    def _count_diverged(self, diverged: NDArray[np.bool_]) -> None:
        if not diverged.any():
            return
        if not self.diverged:
            tasks = self.env.tasks
            task = tasks[int(np.argmax(diverged)) * len(tasks) // self.num_envs]
            warnings.warn(
                f"a simulation of {task} diverged: its episode counts as terminated. "
                "More that diverge before the next reset are counted in `diverged` and not reported.",
                stacklevel=4,
            )
        self.diverged += int(diverged.sum())

    def close(self) -> None:
        self.env.close()

    # -------------------------------------------------------------------------- attributes of the environment
    def get_attr(self, attr_name: str, indices: VecEnvIndices = None) -> list[Any]:
        """The environment's attribute, once for each index: the simulations have none of their own."""
        return [getattr(self.env, attr_name)] * len(self._chosen(indices))

    def set_attr(self, attr_name: str, value: Any, indices: VecEnvIndices = None) -> None:
        """Set an attribute that the environment has. Errors: UserError for a part of the simulations only."""
        self._require_all(f"set {attr_name!r}", indices)
        if attr_name in ("task", "tasks"):
            raise UserError("the tasks of all simulations are set together: call env_method('set_tasks', [task])")
        getattr(self.env, attr_name)  # raises AttributeError for a misspelt name
        setattr(self.env, attr_name, value)

    def get_images(self) -> NoReturn:
        """Errors: UserError always; a vector environment cannot be rendered."""
        raise UserError(
            "a vector environment draws no pictures: make one robot with gymnasium.make(id, render_mode='rgb_array')"
        )

    def env_method(
        self, method_name: str, *method_args: Any, indices: VecEnvIndices = None, **kwargs: Any
    ) -> list[Any]:
        """Call the environment's method once; its result, once for each simulation. Errors: as in `set_attr`."""
        self._require_all(f"call {method_name!r}", indices)
        return [getattr(self.env, method_name)(*method_args, **kwargs)] * self.num_envs

    def env_is_wrapped(self, wrapper_class: type[gymnasium.Wrapper], indices: VecEnvIndices = None) -> list[bool]:
        """True for `Monitor`, whose infos are written here; simulations have no other wrapper."""
        return [wrapper_class is Monitor] * len(self._chosen(indices))

    def set_options(self, options: list[dict] | dict | None = None) -> None:
        """Errors: UserError for any option; options of a reset are those of the environment."""
        if options:
            raise UserError(f"single simulations take no options of their own: call env.reset(options={options!r})")

    def _chosen(self, indices: VecEnvIndices) -> Sequence[int]:
        return list(self._get_indices(indices))

    def _require_all(self, action: str, indices: VecEnvIndices) -> None:
        if indices is not None and sorted(set(self._chosen(indices))) != list(range(self.num_envs)):
            raise UserError(
                f"cannot {action} for the simulations {indices} alone: all {self.num_envs} are stepped together. "
                "Leave out indices."
            )
