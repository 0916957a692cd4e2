"""N robots of one family as a Gymnasium vector environment, simulated by `mujoco.batch`."""

from __future__ import annotations

from typing import Any

import mujoco
import numpy as np
from mujoco.batch import Batch

from .dynamics import Dynamics
from .family import Family, State, resolve
from .robots import StartNoise, action_size, command_range
from .signals import DelayedActions, SensorNoise
from .task_env import Groups, TaskVectorEnv

_DIVERGENCE = [
    int(warning)
    for warning in (
        mujoco.mjtWarning.mjWARN_BADQPOS,
        mujoco.mjtWarning.mjWARN_BADQVEL,
        mujoco.mjtWarning.mjWARN_BADQACC,
    )
]
_COUNT = 1  # column of `Batch.warning` that counts how often a warning was raised


class RobotVectorEnv(TaskVectorEnv):
    """N = M·E robots of M tasks with E episodes each; see `TaskVectorEnv` for the other arguments.

    family: the `Family`, or "module:function" that returns it.
    nthread: threads of the simulation, 0 for one per CPU. Results do not depend on it.
    parameters: keyword arguments of the family's function.
    """

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
        self.family = resolve(family, parameters, Family)
        super().__init__(self.family, num_envs, max_episode_steps, nthread, goal_visible, render_mode)
        self._load(nthread)
        observed, driven = self.family.observe(self._state).shape[-1], action_size(self.family.robot, self.model)
        self._define_spaces(observed, driven)
        delay, noise = self.family.action_delay, self.family.sensor_noise
        self._delay = None if delay is None else DelayedActions(delay, num_envs, driven)
        self._noise = None if noise is None else SensorNoise(noise, (num_envs, observed))
        self._elapsed = np.zeros(num_envs, dtype=np.int64)
        self._terminated = np.zeros(num_envs, dtype=bool)
        self._truncated = np.zeros(num_envs, dtype=bool)

    def _load(self, nthread: int) -> None:
        robot = self.family.robot
        model = robot.load()
        self.model = model
        self.dt = model.opt.timestep * robot.frame_skip  # [s]
        self._batch = Batch(model, self.num_envs, nthread=nthread)
        scalings, task_type = self.family.dynamics, self.task_space.task_type
        self._dynamics = Dynamics(self._batch, scalings, task_type, robot.specification()) if scalings else None
        self._qpos, self._qvel = self._batch.bind("qpos"), self._batch.bind("qvel")
        self._command = self._batch.bind(robot.driven)
        self._command_centre, self._command_scale = command_range(robot, model)  # (A,)
        self._fields = {name: self._batch.bind(name) for name in robot.fields}
        self._stage = int(mujoco.mjtStage.mjSTAGE_VEL if robot.fields else mujoco.mjtStage.mjSTAGE_NONE)
        self._batch.forward()
        self._state = self._read()

    def _apply_tasks(self) -> None:
        if self._dynamics is not None:
            self._dynamics.apply(self._task_fields)
        if self._delay is not None:
            self._delay.set_tasks(self._task_fields)
        if self._noise is not None:
            self._noise.set_tasks(self._task_fields)

    # ---------------------------------------------------------------------------------------------- reset
    def _start(self, groups: Groups, mask: np.ndarray) -> None:
        ids = None if mask.all() else mask
        self._batch.reset(ids, stage=int(mujoco.mjtStage.mjSTAGE_NONE))
        if (noise := self.family.robot.reset_noise) is not None:
            self._add_noise(noise, groups, mask)
        self._batch.forward(ids)
        self._elapsed[mask] = 0
        self._terminated[mask] = False
        self._truncated[mask] = False
        self._state = self._read()
        if self._delay is not None:
            self._delay.reset(mask)
        if self._noise is not None:
            self._noise.reset(groups, mask)

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
        self._simulate(actions if self._delay is None else self._delay(actions), live)
        diverged = self._batch.warning[:, _DIVERGENCE, _COUNT].any(axis=1)
        before, self._state = self._state, self._read()
        measured = self.family.measure(before, self._state, self.dt)
        terms = self.family.reward(measured, actions, self._task_fields)
        self._end(live, diverged)
        if self._noise is not None:
            self._noise.draw(live)
        terms = _only(live & ~diverged, terms)
        info = {**measured, **{f"reward_{name}": term for name, term in terms.items()}, "diverged": diverged}
        rewards = np.sum(list(terms.values()), axis=0)
        return self._observe(), rewards, self._terminated.copy(), self._truncated.copy(), info

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

    def _hidden_observations(self) -> np.ndarray:
        observations = self.family.observe(self._state)
        return observations if self._noise is None else self._noise.added_to(observations)

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


def _frozen_copy(array: np.ndarray) -> np.ndarray:
    """A read-only copy: observations and measurements may be views of it."""
    copied = array.copy()
    copied.flags.writeable = False
    return copied


def _only(rows: np.ndarray, terms: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The terms where `rows` is true and 0 elsewhere."""
    return terms if rows.all() else {name: np.where(rows, term, 0.0) for name, term in terms.items()}
