"""What an experiment's settings stand for: environments, tasks, and a policy with its first parameters."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import gymnasium
import torch
from gymnasium.spaces.utils import flatdim

from metarl.errors import UserError
from metarl.experiment import Environment, Experiment
from metarl.policies import GaussianMLP
from metarl.seeding import Purpose, stream
from metarl.tasks import TaskVectorEnv
from metarl.types import Params


def make_batch(environment: Environment, num_envs: int, threads: int) -> TaskVectorEnv:
    """`num_envs` robots of the experiment's family, stepped as one native batch."""
    try:
        env = gymnasium.make_vec(
            environment.id,
            num_envs=num_envs,
            max_episode_steps=environment.horizon,
            nthread=threads,
            **environment.options,
        )
    except TypeError as error:
        raise _no_family(environment, str(error)) from error
    if not hasattr(env, "set_tasks"):
        raise _no_family(environment, "it has no set_tasks")
    return cast(TaskVectorEnv, env)


def _no_family(environment: Environment, reason: str) -> UserError:
    return UserError(
        f"env.id = {environment.id!r} with options {environment.options} is no batched family of tasks: {reason}. "
        "Choose an id that starts with envs:metarl/, or register a family of your own (README)."
    )


def make_policy(experiment: Experiment, env: TaskVectorEnv) -> GaussianMLP:
    """The policy that fits the environment's observations and actions."""
    return GaussianMLP(
        observation_size=flatdim(env.single_observation_space),
        action_size=flatdim(env.single_action_space),
        hidden_sizes=experiment.policy.hidden_sizes,
        action_scale=experiment.policy.action_scale,
        initial_std=experiment.policy.initial_std,
        min_std=experiment.policy.min_std,
    )


def initial_params(policy: GaussianMLP, seed: int) -> Params:
    """theta before any training; a function of the seed."""
    rng = torch.Generator().manual_seed(int(stream(seed, Purpose.INITIALIZATION).integers(2**62)))
    return policy.init(rng)


def training_tasks(env: TaskVectorEnv, experiment: Experiment, iteration: int) -> Sequence[Any]:
    """The M tasks of one iteration; a function of (seed, iteration)."""
    space = env.task_space.restrict(experiment.sampling.split)
    return space.sample(experiment.sampling.tasks, stream(experiment.seed, Purpose.TASKS, iteration))


def fixed_tasks(env: TaskVectorEnv, split: str, count: int) -> Sequence[Any]:
    """The fixed test tasks: spread evenly over the split, the same for every seed and every algorithm."""
    return env.task_space.restrict(split).grid(count)
