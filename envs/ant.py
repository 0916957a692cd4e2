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

AntGoal (29,) has the position (x, y) [m] of the torso in front of these: without it the place of the goal would
not be learnable. v5 can append 78 contact forces; they are left out.

| | |
|---|---|
| action (8,) | motors of hip and ankle of the back right, front left, front right, back left leg, clipped to [-1, 1] |
| v | (position after - position before) / dt [m/s], of the torso |
| AntDir reward | d·v + 1 - 0.5 ‖a‖², d a unit vector hidden |
| AntVel reward | 1 - abs(v_x - v*) + 0.05 - 0.005 ‖a‖², v* in [0, 3] m/s hidden |
| AntGoal reward | -‖p - g‖₁ - 0.1 ‖a‖², with the position p after the action, g uniform in the disk of 3 m hidden |
| start | positions plus U(-0.1, 0.1), velocities plus 0.1 N(0, 1) |
| end | AntDir and AntVel: when the torso leaves 0.2 <= z <= 1 m or the state is not finite; AntGoal: never; 200 steps |

The constants 1 (AntDir) and 0.05 (AntVel) are for surviving and, as in v5, not paid in the step that ends the
episode.

Splits. AntDir: four held-out arcs of 22.5°, see `envs.goals_2d`; training keeps a chord of 0.05 (2.9°) away; there
is no out of range. `directions=2` is forward and backward alone, `directions=n` so many even ones: no split but
`train`, which is also `iid`. AntVel: as HalfCheetahVel, four held-out intervals of 1/16 of the range, a gap of
1/100, and half a range more above it. AntGoal: the four arcs as sectors from 1 to 3 m; training keeps 0.075 m
away; out of range is the ring from 3.075 to 4 m. `iid` is the whole range.

Elsewhere. Finn et al. (MAML, 2017) run rllab's ant at dt = 0.02 s; here dt is the robot's own. One family of
codes pays 0.05 for survival and 0.005 ‖a‖² in AntDir, the other 1 and 0.5 ‖a‖² (`survive`, `control_cost`). Most
subtract contact costs: they were 0 wherever MuJoCo 2 did not compute the forces, and are left out here. v5's own
x_velocity is taken from body positions that the integrator's last intermediate stage left behind; here it is the
displacement over exactly dt.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np

from envs.family import Arrays, Family, Marker, Sphere, State, span
from envs.goals_2d import GHOST, RED, DirectionTask, DiskGoalTask, arrow_above, direction_space, disk_space
from envs.robots import Camera, Robot, UniformNormalNoise
from envs.tasks import Task
from envs.velocity import VelocityTask, velocity_space

HEALTHY_HEIGHT = (0.2, 1.0)  # [m]
REACH = 4 / 3  # outer radius of the ring of out-of-range goals, in parts of the disk's radius

FOLLOWING = Camera(body="torso", distance=6.0, elevation=-35.0)
FROM_ABOVE = Camera(distance=11.5, elevation=-75.0)


def robot(camera: Camera = FOLLOWING) -> Robot:
    """Gymnasium's Ant-v5."""
    return Robot(model="ant.xml", frame_skip=5, camera=camera, reset_noise=UniformNormalNoise(0.1))


# ------------------------------------------------------------------------------------------- measurements
def observe(state: State) -> np.ndarray:
    """All positions but x and y, then all velocities, (…, 27)."""
    return np.concatenate([state.qpos[..., 2:], state.qvel], axis=-1)


def observe_with_position(state: State) -> np.ndarray:
    """All positions and velocities, (…, 29)."""
    return np.concatenate([state.qpos, state.qvel], axis=-1)


def healthy(state: State) -> np.ndarray:
    """Whether the torso's height is in the healthy range and everything is finite, (…,)."""
    low, high = HEALTHY_HEIGHT
    height = state.qpos[..., 2]
    finite = np.isfinite(state.qpos).all(axis=-1) & np.isfinite(state.qvel).all(axis=-1)
    return finite & (low <= height) & (height <= high)


def measure(before: State, after: State, dt: float) -> dict[str, np.ndarray]:
    """`position` (x, y) after the action [m], mean `velocity` (x, y) during it [m/s], and whether `healthy`."""
    position = after.qpos[..., :2]
    velocity = (position - before.qpos[..., :2]) / dt
    return {"position": position, "velocity": velocity, "healthy": healthy(after)}


def unhealthy(state: State) -> np.ndarray:
    """The end of an episode, (…,)."""
    return ~healthy(state)


def control_reward(action: np.ndarray, weight: float) -> np.ndarray:
    """-weight ‖a‖², (…,)."""
    return -weight * np.square(action).sum(axis=-1)


# --------------------------------------------------------------------------------------- direction tasks
def direction_reward(
    measured: Arrays, action: np.ndarray, task: Arrays, *, survive: float, control_cost: float
) -> dict[str, np.ndarray]:
    """d·v, survival and the control cost."""
    return {
        "direction": (task["direction"] * measured["velocity"]).sum(axis=-1),
        "survive": survive * measured["healthy"],
        "control": control_reward(action, control_cost),
    }


def direction_markers(state: State, time: float, task: Task) -> list[Marker]:
    """An arrow above the robot that points where to run."""
    assert isinstance(task, DirectionTask)
    return [arrow_above(state.qpos[:3], 0.4, task.direction, 1.6, 0.06, task.label)]


def direction(directions: int | None = None, survive: float = 1.0, control_cost: float = 0.5) -> Family:
    """AntDir: run in a hidden direction.

    It is any one, or one of so many `directions`.
    """
    return Family(
        name="AntDir",
        robot=robot(),
        task_space=direction_space(directions),
        observe=observe,
        measure=measure,
        reward=partial(direction_reward, survive=survive, control_cost=control_cost),
        markers=direction_markers,
        terminated=unhealthy,
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
    """An arrow above the robot, 0.7 m for each metre per second, and a ball that keeps the target speed."""
    assert isinstance(task, VelocityTask)
    pace = Sphere((task.velocity * time, 0.0, 0.2), radius=0.2, rgba=GHOST)
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
        terminated=unhealthy,
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
