"""Goals in the plane and their splits: directions on the circle, points in a disk.

The chart coordinate of a direction is its angle in [-π, π]. Those of a point in a disk are (r², angle), because a
uniform draw of these is uniform in the disk.

Four arcs of the circle are held out, each 1/16 of it (22.5°), centred at 30°, 135°, -75° and 180°. For a robot with
four equal legs these are four different directions. Four arcs half as wide are for validation, at 75°, 100°, -30° and
-120°. In a disk they are sectors that begin at a third of its radius, so that held-out and training goals do not meet
at the centre. Gaps are straight lines: the chord between two directions, the distance between two goals [m]. All
directions are in the range, so that none is out of range; around a disk a ring can be.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, ClassVar, Self

import numpy as np

from .errors import FamilyError, TaskError
from .family import Arrays, control_reward
from .tasks import (
    HELD_OUT,
    IID,
    OUT_OF_RANGE,
    TRAIN,
    VALIDATION,
    Boxes,
    Points,
    Region,
    Task,
    TaskSpace,
    carve,
    quantity,
    union,
)

HELD_OUT_CENTRES = np.deg2rad([30.0, 135.0, -75.0, 180.0])
HELD_OUT_WIDTH = math.tau / 16  # [rad]
MOST_DIRECTIONS = 3600  # a tenth of a degree apart
DIRECTION_GAP = 0.05  # chord between training directions and those of other splits
VALIDATION_CENTRES = np.deg2rad([75.0, 100.0, -30.0, -120.0])
VALIDATION_WIDTH = math.tau / 32  # [rad]
SECTOR_START = 1 / 3  # of the radius
GOAL_GAP = 1 / 40  # of the radius

_UNIT_TOLERANCE = 1e-6


# ----------------------------------------------------------------------------------------------- geometry
def angle_of(vector: Sequence[float]) -> float:
    """The angle of (x, y) in (-π, π] [rad]."""
    x, y = vector
    return math.atan2(y + 0.0, x)  # -0.0 + 0.0 is 0.0, so that (-1, -0.0) has the angle π, not -π


def chord_angle(chord: float) -> float:
    """The angle [rad] between two unit vectors with this distance."""
    return 2 * math.asin(chord / 2)


def arcs(low: np.ndarray, high: np.ndarray) -> Boxes:
    """The arcs from low to high [rad], anticlockwise, as intervals of [-π, π]. An arc across ±π becomes two intervals.

    low, high: (B,), with low < high < low + 2π.
    """
    start = (np.asarray(low) + math.pi) % math.tau - math.pi
    end = start + (np.asarray(high) - np.asarray(low))
    across = end > math.pi
    lows = np.concatenate([start, np.full(across.sum(), -math.pi)])
    highs = np.concatenate([np.minimum(end, math.pi), end[across] - math.tau])
    return Boxes(lows[:, None], highs[:, None])


def arcs_around(centres: np.ndarray, half: float) -> Boxes:
    """The arcs of angles up to `half` [rad] away from the centres (B,) [rad]."""
    return arcs(centres - half, centres + half)


WHOLE_CIRCLE = Boxes.interval(-math.pi, math.pi)
HELD_OUT_ARCS = arcs_around(HELD_OUT_CENTRES, HELD_OUT_WIDTH / 2)
VALIDATION_ARCS = arcs_around(VALIDATION_CENTRES, VALIDATION_WIDTH / 2)


def _kept_out(margin: float) -> Boxes:
    """The held-out and the validation arcs, widened by `margin` [rad] on each side."""
    held_out = arcs_around(HELD_OUT_CENTRES, HELD_OUT_WIDTH / 2 + margin)
    return union(held_out, arcs_around(VALIDATION_CENTRES, VALIDATION_WIDTH / 2 + margin))


def times(radial: tuple[float, float], angles: Boxes) -> Boxes:
    """Sectors of a disk: r² in the interval `radial` [m²], angle in one of `angles` [rad]."""
    low, high = (np.full_like(angles.low, bound) for bound in radial)
    return Boxes(np.hstack([low, angles.low]), np.hstack([high, angles.high]))


# --------------------------------------------------------------------------------------------- directions
@dataclass(frozen=True)
class CircleTask(Task):
    """Base of tasks whose only field is a point (x, y) of the unit circle; the chart coordinate is its angle.

    Raises `TaskError` unless the vector has length 1.
    """

    chart: ClassVar[str] = "rad"

    def __post_init__(self) -> None:
        super().__post_init__()
        if abs(math.hypot(*self.vector) - 1) > _UNIT_TOLERANCE:
            raise TaskError(f"{self}: expected a vector of length 1, got length {math.hypot(*self.vector):.6g}")

    @property
    def vector(self) -> tuple[float, float]:
        """The value of the field."""
        return getattr(self, fields(self)[0].name)

    def coordinates(self) -> np.ndarray:
        return np.array([angle_of(self.vector)])

    @classmethod
    def from_coordinates(cls, coordinates: np.ndarray) -> Self:
        (angle,) = coordinates.tolist()
        return cls(**{fields(cls)[0].name: (math.cos(angle), math.sin(angle))})

    @classmethod
    def completed(cls, given: Mapping[str, Any]) -> dict[str, Any]:
        """The fields, with the vector scaled to length 1 where it is given and not zero."""
        name = fields(cls)[0].name
        vector = given.get(name, 0.0)
        length = float(np.linalg.norm(vector))
        scaled = {name: np.divide(vector, length)} if np.shape(vector) == (2,) and 0 < length < math.inf else {}
        return {**given, **scaled}


@dataclass(frozen=True)
class DirectionTask(CircleTask):
    """Move along the unit vector `direction` (x, y)."""

    direction: tuple[float, float] = quantity(size=2)

    @property
    def label(self) -> str:
        return f"direction = {math.degrees(angle_of(self.direction)):.0f} deg"


def direction_space(directions: int | None = None) -> TaskSpace:
    """All directions, or n = `directions` evenly spaced ones, the first along x; n = 2 is forward and backward.

    Raises `FamilyError` unless n is None or from 2 to 3600.
    """
    if directions is not None:
        return _finite_directions(directions)
    margin = chord_angle(DIRECTION_GAP)
    regions: dict[str, Region] = {
        TRAIN: carve(WHOLE_CIRCLE, _kept_out(margin), gap=0.0),
        VALIDATION: VALIDATION_ARCS,
        HELD_OUT: HELD_OUT_ARCS,
        IID: WHOLE_CIRCLE,
    }
    absent = {OUT_OF_RANGE: "the directions are the whole circle"}
    return TaskSpace(DirectionTask, regions, DIRECTION_GAP, absent, spans={"direction": (-1.0, 1.0)})


def direction_reward(
    measured: Arrays, action: np.ndarray, task: Arrays, *, forward: float, survive: float, control_cost: float
) -> dict[str, np.ndarray]:
    """forward · d·v, survival and the control cost, of a robot that measures its `velocity` (x, y) and is `healthy`."""
    return {
        "direction": forward * (task["direction"] * measured["velocity"]).sum(axis=-1),
        "survive": survive * measured["healthy"],
        "control": control_reward(action, control_cost),
    }


def _finite_directions(n: int) -> TaskSpace:
    if not isinstance(n, int) or not 2 <= n <= MOST_DIRECTIONS:
        raise FamilyError(
            f"directions = {n!r}: expected None for all directions, or their number, at least 2 and at most "
            f"{MOST_DIRECTIONS}"
        )
    angles = math.tau * np.arange(n) / n
    points = Points(np.where(angles > math.pi, angles - math.tau, angles)[:, None])
    reason = f"only {n} directions exist"
    return TaskSpace(
        DirectionTask,
        {TRAIN: points, IID: points},
        absent=dict.fromkeys((VALIDATION, HELD_OUT, OUT_OF_RANGE), reason),
        spans={"direction": (-1.0, 1.0)},
    )


# ------------------------------------------------------------------------------------------ points in a disk
@dataclass(frozen=True)
class DiskGoalTask(Task):
    """Reach `goal` (x, y) [m], a point of a disk around the origin."""

    chart: ClassVar[str] = "(r² [m²], angle [rad])"
    goal: tuple[float, float] = quantity("m", size=2)

    def coordinates(self) -> np.ndarray:
        return np.array([self.goal[0] ** 2 + self.goal[1] ** 2, angle_of(self.goal)])

    @classmethod
    def from_coordinates(cls, coordinates: np.ndarray) -> Self:
        squared_radius, angle = coordinates.tolist()
        radius = math.sqrt(squared_radius)
        return cls((radius * math.cos(angle), radius * math.sin(angle)))


def disk_space(radius: float, reach: float | None = None, no_ring: str = "") -> TaskSpace:
    """Goals uniform in the disk of `radius` [m]; those in the ring around it, up to `reach` [m], are out of range.

    There is no ring if `reach` is None or less than a gap above the radius; then `no_ring` says why.

    Raises `FamilyError` unless the radius is positive and finite.
    """
    if not 0 < radius < math.inf:
        raise FamilyError(f"radius = {radius}: expected a positive number of meters")
    gap, start = GOAL_GAP * radius, SECTOR_START * radius
    disk = times((0.0, radius**2), WHOLE_CIRCLE)
    margin = math.asin(gap / start)  # a ray at this angle to a sector is at least `gap` away from it, outside `start`
    sectors = _kept_out(margin)
    grown = times(((start - gap) ** 2, radius**2), sectors)
    regions: dict[str, Region] = {
        TRAIN: carve(disk, grown, gap=0.0),
        VALIDATION: times((start**2, radius**2), VALIDATION_ARCS),
        HELD_OUT: times((start**2, radius**2), HELD_OUT_ARCS),
        IID: disk,
    }
    space = TaskSpace(DiskGoalTask, regions, gap, spans={"goal": (-radius, radius)})
    if reach is None or reach <= radius + gap:
        return replace(space, absent={OUT_OF_RANGE: no_ring})
    ring = times(((radius + gap) ** 2, reach**2), WHOLE_CIRCLE)
    return replace(space, regions={**regions, OUT_OF_RANGE: ring})
