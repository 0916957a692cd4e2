"""The interactive window, where there is a display, and what is said where there is none."""

import os
import subprocess
import sys
from pathlib import Path

import gymnasium
import pytest

import envs
from envs.errors import RenderingError
from envs.viewer import Viewer

ROOT = Path(envs.__file__).parents[1]
LINUX = pytest.mark.skipif(sys.platform != "linux", reason="elsewhere a display is always there")


def robot(name="HopperParams"):
    env = gymnasium.make(f"envs:metarl/{name}-v0").unwrapped
    env.set_task(env.task_space.grid(3)[2])
    env.reset(seed=0)
    return env


@LINUX
def test_without_a_display_no_window_is_waited_for(monkeypatch):
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    with pytest.raises(RenderingError, match=r"no display.*neither DISPLAY nor WAYLAND_DISPLAY is set.*video instead"):
        Viewer(robot())


@LINUX
def test_a_display_that_does_not_answer():
    code = "from test_viewer import *; Viewer(robot())"
    process = subprocess.run(
        [sys.executable, "-c", code],
        cwd=Path(__file__).parent,
        env={**os.environ, "DISPLAY": ":987", "WAYLAND_DISPLAY": "", "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert process.returncode == 1
    assert "cannot open a window" in process.stderr
    assert ":987" in process.stderr


@pytest.mark.skipif("DISPLAY" not in os.environ, reason="a window needs a display")
def test_a_window_shows_the_robot_and_its_goal_as_they_are_now():
    env = robot()
    with Viewer(env) as viewer:
        for _ in range(5):
            env.step(env.action_space.sample())
            viewer.show()
        data, markers = env.scene(into=env.family.robot.load())
        assert viewer.open
        assert viewer._data.qpos.tolist() == data.qpos.tolist()
        assert viewer._model.body_mass.tolist() == env._vector.get_model(0).body_mass.tolist()
        assert viewer._window.user_scn.ngeom == len(markers) > 0
    assert not viewer.open
