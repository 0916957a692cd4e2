"""Walker2d: a planar biped that must walk at a hidden speed, or with a hidden body, without falling.

The robot is Gymnasium's Walker2d-v5, bit for bit: its model, start, observation, end and time step (four
simulation steps of 0.002 s, dt = 0.008 s).

| num | observation (17,) | unit |
|---|---|---|
| 0 | height of the torso (rootz) | m |
| 1 | pitch of the torso (rooty) | rad |
| 2-7 | angles of right thigh, leg, foot, left thigh, leg, foot | rad |
| 8 | velocity of the torso along x (rootx) | m/s |
| 9 | velocity of the torso along z (rootz) | m/s |
| 10 | pitch rate of the torso (rooty) | rad/s |
| 11-16 | angular velocities of right thigh, leg, foot, left thigh, leg, foot | rad/s |

As in v5, the position along x is left out and velocities are clipped to ±10.

| | |
|---|---|
| action (6,) | motor commands of right thigh, leg, foot, left thigh, leg, foot, clipped to [-1, 1] |
| v | (x after - x before) / dt [m/s] |
| healthy | height in (0.8, 2) m and pitch in (-1, 1) rad after the action |
| Walker2dVel reward | -abs(v - v*) + alive · healthy - 0.001 ‖a‖², with a hidden v* in [0, 3] m/s |
| Walker2dParams reward | v + 1 · healthy - 0.001 ‖a‖², with hidden dynamics of the robot |
| start | positions plus U(-0.005, 0.005), velocities plus U(-0.005, 0.005) |
| end | not healthy; 200 steps (1.6 s) |

alive is 0.5 more than the largest target of any split: 5 for v* in [0, 3], whose out-of-range targets reach 4.5. So
standing still earns more than 0 in each step for every target, and falling, which ends the episode, never pays. With
v5's constant of 1 falling would pay for every v* above 1.

Splits of Walker2dVel: see `envs.velocity`.

Walker2dParams has 28 independent multipliers, as in `rand_param_envs`: 1.5^U(-3, 3) for the mass of each of the 7
bodies, the inertia of each and the friction of each of the 8 geoms (floor included), and 1.3^U(-3, 3) for the damping
of each of the 6 driven joints. Its splits are those of HopperParams (`envs.hopper`).

Differences from other code. In `rand_param_envs` the right foot has friction 0.9 (1.9 in v5), the frame skip is 5, and
each axis of an inertia and each kind of friction has a multiplier of its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from . import upright
from .dynamics import DynamicsTask, multiplier
from .family import Arrays, Family, Marker, State, arrow_above, control_reward, span
from .robots import Robot
from .sagittal import observe_clipped
from .tasks import Task, TaskSpace
from .velocity import VelocityTask, velocity_space

MARGIN = 0.5  # [m/s] least reward of a step of standing still, with a hidden velocity
HEALTHY_HEIGHT = (0.8, 2.0)  # [m]
HEALTHY_PITCH = (-1.0, 1.0)  # [rad]

BODIES = ("torso", "thigh", "leg", "foot", "thigh_left", "leg_left", "foot_left")
GEOMS = ("floor", *(f"{body}_geom" for body in BODIES))
JOINTS = tuple(f"{body}_joint" for body in BODIES[1:])


def robot() -> Robot:
    """Gymnasium's Walker2d-v5, seen from the side by a camera that moves along."""
    return upright.robot("walker2d_v5.xml", distance=4.5)


# ------------------------------------------------------------------------------------------- measurements
def healthy(state: State) -> np.ndarray:
    """Whether the height and the pitch of the torso are in their healthy ranges, (…,)."""
    height, pitch = state.qpos[..., 1], state.qpos[..., 2]
    (low, high), (back, front) = HEALTHY_HEIGHT, HEALTHY_PITCH
    return (low < height) & (height < high) & (back < pitch) & (pitch < front)


# ----------------------------------------------------------------------------------------- velocity tasks
def alive_bonus(space: TaskSpace) -> float:
    """The reward of each healthy step [m/s]: `MARGIN` more than the largest target of any split."""
    return MARGIN + max(float(np.abs(region.hull()).max()) for region in space.regions.values())


def velocity_reward(alive: float, measured: Arrays, action: np.ndarray, task: Arrays) -> dict[str, np.ndarray]:
    """-|v - v*|, the reward of a healthy step and the control cost."""
    return {
        "velocity": -np.abs(measured["x_velocity"] - task["velocity"]),
        "healthy": alive * measured["healthy"],
        "control": control_reward(action, upright.CONTROL_COST),
    }


def velocity_markers(state: State, time: float, task: Task) -> Sequence[Marker]:
    """An arrow above the robot, 0.5 m long per m/s."""
    assert isinstance(task, VelocityTask)
    return [arrow_above((state.qpos[0], 0.0, 0.0), 1.75, (1.0, 0.0), 0.5 * task.velocity, 0.05, task.label)]


def velocity(velocity_range: Sequence[float] = (0.0, 3.0)) -> Family:
    """Walker2dVel: walk at a hidden velocity from `velocity_range` [m/s]."""
    space = velocity_space(velocity_range)
    return Family(
        name="Walker2dVel",
        robot=robot(),
        task_space=space,
        observe=observe_clipped,
        measure=partial(upright.measure, healthy),
        reward=partial(velocity_reward, alive_bonus(space)),
        markers=velocity_markers,
        terminated=lambda state: ~healthy(state),
        aim=f"walk at a hidden velocity from {span(velocity_range)} m/s",
    )


# ---------------------------------------------------------------------------------------- hidden dynamics
@dataclass(frozen=True)
class ParamsTask(DynamicsTask):
    """Walk forward with hidden multipliers, one for each body, geom or joint in the order of the model."""

    mass: tuple[float, ...] = multiplier(base=1.5, size=len(BODIES))
    inertia: tuple[float, ...] = multiplier(base=1.5, size=len(BODIES))
    friction: tuple[float, ...] = multiplier(base=1.5, size=len(GEOMS))
    damping: tuple[float, ...] = multiplier(base=1.3, size=len(JOINTS))


DYNAMICS = upright.scalings(BODIES, GEOMS, JOINTS)


def params() -> Family:
    """Walker2dParams: walk forward with hidden dynamics."""
    aim = "walk forward with hidden dynamics"
    return upright.params_family("Walker2dParams", robot(), healthy, ParamsTask, DYNAMICS, aim)
