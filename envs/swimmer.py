"""Swimmer: a chain of three links in a viscous fluid that must swim at a hidden speed.

The robot is Gymnasium's Swimmer-v5, bit for bit: its model, start, observation and time step (four simulation
steps of 0.01 s, dt = 0.04 s).

| num | observation (8,) | unit |
|---|---|---|
| 0 | heading of the front link | rad |
| 1-2 | angles of the two joints | rad |
| 3-4 | velocity of the front link (x, y) | m/s |
| 5 | angular velocity of the front link | rad/s |
| 6-7 | angular velocities of the two joints | rad/s |

The position (x, y) is left out of the observation, as in v5.

| | |
|---|---|
| action (2,) | motor commands of the two joints, clipped to [-1, 1] |
| v | (x after - x before) / dt [m/s] |
| reward | -abs(v - v*) - 0.0001 ‖a‖², with a hidden v* in [0.1, 0.2] m/s |
| start | positions and velocities plus U(-0.1, 0.1) |
| end | never; 200 steps |

Splits: see `envs.velocity`; out-of-range targets reach 0.25 m/s.

Differences from other code. Some code has the velocity term with the wrong sign, so that missing the target pays.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from .family import Family, Marker, State, arrow_above, observe_beyond, pace_ball, span
from .robots import Camera, Robot, UniformNoise
from .sagittal import measure
from .tasks import Task
from .velocity import VelocityTask, velocity_reward, velocity_space


def robot() -> Robot:
    """Gymnasium's Swimmer-v5, seen from above by a camera that moves along."""
    return Robot(
        model="swimmer.xml",
        frame_skip=4,
        camera=Camera(body="torso", distance=6.0, elevation=-60.0),
        reset_noise=UniformNoise(0.1),
    )


# ------------------------------------------------------------------------------------------- measurements
observe = partial(observe_beyond, 2)  # all but x and y, (…, 8)


# ----------------------------------------------------------------------------------------- tasks and reward
def velocity_markers(state: State, time: float, task: Task) -> list[Marker]:
    """An arrow above the robot, 8 m long per m/s, and a ball that moves at the target velocity."""
    assert isinstance(task, VelocityTask)
    pace = pace_ball(float(state.qpos[0]), task.velocity * time, reach=2.2, radius=0.12)
    return [arrow_above((*state.qpos[:2], 0.0), 0.5, (1.0, 0.0), 8.0 * task.velocity, 0.06, task.label), pace]


def velocity(velocity_range: Sequence[float] = (0.1, 0.2), control_cost: float = 1e-4) -> Family:
    """SwimmerVel: swim along x at a hidden velocity from `velocity_range` [m/s]."""
    return Family(
        name="SwimmerVel",
        robot=robot(),
        task_space=velocity_space(velocity_range),
        observe=observe,
        measure=measure,
        reward=partial(velocity_reward, control_cost=control_cost),
        markers=velocity_markers,
        aim=f"swim along x at a hidden velocity from {span(velocity_range)} m/s",
    )
