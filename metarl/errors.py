"""Errors that need no traceback: one message says what is wrong and what to do, and ends the script."""

import difflib
import errno
import functools
import io
import os
import signal
import sys
import threading
import warnings
from collections.abc import Callable, Generator, Iterable
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn, ParamSpec, TextIO, TypeVar

P = ParamSpec("P")
R = TypeVar("R")

_SCREEN = 20  # lines of a message
_LINE = 100  # letters of a value in a message
_LISTED = 12
"""So many alternatives are listed when none is near."""


class UserError(Exception):
    """A mistake of the user, told in one message without a traceback; the exit status is 2."""


class RunFailed(Exception):
    """A run that cannot go on, told in one message; what was saved stays. The exit status is 1."""


class SimulationDiverged(RunFailed):
    """Too many simulations blew up to learn from the rest."""


class NonFinite(RunFailed, ValueError):
    """A number that training depends on became infinite or undefined."""


class Interrupted(KeyboardInterrupt):
    """Ctrl-C, where it was already said what is saved and how to go on."""


def shortened(text: str, most: int = _LINE) -> str:
    """A text that fits on a line of a message."""
    return text if len(text) <= most else f"{text[: most - 1]}…"


def nearest(name: str, names: Iterable[str]) -> str:
    """The end of an error message: ` Did you mean 'x'?`, or else a list of `names`; empty without names."""
    spelling = {known.casefold(): known for known in names}
    begun = [known for known in spelling if name.casefold().startswith(known)]
    near = difflib.get_close_matches(name.casefold(), spelling, n=1) or begun
    if near:
        return f" Did you mean {spelling[near[0]]!r}?"
    listed = ", ".join(list(spelling.values())[:_LISTED])
    return f" There are: {listed}{', …' if len(spelling) > _LISTED else ''}." if listed else ""


def no_such_file(kind: str, path: Path, pattern: str) -> UserError:
    """The error for a file that is not there; it names the files like `pattern` in the same folder."""
    if path.is_dir():
        return UserError(f"{path} is a folder, not a {kind}.{nearest(path.name, _names(path, pattern))}")
    if not path.parent.is_dir():
        return UserError(f"there is no {kind} {path}: the folder {path.parent} does not exist.")
    return UserError(f"there is no {kind} {path}.{nearest(path.name, _names(path.parent, pattern))}")


def exits_cleanly(main: Callable[P, R]) -> Callable[P, R]:
    """Let a script's `main` end with one line on stderr where a traceback would not help.

    Exit status 2: a `UserError` or an error of Gymnasium, such as an unknown environment. 1: `RunFailed`, or
    the machine refused a file (permission, full disk, …). 130: interrupted. The rest keeps its traceback.
    """

    @functools.wraps(main)
    def guarded(*args: P.args, **kwargs: P.kwargs) -> R:
        _write_anything(sys.stdout)
        try:
            return main(*args, **kwargs)
        except UserError as error:
            _leave(str(error), status=2)
        except RunFailed as error:
            _leave(str(error), status=1)
        except BrokenPipeError:  # the reader, such as `head`, has seen enough
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            sys.exit(141)
        except OSError as error:
            if error.filename is None and error.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise
            _leave(_refusal(error), status=1)
        except KeyboardInterrupt as error:
            leave_interrupted(told=isinstance(error, Interrupted))
        except Exception as error:
            if not _is_gymnasium_s(error):
                raise
            _leave(str(error), status=2)

    return guarded


@contextmanager
def warns_only(what: str) -> Generator[None]:
    """Turn any error inside into a warning that begins with `what`: a picture or a video never ends a run."""
    try:
        yield
    except Exception as error:
        warnings.warn(f"{what}: {type(error).__name__}: {error}", stacklevel=3)


def _write_anything(stream: TextIO) -> None:
    """Let a stream write letters that it has no code for, such as an arrow in ASCII, as an escape, not as an error."""
    if isinstance(stream, io.TextIOWrapper):
        stream.reconfigure(errors="backslashreplace")


def _names(folder: Path, pattern: str) -> list[str]:
    return sorted(path.name for path in folder.glob(pattern))


def _refusal(error: OSError) -> str:
    reason = error.strerror or str(error)
    return reason if error.filename is None else f"{os.fsdecode(error.filename)}: {reason}"


def leave_interrupted(*, told: bool) -> NoReturn:
    """End an interrupted process; further Ctrl-C do not disturb its end."""
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    if told:
        sys.exit(130)
    _leave("interrupted", status=130)


def _is_gymnasium_s(error: Exception) -> bool:
    """Whether it is an error of Gymnasium's own, such as an unknown environment."""
    gymnasium = sys.modules.get("gymnasium")  # who has not imported it meets none
    return gymnasium is not None and isinstance(error, gymnasium.error.Error)


def _leave(message: str, status: int) -> NoReturn:
    lines = message.splitlines()
    more = [f"  … and {len(lines) - _SCREEN + 1} lines more"] if len(lines) > _SCREEN else []
    print("\n".join(["error: " + "\n".join(lines[: _SCREEN - len(more)]), *more]), file=sys.stderr)
    sys.exit(status)
