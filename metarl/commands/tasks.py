"""List the task families, or draw a few tasks of one.

    metarl tasks                                     # all families
    metarl tasks HalfCheetahVel                      # one family, and how its robot observes, acts and is rewarded
    metarl tasks HalfCheetahVel --render tasks.png   # a picture of some of its tasks
    metarl tasks cart:mine/Cart-v0                   # your own family, which the module cart registers

The folder of the module cart must be on PYTHONPATH.
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

from metarl import config
from metarl.config.settings import settings
from metarl.errors import UserError, exits_cleanly, nearest
from metarl.experiment import Environment
from metarl.experiment.builders import make_vector_env
from metarl.sampling.registry import families, find, full_id, import_module_of

STEPS = 10  # random steps before a task is drawn
COLUMNS = 3
CELL = 3.2  # [inch] size of one task's picture
TITLE = 40  # characters in a line of its title
NO_BREAK = "\N{NO-BREAK SPACE}"


@settings
class Options:
    """The command line."""

    family: Annotated[tyro.conf.Positional[str], {"metavar": "FAMILY"}] = ""
    """Such as HalfCheetahVel."""
    render: Path | None = None
    """Picture file, such as tasks.png, to draw tasks of the family in."""
    count: int = Field(6, ge=1, le=1_000)
    """Number of tasks in the picture, at most"""


@exits_cleanly
def main(args: Sequence[str] | None = None) -> None:
    """List the families, or print one and draw its tasks."""
    arguments = config.options(Options, args, command="tasks", description=__doc__)
    if arguments.render:
        check_picture(arguments.render, arguments.family)
    if arguments.family:
        family = full_id(arguments.family)
        import_module_of(family)
        show(find(family), arguments.render, arguments.count)
    else:
        print("\n\n".join(summary(spec) for spec in families()))


def check_picture(path: Path, family: str) -> None:
    """Raise UserError where no family is named, or Matplotlib cannot write such a file."""
    if not family:
        raise UserError(
            f"--render {path} draws the tasks of one family: name it first, as in metarl tasks HalfCheetahVel"
        )
    endings = [f".{ending}" for ending in FigureCanvasBase.get_supported_filetypes()]
    if path.suffix.lower() not in endings:
        raise UserError(f"--render {path}: no picture can be written with this ending.{nearest(path.suffix, endings)}")


def show(spec: EnvSpec, picture: Path | None, count: int) -> None:
    """Print a family's summary and the documentation of its robot; draw its tasks if `picture` is given."""
    print(summary(spec))
    if sheet := sys.modules[builder(spec).__module__].__doc__:
        print(f"\n{sheet}")
    if picture:
        contact_sheet(spec, count, picture)
        print(f"picture   {picture}")


def builder(spec: EnvSpec) -> Callable[..., Any]:
    """The function or class that builds the family; its arguments are the family's parameters."""
    entry = spec.kwargs.get("family", spec.vector_entry_point)
    if not isinstance(entry, str):
        return entry
    module, _, name = entry.partition(":")
    return getattr(importlib.import_module(module), name)


def summary(spec: EnvSpec) -> str:
    """Id, sizes, horizon, parameters and splits, one in each line."""
    env = make_vector_env(Environment(id=spec.id, horizon=spec.max_episode_steps or 1), 1, threads=1)
    observation, action = env.single_observation_space.shape, env.single_action_space.shape
    parameters = [f"{p.name} = {p.default}" for p in inspect.signature(builder(spec)).parameters.values()]
    lines = [
        spec.id,
        f"observation {observation}, action {action}, horizon {spec.max_episode_steps}",
        f"parameters: {', '.join([*parameters, 'goal_visible = False'])}",
        *cast(Any, env.task_space).describe().splitlines(),
    ]
    return "\n  ".join(lines)


def contact_sheet(spec: EnvSpec, count: int, path: Path) -> None:
    """Draw `count` tasks, spread evenly over the training split, or all tasks where there are fewer."""
    env = gymnasium.make(spec.id, render_mode="rgb_array")
    env.set_wrapper_attr("captioned", True)
    tasks = list(dict.fromkeys(env.get_wrapper_attr("task_space").grid(count)))
    columns, rows = min(len(tasks), COLUMNS), math.ceil(len(tasks) / COLUMNS)
    figure = Figure(figsize=(CELL * columns, CELL * rows), layout="constrained")
    for place, task in enumerate(tasks, start=1):
        axes = figure.add_subplot(rows, columns, place)
        axes.imshow(picture_of(env, task))
        fields = task.label.replace(" ", NO_BREAK).replace(f",{NO_BREAK}", ", ")
        axes.set_title(textwrap.fill(fields, TITLE), fontsize=9)
        axes.set_axis_off()
    env.close()
    figure.savefig(path, dpi=110)


def picture_of(env: gymnasium.Env, task: Any) -> NDArray[np.uint8]:
    """A task's frame (H, W, 3) after STEPS random steps."""
    env.reset(seed=0, options={"task": task})
    env.action_space.seed(0)
    for _ in range(STEPS):
        env.step(env.action_space.sample())
    return np.asarray(env.render())
