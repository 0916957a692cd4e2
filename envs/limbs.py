"""Limbs of other lengths and radii. The model is compiled anew, so that masses and inertias follow.

A limb is a body. Its length scales the positions in its frame and the lengths of its capsules and cylinders; its radius
scales the radii of its capsules, cylinders and spheres. Joints stay at the end of the parent. The root is moved up or
down, so that the lowest point of the robot starts at the same height as that of the nominal robot.
"""

from __future__ import annotations

from collections.abc import Iterable

import mujoco
import numpy as np

from .errors import FamilyError
from .robots import compiled

_LONG = (mujoco.mjtGeom.mjGEOM_CAPSULE, mujoco.mjtGeom.mjGEOM_CYLINDER)
_ROUND = (*_LONG, mujoco.mjtGeom.mjGEOM_SPHERE)


class Limbs:
    """A model whose limbs can be scaled.

    spec: the nominal model.
    limbs: the indices of their bodies.

    Raises `FamilyError` unless the geoms of the limbs are capsules, cylinders and spheres.
    """

    def __init__(self, spec: mujoco.MjSpec, limbs: Iterable[int]) -> None:
        self._spec, reference = spec, spec.copy()
        nominal = compiled(reference)
        self._parents, self._orientations = nominal.body_parentid.copy(), nominal.body_quat.copy()
        for body in limbs:
            _refuse_others(reference.bodies[body])
        self._lowest = {root: _lowest(nominal, root) for root in {int(nominal.body_rootid[body]) for body in limbs}}

    def model(self, length: np.ndarray, radius: np.ndarray, textures: bool) -> mujoco.MjModel:
        """The model with bodies scaled by these factors, each (nbody,), which are 1 for bodies that are not limbs.

        textures: whether the model will be drawn; without them it compiles six times as fast.
        """
        spec = self._spec.copy()
        bodies = list(spec.bodies)
        for n in range(1, len(bodies)):
            parent = self._parents[n]
            if parent != 0:
                _join(bodies[n], self._orientations[n], length[n], length[parent])
            _scale(bodies[n], length[n], radius[n])
        if not textures:
            for texture in spec.textures:
                texture.width, texture.height = 1, 1 if texture.type == mujoco.mjtTexture.mjTEXTURE_2D else 6
        model = compiled(spec)
        for root, height in self._lowest.items():
            _raise(model, root, height - _lowest(model, root))
        mujoco.mj_setConst(model, mujoco.MjData(model))
        return model


def _refuse_others(body: mujoco.MjsBody) -> None:
    for geom in body.geoms:
        if geom.type not in _ROUND:
            raise FamilyError(
                f"body {body.name!r} has a geom of type {geom.type.name}: only capsules, cylinders and spheres have a "
                "length or a radius to scale"
            )


def _join(body: mujoco.MjsBody, orientation: np.ndarray, length: float, length_of_parent: float) -> None:
    """Move the body so that its joint stays at the same place of the scaled parent.

    orientation: quaternion of the body in its parent's frame.
    """
    anchor = np.zeros(3)  # of the joint, from the body's origin, in the parent's frame
    if body.joints:
        mujoco.mju_rotVecQuat(anchor, body.joints[0].pos, orientation)
    body.pos = length_of_parent * body.pos + (length_of_parent - length) * anchor
    for joint in body.joints:
        joint.pos = length * joint.pos


def _scale(body: mujoco.MjsBody, length: float, radius: float) -> None:
    for part in (*body.geoms, *body.sites):
        part.pos = length * part.pos
    for geom in body.geoms:
        geom.fromto = length * geom.fromto  # NaN if it is not used
        if geom.type in _LONG:
            geom.size[1] *= length
        if geom.type in _ROUND:
            geom.size[0] *= radius


def _raise(model: mujoco.MjModel, root: int, height: float) -> None:
    """Raise the start of the robot with this root body by `height` [m]; its joints keep their positions."""
    model.body_pos[root, 2] += height
    joint = model.body_jntadr[root]
    if joint >= 0 and model.jnt_type[joint] == mujoco.mjtJoint.mjJNT_FREE:
        model.qpos0[model.jnt_qposadr[joint] + 2] += height


def _lowest(model: mujoco.MjModel, root: int) -> float:
    """The height of the lowest point of the root body's capsules and spheres at the start [m]."""
    data = mujoco.MjData(model)
    mujoco.mj_kinematics(model, data)
    own = (model.body_rootid[model.geom_bodyid] == root) & np.isin(model.geom_type, [int(kind) for kind in _ROUND])
    half = np.where(np.isin(model.geom_type, [int(kind) for kind in _LONG]), model.geom_size[:, 1], 0.0)
    ends = data.geom_xpos[:, 2] - np.abs(data.geom_xmat[:, 8]) * half - model.geom_size[:, 0]
    return float(ends[own].min())
