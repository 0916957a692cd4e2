"""One robot of a family as an ordinary Gymnasium environment, with pictures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import mujoco
import numpy as np

from .family import Family, Marker, Text
from .rendering import Picture
from .task_env import TaskEnv
from .tasks import Task
from .vector import RobotVectorEnv


class RobotEnv(TaskEnv[RobotVectorEnv]):
    """A robot, with the goal marked in its pictures; see `TaskEnv` for the other arguments.

    family: the `Family`, or "module:function" that returns it.
    goal_visible: append the task's fields to the observation, scaled so that the family's range is [-1, 1].
    parameters: keyword arguments of the family's function.
    """

    captioned = False
    """Whether a title or caption names the task beside the pictures, so that texts in them are left out."""

    def __init__(
        self,
        family: Family | str,
        render_mode: str | None = None,
        goal_visible: bool = False,
        task: Task | Mapping[str, Any] | None = None,
        **parameters: Any,
    ) -> None:
        vector = RobotVectorEnv(family, num_envs=1, nthread=1, goal_visible=goal_visible, **parameters)
        super().__init__(vector, render_mode, task)
        self.metadata = {**self.metadata, "render_fps": round(1 / vector.dt)}
        self._picture: Picture | None = None

    @property
    def family(self) -> Family:
        """Robot, tasks and reward."""
        return self._vector.family

    def render(self) -> np.ndarray | None:
        """The picture (480, 480, 3), uint8, if `render_mode` is "rgb_array"."""
        if self.render_mode is None:
            return None
        if self._picture is None:
            self._picture = Picture(self.family.robot.load(), self.family.robot.camera)
        data, markers = self.scene(into=self._picture.model)
        shown = [marker for marker in markers if not (self.captioned and isinstance(marker, Text))]
        return self._picture.draw(data, shown)

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
        super().close()
