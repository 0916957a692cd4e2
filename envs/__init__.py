"""Robot task families for meta-reinforcement learning, as Gymnasium environments.

Importing this package registers its environments, so that

    gymnasium.make("envs:metarl/HalfCheetahVel-v0")
    gymnasium.make_vec("envs:metarl/HalfCheetahVel-v0", num_envs=800)

need no further import. Other packages register their own families in the same way, as below: `family` names a function,
"module:function", that returns an `envs.family.Family`.
"""

import ctypes
import os
import sys

import gymnasium

RENDERERS = {"egl": ("libEGL.so.1", "libGL.so.1"), "osmesa": ("libOSMesa.so.8",)}
"""Value of MUJOCO_GL -> the libraries that it needs."""
PACKAGES = {"egl": "libegl1, libgl1 and libgl1-mesa-dri", "osmesa": "libosmesa6"}
"""Value of MUJOCO_GL -> the Debian packages with these libraries."""
WINDOWED = ("", "glfw", "glx", "enable", "enabled", "on", "true", "1")
"""Values of MUJOCO_GL, on Linux, for a renderer that needs a display."""
OFF = ("disable", "disabled", "off", "false", "0")
"""Values of MUJOCO_GL for no renderer."""


def _can_load(library: str) -> bool:
    try:
        ctypes.CDLL(library)
    except OSError:
        return False
    return True


def _choose_offscreen_rendering() -> str:
    """Set MUJOCO_GL before MuJoCo is first imported: without a display, to EGL.

    If the chosen renderer does not exist, is not installed or lacks a display, rendering is disabled and the reason
    returned: `import mujoco` would fail, or the first picture. Otherwise the returned text is empty.
    """
    if sys.platform != "linux":
        return ""
    without_display = "DISPLAY" not in os.environ and "WAYLAND_DISPLAY" not in os.environ
    if without_display and not os.environ.get("MUJOCO_GL"):
        os.environ["MUJOCO_GL"] = "egl"
    chosen = os.environ.get("MUJOCO_GL", "").strip().lower()
    problem = ""
    if chosen in OFF:
        problem = f"MUJOCO_GL = {chosen!r} turns pictures off: set it to egl, osmesa or glfw"
    elif chosen in WINDOWED and without_display:
        problem = f"MUJOCO_GL = {chosen!r} needs a display, and there is none: set it to egl or osmesa"
    elif chosen not in (*WINDOWED, *RENDERERS):
        problem = f"MUJOCO_GL = {chosen!r} is no renderer: set it to egl, osmesa, glfw or disable"
    elif missing := [library for library in RENDERERS.get(chosen, ()) if not _can_load(library)]:
        problem = f"MUJOCO_GL = {chosen} needs {', '.join(missing)}. On Debian and Ubuntu install {PACKAGES[chosen]}"
    if problem:
        os.environ["MUJOCO_GL"] = "disable"
    return problem


def _register(name: str, family: str, max_episode_steps: int) -> None:
    """By names below this package's own, which may be `metarl.envs`; whichever of the two is imported first counts."""
    if f"metarl/{name}-v0" in gymnasium.registry:
        return
    gymnasium.register(
        id=f"metarl/{name}-v0",
        entry_point=f"{__name__}.single:RobotEnv",
        vector_entry_point=f"{__name__}.vector:RobotVectorEnv",
        kwargs={"family": f"{__name__}.{family}"},
        max_episode_steps=max_episode_steps,
    )


PROBLEM = _choose_offscreen_rendering()
"""Why rendering was disabled; empty if it was not."""
_register("PointNav", "point:navigation", max_episode_steps=100)
_register("PointNavSparse", "point:sparse_navigation", max_episode_steps=100)
_register("HalfCheetahVel", "half_cheetah:velocity", max_episode_steps=200)
_register("HalfCheetahDir", "half_cheetah:direction", max_episode_steps=200)
_register("HalfCheetahParams", "half_cheetah:params", max_episode_steps=200)
_register("HalfCheetahLimbs", "half_cheetah:limbs", max_episode_steps=200)
_register("HalfCheetahDelay", "half_cheetah:delay", max_episode_steps=200)
_register("HalfCheetahNoise", "half_cheetah:noise", max_episode_steps=200)
_register("Walker2dVel", "walker2d:velocity", max_episode_steps=200)
_register("Walker2dParams", "walker2d:params", max_episode_steps=200)
_register("HopperParams", "hopper:params", max_episode_steps=200)
_register("AntDir", "ant:direction", max_episode_steps=200)
_register("AntVel", "ant:velocity", max_episode_steps=200)
_register("AntGoal", "ant:goal", max_episode_steps=200)
_register("HumanoidDir", "humanoid:direction", max_episode_steps=200)
_register("SwimmerVel", "swimmer:velocity", max_episode_steps=200)
_register("ReacherGoal", "reacher:goal", max_episode_steps=50)
_register("PusherGoal", "pusher:goal", max_episode_steps=100)
