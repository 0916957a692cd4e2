"""One robot of a family as an ordinary Gymnasium environment, with pictures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import gymnasium
import mujoco
import numpy as np

from envs.errors import ArgumentError, unknown
from envs.family import Family, Marker
from envs.rendering import Picture
from envs.tasks import Task, TaskSpace
from envs.vector import RobotVectorEnv


class RobotEnv(gymnasium.Env):
    """One robot. With the same seed it does exactly what simulation 0 of a `RobotVectorEnv` does.

    family: the `Family`, or "module:function" that returns it.
    render_mode: "rgb_array" for pictures with the goal marked, or None.
    goal_visible: append the task's fields to the observation, scaled so that the family's range is [-1, 1].
    task: a task, or its fields such as {"velocity": 1.7}; None draws one in each reset.
    parameters: keyword arguments of the family's function.
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": 20}  # noqa: RUF012 (Gymnasium declares it so)

    def __init__(
        self,
        family: Family | str,
        render_mode: str | None = None,
        goal_visible: bool = False,
        task: Task | Mapping[str, Any] | None = None,
        **parameters: Any,
    ) -> None:
        if render_mode not in (None, "rgb_array"):
            raise ArgumentError(unknown("render_mode", render_mode, self.metadata["render_modes"]))
        self.render_mode = render_mode
        self._vector = RobotVectorEnv(family, num_envs=1, nthread=1, goal_visible=goal_visible, **parameters)
        self.metadata = {**self.metadata, "render_fps": round(1 / self._vector.dt)}
        self.observation_space = self._vector.single_observation_space
        self.action_space = self._vector.single_action_space
        self._picture: Picture | None = None
        if task is not None:
            self.set_task(task)

    @property
    def family(self) -> Family:
        """Robot, tasks and reward."""
        return self._vector.family

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
        self._vector.set_tasks([self.task_space.from_dict(task) if isinstance(task, Mapping) else task])

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

    def render(self) -> np.ndarray | None:
        """The picture (480, 480, 3), uint8, if `render_mode` is "rgb_array"."""
        if self.render_mode is None:
            return None
        if self._picture is None:
            self._picture = Picture(self.family.robot.load(), self.family.robot.camera)
        return self._picture.draw(*self.scene(into=self._picture.model))

    def scene(self, into: mujoco.MjModel) -> tuple[mujoco.MjData, Sequence[Marker]]:
        """What to draw: the robot's data, with the model's own goal body at the goal, and the task's markers.

        into: a model of the robot; the task's dynamics are written to it.
        """
        data, markers = self._vector.get_data(0), []
        if self.task is not None:
            markers = self.family.markers(self._vector.state_of(0), self._vector.time_of(0), self.task)
            if self.family.place_goal is not None:
                data.qpos[:] = self.family.place_goal(data.qpos.copy(), self.task)
                mujoco.mj_forward(self._vector.get_model(0), data)
        self._vector.get_model(0, into=into)
        return data, markers

    def close(self) -> None:
        """Free the graphics memory."""
        if self._picture is not None:
            self._picture.close()
            self._picture = None
        self._vector.close()
