"""Tasks, and the distributions they are drawn from.

A task is a small frozen dataclass. A `TaskSpace` has named regions (splits). A region is a set of chart coordinates,
vectors of D numbers: D = 1 for a velocity, 2 for a goal in the plane.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import Field, dataclass, field, fields, replace
from functools import cached_property
from typing import Any, ClassVar, Protocol, Self

import numpy as np

from .errors import TaskError, unknown

TRAIN, VALIDATION, HELD_OUT = "train", "validation", "held-out"
OUT_OF_RANGE, IID = "out-of-range", "iid"
_ROUNDING = 1e-9
_LONGEST_LIST = 200  # most characters of a union of boxes that is written out
_RECURRENT = 3  # most dimensions in which the additive recurrence is used
_REPEATED = 3  # least number of equal sides of a box that are written as a power


# -------------------------------------------------------------------------------------------------- tasks
def quantity(unit: str = "", size: int | None = None) -> Any:
    """A field of a task: a number with a unit, or a vector of `size` numbers."""
    return field(metadata={"unit": unit, "size": size})


@dataclass(frozen=True)
class Task:
    """Base of all tasks: a frozen dataclass of numbers, and of vectors declared with `quantity`.

    A task whose chart coordinates are not its fields, such as a point on a circle, overrides `coordinates`,
    `from_coordinates` and `chart`.

    Raises `TaskError` for a field that is not a finite number, or not a vector of its size.
    """

    chart: ClassVar[str] = ""
    """The chart coordinates and their units in words; empty if they are the fields."""

    def __post_init__(self) -> None:
        for item in fields(self):
            given, size = getattr(self, item.name), item.metadata.get("size")
            value = _number_or_vector(given, size)
            if value is None:
                expected = "a finite number" if size is None else f"{size} finite numbers"
                raise TaskError(f"{type(self).__name__}.{item.name} = {given!r}: expected {expected}")
            object.__setattr__(self, item.name, value)

    @property
    def label(self) -> str:
        """A short text for plots and videos, such as `velocity = 1.70 m/s`."""
        return ", ".join(
            f"{item.name} = {_in_words(getattr(self, item.name))} {item.metadata.get('unit', '')}".rstrip()
            for item in fields(self)
        )

    def coordinates(self) -> np.ndarray:
        """The chart coordinates (D,): all fields, one after the other."""
        return np.hstack([getattr(self, item.name) for item in fields(self)])

    @classmethod
    def from_coordinates(cls, coordinates: np.ndarray) -> Self:
        """The task at the chart coordinates (D,); the inverse of `coordinates`."""
        numbers = iter(coordinates.tolist())
        sizes = {item.name: item.metadata.get("size") for item in fields(cls)}
        return cls(
            **{
                name: next(numbers) if size is None else tuple(itertools.islice(numbers, size))
                for name, size in sizes.items()
            }
        )

    @classmethod
    def completed(cls, given: Mapping[str, Any]) -> dict[str, Any]:
        """The fields as `parse` uses them, given what a person typed; a subclass may scale a direction to length 1."""
        return dict(given)


def _number_or_vector(value: Any, size: int | None) -> float | tuple[float, ...] | None:
    """`value` as a finite float, or as a tuple of `size` of them; None if it is neither."""
    if isinstance(value, np.ndarray | np.generic):
        value = value.tolist()
    if size is None:
        return float(value) if _is_finite(value) else None
    if not isinstance(value, tuple | list) or len(value) != size or not all(map(_is_finite, value)):
        return None
    return tuple(float(number) for number in value)


def _is_finite(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _in_words(value: float | tuple[float, ...]) -> str:
    if isinstance(value, tuple):
        return f"({', '.join(map(_in_words, value))})"
    return f"{value:.2f}" if abs(value) < 1e6 else f"{value:.2e}"


# ------------------------------------------------------------------------------------------------ regions
class Region(Protocol):
    """A set of chart coordinates in D dimensions."""

    def sample(self, n: int, rng: np.random.Generator) -> np.ndarray:
        """`n` independent uniform draws, (n, D)."""
        ...

    def stratified(self, n: int, rng: np.random.Generator) -> np.ndarray:
        """`n` uniform draws that together cover the set evenly, in random order, (n, D)."""
        ...

    def grid(self, n: int) -> np.ndarray:
        """Exactly `n` evenly spread points, the same at every call, (n, D)."""
        ...

    def distance(self, x: np.ndarray) -> np.ndarray:
        """Distance of points (n, D) from the set in the maximum norm, (n,); 0 inside."""
        ...

    def hull(self) -> tuple[np.ndarray, np.ndarray]:
        """The smallest and the largest value of each coordinate, each (D,)."""
        ...

    def describe(self, unit: str) -> str:
        """The set in words."""
        ...


@dataclass(frozen=True, eq=False)
class Boxes:
    """A union of disjoint axis-aligned boxes.

    low, high: corners (B, D) of B boxes. Raises `TaskError` unless low < high.
    """

    low: np.ndarray
    high: np.ndarray

    def __post_init__(self) -> None:
        low, high = (np.array(corner, dtype=np.float64) for corner in (self.low, self.high))
        if low.ndim != 2 or low.shape != high.shape or not low.size or not np.all(low < high):
            raise TaskError(f"boxes need corners low < high of one shape (B, D), got {low} and {high}")
        low.flags.writeable = high.flags.writeable = False
        object.__setattr__(self, "low", low)
        object.__setattr__(self, "high", high)

    @classmethod
    def interval(cls, low: float, high: float) -> Self:
        """The one-dimensional box [low, high]."""
        return cls(np.array([[low]]), np.array([[high]]))

    def sample(self, n: int, rng: np.random.Generator) -> np.ndarray:
        return self._place(rng.random((n, self.low.shape[1])))

    def stratified(self, n: int, rng: np.random.Generator) -> np.ndarray:
        """One draw from each of n equal lengths in 1 dimension, a randomly shifted additive recurrence in 2 or 3, and a
        random Latin hypercube in more."""
        dimension = self.low.shape[1]
        if 1 < dimension <= _RECURRENT:
            points = (additive_recurrence(n, dimension) + rng.random(dimension)) % 1.0
            return self._place(rng.permutation(points))
        layers = rng.permuted(np.tile(np.arange(n), (dimension, 1)), axis=1).T
        return self._place((layers + rng.random((n, dimension))) / n)

    def grid(self, n: int) -> np.ndarray:
        """Midpoints of n equal lengths in 1 dimension, an additive recurrence in 2 or 3, a Latin hypercube in more."""
        dimension = self.low.shape[1]
        if dimension == 1:
            return self._place((np.arange(n)[:, None] + 0.5) / n)
        if dimension > _RECURRENT:
            return self._place(latin_hypercube(n, dimension))
        return self._place(additive_recurrence(n, dimension))

    def distance(self, x: np.ndarray) -> np.ndarray:
        x = x[:, None]  # (n, 1, D) against (B, D)
        outside = np.maximum(np.maximum(self.low - x, x - self.high), 0.0)
        return outside.max(axis=-1).min(axis=-1)

    def hull(self) -> tuple[np.ndarray, np.ndarray]:
        return self.low.min(axis=0), self.high.max(axis=0)

    def describe(self, unit: str) -> str:
        boxes = [_box_in_words(low, high) for low, high in zip(self.low, self.high, strict=True)]
        if len(listed := " ∪ ".join(boxes)) <= _LONGEST_LIST:
            return f"{listed} {unit}".rstrip()
        low, high = self.hull()
        share = self._volumes().sum() / np.prod(high - low)
        return f"{len(boxes)} boxes within {_box_in_words(low, high)} {unit} that fill {share:.0%} of it"

    def _volumes(self) -> np.ndarray:
        return np.prod(self.high - self.low, axis=1)

    def _place(self, u: np.ndarray) -> np.ndarray:
        """Map points (n, D) of the unit cube onto the union, preserving volume.

        The first coordinate chooses the box, in proportion to the volumes. Its remainder, scaled to [0, 1], is the
        first coordinate within the box.
        """
        edges = np.concatenate([[0.0], np.cumsum(self._volumes())])
        position = u[:, 0] * edges[-1]
        box = np.clip(np.searchsorted(edges, position, side="right") - 1, 0, len(self.low) - 1)
        within = u.copy()
        within[:, 0] = (position - edges[box]) / (edges[box + 1] - edges[box])
        return np.clip(self.low[box] + within * (self.high - self.low)[box], self.low[box], self.high[box])


@dataclass(frozen=True, eq=False)
class Points:
    """A finite set of equally likely points (P, D)."""

    points: np.ndarray

    def __post_init__(self) -> None:
        points = np.array(self.points, dtype=np.float64)
        if points.ndim != 2 or not points.size:
            raise TaskError(f"a finite set needs points of shape (P, D), got {points}")
        points.flags.writeable = False
        object.__setattr__(self, "points", points)

    def sample(self, n: int, rng: np.random.Generator) -> np.ndarray:
        return self.points[rng.integers(len(self.points), size=n)]

    def stratified(self, n: int, rng: np.random.Generator) -> np.ndarray:
        """Each point n // P times, and n % P of them, drawn at random, once more."""
        whole, rest = divmod(n, len(self.points))
        chosen = np.concatenate([np.tile(np.arange(len(self.points)), whole), rng.permutation(len(self.points))[:rest]])
        return self.points[rng.permutation(chosen)]

    def grid(self, n: int) -> np.ndarray:
        """The points in their order, repeated until there are n."""
        return self.points[np.arange(n) % len(self.points)]

    def distance(self, x: np.ndarray) -> np.ndarray:
        return np.abs(x[:, None] - self.points).max(axis=-1).min(axis=-1)

    def hull(self) -> tuple[np.ndarray, np.ndarray]:
        return self.points.min(axis=0), self.points.max(axis=0)

    def describe(self, unit: str) -> str:
        return f"{{{', '.join(_point_in_words(point) for point in self.points)}}} {unit}".rstrip()


def _point_in_words(point: np.ndarray) -> str:
    return f"{point[0]:.4g}" if point.size == 1 else f"({', '.join(f'{x:.4g}' for x in point)})"


def _box_in_words(low: np.ndarray, high: np.ndarray) -> str:
    sides = [f"[{a:.4g}, {b:.4g}]" for a, b in zip(low, high, strict=True)]
    runs = [(side, len(list(run))) for side, run in itertools.groupby(sides)]
    return " × ".join(f"{side}^{n}" if n >= _REPEATED else " × ".join([side] * n) for side, n in runs)


def additive_recurrence(n: int, dimension: int) -> np.ndarray:
    """The first `n` points of the R sequence in the unit cube, (n, dimension).

    Roberts, "The unreasonable effectiveness of quasirandom sequences", 2018: steps of 1/φ, 1/φ², … modulo 1,
    where φ is the root above 1 of φ^(dimension + 1) = φ + 1.
    """
    phi = 2.0
    for _ in range(64):
        phi = (1.0 + phi) ** (1.0 / (dimension + 1))
    steps = phi ** -np.arange(1.0, dimension + 1)
    return (0.5 + np.arange(1, n + 1)[:, None] * steps) % 1.0


def latin_hypercube(n: int, dimension: int) -> np.ndarray:
    """`n` fixed points of the unit cube, (n, dimension): in each coordinate, one in the middle of each of n layers."""
    rng = np.random.default_rng(0)
    layers = rng.permuted(np.tile(np.arange(n), (dimension, 1)), axis=1)
    return (layers.T + 0.5) / n


def union(*parts: Boxes) -> Boxes:
    """The union of disjoint sets of boxes."""
    return Boxes(np.concatenate([part.low for part in parts]), np.concatenate([part.high for part in parts]))


def carve(whole: Boxes, holes: Boxes, gap: float) -> Boxes:
    """The single box `whole` without the boxes `holes`, each widened by `gap` on all sides."""
    (floor,), (ceiling,) = whole.low, whole.high
    low, high = holes.low - gap, holes.high + gap
    corners = np.concatenate([whole.low, whole.high, low, high]).clip(floor, ceiling)  # (2 + 2B, D)
    cuts = [np.unique(column) for column in corners.T]
    lows = np.array(list(itertools.product(*(cut[:-1] for cut in cuts))))
    highs = np.array(list(itertools.product(*(cut[1:] for cut in cuts))))
    centres = (lows + highs)[:, None] / 2
    kept = ~np.any(np.all((low < centres) & (centres < high), axis=-1), axis=-1)
    return Boxes(lows[kept], highs[kept])


# -------------------------------------------------------------------------------------------------- space
@dataclass(frozen=True, eq=False)
class TaskSpace:
    """A distribution of tasks with its splits.

    The splits `validation`, `held-out` and `out-of-range` are disjoint, and `train` is at least `gap` away from them.
    Settings and checkpoints are chosen on `validation`, results reported on `held-out`. `iid` is the whole range, for
    comparison with papers that train and test on one distribution.

    task_type: the dataclass of every task.
    regions: split name -> chart coordinates of its tasks.
    gap: least Euclidean distance between a task of `train` and one of the three other splits, in the units of the
        fields (exponents for multipliers).
    absent: split name -> why this family does not have it.
    spans: field -> (low, high), which `normalised` maps to [-1, 1]; by default the range of the field in `iid`.
    split: the current split, which `sample`, `stratified`, `grid` and `contains` use.

    Raises `TaskError` for an unknown or absent `split`.
    """

    task_type: type[Task]
    regions: Mapping[str, Region]
    gap: float = 0.0
    absent: Mapping[str, str] = field(default_factory=dict)
    split: str = TRAIN
    spans: Mapping[str, tuple[float, float]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in ("regions", "absent", "spans"):
            object.__setattr__(self, name, dict(getattr(self, name)))
        if self.split in self.absent:
            raise TaskError(
                f"there is no split {self.split!r}: {self.absent[self.split]}. Splits: {', '.join(self.regions)}"
            )
        if self.split not in self.regions:
            raise TaskError(unknown("split", self.split, self.regions))

    @property
    def region(self) -> Region:
        """The region of the current split."""
        return self.regions[self.split]

    @property
    def units(self) -> dict[str, str]:
        """Field of a task -> its unit; empty for a dimensionless one."""
        return {item.name: item.metadata["unit"] for item in fields(self.task_type)}

    def restrict(self, split: str) -> TaskSpace:
        """The same space with another current split. Raises `TaskError` if the family has no such split."""
        return replace(self, split=split)

    def sample(self, n: int, rng: np.random.Generator) -> list[Task]:
        """`n` independent uniform tasks of the current split."""
        return self._tasks(self.region.sample(_count(n), rng))

    def stratified(self, n: int, rng: np.random.Generator) -> list[Task]:
        """`n` tasks that cover the current split evenly, in random order; each alone is uniformly distributed."""
        return self._tasks(self.region.stratified(_count(n), rng))

    def grid(self, n: int) -> list[Task]:
        """Exactly `n` evenly spread tasks of the current split, the same at every call."""
        return self._tasks(self.region.grid(_count(n)))

    def contains(self, task: Task) -> bool:
        """Whether the task lies in the current split."""
        return bool(self.region.distance(task.coordinates()[None])[0] <= _ROUNDING)

    def describe(self) -> str:
        """The splits in words, one per line."""
        unit = self.task_type.chart or next(iter(self.units.values()))
        lines = [f"{name}: {region.describe(unit)}" for name, region in self.regions.items()]
        lines += [f"{name}: none, {reason}" for name, reason in self.absent.items()]
        return "\n".join(lines)

    def validate(self, tasks: Sequence[Task]) -> None:
        """Raise `TaskError` unless every task has the type `task_type` and lies in one of the splits."""
        if isinstance(tasks, Task):
            raise TaskError(f"got the one task {tasks}, expected a sequence of tasks such as [{tasks}]")
        if not len(tasks):
            raise TaskError(f"no tasks given: expected at least one {self.task_type.__name__}")
        for task in tasks:
            if type(task) is not self.task_type:
                raise TaskError(f"task {task!r} is a {type(task).__name__}, expected a {self.task_type.__name__}")
        coordinates = np.stack([task.coordinates() for task in tasks])
        outside = np.min([region.distance(coordinates) for region in self.regions.values()], axis=0) > _ROUNDING
        if outside.any():
            m = int(np.argmax(outside))
            which = f"task {m}" if len(tasks) > 1 else "the task"
            raise TaskError(f"{which} ({tasks[m].label}) lies in no split. The splits are\n{self.describe()}")

    def array(self, tasks: Sequence[Task]) -> dict[str, np.ndarray]:
        """The fields of M tasks by name: (M,) for numbers, (M, k) for vectors."""
        names = [item.name for item in fields(self.task_type)]
        return {name: np.array([getattr(task, name) for task in tasks], dtype=np.float64) for name in names}

    def normalised(self, task_fields: Mapping[str, np.ndarray]) -> np.ndarray:
        """The fields of N tasks, as `array` returns them, as one array (N, k), with `spans` scaled to [-1, 1].

        Out-of-range tasks lie a little outside [-1, 1].
        """
        columns = []
        for name, value in task_fields.items():
            low, high = self._intervals[name]
            half = np.where(high > low, (high - low) / 2, 1.0)
            columns.append(((value - (low + high) / 2) / half).reshape(len(value), -1))
        return np.concatenate(columns, axis=-1)

    @cached_property
    def _intervals(self) -> dict[str, tuple[np.ndarray, np.ndarray]]:
        """Field -> the values that `normalised` maps to -1 and 1."""
        corners = np.stack(self.regions.get(IID, self.regions[TRAIN]).hull())
        spanned = {name: (low, high) for name, (low, high) in self.array(self._tasks(corners)).items()}
        given = {name: (np.asarray(low), np.asarray(high)) for name, (low, high) in self.spans.items()}
        return spanned | given

    def to_dict(self, task: Task) -> dict[str, float | list[float]]:
        """The task in plain floats and lists, for JSON."""
        return {name: value[0].tolist() for name, value in self.array([task]).items()}

    def from_dict(self, data: Mapping[str, Any]) -> Task:
        """The inverse of `to_dict`. Raises `TaskError` on missing or unknown keys and on malformed values."""
        names = {item.name for item in fields(self.task_type)}
        for name in data:
            if name not in names:
                raise TaskError(unknown(f"field of {self.task_type.__name__}", name, names))
        if missing := sorted(names - set(data)):
            raise TaskError(f"{dict(data)} lacks {', '.join(missing)} of {self.task_type.__name__}")
        return self.task_type(**data)

    def parse(self, assignments: Sequence[str]) -> Task:
        """The task that texts such as `velocity=1.7` or `goal=0.3,-0.2` describe, one text for each field.

        Raises `TaskError`, with the fields and the splits, if they do not describe a task of any split.
        """
        try:
            given = [_assignment(text) for text in assignments]
            if len(names := [name for name, _ in given]) > len(set(names)):
                raise TaskError(f"a field is given twice: {', '.join(names)}")
            task = self.from_dict(self.task_type.completed(dict(given)))
            self.validate([task])
        except TaskError as error:
            has = ", ".join(_field_in_words(item) for item in fields(self.task_type))
            about = "" if "The splits are" in str(error) else f"\nThe splits are\n{self.describe()}"
            raise TaskError(f"{error}{about}\nA task is given by {has}") from None
        return task

    def _tasks(self, coordinates: np.ndarray) -> list[Task]:
        return [self.task_type.from_coordinates(row) for row in coordinates]


def _assignment(text: str) -> tuple[str, float | list[float]]:
    """The field and the value of `name=number` or `name=number,number`."""
    name, equals, value = text.partition("=")
    try:
        numbers = [float(number) for number in value.split(",")]
    except ValueError:
        numbers = []
    if not equals or not numbers:
        raise TaskError(f"{text!r} is not of the form NAME=NUMBER or NAME=NUMBER,NUMBER")
    return name.strip(), numbers if "," in value else numbers[0]


def _field_in_words(item: Field[Any]) -> str:
    """How a field is typed, such as `goal=X,X [m]`, or `mass=X,X [1.5^exponent]` for multipliers."""
    size, base = item.metadata.get("size"), item.metadata.get("base")
    unit = f"{base:g}^exponent" if base else item.metadata.get("unit")
    return f"{item.name}={','.join('X' * (size or 1))}{f' [{unit}]' if unit else ''}"


def _count(n: int) -> int:
    if n < 1:
        raise TaskError(f"asked for n = {n} tasks: expected at least 1")
    return n


def held_out_space(
    task_type: type[Task],
    whole: Boxes,
    held_out: Boxes,
    beyond: Boxes,
    gap: float,
    validation: Boxes | None = None,
) -> TaskSpace:
    """A space over the single box `whole`, with `gap` between training tasks and those of other splits.

    held_out, validation: disjoint parts of `whole`, which are left out of training; None for no validation split.
    beyond: a larger box around `whole`; the frame between the two is out of range.
    """
    kept_out = held_out if validation is None else union(held_out, validation)
    chosen_on = {} if validation is None else {VALIDATION: validation}
    regions = {
        TRAIN: carve(whole, kept_out, gap),
        **chosen_on,
        HELD_OUT: held_out,
        OUT_OF_RANGE: carve(beyond, whole, gap),
        IID: whole,
    }
    absent = {VALIDATION: "its task space declares none"} if validation is None else {}
    return TaskSpace(task_type, regions, gap, absent)


def held_out_cells(whole: Boxes, plane: Sequence[int] = (0, 1)) -> Boxes:
    """Four cells of a 4 × 4 grid over two coordinates of the single box `whole`, one in each row and column.

    plane: the numbers of these coordinates; in the others, the cells are as wide as `whole`.
    """
    return _cells(whole, plane, ((0, 1), (1, 3), (2, 0), (3, 2)), margin=0.0)


def validation_cells(whole: Boxes, plane: Sequence[int] = (0, 1)) -> Boxes:
    """The middle half, in both coordinates, of four other cells; arguments as for `held_out_cells`."""
    return _cells(whole, plane, ((0, 2), (1, 0), (2, 3), (3, 1)), margin=0.25)


def _cells(whole: Boxes, plane: Sequence[int], cells: Sequence[tuple[int, int]], margin: float) -> Boxes:
    """Cells (column, row), smaller on each side by a share `margin` of their size."""
    low, high = (np.repeat(corner, len(cells), axis=0) for corner in (whole.low, whole.high))
    columns = list(plane)
    size = (high - low)[:, columns] / 4
    corners = low[:, columns] + np.array(cells) * size
    low[:, columns], high[:, columns] = corners + margin * size, corners + (1 - margin) * size
    return Boxes(low, high)
