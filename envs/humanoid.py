"""Humanoid: a robot with legs, trunk and arms that must walk in a hidden direction.

The robot is Gymnasium's Humanoid-v5, bit for bit: its model, start, kinematic observation and time step (five
simulation steps of 0.003 s, dt = 0.015 s).

| num | observation (45,) | unit |
|---|---|---|
| 0 | height of the torso | m |
| 1-4 | orientation of the torso, quaternion (w, x, y, z) | |
| 5-7 | angles of the abdomen z, y, x | rad |
| 8-15 | angles of right hip x, z, y, right knee, then of the left | rad |
| 16-21 | angles of right shoulder 1, 2, right elbow, then of the left | rad |
| 22-24 | velocity of the torso (x, y, z) | m/s |
| 25-27 | angular velocity of the torso (x, y, z) | rad/s |
| 28-44 | angular velocities of the joints, in the order of 5-21 | rad/s |

These are the first 45 numbers of v5's 348. Inertias, body velocities, motor and contact forces are left out.

| | |
|---|---|
| action (17,) | motors of the abdomen y, z, x, then as 8-21; clipped to [-1, 1], stretched to ±0.4 (v5 gets 0.4 a) |
| v | displacement of the whole body's centre of mass (x, y) / dt [m/s] |
| reward | 1.25 d·v + 5 - 0.1 ‖a‖², with a hidden unit vector d |
| start | positions and velocities plus U(-0.01, 0.01) |
| end | when the torso leaves 1 < z < 2 m or the state is not finite; 200 steps |

The constant 5 rewards survival. As in v5, the step that ends the episode does not get it. `a` is in [-1, 1]; v5's cost
0.1 ‖0.4 a‖² is `control_cost=0.016`.

Splits: those of AntDir (`envs.goals_2d`).

Differences from other code. Other suites divide the displacement of the centre of mass by the timestep instead of dt
and multiply it by 0.25, which is 1.25 times the velocity for a frame skip of 5. They charge contact costs, which are 0
in versions of MuJoCo 2 that do not compute the forces; here there are none. v5 computes x_velocity from body positions
of the integrator's last intermediate stage; here it is the displacement over exactly dt.
"""

from __future__ import annotations

from functools import partial

import numpy as np

from .family import Family, Marker, State, arrow_above, observe_beyond
from .goals_2d import DirectionTask, direction_reward, direction_space
from .robots import Camera, Robot, UniformNoise
from .tasks import Task

HEALTHY_HEIGHT = (1.0, 2.0)  # [m]
WHOLE_BODY = 0  # index of the world, whose subtree is the whole robot


def robot() -> Robot:
    """Gymnasium's Humanoid-v5, followed by a camera."""
    return Robot(
        model="humanoid.xml",
        frame_skip=5,
        camera=Camera(body="torso", distance=4.8, azimuth=120.0),
        reset_noise=UniformNoise(0.01),
        fields=("subtree_com",),
    )


# ------------------------------------------------------------------------------------------- measurements
observe = partial(observe_beyond, 2)  # all but x and y, (…, 45)


def healthy(state: State) -> np.ndarray:
    """Whether the torso's height is in the healthy range and everything is finite, (…,)."""
    low, high = HEALTHY_HEIGHT
    height = state.qpos[..., 2]
    finite = np.isfinite(state.qpos).all(axis=-1) & np.isfinite(state.qvel).all(axis=-1)
    return finite & (low < height) & (height < high)


def centre_of_mass(state: State) -> np.ndarray:
    """The whole body's centre of mass (x, y) [m], (…, 2)."""
    return state.fields["subtree_com"][..., WHOLE_BODY, :2]


def measure(before: State, after: State, dt: float) -> dict[str, np.ndarray]:
    """`position` (…, 2) after the action [m] and mean `velocity` (…, 2) [m/s] of the centre of mass; `healthy` (…,)."""
    position = centre_of_mass(after)
    return {
        "position": position,
        "velocity": (position - centre_of_mass(before)) / dt,
        "healthy": healthy(after),
    }


# ------------------------------------------------------------------------------------------ tasks and reward
def direction_markers(state: State, time: float, task: Task) -> list[Marker]:
    """An arrow above the robot that points where to walk."""
    assert isinstance(task, DirectionTask)
    return [arrow_above(state.qpos[:3], 0.6, task.direction, 0.9, 0.04, task.label)]


def direction(
    directions: int | None = None, forward: float = 1.25, survive: float = 5.0, control_cost: float = 0.1
) -> Family:
    """HumanoidDir: walk in a hidden direction, any one (`directions=None`) or one of n evenly spaced ones."""
    return Family(
        name="HumanoidDir",
        robot=robot(),
        task_space=direction_space(directions),
        observe=observe,
        measure=measure,
        reward=partial(direction_reward, forward=forward, survive=survive, control_cost=control_cost),
        markers=direction_markers,
        terminated=lambda state: ~healthy(state),
        aim="walk in a hidden direction",
    )
