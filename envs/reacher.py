"""ReacherGoal: a planar arm with two links that must bring its fingertip to a hidden target.

The robot is Gymnasium's Reacher-v5, bit for bit: its model, start and time step (two simulation steps of 0.01 s,
dt = 0.02 s).

| num | observation (8,) | unit |
|---|---|---|
| 0-1 | cosines of the angles of shoulder and elbow | |
| 2-3 | sines of these angles | |
| 4-5 | angular velocities of shoulder and elbow | rad/s |
| 6-7 | position of the fingertip (x, y) | m |

This is v5's observation without the target: its numbers 4-5, the target, are left out, and its last two, fingertip
minus target, are the fingertip.

| | |
|---|---|
| action (2,) | motor commands of shoulder and elbow, clipped to [-1, 1] |
| task | `goal` g, hidden: uniform in the disk of 0.2 m around the shoulder |
| reward | -‖tip - g‖₂ - 0.1 ‖a‖², with the fingertip (x, y) after the action [m] |
| start | angles U(-0.1, 0.1), angular velocities U(-0.005, 0.005) |
| end | never; 50 steps |

The model's own target body does not act in the simulation; in pictures it is moved to the goal. The same seed gives the
same start as in v5, where a target is drawn between angles and velocities: this draw is repeated and thrown away.

Splits: four held-out sectors of 22.5° from 1/3 of the radius outwards (`envs.goals_2d`), with a gap of 0.005 m. There
is no out-of-range split, because the arm reaches only 0.21 m; with a smaller `radius` it is the ring up to 0.2 m.

Differences from other code. v5 charges ‖a‖² (`control_cost=1`), and reads the fingertip at the integrator's last
intermediate stage; here it is the fingertip after dt.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import numpy as np

from .errors import FamilyError
from .family import RED, Arrays, Family, Marker, Sphere, State, control_reward
from .goals_2d import DiskGoalTask, disk_space
from .robots import Camera, Robot, body_ids
from .tasks import Task

RADIUS = 0.2  # [m] largest distance of a goal from the shoulder
JOINTS = 2  # of the arm; the other joints of the model are those of its target


@dataclass(frozen=True)
class ReacherNoise:
    """The start noise of Reacher-v5, whose target is drawn and thrown away."""

    def draw(self, rng: np.random.Generator, n: int, nq: int, nv: int) -> tuple[np.ndarray, np.ndarray]:
        """Noise of the positions (n, nq), drawn first, and of the velocities (n, nv); 0 for the target."""
        positions = rng.uniform(-0.1, 0.1, size=(n, nq))
        _skip_targets(rng, n)
        velocities = rng.uniform(-0.005, 0.005, size=(n, nv))
        positions[:, JOINTS:] = velocities[:, JOINTS:] = 0.0
        return positions, velocities


def _skip_targets(rng: np.random.Generator, n: int) -> None:
    """Draw n targets in the disk, by rejection from its square, to advance the generator as v5 does."""
    missing = n
    while missing:
        targets = rng.uniform(-RADIUS, RADIUS, size=(missing, 2))
        missing = int(np.count_nonzero(np.linalg.norm(targets, axis=-1) >= RADIUS))


def robot() -> Robot:
    """Gymnasium's Reacher-v5, seen from above."""
    return Robot(
        model="reacher.xml",
        frame_skip=2,
        camera=Camera(distance=0.8, elevation=-90.0),
        reset_noise=ReacherNoise(),
        fields=("xpos",),
    )


# ------------------------------------------------------------------------------------------- measurements
def observe(state: State, *, fingertip: int) -> np.ndarray:
    """Cosines and sines of the angles, angular velocities, and the fingertip (x, y), (…, 8)."""
    angles, velocities = state.qpos[..., :JOINTS], state.qvel[..., :JOINTS]
    tip = state.fields["xpos"][..., fingertip, :2]
    return np.concatenate([np.cos(angles), np.sin(angles), velocities, tip], axis=-1)


def measure(before: State, after: State, dt: float, *, fingertip: int) -> dict[str, np.ndarray]:
    """Position `fingertip` (x, y) after the action [m], (…, 2)."""
    return {"fingertip": after.fields["xpos"][..., fingertip, :2]}


# ----------------------------------------------------------------------------------------- tasks and reward
def goal_reward(measured: Arrays, action: np.ndarray, task: Arrays, *, control_cost: float) -> dict[str, np.ndarray]:
    """-‖fingertip - goal‖₂ and the control cost."""
    return {
        "distance": -np.linalg.norm(measured["fingertip"] - task["goal"], axis=-1),
        "control": control_reward(action, control_cost),
    }


def place_goal(qpos: np.ndarray, task: Task) -> np.ndarray:
    """Positions with the model's target, which has two slides (x, y), at the goal."""
    assert isinstance(task, DiskGoalTask)
    return np.concatenate([qpos[:JOINTS], task.goal])


def goal_markers(state: State, time: float, task: Task) -> list[Marker]:
    """A red ball over the model's small target."""
    assert isinstance(task, DiskGoalTask)
    return [Sphere((*task.goal, 0.01), radius=0.014, rgba=RED)]


def goal(radius: float = RADIUS, control_cost: float = 0.1) -> Family:
    """ReacherGoal: bring the fingertip to a hidden goal in the disk of `radius` [m].

    Raises `FamilyError` unless `radius` is in (0, 0.2].
    """
    if not 0 < radius <= RADIUS:
        raise FamilyError(f"radius = {radius}: expected a number of meters in (0, {RADIUS}], what the arm reaches")
    (fingertip,) = body_ids(robot(), "fingertip")
    return Family(
        name="ReacherGoal",
        robot=robot(),
        task_space=disk_space(radius, reach=RADIUS, no_ring="the arm reaches hardly further than the disk"),
        observe=partial(observe, fingertip=fingertip),
        measure=partial(measure, fingertip=fingertip),
        reward=partial(goal_reward, control_cost=control_cost),
        markers=goal_markers,
        place_goal=place_goal,
        aim=f"bring the fingertip to a hidden goal in the disk of {radius:g} m",
    )
