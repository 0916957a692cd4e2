"""List the task families, or draw a few tasks of one.

    metarl tasks                                     # all families
    metarl tasks HalfCheetahVel                      # one, with the data sheet of its robot
    metarl tasks HalfCheetahVel --render tasks.png   # a contact sheet of a few of its tasks
    metarl tasks cart:mine/Cart-v0                   # a family of your own, registered by the module cart

A family of your own is registered by a module that can be imported: its folder is on PYTHONPATH.
"""

import importlib
import inspect
import math
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any

import gymnasium
import numpy as np
import tyro
from gymnasium.envs.registration import EnvSpec
from matplotlib.backend_bases import FigureCanvasBase
from matplotlib.figure import Figure
from numpy.typing import NDArray
from pydantic import Field

import envs  # noqa: F401  registers the families
from envs.vector import RobotVectorEnv
from metarl import config
from metarl.config.settings import settings
from metarl.errors import UserError, exits_cleanly, nearest

STEPS = 10  # random steps into an episode a task is drawn
COLUMNS = 3
CELL = 3.2  # [inch] of one picture


@settings
class Options:
    """The command line."""

    family: Annotated[tyro.conf.Positional[str], {"metavar": "FAMILY"}] = ""
    """Such as HalfCheetahVel."""
    render: Path | None = None
    """A picture to draw a contact sheet of tasks to."""
    count: int = Field(6, ge=1)
    """Tasks in it at most"""


@exits_cleanly
def main(args: Sequence[str] | None = None) -> None:
    """Parse, then list or draw."""
    arguments = config.options(Options, args, command="tasks", description=__doc__)
    if arguments.render:
        check_picture(arguments.render, arguments.family)
    families = {spec.name: spec for spec in gymnasium.registry.values() if spec.namespace == "metarl"}
    if arguments.family is None:
        print("\n\n".join(summary(spec) for spec in families.values()))
    elif arguments.family in families:
        show(families[arguments.family], arguments.render, arguments.count)
    else:
        raise UserError(f"there is no family {arguments.family!r}.{nearest(arguments.family, families)}")


def check_picture(path: Path, family: str | None) -> None:
    """Raise UserError unless there is a family to draw, and Matplotlib can write such a file."""
    if family is None:
        raise UserError(
            f"--render {path} draws the tasks of one family: name it first, as in metarl tasks HalfCheetahVel"
        )
    endings = [f".{ending}" for ending in FigureCanvasBase.get_supported_filetypes()]
    if path.suffix.lower() not in endings:
        raise UserError(f"--render {path}: no picture can be written with this ending.{nearest(path.suffix, endings)}")


def show(spec: EnvSpec, picture: Path | None, count: int) -> None:
    """One family: its numbers, its robot's data sheet, and a picture if asked for."""
    print(summary(spec))
    print(f"\n{sys.modules[function_of(spec).__module__].__doc__}")
    if picture:
        contact_sheet(spec, count, picture)
        print(f"picture   {picture}")


def function_of(spec: EnvSpec) -> Callable[..., Any]:
    """The function that builds the family."""
    module, _, name = spec.kwargs["family"].partition(":")
    return getattr(importlib.import_module(module), name)


def summary(spec: EnvSpec) -> str:
    """Id, sizes, horizon, parameters and splits, a line each."""
    env = RobotVectorEnv(spec.kwargs["family"])
    observation, action = env.single_observation_space.shape, env.single_action_space.shape
    parameters = [f"{p.name} = {p.default}" for p in inspect.signature(function_of(spec)).parameters.values()]
    lines = [
        spec.id,
        f"observation {observation}, action {action}, horizon {spec.max_episode_steps}",
        f"parameters: {', '.join([*parameters, 'goal_visible = False'])}",
        *env.task_space.describe().splitlines(),
    ]
    return "\n  ".join(lines)


def contact_sheet(spec: EnvSpec, count: int, path: Path) -> None:
    """Pictures of `count` tasks spread over the training split, or of all; a moment into an episode each."""
    env = gymnasium.make(spec.id, render_mode="rgb_array")
    tasks = list(dict.fromkeys(env.get_wrapper_attr("task_space").grid(count)))
    columns, rows = min(len(tasks), COLUMNS), math.ceil(len(tasks) / COLUMNS)
    figure = Figure(figsize=(CELL * columns, CELL * rows), layout="constrained")
    for place, task in enumerate(tasks, start=1):
        axes = figure.add_subplot(rows, columns, place)
        axes.imshow(picture_of(env, task))
        axes.set_title(task.label, fontsize=9)
        axes.set_axis_off()
    env.close()
    figure.savefig(path, dpi=110)


def picture_of(env: gymnasium.Env, task: Any) -> NDArray[np.uint8]:
    """What a task looks like after a few random steps, (H, W, 3)."""
    env.reset(seed=0, options={"task": task})
    env.action_space.seed(0)
    for _ in range(STEPS):
        env.step(env.action_space.sample())
    return np.asarray(env.render())
