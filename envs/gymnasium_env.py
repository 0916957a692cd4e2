"""Families whose robots are environments of Gymnasium, also of other simulators.

An environment gets its task as `GymnasiumFamily.make` says. Its action space is a `Box` with a finite range, to which
actions in [-1, 1] are scaled; its observations are flattened. N environments are stepped one after the other, or
in several processes, with the same results.
"""

from __future__ import annotations

import inspect
import os
import signal
import traceback
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import fields, replace
from functools import cached_property, partial
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
from gymnasium.spaces import Box, flatdim, flatten
from gymnasium.vector import AsyncVectorEnv, AutoresetMode

from .errors import BrokenEnvError, FamilyError, RenderingError
from .family import GymnasiumFamily, resolve
from .task_env import Groups, TaskEnv, TaskVectorEnv
from .tasks import Task

SEEDS = 2**31
"""Seeds of environments are below this, which is the limit of older random generators."""


class GymnasiumVectorEnv(TaskVectorEnv):
    """N = M·E environments of M tasks with E episodes each; see `TaskVectorEnv` for the other arguments.

    family: the `GymnasiumFamily`, or "module:function" that returns it.
    nthread: processes that share the simulations evenly: the largest divisor of N up to this number, 0 for one per CPU.
        With 1, all are stepped in this process. Results do not depend on it.
    parameters: keyword arguments of the family's function.

    Raises `FamilyError` for an environment that cannot be given a task or whose spaces are not supported, and
    `BrokenEnvError` if one raises, returns something of another shape, or its process ends.
    """

    def __init__(
        self,
        family: GymnasiumFamily | str,
        num_envs: int = 1,
        max_episode_steps: int | None = None,
        nthread: int = 1,
        goal_visible: bool = False,
        render_mode: None = None,
        **parameters: Any,
    ) -> None:
        self.family = resolve(family, parameters, GymnasiumFamily)
        super().__init__(self.family, num_envs, max_episode_steps, nthread, goal_visible, render_mode)
        processes = max(n for n in range(1, (nthread or os.cpu_count() or 1) + 1) if num_envs % n == 0)
        rows = np.split(np.arange(num_envs), processes)
        blocks = [partial(_block, self.family, each.tolist(), self.max_episode_steps, os.getpid()) for each in rows]
        self._blocks: _Block | AsyncVectorEnv
        self._blocks = blocks[0]() if processes == 1 else AsyncVectorEnv(blocks, autoreset_mode=AutoresetMode.DISABLED)
        observed, driven = flatdim(self._blocks.observation_space), flatdim(self._blocks.action_space)
        self._define_spaces(observed // num_envs, driven // num_envs)
        self._observations = np.zeros((num_envs, observed // num_envs))

    def _apply_tasks(self) -> None:
        episodes = self.num_envs // len(self._tasks)
        self._call("set_tasks", [task for task in self._tasks for _ in range(episodes)])

    def _start(self, groups: Groups, mask: np.ndarray) -> None:
        seeds = np.zeros(self.num_envs, dtype=np.int64)
        for generator, rows in groups:
            seeds[rows] = generator.integers(SEEDS, size=rows.stop - rows.start)
        with self._processes_alive():
            observations, _ = self._blocks.reset(options={"seeds": seeds, "rows": mask})
        self._observations = observations.reshape(self.num_envs, -1)

    def step(self, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, dict[str, np.ndarray]]:
        """Apply actions (N, A), clipped to [-1, 1] and scaled to the range of the environments.

        Returns observations (N, O), rewards (N,), terminations (N,), truncations (N,) and info with `diverged` (N,),
        which is false.
        """
        self._require_own_process()
        shared = self._checked_actions(actions).reshape(self._blocks.action_space.shape)
        with self._processes_alive():
            observations, *outcome, _ = self._blocks.step(shared)
        self._observations = observations.reshape(self.num_envs, -1)
        rewards, terminated, truncated = (each.reshape(self.num_envs) for each in outcome)
        return self._observe(), rewards, terminated, truncated, {"diverged": np.zeros(self.num_envs, bool)}

    def _hidden_observations(self) -> np.ndarray:
        return self._observations.copy()

    def _call(self, name: str, *arguments: Any) -> None:
        with self._processes_alive():
            if isinstance(self._blocks, AsyncVectorEnv):
                self._blocks.call(name, *arguments)
            else:
                getattr(self._blocks, name)(*arguments)

    @contextmanager
    def _processes_alive(self) -> Generator[None]:
        """Raise `BrokenEnvError` if a process has ended."""
        try:
            yield
        except (EOFError, ConnectionError) as error:
            assert isinstance(self._blocks, AsyncVectorEnv)
            processes = self._blocks.processes
            ended = wait([process.sentinel for process in processes], timeout=1)
            for process in processes:
                if process.sentinel not in ended:
                    process.terminate()
                process.join()
            codes = {process.exitcode for process in processes if process.sentinel in ended}
            self._blocks.closed = True
            raise BrokenEnvError(
                f"{self.family.name}: a process of its environments ended with exit code {', '.join(map(str, codes))}. "
                "Step them in one process to see why: threads: 1 in the settings, nthread=1 in Python"
            ) from error

    def close_extras(self, **kwargs: Any) -> None:
        """Close all environments and end their processes."""
        if hasattr(self, "_blocks"):  # Gymnasium closes an environment that could not be made, too
            self._blocks.close()

    @property
    def single(self) -> gymnasium.Env:
        """The only environment, where N = 1."""
        assert isinstance(self._blocks, _Block)
        return self._blocks.simulations[0].env


class GymnasiumEnv(TaskEnv[GymnasiumVectorEnv]):
    """One environment of a `GymnasiumFamily`, with its own pictures; see `TaskEnv` for the other arguments.

    family: the `GymnasiumFamily`, or "module:function" that returns it.
    goal_visible: append the task's fields to the observation, scaled so that the family's range is [-1, 1].
    parameters: keyword arguments of the family's function.
    """

    def __init__(
        self,
        family: GymnasiumFamily | str,
        render_mode: str | None = None,
        goal_visible: bool = False,
        task: Task | Mapping[str, Any] | None = None,
        **parameters: Any,
    ) -> None:
        self.family = resolve(family, parameters, GymnasiumFamily)
        drawing = self.family
        if render_mode == "rgb_array" and _takes(self.family.make, "render_mode"):
            drawing = replace(self.family, make=partial(self.family.make, render_mode=render_mode))
        super().__init__(GymnasiumVectorEnv(drawing, goal_visible=goal_visible), render_mode, task)
        fps = self._vector.single.metadata.get("render_fps", self.metadata["render_fps"])
        self.metadata = {**self.metadata, "render_fps": fps}

    def render(self) -> Any:
        """The environment's picture, (H, W, 3) uint8, if `render_mode` is "rgb_array".

        Raises `RenderingError` if it draws none.
        """
        if self.render_mode is None:
            return None
        if self._vector.single.render_mode != self.render_mode:
            raise RenderingError(f"{self.family.name} takes no render_mode 'rgb_array': it draws no pictures")
        return self._vector.single.render()


# --------------------------------------------------------------------------------------------- simulations
class _Simulation:
    """One environment with a task, observations (O,), and actions (A,) in [-1, 1].

    Raises `FamilyError` for an environment that cannot be given a task or whose spaces are not supported.
    """

    def __init__(self, family: GymnasiumFamily) -> None:
        self._family = family
        names = [item.name for item in fields(family.task_space.task_type)]
        told = hasattr(getattr(family.make, "func", family.make), "set_task")
        self._by_keyword = not told and all(_takes(family.make, name) for name in names)
        self.task: Task = family.task_space.grid(1)[0]
        self.env = self._made(self.task)
        if not self._by_keyword and not self.env.has_wrapper_attr("set_task"):
            raise FamilyError(
                f"{family.name}: {self.env.unwrapped} has no method set_task(task), and {family.make} does not take "
                f"{', '.join(names)} by keyword: it needs one of the two to be told its task"
            )
        self._observed, self._driven = self.env.observation_space, self._range(self.env.action_space)
        if not self._observed.is_np_flattenable:
            raise FamilyError(f"{family.name} observes {self._observed}, which is no vector when flattened")
        self.observation_size, self.action_size = flatdim(self._observed), flatdim(self._driven)
        self._low, self._high = (bound.astype(np.float64).ravel() for bound in (self._driven.low, self._driven.high))

    def _made(self, task: Task) -> gymnasium.Env:
        return self._family.make(**self._family.task_space.to_dict(task)) if self._by_keyword else self._family.make()

    def _range(self, space: gymnasium.Space) -> Box:
        if isinstance(space, Box) and np.issubdtype(space.dtype, np.floating) and space.is_bounded():
            return space
        raise FamilyError(
            f"{self._family.name} acts by {space}: expected a Box of floating point numbers with a finite range. "
            "Discrete actions are not supported; gymnasium.wrappers.RescaleAction gives an endless Box a range"
        )

    def set_task(self, task: Task) -> None:
        """Make this the current task. Nothing is reset; an environment that gets its task by keyword is made anew."""
        if self._by_keyword and task != self.task:
            self.env.close()
            self.env = self._made(task)
        elif not self._by_keyword:
            self.env.get_wrapper_attr("set_task")(task)
        self.task = task

    def reset(self, seed: int) -> np.ndarray:
        """Start an episode; return the observation (O,)."""
        observation, _ = self.env.reset(seed=seed)
        return self._flat(observation)

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool]:
        """Apply an action (A,); return observation (O,), reward, terminated and truncated."""
        low, high = self._low, self._high
        command = ((low + high) / 2 + (high - low) / 2 * action).clip(low, high)
        driven = command.reshape(self._driven.shape).astype(self._driven.dtype)
        observation, reward, terminated, truncated, _ = self.env.step(driven)
        return self._flat(observation), float(reward), bool(terminated), bool(truncated)

    def _flat(self, observation: Any) -> np.ndarray:
        if isinstance(self._observed, Box) and np.shape(observation) != self._observed.shape:
            raise ValueError(
                f"the observation has shape {np.shape(observation)}, and observation_space has {self._observed.shape}"
            )
        return np.asarray(flatten(self._observed, observation))


class _Block(gymnasium.Env):
    """The n simulations of one process, as one environment: observations (n, O), actions (n, A), rewards (n,).

    After the end of its episode a simulation stands still.

    rows: the numbers n of the simulations.
    """

    def __init__(self, family: GymnasiumFamily, rows: Sequence[int], max_episode_steps: int | None) -> None:
        self._family, self._rows, self._max_episode_steps = family, rows, max_episode_steps
        self._first = _Simulation(family)
        n = len(rows)
        self.observation_space = Box(-np.inf, np.inf, (n, self._first.observation_size), np.float64)
        self.action_space = Box(-1.0, 1.0, (n, self._first.action_size), np.float64)
        self._observations = np.zeros((n, self._first.observation_size))
        self._elapsed = np.zeros(n, dtype=np.int64)
        self._terminated, self._truncated = np.zeros(n, dtype=bool), np.zeros(n, dtype=bool)

    @cached_property
    def simulations(self) -> list[_Simulation]:
        """All n, made at the first use, because Gymnasium makes a further block to read its spaces."""
        return [self._first, *(_Simulation(self._family) for _ in self._rows[1:])]

    def set_tasks(self, tasks: Sequence[Task]) -> None:
        """Set the tasks, given for all N simulations."""
        for i, n in enumerate(self._rows):
            with self._blamed(i):
                self.simulations[i].set_task(tasks[n])

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """Start episodes where options["rows"] (N,) is true, with the seeds options["seeds"] (N,)."""
        assert options is not None
        for i in np.flatnonzero(options["rows"][self._rows]):
            with self._blamed(i):
                self._observations[i] = self.simulations[i].reset(int(options["seeds"][self._rows[i]]))
            self._elapsed[i], self._terminated[i], self._truncated[i] = 0, False, False
        return self._observations.copy(), {}

    def step(self, action: np.ndarray) -> tuple[Any, Any, Any, Any, dict[str, Any]]:
        """Apply actions (n, A); return observations (n, O), rewards, terminations and truncations, each (n,)."""
        rewards, live = np.zeros(len(self._rows)), ~(self._terminated | self._truncated)
        for i in np.flatnonzero(live):
            with self._blamed(i):
                outcome = self.simulations[i].step(action[i])
            self._observations[i], rewards[i], self._terminated[i], self._truncated[i] = outcome
        self._elapsed += live
        if self._max_episode_steps is not None:
            self._truncated |= live & (self._elapsed >= self._max_episode_steps)
        return self._observations.copy(), rewards, self._terminated.copy(), self._truncated.copy(), {}

    @contextmanager
    def _blamed(self, i: int) -> Generator[None]:
        """Turn an error into a `BrokenEnvError` that names the simulation, its task and the line."""
        try:
            yield
        except Exception as error:
            where = traceback.extract_tb(error.__traceback__)[-1]
            place = "" if where.filename == __file__ else f" ({Path(where.filename).name}, line {where.lineno})"
            raise BrokenEnvError(
                f"{self._family.name}: simulation {self._rows[i]} ({self.simulations[i].task.label}) raised "
                f"{type(error).__name__}: {error}{place}"
            ) from error

    def close(self) -> None:
        """Close those that were made."""
        for simulation in self.__dict__.get("simulations", [self._first]):
            simulation.env.close()


def _block(family: GymnasiumFamily, rows: Sequence[int], max_episode_steps: int | None, parent: int) -> _Block:
    """A block. In a process of its own it ignores Ctrl-C: the process `parent` ends it."""
    if os.getpid() != parent:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
    return _Block(family, rows, max_episode_steps)


def _takes(function: Callable[..., Any], name: str) -> bool:
    """Whether the function has an argument of this name."""
    parameters = inspect.signature(function).parameters
    return name in parameters or any(each.kind is each.VAR_KEYWORD for each in parameters.values())
