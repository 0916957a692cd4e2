"""From the settings of an experiment: environments, tasks, and a policy with its initial parameters."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Any, cast
from weakref import WeakKeyDictionary

import gymnasium
import gymnasium.envs.registration
import torch
from gymnasium.envs.registration import EnvSpec
from gymnasium.spaces.utils import flatdim

from metarl.errors import UserError
from metarl.experiment import Environment, Experiment, Policy
from metarl.policy_gradient.gaussian_mlp import GaussianMLP
from metarl.sampling import registry
from metarl.sampling.memory import parameter_bytes, require_memory, rollout_bytes
from metarl.sampling.protocols import TaskVectorEnv
from metarl.seeding import Purpose, stream
from metarl.system.machine import available_cores
from metarl.types import Params

SMALL = 100_000
"""Rollouts of at most this many environment steps are built without a check of their memory."""


def make_vector_env(environment: Environment, num_envs: int, threads: int) -> TaskVectorEnv:
    """`num_envs` robots of the experiment's family, stepped together.

    Args:
        environment: the family, its options, and the horizon.
        num_envs: N.
        threads: of the simulation; 0 for all available cores.

    Errors: UserError if the module of the id may not or cannot be imported, the id is not a family of tasks, the family
    has no parameter of an option's name, or one rollout would not fit in memory.
    """
    spec = _spec(environment)
    _check_family(spec, environment)
    if num_envs * environment.horizon > SMALL:
        _require_memory(spec, environment, num_envs)
    return _made(spec, environment, num_envs, threads)


def _made(spec: EnvSpec, environment: Environment, num_envs: int, threads: int) -> TaskVectorEnv:
    own: dict[str, Any] = {"nthread": threads or available_cores()} if _takes(_creator(spec), "nthread") else {}
    env = gymnasium.make_vec(
        spec, num_envs=num_envs, max_episode_steps=environment.horizon, **own, **environment.options
    )
    return cast(TaskVectorEnv, env)


def make_single_env(environment: Environment, render_mode: str | None = None) -> gymnasium.Env[Any, Any]:
    """One robot of the experiment's family, for videos; it is a `protocols.TaskEnv`.

    Errors: as in `make_vector_env`; UserError if the family has no single environment.
    """
    spec = _spec(environment)
    check_can_be_filmed(environment.id)
    rendering: dict[str, Any] = {} if render_mode is None else {"render_mode": render_mode}
    return gymnasium.make(spec, max_episode_steps=environment.horizon, **rendering, **environment.options)


def _spec(environment: Environment) -> EnvSpec:
    """The registration of the family. Errors: UserError."""
    registry.check_options(environment.options)  # before the family's module is imported
    spec = registry.find(environment.id)
    registry.check_options(environment.options, spec)
    return spec


def _require_memory(spec: EnvSpec, environment: Environment, num_envs: int) -> None:
    """Raise UserError if a rollout does not fit in memory."""
    robot = _made(spec, environment, 1, 1)  # one simulation, for the sizes of observations and actions
    sizes = flatdim(robot.single_observation_space), flatdim(robot.single_action_space)
    robot.close()
    require_memory(
        rollout_bytes(num_envs, environment.horizon, *sizes),
        f"{num_envs:,} simulations (tasks times episodes) of env.horizon = {environment.horizon:,} steps",
        "choose fewer tasks, episodes or steps",
    )


def _check_family(spec: EnvSpec, environment: Environment) -> None:
    """Raise UserError unless the vector environment is a family of tasks with these options."""
    creator = _creator(spec)
    if not hasattr(creator, "set_tasks"):
        raise UserError(
            f"env.id = {spec.id!r} is not a family of tasks: its vector environment has no set_tasks. "
            "Choose an id that starts with envs:metarl/, or register a family of your own (envs/README.md)."
        )
    for name in ("num_envs", "max_episode_steps", *environment.options):
        if not _takes(creator, name):
            raise UserError(
                f"env.id = {spec.id!r}: its vector environment takes no argument {name!r}, only "
                f"{', '.join(inspect.signature(creator).parameters)}"
            )


def _creator(spec: EnvSpec) -> Any:
    """The class or function that makes the vector environment; None if the registration has none."""
    entry = spec.vector_entry_point
    return gymnasium.envs.registration.load_env_creator(entry) if isinstance(entry, str) else entry


def _takes(creator: Callable[..., Any], name: str) -> bool:
    """Whether the creator has an argument of this name."""
    parameters = inspect.signature(creator).parameters
    return name in parameters or any(each.kind is each.VAR_KEYWORD for each in parameters.values())


def check_can_be_filmed(env_id: str) -> None:
    """Raise UserError if the family has no single environment, of which videos are made."""
    if registry.find(env_id).entry_point is None:
        raise UserError(
            f"env.id = {env_id!r} has no single environment to film: register it with an entry_point, "
            "or set evaluation.videos to 0."
        )


def make_policy(experiment: Experiment, env: TaskVectorEnv) -> GaussianMLP:
    """The policy that fits the environment's observations and actions."""
    sizes = flatdim(env.single_observation_space), flatdim(env.single_action_space)
    return policy_of_sizes(experiment.policy, *sizes)


def policy_of_sizes(settings: Policy, observation_size: int, action_size: int) -> GaussianMLP:
    """The policy of these settings, for observations (O,) and actions (A,) of these sizes."""
    return GaussianMLP(observation_size, action_size, **vars(settings))


_BESIDE: WeakKeyDictionary[TaskVectorEnv, TaskVectorEnv] = WeakKeyDictionary()


def simulations_of_one_task(env: TaskVectorEnv, experiment: Experiment) -> TaskVectorEnv:
    """E more simulations of the family of `env`, for an inner learner that takes one task after another.

    They are built at the first call, and kept as long as `env` exists.
    """
    episodes = env.num_envs // len(env.tasks)
    beside = _BESIDE.get(env)
    if beside is None or beside.num_envs != episodes:
        beside = _BESIDE[env] = make_vector_env(experiment.env, episodes, experiment.threads)
    return beside


def initial_params(policy: GaussianMLP, experiment: Experiment) -> Params:
    """theta before training, with the inner loop's own parameters; a function of the seed.

    Errors: UserError if they do not fit in memory.
    """
    require_memory(
        2 * parameter_bytes(policy.layer_sizes),
        f"the parameters of policy.hidden_sizes = {list(policy.hidden_sizes)}",
        "choose smaller layers",
    )
    address = stream(experiment.seed, Purpose.INITIALIZATION)
    rng = torch.Generator().manual_seed(int(address.integers(2**62)))
    return experiment.algorithm.inner.start(policy, policy.init(rng), rng)


def training_tasks(env: TaskVectorEnv, experiment: Experiment, iteration: int) -> Sequence[Any]:
    """The M tasks of one iteration, spread evenly over the split; a function of (seed, iteration)."""
    space = env.task_space.restrict(experiment.sampling.split)
    return space.stratified(experiment.sampling.tasks, stream(experiment.seed, Purpose.TASKS, iteration))


def fixed_tasks(env: TaskVectorEnv, split: str, count: int) -> Sequence[Any]:
    """`count` test tasks, evenly spread over the split; the same for every seed and every algorithm.

    Errors: UserError if the split has fewer different tasks.
    """
    tasks = env.task_space.restrict(split).grid(count)
    if (different := len(set(tasks))) < count:
        raise UserError(
            f"{count} {split} tasks were asked for, but only {different} different ones exist: ask for those"
        )
    return tasks
