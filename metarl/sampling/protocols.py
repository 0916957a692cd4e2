"""The interface of environments and their tasks that this package needs, as protocols.

A family of tasks is registered with Gymnasium. Its `vector_entry_point` is called with `num_envs`, `max_episode_steps`,
`nthread` if it takes that, and what `env.options` of the settings holds, and gives a `TaskVectorEnv`. Its
`entry_point`, which only videos need, is called with `render_mode` and the same options, and gives a `TaskEnv`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import gymnasium
import numpy as np
from numpy.typing import NDArray


def family_name(env_id: str) -> str:
    """The name of a family in its id: `HalfCheetahVel-v0` in `envs:metarl/HalfCheetahVel-v0`."""
    return env_id.rpartition("/")[2].rpartition(":")[2]


class TaskSpace(Protocol):
    """A distribution of tasks with named splits. A task is a hashable value with a `label` for pictures."""

    @property
    def units(self) -> Mapping[str, str]:
        """Field name -> unit."""
        ...

    def restrict(self, split: str) -> TaskSpace:
        """The same space with another current split."""
        ...

    def sample(self, n: int, rng: np.random.Generator) -> Sequence[Any]:
        """`n` independent tasks of the current split."""
        ...

    def stratified(self, n: int, rng: np.random.Generator) -> Sequence[Any]:
        """`n` tasks that cover the current split evenly; each alone is distributed as in `sample`."""
        ...

    def grid(self, n: int) -> Sequence[Any]:
        """Exactly `n` evenly spread tasks of the current split, the same at every call."""
        ...

    def array(self, tasks: Sequence[Any]) -> Mapping[str, NDArray[np.float64]]:
        """Field name -> (tasks,) or (tasks, k)."""
        ...

    def to_dict(self, task: Any) -> Mapping[str, Any]:
        """The task in plain data."""
        ...

    def parse(self, assignments: Sequence[str]) -> Any:
        """The task that texts such as `velocity=1.7` describe."""
        ...


class Simulations(Protocol):
    """N = M*E simulations that start their episodes together.

    Steps after the end of an episode are ignored.
    """

    num_envs: int

    @property
    def tasks(self) -> Sequence[Any]:
        """The M current tasks."""
        ...

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """As in Gymnasium; `options["generators"]` has the random streams of the M tasks, instead of a seed."""
        ...

    def step(self, actions: Any) -> tuple[Any, Any, Any, Any, dict[str, Any]]:
        """As in Gymnasium; `info["diverged"]` (N,) bool marks simulations that became unstable."""
        ...


class TaskVectorEnv(Simulations, Protocol):
    """A Gymnasium vector environment without autoreset whose N = M*E simulations play M tasks.

    It is built with num_envs (N), max_episode_steps (T, after which an episode is truncated) and, if it takes that
    argument, nthread (threads of the simulation, 0 for one per core; results do not depend on it). It may have a
    text `aim` that says what the robot has to do, such as `run at a hidden velocity from 0 to 2 m/s`.
    """

    single_observation_space: gymnasium.Space[Any]
    single_action_space: gymnasium.Space[Any]

    @property
    def task_space(self) -> TaskSpace: ...

    def set_tasks(self, tasks: Sequence[Any]) -> None:
        """Give each of M tasks N/M neighbouring simulations."""
        ...

    def close(self) -> None: ...


class TaskEnv(Protocol):
    """A single Gymnasium environment of the same family, from which videos are made.

    `info` of a step holds measurements by name. A video shows those whose name ends in `velocity` and does not start
    with `reward_`, in m/s: a number, or a vector (k,).
    """

    def set_task(self, task: Any) -> None:
        """Make this the current task; nothing is reset."""
        ...


def aim_of(env: TaskVectorEnv) -> str:
    """What the robot has to do; empty if the environment does not say so."""
    return getattr(env, "aim", "")


def set_task(env: gymnasium.Env[Any, Any], task: Any) -> None:
    """Set the task of a `TaskEnv` that may be wrapped."""
    env.get_wrapper_attr("set_task")(task)
