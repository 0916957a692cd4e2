"""The policy of a trained run: it adapts to the task of any environment, acts there, and can be exported."""

from __future__ import annotations

import io
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from gymnasium.spaces import Box
from numpy.typing import ArrayLike, NDArray
from torch import Tensor, nn

from metarl import runs
from metarl.errors import NonFinite, UserError, nearest, shortened
from metarl.experiment import Experiment
from metarl.experiment.builders import initial_params, policy_of_sizes
from metarl.inner.sgd import LOG_STEP_SIZE
from metarl.parameters import expand, require_finite
from metarl.policy_gradient.gaussian_mlp import GaussianMLP
from metarl.runs.console import PATIENCE, PartProgress
from metarl.sampling.any_env import AnyEnv, Episodes, fitting_actions, onto
from metarl.sampling.memory import require_memory, rollout_bytes
from metarl.sampling.rollout import as_numbers
from metarl.seeding import Purpose, stream, streams
from metarl.system.files import write_atomically
from metarl.system.threads import on_one_thread
from metarl.types import Params

CHECKPOINTS = {"latest": runs.CHECKPOINT, "best": runs.BEST}
"""Name of a checkpoint -> its file: the last one, and the one with the highest return after adaptation in a test."""


def load(run_dir: Path | str, checkpoint: str = "latest") -> MetaPolicy:
    """The policy of a run, with the parameters of one of its checkpoints.

    It needs neither the environments that the run was trained on, nor a tracker.

    Args:
        run_dir: the run directory, or the name of a shipped policy such as `half_cheetah_vel/promp`.
        checkpoint: "latest", or "best" for the one with the highest return after adaptation in the test that is
            repeated during training.

    Errors: UserError if there is no run, it has no such checkpoint, or the checkpoint does not fit its settings.
    """
    path = runs.find(run_dir)
    if checkpoint not in CHECKPOINTS:
        raise UserError(f"checkpoint = {checkpoint!r}.{nearest(checkpoint, CHECKPOINTS)}")
    file, experiment = CHECKPOINTS[checkpoint], runs.read_experiment(path)
    params = runs.load(path, experiment, file).params
    if not {"w0", "log_std"} <= params.keys():
        raise UserError(f"{path / file} holds no Gaussian policy, but {', '.join(params) or 'nothing'}")
    policy = policy_of_sizes(experiment.policy, len(params["w0"]), len(params["log_std"]))
    runs.check_shapes(path / file, params, initial_params(policy, experiment))
    return MetaPolicy(experiment, policy, params, commands_of(policy))


def commands_of(policy: GaussianMLP) -> Box:
    """The action space that a policy was trained with: [-1, 1] in every dimension."""
    return Box(-1.0, 1.0, (policy.action_size,), np.float32)


@dataclass(frozen=True, eq=False, repr=False)
class MetaPolicy:
    """The policy of a run, before or after adaptation to a task. It is immutable: `adapt` returns a new one."""

    experiment: Experiment
    """The settings of the run."""
    policy: GaussianMLP
    """Maps parameters and observations to actions."""
    params: Params
    """theta, or the adapted parameters, without a task axis."""
    action_space: Box
    """The range of the actions of `act`: that of the environment of `on` or `adapt`, and [-1, 1] before."""
    adaptation_steps: int = 0
    """Number of adaptation steps done."""
    seed: int = 0
    """Of the exploration noise in `act`."""
    _noise: np.random.Generator = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_noise", stream(self.seed, Purpose.ACTING))

    def __repr__(self) -> str:
        sizes = f"observation {self.policy.observation_size}, action {self.policy.action_size}"
        run = f"{self.experiment.algorithm.name} on {self.experiment.env.id}"
        return f"<MetaPolicy of {run}, {sizes}, adaptation steps {self.adaptation_steps}>"

    def on(self, env: AnyEnv) -> MetaPolicy:
        """The same policy without adaptation, with the action range of `env`.

        The policy's actions, in [-1, 1], are mapped linearly to the range of the environment's.

        Errors: UserError if the spaces of the environment do not fit the policy.
        """
        return replace(self, action_space=fitting_actions(env, self.policy))

    def adapt(
        self,
        env: AnyEnv,
        *,
        steps: int | None = None,
        episodes: int | None = None,
        horizon: int | None = None,
        seed: int = 0,
    ) -> MetaPolicy:
        """Adapt to the task of `env`, as in training.

        Each step samples `episodes` whole episodes with the current policy, and takes one step of the run's inner loop
        on them. An episode that is cut off by a time limit or the horizon is not treated as terminated: the value of
        its last state is added. The size of steps beyond those of training is multiplied by the run's
        `evaluation.later_steps`. Inner loops of Stable-Baselines3 sample by themselves, and need a
        `TaskVectorEnv` of `episodes` simulations.

        The adapted policy has the action range of the environment, as after `on(env)`. The environment is not closed,
        and may be in the middle of an episode. It works within `torch.no_grad` and `torch.inference_mode` as well.

        Args:
            env: a `gymnasium.Env`, or a `gymnasium.vector.VectorEnv` of any autoreset mode, whose environments play
                episodes at the same time. A `TaskVectorEnv` must have one task set.
            steps: adaptation steps; by default as many as in training.
            episodes: per step, of all environments of a vector together; by default as in training.
            horizon: steps after which an episode is cut off; by default as in training.
            seed: of exploration and of the environment's resets. The same seed and environment give the same result;
                one call with two steps gives the same result as two calls with one.

        Returns:
            The adapted policy; this one is not changed.

        Raises:
            UserError: an argument, the environment or its task does not fit, or the episodes do not fit in memory.
            NonFinite: observations, rewards or parameters became infinite or NaN.
        """
        inner, sampling = self.experiment.algorithm.inner, self.experiment.sampling
        discounts = {"gamma": sampling.gamma, "gae_lambda": sampling.gae_lambda}
        steps = _at_least(0, "steps", max(inner.steps, 1) if steps is None else steps)
        count = _at_least(1, "episodes", sampling.episodes if episodes is None else episodes)
        horizon = _at_least(1, "horizon", self.experiment.env.horizon if horizon is None else horizon)
        seed, source = _at_least(0, "seed", seed), Episodes(env, self.policy)
        if steps:
            inner.check(count, horizon)
            sizes = self.policy.observation_size, self.policy.action_size
            what = f"episodes = {count:,} of horizon = {horizon:,} steps"
            require_memory(rollout_bytes(count, horizon, *sizes), what, "choose fewer or shorter ones")
        adapted, first = expand(self.params, 1), self.adaptation_steps
        parts = steps * (source.rounds(count) + 1)
        progress = PartProgress("adapting", parts, patience=PATIENCE, lines=False)
        with on_one_thread(), torch.inference_mode(False), torch.enable_grad(), progress:
            for k in range(first, first + steps):
                streams_for = partial(streams, seed, iteration=0, phase=k, num_tasks=1)
                rollout = source.rollout(adapted, streams_for, count, horizon, progress.advance, **discounts)
                adapted = inner.adapt(self.policy, adapted, rollout, self.experiment.step_scale(k)).params
                require_finite(adapted, f"adaptation step {k + 1}")
                progress.advance()
        params = {name: p[0] for name, p in adapted.items()}
        return replace(self, params=params, action_space=source.action_space, adaptation_steps=first + steps, seed=seed)

    def act(self, observation: ArrayLike, deterministic: bool = False) -> NDArray[np.floating]:
        """The action at an observation, in the range `action_space`.

        Args:
            observation: (O,), or (N, O) of a vector environment.
            deterministic: act by the policy's mean, without the exploration noise of training and adaptation.

        Returns:
            (A,) or (N, A).

        Raises:
            UserError: the observation is not an array of numbers, or has another size than in training.
            NonFinite: the observation or the action is infinite or NaN.
        """
        observed = self._observed(observation)
        rows = torch.tensor(observed.reshape(1, -1, self.policy.observation_size))
        shape = (*rows.shape[:-1], self.policy.action_size)
        noise = None if deterministic else torch.from_numpy(self._noise.standard_normal(shape, dtype=np.float32))
        with torch.inference_mode():
            commands = self.policy.command(self.params, rows, noise).numpy()
        if not np.isfinite(commands).all():
            raise NonFinite("the action is not finite: the policy's parameters or the observation are too large")
        return onto(self.action_space, commands.reshape(*observed.shape[:-1], self.policy.action_size))

    def _observed(self, observation: ArrayLike) -> NDArray[np.float32]:
        """The observation in float32, (…, O). Errors: as in `act`."""
        size = self.policy.observation_size
        given = as_numbers(observation)
        if given is None:
            raise UserError(
                f"the observation is {shortened(repr(observation), 80)}: expected {size} numbers, or rows of so many"
            )
        if given.shape[-1:] != (size,):
            raise UserError(f"the observation has shape {given.shape}: the policy was trained with ({size},)")
        with np.errstate(over="ignore"):
            observed = given.astype(np.float32)
        if not np.isfinite(observed).all():
            *_, i = where = tuple(np.argwhere(~np.isfinite(observed))[0])
            raise NonFinite(f"the observation is not finite in float32: its number {i} is {given[where]}")
        return observed

    def export(self, path: Path | str) -> None:
        """Write the deterministic policy to a file (.pt2) that needs PyTorch but nothing of this package.

        `torch.export.load(path).module()` is a function from observations (B, O) float32 to actions (B, A) in [-1, 1],
        for any B.

        Errors: OSError if the file cannot be written; a file that was there before is kept.
        """
        module, example = _Deterministic(self.policy, self.params), torch.zeros(2, self.policy.observation_size)
        batch = {"observations": {0: torch.export.Dim("batch")}}
        content = io.BytesIO()
        torch.export.save(torch.export.export(module, (example,), dynamic_shapes=batch), content)
        write_atomically(Path(path), content.getvalue())

    def export_sb3(self, path: Path | str) -> None:
        """Write a file for `PPO.load` of Stable-Baselines3, with actions in [-1, 1]; see `metarl.sb3.export`."""
        from metarl import sb3

        own = {name: p for name, p in self.params.items() if not name.startswith(LOG_STEP_SIZE)}
        sb3.export(path, self.policy, own)


class _Deterministic(nn.Module):
    """The deterministic policy as a module, from observations (B, O) to actions (B, A)."""

    def __init__(self, policy: GaussianMLP, params: Params) -> None:
        super().__init__()
        self._policy = policy
        for name, p in policy.acting(params).items():
            self.register_buffer(name, p)

    def forward(self, observations: Tensor) -> Tensor:
        return self._policy.command(dict(self.named_buffers()), observations.unsqueeze(0)).squeeze(0)


def _at_least(least: int, name: str, value: int) -> int:
    if value < least:
        raise UserError(f"{name} = {value}: expected at least {least}")
    return value
