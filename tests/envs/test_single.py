"""The single environment: its task, its errors, and its pictures without OpenGL."""

import copy
import ctypes.util
import os
import pickle
import subprocess
import sys
from pathlib import Path

import gymnasium
import mujoco
import numpy as np
import pytest

import envs
from envs.errors import ArgumentError, TaskError
from envs.rendering import Picture
from envs.robots import Camera
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
        ({"MUJOCO_GL": "disable"}, "MUJOCO_GL = 'disable' turns pictures off: set it to egl, osmesa or glfw"),
        ({"MUJOCO_GL": "glfw"}, "MUJOCO_GL = 'glfw' needs a display, and there is none: set it to egl or osmesa"),
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
    for name in ("DISPLAY", "WAYLAND_DISPLAY"):
        environment.pop(name, None)
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


BALL = """<mujoco>{light}<worldbody><body><joint name="x" type="slide"/><geom size="0.3" mass="1"/></body></worldbody>
<actuator><motor joint="x"/></actuator></mujoco>"""


def brightest(light):
    model = mujoco.MjModel.from_xml_string(BALL.format(light=light))
    picture = Picture(model, Camera(distance=1.5))
    data = mujoco.MjData(model)
    mujoco.mj_forward(model, data)
    pixels = picture.draw(data, [])
    picture.close()
    return int(pixels.max())


def test_a_model_without_a_light_is_seen():
    own = '<visual><headlight ambient="0.11 0.1 0.1"/></visual>'  # nearly MuJoCo's own light, but chosen by the model
    assert brightest("") > 1.5 * brightest(own)


# ----------------------------------------------------------------------------------- habits of Gymnasium's users
def make(**options):
    return gymnasium.make("metarl/HalfCheetahVel-v0", **options)


def test_a_captioned_picture_has_no_text_of_its_own():
    """What is hidden of the robot's dynamics is named once: in the picture, or beside it."""
    env = gymnasium.make("envs:metarl/HalfCheetahParams-v0", render_mode="rgb_array")
    pictures = {}
    for captioned in (False, True):
        env.set_wrapper_attr("captioned", captioned)
        for n, task in enumerate(env.get_wrapper_attr("task_space").grid(2)):
            env.reset(seed=0, options={"task": task})
            pictures[captioned, n] = env.render()
    env.close()
    assert (pictures[False, 0] != pictures[False, 1]).any()
    np.testing.assert_array_equal(pictures[True, 0], pictures[True, 1])


def test_a_task_is_set_as_an_attribute_in_plain_data_and_at_a_reset():
    env = make()
    env.unwrapped.task = VelocityTask(1.0)
    assert env.unwrapped.task.velocity == 1.0
    env.unwrapped.set_task({"velocity": 0.7})
    assert env.unwrapped.task.velocity == 0.7
    env.reset(seed=0, options={"task": {"velocity": 1.2}})
    assert env.unwrapped.task.velocity == 1.2
    with pytest.raises(TaskError, match="Did you mean 'velocity'"):
        env.reset(options={"task": {"velocty": 1.2}})


def test_the_tasks_of_a_vector_of_single_environments_are_set_as_an_attribute():
    pair = gymnasium.make_vec("metarl/HalfCheetahVel-v0", num_envs=2, vectorization_mode="sync")
    pair.set_attr("task", [VelocityTask(0.4), VelocityTask(1.6)])
    assert [task.velocity for task in pair.get_attr("task")] == [0.4, 1.6]


def test_the_tasks_of_a_vector_environment_are_set_together():
    pair = gymnasium.make_vec("metarl/HalfCheetahVel-v0", num_envs=2)
    pair.set_tasks([{"velocity": 0.4}, VelocityTask(1.6)])
    assert [task.velocity for task in pair.tasks] == [0.4, 1.6]
    with pytest.raises(TaskError, match="Did you mean 'velocity'"):
        pair.set_tasks([{"velocty": 0.4}])
    elsewhere = (
        lambda: pair.set_attr("task", VelocityTask(0.4)),
        lambda: pair.reset(options={"task": {"velocity": 0.4}}),
    )
    for call in elsewhere:
        with pytest.raises(ArgumentError, match=r"'task'.*set for all simulations together, with set_tasks\("):
            call()
    assert [task.velocity for task in pair.tasks] == [0.4, 1.6]


@pytest.mark.parametrize("copied", [copy.deepcopy, pickle.dumps])
def test_an_environment_that_is_copied_says_what_to_do_instead(copied):
    for env in (make().unwrapped, gymnasium.make_vec("metarl/HalfCheetahVel-v0", num_envs=2)):
        with pytest.raises(ArgumentError, match=r"cannot be copied or pickled: make another"):
            copied(env)


def test_a_vector_environment_that_is_to_draw_names_the_single_environment():
    with pytest.raises(ArgumentError, match=r"draws no pictures.*gymnasium\.make\(id, render_mode='rgb_array'"):
        gymnasium.make_vec("metarl/HalfCheetahVel-v0", num_envs=2, render_mode="rgb_array")


@pytest.mark.parametrize("unlimited", [-1, None])
def test_a_vector_environment_without_a_time_limit(unlimited):
    env = gymnasium.make_vec("metarl/PointNav-v0", num_envs=2, max_episode_steps=unlimited)
    env.reset(seed=0)
    for _ in range(120):
        *_, truncated, _ = env.step(np.zeros((2, 2)))
    assert not truncated.any()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
@pytest.mark.parametrize("what", ["step", "reset"])
def test_a_forked_process_is_told_to_make_its_own(what):
    env = make().unwrapped
    env.reset(seed=0)
    child = os.fork()
    if child == 0:
        try:
            env.step(np.zeros(6)) if what == "step" else env.reset()
        except ArgumentError as error:
            os._exit(7 if "before this process was forked" in str(error) else 1)
        os._exit(2)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
