"""Hopper: a planar one-legged robot that must hop forward with a hidden body, without falling.

The robot is Gymnasium's Hopper-v5, bit for bit: its model, start, observation, end and time step (four
simulation steps of 0.002 s, dt = 0.008 s).

| num | observation (11,) | unit |
|---|---|---|
| 0 | height of the torso (rootz) | m |
| 1 | pitch of the torso (rooty) | rad |
| 2-4 | angles of thigh, leg, foot | rad |
| 5 | velocity of the torso along x (rootx) | m/s |
| 6 | velocity of the torso along z (rootz) | m/s |
| 7 | pitch rate of the torso (rooty) | rad/s |
| 8-10 | angular velocities of thigh, leg, foot | rad/s |

As in v5, the position along x is left out and velocities are clipped to ±10.

| | |
|---|---|
| action (3,) | motor commands of thigh, leg, foot, clipped to [-1, 1] |
| v | (x after - x before) / dt [m/s] |
| healthy | height above 0.7 m, pitch in (-0.2, 0.2) rad and all other numbers of the state but x in (-100, 100) |
| HopperParams reward | v + 1 · healthy - 0.001 ‖a‖², with hidden dynamics of the robot |
| start | positions plus U(-0.005, 0.005), velocities plus U(-0.005, 0.005) |
| end | not healthy; 200 steps (1.6 s) |

Standing still earns 1 in each step, and falling ends the episode, so that falling never pays.

HopperParams has 16 independent multipliers, as in `rand_param_envs`: 1.5^U(-3, 3) for the mass of each of the 4 bodies,
the inertia of each and the friction of each of the 5 geoms (floor included), and 1.3^U(-3, 3) for the damping of each
of the 3 driven joints. A contact takes the larger friction of its two geoms.

Combinations of the torso's mass and inertia are held out: four cells of a 4 × 4 grid over their exponents, one in each
row and column. Torsos with one of these exponents in ±[3.12, 3.75] are out of range. The gap to training exponents is
0.12 (`envs.dynamics.multiplier_space`).

Differences from other code. In `rand_param_envs` each axis of an inertia and each kind of friction has a multiplier of
its own; in the plane only one of them per body or geom has an effect.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from . import upright
from .dynamics import DynamicsTask, multiplier
from .family import Family, State
from .robots import Robot

HEALTHY_HEIGHT = 0.7  # [m] at least
HEALTHY_PITCH = 0.2  # [rad] at most, in absolute value
HEALTHY_STATE = 100.0  # at most, in absolute value, for all other numbers of the state

BODIES = ("torso", "thigh", "leg", "foot")
GEOMS = ("floor", *(f"{body}_geom" for body in BODIES))
JOINTS = tuple(f"{body}_joint" for body in BODIES[1:])


def robot() -> Robot:
    """Gymnasium's Hopper-v5, seen from the side by a camera that moves along."""
    return upright.robot("hopper.xml", distance=4.0)


# ------------------------------------------------------------------------------------------- measurements
def healthy(state: State) -> np.ndarray:
    """Whether height, pitch and all other numbers of the state are in their healthy ranges, (…,)."""
    height, pitch = state.qpos[..., 1], state.qpos[..., 2]
    others = np.concatenate([state.qpos[..., 2:], state.qvel], axis=-1)
    calm = (np.abs(others) < HEALTHY_STATE).all(axis=-1)
    return calm & (height > HEALTHY_HEIGHT) & (np.abs(pitch) < HEALTHY_PITCH)


# ---------------------------------------------------------------------------------------- hidden dynamics
@dataclass(frozen=True)
class ParamsTask(DynamicsTask):
    """Hop forward with hidden multipliers, one for each body, geom or joint in the order of the model."""

    mass: tuple[float, ...] = multiplier(base=1.5, size=len(BODIES))
    inertia: tuple[float, ...] = multiplier(base=1.5, size=len(BODIES))
    friction: tuple[float, ...] = multiplier(base=1.5, size=len(GEOMS))
    damping: tuple[float, ...] = multiplier(base=1.3, size=len(JOINTS))


DYNAMICS = upright.scalings(BODIES, GEOMS, JOINTS)


def params() -> Family:
    """HopperParams: hop forward with hidden dynamics."""
    aim = "hop forward with hidden dynamics"
    return upright.params_family("HopperParams", robot(), healthy, ParamsTask, DYNAMICS, aim)
