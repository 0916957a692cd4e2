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
| HalfCheetahParams, Limbs, Delay, Noise reward | v - 0.05 ‖a‖², with hidden dynamics of the robot |
| start | positions plus U(-0.1, 0.1), velocities plus 0.1 N(0, 1) |
| end | never; 200 steps |

Splits of HalfCheetahVel: see `envs.velocity`. HalfCheetahDir has only two tasks, hence no split but `train` and `iid`,
which are the same.

HalfCheetahParams hides four multipliers, each 2^U(-1, 1): of the mass and inertia of all bodies, of the damping
of all joints, of the friction of all geoms and of the gear (the strength) of all motors. Combinations of mass and gear
are held out: four cells of a 4 × 4 grid over their exponents, one in each row and column. Masses or gears from 2^1.04
to 2^1.25, or the inverse, are out of range. The gap to training exponents is 0.04 (`envs.dynamics.multiplier_space`).

HalfCheetahLimbs hides the length and the radius of each of the 6 limbs of the legs, each 1.1^U(-3, 3) times the nominal
one (`envs.limbs`). The model file fixes the total mass, 14 kg, which is divided among the bodies by volume. The lowest
foot starts at the nominal height, and the height of the torso is observed relative to its start. Combinations of the
back thigh's length and radius are held out, as above with a limit of 3.

HalfCheetahDelay hides a delay of all actions in [0, 4] control steps; up to 6 are out of range (splits of
`envs.velocity`). HalfCheetahNoise hides the standard deviations of normal noise on the positions observed,
0.05 · 1.5^U(-3, 3) m or rad, and on the velocities, 0.5 · 1.5^U(-3, 3) m/s or rad/s; splits as above with a limit of 3.
Rewards are computed without the delay and the noise (`envs.signals`).

Differences from other code. Finn et al. (MAML, 2017) draw v* from [0, 2] at dt = 0.01 s (frame skip 1); ProMP,
PEARL and VariBAD draw from [0, 3] (`velocity_range=(0, 3)`). The control cost is 0.05 in all of them, and 0.1 in
Gymnasium's own task.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from .dynamics import DynamicsTask, Scaling, multiplier, multiplier_space
from .family import Arrays, Family, Marker, State, arrow_above, control_reward, observe_beyond, pace_ball, span
from .robots import Camera, Robot, UniformNormalNoise
from .sagittal import measure, text_beside
from .tasks import HELD_OUT, IID, OUT_OF_RANGE, TRAIN, VALIDATION, Points, Task, TaskSpace, quantity
from .velocity import VelocityTask, interval_space, velocity_reward, velocity_space

CONTROL_COST = 0.05
MAX_DELAY = 4.0  # [steps] of training actions
POSITION_NOISE = 0.05  # [m] or [rad], standard deviation for a multiplier of 1
VELOCITY_NOISE = 0.5  # [m/s] or [rad/s]


def robot() -> Robot:
    """Gymnasium's HalfCheetah-v5, seen from the side by a camera that moves along."""
    return Robot(
        model="half_cheetah.xml",
        frame_skip=5,
        camera=Camera(body="torso", distance=4.0, elevation=-10.0),
        reset_noise=UniformNormalNoise(0.1),
    )


observe = partial(observe_beyond, 1)  # all but x, (…, 17)


# ----------------------------------------------------------------------------------------- velocity tasks
def velocity_markers(state: State, time: float, task: Task) -> list[Marker]:
    """An arrow above the robot, 0.5 m long per m/s, and a ball that moves at the target velocity."""
    assert isinstance(task, VelocityTask)
    pace = pace_ball(float(state.qpos[0]), task.velocity * time, reach=1.4, radius=0.15)
    return [arrow_above((state.qpos[0], 0.0, 0.0), 1.35, (1.0, 0.0), 0.5 * task.velocity, 0.05, task.label), pace]


def velocity(velocity_range: Sequence[float] = (0.0, 2.0)) -> Family:
    """HalfCheetahVel: run at a hidden velocity from `velocity_range` [m/s]."""
    return Family(
        name="HalfCheetahVel",
        robot=robot(),
        task_space=velocity_space(velocity_range),
        observe=observe,
        measure=measure,
        reward=partial(velocity_reward, control_cost=CONTROL_COST),
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
    assert isinstance(task, DynamicsTask)
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


# ------------------------------------------------------------------------------------------- hidden limbs
LEGS = tuple(f"{leg}{limb}" for leg in ("b", "f") for limb in ("thigh", "shin", "foot"))


@dataclass(frozen=True)
class LimbsTask(DynamicsTask):
    """Run forward on legs of other lengths and radii, in the order of the model."""

    length: tuple[float, ...] = multiplier(base=1.1, size=len(LEGS))
    radius: tuple[float, ...] = multiplier(base=1.1, size=len(LEGS))


def limbs() -> Family:
    """HalfCheetahLimbs: run forward on legs of hidden lengths and radii."""
    return replace(
        params(),
        name="HalfCheetahLimbs",
        task_space=multiplier_space(LimbsTask, plane=("length", "radius")),
        dynamics=(Scaling("limb_length", by="length", of=LEGS), Scaling("limb_radius", by="radius", of=LEGS)),
        aim="run forward on legs of hidden lengths and radii",
    )


# --------------------------------------------------------------------------------- late actions, noisy sensors
@dataclass(frozen=True)
class DelayTask(Task):
    """Run forward with actions that arrive `delay` control steps of 0.05 s late."""

    delay: float = quantity("steps")


def delay_markers(state: State, time: float, task: Task) -> Sequence[Marker]:
    """The delay beside the robot."""
    return text_beside(state, -0.5, 1.05, [task.label])


def delay() -> Family:
    """HalfCheetahDelay: run forward with actions that arrive late."""
    return replace(
        params(),
        name="HalfCheetahDelay",
        task_space=interval_space(DelayTask, 0.0, MAX_DELAY),
        markers=delay_markers,
        dynamics=(),
        action_delay=lambda task: task["delay"],
        aim=f"run forward with actions that arrive up to {MAX_DELAY:g} steps late",
    )


@dataclass(frozen=True)
class NoiseTask(DynamicsTask):
    """Run forward with noisy sensors of positions and of velocities."""

    position: float = multiplier(base=1.5)
    velocity: float = multiplier(base=1.5)


def noise_deviation(task: Arrays) -> np.ndarray:
    """Of the 8 positions and the 9 velocities that are observed, (…, 17)."""
    parts = [POSITION_NOISE * task["position"], VELOCITY_NOISE * task["velocity"]]
    return np.concatenate([np.stack([part] * size, axis=-1) for part, size in zip(parts, (8, 9), strict=True)], axis=-1)


def noise() -> Family:
    """HalfCheetahNoise: run forward with noisy sensors."""
    return replace(
        params(),
        name="HalfCheetahNoise",
        task_space=multiplier_space(NoiseTask, plane=("position", "velocity")),
        dynamics=(),
        sensor_noise=noise_deviation,
        aim="run forward with sensors of hidden noise",
    )
