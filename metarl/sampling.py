"""Episodes of all tasks at once: one stacked policy forward and one native simulation step for all M*E robots."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from metarl.errors import SimulationDiverged
from metarl.policies import GaussianMLP
from metarl.tasks import TaskVectorEnv
from metarl.types import Gaussian, Params, Trajectories

MAX_DIVERGED_FRACTION = 0.1
"""More diverged simulations than this in one rollout stop the run: something is wrong with the model or the policy."""


def rollout(
    env: TaskVectorEnv,
    policy: GaussianMLP,
    params: Params,
    generators: Sequence[np.random.Generator],
    horizon: int,
) -> Trajectories:
    """One episode on each of the N = M*E simulations of `env`, whose tasks are set.

    Args:
        env: batched environment without autoreset; simulation m*E + e plays episode e of task m.
        policy: how to act.
        params: one set of parameters per task, (M, ...).
        generators: one random stream per task; it draws the task's exploration noise and its initial states.
        horizon: T; shorter episodes are padded.

    Returns:
        Trajectories (M, E, T, ...).

    Raises:
        SimulationDiverged: more than a tenth of the simulations diverged.
    """
    M, N, T, A = len(generators), env.num_envs, horizon, policy.action_size
    E = N // M
    noise = exploration_noise(generators, E, T, A)
    observations = torch.empty(N, T + 1, policy.observation_size)
    means, actions = torch.zeros(N, T, A), torch.zeros(N, T, A)
    rewards, discounts, valid = np.zeros((N, T)), np.ones((N, T)), np.zeros((N, T))
    live, diverged = np.ones(N, bool), np.zeros(N, bool)

    with torch.inference_mode():
        log_std = policy.log_std(params)  # (M, A)
        std = log_std.exp().unsqueeze(1)
        observation, _ = env.reset(options={"generators": list(generators)})
        observations[:, 0] = torch.from_numpy(observation)
        for t in range(T):
            mean = policy.mean(params, observations[:, t].view(M, E, -1))  # (M, E, A)
            action = torch.addcmul(mean, std, noise[:, :, t])
            means[:, t], actions[:, t] = mean.view(N, A), action.view(N, A)
            env_action = (action.view(N, A) * policy.action_scale).clamp(-1, 1).numpy()
            observation, rewards[:, t], terminated, truncated, info = env.step(env_action)
            observations[:, t + 1] = torch.from_numpy(observation)
            valid[:, t] = live
            discounts[:, t] = ~terminated
            diverged |= info["diverged"]
            live &= ~(terminated | truncated)
            if not live.any():
                observations[:, t + 2 :] = observations[:, t + 1 : t + 2]
                break

    _report_divergence(env, diverged, E)
    valid[diverged] = 0
    rewards[diverged] = 0

    def by_task(flat: Tensor) -> Tensor:
        return flat.view(M, E, *flat.shape[1:])

    return Trajectories(
        observations=by_task(observations),
        actions=by_task(actions),
        rewards=by_task(torch.from_numpy(rewards).float()),
        discounts=by_task(torch.from_numpy(discounts).float()),
        valid=by_task(torch.from_numpy(valid).float()),
        policy=Gaussian(by_task(means), log_std.clone()),
    )


def exploration_noise(generators: Sequence[np.random.Generator], episodes: int, horizon: int, size: int) -> Tensor:
    """Standard normal noise of a whole rollout, (M, E, T, A): each task's own stream draws its share at once."""
    draws = [g.standard_normal((episodes, horizon, size), dtype=np.float32) for g in generators]
    return torch.from_numpy(np.stack(draws))


def _report_divergence(env: TaskVectorEnv, diverged: NDArray[np.bool_], episodes: int) -> None:
    """Say which tasks' simulations blew up; refuse to go on with too many."""
    if not diverged.any():
        return
    affected = sorted({env.tasks[n // episodes] for n in np.flatnonzero(diverged)}, key=str)
    message = f"{diverged.sum()} of {diverged.size} simulations diverged, of tasks {affected[:5]}"
    if diverged.mean() > MAX_DIVERGED_FRACTION:
        raise SimulationDiverged(
            f"{message}. More than {MAX_DIVERGED_FRACTION:.0%} is too many to learn from: "
            "try a smaller inner step size, a smaller max_kl or a smaller action_scale."
        )
    warnings.warn(f"{message}; these episodes are left out", stacklevel=3)
