"""Ant: a four-legged robot that must run in a hidden direction, at a hidden speed, or to a hidden place.

The robot is Gymnasium's Ant-v5, bit for bit: its model, start, kinematic observation and time step (five
simulation steps of 0.01 s, dt = 0.05 s).

| num | observation of AntDir and AntVel (27,) | unit |
|---|---|---|
| 0 | height of the torso | m |
| 1-4 | orientation of the torso, quaternion (w, x, y, z) | |
| 5-12 | angles of hip and ankle of the front left, front right, back left, back right leg | rad |
| 13-15 | velocity of the torso (x, y, z) | m/s |
| 16-18 | angular velocity of the torso (x, y, z) | rad/s |
| 19-26 | angular velocities of the joints, in the order of 5-12 | rad/s |

AntGoal (29,) observes the position (x, y) [m] of the torso before these numbers: without it, the goal could not be
found. The contact forces, which v5 appends to its observation, are left out.

| | |
|---|---|
| action (8,) | motors of hip and ankle of the back right, front left, front right, back left leg, clipped to [-1, 1] |
| v | (position after - position before) / dt [m/s], of the torso |
| AntDir reward | d·v + 1 - 0.5 ‖a‖², with a hidden unit vector d |
| AntVel reward | 1 - abs(v_x - v*) + 0.05 - 0.005 ‖a‖², with a hidden v* in [0, 3] m/s |
| AntGoal reward | -‖p - g‖₁ - 0.1 ‖a‖², with the position p after the action and a hidden g in the disk of 3 m |
| start | positions plus U(-0.1, 0.1), velocities plus 0.1 N(0, 1) |
| end | AntDir and AntVel: when the torso leaves 0.2 <= z <= 1 m or the state is not finite; AntGoal: never; 200 steps |

The constants 1 (AntDir) and 0.05 (AntVel) reward survival. As in v5, the step that ends the episode does not get them.

Splits of AntDir: four held-out arcs of 22.5° (`envs.goals_2d`), with a gap of 2.9° (a chord of 0.05) to training
directions, and no out-of-range split. With `directions=n` there are n evenly spaced directions, for n = 2 forward and
backward; they are `train` and `iid`, and there is no other split. Splits of AntVel: those of HalfCheetahVel
(`envs.velocity`). Splits of AntGoal: the four arcs as sectors from 1 to 3 m, with a gap of 0.075 m, and the ring from
3.075 to 4 m out of range.

Differences from other code. Finn et al. (MAML, 2017) run rllab's ant at dt = 0.02 s; here dt is that of v5. In AntDir,
some code rewards survival with 0.05 and charges 0.005 ‖a‖², other code has 1 and 0.5 ‖a‖² (`survive`, `control_cost`).
Most of it subtracts contact costs, which are 0 in versions of MuJoCo 2 that do not compute the forces; here there are
none. v5 computes x_velocity from body positions of the integrator's last intermediate stage; here it is the
displacement over exactly dt.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np

from .family import (
    RED,
    Arrays,
    Family,
    Marker,
    Sphere,
    State,
    arrow_above,
    control_reward,
    observe_beyond,
    pace_ball,
    span,
)
from .goals_2d import DirectionTask, DiskGoalTask, direction_reward, direction_space, disk_space
from .robots import Camera, Robot, UniformNormalNoise
from .tasks import Task
from .velocity import VelocityTask, velocity_space

HEALTHY_HEIGHT = (0.2, 1.0)  # [m]
REACH = 4 / 3  # outer radius of the ring of out-of-range goals, as a multiple of the disk's radius

FOLLOWING = Camera(body="torso", distance=6.0, elevation=-35.0)
FROM_ABOVE = Camera(distance=11.5, elevation=-75.0)


def robot(camera: Camera = FOLLOWING) -> Robot:
    """Gymnasium's Ant-v5."""
    return Robot(model="ant.xml", frame_skip=5, camera=camera, reset_noise=UniformNormalNoise(0.1))


# ------------------------------------------------------------------------------------------- measurements
observe = partial(observe_beyond, 2)  # all but x and y, (…, 27)
observe_with_position = partial(observe_beyond, 0)  # (…, 29)


def healthy(state: State) -> np.ndarray:
    """Whether the torso's height is in the healthy range and everything is finite, (…,)."""
    low, high = HEALTHY_HEIGHT
    height = state.qpos[..., 2]
    finite = np.isfinite(state.qpos).all(axis=-1) & np.isfinite(state.qvel).all(axis=-1)
    return finite & (low <= height) & (height <= high)


def measure(before: State, after: State, dt: float) -> dict[str, np.ndarray]:
    """`position` (…, 2) after the action [m] and mean `velocity` (…, 2) [m/s] of the torso; `healthy` (…,)."""
    position = after.qpos[..., :2]
    velocity = (position - before.qpos[..., :2]) / dt
    return {"position": position, "velocity": velocity, "healthy": healthy(after)}


# --------------------------------------------------------------------------------------- direction tasks
def direction_markers(state: State, time: float, task: Task) -> list[Marker]:
    """An arrow above the robot that points where to run."""
    assert isinstance(task, DirectionTask)
    return [arrow_above(state.qpos[:3], 0.4, task.direction, 1.6, 0.06, task.label)]


def direction(directions: int | None = None, survive: float = 1.0, control_cost: float = 0.5) -> Family:
    """AntDir: run in a hidden direction, any one (`directions=None`) or one of n evenly spaced ones."""
    return Family(
        name="AntDir",
        robot=robot(),
        task_space=direction_space(directions),
        observe=observe,
        measure=measure,
        reward=partial(direction_reward, forward=1.0, survive=survive, control_cost=control_cost),
        markers=direction_markers,
        terminated=lambda state: ~healthy(state),
        aim="run in a hidden direction",
    )


# ---------------------------------------------------------------------------------------- velocity tasks
def velocity_reward(
    measured: Arrays, action: np.ndarray, task: Arrays, *, survive: float, control_cost: float
) -> dict[str, np.ndarray]:
    """1 - |v_x - v*|, survival and the control cost."""
    return {
        "velocity": 1.0 - np.abs(measured["velocity"][..., 0] - task["velocity"]),
        "survive": survive * measured["healthy"],
        "control": control_reward(action, control_cost),
    }


def velocity_markers(state: State, time: float, task: Task) -> list[Marker]:
    """An arrow above the robot, 0.7 m long per m/s, and a ball that moves at the target velocity."""
    assert isinstance(task, VelocityTask)
    pace = pace_ball(float(state.qpos[0]), task.velocity * time, reach=2.2, radius=0.2)
    return [arrow_above(state.qpos[:3], 0.4, (1.0, 0.0), 0.7 * task.velocity, 0.06, task.label), pace]


def velocity(
    velocity_range: Sequence[float] = (0.0, 3.0), survive: float = 0.05, control_cost: float = 0.005
) -> Family:
    """AntVel: run along x at a hidden velocity from `velocity_range` [m/s]."""
    return Family(
        name="AntVel",
        robot=robot(),
        task_space=velocity_space(velocity_range),
        observe=observe,
        measure=measure,
        reward=partial(velocity_reward, survive=survive, control_cost=control_cost),
        markers=velocity_markers,
        terminated=lambda state: ~healthy(state),
        aim=f"run along x at a hidden velocity from {span(velocity_range)} m/s",
    )


# -------------------------------------------------------------------------------------------- goal tasks
def goal_reward(measured: Arrays, action: np.ndarray, task: Arrays, *, control_cost: float) -> dict[str, np.ndarray]:
    """-‖position - goal‖₁ and the control cost."""
    return {
        "distance": -np.abs(measured["position"] - task["goal"]).sum(axis=-1),
        "control": control_reward(action, control_cost),
    }


def goal_markers(state: State, time: float, task: Task) -> list[Marker]:
    """A red ball on the ground at the goal."""
    assert isinstance(task, DiskGoalTask)
    return [Sphere((*task.goal, 0.2), radius=0.2, rgba=RED)]


def goal(radius: float = 3.0, control_cost: float = 0.1) -> Family:
    """AntGoal: walk to a hidden place in the disk of `radius` [m]."""
    return Family(
        name="AntGoal",
        robot=robot(FROM_ABOVE),
        task_space=disk_space(radius, reach=REACH * radius),
        observe=observe_with_position,
        measure=measure,
        reward=partial(goal_reward, control_cost=control_cost),
        markers=goal_markers,
        aim=f"walk to a hidden place in the disk of {radius:g} m",
    )
