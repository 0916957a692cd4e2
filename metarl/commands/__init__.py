"""The command `metarl COMMAND …`. Each command is the module of that name in this folder.

A command's module is imported when the command is called, so that `metarl` alone lists the commands at once. The
module's `main(args)` reads the arguments after the command's name.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence

import metarl

GROUPS = {
    "Train": {
        "train": "meta-train a policy and test it on validation tasks",
        "rl2": "train RL², a recurrent policy that adapts by its memory",
        "sweep": "train on a grid of two settings and draw heat maps",
    },
    "Evaluate": {
        "evaluate": "measure how a trained policy adapts to held-out tasks",
        "report": "write the results of a run as one HTML page",
        "render": "film a policy before and after adaptation, or show it in MuJoCo's viewer",
    },
    "Compare": {
        "compare": "compare evaluated runs over algorithms and seeds",
        "baseline": "compare a run with PPO of Stable-Baselines3 on the same tasks",
        "results": "train every algorithm on a few families and compare them",
        "breadth": "measure the gain of adaptation on narrow and wide ranges of tasks",
        "benchmark": "measure speed",
    },
    "Learn": {
        "tasks": "list the task families, or draw tasks of one",
        "configs": "list the shipped configs",
        "sinusoid": "few-shot regression of sinusoids, the simplest example, in a minute",
    },
}
"""Purpose -> its commands, each with a line of help."""

COMMANDS = [name for group in GROUPS.values() for name in group]


def main(args: Sequence[str] | None = None) -> None:
    """Run `metarl COMMAND …`; without a command, print the list of commands."""
    words = sys.argv[1:] if args is None else list(args)
    if not words or words[0] in ("-h", "--help", "help"):
        print(overview())
    elif words[0] == "--version":
        print(metarl.__version__)
    else:
        run(words[0], words[1:])


def run(name: str, args: Sequence[str] | None = None) -> None:
    """Call one command with its arguments (default: those of the process). An interrupt ends it without a traceback.

    So does an import that fails because another package is called `envs`.
    """
    try:
        _refuse_unknown(name)
        importlib.import_module(f"metarl.commands.{name}").main(args)
    except KeyboardInterrupt as error:  # during imports; later, `exits_cleanly` catches it
        from metarl.errors import leave_interrupted

        leave_interrupted(error)
    except ImportError as error:
        from metarl.sampling.registry import clash

        if not (what_to_do := clash(error)):
            raise
        print(f"error: {error}. {what_to_do}", file=sys.stderr)
        sys.exit(2)


def overview() -> str:
    """The list of commands."""
    lines = ["Meta-reinforcement learning for robots. metarl COMMAND --help lists a command's options.", ""]
    for group, commands in GROUPS.items():
        lines += [group, *(f"  metarl {name:<10} {says}" for name, says in commands.items()), ""]
    return "\n".join(lines[:-1])


def _refuse_unknown(name: str) -> None:
    if name not in COMMANDS:
        from metarl.errors import nearest

        print(f"error: there is no command {name!r}.{nearest(name, COMMANDS)}", file=sys.stderr)
        sys.exit(2)
