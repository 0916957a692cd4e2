"""List the configs that are shipped, by their names.

    metarl configs              # all of them
    metarl configs promp        # those with a word in their name or their line

Each is a difference from the defaults, to be given to metarl train; metarl sweep takes those in sweeps.
"""

from collections.abc import Sequence
from typing import Annotated

import tyro

from metarl import config
from metarl.config import shipped
from metarl.config.settings import settings
from metarl.errors import UserError, exits_cleanly, nearest, shortened

LINE = 120


@settings
class Options:
    """The command line."""

    word: Annotated[tyro.conf.Positional[str], {"metavar": "WORD"}] = ""
    """Part of a name or of a line."""


@exits_cleanly
def main(args: Sequence[str] | None = None) -> None:
    """Print a line for each config, a folder after another."""
    word = config.options(Options, args, command="configs", description=__doc__).word
    lines = {name: shipped.first_line(name) for name in shipped.names()}
    found = {name: line for name, line in lines.items() if word.casefold() in f"{name} {line}".casefold()}
    if not found:
        raise UserError(
            f"no config has {word!r} in its name or its line.{nearest(word, lines, 'metarl configs lists all.')}"
        )
    width, folder = max(map(len, found)), ""
    for name, line in sorted(found.items(), key=lambda pair: ("/" in pair[0], pair[0])):
        if folder and name.partition("/")[0] != folder:
            print()
        folder = name.partition("/")[0]
        print(shortened(f"{name:<{width}}  {line}", LINE))
