"""Pictures of one simulation with its goal marked."""

from __future__ import annotations

import contextlib
import importlib.util
import os
from collections.abc import Sequence
from dataclasses import replace

import mujoco
import numpy as np

from . import PROBLEM
from .errors import RenderingError
from .family import Arrow, Marker, Text
from .robots import Camera

DEVICE = "MUJOCO_EGL_DEVICE_ID"
SIZE = 480  # [px] height and width; H.264 needs even numbers
HEADLIGHT = (0.1, 0.4)  # MuJoCo's default ambient and diffuse light at the camera
BRIGHT = (0.4, 0.6)  # the same, for models without lights or sky
_COSTLY = (mujoco.mjtRndFlag.mjRND_SHADOW, mujoco.mjtRndFlag.mjRND_REFLECTION)


class Picture:
    """An off-screen renderer of one model. It holds graphics memory until `close`.

    Raises `RenderingError` if this machine cannot render.
    """

    def __init__(self, model: mujoco.MjModel, camera: Camera) -> None:
        _light(model)
        model.vis.quality.offsamples = 0  # no multisampling, which makes software rendering ten times slower
        model.vis.global_.offwidth = model.vis.global_.offheight = SIZE
        self._renderer = _renderer(model)
        for flag in _COSTLY:
            self._renderer.scene.flags[flag] = False
        self._camera = mujoco.MjvCamera()
        point(self._camera, model, camera)

    @property
    def model(self) -> mujoco.MjModel:
        """The model that is drawn. It may be changed between pictures."""
        return self._renderer.model

    def draw(self, data: mujoco.MjData, markers: Sequence[Marker]) -> np.ndarray:
        """The picture (SIZE, SIZE, 3), uint8. Labels of arrows are left out: they would cover short arrows."""
        self._renderer.update_scene(data, self._camera)
        for marker in markers:
            add(self._renderer.scene, replace(marker, label="") if isinstance(marker, Arrow) else marker)
        return self._renderer.render()

    def close(self) -> None:
        self._renderer.close()


def _light(model: mujoco.MjModel) -> None:
    """Brighten the light at the camera if the model has no lights or no sky, and has MuJoCo's default there."""
    headlight = model.vis.headlight
    bare = model.nlight == 0 or mujoco.mjtTexture.mjTEXTURE_SKYBOX not in model.tex_type
    if bare and np.allclose([headlight.ambient[0], headlight.diffuse[0]], HEADLIGHT):
        headlight.ambient[:], headlight.diffuse[:] = BRIGHT


def _renderer(model: mujoco.MjModel) -> mujoco.Renderer:
    _import_triton()
    try:
        return mujoco.Renderer(model, SIZE, SIZE)
    except (AttributeError, ImportError, RuntimeError, ValueError, mujoco.FatalError) as error:
        raise RenderingError(f"no picture can be drawn on this machine: {_reason(error)}") from error


def _import_triton() -> None:
    """Import triton, which comes with the CUDA build of PyTorch, before Mesa's software renderer starts.

    Both contain LLVM, and importing triton after the first picture is a segmentation fault.
    """
    if importlib.util.find_spec("triton") is not None:
        with contextlib.suppress(ImportError):  # then PyTorch cannot import it later either
            importlib.import_module("triton")


def _reason(error: Exception) -> str:
    """Why MuJoCo cannot draw, and what to do."""
    if PROBLEM:
        return PROBLEM
    device = os.environ.get(DEVICE, "0")
    if DEVICE in str(error) or not device.lstrip("+-").isdecimal():
        return f"{DEVICE} = {device!r}: expected the number of a device, 0 for the first ({error})"
    return (
        f"{error}. Without a display MuJoCo renders through EGL; on Debian and Ubuntu install libegl1, libgl1 and "
        "libgl1-mesa-dri, and set MUJOCO_GL=egl if mujoco is imported before this package"
    )


def point(view: mujoco.MjvCamera, model: mujoco.MjModel, camera: Camera) -> None:
    """Set MuJoCo's camera `view` to a robot's `camera`."""
    view.distance, view.azimuth, view.elevation = camera.distance, camera.azimuth, camera.elevation
    view.lookat[:] = camera.lookat
    if camera.body is not None:
        view.type = mujoco.mjtCamera.mjCAMERA_TRACKING
        view.trackbodyid = model.body(camera.body).id


def add(scene: mujoco.MjvScene, marker: Marker) -> None:
    """Add a marker to the scene."""
    geom = scene.geoms[scene.ngeom]
    scene.ngeom += 1
    if isinstance(marker, Text):
        white = np.ones(4, dtype=np.float32)
        position = np.array(marker.position)
        mujoco.mjv_initGeom(geom, mujoco.mjtGeom.mjGEOM_LABEL, np.zeros(3), position, np.eye(3).ravel(), white)
        geom.label = marker.text
        return
    rgba = np.array(marker.rgba, dtype=np.float32)
    if isinstance(marker, Arrow):
        mujoco.mjv_initGeom(geom, mujoco.mjtGeom.mjGEOM_ARROW, np.zeros(3), np.zeros(3), np.eye(3).ravel(), rgba)
        start, end = np.array(marker.start), np.array(marker.end)
        mujoco.mjv_connector(geom, mujoco.mjtGeom.mjGEOM_ARROW, marker.radius, start, end)
        geom.label = marker.label
    else:
        size = np.full(3, marker.radius)
        centre = np.array(marker.centre)
        mujoco.mjv_initGeom(geom, mujoco.mjtGeom.mjGEOM_SPHERE, size, centre, np.eye(3).ravel(), rgba)
