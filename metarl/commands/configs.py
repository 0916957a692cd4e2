"""List the shipped configs.

    metarl configs              # all of them
    metarl configs promp        # those whose name or description contains a word

A config holds only what differs from the defaults. metarl train takes them by name; those in sinusoid/ are for metarl
sinusoid, those in sweeps/ for metarl sweep.
"""

from collections.abc import Sequence
from itertools import groupby
from typing import Annotated

import tyro

from metarl import config
from metarl.config import shipped
from metarl.config.settings import settings
from metarl.errors import UserError, exits_cleanly, nearest


@settings
class Options:
    """The command line."""

    word: Annotated[tyro.conf.Positional[str], {"metavar": "WORD"}] = ""
    """Part of a name or of a description."""


@exits_cleanly
def main(args: Sequence[str] | None = None) -> None:
    """Print the name and the description of each config, with an empty line between folders."""
    word = config.options(Options, args, command="configs", description=__doc__).word
    about = {name: shipped.first_line(name) for name in shipped.names()}
    found = [name for name, line in about.items() if word.casefold() in f"{name} {line}".casefold()]
    if not found:
        raise UserError(
            f"no config has {word!r} in its name or description.{nearest(word, about, 'metarl configs lists all.')}"
        )
    width = max(map(len, found))
    folders = groupby(sorted(found, key=lambda name: ("/" in name, name)), lambda name: name.rpartition("/")[0])
    print("\n\n".join("\n".join(f"{name:<{width}}  {about[name]}" for name in names) for _, names in folders))
