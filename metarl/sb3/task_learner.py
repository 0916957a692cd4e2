"""Stable-Baselines3's PPO or A2C, as it is, as the inner learner that adapts to one task."""

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
    has_task_axis,
    initial_critic,
    one_set,
    units,
)
from metarl.sb3.metrics import Metrics
from metarl.sb3.models import Kind, load, to_sb3
from metarl.sb3.vec_env import TaskVecEnv
from metarl.threads import on_one_thread
from metarl.types import Params


@dataclass(frozen=True)
class Learned:
    """What learning on one task came to."""

    params: list[Params]
    """After 1, 2, … rollouts, each with the names and shapes of the parameters at the start."""
    returns: list[float]
    """Of each rollout the mean undiscounted return of the episodes that ended in it; NaN where none did."""
    environment_steps: int
    observed: Moments
    """Of the observations, as they were normalized."""


class TaskLearner:
    """Adapts a policy and its critic to one task after another, each time from the parameters it is given.

    In every rollout the E simulations of `env` take `horizon` steps each, from where the rollout before has left them;
    then PPO or A2C updates the parameters. Only within one call of `learn` does anything go on: what is learned is a
    function of the parameters, the task and the random stream, and not of the tasks before it.

    kind: "ppo" or "a2c".
    policy: how to act. PPO and A2C adapt the logarithm of its standard deviation itself; where that sinks below the
        policy's floor, it is raised to just above it after each rollout, in what is returned.
    env: E simulations of one task; it may be used elsewhere between two calls.
    horizon: steps per simulation and rollout; the family's time limit for whole episodes.
    gamma, gae_lambda: discount, and that of generalized advantage estimation.
    learning_rate: of Adam (PPO) or RMSProp (A2C).
    epochs, minibatches, clip_range: PPO's passes over a rollout, the parts of a pass, and the clipping of the
        probability ratio. A2C makes one step on the whole rollout.
    reward_scale: multiplies the rewards that it learns from; the returns that it reports are those of the family.
        Stable-Baselines3 clips the gradient of actor and critic together: where discounted returns are in the tens or
        hundreds, the critic's error takes all of it. Choose a scale that brings them to about 1.
    log: is called with Stable-Baselines3's metrics after each rollout, as `Metrics` passes them on, and the environment
        steps since `learn` was called.
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
        with torch.random.fork_rng(devices=[]), on_one_thread():  # weights that are never used are drawn
            start = policy.init(torch.Generator().manual_seed(0))
            window = self.steps  # no more episodes can end in a rollout
            self._model = to_sb3(policy, start, self._env, kind, n_steps=horizon, stats_window_size=window, **options)
        self._model.set_logger(Logger(folder=None, output_formats=[Metrics(log)] if log else []))

    def initial(self, params: Params, rng: torch.Generator) -> Params:
        """The policy's `params`, (...) or (1, ...), together with those of a new critic, "value.w0" and so on."""
        critic = initial_critic(self._policy, rng)
        return params | (_with_task_axis(critic) if has_task_axis(params) else critic)

    def learn(self, params: Params, task: Any, rollouts: int, stream: np.random.Generator) -> Learned:
        """Learn on `task` for a number of rollouts.

        Args:
            params: of the policy and the critic, as from `initial`.
            stream: the random stream that start states, exploration and minibatches are drawn from. The result is a
                function of it; the global generators of torch and NumPy are left as they were.

        Raises:
            UserError: `params` lack a critic or do not fit the policy.
            SimulationDiverged: more episodes ended with a diverged simulation than a tenth of one per simulation and
                rollout.
            NonFinite: a parameter became infinite or undefined.
        """
        own = one_set(self._policy, params)
        if not has_critic(own):
            raise UserError("the parameters lack those of a critic: learner.initial(params, rng) adds them")
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
        if has_task_axis(params):
            learned = [_with_task_axis(each) for each in learned]
        observed = torch.from_numpy(np.stack(self._env.observed))
        return Learned(learned, returns, rollouts * self.steps, Moments.of(observed, torch.ones(observed.shape[:-1])))

    def _restart(self, params: Params, seed: int) -> None:
        """Take `params`, forget the optimizer's moments, and seed the environments for the next reset."""
        load(self._model, self._policy, params, self._unit)
        network = self._model.policy
        options: dict[str, Any] = {"lr": self._model.lr_schedule(1.0), **network.optimizer_kwargs}
        network.optimizer = network.optimizer_class(network.parameters(), **options)
        self._env.seed(seed)

    def _rollout_and_update(self, first: bool) -> float:
        """One rollout and its update; the mean return of the episodes that ended."""
        try:
            self._model.learn(self.steps, reset_num_timesteps=first)
        except ValueError:  # torch refuses a distribution that is undefined
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
    """Steps in each part of a rollout. Errors: UserError where the parts cannot be equal."""
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


def _with_task_axis(params: Params) -> Params:
    return {name: p.unsqueeze(0) for name, p in params.items()}


@contextmanager
def _randomness(stream: np.random.Generator) -> Generator[None]:
    """Within, the global generators that Stable-Baselines3 draws from are a function of `stream`."""
    numpy_state = np.random.get_state()
    try:
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(int(stream.integers(2**62)))
            np.random.seed(stream.integers(2**32, size=4, dtype=np.uint32))
            yield
    finally:
        np.random.set_state(numpy_state)
