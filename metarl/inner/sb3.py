"""PPO and A2C of Stable-Baselines3, as they are, as inner learners: each samples by itself, on one task after another.

Their settings stand here, without Stable-Baselines3, whose import takes seconds; `metarl.sb3` does the learning.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
import torch
from pydantic import Field

from metarl.config.settings import LARGEST, settings
from metarl.errors import UserError
from metarl.inner.learner import Adapted
from metarl.policy_gradient.gaussian_mlp import GaussianMLP
from metarl.policy_gradient.normalizer import Moments
from metarl.sampling.lazy_rollout import LazyRollout
from metarl.sampling.protocols import TaskVectorEnv
from metarl.seeding import Purpose
from metarl.types import Params

if TYPE_CHECKING:
    from metarl.sb3 import TaskLearner


@settings
class SB3PPO:
    """PPO of Stable-Baselines3, with its own rollouts and critic; the critic is meta-learned as well."""

    scalable: ClassVar[bool] = False
    name: Literal["sb3_ppo"] = "sb3_ppo"
    steps: int = Field(3, ge=1, le=1_000)
    """K, rollouts per task, each of all its episodes and followed by an update from a fresh optimizer."""
    learning_rate: float = Field(3e-4, gt=0, le=LARGEST)
    """Of Adam."""
    epochs: int = Field(10, ge=1, le=10_000)
    """Passes over a rollout."""
    minibatches: int = Field(4, ge=1)
    """Parts of a pass; they must share the steps of a rollout evenly."""
    clip_range: float = Field(0.2, gt=0, lt=1)
    """The surrogate rewards no ratio beyond 1 - clip_range and 1 + clip_range."""
    reward_scale: float = Field(1.0, gt=0, le=LARGEST)
    """Multiplies the rewards it learns from. One that brings discounted returns to about 1 keeps the critic from taking
    all of the gradient, which is clipped for both."""

    def start(self, policy: GaussianMLP, params: Params, rng: torch.Generator) -> Params:
        """All that is meta-learned before any training: theta, and a critic."""
        return with_critic(policy, params, rng)

    def check(self, episodes: int, horizon: int) -> None:
        """Raise UserError where the minibatches cannot share the steps of a rollout."""
        from metarl.sb3.task_learner import minibatch_size

        minibatch_size(episodes * horizon, self.minibatches)

    def adapt(self, policy: GaussianMLP, params: Params, rollout: LazyRollout, scale: float = 1.0) -> Adapted:
        """A rollout and an update on each task; see `InnerLearner.adapt`. The step size is not scaled."""
        return adapt_task_by_task(self, policy, params, rollout)

    def learner(self, policy: GaussianMLP, env: TaskVectorEnv, **settings: Any) -> TaskLearner:
        """What adapts to one task on `env`, whose simulations all play it; settings as of `TaskLearner`."""
        from metarl.sb3 import TaskLearner

        names = ("learning_rate", "epochs", "minibatches", "clip_range", "reward_scale")
        own = {name: getattr(self, name) for name in names}
        return TaskLearner("ppo", policy, env, **own, **settings)


@settings
class SB3A2C:
    """A2C of Stable-Baselines3, with its own rollouts and critic; the critic is meta-learned as well."""

    scalable: ClassVar[bool] = False
    name: Literal["sb3_a2c"] = "sb3_a2c"
    steps: int = Field(3, ge=1, le=1_000)
    """K, rollouts per task, each of all its episodes and followed by one step of a fresh optimizer."""
    learning_rate: float = Field(7e-4, gt=0, le=LARGEST)
    """Of RMSProp."""
    reward_scale: float = Field(1.0, gt=0, le=LARGEST)
    """As of `SB3PPO`."""

    def start(self, policy: GaussianMLP, params: Params, rng: torch.Generator) -> Params:
        """All that is meta-learned before any training: theta, and a critic."""
        return with_critic(policy, params, rng)

    def check(self, episodes: int, horizon: int) -> None:
        """Any rollout will do: it is not divided."""

    def adapt(self, policy: GaussianMLP, params: Params, rollout: LazyRollout, scale: float = 1.0) -> Adapted:
        """A rollout and an update on each task; see `InnerLearner.adapt`. The step size is not scaled."""
        return adapt_task_by_task(self, policy, params, rollout)

    def learner(self, policy: GaussianMLP, env: TaskVectorEnv, **settings: Any) -> TaskLearner:
        """What adapts to one task on `env`, whose simulations all play it; settings as of `TaskLearner`."""
        from metarl.sb3 import TaskLearner

        own = {name: getattr(self, name) for name in ("learning_rate", "reward_scale")}
        return TaskLearner("a2c", policy, env, **own, **settings)


def with_critic(policy: GaussianMLP, params: Params, rng: torch.Generator) -> Params:
    """theta together with a new critic, under names such as `value.w0`."""
    from metarl.sb3.conversion import initial_critic

    return params | initial_critic(policy, rng)


def adapt_task_by_task(inner: SB3PPO | SB3A2C, policy: GaussianMLP, params: Params, rollout: LazyRollout) -> Adapted:
    """One rollout and update on each task in turn, from its own parameters and on its own random stream.

    Errors: UserError where there are no simulations to learn on.
    """
    if rollout.simulations is None:
        raise UserError(
            f"the inner learner {inner.name!r} samples by itself, and needs a batch of simulations that can be reset "
            "one by one: adapt to a batched family, gymnasium.make_vec('envs:metarl/…', num_envs=20) with "
            "env.set_tasks([task]), or go on learning in Stable-Baselines3 from export_sb3(path)"
        )
    learner = inner.learner(
        policy,
        rollout.simulations(),
        horizon=rollout.horizon,
        gamma=rollout.gamma,
        gae_lambda=rollout.gae_lambda,
    )
    learned = [
        learner.learn({name: p[m : m + 1] for name, p in params.items()}, task, 1, stream)
        for m, (task, stream) in enumerate(zip(rollout.tasks, rollout.streams(Purpose.SB3), strict=True))
    ]
    return Adapted(
        params={name: torch.cat([each.params[0][name] for each in learned]) for name in params},
        mean_return=float(np.nanmean([each.returns[0] for each in learned])),
        environment_steps=sum(each.environment_steps for each in learned),
        observed=functools.reduce(Moments.joined, (each.observed for each in learned)),
    )
