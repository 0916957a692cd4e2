"""PusherGoal: an arm with seven joints that must push a puck to a hidden place on the table.

The robot is Gymnasium's Pusher-v5, bit for bit: its model, start and time step (five simulation steps of 0.01 s,
dt = 0.05 s).

| num | observation (20,) | unit |
|---|---|---|
| 0-6 | angles of shoulder pan, shoulder lift, upper arm roll, elbow flex, forearm roll, wrist flex, wrist roll | rad |
| 7-13 | angular velocities of these joints | rad/s |
| 14-16 | position of the wrist that carries the fingertips (x, y, z) | m |
| 17-19 | position of the puck (x, y, z) | m |

This is v5's observation without its last three numbers, the goal.

| | |
|---|---|
| action (7,) | motors of the joints above, clipped to [-1, 1], scaled to ±2 (v5 gets 2 a) |
| task | `goal` g, hidden: a place for the puck, x in [0.25, 0.45] m, y in [-0.05, 0.15] m |
| reward | -‖puck - g‖₂ - 0.5 ‖tip - puck‖₂ - 0.1 ‖a‖², after the action [m]; the first distance is in (x, y) |
| start of the puck | x in [0.25, 0.65], y in [-0.35, -0.05] m, at least 0.17 m away from (0.45, -0.05) |
| start of the arm | angles 0, angular velocities U(-0.005, 0.005) |
| end | never; 100 steps |

Seen from the arm, goals lie behind the puck, at most 0.88 m from the arm, where it can still push. v5's only goal is
(0.45, -0.05), a corner of this rectangle. The model's own goal body does not act in the simulation; in pictures it is
moved to the goal. `a` is in [-1, 1]; v5's cost 0.1 ‖2 a‖² is `control_cost=0.4`.

Splits: four cells of a 4 × 4 grid over the rectangle are held out, one in each row and column. The gap to training
goals is 0.005 m. The frame from 0.005 to 0.05 m around the rectangle is out of range.

Differences from other code. v5 measures the puck's distance from the goal between two bodies 0.048 m apart in height,
so that it is never 0, and reads all positions one simulation step (0.01 s) late; here they are those after dt.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from .errors import FamilyError
from .family import Arrays, Family, Marker, State, control_reward, span
from .robots import Camera, Robot, body_ids
from .tasks import Boxes, Task, TaskSpace, held_out_cells, held_out_space, quantity, validation_cells

JOINTS = 7  # of the arm; qpos goes on with the slides of the puck (y, x) and of the model's goal (y, x)
ORIGIN = np.array([0.45, -0.05])  # [m] place of puck and goal with their slides at 0
GAP = 0.005  # [m] between training goals and all others
REACH = 0.05  # [m] width of the frame of out-of-range goals


@dataclass(frozen=True)
class PusherNoise:
    """The start noise of Pusher-v5: a random place of the puck and small velocities of the arm."""

    def draw(self, rng: np.random.Generator, n: int, nq: int, nv: int) -> tuple[np.ndarray, np.ndarray]:
        """Noise of the positions (n, nq), drawn first, and of the velocities (n, nv)."""
        positions = np.zeros((n, nq))
        positions[:, JOINTS : JOINTS + 2] = _puck_slides(rng, n)
        velocities = rng.uniform(-0.005, 0.005, size=(n, nv))
        velocities[:, JOINTS:] = 0.0
        return positions, velocities


def _puck_slides(rng: np.random.Generator, n: int) -> np.ndarray:
    """Positions (y, x) [m] relative to ORIGIN, (n, 2): uniform in a rectangle, more than 0.17 m away from ORIGIN."""
    slides = np.zeros((n, 2))
    near = np.arange(n)
    while near.size:
        slides[near] = rng.uniform([-0.3, -0.2], [0.0, 0.2], size=(near.size, 2))
        near = near[np.linalg.norm(slides[near], axis=-1) <= 0.17]
    return slides


def robot() -> Robot:
    """Gymnasium's Pusher-v5, seen obliquely from above."""
    return Robot(
        model="pusher_v5.xml",
        frame_skip=5,
        camera=Camera(distance=2.0, azimuth=150.0, elevation=-50.0, lookat=(0.35, -0.3, -0.2)),
        reset_noise=PusherNoise(),
        fields=("xpos",),
    )


# ------------------------------------------------------------------------------------------- measurements
def observe(state: State, *, tip: int, puck: int) -> np.ndarray:
    """Angles and angular velocities of the arm, positions of wrist and puck, (…, 20)."""
    places = state.fields["xpos"]
    arm = (state.qpos[..., :JOINTS], state.qvel[..., :JOINTS])
    return np.concatenate([*arm, places[..., tip, :], places[..., puck, :]], axis=-1)


def measure(before: State, after: State, dt: float, *, tip: int, puck: int) -> dict[str, np.ndarray]:
    """Positions of `tip` and `puck` (x, y, z) after the action [m], each (…, 3)."""
    return {"tip": after.fields["xpos"][..., tip, :], "puck": after.fields["xpos"][..., puck, :]}


# -------------------------------------------------------------------------------------------------- tasks
@dataclass(frozen=True)
class PuckTask(Task):
    """Push the puck to `goal` (x, y) [m]."""

    goal: tuple[float, float] = quantity("m", size=2)


def goal_space(x_range: Sequence[float] = (0.25, 0.45), y_range: Sequence[float] = (-0.05, 0.15)) -> TaskSpace:
    """Goals in the rectangle `x_range` × `y_range` [m], with the splits above. Raises `FamilyError` if one is empty."""
    for name, bounds in (("x_range", x_range), ("y_range", y_range)):
        if len(bounds) != 2 or not -np.inf < bounds[0] < bounds[1] < np.inf:
            raise FamilyError(f"{name} = {bounds}: expected (low, high) in meters with low < high")
    low, high = np.array([x_range, y_range], dtype=np.float64).T[:, None]
    whole = Boxes(low, high)
    beyond = Boxes(low - REACH, high + REACH)
    return held_out_space(PuckTask, whole, held_out_cells(whole), beyond, GAP, validation_cells(whole))


# ------------------------------------------------------------------------------------------------- reward
def goal_reward(
    measured: Arrays, action: np.ndarray, task: Arrays, *, near_cost: float, control_cost: float
) -> dict[str, np.ndarray]:
    """-‖puck - goal‖₂ in (x, y), -near_cost ‖tip - puck‖₂, and the control cost."""
    tip, puck = measured["tip"], measured["puck"]
    return {
        "distance": -np.linalg.norm(puck[..., :2] - task["goal"], axis=-1),
        "near": -near_cost * np.linalg.norm(puck - tip, axis=-1),
        "control": control_reward(action, control_cost),
    }


def place_goal(qpos: np.ndarray, task: Task) -> np.ndarray:
    """Positions with the model's red disk, which has two slides (y, x), at the goal."""
    assert isinstance(task, PuckTask)
    return np.concatenate([qpos[: JOINTS + 2], (np.array(task.goal) - ORIGIN)[::-1]])


def no_markers(state: State, time: float, task: Task) -> list[Marker]:
    """No marker: the model's own red disk shows the goal."""
    return []


def goal(
    x_range: Sequence[float] = (0.25, 0.45),
    y_range: Sequence[float] = (-0.05, 0.15),
    near_cost: float = 0.5,
    control_cost: float = 0.1,
) -> Family:
    """PusherGoal: push the puck to a hidden place of the rectangle `x_range` × `y_range` [m]."""
    tip, puck = body_ids(robot(), "tips_arm", "object")
    return Family(
        name="PusherGoal",
        robot=robot(),
        task_space=goal_space(x_range, y_range),
        observe=partial(observe, tip=tip, puck=puck),
        measure=partial(measure, tip=tip, puck=puck),
        reward=partial(goal_reward, near_cost=near_cost, control_cost=control_cost),
        markers=no_markers,
        place_goal=place_goal,
        aim=f"push the puck to a hidden place of the rectangle {span(x_range)} × {span(y_range)} m",
    )
