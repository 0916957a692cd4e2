"""The command `metarl`: what there is, and which module of this folder does it.

Nothing is imported here that takes long, so that the list of commands appears at once. A command's module is imported
when it is called, and its `main(args)` reads the arguments that follow the command's name.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence

import metarl

GROUPS = {
    "Train": {
        "train": "meta-train a policy, test it on held-out tasks, record everything in one folder",
        "sweep": "a grid over two settings, and a heat map of what came out",
    },
    "Look": {
        "evaluate": "how a trained run adapts to tasks that it never trained on",
        "report": "a run as one HTML page",
        "render": "film a policy before and after adaptation, or watch it in MuJoCo's viewer",
    },
    "Compare": {
        "compare": "evaluated runs side by side: algorithms, with their seeds together",
        "baseline": "a run against PPO of Stable-Baselines3 on the same tasks",
        "results": "train every algorithm on a few families, and set the results side by side",
        "breadth": "how alike tasks may be for adaptation to be worth it",
        "benchmark": "measure speed",
    },
    "Learn": {
        "tasks": "the task families, and pictures of their tasks",
        "configs": "the configs that are shipped, a line each",
        "sinusoid": "the first lesson: few-shot regression in a minute",
    },
}
"""What a person wants to do -> the commands for it, with a line each."""

COMMANDS = [name for group in GROUPS.values() for name in group]


def main(args: Sequence[str] | None = None) -> None:
    """`metarl COMMAND …`; without a command, what there is."""
    words = sys.argv[1:] if args is None else list(args)
    if not words or words[0] in ("-h", "--help", "help"):
        print(overview())
    elif words[0] == "--version":
        print(metarl.__version__)
    else:
        run(words[0], words[1:])


def run(name: str, args: Sequence[str] | None = None) -> None:
    """Call one command with its arguments; by default those of the process. An interrupted process ends quietly."""
    try:
        _refuse_unknown(name)
        importlib.import_module(f"metarl.commands.{name}").main(args)
    except KeyboardInterrupt as error:  # while modules are imported; later, `exits_cleanly` takes care
        from metarl.errors import leave_interrupted

        leave_interrupted(error)


def overview() -> str:
    """The commands by what they are for, a line each."""
    lines = ["Meta-reinforcement learning for robots. metarl COMMAND --help says more.", ""]
    for group, commands in GROUPS.items():
        lines += [group, *(f"  metarl {name:<10} {says}" for name, says in commands.items()), ""]
    return "\n".join(lines[:-1])


def _refuse_unknown(name: str) -> None:
    if name not in COMMANDS:
        from metarl.errors import nearest

        print(f"error: there is no command {name!r}.{nearest(name, COMMANDS)}", file=sys.stderr)
        sys.exit(2)
