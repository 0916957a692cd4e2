"""What this package raises: every error is a `gymnasium.error.Error`, so that a script can catch one type."""

import difflib
from collections.abc import Iterable

import gymnasium


class EnvsError(gymnasium.error.Error, ValueError):
    """A value that these environments cannot work with."""


class TaskError(EnvsError):
    """A task, a list of tasks or a split that does not fit the task space."""


class FamilyError(EnvsError):
    """A family of tasks, or a parameter of one, that does not exist or is malformed."""


class ArgumentError(EnvsError):
    """An argument of an environment's constructor or reset that is out of range."""


class ActionError(EnvsError, gymnasium.error.InvalidAction):
    """Actions of the wrong shape, or that are not finite."""


class NotResetError(EnvsError, gymnasium.error.ResetNeeded):
    """Something that needs a running episode was asked for before the first reset."""


class RenderingError(EnvsError):
    """The picture cannot be drawn on this machine."""


def unknown(kind: str, name: str, known: Iterable[str]) -> str:
    """One sentence: `name` is no `kind`, which ones exist, and which was probably meant."""
    known = sorted(known)
    nearest = difflib.get_close_matches(name, known, n=1)
    hint = f" Did you mean {nearest[0]!r}?" if nearest else ""
    return f"unknown {kind} {name!r}: known are {', '.join(known) or 'none'}.{hint}"
