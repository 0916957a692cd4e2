"""Pictures of one simulation with its goal marked, drawn in software in a few milliseconds."""

from __future__ import annotations

from collections.abc import Sequence

import mujoco
import numpy as np

from envs.errors import RenderingError
from envs.family import Arrow, Marker, Text
from envs.robots import Camera

SIZE = 480  # [px] height and width; H.264 wants even numbers
_COSTLY = (mujoco.mjtRndFlag.mjRND_SHADOW, mujoco.mjtRndFlag.mjRND_REFLECTION)


class Picture:
    """An off-screen renderer of one model. It holds graphics memory until `close`."""

    def __init__(self, model: mujoco.MjModel, camera: Camera) -> None:
        model.vis.quality.offsamples = 0  # no multisampling: ten times faster in software
        model.vis.global_.offwidth = model.vis.global_.offheight = SIZE
        self._renderer = _renderer(model)
        for flag in _COSTLY:
            self._renderer.scene.flags[flag] = False
        self._camera = mujoco.MjvCamera()
        point(self._camera, model, camera)

    @property
    def model(self) -> mujoco.MjModel:
        """The model that is drawn; may be written to between pictures."""
        return self._renderer.model

    def draw(self, data: mujoco.MjData, markers: Sequence[Marker]) -> np.ndarray:
        """The picture (SIZE, SIZE, 3), uint8."""
        self._renderer.update_scene(data, self._camera)
        for marker in markers:
            add(self._renderer.scene, marker)
        return self._renderer.render()

    def close(self) -> None:
        self._renderer.close()


def _renderer(model: mujoco.MjModel) -> mujoco.Renderer:
    try:
        return mujoco.Renderer(model, SIZE, SIZE)
    except (AttributeError, ImportError, RuntimeError, mujoco.FatalError) as error:
        raise RenderingError(
            "no picture can be drawn on this machine: OpenGL is missing. Without a display MuJoCo renders "
            "through EGL; on Debian and Ubuntu install libegl1, libgl1 and libgl1-mesa-dri, and set "
            "MUJOCO_GL=egl if mujoco is imported before this package. "
            f"MuJoCo said: {error}"
        ) from error


def point(view: mujoco.MjvCamera, model: mujoco.MjModel, camera: Camera) -> None:
    """Let MuJoCo's camera look as a robot's does."""
    view.distance, view.azimuth, view.elevation = camera.distance, camera.azimuth, camera.elevation
    view.lookat[:] = camera.lookat
    if camera.body is not None:
        view.type = mujoco.mjtCamera.mjCAMERA_TRACKING
        view.trackbodyid = model.body(camera.body).id


def add(scene: mujoco.MjvScene, marker: Marker) -> None:
    """Put a marker into the scene."""
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
