"""Hidden dynamics: every simulation gets a model of its own, the nominal one times multipliers from its task.

A family with hidden dynamics is two declarations beside its robot:

    @dataclass(frozen=True)
    class Task(DynamicsTask):
        velocity: float = quantity("m/s")                               # a goal and dynamics go together
        mass: tuple[float, ...] = multiplier(base=1.5, size=2)          # torso and thigh
        strength: float = multiplier(base=1.5)                          # all motors alike

    dynamics = (
        Scaling("body_mass", by="mass", of=("torso", "thigh")),
        Scaling("body_inertia", by="mass", of=("torso", "thigh")),
        Scaling("actuator_gear", by="strength"),
    )

The chart coordinate of a multiplier is its exponent e, multiplier = base^e, so that a box of exponents is a
log-uniform distribution of multipliers. A multiplier of 1 leaves every number of the model as it was, bit for
bit, and what MuJoCo derives from masses and inertias follows the multipliers.

Source of the scheme: the environments `rand_param_envs` (as used by ProMP and PEARL), where every element of a
model field is multiplied by 1.5^U(-3, 3), or 1.3^U(-3, 3) for damping, independently of all others.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any, ClassVar, Self

import mujoco
import numpy as np
from mujoco.batch import Batch

from .errors import FamilyError, TaskError, unknown
from .limbs import Limbs
from .tasks import Boxes, Task, TaskSpace, held_out_cells, held_out_space, validation_cells

LIMIT = 3.0  # exponents of training tasks lie in [-LIMIT, LIMIT]
REACH = 5 / 4  # the largest exponent out of range, in limits
GAP = 1 / 25  # between training tasks and all others, in limits

_ELEMENTS = {  # the numbers of a model that can be scaled, and what they belong to
    "body_mass": "body",
    "body_inertia": "body",
    "geom_friction": "geom",
    "dof_damping": "joint",
    "dof_armature": "joint",
    "dof_frictionloss": "joint",
    "jnt_stiffness": "joint",
    "actuator_gear": "actuator",
    "limb_length": "body",
    "limb_radius": "body",
    "opt.gravity": "",
    "opt.density": "",
    "opt.viscosity": "",
}
_LIMBS = ("limb_length", "limb_radius")


# -------------------------------------------------------------------------------------------------- tasks
def multiplier(base: float, size: int | None = None) -> Any:
    """A field of a `DynamicsTask`: a positive factor, or a vector of `size` of them, charted by exponents of base."""
    if not base > 1:
        raise FamilyError(f"multipliers to the base {base}: expected a base above 1")
    return field(metadata={"unit": "", "size": size, "base": base})


@dataclass(frozen=True)
class DynamicsTask(Task):
    """Base of tasks that have `multiplier` fields, alone or beside a goal."""

    chart: ClassVar[str] = "(exponents of multipliers)"

    def __post_init__(self) -> None:
        super().__post_init__()
        for item in fields(self):
            if "base" in item.metadata and np.min(value := getattr(self, item.name)) <= 0:
                raise TaskError(f"{type(self).__name__}.{item.name} = {value}: multipliers must be above 0")

    @property
    def label(self) -> str:
        """A short text, with geometric means for vectors: `mass x 1.20, damping x 0.85`."""
        return ", ".join(self.summary())

    def summary(self) -> list[str]:
        """The label's parts, one for each field."""
        return [_in_words(item.name, getattr(self, item.name), item.metadata) for item in fields(self)]

    def nominal(self) -> Self:
        """The same goal with the robot as it is built: all multipliers 1."""
        return replace(self, **_multipliers(type(self), {}))

    @classmethod
    def completed(cls, given: Mapping[str, Any]) -> dict[str, Any]:
        """Multipliers that are not given are 1, and one number for a vector of them stands for all."""
        return {**given, **_multipliers(cls, given)}

    def coordinates(self) -> np.ndarray:
        """The chart coordinates (D,): exponents for multipliers, all other numbers as they are."""
        values, bases = super().coordinates(), _bases(type(self))
        scaled = bases > 0
        values[scaled] = np.log(values[scaled]) / np.log(bases[scaled])
        return values

    @classmethod
    def from_coordinates(cls, coordinates: np.ndarray) -> Self:
        """The task at the chart coordinates (D,); the inverse of `coordinates`."""
        bases = _bases(cls)
        return super().from_coordinates(np.where(bases > 0, np.abs(bases) ** coordinates, coordinates))


def _multipliers(task_type: type[Task], given: Mapping[str, Any]) -> dict[str, Any]:
    """All multipliers of a task: those given, a number for a vector repeated, and 1 for the others."""
    sizes = {item.name: item.metadata["size"] for item in fields(task_type) if "base" in item.metadata}
    values = {name: given.get(name, 1.0) for name in sizes}
    return {name: (v,) * sizes[name] if sizes[name] and np.ndim(v) == 0 else v for name, v in values.items()}


def _bases(task_type: type[Task]) -> np.ndarray:
    """The base of each coordinate (D,), 0 where it is no exponent."""
    return np.repeat([item.metadata.get("base", 0.0) for item in fields(task_type)], _sizes(task_type))


def _sizes(task_type: type[Task]) -> list[int]:
    return [item.metadata.get("size") or 1 for item in fields(task_type)]


def _in_words(name: str, value: float | tuple[float, ...], metadata: Any) -> str:
    if "base" in metadata:
        return f"{name} x {np.exp(np.mean(np.log(value))):.2f}"
    numbers = ", ".join(f"{number:.2f}" for number in np.atleast_1d(value))
    return f"{name} = {f'({numbers})' if isinstance(value, tuple) else numbers} {metadata.get('unit', '')}".rstrip()


def multiplier_space(task_type: type[DynamicsTask], plane: tuple[str, str], limit: float = LIMIT) -> TaskSpace:
    """Multipliers whose exponents are independent and uniform in [-limit, limit].

    task_type: has `multiplier` fields only.
    plane: two of its fields; their first numbers span the plane that decides the split.

    In many dimensions any two draws are far apart, so that every fresh task is a new one; what can be kept out
    of training is a combination. Four of the sixteen cells of a 4 × 4 grid over the plane are held out, one in
    each row and column and none at its centre (the nominal robot), whatever the other multipliers are; the middle of
    four other cells is for validation. Out of
    range has a point of the plane in the ring between `limit` and 5/4 of it, and the other exponents in their
    range. Training keeps 1/25 of the limit away from both, in the largest exponent.
    """
    if not limit > 0:
        raise FamilyError(f"limit = {limit}: expected a positive exponent")
    columns = [_column(task_type, name) for name in plane]
    edge = np.full((1, sum(_sizes(task_type))), limit)
    whole, beyond = Boxes(-edge, edge), edge.copy()
    beyond[:, columns] *= REACH
    return held_out_space(
        task_type,
        whole=whole,
        held_out=held_out_cells(whole, columns),
        validation=validation_cells(whole, columns),
        beyond=Boxes(-beyond, beyond),
        gap=GAP * limit,
    )


def _column(task_type: type[Task], name: str) -> int:
    names = [item.name for item in fields(task_type)]
    if name not in names:
        raise FamilyError(unknown(f"field of {task_type.__name__}", name, names))
    return sum(_sizes(task_type)[: names.index(name)])


# ------------------------------------------------------------------------------------------------ physics
@dataclass(frozen=True)
class Scaling:
    """A quantity of the model is its nominal value times a field of the task.

    quantity: the field of MjModel, such as "body_mass", or of its options, such as "opt.gravity"; or the "limb_length"
        or "limb_radius" of bodies (`envs.limbs`), for which a model is compiled for each task.
    by: the field of the task. A number scales all elements alike, a vector has one number for each element.
    of: the names of the bodies, geoms, joints or actuators; none means all of them.

    Several scalings of one quantity multiply.
    """

    quantity: str
    by: str
    of: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.quantity not in _ELEMENTS:
            raise FamilyError(unknown("model field to scale", self.quantity, _ELEMENTS))


class Dynamics:
    """The models of all simulations.

    batch: the N simulations; what is scaled becomes their own.
    scalings: what depends on the task, and how.
    task_type: the dataclass of the tasks.
    spec: what the model was compiled from.

    Raises `FamilyError` if a scaling does not fit the model or the tasks.
    """

    def __init__(self, batch: Batch, scalings: Sequence[Scaling], task_type: type[Task], spec: mujoco.MjSpec) -> None:
        self._batch = batch
        self._rules = [(scaling, *_match(scaling, batch.model, task_type)) for scaling in scalings]
        quantities = dict.fromkeys(scaling.quantity for scaling in scalings)
        self._nominal = {name: _nominal(batch.model, name) for name in quantities}
        limbs = [row for scaling, rows, _ in self._rules if scaling.quantity in _LIMBS for row in rows]
        self._limbs = Limbs(spec, limbs) if limbs else None
        self._own = {} if limbs else {name: batch.expand(name) for name in quantities}
        self._models: dict[bytes, mujoco.MjModel] = {}

    def apply(self, task: dict[str, np.ndarray]) -> None:
        """Make every simulation the robot of its task, given field by field with N rows; states stay as they are."""
        if self._limbs is not None:
            self._set_models(self._limbs, task)
            return
        changed = np.zeros(self._batch.nsim, dtype=bool)
        for name, values in self._scaled(self._nominal, task).items():
            own = self._own[name]
            values = values.reshape(own.shape)
            changed |= (own != values).reshape(len(own), -1).any(axis=1)
            own[...] = values
        if changed.any():
            self._batch.set_const(changed)

    def _set_models(self, limbs: Limbs, task: dict[str, np.ndarray]) -> None:
        """One model for all simulations of a task. Those of tasks that stay are kept."""
        rows = np.concatenate([task[scaling.by].reshape(self._batch.nsim, -1) for scaling, *_ in self._rules], axis=1)
        keys, models = [row.tobytes() for row in rows], {}
        for n, key in enumerate(keys):
            if key not in models:
                own = {name: value[n : n + 1] for name, value in task.items()}
                models[key] = self._models.get(key) or self._compiled(limbs, own)
        self._models = models
        self._batch.set_models([models[key] for key in keys])

    def _compiled(self, limbs: Limbs, task: dict[str, np.ndarray]) -> mujoco.MjModel:
        """The model of one task; other quantities are scaled after its limbs. Where N = 1, it may be drawn."""
        factors = [_nominal(self._batch.model, name) for name in _LIMBS]
        length, radius = self._scaled(dict(zip(_LIMBS, factors, strict=True)), task).values()
        model = limbs.model(length[0], radius[0], textures=self._batch.nsim == 1)
        nominal = {name: _nominal(model, name) for name in self._nominal if name not in _LIMBS}
        for name, values in self._scaled(nominal, task).items():
            owner, _, field = name.rpartition(".")
            array = getattr(model.opt if owner else model, field)
            if np.ndim(array):
                array[...] = values.reshape(array.shape)
            else:
                setattr(model.opt, field, values.item())
        mujoco.mj_setConst(model, mujoco.MjData(model))
        return model

    def _scaled(self, nominal: dict[str, np.ndarray], task: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """The quantities times what the task says, each (rows of the task, …)."""
        count = len(next(iter(task.values())))
        scaled = {name: np.repeat(value[None], count, axis=0) for name, value in nominal.items()}
        for scaling, rows, columns in self._rules:
            if scaling.quantity in scaled:
                values = scaled[scaling.quantity]
                factor = task[scaling.by].reshape(count, -1)[:, columns]
                values[:, rows] *= factor.reshape(count, -1, *(1,) * (values.ndim - 2))
        return scaled


def _nominal(model: mujoco.MjModel, quantity: str) -> np.ndarray:
    """A copy with a leading axis of elements, because arrays of a model are views; 1 for each body as a limb."""
    if quantity in _LIMBS:
        return np.ones(model.nbody)
    owner, _, name = quantity.rpartition(".")
    return np.atleast_1d(np.array(getattr(model.opt if owner else model, name), dtype=np.float64))


def _match(scaling: Scaling, model: mujoco.MjModel, task_type: type[Task]) -> tuple[np.ndarray, np.ndarray]:
    """Rows of the model's array that are scaled, and for each the number of the task's field that scales it."""
    sizes = {item.name: item.metadata.get("size") for item in fields(task_type)}
    if scaling.by not in sizes:
        raise FamilyError(
            f"scaling of {scaling.quantity}: " + unknown(task_type.__name__ + " field", scaling.by, sizes)
        )
    elements = _elements(scaling, model)
    size = sizes[scaling.by]
    if size is not None and size != len(elements):
        raise FamilyError(
            f"scaling of {scaling.quantity}: {task_type.__name__}.{scaling.by} has {size} numbers "
            f"for {len(elements)} elements"
        )
    columns = [np.full(len(rows), 0 if size is None else k) for k, rows in enumerate(elements)]
    return np.concatenate(elements), np.concatenate(columns)


def _elements(scaling: Scaling, model: mujoco.MjModel) -> list[np.ndarray]:
    """The rows of each element that is scaled: one, or as many as a joint has degrees of freedom."""
    kind = _ELEMENTS[scaling.quantity]
    rows = _rows(scaling.quantity, model)
    if not scaling.of:
        return rows
    named = {name: rows[k] for k in range(len(rows)) if kind and (name := getattr(model, kind)(k).name)}
    for name in scaling.of:
        if name not in named:
            raise FamilyError(f"scaling of {scaling.quantity}: {unknown(kind or 'element', name, named)}")
    return [named[name] for name in scaling.of]


def _rows(quantity: str, model: mujoco.MjModel) -> list[np.ndarray]:
    count = len(_nominal(model, quantity))
    if quantity.startswith("dof_"):
        return [np.flatnonzero(model.dof_jntid == joint) for joint in range(model.njnt)]
    return [np.array([row]) for row in range(count)]
