"""Trials of several episodes on one task, as a `VecEnv` for recurrent policies (RL²)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import gymnasium
import numpy as np
import torch
from gymnasium.spaces.utils import flatdim
from numpy.typing import NDArray
from stable_baselines3.common.vec_env.base_vec_env import VecEnvStepReturn

from metarl.errors import UserError
from metarl.policy_gradient.gaussian_mlp import to_command
from metarl.sampling.protocols import TaskVectorEnv
from metarl.sb3.vec_env import TaskVecEnv


class TrialVecEnv(TaskVecEnv):
    """N simulations, each of which plays one trial after another: K episodes on a task, then K on a new one.

    For Stable-Baselines3 a trial is an episode: `done` marks its end, so that a recurrent policy keeps its memory
    through all episodes of the trial. So that it can tell the task, it observes (N, O + A + 2): the observation, the
    previous action (clipped, as the robot got it), the previous reward, and 1 in the first step of an episode that
    follows another one of the trial (Duan et al. 2016, "RL²: Fast reinforcement learning via slow reinforcement
    learning"). At the start of a trial the last A + 2 are 0.

    The infos of a simulation whose trial ends are those of `TaskVecEnv`, where return and length are of the trial, and
    `returns` (K,), the return of each episode. `TimeLimit.truncated` says whether the last one ended by the time limit.

    Args:
        env, action_scale: as for `TaskVecEnv`.
        episodes: K.
        draw: number of trials that begin -> their tasks, in the order of the simulations.

    Errors: UserError as of `TaskVecEnv`, or for fewer than one episode.
    """

    def __init__(
        self, env: TaskVectorEnv, episodes: int, draw: Callable[[int], Sequence[Any]], action_scale: float = 1.0
    ) -> None:
        if episodes < 1:
            raise UserError(f"episodes = {episodes}: a trial has at least one")
        super().__init__(env, action_scale)
        sizes = flatdim(env.single_observation_space), flatdim(env.single_action_space)
        self.observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (sum(sizes) + 2,), np.float64)
        self._nothing = np.zeros((self.num_envs, sizes[1] + 2))  # before the first step of a trial
        self.episodes = episodes
        self._draw = draw
        self._tasks: list[Any] = []
        self._episode = np.zeros(self.num_envs, int)  # the number of the current one within the trial
        self._of_episodes = np.zeros((self.num_envs, episodes))  # their returns so far

    def reset(self) -> NDArray[np.floating]:
        """Start all trials, on new tasks."""
        self._tasks = list(self._draw(self.num_envs))
        self.env.set_tasks(self._tasks)
        observation = super().reset()
        self._episode[:], self._of_episodes[:] = 0, 0
        return np.column_stack([observation, self._nothing])

    def step_wait(self) -> VecEnvStepReturn:
        command = to_command(torch.as_tensor(self._actions), self.action_scale).numpy()
        observation, reward, terminated, truncated, info = self.env.step(command)
        self._returns += reward
        self._lengths += 1
        self._of_episodes[np.arange(self.num_envs), self._episode] += reward
        ended = terminated | truncated
        done = ended & (self._episode == self.episodes - 1)
        before = np.column_stack([command, reward, ended & ~done])
        infos: list[dict[str, Any]] = [{} for _ in range(self.num_envs)]
        if ended.any():
            self._count_diverged(info["diverged"])
            self._finish(np.flatnonzero(done), np.column_stack([observation, before]), truncated & ~terminated, infos)
            for n in np.flatnonzero(done):
                infos[n]["returns"] = self._of_episodes[n].copy()
            observation = self._begin(ended, done)
        before[done] = 0
        return np.column_stack([observation, before]), reward.astype(np.float32), done, infos

    def _begin(self, ended: NDArray[np.bool_], done: NDArray[np.bool_]) -> NDArray[np.floating]:
        """Start the next episodes of the simulations that `ended`, on new tasks where a trial is `done`."""
        self._episode[ended] += 1
        if done.any():
            self._episode[done], self._of_episodes[done] = 0, 0
            for n, task in zip(np.flatnonzero(done), self._draw(int(done.sum())), strict=True):
                self._tasks[n] = task
            self.env.set_tasks(self._tasks)
        return self.env.reset(options={"reset_mask": ended})[0]
