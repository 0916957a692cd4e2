"""Tasks of several robots: run along x at a hidden velocity.

Splits of a range of width w: four held-out intervals of width w/16 are centred at 1/8, 3/8, 5/8 and 7/8 of it, and
three intervals of width w/32 for validation at 1/4, 1/2 and 3/4. The gap between them and training velocities is w/100.
Velocities from w/100 to w/2 above the range are out of range. `iid` is the whole range.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from .errors import FamilyError
from .family import Arrays, control_reward
from .tasks import Boxes, Task, TaskSpace, held_out_space, quantity

HELD_OUT_CENTRES = np.array([[1.0], [3.0], [5.0], [7.0]]) / 8  # as fractions of the range, like all numbers below
HELD_OUT_WIDTH = 1 / 16
VALIDATION_CENTRES = np.array([[1.0], [2.0], [3.0]]) / 4
VALIDATION_WIDTH = 1 / 32
GAP = 1 / 100
REACH = 1 / 2


@dataclass(frozen=True)
class VelocityTask(Task):
    """Run along x at `velocity` [m/s]."""

    velocity: float = quantity("m/s")


def velocity_space(velocity_range: Sequence[float] = (0.0, 2.0)) -> TaskSpace:
    """Target velocities in the range (low, high) [m/s], with the splits above. Raises `FamilyError` if it is empty."""
    return interval_space(VelocityTask, *_checked_range(velocity_range))


def interval_space(task_type: type[Task], low: float, high: float) -> TaskSpace:
    """Tasks of one number in [low, high], with the splits above."""
    width = high - low
    return held_out_space(
        task_type,
        whole=Boxes.interval(low, high),
        held_out=_intervals(low + width * HELD_OUT_CENTRES, width * HELD_OUT_WIDTH),
        validation=_intervals(low + width * VALIDATION_CENTRES, width * VALIDATION_WIDTH),
        beyond=Boxes.interval(low, high + REACH * width),
        gap=GAP * width,
    )


def velocity_reward(
    measured: Arrays, action: np.ndarray, task: Arrays, *, control_cost: float
) -> dict[str, np.ndarray]:
    """-|v - v*| and the control cost."""
    return {
        "velocity": -np.abs(measured["x_velocity"] - task["velocity"]),
        "control": control_reward(action, control_cost),
    }


def _intervals(centres: np.ndarray, width: float) -> Boxes:
    """Intervals of one width around the centres (B, 1)."""
    return Boxes(centres - width / 2, centres + width / 2)


def _checked_range(velocity_range: Sequence[float]) -> tuple[float, float]:
    if len(velocity_range) != 2 or not -np.inf < velocity_range[0] < velocity_range[1] < np.inf:
        raise FamilyError(f"velocity_range = {velocity_range}: expected (low, high) in m/s with low < high")
    return float(velocity_range[0]), float(velocity_range[1])
