"""PointNav and PointNavSparse: a point in the plane that looks for a hidden goal.

The point is kinematic: its velocity is the action. A whole meta-learning run takes minutes.

| | |
|---|---|
| action (2,) | velocity (x, y) [m/s], clipped to [-1, 1]; dt = 0.1 s, so s' = s + 0.1 clip(a) |
| observation (2,) | position (x, y) [m] |
| PointNav task | `goal` g, hidden: a point of the square [-0.5, 0.5]² [m] |
| PointNav reward | -‖s' - g‖₂ [m], with the position s' after the action |
| PointNavSparse task | `goal` g, hidden: a point of the unit half circle, angle in [0, π] |
| PointNavSparse reward | 1 - ‖s' - g‖₂ within 0.2 m of the goal, else 0; with `dense=True` that of PointNav |
| start | the origin, without noise |
| end | never; 100 steps |

Splits of PointNav. Four cells of a 4 × 4 grid over the square are held out, one in each row and column. The gap to
training goals is 0.02 m. The frame around the square from a half width of 0.52 m to one of 0.75 m is out of range.

Splits of PointNavSparse. Four arcs of π/16 are held out, centred at 1/8, 3/8, 5/8 and 7/8 of the half circle. The gap
to training goals is 0.05 m. The arcs of up to π/4 beyond both ends are out of range. An untrained policy gets a sparse
reward of 0 almost always, so that one commonly trains with the dense reward and tests with the sparse one.

Source: Finn, Abbeel, Levine, "Model-agnostic meta-learning for fast adaptation of deep networks", 2017, section 5.3.
There the reward is the negative squared distance, and an episode ends within 0.01 m of the goal. Here it is the
negative distance, as in later suites, and episodes do not end. The sparse task is that of Rakelly et al., "Efficient
off-policy meta-reinforcement learning via probabilistic context variables" (PEARL), 2019.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np

from .errors import FamilyError
from .family import RED, Arrays, Family, Sphere, State
from .goals_2d import CircleTask, arcs, arcs_around, chord_angle
from .robots import Camera, Robot
from .tasks import (
    HELD_OUT,
    IID,
    OUT_OF_RANGE,
    TRAIN,
    VALIDATION,
    Boxes,
    Region,
    Task,
    TaskSpace,
    carve,
    held_out_cells,
    held_out_space,
    quantity,
    union,
    validation_cells,
)

HALF_WIDTH = 0.5  # [m] of the square of training goals
REACH = 0.75  # [m] half width of the frame of out-of-range goals
GAP = 0.02  # [m] between training goals and all others

GOAL_RADIUS = 0.2  # [m] around a goal within which the sparse reward is not 0
ARC_CENTRES = math.pi * np.array([1, 3, 5, 7]) / 8  # [rad] of the held-out arcs
ARC_WIDTH = math.pi / 16  # [rad]
VALIDATION_ARC_CENTRES = math.pi * np.array([1, 2, 3]) / 4  # [rad]
VALIDATION_ARC_WIDTH = math.pi / 32  # [rad]
ARC_REACH = math.pi / 4  # [rad] length of the out-of-range arcs, with the gap
ARC_GAP = 0.05  # [m]

OVER_THE_SQUARE = Camera(distance=2.4, elevation=-90.0)
OVER_THE_HALF_CIRCLE = Camera(distance=2.9, elevation=-90.0, lookat=(0.0, 0.15, 0.0))

MODEL = """
<mujoco model="point">
  <option timestep="0.1" integrator="Euler">
    <flag contact="disable" gravity="disable" constraint="disable"/>
  </option>
  <visual>
    <headlight ambient="0.6 0.6 0.6" diffuse="0.4 0.4 0.4" specular="0 0 0"/>
  </visual>
  <asset>
    <texture name="grid" type="2d" builtin="checker" rgb1="0.93 0.93 0.93" rgb2="0.86 0.86 0.86"
             width="128" height="128"/>
    <material name="grid" texture="grid" texrepeat="4 4" texuniform="true"/>
  </asset>
  <worldbody>
    <geom name="floor" type="plane" size="4 4 0.1" pos="0 0 -0.05" material="grid"/>
    <geom name="start" type="cylinder" size="0.02 0.001" pos="0 0 -0.04" rgba="0.5 0.5 0.5 1"/>
    <body name="point">
      <joint name="x" type="slide" axis="1 0 0"/>
      <joint name="y" type="slide" axis="0 1 0"/>
      <geom name="point" type="sphere" size="0.03" mass="1" rgba="0.1 0.3 0.8 1"/>
    </body>
  </worldbody>
</mujoco>
"""


def robot(camera: Camera = OVER_THE_SQUARE) -> Robot:
    """The point, seen from straight above."""
    return Robot(model=MODEL, frame_skip=1, camera=camera, driven="qvel")


# ------------------------------------------------------------------------------------------- measurements
def observe(state: State) -> np.ndarray:
    """Position (x, y) [m], (…, 2)."""
    return state.qpos.copy()


def measure(before: State, after: State, dt: float) -> dict[str, np.ndarray]:
    """`position` after the action [m], (…, 2)."""
    return {"position": after.qpos}


# -------------------------------------------------------------------------------------------------- tasks
@dataclass(frozen=True)
class GoalTask(Task):
    """Go to `goal` (x, y) [m]."""

    goal: tuple[float, float] = quantity("m", size=2)


def goal_space() -> TaskSpace:
    """Goals in the square, with the splits above."""
    whole = square(HALF_WIDTH)
    return held_out_space(
        GoalTask,
        whole=whole,
        held_out=held_out_cells(whole),
        validation=validation_cells(whole),
        beyond=square(REACH),
        gap=GAP,
    )


def square(half_width: float) -> Boxes:
    """The square of the given half width [m] around the origin."""
    return Boxes(np.full((1, 2), -half_width), np.full((1, 2), half_width))


@dataclass(frozen=True)
class CircleGoalTask(CircleTask):
    """Go to `goal` (x, y) [m] on the unit circle."""

    goal: tuple[float, float] = quantity("m", size=2)


def half_circle_space() -> TaskSpace:
    """Goals on the upper unit half circle, with the splits above."""
    whole, margin = Boxes.interval(0.0, math.pi), chord_angle(ARC_GAP)
    held_out = arcs_around(ARC_CENTRES, ARC_WIDTH / 2)
    validation = arcs_around(VALIDATION_ARC_CENTRES, VALIDATION_ARC_WIDTH / 2)
    beyond = arcs(np.array([-ARC_REACH, math.pi + margin]), np.array([-margin, math.pi + ARC_REACH]))
    regions: dict[str, Region] = {
        TRAIN: carve(whole, union(held_out, validation), margin),
        VALIDATION: validation,
        HELD_OUT: held_out,
        OUT_OF_RANGE: beyond,
        IID: whole,
    }
    return TaskSpace(CircleGoalTask, regions, ARC_GAP, spans={"goal": (-1.0, 1.0)})


# ------------------------------------------------------------------------------------------------- reward
def goal_reward(measured: Arrays, action: np.ndarray, task: Arrays) -> dict[str, np.ndarray]:
    """-‖position - goal‖₂."""
    return {"distance": -np.linalg.norm(measured["position"] - task["goal"], axis=-1)}


def sparse_reward(
    measured: Arrays, action: np.ndarray, task: Arrays, *, radius: float = GOAL_RADIUS
) -> dict[str, np.ndarray]:
    """1 - ‖position - goal‖₂ within `radius` [m] of the goal, else 0."""
    distance = np.linalg.norm(measured["position"] - task["goal"], axis=-1)
    return {"nearness": np.where(distance < radius, 1.0 - distance, 0.0)}


def goal_markers(state: State, time: float, task: Task) -> list[Sphere]:
    """A red ball at the goal."""
    assert isinstance(task, GoalTask)
    return [Sphere((*task.goal, 0.0), radius=0.04, rgba=RED)]


def navigation() -> Family:
    """PointNav: go to a hidden place in a square of 1 m side."""
    return Family(
        name="PointNav",
        robot=robot(),
        task_space=goal_space(),
        observe=observe,
        measure=measure,
        reward=goal_reward,
        markers=goal_markers,
        aim="go to a hidden place in a square of 1 m side",
    )


def sparse_markers(state: State, time: float, task: Task) -> list[Sphere]:
    """A red ball at the goal."""
    assert isinstance(task, CircleGoalTask)
    return [Sphere((*task.goal, 0.0), radius=0.06, rgba=RED)]


def sparse_navigation(dense: bool = False, radius: float = GOAL_RADIUS) -> Family:
    """PointNavSparse: find a hidden place on a half circle of radius 1 m; the reward is 0 beyond `radius` [m] of it.

    dense: use PointNav's reward instead.

    Raises `FamilyError` unless `radius` is in (0, 1].
    """
    if not 0 < radius <= 1:
        raise FamilyError(f"radius = {radius}: expected a number of meters in (0, 1]")
    reward: Callable[..., dict[str, np.ndarray]] = goal_reward if dense else partial(sparse_reward, radius=radius)
    return Family(
        name="PointNavSparse",
        robot=robot(OVER_THE_HALF_CIRCLE),
        task_space=half_circle_space(),
        observe=observe,
        measure=measure,
        reward=reward,
        markers=sparse_markers,
        aim=f"find a hidden place on a half circle of radius 1 m, rewarded within {radius:g} m of it",
    )
