"""What meta-learning asks of environments and of the tasks they play: protocols, with no robot behind them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import gymnasium
import numpy as np
from numpy.typing import NDArray


def family_name(env_id: str) -> str:
    """A family by its own name: `HalfCheetahVel-v0` of `envs:metarl/HalfCheetahVel-v0`."""
    return env_id.rpartition("/")[2].rpartition(":")[2]


class TaskSpace(Protocol):
    """A distribution of tasks, divided into named splits. A task is a hashable value with a `label` for pictures."""

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
    """What episodes are collected from: N = M*E simulations that start together. None is looked at behind its end."""

    num_envs: int

    @property
    def tasks(self) -> Sequence[Any]:
        """The M tasks in force."""
        ...

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """As in Gymnasium; `options["generators"]` are the random streams of the M tasks, instead of a seed."""
        ...

    def step(self, actions: Any) -> tuple[Any, Any, Any, Any, dict[str, Any]]:
        """As in Gymnasium; `info["diverged"]` (N,) marks simulations that blew up."""
        ...


class TaskVectorEnv(Simulations, Protocol):
    """A Gymnasium vector environment without autoreset whose N = M*E simulations play M tasks."""

    single_observation_space: gymnasium.Space[Any]
    single_action_space: gymnasium.Space[Any]

    @property
    def task_space(self) -> TaskSpace: ...

    def set_tasks(self, tasks: Sequence[Any]) -> None:
        """Give each of M tasks N/M neighbouring simulations."""
        ...

    def close(self) -> None: ...
