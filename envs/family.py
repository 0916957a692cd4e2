"""A family of tasks: one robot, a space of tasks, and what is observed, measured and rewarded.

All functions of a family take arrays with any leading axes `…` and treat the last axis as the quantity's own,
so that one definition serves a batch of simulations, a single environment and a test by hand.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import gymnasium
import numpy as np

from envs.dynamics import Scaling
from envs.errors import FamilyError, unknown
from envs.parameters import check
from envs.robots import Robot
from envs.tasks import Task, TaskSpace

Arrays: TypeAlias = Mapping[str, np.ndarray]


@dataclass(frozen=True, slots=True)
class State:
    """Where the robots are.

    qpos: generalized positions (…, nq).
    qvel: generalized velocities (…, nv).
    fields: the robot's further MjData fields by name, (…, shape of the field).
    """

    qpos: np.ndarray
    qvel: np.ndarray
    fields: Arrays = field(default_factory=dict)


@dataclass(frozen=True)
class Sphere:
    """A marker in the picture: centre [m], radius [m], colour red-green-blue-opacity in [0, 1]."""

    centre: tuple[float, float, float]
    radius: float
    rgba: tuple[float, float, float, float]


@dataclass(frozen=True)
class Arrow:
    """A marker in the picture: from start to end [m], in the viewer with a text beside it."""

    start: tuple[float, float, float]
    end: tuple[float, float, float]
    radius: float
    rgba: tuple[float, float, float, float]
    label: str = ""


@dataclass(frozen=True)
class Text:
    """A marker in the picture: a line of ASCII text that starts at `position` [m]."""

    position: tuple[float, float, float]
    text: str


Marker: TypeAlias = Sphere | Arrow | Text


@dataclass(frozen=True)
class Family:
    """A robot with a distribution of hidden goals, of hidden dynamics, or of both.

    name: the family's name in messages.
    robot: the body.
    task_space: the tasks and their splits.
    observe: state -> a new array (…, O); must not depend on the task.
    measure: (before, after, dt [s]) -> measurements by name; facts, no judgement. `info` reports them.
    reward: (measurements, clipped action (…, A), task by field) -> terms by name, each (…,); their sum is the
        reward.
    markers: (state of one robot, time since the reset [s], task) -> what shows the goal in the picture.
    terminated: state after the action -> (…,) bool; None if episodes end only by their time limit.
    dynamics: what of the robot's model depends on the task; see `envs.dynamics`.
    place_goal: (positions of one robot (nq,), task) -> positions with the model's own goal body at the goal, for
        the picture alone; None if the model has no such body.
    no_oracle: why `goal_visible` makes no sense; empty if it does.
    aim: what the robot has to do, such as "run at a hidden velocity from 0 to 2 m/s"; empty if nothing is said.
    """

    name: str
    robot: Robot
    task_space: TaskSpace
    observe: Callable[[State], np.ndarray]
    measure: Callable[[State, State, float], dict[str, np.ndarray]]
    reward: Callable[[Arrays, np.ndarray, Arrays], dict[str, np.ndarray]]
    markers: Callable[[State, float, Task], Sequence[Marker]]
    terminated: Callable[[State], np.ndarray] | None = None
    dynamics: tuple[Scaling, ...] = ()
    place_goal: Callable[[np.ndarray, Task], np.ndarray] | None = None
    no_oracle: str = ""
    aim: str = ""


def span(bounds: Sequence[float]) -> str:
    """A pair of numbers in words, `0 to 2`, for a family's `aim`."""
    return " to ".join(f"{bound:g}" for bound in bounds)


def resolve(family: Family | str, parameters: Mapping[str, Any]) -> Family:
    """The family that a registration means: a value, or "module:function" to be called with the parameters.

    Only what some `gymnasium.register(…, kwargs={"family": "module:function"})` names is imported and called: the
    text may have come from somebody else's settings.

    Raises `FamilyError` if nothing is registered so, there is no such function, it has no such parameter, or a
    value is not of the type that its signature says.
    """
    if isinstance(family, Family):
        check(family.name, lambda: family, parameters)
        return family
    _refuse_unregistered(family)
    function = _load(family)
    check(family, function, parameters)
    built = function(**parameters)
    if not isinstance(built, Family):
        raise FamilyError(f"{family} returned a {type(built).__name__}, expected an envs.family.Family")
    return built


def _load(path: str) -> Callable[..., Any]:
    module_name, _, function_name = path.partition(":")
    if not function_name:
        raise FamilyError(f'family {path!r}: expected "module:function", such as "envs.half_cheetah:velocity"')
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        raise FamilyError(f"family {path!r}: {error}") from error
    if not callable(function := getattr(module, function_name, None)):
        raise FamilyError(f"family {path!r}: the module {module_name} has no function {function_name}")
    return function


def _refuse_unregistered(path: str) -> None:
    families = [spec.kwargs.get("family") for spec in gymnasium.registry.values()]
    registered = {family for family in families if isinstance(family, str)}
    if path not in registered:
        raise FamilyError(
            f"{unknown('registered family', path, registered)} Register your own with "
            'gymnasium.register(…, kwargs={"family": "module:function"}), or pass the Family itself'
        )
