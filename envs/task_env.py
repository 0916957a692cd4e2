"""The base classes of all environments of a family: tasks, resets, and checks of arguments."""

from __future__ import annotations

import os
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, Generic, NoReturn, TypeAlias, TypeVar

import gymnasium
import numpy as np
from gymnasium.utils import seeding

from .errors import ActionError, ArgumentError, NotResetError, TaskError, unknown
from .family import Family, GymnasiumFamily
from .tasks import Task, TaskSpace

Groups: TypeAlias = list[tuple[np.random.Generator, slice]]

_TOGETHER = "Tasks are set for all simulations together, with set_tasks([task, …])"


class TaskVectorEnv(gymnasium.vector.VectorEnv):
    """N = M·E simulations of M tasks with E episodes each; simulation n = m·E + e plays task m.

    Nothing is reset automatically (`AutoresetMode.DISABLED`). After the end of its episode a simulation stands still,
    with reward 0 and the same flags, until `reset`.

    num_envs: N.
    max_episode_steps: T after which an episode is truncated; None or -1 for no limit.
    nthread: threads or processes.
    goal_visible: append the task's fields to the observation, (N, O + k), scaled so that the family's range is
        [-1, 1], to train an oracle.
    render_mode: None; single environments draw pictures.
    """

    metadata = {"render_modes": [], "autoreset_mode": gymnasium.vector.AutoresetMode.DISABLED}  # noqa: RUF012 (Gymnasium declares it so)

    def __init__(
        self,
        family: Family | GymnasiumFamily,
        num_envs: int,
        max_episode_steps: int | None,
        nthread: int,
        goal_visible: bool,
        render_mode: None,
    ) -> None:
        _at_least("num_envs", num_envs, 1)
        _at_least("nthread", nthread, 0)
        max_episode_steps = None if max_episode_steps == -1 else max_episode_steps
        if max_episode_steps is not None:
            _at_least("max_episode_steps", max_episode_steps, 1)
        if render_mode is not None:
            raise ArgumentError(
                f"render_mode = {render_mode!r}: a vector environment draws no pictures. Make one robot with "
                "gymnasium.make(id, render_mode='rgb_array')"
            )
        if not isinstance(goal_visible, bool):
            raise ArgumentError(f"goal_visible = {goal_visible!r}: expected true or false")
        if goal_visible and family.no_oracle:
            raise ArgumentError(f"goal_visible makes no sense for {family.name}: {family.no_oracle}")
        self.num_envs = num_envs
        self.max_episode_steps = max_episode_steps
        self.goal_visible = goal_visible
        self._family = family
        self._generators: list[np.random.Generator] | None = None
        self._drawn = True  # whether `reset` draws tasks, until `set_tasks`
        self._tasks: list[Task] = []
        self._task_fields: dict[str, np.ndarray] = {}
        self._goal = np.empty((num_envs, 0))  # (N, k), normalised tasks that `goal_visible` appends
        self._started = False
        self._process = os.getpid()

    def _define_spaces(self, observed: int, actions: int) -> None:
        """Set the spaces, from O without the goal and A."""
        if self.goal_visible:
            observed += self.task_space.normalised(self.task_space.array(self.task_space.grid(1))).shape[-1]
        box = gymnasium.spaces.Box
        self.single_observation_space = box(-np.inf, np.inf, (observed,), np.float64)
        self.single_action_space = box(-1.0, 1.0, (actions,), np.float32)
        self.observation_space = box(-np.inf, np.inf, (self.num_envs, observed), np.float64)
        self.action_space = box(-1.0, 1.0, (self.num_envs, actions), np.float32)

    def __getstate__(self) -> NoReturn:
        raise ArgumentError(
            "simulations cannot be copied or pickled: make another environment with the same arguments, "
            "gymnasium.make(id, …) or gymnasium.make_vec(id, …)"
        )

    def _require_own_process(self) -> None:
        """Raise `ArgumentError` after a fork: the threads of the simulation are gone, and a step would wait forever."""
        if os.getpid() != self._process:
            raise ArgumentError("the environment was made before this process was forked: make one of its own in it")

    # ---------------------------------------------------------------------------------------------- tasks
    @property
    def aim(self) -> str:
        """What the robot has to do, in words."""
        return self._family.aim

    @property
    def task_space(self) -> TaskSpace:
        """The distribution of its tasks, with the splits."""
        return self._family.task_space

    @property
    def tasks(self) -> tuple[Task, ...]:
        """The M current tasks."""
        return tuple(self._tasks)

    def set_tasks(self, tasks: Sequence[Task | Mapping[str, Any]]) -> None:
        """Give each of M tasks E = N/M neighbouring simulations. Rewards and dynamics change, nothing is reset.

        tasks: tasks, or their fields such as {"velocity": 1.7}.

        Raises `TaskError` if M does not divide N, or a task does not belong to `task_space`.
        """
        tasks = [self.task_space.from_dict(task) if isinstance(task, Mapping) else task for task in tasks]
        self.task_space.validate(tasks)
        if self.num_envs % len(tasks):
            raise TaskError(
                f"{len(tasks)} tasks cannot share num_envs = {self.num_envs} simulations evenly: "
                f"give a number of tasks that divides {self.num_envs}"
            )
        self._drawn = False
        self._assign(tasks)

    def set_attr(self, name: str, values: Any) -> NoReturn:
        """Raises `ArgumentError` always: Gymnasium's other vectors set attributes of single environments here."""
        raise ArgumentError(f"the simulations have no attribute {name!r} of their own. {_TOGETHER}")

    def _assign(self, tasks: list[Task]) -> None:
        self._tasks = tasks
        episodes = self.num_envs // len(tasks)
        self._task_fields = {
            name: np.repeat(value, episodes, axis=0) for name, value in self.task_space.array(tasks).items()
        }
        self._apply_tasks()
        if self.goal_visible:
            self._goal = self.task_space.normalised(self._task_fields)

    @abstractmethod
    def _apply_tasks(self) -> None:
        """Give the simulations the current tasks."""

    # ---------------------------------------------------------------------------------------------- reset
    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """Start episodes; return observations (N, O).

        seed: simulation n draws from `seeding.np_random(seed + n)`, as N single environments would.
        options["generators"]: G generators instead of a seed, where G divides N; each draws for N/G simulations.
        options["reset_mask"]: (N,) bool, which simulations to reset.

        If no tasks were set, every simulation that is reset draws one from `task_space`.
        """
        self._require_own_process()
        super().reset(seed=seed)
        options = options or {}
        for name in options:
            if name not in ("generators", "reset_mask"):
                raise ArgumentError(f"{unknown('reset option', name, ('generators', 'reset_mask'))} {_TOGETHER}")
        mask = self._checked_mask(options.get("reset_mask"))
        groups = [
            (generator, rows) for generator, rows in self._groups(seed, options.get("generators")) if mask[rows].any()
        ]
        if self._drawn:
            self._draw_tasks(groups, mask)
        self._start(groups, mask)
        self._started = True
        return self._observe(), {}

    def _checked_mask(self, mask: np.ndarray | None) -> np.ndarray:
        if mask is None:
            return np.ones(self.num_envs, dtype=bool)
        mask = np.asarray(mask)
        if mask.shape != (self.num_envs,) or mask.dtype != np.bool_:
            raise ArgumentError(
                f"reset_mask has shape {mask.shape} and type {mask.dtype}, expected ({self.num_envs},) and bool"
            )
        if not self._started and not mask.all():
            raise NotResetError("the first reset must start every simulation: leave out reset_mask")
        return mask

    def _groups(self, seed: int | None, generators: Sequence[np.random.Generator] | None) -> Groups:
        """Each generator with the simulations it draws for."""
        if generators is None:
            generators = self._row_generators(seed)
        elif seed is not None:
            raise ArgumentError(f"reset got both seed = {seed} and generators: give one of them")
        if not len(generators) or self.num_envs % len(generators):
            raise ArgumentError(
                f"{len(generators)} generators cannot share num_envs = {self.num_envs} simulations evenly"
            )
        share = self.num_envs // len(generators)
        return [(generator, slice(g * share, (g + 1) * share)) for g, generator in enumerate(generators)]

    def _row_generators(self, seed: int | None) -> list[np.random.Generator]:
        if seed is not None:
            self._generators = [seeding.np_random(seed + n)[0] for n in range(self.num_envs)]
        elif self._generators is None:
            self._generators = self.np_random.spawn(self.num_envs)
        return self._generators

    def _draw_tasks(self, groups: Groups, mask: np.ndarray) -> None:
        """Draw from a child of each generator, so that the start noise does not depend on whether tasks are drawn."""
        drawn = [
            task
            for generator, rows in groups
            for task in self.task_space.sample(rows.stop - rows.start, child(generator, "tasks: call set_tasks first"))
        ]
        rows_drawn = [n for _, rows in groups for n in range(rows.start, rows.stop)]
        tasks = dict(enumerate(self._tasks)) | {n: task for n, task in zip(rows_drawn, drawn, strict=True) if mask[n]}
        self._assign([tasks[n] for n in range(self.num_envs)])

    @abstractmethod
    def _start(self, groups: Groups, mask: np.ndarray) -> None:
        """Start new episodes where the mask (N,) is true; each generator draws for its rows."""

    def _observe(self) -> np.ndarray:
        """Observations (N, O), with the task's fields if `goal_visible`."""
        observations = self._hidden_observations()
        return np.concatenate([observations, self._goal], axis=-1) if self.goal_visible else observations

    @abstractmethod
    def _hidden_observations(self) -> np.ndarray:
        """Observations without the task's fields, a new array (N, O)."""

    # ----------------------------------------------------------------------------------------------- step
    def _checked_actions(self, actions: np.ndarray) -> np.ndarray:
        if not self._started:
            raise NotResetError("step was called before the first reset: call reset() once")
        actions = np.asarray(actions, dtype=np.float64)
        if actions.shape != self.action_space.shape:
            raise ActionError(f"actions have shape {actions.shape}, expected {self.action_space.shape}")
        if not np.isfinite(actions).all():
            rows = np.flatnonzero(~np.isfinite(actions).all(axis=1))
            raise ActionError(f"actions of simulations {rows[:8].tolist()} are not finite: {actions[rows[0]]}")
        return actions.clip(-1.0, 1.0)


Vector = TypeVar("Vector", bound=TaskVectorEnv)


class TaskEnv(gymnasium.Env[Any, Any], Generic[Vector]):
    """One simulation. With the same seed it does exactly what simulation 0 of a vector environment does.

    vector: a vector environment with N = 1.
    render_mode: "rgb_array" for pictures, or None.
    task: a task, or its fields such as {"velocity": 1.7}; None draws one in each reset.
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": 20}  # noqa: RUF012 (Gymnasium declares it so)

    def __init__(self, vector: Vector, render_mode: str | None, task: Task | Mapping[str, Any] | None) -> None:
        if render_mode not in (None, "rgb_array"):
            raise ArgumentError(unknown("render_mode", render_mode, self.metadata["render_modes"]))
        self.render_mode = render_mode
        self._vector = vector
        self.observation_space = vector.single_observation_space
        self.action_space = vector.single_action_space
        if task is not None:
            self.set_task(task)

    @property
    def task_space(self) -> TaskSpace:
        """The distribution of its tasks, with the splits."""
        return self._vector.task_space

    @property
    def task(self) -> Task | None:
        """The current task; None before the first reset if none was set."""
        return next(iter(self._vector.tasks), None)

    @task.setter
    def task(self, task: Task | Mapping[str, Any]) -> None:  # for `set_attr` of Gymnasium's vectors
        self.set_task(task)

    def set_task(self, task: Task | Mapping[str, Any]) -> None:
        """Make this the current task, given as a task or by its fields such as {"velocity": 1.7}; nothing is reset."""
        self._vector.set_tasks([task])

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """Start an episode; return the observation (O,).

        options["task"]: as for `set_task`. If no task was ever set, each reset draws one from `task_space`.
        """
        super().reset(seed=seed)
        options = options or {}
        for name in options:
            if name != "task":
                raise ArgumentError(unknown("reset option", name, ("task",)))
        if "task" in options:
            self.set_task(options["task"])
        observations, info = self._vector.reset(options={"generators": [self.np_random]})
        return observations[0], info

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        """Apply the action (A,), clipped to [-1, 1], for dt seconds; see `RobotVectorEnv.step` for `info`."""
        observations, rewards, terminations, truncations, info = self._vector.step(np.asarray(action)[None])
        single = {name: value[0] for name, value in info.items()}
        return observations[0], float(rewards[0]), bool(terminations[0]), bool(truncations[0]), single

    def close(self) -> None:
        self._vector.close()


def _at_least(name: str, value: int, least: int) -> None:
    if not isinstance(value, int | np.integer) or value < least:
        raise ArgumentError(f"{name} = {value!r}: expected an integer of at least {least}")


def child(generator: np.random.Generator, purpose: str) -> np.random.Generator:
    """A random stream of its own, which leaves the generator's draws as they are.

    purpose: what it draws, and the way out if the generator has no seed, for the error.
    """
    try:
        return generator.spawn(1)[0]
    except TypeError as error:
        raise ArgumentError(f"{generator} cannot spawn a stream to draw {purpose}") from error
