"""A family of tasks: one robot, a space of tasks, and what is observed, measured and rewarded.

All functions of a family take arrays with any leading axes, (…, size), so that one definition serves both N
simulations and a single one.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias, TypeVar

import gymnasium
import numpy as np

from .dynamics import Scaling
from .errors import FamilyError, unknown
from .parameters import check
from .robots import Robot
from .tasks import Task, TaskSpace

Arrays: TypeAlias = Mapping[str, np.ndarray]

GREEN = (0.1, 0.7, 0.2, 1.0)  # red, green, blue, opacity of what shows a task
GHOST = (0.1, 0.7, 0.2, 0.6)
RED = (0.9, 0.1, 0.1, 1.0)


@dataclass(frozen=True, slots=True)
class State:
    """The state of the robots, as in MjData.

    qpos: generalized positions (…, nq).
    qvel: generalized velocities (…, nv).
    fields: the fields that `Robot.fields` names, (…, shape of the field).
    """

    qpos: np.ndarray
    qvel: np.ndarray
    fields: Arrays = field(default_factory=dict)


@dataclass(frozen=True)
class Sphere:
    """A ball in the picture: centre and radius [m], colour (red, green, blue, opacity) in [0, 1]."""

    centre: tuple[float, float, float]
    radius: float
    rgba: tuple[float, float, float, float]


@dataclass(frozen=True)
class Arrow:
    """An arrow in the picture, from start to end [m]. The viewer shows its label."""

    start: tuple[float, float, float]
    end: tuple[float, float, float]
    radius: float
    rgba: tuple[float, float, float, float]
    label: str = ""


@dataclass(frozen=True)
class Text:
    """A line of ASCII text in the picture that starts at `position` [m]."""

    position: tuple[float, float, float]
    text: str


Marker: TypeAlias = Sphere | Arrow | Text


@dataclass(frozen=True)
class Family:
    """A robot with a distribution of hidden goals, of hidden dynamics, or of both.

    name: the family's name in messages.
    robot: the body.
    task_space: the tasks and their splits.
    observe: state -> a new array (…, O), which must not depend on the task.
    measure: (state before, state after the action, dt [s]) -> measurements by name, which `info` reports.
    reward: (measurements, clipped action (…, A), fields of the task) -> terms by name, each (…,); the reward is their
        sum.
    markers: (state of one robot, time since the reset [s], task) -> what shows the goal in the picture.
    terminated: state after the action -> (…,) bool; None if only the time limit ends an episode.
    dynamics: which quantities of the robot's model depend on the task; see `envs.dynamics`.
    action_delay: fields of the task -> control steps that actions arrive late (…,); None for none. See `envs.signals`.
    sensor_noise: fields of the task -> standard deviation of each observation's normal noise (…, O); None for none.
    place_goal: (qpos of one robot (nq,), task) -> qpos with the model's own goal body at the goal, used for pictures
        only; None if the model has no such body.
    no_oracle: why `goal_visible` is refused; empty if it is allowed.
    aim: what the robot has to do, such as "run at a hidden velocity from 0 to 2 m/s"; may be empty.
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
    action_delay: Callable[[Arrays], np.ndarray] | None = None
    sensor_noise: Callable[[Arrays], np.ndarray] | None = None
    place_goal: Callable[[np.ndarray, Task], np.ndarray] | None = None
    no_oracle: str = ""
    aim: str = ""


@dataclass(frozen=True)
class GymnasiumFamily:
    """An environment of Gymnasium with a distribution of tasks; see `envs.gymnasium_env`.

    name: the family's name in messages.
    make: the class of the environment, or a function that makes one. An environment with a method `set_task(task)` is
        made once, without arguments; any other is made for each task, with the task's fields by keyword. If `make` has
        an argument `render_mode`, it gets "rgb_array" for pictures.
    task_space: the tasks and their splits.
    no_oracle: why `goal_visible` is refused; empty if it is allowed.
    aim: what the robot has to do, such as "swing up a rod of hidden mass"; may be empty.
    """

    name: str
    make: Callable[..., gymnasium.Env]
    task_space: TaskSpace
    no_oracle: str = ""
    aim: str = ""


Kind = TypeVar("Kind", Family, GymnasiumFamily)


def span(bounds: Sequence[float]) -> str:
    """A pair of numbers in words, such as `0 to 2`, for a family's `aim`."""
    return " to ".join(f"{bound:g}" for bound in bounds)


def observe_beyond(place: int, state: State) -> np.ndarray:
    """All positions but the first `place` ones, which say where the robot is, then all velocities, (…, O)."""
    return np.concatenate([state.qpos[..., place:], state.qvel], axis=-1)


def control_reward(action: np.ndarray, weight: float) -> np.ndarray:
    """-weight ‖a‖² of actions (…, A), (…,)."""
    return -weight * np.square(action).sum(axis=-1)


def arrow_above(
    position: Iterable[float], height: float, direction: Sequence[float], length: float, radius: float, label: str
) -> Arrow:
    """A level arrow along the unit vector `direction` (x, y), `height` [m] above `position` (3,) [m].

    length, radius: [m]; a negative length turns the arrow around.
    """
    x, y, z = (float(coordinate) for coordinate in position)
    dx, dy = direction
    start, end = (x, y, z + height), (x + length * dx, y + length * dy, z + height)
    return Arrow(start, end, radius=radius, rgba=GREEN, label=label)


def pace_ball(x: float, goal: float, reach: float, radius: float) -> Sphere:
    """A ball on the ground that moves at the goal velocity along x.

    x, goal: [m] where the robot is, and where it would be at the goal velocity.
    reach: [m] at most that the ball is drawn from the robot, so that it stays in the picture.
    """
    return Sphere((x + float(np.clip(goal - x, -reach, reach)), 0.0, radius), radius=radius, rgba=GHOST)


def resolve(family: Kind | str, parameters: Mapping[str, Any], kind: type[Kind]) -> Kind:
    """`family` itself, or what the function "module:function" returns when it is called with the parameters.

    The text may come from the settings of a stranger's run. So only a function is called that some
    `gymnasium.register(…, kwargs={"family": "module:function"})` names.

    Raises `FamilyError` if no registration names the function, it does not exist, it has no such parameter, a
    parameter is of another type than in its signature, or the family is of another kind.
    """
    if isinstance(family, str):
        _refuse_unregistered(family)
        function, name = _load(family), family
    else:
        function, name = (lambda: family), getattr(family, "name", "family")
    check(name, function, parameters)
    built = function(**parameters)
    if not isinstance(built, kind):
        raise FamilyError(f"{name}: got a {type(built).__name__}, expected an envs.family.{kind.__name__}")
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
