"""PPO or A2C of Stable-Baselines3, unmodified, as the learner that adapts to one task."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from stable_baselines3.common.logger import Logger
from torch import Tensor

from metarl.errors import NonFinite, SimulationDiverged, UserError
from metarl.policy_gradient import normalizer
from metarl.policy_gradient.gaussian_mlp import GaussianMLP
from metarl.policy_gradient.normalizer import Moments
from metarl.sampling.protocols import TaskVectorEnv
from metarl.sampling.rollout import MAX_DIVERGED_FRACTION
from metarl.sb3.conversion import (
    actor_params,
    critic_params,
    has_critic,
    one_set,
    units,
)
from metarl.sb3.metrics import Metrics
from metarl.sb3.models import Kind, load, to_sb3
from metarl.sb3.vec_env import TaskVecEnv
from metarl.system.threads import on_one_thread
from metarl.types import Params


@dataclass(frozen=True)
class Learned:
    """The result of learning on one task for a number of rollouts."""

    params: list[Params]
    """The parameters after each rollout and its update, with the names and shapes of those at the start."""
    returns: list[float]
    """For each rollout, the mean undiscounted return of the episodes that ended in it; NaN if none did."""
    environment_steps: int
    """Steps of all simulations and rollouts together."""
    observed: Moments
    """Moments of the observations, as the policy normalized them."""


class TaskLearner:
    """Adapts a policy and its critic to one task at a time.

    In every rollout, each of the E simulations of `env` takes `horizon` steps, from the state in which the previous
    rollout left it. Then PPO or A2C updates the parameters. Nothing is carried from one call of `learn` to the next:
    its result is a function of the parameters, the task and the random stream.

    Args:
        kind: "ppo" or "a2c".
        policy: how parameters act. PPO and A2C learn the logarithm of the standard deviation without the policy's
            floor. In the parameters that are returned, a standard deviation below the floor is raised to just above it.
        env: E simulations; between two calls of `learn` it may be used for something else.
        horizon: steps per simulation and rollout; rollouts are whole episodes if it is the family's time limit.
        gamma, gae_lambda: discount per step, and lambda of generalized advantage estimation.
        learning_rate: of Adam (PPO) or RMSProp (A2C).
        epochs, minibatches, clip_range: PPO's passes over a rollout, the equal parts of a pass, and the clipping of the
            probability ratio. A2C takes one step on the whole rollout.
        reward_scale: factor on the rewards that are learned from; `Learned.returns` do not depend on it. Choose one
            that brings discounted returns to about 1: Stable-Baselines3 clips the gradients of actor and critic
            together, and with returns in the tens or hundreds nearly all of the clipped gradient is the critic's.
        log: called after each rollout with the metrics of Stable-Baselines3, as `Metrics` names them, and the number of
            environment steps since the start of `learn`.

    Errors: UserError for a horizon below 1, or a rollout that cannot be divided into the minibatches.
    """

    def __init__(
        self,
        kind: Kind,
        policy: GaussianMLP,
        env: TaskVectorEnv,
        *,
        horizon: int,
        gamma: float = 0.99,
        gae_lambda: float = 0.95,
        learning_rate: float = 3e-4,
        epochs: int = 10,
        minibatches: int = 4,
        clip_range: float = 0.2,
        reward_scale: float = 1.0,
        log: Callable[[dict[str, float], int], None] | None = None,
    ) -> None:
        if horizon < 1:
            raise UserError(f"horizon = {horizon}: a rollout takes at least one step per simulation")
        self.steps = env.num_envs * horizon
        """Environment steps of one rollout."""
        options: dict[str, Any] = {"learning_rate": learning_rate, "gamma": gamma, "gae_lambda": gae_lambda}
        if kind == "ppo":
            size = minibatch_size(self.steps, minibatches)
            options |= {"batch_size": size, "n_epochs": epochs, "clip_range": clip_range}
        self._policy, self._env = policy, TaskVecEnv(env, policy.action_scale, reward_scale)
        self._unit = units(policy, self._env.action_space)
        with torch.random.fork_rng(devices=[]), on_one_thread():  # the model draws weights that `learn` replaces
            start = policy.init(torch.Generator().manual_seed(0))
            window = self.steps  # no more episodes can end in a rollout
            self._model = to_sb3(policy, start, self._env, kind, n_steps=horizon, stats_window_size=window, **options)
        self._model.set_logger(Logger(folder=None, output_formats=[Metrics(log)] if log else []))

    def learn(self, params: Params, task: Any, rollouts: int, stream: np.random.Generator) -> Learned:
        """Learn on `task` for a number of rollouts.

        Args:
            params: of the policy and the critic, without a task axis; `conversion.initial_critic` makes a critic.
            task: set on all simulations of `env`.
            rollouts: number of rollouts, each followed by an update.
            stream: initial states, exploration and minibatches are drawn from it. The global generators of torch and
                NumPy are not changed.

        Raises:
            UserError: `params` have no critic, or do not fit the policy.
            SimulationDiverged: the number of diverged simulations exceeds a tenth of E per rollout.
            NonFinite: a parameter became infinite or NaN.
        """
        own = one_set(self._policy, params)
        if not has_critic(own):
            raise UserError("the parameters have no critic: params | initial_critic(policy, rng) adds one")
        _require_finite(own, "before learning")
        self._env.env.set_tasks([task])
        learned: list[Params] = []
        returns: list[float] = []
        with _randomness(stream), on_one_thread():
            self._env.statistics = statistics = {name: own[name] for name in normalizer.NAMES if name in own}
            self._env.observed = []
            self._restart(normalizer.without(own), seed=int(stream.integers(2**62)))
            for rollout in range(rollouts):
                returns.append(self._rollout_and_update(first=rollout == 0))
                learned.append(self._learned() | statistics)
                self._check_divergence(task, (rollout + 1) * self._env.num_envs)
        observed = torch.from_numpy(np.stack(self._env.observed))
        return Learned(learned, returns, rollouts * self.steps, Moments.of(observed, torch.ones(observed.shape[:-1])))

    def _restart(self, params: Params, seed: int) -> None:
        """Load `params` into the model, make a new optimizer, and seed the environments for the next reset."""
        load(self._model, self._policy, params, self._unit)
        network = self._model.policy
        options: dict[str, Any] = {"lr": self._model.lr_schedule(1.0), **network.optimizer_kwargs}
        network.optimizer = network.optimizer_class(network.parameters(), **options)
        self._env.seed(seed)

    def _rollout_and_update(self, first: bool) -> float:
        """One rollout and its update; returns the mean return of the episodes that ended in the rollout."""
        try:
            self._model.learn(self.steps, reset_num_timesteps=first)
        except ValueError:  # torch raises it for a distribution with NaN
            _require_finite(self._model.policy.state_dict(), "while learning")
            raise
        episodes = self._model.ep_info_buffer
        assert episodes is not None
        returns = [episode["r"] for episode in episodes]
        episodes.clear()
        return float(np.mean(returns)) if returns else float("nan")

    def _learned(self) -> Params:
        state = self._model.policy.state_dict()
        _require_finite(state, "while learning")
        return actor_params(self._policy, state, self._unit) | critic_params(self._policy, state)

    def _check_divergence(self, task: Any, episodes: int) -> None:
        if self._env.diverged > MAX_DIVERGED_FRACTION * episodes:
            raise SimulationDiverged(
                f"{self._env.diverged} simulations diverged while learning on {task}: too many to learn from"
            )


def minibatch_size(steps: int, minibatches: int) -> int:
    """Number of steps in each minibatch. Errors: UserError if a rollout cannot be divided into equal ones."""
    if minibatches < 1 or steps % minibatches or steps // minibatches < 2:
        raise UserError(
            f"minibatches = {minibatches} cannot share the {steps} steps of a rollout evenly, two or more to each: "
            f"choose a number that divides {steps}"
        )
    return steps // minibatches


def _require_finite(parameters: Mapping[str, Tensor], when: str) -> None:
    for name, p in parameters.items():
        if not torch.isfinite(p).all():
            raise NonFinite(f"the parameter {name} {when} is not finite. A smaller learning_rate may help.")


@contextmanager
def _randomness(stream: np.random.Generator) -> Generator[None]:
    """Seed the global generators, which Stable-Baselines3 draws from, by `stream`, and restore them afterwards."""
    numpy_state = np.random.get_state()
    try:
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(int(stream.integers(2**62)))
            np.random.seed(stream.integers(2**32, size=4, dtype=np.uint32))
            yield
    finally:
        np.random.set_state(numpy_state)
