"""Episodes of all tasks at once: in each step, one forward pass and one simulation step for all M*E robots."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from metarl.errors import NonFinite, SimulationDiverged, UserError, shortened
from metarl.parameters import select
from metarl.policy_gradient import normalizer
from metarl.policy_gradient.gaussian_mlp import LATENT_MEAN, GaussianMLP, to_command
from metarl.sampling.protocols import Simulations
from metarl.types import Gaussian, Latents, Params, Trajectories

MAX_DIVERGED_FRACTION = 0.1
"""Largest fraction of diverged simulations in a rollout with which a run goes on."""

LARGEST_SUM = 1e38
"""Largest sum of absolute rewards in one rollout, so that no sum of them overflows a float32."""

TOO_MANY = f"More than {MAX_DIVERGED_FRACTION:.0%} is too many to learn from"

NAMED = 3
"""Most tasks with diverged simulations that a message names."""


def rollout(
    env: Simulations,
    policy: GaussianMLP,
    params: Params,
    generators: Sequence[np.random.Generator],
    horizon: int,
    *,
    latents: Latents | None = None,
    deterministic: bool = False,
    of_tasks: int = 0,
) -> Trajectories:
    """One episode on each of the N = M*E simulations of `env`, whose tasks are set.

    Args:
        env: vector environment without autoreset; simulation m*E + e plays episode e of task m.
        policy: the policy that acts.
        params: one set of parameters per task, (M, ...).
        generators: one random stream per task, which draws its exploration noise and its initial states.
        horizon: T; shorter episodes are padded.
        latents: of each episode, as from `draw_latents`, to explore; None to act with the policy's latent mean.
        deterministic: act by the mean, from the same initial states. Such episodes only measure a policy: to learn from
            them would be wrong, because their actions are not drawn from the recorded distribution.
        of_tasks: number of tasks of all ranks together (0: M); a tenth of all their simulations may diverge.

    Returns:
        Trajectories (M, E, T, ...).

    Raises:
        SimulationDiverged: more than a tenth of the simulations diverged.
        NonFinite: an action or a reward is not finite, or the rewards are too large for float32.
        UserError: the environment returns something of the wrong shape or type.
    """
    M, N, A = len(generators), env.num_envs, policy.action_size
    if N % M:
        raise ValueError(f"{M} tasks cannot share num_envs = {N} simulations evenly")
    noise = exploration_noise(generators, N // M, horizon, A)  # drawn also if unused: initial states come after it
    with torch.no_grad():
        # Task by task: within a batch, the last bit of a floor of the deviation may depend on the place of its task.
        log_std = torch.cat([policy.log_std(select(params, slice(m, m + 1))) for m in range(M)])  # (M, A)
        std = log_std.exp().unsqueeze(1) * (not deterministic)  # (M, 1, A)
        observation, _ = env.reset(options={"generators": list(generators)})

        def normalized(observation: Any) -> Tensor:
            """(N, O)"""
            rows = as_array("observation", observation, (N, policy.observation_size))
            return normalizer.normalized(params, torch.from_numpy(rows).float().unflatten(0, (M, -1))).flatten(0, 1)

        recording = Recording(normalized(observation), horizon, A)
        for t in range(horizon):
            observed = recording.observations[:, t].unflatten(0, (M, -1))  # (M, E, O)
            mean = policy.mean(params, observed, None if latents is None else latents.values)  # (M, E, A)
            action = torch.addcmul(mean, std, noise[:, :, t])
            _require_finite(action, f"actions at step {t}, and so the policy's parameters or its observations,")
            command = to_command(action.flatten(0, 1), policy.action_scale).numpy()
            observation, *outcome = env.step(command)
            recording.write(t, mean.flatten(0, 1), action.flatten(0, 1), normalized(observation), *outcome)
            if not recording.live.any():
                break
    _report_divergence(env.tasks, recording.diverged, generators, of=N * max(of_tasks, M) // M)
    return replace(recording.trajectories(log_std, env.tasks), latents=latents)


class Recording:
    """What N simulations did in T steps."""

    def __init__(self, observation: Tensor, horizon: int, action_size: int) -> None:
        N, T = len(observation), horizon
        self.observations = torch.zeros(N, T + 1, observation.shape[1])
        self.observations[:, 0] = observation
        self._means, self._actions = torch.zeros(N, T, action_size), torch.zeros(N, T, action_size)
        self._rewards, self._discounts, self._valid = np.zeros((N, T)), np.ones((N, T)), np.zeros((N, T), bool)
        self.live = np.ones(N, bool)
        """(N,): whether the episode goes on."""
        self.diverged = np.zeros(N, bool)
        """(N,): whether the simulation became unstable."""

    def write(
        self,
        t: int,
        mean: Tensor,
        action: Tensor,
        observation: Tensor,
        reward: Any,
        terminated: Any,
        truncated: Any,
        info: dict[str, Any],
    ) -> None:
        """Record step t: mean and action (N, A) of the policy, the next normalized observation (N, O), and what else
        the environment's `step` returned."""
        self._means[:, t], self._actions[:, t] = mean, action
        self.observations[:, t + 1] = observation
        self._rewards[:, t] = as_array("reward", reward, (len(self.live),))
        self._discounts[:, t], self._valid[:, t] = ~terminated, self.live
        self.diverged |= info["diverged"] & self.live
        self.live &= ~(terminated | truncated)

    def trajectories(self, log_std: Tensor, tasks: Sequence[Any] = ()) -> Trajectories:
        """The trajectories (M, E, T, …), with zeros for diverged episodes.

        Args:
            log_std: (M, A) of the policy that acted.
            tasks: the M tasks, to name them in errors.
        """

        def by_task(flat: Tensor) -> Tensor:
            return flat.unflatten(0, (len(log_std), -1))

        left_out = torch.from_numpy(self.diverged)
        for recorded in (self.observations, self._means, self._actions):
            recorded[left_out] = 0
        valid = torch.from_numpy(self._valid & ~self.diverged[:, None])

        rewards = by_task(torch.from_numpy(self._rewards).float().where(valid, 0))
        _require_finite(rewards, "rewards", tasks)
        _require_summable(rewards, tasks)
        return Trajectories(
            observations=by_task(self.observations),
            actions=by_task(self._actions),
            rewards=rewards,
            discounts=by_task(torch.from_numpy(self._discounts).float()),
            valid=by_task(valid.float()),
            policy=Gaussian(by_task(self._means), log_std),
        )


def exploration_noise(generators: Sequence[np.random.Generator], episodes: int, horizon: int, size: int) -> Tensor:
    """Standard normal noise of a whole rollout, (M, E, T, A): each task's stream draws its part at once."""
    draws = [g.standard_normal((episodes, horizon, size), dtype=np.float32) for g in generators]
    return torch.from_numpy(np.stack(draws))


def draw_latents(
    policy: GaussianMLP, params: Params, generators: Sequence[np.random.Generator], episodes: int
) -> Latents | None:
    """The latent variables of E episodes of each task, to explore with; None for a policy without one.

    Each is N(latent_mean, I). The E draws of a task are stratified: in each dimension, one from each of E parts of
    equal probability, in random order. So also a few episodes try the whole range.
    """
    if not policy.latent_size:
        return None
    shape = (episodes, policy.latent_size)
    parts = [g.permuted(np.tile(np.arange(episodes), (shape[1], 1)), axis=1).T + g.random(shape) for g in generators]
    noise = torch.special.ndtri(torch.from_numpy(np.stack(parts) / episodes).clamp(1e-9, 1 - 1e-9)).float()
    mean = params[LATENT_MEAN].detach()
    return Latents(mean.unsqueeze(1) + noise, mean, torch.zeros(noise.shape[:2]))


def as_array(name: str, value: Any, shape: tuple[int, ...]) -> NDArray[np.floating]:
    """What an environment returned, as numbers of this shape. Errors: UserError if it is anything else."""
    numbers = as_numbers(value)
    if numbers is None:
        raise UserError(
            f"the environment returned the {name} {shortened(repr(value), 80)}: expected numbers of shape {shape}"
        )
    if numbers.shape != shape:
        raise UserError(
            f"the environment returned {name}s of shape {numbers.shape}: expected {shape}, the first axis for its "
            f"{shape[0]} simulations"
        )
    return numbers


def as_numbers(value: Any) -> NDArray[np.floating] | None:
    """The value as an array of floating point numbers; None if it is none."""
    try:
        array = np.asarray(value)
    except ValueError:  # rows of different lengths
        return None
    if array.dtype.kind == "f":
        return array
    return array.astype(np.float64) if array.dtype.kind in "iub" else None


def _require_finite(values: Tensor, what: str, tasks: Sequence[Any] = ()) -> None:
    """Raise NonFinite if values (M, ...) are not finite."""
    if not torch.isfinite(values).all():
        m = int((~torch.isfinite(values)).flatten(1).any(1).nonzero()[0])
        raise NonFinite(f"the {what} of task {_named(m, tasks)} are not finite")


def _require_summable(rewards: Tensor, tasks: Sequence[Any]) -> None:
    """Raise NonFinite if a sum of rewards (M, ...) could overflow."""
    sums = rewards.double().abs().flatten(1).sum(1)  # (M,)
    if sums.sum() > LARGEST_SUM:
        m = int(sums.argmax())
        raise NonFinite(
            f"the rewards of task {_named(m, tasks)} are too large: their sum is {sums[m].item():.1e} in absolute "
            f"value, and float32 ends at {torch.finfo(torch.float32).max:.1e}. Scale them down in the environment"
        )


def _named(m: int, tasks: Sequence[Any]) -> str:
    """The number and the label of a task."""
    return f"{m} ({shortened(str(getattr(tasks[m], 'label', tasks[m])))})" if m < len(tasks) else f"{m}"


def require_few_diverged(returns: Tensor) -> None:
    """Raise SimulationDiverged if more than a tenth of all returns (M, E) are NaN, those of diverged simulations."""
    diverged = int(returns.isnan().sum())
    if diverged > MAX_DIVERGED_FRACTION * returns.numel():
        raise SimulationDiverged(f"{diverged} of {returns.numel()} simulations diverged. {TOO_MANY}")


def _report_divergence(
    tasks: Sequence[Any], diverged: NDArray[np.bool_], generators: Sequence[np.random.Generator], of: int
) -> None:
    """Warn of diverged simulations, with tasks and random streams; raise SimulationDiverged for too many `of` all."""
    if not diverged.any():
        return
    affected = np.unique(np.flatnonzero(diverged) * len(generators) // diverged.size)
    named = [f"{tasks[m]} with the random stream {_address(generators[m])}" for m in affected]
    more = f" and {len(named) - NAMED} more tasks" if len(named) > NAMED else ""
    message = f"{diverged.sum()} of {of} simulations diverged: {'; '.join(named[:NAMED])}{more}"
    if diverged.sum() > MAX_DIVERGED_FRACTION * of:
        raise SimulationDiverged(f"{message}. {TOO_MANY}")
    warnings.warn(f"{message}; these episodes are left out", stacklevel=3)


def _address(generator: np.random.Generator) -> Any:
    """The address of a stream of `metarl.seeding`: (seed, purpose, iteration, phase, task)."""
    return getattr(generator.bit_generator.seed_seq, "entropy", "of unknown origin")
