"""The single environment: its task, its errors, and its pictures without OpenGL."""

import ctypes.util
import os
import subprocess
import sys
from pathlib import Path

import gymnasium
import pytest

import envs
from envs.errors import ArgumentError, TaskError
from envs.velocity import VelocityTask

ROOT = Path(envs.__file__).parents[1]


def test_the_single_environment_refuses_what_it_does_not_know():
    env = gymnasium.make("metarl/HalfCheetahVel-v0").unwrapped
    with pytest.raises(ArgumentError, match=r"unknown reset option 'tsk'.*Did you mean 'task'"):
        env.reset(options={"tsk": VelocityTask(1.0)})
    with pytest.raises(TaskError, match="lies in no split"):
        env.set_task(VelocityTask(9.0))


def test_a_task_given_at_reset_stays():
    env = gymnasium.make("metarl/HalfCheetahVel-v0").unwrapped
    assert env.task is None
    env.reset(seed=0, options={"task": VelocityTask(1.0)})
    env.reset(seed=1)
    assert env.task == VelocityTask(1.0)


@pytest.mark.parametrize("task", [VelocityTask(1.7), {"velocity": 1.7}])
def test_a_task_given_when_it_is_made_stays(task):
    env = gymnasium.make("metarl/HalfCheetahVel-v0", task=task).unwrapped
    assert env.task == VelocityTask(1.7)
    env.reset(seed=1)
    assert env.task == VelocityTask(1.7)


@pytest.mark.parametrize(
    ("task", "message"),
    [
        ({"velocity": 9}, "lies in no split"),
        ({"speed": 1}, "unknown field.*velocity"),
        (1.7, "expected a VelocityTask"),
    ],
)
def test_a_task_that_does_not_exist_is_refused(task, message):
    with pytest.raises(TaskError, match=message):
        gymnasium.make("metarl/HalfCheetahVel-v0", task=task)


PICTURE = """
import gymnasium
env = gymnasium.make("envs:metarl/PointNav-v0", render_mode="rgb_array").unwrapped
env.reset(seed=0)
env.step(env.action_space.sample())
print("simulated")
try:
    env.render()
except gymnasium.error.Error as error:
    print(error)
"""


OSMESA = ctypes.util.find_library("OSMesa") is not None


@pytest.mark.skipif(sys.platform != "linux", reason="EGL is how Linux renders")
@pytest.mark.parametrize(
    ("broken", "message"),
    [
        ({"MUJOCO_GL": "disable"}, "libegl1, libgl1 and libgl1-mesa-dri"),
        ({"MUJOCO_GL": "egl", "PYOPENGL_PLATFORM": "osmesa"}, "libegl1, libgl1 and libgl1-mesa-dri"),
        pytest.param(
            {"MUJOCO_GL": "OSMesa"},
            "MUJOCO_GL = osmesa needs libOSMesa.so.8. On Debian and Ubuntu install libosmesa6",
            marks=pytest.mark.skipif(OSMESA, reason="it is installed"),
        ),
        ({"MUJOCO_GL": "nonsense"}, "MUJOCO_GL = 'nonsense' is no renderer: set it to egl, osmesa, glfw or disable"),
        ({"MUJOCO_EGL_DEVICE_ID": "abc"}, "MUJOCO_EGL_DEVICE_ID = 'abc': expected the number of a device"),
        ({"MUJOCO_EGL_DEVICE_ID": "77"}, "MUJOCO_EGL_DEVICE_ID = '77': expected the number of a device"),
    ],
)
def test_without_opengl_only_pictures_fail_and_say_why(broken, message):
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "MUJOCO_GL": "egl", **broken}
    result = subprocess.run(
        [sys.executable, "-c", PICTURE], env=environment, capture_output=True, text=True, check=True
    )
    assert result.stdout.startswith("simulated\nno picture can be drawn on this machine: ")
    assert message in result.stdout


TRITON = """
import sys
egl = sys.modules["mujoco.egl"]
print("triton comes", "after" if egl.EGL_DISPLAY else "before", "the first picture")
raise ImportError("and even where it is broken")
"""


@pytest.mark.skipif(sys.platform != "linux", reason="EGL is how Linux renders")
def test_triton_is_imported_before_the_first_picture(tmp_path):
    """Both bring an LLVM; the other way round the process ends by a segmentation fault."""
    (tmp_path / "triton.py").write_text(TRITON)
    path = f"{tmp_path}{os.pathsep}{ROOT}"
    environment = {**os.environ, "PYTHONPATH": path, "MUJOCO_GL": "egl"}
    environment.pop("MUJOCO_EGL_DEVICE_ID", None)
    code = f"{PICTURE}print(env.render().shape)\n"
    result = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert result.stdout.startswith("simulated\ntriton comes before the first picture\n")
    assert result.stdout.endswith("(480, 480, 3)\n")
