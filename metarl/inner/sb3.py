"""PPO and A2C of Stable-Baselines3, unmodified, as inner loops. They sample by themselves, one task after another.

These are their settings; `metarl.sb3.TaskLearner` does the learning. Stable-Baselines3 is imported only when it is
needed, because its import takes seconds.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Literal

import torch
from pydantic import Field

from metarl.config.settings import LARGEST, settings
from metarl.errors import UserError
from metarl.inner.learner import Adapted
from metarl.policy_gradient.gaussian_mlp import GaussianMLP
from metarl.sampling.lazy_rollout import LazyRollout
from metarl.sampling.protocols import TaskVectorEnv
from metarl.seeding import Purpose
from metarl.types import Params

if TYPE_CHECKING:
    from metarl.sb3 import TaskLearner


class SB3Learner:
    """The methods that `SB3PPO` and `SB3A2C` share."""

    scalable: ClassVar[bool] = False
    kind: ClassVar[Literal["ppo", "a2c"]]
    """The algorithm of Stable-Baselines3."""

    def start(self, policy: GaussianMLP, params: Params, rng: torch.Generator) -> Params:
        """theta before training, and a new critic, under names such as `value.w0`."""
        from metarl.sb3.conversion import initial_critic

        return params | initial_critic(policy, rng)

    def check(self, episodes: int, horizon: int) -> None:
        """There is nothing to check: any rollout can be learned from."""

    def adapt(
        self: SB3PPO | SB3A2C, policy: GaussianMLP, params: Params, rollout: LazyRollout, scale: float = 1.0
    ) -> Adapted:
        """One rollout and update on each task in turn, from its own parameters and on its own random stream.

        Arguments as for `InnerLearner.adapt`; `scale` is not used.

        Errors: UserError if `rollout` has no simulations to learn on.
        """
        if rollout.simulations is None:
            raise UserError(
                f"the inner learner {self.name!r} samples by itself, and needs simulations that can be reset one by "
                "one: adapt to a vector environment of tasks, gymnasium.make_vec('envs:metarl/…', num_envs=20) with "
                "env.set_tasks([task]), or go on learning in Stable-Baselines3 from export_sb3(path)"
            )
        settings = {"horizon": rollout.horizon, "gamma": rollout.gamma, "gae_lambda": rollout.gae_lambda}
        learner = self.learner(policy, rollout.simulations(), **settings)
        learned = [
            learner.learn({name: p[m] for name, p in params.items()}, task, 1, stream)
            for m, (task, stream) in enumerate(zip(rollout.tasks, rollout.streams(Purpose.SB3), strict=True))
        ]
        return Adapted(
            params={name: torch.stack([each.params[0][name] for each in learned]) for name in params},
            returns=torch.tensor([each.returns[:1] for each in learned], dtype=torch.float64),
            environment_steps=sum(each.environment_steps for each in learned),
            observed=[each.observed for each in learned],
        )

    def learner(self: SB3PPO | SB3A2C, policy: GaussianMLP, env: TaskVectorEnv, **others: Any) -> TaskLearner:
        """A `TaskLearner` with these settings, which learns one task on `env`; others: its further arguments."""
        from metarl.sb3 import TaskLearner

        own = {name: value for name, value in vars(self).items() if name not in ("name", "steps")}
        return TaskLearner(self.kind, policy, env, **own, **others)


@settings
class SB3PPO(SB3Learner):
    """PPO of Stable-Baselines3, with its own rollouts and critic; the critic is meta-learned as well."""

    kind: ClassVar = "ppo"
    name: Literal["sb3_ppo"] = "sb3_ppo"
    steps: int = Field(3, ge=1, le=1_000)
    """K, adaptation steps. Each is a rollout of E episodes on every task, and an update with a new optimizer."""
    learning_rate: float = Field(3e-4, gt=0, le=LARGEST)
    """Of Adam."""
    epochs: int = Field(10, ge=1, le=10_000)
    """Passes over a rollout."""
    minibatches: int = Field(4, ge=1)
    """Number of equal parts that a rollout is divided into in each pass."""
    clip_range: float = Field(0.2, gt=0, lt=1)
    """The surrogate does not reward a probability ratio outside [1 - clip_range, 1 + clip_range]."""
    reward_scale: float = Field(1.0, gt=0, le=LARGEST)
    """Factor on the rewards that it learns from. Choose one that brings discounted returns to about 1: the gradients of
    actor and critic are clipped together, and with large returns nearly all of the clipped gradient is the critic's."""

    def check(self, episodes: int, horizon: int) -> None:
        """Raise UserError if a rollout of E episodes of T steps cannot be divided into the minibatches."""
        from metarl.sb3.task_learner import minibatch_size

        minibatch_size(episodes * horizon, self.minibatches)


@settings
class SB3A2C(SB3Learner):
    """A2C of Stable-Baselines3, with its own rollouts and critic; the critic is meta-learned as well."""

    kind: ClassVar = "a2c"
    name: Literal["sb3_a2c"] = "sb3_a2c"
    steps: int = Field(3, ge=1, le=1_000)
    """K, adaptation steps. Each is a rollout of E episodes on every task, and one step of a new optimizer."""
    learning_rate: float = Field(7e-4, gt=0, le=LARGEST)
    """Of RMSProp."""
    reward_scale: float = Field(1.0, gt=0, le=LARGEST)
    """As of `SB3PPO`."""
