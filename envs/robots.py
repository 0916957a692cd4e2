"""Where a robot's model comes from, how it is driven, and how an episode starts."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

import gymnasium
import mujoco
import numpy as np

from envs.errors import FamilyError, unknown

_GYMNASIUM_MODELS = Path(gymnasium.__file__).parent / "envs" / "mujoco" / "assets"


class StartNoise(Protocol):
    """What is added to a robot's model start, drawn for n simulations at once from one generator."""

    def draw(self, rng: np.random.Generator, n: int, nq: int, nv: int) -> tuple[np.ndarray, np.ndarray]:
        """What n simulations add to their positions (n, nq) and velocities (n, nv)."""
        ...


@dataclass(frozen=True)
class UniformNormalNoise:
    """Start noise as in HalfCheetah-v5: positions uniform in ±scale, velocities normal of deviation scale."""

    scale: float

    def __post_init__(self) -> None:
        if not self.scale >= 0:
            raise FamilyError(f"reset noise of scale {self.scale}: expected a number >= 0")

    def draw(self, rng: np.random.Generator, n: int, nq: int, nv: int) -> tuple[np.ndarray, np.ndarray]:
        """What n simulations add to their positions (n, nq), drawn first, and velocities (n, nv)."""
        return rng.uniform(-self.scale, self.scale, size=(n, nq)), self.scale * rng.standard_normal((n, nv))


@dataclass(frozen=True)
class UniformNoise:
    """Start noise as in Humanoid-v5: positions and velocities uniform in ±scale."""

    scale: float

    def __post_init__(self) -> None:
        if not self.scale >= 0:
            raise FamilyError(f"reset noise of scale {self.scale}: expected a number >= 0")

    def draw(self, rng: np.random.Generator, n: int, nq: int, nv: int) -> tuple[np.ndarray, np.ndarray]:
        """What n simulations add to their positions (n, nq), drawn first, and velocities (n, nv)."""
        return (
            rng.uniform(-self.scale, self.scale, size=(n, nq)),
            rng.uniform(-self.scale, self.scale, size=(n, nv)),
        )


@dataclass(frozen=True)
class Camera:
    """The camera of the pictures.

    body: the body that is followed; None looks at the fixed point `lookat` [m].
    distance: [m]; azimuth, elevation: [deg].
    """

    distance: float
    azimuth: float = 90.0
    elevation: float = -15.0
    body: str | None = None
    lookat: tuple[float, float, float] = (0.0, 0.0, 0.0)


@dataclass(frozen=True)
class Robot:
    """A robot as data.

    model: the file name of a model that Gymnasium ships ("half_cheetah.xml"), the Path of another file, or
        the text of a model ("<mujoco> …").
    frame_skip: simulation steps per action.
    camera: the camera of its pictures.
    reset_noise: what is added to the model's start; None starts there exactly.
    driven: what the action is written to: "ctrl" (motors; an action in [-1, 1] is stretched to each motor's
        control range) or "qvel" (a kinematic robot, commanded by velocity).
    fields: names of MjData fields beyond qpos and qvel that measurements need, such as "xpos"; they cost one
        more kinematics pass per action.
    """

    model: str | Path
    frame_skip: int
    camera: Camera
    reset_noise: StartNoise | None = None
    driven: Literal["ctrl", "qvel"] = "ctrl"
    fields: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.frame_skip < 1:
            raise FamilyError(f"frame_skip = {self.frame_skip}: expected at least 1")

    def load(self) -> mujoco.MjModel:
        """Compile a fresh model; nothing is shared between calls."""
        return _compile(_specification(self.model))


def action_size(robot: Robot, model: mujoco.MjModel) -> int:
    """A, the number of commands per action."""
    return model.nu if robot.driven == "ctrl" else model.nv


def command_range(robot: Robot, model: mujoco.MjModel) -> tuple[np.ndarray, np.ndarray]:
    """Centre and half width (A,) of the commands that the actions in [-1, 1] mean."""
    if robot.driven != "ctrl":
        return np.zeros(model.nv), np.ones(model.nv)
    limited = model.actuator_ctrllimited.astype(bool)
    low, high = np.where(limited, model.actuator_ctrlrange.T, [[-1.0], [1.0]])
    return (low + high) / 2, (high - low) / 2


def body_ids(robot: Robot, *names: str) -> tuple[int, ...]:
    """Where the bodies of these names lie in fields such as "xpos". Raises `FamilyError` for unknown ones."""
    model = robot.load()
    known = {model.body(body).name: body for body in range(model.nbody)}
    for name in names:
        if name not in known:
            raise FamilyError(unknown("body", name, known))
    return tuple(known[name] for name in names)


def _specification(model: str | Path) -> mujoco.MjSpec:
    if isinstance(model, str) and model.lstrip().startswith("<"):
        return mujoco.MjSpec.from_string(model)
    path = model if isinstance(model, Path) else _GYMNASIUM_MODELS / model
    if path.is_file():
        return mujoco.MjSpec.from_file(str(path))
    if isinstance(model, Path):
        raise FamilyError(f"the model file {model} does not exist")
    shipped = [file.name for file in _GYMNASIUM_MODELS.glob("*.xml")]
    raise FamilyError(unknown("model of Gymnasium", model, shipped) + " For a file of your own pass a pathlib.Path.")


def _compile(spec: mujoco.MjSpec) -> mujoco.MjModel:
    """Compile, doing by hand what the deprecated attribute `settotalmass` does, which warns at every load."""
    total_mass = spec.compiler.settotalmass  # [kg]; not positive: leave the masses alone
    spec.compiler.settotalmass = -1
    model = spec.compile()
    if total_mass > 0:
        mujoco.mj_setTotalmass(model, total_mass)
        mujoco.mj_setConst(model, mujoco.MjData(model))
    return model
