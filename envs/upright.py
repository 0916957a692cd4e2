"""Hopper and Walker2d: robots in the vertical plane whose episodes end when they fall."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np

from .dynamics import DynamicsTask, Scaling, multiplier_space
from .family import Arrays, Family, Marker, State, control_reward
from .robots import Camera, Robot, UniformNoise
from .sagittal import measure as measure_x
from .sagittal import observe_clipped, text_beside
from .tasks import Task

CONTROL_COST = 0.001
ALIVE = 1.0  # [m/s] reward of a healthy step with hidden dynamics, as in v5


def robot(model: str, distance: float) -> Robot:
    """A robot of Gymnasium, seen from the side by a camera that follows at this distance [m]."""
    return Robot(
        model=model,
        frame_skip=4,
        camera=Camera(body="torso", distance=distance, elevation=-10.0),
        reset_noise=UniformNoise(5e-3),
    )


# ------------------------------------------------------------------------------------------- measurements
def measure(healthy: Callable[[State], np.ndarray], before: State, after: State, dt: float) -> dict[str, np.ndarray]:
    """`x_position` [m], `x_velocity` [m/s] and whether the robot is `healthy` after the action, each (…,)."""
    return {**measure_x(before, after, dt), "healthy": healthy(after)}


# ---------------------------------------------------------------------------------------- hidden dynamics
def scalings(bodies: Sequence[str], geoms: Sequence[str], joints: Sequence[str]) -> tuple[Scaling, ...]:
    """A multiplier for the mass and inertia of each body, the friction of each geom and the damping of each joint."""
    return (
        Scaling("body_mass", by="mass", of=tuple(bodies)),
        Scaling("body_inertia", by="inertia", of=tuple(bodies)),
        Scaling("geom_friction", by="friction", of=tuple(geoms)),
        Scaling("dof_damping", by="damping", of=tuple(joints)),
    )


def params_reward(measured: Arrays, action: np.ndarray, task: Arrays) -> dict[str, np.ndarray]:
    """v, the reward of a healthy step and the control cost."""
    return {
        "forward": measured["x_velocity"],
        "healthy": ALIVE * measured["healthy"],
        "control": control_reward(action, CONTROL_COST),
    }


def params_markers(state: State, time: float, task: Task) -> Sequence[Marker]:
    """The multipliers beside the robot, as geometric means over its limbs."""
    assert isinstance(task, DynamicsTask)
    return text_beside(state, 0.5, 1.0, task.summary())


def params_family(
    name: str,
    body: Robot,
    healthy: Callable[[State], np.ndarray],
    task_type: type[DynamicsTask],
    dynamics: tuple[Scaling, ...],
    aim: str,
) -> Family:
    """A family whose robot moves forward with hidden dynamics."""
    return Family(
        name=name,
        robot=body,
        task_space=multiplier_space(task_type, plane=("mass", "inertia")),
        observe=observe_clipped,
        measure=partial(measure, healthy),
        reward=params_reward,
        markers=params_markers,
        terminated=lambda state: ~healthy(state),
        dynamics=dynamics,
        aim=aim,
    )
