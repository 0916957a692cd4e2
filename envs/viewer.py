"""MuJoCo's interactive viewer for one robot with its goal."""

from __future__ import annotations

import os
import sys
import threading
import warnings
from types import TracebackType
from typing import Self

import mujoco

from .errors import RenderingError
from .rendering import add, point
from .single import RobotEnv

PATIENCE = 5.0  # [s] for the window to close
_LINUX_DISPLAYS = ("DISPLAY", "WAYLAND_DISPLAY")


class Viewer:
    """A window, open until `close` or until the user closes it. `show` draws the present state.

    env: the robot, which the caller steps. What is moved in the window does not change it.

    Errors: `RenderingError` where no window can be opened.
    """

    def __init__(self, env: RobotEnv) -> None:
        _require_display()
        from mujoco import viewer

        self._env = env
        self._model = env.family.robot.load()
        self._data = mujoco.MjData(self._model)
        before = set(threading.enumerate())
        try:
            self._window = viewer.launch_passive(self._model, self._data, show_left_ui=False, show_right_ui=False)
        except RuntimeError as error:  # on macOS windows belong to the main thread
            raise RenderingError(f"the viewer does not open: {error}") from error
        self._threads = set(threading.enumerate()) - before
        with self._window.lock():
            point(self._window.cam, self._model, env.family.robot.camera)
        self.show()

    @property
    def open(self) -> bool:
        """Whether the window is open."""
        return self._window.is_running()

    def show(self) -> None:
        """Draw the robot as it is now."""
        with self._window.lock():
            data, markers = self._env.scene(into=self._model)
            self._data.qpos[:], self._data.qvel[:], self._data.time = data.qpos, data.qvel, data.time
            mujoco.mj_forward(self._model, self._data)
            scene = self._window.user_scn
            scene.ngeom = 0
            for marker in markers:
                add(scene, marker)
        self._window.sync()

    def close(self) -> None:
        """Close the window and wait for its threads: Python crashes if it ends while they draw."""
        self._window.close()
        for thread in self._threads:
            thread.join(PATIENCE)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _require_display() -> None:
    """Raise `RenderingError` if no window can be opened: MuJoCo's viewer would wait forever."""
    way_out = "Run this where there is a display, or write a video instead"
    if sys.platform == "linux" and not any(os.environ.get(name) for name in _LINUX_DISPLAYS):
        raise RenderingError(
            f"there is no display for MuJoCo's viewer: neither {' nor '.join(_LINUX_DISPLAYS)} is set. {way_out}"
        )
    import glfw

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        window = None
        if glfw.init():
            glfw.window_hint(glfw.VISIBLE, glfw.FALSE)
            window = glfw.create_window(1, 1, "", None, None)
        glfw.terminate()
    if window is None:
        reasons = "; ".join(str(warning.message) for warning in caught) or "GLFW gives no reason"
        raise RenderingError(f"MuJoCo's viewer cannot open a window ({reasons}). {way_out}")
