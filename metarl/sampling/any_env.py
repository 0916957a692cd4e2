"""Whole episodes of one task from any environment of Gymnasium: a single one or a vector environment.

Episodes are played in rounds: all N environments start together, and steps after the end of an episode are ignored. So
the autoreset mode of a vector environment does not matter, and short episodes are not counted more often than long
ones.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, TypeAlias, cast

import gymnasium
import numpy as np
import torch
from gymnasium.spaces import Box
from gymnasium.vector import AutoresetMode, SyncVectorEnv, VectorEnv
from numpy.typing import NDArray

from metarl.errors import UserError
from metarl.policy_gradient.gaussian_mlp import GaussianMLP
from metarl.sampling.lazy_rollout import LazyRollout
from metarl.sampling.protocols import Simulations, TaskVectorEnv
from metarl.sampling.rollout import as_array, draw_latents, rollout
from metarl.seeding import Purpose
from metarl.types import Gaussian, Params, Trajectories

SEEDS = 2**31
"""Seeds of environments are below this, which is the limit of older random generators."""

AnyEnv: TypeAlias = gymnasium.Env[Any, Any] | VectorEnv[Any, Any, Any]


class Episodes:
    """Samples episodes of one task.

    env: an environment whose observations and actions fit the policy. The task of a `TaskVectorEnv` must be set; any
        other environment is assumed to play the same task in every episode.
    policy: the policy that acts.

    Errors: UserError if the spaces do not fit the policy, or if a `TaskVectorEnv` has no task or several.
    """

    def __init__(self, env: AnyEnv, policy: GaussianMLP) -> None:
        self.action_space = fitting_actions(env, policy)
        """The action space, over whose range the policy's [-1, 1] is spread."""
        native = isinstance(env, VectorEnv) and hasattr(env, "set_tasks")
        self._simulations: Simulations = (
            cast(Simulations, env) if native else Lockstep(env, self.action_space, policy.observation_size)
        )
        self._policy = policy
        self._task: Any = None
        if native and not self._simulations.tasks:
            raise UserError("the environment has no task to adapt to: choose one with env.set_tasks([task])")
        self._require_one_task()

    def rounds(self, count: int) -> int:
        """The number of rounds that are needed for this number of episodes."""
        return -(-count // self._simulations.num_envs)

    def collect(
        self,
        params: Params,
        generator: np.random.Generator,
        count: int,
        horizon: int,
        after_each: Callable[[], None] = lambda: None,
    ) -> Trajectories:
        """`count` episodes, (1, E, T, …). Surplus episodes of the last round are left out.

        Args:
            params: (1, …).
            generator: draws the exploration noise and the environment's seeds.
            count: E.
            horizon: T, after which an episode is truncated.
            after_each: called after each round.

        Raises:
            UserError: the environment plays several tasks, or returns something that does not fit its spaces.
            NonFinite: rewards or actions are not finite.
        """
        played, N = [], self._simulations.num_envs
        latents = draw_latents(self._policy, params, [generator], self.rounds(count) * N)
        for i in range(self.rounds(count)):
            own = latents and replace(latents, values=latents.values[:, i * N : (i + 1) * N])
            played.append(rollout(self._simulations, self._policy, params, [generator], horizon, latents=own))
            self._require_one_task()
            after_each()
        return joined(played, count)

    def rollout(
        self,
        params: Params,
        streams: Callable[[Purpose], Sequence[np.random.Generator]],
        count: int,
        horizon: int,
        after_each: Callable[[], None] = lambda: None,
        *,
        gamma: float,
        gae_lambda: float,
    ) -> LazyRollout:
        """The episodes of one adaptation step, sampled when they are first used; arguments as for `collect`."""

        def sample() -> Trajectories:
            (generator,) = streams(Purpose.EVALUATION)
            return self.collect(params, generator, count, horizon, after_each)

        native = not isinstance(self._simulations, Lockstep)
        return LazyRollout(
            sample=sample,
            tasks=[self._task],
            streams=streams,
            simulations=partial(self._simulations_of, count) if native else None,
            horizon=horizon,
            gamma=gamma,
            gae_lambda=gae_lambda,
        )

    def _simulations_of(self, count: int) -> TaskVectorEnv:
        """The environment, for inner learners that step it. Errors: UserError unless it has `count` simulations."""
        env = cast(TaskVectorEnv, self._simulations)
        if env.num_envs != count:
            raise UserError(
                f"the inner learner takes {count} simulations at once, and the environment has {env.num_envs}: "
                f"make it with num_envs={count}, or adapt with episodes={env.num_envs}"
            )
        return env

    def _require_one_task(self) -> None:
        for task in self._simulations.tasks:
            if self._task is None:
                self._task = task
            if task != self._task:
                raise UserError(
                    f"the environment plays several tasks, such as {self._task} and {task}: a policy adapts to one. "
                    "Choose it with env.set_tasks([task]), env.unwrapped.set_task(task), or task=… in gymnasium.make"
                )


def joined(rounds: Sequence[Trajectories], count: int) -> Trajectories:
    """The first `count` episodes of several rounds, sampled with the same parameters."""

    def episodes(name: str) -> torch.Tensor:
        return torch.cat([getattr(each, name) for each in rounds], dim=1)[:, :count]

    means = torch.cat([each.policy.mean for each in rounds], dim=1)[:, :count]
    latents = rounds[0].latents
    if latents is not None:
        values = torch.cat([each.latents.values for each in rounds if each.latents is not None], dim=1)[:, :count]
        latents = replace(latents, values=values, advantages=torch.zeros(values.shape[:2]))
    return Trajectories(
        **{name: episodes(name) for name in ("observations", "actions", "rewards", "discounts", "valid")},
        policy=Gaussian(means, rounds[0].policy.log_std),
        latents=latents,
    )


# -------------------------------------------------------------------------------------------------- spaces
def fitting_actions(env: AnyEnv, policy: GaussianMLP) -> Box:
    """The action space of one environment. Errors: UserError if its spaces do not fit the policy."""
    if isinstance(env, VectorEnv):
        observations, actions = env.single_observation_space, env.single_action_space
    elif isinstance(env, gymnasium.Env):
        observations, actions = env.observation_space, env.action_space
    else:
        raise UserError(f"{env!r} is no environment: give a gymnasium.Env or a gymnasium.vector.VectorEnv")
    wanted = (policy.observation_size,), (policy.action_size,)
    boxes = isinstance(observations, Box) and isinstance(actions, Box)
    if not boxes or (observations.shape, actions.shape) != wanted:
        raise UserError(
            f"the environment observes {observations} and acts by {actions}: the policy was trained with observations "
            f"of shape {wanted[0]} and actions of shape {wanted[1]}. "
            "Wrappers of gymnasium.wrappers, such as FlattenObservation, may make them fit"
        )
    if not (np.issubdtype(actions.dtype, np.floating) and actions.is_bounded()):
        raise UserError(
            f"the environment acts by {actions}: the policy's actions of -1 to 1 are spread over its range, which must "
            "be finite. gymnasium.wrappers.RescaleAction and TransformAction can give it one"
        )
    return actions


def onto(space: Box, commands: NDArray[np.floating]) -> NDArray[np.floating]:
    """Commands (…, A) in [-1, 1], mapped linearly to the range of an action space."""
    low, high = space.low.astype(np.float64), space.high.astype(np.float64)
    return ((low + high) / 2 + (high - low) / 2 * commands).clip(low, high).astype(space.dtype)


# -------------------------------------------------------------------------------------------- environments
class Lockstep:
    """A single environment (N = 1) or a vector of N as simulations of one task, for `rollout`.

    All episodes start together, with a seed from one generator. `step` returns the observation that an action led to,
    also if the vector has started a new episode since.
    """

    def __init__(self, env: AnyEnv, action_space: Box, observation_size: int) -> None:
        vector = isinstance(env, VectorEnv)
        self._env = env if vector else _Single(env)
        self._inner, self._action_space = env.unwrapped, action_space
        self._stops = vector and env.metadata.get("autoreset_mode") is AutoresetMode.DISABLED
        self.num_envs = self._env.num_envs
        self._shape = self.num_envs, observation_size

    @property
    def tasks(self) -> Sequence[Any]:
        """The current tasks, as far as the environments have any and are in this process."""
        if isinstance(self._inner, VectorEnv) and hasattr(self._inner, "set_tasks"):  # a `TaskVectorEnv` below wrappers
            return cast(Simulations, self._inner).tasks
        singles = self._inner.envs if isinstance(self._inner, SyncVectorEnv) else [self._inner]
        robots = [env.unwrapped for env in singles if hasattr(env.unwrapped, "task_space")]
        tasks = [getattr(robot, "task", None) for robot in robots]
        return [task for task in tasks if task is not None]

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Start all episodes; options["generators"] is one generator, which draws the seed."""
        (generator,) = (options or {})["generators"]
        observations, _ = _parts("reset", RESET, self._env.reset(seed=int(generator.integers(SEEDS))))
        return as_array("observation", observations, self._shape), {}

    def step(self, actions: Any) -> tuple[Any, Any, Any, Any, dict[str, Any]]:
        """Apply commands (N, A) in [-1, 1]. info["diverged"] is false: environments end such episodes themselves.

        Errors: UserError if what the environment returns does not follow Gymnasium's interface.
        """
        observed, rewards, *flags, info = _parts("step", STEP, self._env.step(onto(self._action_space, actions)))
        observations = np.array(as_array("observation", observed, self._shape))  # a copy: a reset may overwrite it
        names = "terminated flag", "truncated flag"
        each = self._shape[:1]
        terminated, truncated = (as_array(name, flag, each) != 0 for name, flag in zip(names, flags, strict=True))
        over = terminated | truncated
        if "final_obs" in info:
            observations[over] = np.stack(info["final_obs"][over])
        if self._stops and over.any() and not over.all():
            self._env.reset(options={"reset_mask": over})  # it may not be stepped after its end
        rewards = as_array("reward", rewards, each)
        return observations, rewards, terminated, truncated, {"diverged": np.zeros(self.num_envs, bool)}


RESET, STEP = ("observation", "info"), ("observation", "reward", "terminated", "truncated", "info")
"""What `reset` and `step` return."""


def _parts(method: str, names: tuple[str, ...], returned: Any) -> tuple[Any, ...]:
    """What an environment's method returned. Errors: UserError unless it is a tuple with these parts."""
    if not isinstance(returned, tuple) or len(returned) != len(names):
        found = f"a tuple of {len(returned)}" if isinstance(returned, tuple) else f"a {type(returned).__name__}"
        raise UserError(
            f"the environment's {method} returned {found}: expected a tuple of {len(names)}, ({', '.join(names)}). "
            "An environment of the old Gym can be wrapped by shimmy.GymV21CompatibilityV0 or GymV26CompatibilityV0"
        )
    return returned


class _Single:
    """A single environment with the interface of a vector of one without autoreset."""

    num_envs = 1

    def __init__(self, env: gymnasium.Env[Any, Any]) -> None:
        self._env = env

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        observation, info = _parts("reset", RESET, self._env.reset(seed=seed, options=options))
        return [observation], info

    def step(self, actions: NDArray[np.floating]) -> tuple[Any, Any, Any, Any, dict[str, Any]]:
        observation, reward, terminated, truncated, _ = _parts("step", STEP, self._env.step(actions[0]))
        return [observation], [reward], [terminated], [truncated], {}
