"""Robots: the MuJoCo model, its actuation, its camera and the noise of its start."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

import gymnasium
import mujoco
import numpy as np

from .errors import FamilyError, unknown

_GYMNASIUM_MODELS = Path(gymnasium.__file__).parent / "envs" / "mujoco" / "assets"


class StartNoise(Protocol):
    """Noise that is added to the initial state of a robot's model."""

    def draw(self, rng: np.random.Generator, n: int, nq: int, nv: int) -> tuple[np.ndarray, np.ndarray]:
        """Noise of the positions (n, nq) and of the velocities (n, nv) of n simulations."""
        ...


@dataclass(frozen=True)
class UniformNoise:
    """Noise as in Humanoid-v5: positions and velocities U(-scale, scale)."""

    scale: float

    def __post_init__(self) -> None:
        if not self.scale >= 0:
            raise FamilyError(f"reset noise of scale {self.scale}: expected a number >= 0")

    def draw(self, rng: np.random.Generator, n: int, nq: int, nv: int) -> tuple[np.ndarray, np.ndarray]:
        """Noise of the positions (n, nq), drawn first, and of the velocities (n, nv)."""
        positions = rng.uniform(-self.scale, self.scale, size=(n, nq))
        return positions, self._velocities(rng, (n, nv))

    def _velocities(self, rng: np.random.Generator, size: tuple[int, int]) -> np.ndarray:
        return rng.uniform(-self.scale, self.scale, size)


class UniformNormalNoise(UniformNoise):
    """Noise as in HalfCheetah-v5: positions U(-scale, scale), velocities scale · N(0, 1)."""

    def _velocities(self, rng: np.random.Generator, size: tuple[int, int]) -> np.ndarray:
        return self.scale * rng.standard_normal(size)


@dataclass(frozen=True)
class Camera:
    """A camera, as in MuJoCo.

    distance: [m] from what it looks at.
    azimuth, elevation: [deg].
    body: the body that it follows; None for the fixed point `lookat`.
    lookat: (x, y, z) [m].
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
    reset_noise: what is added to the model's initial state; None adds nothing.
    driven: what an action in [-1, 1] sets: "ctrl" (motors, scaled to each motor's control range) or "qvel" (the
        velocities of a kinematic robot).
    fields: names of MjData fields beyond qpos and qvel that a family observes or measures, such as "xpos"; they cost
        one more kinematics pass per action.

    Raises `FamilyError` if frame_skip < 1.
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
        """Compile a new model. Raises `FamilyError` if there is no such model."""
        return compiled(self.specification())

    def specification(self) -> mujoco.MjSpec:
        """The model as it can be changed before it is compiled. Raises `FamilyError` if there is no such model."""
        return _specification(self.model)


def action_size(robot: Robot, model: mujoco.MjModel) -> int:
    """A, the size of an action."""
    return model.nu if robot.driven == "ctrl" else model.nv


def command_range(robot: Robot, model: mujoco.MjModel) -> tuple[np.ndarray, np.ndarray]:
    """Centre c and half width w, each (A,): an action a in [-1, 1] is the command c + w a."""
    if robot.driven != "ctrl":
        return np.zeros(model.nv), np.ones(model.nv)
    limited = model.actuator_ctrllimited.astype(bool)
    low, high = np.where(limited, model.actuator_ctrlrange.T, [[-1.0], [1.0]])
    return (low + high) / 2, (high - low) / 2


def body_ids(robot: Robot, *names: str) -> tuple[int, ...]:
    """Indices of these bodies in fields such as "xpos". Raises `FamilyError` for an unknown name."""
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


def compiled(spec: mujoco.MjSpec) -> mujoco.MjModel:
    """Compile, and apply the deprecated attribute `settotalmass` by hand: MuJoCo would warn at every load."""
    total_mass = spec.compiler.settotalmass  # [kg]; not positive where it is not set
    spec.compiler.settotalmass = -1
    model = spec.compile()
    if total_mass > 0:
        mujoco.mj_setTotalmass(model, total_mass)
        mujoco.mj_setConst(model, mujoco.MjData(model))
    return model
