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
import textwrap
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any, cast

import gymnasium
import numpy as np
import tyro
from gymnasium.envs.registration import EnvSpec
from matplotlib.backend_bases import FigureCanvasBase
from matplotlib.figure import Figure
from numpy.typing import NDArray
from pydantic import Field

from envs.vector import RobotVectorEnv
from metarl import config
from metarl.builders import make_vector_env
from metarl.config.settings import settings
from metarl.errors import UserError, exits_cleanly, nearest
from metarl.experiment import Environment
from metarl.sampling.registry import find, full_id, import_module_of

STEPS = 10  # random steps into an episode a task is drawn
COLUMNS = 3
CELL = 3.2  # [inch] of one picture
TITLE = 40  # letters in a line above it


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
    if arguments.family:
        family = full_id(arguments.family)
        import_module_of(family)
        show(find(family), arguments.render, arguments.count)
    else:
        families = [spec for spec in gymnasium.registry.values() if spec.namespace == "metarl"]
        print("\n\n".join(summary(spec) for spec in families))


def check_picture(path: Path, family: str) -> None:
    """Raise UserError unless there is a family to draw, and Matplotlib can write such a file."""
    if not family:
        raise UserError(
            f"--render {path} draws the tasks of one family: name it first, as in metarl tasks HalfCheetahVel"
        )
    endings = [f".{ending}" for ending in FigureCanvasBase.get_supported_filetypes()]
    if path.suffix.lower() not in endings:
        raise UserError(f"--render {path}: no picture can be written with this ending.{nearest(path.suffix, endings)}")


def show(spec: EnvSpec, picture: Path | None, count: int) -> None:
    """One family: its numbers, its robot's data sheet, and a picture if asked for."""
    print(summary(spec))
    if sheet := sys.modules[builder(spec).__module__].__doc__:
        print(f"\n{sheet}")
    if picture:
        contact_sheet(spec, count, picture)
        print(f"picture   {picture}")


def builder(spec: EnvSpec) -> Callable[..., Any]:
    """What builds the family, whose arguments are its parameters: a function, or a vector environment of its own."""
    entry = spec.kwargs.get("family", spec.vector_entry_point)
    if not isinstance(entry, str):
        return entry
    module, _, name = entry.partition(":")
    return getattr(importlib.import_module(module), name)


def summary(spec: EnvSpec) -> str:
    """Id, sizes, horizon, parameters and splits, a line each."""
    env = make_vector_env(Environment(id=spec.id, horizon=spec.max_episode_steps or 1), 1, threads=1)
    observation, action = env.single_observation_space.shape, env.single_action_space.shape
    parameters = [f"{p.name} = {p.default}" for p in inspect.signature(builder(spec)).parameters.values()]
    lines = [
        spec.id,
        f"observation {observation}, action {action}, horizon {spec.max_episode_steps}",
        f"parameters: {', '.join([*parameters, 'goal_visible = False'])}",
        *cast(RobotVectorEnv, env).task_space.describe().splitlines(),
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
        axes.set_title(textwrap.fill(task.label, TITLE), fontsize=9)
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
