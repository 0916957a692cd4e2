"""The errors of this package. Every one is a `gymnasium.error.Error`, so that one `except` catches them all."""

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
    """A call that needs a running episode came before the first reset."""


class BrokenEnvError(EnvsError):
    """An environment of a `GymnasiumFamily` raised, its process ended, or its results do not fit its spaces."""


class RenderingError(EnvsError):
    """The picture cannot be drawn on this machine."""


def unknown(kind: str, name: str, known: Iterable[str]) -> str:
    """The message for an unknown name: which names are known, and the nearest one."""
    known = sorted(known)
    nearest = difflib.get_close_matches(name, known, n=1)
    hint = f" Did you mean {nearest[0]!r}?" if nearest else ""
    known_ones = f"known are {', '.join(known)}" if known else "there is none"
    return f"unknown {kind} {name!r}: {known_ones}.{hint}"
