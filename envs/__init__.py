"""Robot task families for meta-reinforcement learning, as Gymnasium environments.

Importing this package registers its environments, so that

    gymnasium.make("envs:metarl/HalfCheetahVel-v0")
    gymnasium.make_vec("envs:metarl/HalfCheetahVel-v0", num_envs=800)

need no further import. A package outside can register a family of its own in the same way: `family` names a
function "module:function" that returns an `envs.family.Family`.
"""

import ctypes
import os
import sys

import gymnasium

RENDERERS = {"egl": ("libEGL.so.1", "libGL.so.1"), "osmesa": ("libOSMesa.so.8",)}
"""What a value of MUJOCO_GL needs."""


def _can_load(*libraries: str) -> bool:
    try:
        for library in libraries:
            ctypes.CDLL(library)
    except OSError:
        return False
    return True


def _choose_offscreen_rendering() -> None:
    """Tell MuJoCo, before its first import, how to render: through EGL where there is no display.

    With EGL or OSMesa asked for but not installed `import mujoco` itself would fail: then rendering alone is disabled.
    """
    if sys.platform != "linux":
        return
    if "DISPLAY" not in os.environ and "WAYLAND_DISPLAY" not in os.environ:
        os.environ.setdefault("MUJOCO_GL", "egl")
    libraries = RENDERERS.get(os.environ.get("MUJOCO_GL", "").strip().lower(), ())
    if not _can_load(*libraries):
        os.environ["MUJOCO_GL"] = "disable"


def _register(name: str, family: str, max_episode_steps: int) -> None:
    gymnasium.register(
        id=f"metarl/{name}-v0",
        entry_point="envs.single:RobotEnv",
        vector_entry_point="envs.vector:RobotVectorEnv",
        kwargs={"family": family},
        max_episode_steps=max_episode_steps,
    )


_choose_offscreen_rendering()
_register("PointNav", "envs.point:navigation", max_episode_steps=100)
_register("PointNavSparse", "envs.point:sparse_navigation", max_episode_steps=100)
_register("HalfCheetahVel", "envs.half_cheetah:velocity", max_episode_steps=200)
_register("HalfCheetahDir", "envs.half_cheetah:direction", max_episode_steps=200)
_register("HalfCheetahParams", "envs.half_cheetah:params", max_episode_steps=200)
_register("Walker2dVel", "envs.walker2d:velocity", max_episode_steps=200)
_register("Walker2dParams", "envs.walker2d:params", max_episode_steps=200)
_register("HopperParams", "envs.hopper:params", max_episode_steps=200)
_register("AntDir", "envs.ant:direction", max_episode_steps=200)
_register("AntVel", "envs.ant:velocity", max_episode_steps=200)
_register("AntGoal", "envs.ant:goal", max_episode_steps=200)
_register("HumanoidDir", "envs.humanoid:direction", max_episode_steps=200)
_register("SwimmerVel", "envs.swimmer:velocity", max_episode_steps=200)
_register("ReacherGoal", "envs.reacher:goal", max_episode_steps=50)
_register("PusherGoal", "envs.pusher:goal", max_episode_steps=100)
