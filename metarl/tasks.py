"""What meta-learning asks of environments and of the tasks they play: protocols, with no robot behind them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import gymnasium
import numpy as np
from numpy.typing import NDArray


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


class TaskVectorEnv(Protocol):
    """A Gymnasium vector environment without autoreset whose N = M*E simulations play M tasks."""

    num_envs: int
    single_observation_space: gymnasium.Space[Any]
    single_action_space: gymnasium.Space[Any]

    @property
    def task_space(self) -> TaskSpace: ...

    @property
    def tasks(self) -> Sequence[Any]:
        """The M tasks in force."""
        ...

    def set_tasks(self, tasks: Sequence[Any]) -> None:
        """Give each of M tasks N/M neighbouring simulations."""
        ...

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]: ...

    def step(self, actions: Any) -> tuple[Any, Any, Any, Any, dict[str, Any]]:
        """As in Gymnasium; `info["diverged"]` (N,) marks simulations that blew up."""
        ...

    def close(self) -> None: ...
