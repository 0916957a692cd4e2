"""PointNav: a point in the plane that looks for a hidden goal.

The point is kinematic: it moves by its action and nothing else. A whole meta-learning run takes minutes.

| | |
|---|---|
| action (2,) | velocity (x, y) [m/s], clipped to [-1, 1]; dt = 0.1 s, so s' = s + 0.1 clip(a) |
| observation (2,) | position (x, y) [m] |
| task | `goal`: a point of the square [-0.5, 0.5]² [m], hidden |
| reward | -‖s' - g‖₂ [m], with the position s' after the action |
| start | the origin, without noise |
| end | never; 100 steps |

Splits. Four of the sixteen cells of a 4 × 4 grid over the square are held out, one in each row and column,
and training keeps 0.02 m away from them. Out of range is the square ring whose half width goes from 0.52 to
0.75 m. `iid` is the whole square.

Source: Finn, Abbeel, Levine, "Model-agnostic meta-learning for fast adaptation of deep networks", 2017,
section 5.3. There the reward is the negative squared distance and an episode ends within 0.01 m of the
goal; here it is the distance, as in later suites, and episodes do not end.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from envs.family import Arrays, Family, Sphere, State
from envs.robots import Camera, Robot
from envs.tasks import Boxes, Task, TaskSpace, held_out_space, quantity

HALF_WIDTH = 0.5  # [m] of the square that training goals lie in
REACH = 0.75  # [m] half width of the square that out-of-range goals lie in
GAP = 0.02  # [m] between training goals and all others
HELD_OUT_CELLS = ((0, 1), (1, 3), (2, 0), (3, 2))  # column, row of a 4 x 4 grid
CELL = 2 * HALF_WIDTH / 4  # [m]

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


def robot() -> Robot:
    """The point, seen from straight above."""
    return Robot(model=MODEL, frame_skip=1, camera=Camera(distance=2.4, elevation=-90.0), driven="qvel")


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
    """Goals in the square, with held-out cells and a ring around it."""
    corners = np.array(HELD_OUT_CELLS) * CELL - HALF_WIDTH
    return held_out_space(
        GoalTask,
        whole=square(HALF_WIDTH),
        held_out=Boxes(corners, corners + CELL),
        beyond=square(REACH),
        gap=GAP,
    )


def square(half_width: float) -> Boxes:
    """The square of the given half width [m] around the origin."""
    return Boxes(np.full((1, 2), -half_width), np.full((1, 2), half_width))


# ------------------------------------------------------------------------------------------------- reward
def goal_reward(measured: Arrays, action: np.ndarray, task: Arrays) -> dict[str, np.ndarray]:
    """-‖position - goal‖₂."""
    return {"distance": -np.linalg.norm(measured["position"] - task["goal"], axis=-1)}


def goal_markers(state: State, time: float, task: Task) -> list[Sphere]:
    """A red ball at the goal."""
    assert isinstance(task, GoalTask)
    return [Sphere((*task.goal, 0.0), radius=0.04, rgba=(0.9, 0.1, 0.1, 1.0))]


def navigation() -> Family:
    """PointNav."""
    return Family(
        name="PointNav",
        robot=robot(),
        task_space=goal_space(),
        observe=observe,
        measure=measure,
        reward=goal_reward,
        markers=goal_markers,
    )
