"""HalfCheetah: a planar two-legged robot with a hidden target speed, a hidden direction, or a hidden body.

The robot is Gymnasium's HalfCheetah-v5, bit for bit: its model, start, observation and time step (five
simulation steps of 0.01 s, dt = 0.05 s).

| num | observation (17,) | unit |
|---|---|---|
| 0 | height of the torso (rootz) | m |
| 1 | pitch of the torso (rooty) | rad |
| 2-7 | angles of back thigh, shin, foot, front thigh, shin, foot | rad |
| 8 | velocity of the torso along x (rootx) | m/s |
| 9 | velocity of the torso along z (rootz) | m/s |
| 10 | pitch rate of the torso (rooty) | rad/s |
| 11-16 | angular velocities of back thigh, shin, foot, front thigh, shin, foot | rad/s |

The position along x is left out of the observation, as in v5.

| | |
|---|---|
| action (6,) | motor commands of back thigh, shin, foot, front thigh, shin, foot, clipped to [-1, 1] |
| v | (x after - x before) / dt [m/s] |
| HalfCheetahVel reward | -abs(v - v*) - 0.05 ‖a‖², with a hidden v* in [0, 2] m/s |
| HalfCheetahDir reward | d v - 0.05 ‖a‖², with a hidden d = +1 (forward) or -1 (backward) |
| HalfCheetahParams reward | v - 0.05 ‖a‖², with hidden dynamics of the robot |
| start | positions plus U(-0.1, 0.1), velocities plus 0.1 N(0, 1) |
| end | never; 200 steps |

Splits of HalfCheetahVel: see `envs.velocity`. HalfCheetahDir has only two tasks, hence no split but `train` and `iid`,
which are the same.

HalfCheetahParams hides four multipliers, each 2^U(-1, 1): of the mass and inertia of all bodies, of the damping
of all joints, of the friction of all geoms and of the gear (the strength) of all motors. Combinations of mass and gear
are held out: four cells of a 4 × 4 grid over their exponents, one in each row and column. Masses or gears from 2^1.04
to 2^1.25, or the inverse, are out of range. The gap to training exponents is 0.04 (`envs.dynamics.multiplier_space`).

Differences from other code. Finn et al. (MAML, 2017) draw v* from [0, 2] at dt = 0.01 s (frame skip 1); ProMP,
PEARL and VariBAD draw from [0, 3] (`velocity_range=(0, 3)`). The control cost is 0.05 in all of them, and 0.1 in
Gymnasium's own task.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from envs.dynamics import DynamicsTask, Scaling, multiplier, multiplier_space
from envs.family import GHOST, Arrays, Family, Marker, Sphere, State, arrow_above, control_reward, span
from envs.robots import Camera, Robot, UniformNormalNoise
from envs.sagittal import measure, text_beside
from envs.tasks import (
    HELD_OUT,
    IID,
    OUT_OF_RANGE,
    TRAIN,
    VALIDATION,
    Points,
    Task,
    TaskSpace,
    quantity,
)
from envs.velocity import VelocityTask, velocity_space

CONTROL_COST = 0.05


def robot() -> Robot:
    """Gymnasium's HalfCheetah-v5, seen from the side by a camera that moves along."""
    return Robot(
        model="half_cheetah.xml",
        frame_skip=5,
        camera=Camera(body="torso", distance=4.0, elevation=-10.0),
        reset_noise=UniformNormalNoise(0.1),
    )


# ------------------------------------------------------------------------------------------- measurements
def observe(state: State) -> np.ndarray:
    """All positions but x, then all velocities, (…, 17)."""
    return np.concatenate([state.qpos[..., 1:], state.qvel], axis=-1)


# ----------------------------------------------------------------------------------------- velocity tasks
def velocity_reward(measured: Arrays, action: np.ndarray, task: Arrays) -> dict[str, np.ndarray]:
    """-|v - v*| and the control cost."""
    return {
        "velocity": -np.abs(measured["x_velocity"] - task["velocity"]),
        "control": control_reward(action, CONTROL_COST),
    }


def velocity_markers(state: State, time: float, task: Task) -> list[Marker]:
    """An arrow above the robot, 0.5 m long per m/s, and a ball that moves at the target velocity."""
    assert isinstance(task, VelocityTask)
    pace = Sphere((task.velocity * time, 0.0, 0.15), radius=0.15, rgba=GHOST)
    return [arrow_above((state.qpos[0], 0.0, 0.0), 1.35, (1.0, 0.0), 0.5 * task.velocity, 0.05, task.label), pace]


def velocity(velocity_range: Sequence[float] = (0.0, 2.0)) -> Family:
    """HalfCheetahVel: run at a hidden velocity from `velocity_range` [m/s]."""
    return Family(
        name="HalfCheetahVel",
        robot=robot(),
        task_space=velocity_space(velocity_range),
        observe=observe,
        measure=measure,
        reward=velocity_reward,
        markers=velocity_markers,
        aim=f"run at a hidden velocity from {span(velocity_range)} m/s",
    )


# ---------------------------------------------------------------------------------------- direction tasks
@dataclass(frozen=True)
class DirectionTask(Task):
    """Run forward (+1) or backward (-1) along x."""

    direction: float = quantity()

    @property
    def label(self) -> str:
        return "direction = forward" if self.direction > 0 else "direction = backward"


def direction_space() -> TaskSpace:
    """Forward and backward."""
    both = Points(np.array([[1.0], [-1.0]]))
    reason = "only two tasks exist: forward and backward"
    return TaskSpace(
        DirectionTask, {TRAIN: both, IID: both}, absent=dict.fromkeys((VALIDATION, HELD_OUT, OUT_OF_RANGE), reason)
    )


def direction_reward(measured: Arrays, action: np.ndarray, task: Arrays) -> dict[str, np.ndarray]:
    """d v and the control cost."""
    return {"direction": task["direction"] * measured["x_velocity"], "control": control_reward(action, CONTROL_COST)}


def direction_markers(state: State, time: float, task: Task) -> list[Marker]:
    """An arrow above the robot that points where to run."""
    assert isinstance(task, DirectionTask)
    return [arrow_above((state.qpos[0], 0.0, 0.0), 1.35, (1.0, 0.0), 0.8 * task.direction, 0.05, task.label)]


def direction() -> Family:
    """HalfCheetahDir: run in a hidden direction."""
    return Family(
        name="HalfCheetahDir",
        robot=robot(),
        task_space=direction_space(),
        observe=observe,
        measure=measure,
        reward=direction_reward,
        markers=direction_markers,
        aim="run in a hidden direction",
    )


# ---------------------------------------------------------------------------------------- hidden dynamics
@dataclass(frozen=True)
class ParamsTask(DynamicsTask):
    """Run forward with hidden multipliers of the robot's dynamics.

    mass: of all bodies, with their inertia. damping: of all joints. friction: of all geoms. gear: of all motors.
    """

    mass: float = multiplier(base=2.0)
    damping: float = multiplier(base=2.0)
    friction: float = multiplier(base=2.0)
    gear: float = multiplier(base=2.0)


DYNAMICS = (
    Scaling("body_mass", by="mass"),
    Scaling("body_inertia", by="mass"),
    Scaling("dof_damping", by="damping"),
    Scaling("geom_friction", by="friction"),
    Scaling("actuator_gear", by="gear"),
)


def params_reward(measured: Arrays, action: np.ndarray, task: Arrays) -> dict[str, np.ndarray]:
    """v and the control cost."""
    return {"forward": measured["x_velocity"], "control": control_reward(action, CONTROL_COST)}


def params_markers(state: State, time: float, task: Task) -> Sequence[Marker]:
    """The multipliers beside the robot, one in each line."""
    assert isinstance(task, ParamsTask)
    return text_beside(state, -0.5, 1.05, task.summary())


def params() -> Family:
    """HalfCheetahParams: run forward with hidden dynamics."""
    return Family(
        name="HalfCheetahParams",
        robot=robot(),
        task_space=multiplier_space(ParamsTask, plane=("mass", "gear"), limit=1.0),
        observe=observe,
        measure=measure,
        reward=params_reward,
        markers=params_markers,
        dynamics=DYNAMICS,
        aim="run forward with hidden dynamics",
    )
