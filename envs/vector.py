"""N robots of one family as a Gymnasium vector environment, simulated by `mujoco.batch`."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any, NoReturn, TypeAlias

import gymnasium
import mujoco
import numpy as np
from gymnasium.utils import seeding
from mujoco.batch import Batch

from envs.dynamics import Dynamics
from envs.errors import ActionError, ArgumentError, NotResetError, TaskError, unknown
from envs.family import Family, State, resolve
from envs.robots import StartNoise, action_size, command_range
from envs.tasks import Task, TaskSpace

_DIVERGENCE = [
    int(warning)
    for warning in (
        mujoco.mjtWarning.mjWARN_BADQPOS,
        mujoco.mjtWarning.mjWARN_BADQVEL,
        mujoco.mjtWarning.mjWARN_BADQACC,
    )
]
_COUNT = 1  # column of `Batch.warning` that counts how often a warning was raised

Groups: TypeAlias = list[tuple[np.random.Generator, slice]]


class RobotVectorEnv(gymnasium.vector.VectorEnv):
    """N = M·E simulations of M tasks with E episodes each; simulation n = m·E + e plays task m.

    Nothing is reset automatically (`AutoresetMode.DISABLED`). After the end of its episode a simulation stands still,
    with reward 0 and the same flags, until `reset`.

    family: the `Family`, or "module:function" that returns it.
    num_envs: N.
    max_episode_steps: T after which an episode is truncated; None or -1 for no limit.
    nthread: threads of the simulation, 0 for one per CPU. Results do not depend on it.
    goal_visible: append the task's fields to the observation, (N, O + k), scaled so that the family's range is
        [-1, 1], to train an oracle.
    render_mode: None; `RobotEnv` draws pictures.
    parameters: keyword arguments of the family's function.
    """

    metadata = {"render_modes": [], "autoreset_mode": gymnasium.vector.AutoresetMode.DISABLED}  # noqa: RUF012 (Gymnasium declares it so)

    def __init__(
        self,
        family: Family | str,
        num_envs: int = 1,
        max_episode_steps: int | None = None,
        nthread: int = 0,
        goal_visible: bool = False,
        render_mode: None = None,
        **parameters: Any,
    ) -> None:
        _at_least("num_envs", num_envs, 1)
        _at_least("nthread", nthread, 0)
        max_episode_steps = None if max_episode_steps == -1 else max_episode_steps
        if max_episode_steps is not None:
            _at_least("max_episode_steps", max_episode_steps, 1)
        if render_mode is not None:
            raise ArgumentError(
                f"render_mode = {render_mode!r}: a batch draws no pictures. Make one robot with "
                "gymnasium.make(id, render_mode='rgb_array')"
            )
        self.family = resolve(family, parameters)
        self.num_envs = num_envs
        self.max_episode_steps = max_episode_steps
        if not isinstance(goal_visible, bool):
            raise ArgumentError(f"goal_visible = {goal_visible!r}: expected true or false")
        if goal_visible and self.family.no_oracle:
            raise ArgumentError(f"goal_visible makes no sense for {self.family.name}: {self.family.no_oracle}")
        self.goal_visible = goal_visible
        self._load(nthread)
        self._define_spaces()
        self._generators: list[np.random.Generator] | None = None
        self._drawn = True  # whether `reset` draws tasks, until `set_tasks`
        self._tasks: list[Task] = []
        self._task_fields: dict[str, np.ndarray] = {}
        self._goal = np.empty((num_envs, 0))  # (N, k), normalised tasks that `goal_visible` appends
        self._started = False
        self._elapsed = np.zeros(num_envs, dtype=np.int64)
        self._terminated = np.zeros(num_envs, dtype=bool)
        self._truncated = np.zeros(num_envs, dtype=bool)
        self._process = os.getpid()

    def __getstate__(self) -> NoReturn:
        raise ArgumentError(
            "simulations cannot be copied or pickled: make another environment with the same arguments, "
            "gymnasium.make(id, …) or gymnasium.make_vec(id, …)"
        )

    def _require_own_process(self) -> None:
        """Raise `ArgumentError` after a fork: the threads of the simulation are gone, and a step would wait forever."""
        if os.getpid() != self._process:
            raise ArgumentError("the environment was made before this process was forked: make one of its own in it")

    def _load(self, nthread: int) -> None:
        robot = self.family.robot
        model = robot.load()
        self.model = model
        self.dt = model.opt.timestep * robot.frame_skip  # [s]
        self._batch = Batch(model, self.num_envs, nthread=nthread)
        scalings, task_type = self.family.dynamics, self.task_space.task_type
        self._dynamics = Dynamics(self._batch, scalings, task_type) if scalings else None
        self._qpos, self._qvel = self._batch.bind("qpos"), self._batch.bind("qvel")
        self._command = self._batch.bind(robot.driven)
        self._command_centre, self._command_scale = command_range(robot, model)  # (A,)
        self._fields = {name: self._batch.bind(name) for name in robot.fields}
        self._stage = int(mujoco.mjtStage.mjSTAGE_VEL if robot.fields else mujoco.mjtStage.mjSTAGE_NONE)
        self._batch.forward()
        self._state = self._read()

    def _define_spaces(self) -> None:
        observed = self.family.observe(self._state).shape[-1]
        if self.goal_visible:
            observed += self.task_space.normalised(self.task_space.array(self.task_space.grid(1))).shape[-1]
        actions = action_size(self.family.robot, self.model)
        box = gymnasium.spaces.Box
        self.single_observation_space = box(-np.inf, np.inf, (observed,), np.float64)
        self.single_action_space = box(-1.0, 1.0, (actions,), np.float32)
        self.observation_space = box(-np.inf, np.inf, (self.num_envs, observed), np.float64)
        self.action_space = box(-1.0, 1.0, (self.num_envs, actions), np.float32)

    # ---------------------------------------------------------------------------------------------- tasks
    @property
    def aim(self) -> str:
        """What the robot has to do, in words."""
        return self.family.aim

    @property
    def task_space(self) -> TaskSpace:
        """The distribution of its tasks, with the splits."""
        return self.family.task_space

    @property
    def tasks(self) -> tuple[Task, ...]:
        """The M current tasks."""
        return tuple(self._tasks)

    def set_tasks(self, tasks: Sequence[Task]) -> None:
        """Give each of M tasks E = N/M neighbouring simulations. Rewards and dynamics change, nothing is reset.

        Raises `TaskError` if M does not divide N, or a task does not belong to `task_space`.
        """
        self.task_space.validate(tasks)
        if self.num_envs % len(tasks):
            raise TaskError(
                f"{len(tasks)} tasks cannot share num_envs = {self.num_envs} simulations evenly: "
                f"give a number of tasks that divides {self.num_envs}"
            )
        self._drawn = False
        self._assign(list(tasks))

    def _assign(self, tasks: list[Task]) -> None:
        self._tasks = tasks
        episodes = self.num_envs // len(tasks)
        self._task_fields = {
            name: np.repeat(value, episodes, axis=0) for name, value in self.task_space.array(tasks).items()
        }
        if self._dynamics is not None:
            self._dynamics.apply(self._task_fields)
        if self.goal_visible:
            self._goal = self.task_space.normalised(self._task_fields)

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
                raise ArgumentError(unknown("reset option", name, ("generators", "reset_mask")))
        mask = self._checked_mask(options.get("reset_mask"))
        groups = [
            (generator, rows) for generator, rows in self._groups(seed, options.get("generators")) if mask[rows].any()
        ]
        if self._drawn:
            self._draw_tasks(groups, mask)
        self._start(groups, mask)
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
            for task in self.task_space.sample(rows.stop - rows.start, _child(generator))
        ]
        rows_drawn = [n for _, rows in groups for n in range(rows.start, rows.stop)]
        tasks = dict(enumerate(self._tasks)) | {n: task for n, task in zip(rows_drawn, drawn, strict=True) if mask[n]}
        self._assign([tasks[n] for n in range(self.num_envs)])

    def _start(self, groups: Groups, mask: np.ndarray) -> None:
        ids = None if mask.all() else mask
        self._batch.reset(ids, stage=int(mujoco.mjtStage.mjSTAGE_NONE))
        if (noise := self.family.robot.reset_noise) is not None:
            self._add_noise(noise, groups, mask)
        self._batch.forward(ids)
        self._elapsed[mask] = 0
        self._terminated[mask] = False
        self._truncated[mask] = False
        self._started = True
        self._state = self._read()

    def _add_noise(self, noise: StartNoise, groups: Groups, mask: np.ndarray) -> None:
        for generator, rows in groups:
            of_qpos, of_qvel = noise.draw(generator, rows.stop - rows.start, self.model.nq, self.model.nv)
            chosen = mask[rows, None]
            self._qpos[rows] += np.where(chosen, of_qpos, 0.0)
            self._qvel[rows] += np.where(chosen, of_qvel, 0.0)

    # ----------------------------------------------------------------------------------------------- step
    def step(self, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, dict[str, np.ndarray]]:
        """Apply actions (N, A), clipped to [-1, 1], for dt seconds.

        Returns observations (N, O), rewards (N,), terminations (N,), truncations (N,) and info: every measurement,
        every term of the reward as `reward_<term>`, and `diverged` (N,), which marks simulations that became unstable.
        Their episodes terminate with a last reward of 0.

        Raises `ActionError` for actions of another shape or that are not finite.
        """
        self._require_own_process()
        actions = self._checked_actions(actions)
        live = ~(self._terminated | self._truncated)
        self._simulate(actions, live)
        diverged = self._batch.warning[:, _DIVERGENCE, _COUNT].any(axis=1)
        before, self._state = self._state, self._read()
        measured = self.family.measure(before, self._state, self.dt)
        terms = self.family.reward(measured, actions, self._task_fields)
        self._end(live, diverged)
        terms = _only(live & ~diverged, terms)
        info = {**measured, **{f"reward_{name}": term for name, term in terms.items()}, "diverged": diverged}
        rewards = np.sum(list(terms.values()), axis=0)
        return self._observe(), rewards, self._terminated.copy(), self._truncated.copy(), info

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

    def _simulate(self, actions: np.ndarray, live: np.ndarray) -> None:
        commands = self._command_centre + self._command_scale * actions
        if live.all():
            self._command[:] = commands
            self._batch.step(nstep=self.family.robot.frame_skip, stage=self._stage)
        elif live.any():
            self._command[live] = commands[live]
            self._batch.step(live, nstep=self.family.robot.frame_skip, stage=self._stage)

    def _end(self, live: np.ndarray, diverged: np.ndarray) -> None:
        self._elapsed += live
        self._terminated |= diverged
        if self.family.terminated is not None:
            self._terminated |= live & self.family.terminated(self._state)
        if self.max_episode_steps is not None:
            self._truncated |= live & (self._elapsed >= self.max_episode_steps)

    def _read(self) -> State:
        fields = {name: _frozen_copy(value) for name, value in self._fields.items()}
        return State(_frozen_copy(self._qpos), _frozen_copy(self._qvel), fields)

    def _observe(self) -> np.ndarray:
        observations = self.family.observe(self._state)
        if not self.goal_visible:
            return observations
        return np.concatenate([observations, self._goal], axis=-1)

    # --------------------------------------------------------------------------------------------- access
    def get_data(self, n: int) -> mujoco.MjData:
        """A copy of the data of simulation n, with all derived quantities."""
        data = self._batch.get_data(n)
        mujoco.mj_forward(self.get_model(n), data)
        return data

    def get_model(self, n: int, into: mujoco.MjModel | None = None) -> mujoco.MjModel:
        """The model of simulation n: a copy with its task's dynamics, or the shared model if there are none.

        into: a model of the same robot to write to instead of a new copy.
        """
        return self.model if self._dynamics is None else self._batch.get_model(n, into)

    def state_of(self, n: int) -> State:
        """The state of simulation n, without the leading axis."""
        state = self._state
        return State(state.qpos[n], state.qvel[n], {name: value[n] for name, value in state.fields.items()})

    def time_of(self, n: int) -> float:
        """Seconds since the reset of simulation n."""
        return float(self._elapsed[n]) * self.dt


def _at_least(name: str, value: int, least: int) -> None:
    if not isinstance(value, int | np.integer) or value < least:
        raise ArgumentError(f"{name} = {value!r}: expected an integer of at least {least}")


def _child(generator: np.random.Generator) -> np.random.Generator:
    try:
        return generator.spawn(1)[0]
    except TypeError as error:
        raise ArgumentError(
            f"no tasks were set and {generator} cannot spawn a stream to draw them: call set_tasks first"
        ) from error


def _frozen_copy(array: np.ndarray) -> np.ndarray:
    """A read-only copy: observations and measurements may be views of it."""
    copied = array.copy()
    copied.flags.writeable = False
    return copied


def _only(rows: np.ndarray, terms: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The terms where `rows` is true and 0 elsewhere."""
    return terms if rows.all() else {name: np.where(rows, term, 0.0) for name, term in terms.items()}
