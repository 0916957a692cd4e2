"""Errors that need no traceback: one message says what is wrong and what to do, and ends the script."""

import difflib
import errno
import functools
import io
import os
import signal
import sys
import threading
import time
import warnings
from collections.abc import Callable, Generator, Iterable
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import NoReturn, ParamSpec, Self, TextIO, TypeVar

P = ParamSpec("P")
R = TypeVar("R")

_SCREEN = 20  # lines of a message
_LINE = 100  # letters of a value in a message
_LISTED = 12
"""More alternatives than these are not listed where something else lists them."""
_ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""Ctrl-C, the end that a scheduler asks for, and a terminal that was closed."""
_SAME = 1.0  # [s] signals that follow so fast mean the same wish: `timeout` sends two, people press twice


class UserError(Exception):
    """A mistake of the user, told in one message without a traceback; the exit status is 2."""


class RunFailed(Exception):
    """A run that cannot go on, told in one message; what was saved stays. The exit status is 1."""


class SimulationDiverged(RunFailed):
    """Too many simulations blew up to learn from the rest."""


class NonFinite(RunFailed, ValueError):
    """A number that training depends on became infinite or undefined."""


class Interrupted(KeyboardInterrupt):
    """Someone asks the process to end: by Ctrl-C, SIGTERM or SIGHUP.

    Attributes:
        signum: the signal; the exit status is 128 + signum.
        told: whether it was already said what is saved and how to go on.
    """

    def __init__(self, signum: int = signal.SIGINT, *, told: bool = False) -> None:
        super().__init__()
        self.signum, self.told = signum, told

    @classmethod
    def after_telling(cls, error: KeyboardInterrupt) -> Self:
        """The same wish, of which the user has been told."""
        return cls(getattr(error, "signum", signal.SIGINT), told=True)


def shortened(text: str, most: int = _LINE) -> str:
    """A text that fits on a line of a message."""
    return text if len(text) <= most else f"{text[: most - 1]}…"


def nearest(name: str, names: Iterable[str], listed_by: str = "") -> str:
    """The end of an error message: ` Did you mean 'x'?`, or else a list of `names`; empty without names.

    listed_by: the sentence that stands for a long list, such as `metarl configs lists them.`
    """
    spelling = {known.casefold(): known for known in names}
    begun = [known for known in spelling if name.casefold().startswith(known)]
    near = difflib.get_close_matches(name.casefold(), spelling, n=1) or begun
    if near:
        return f" Did you mean {spelling[near[0]]!r}?"
    if listed_by and len(spelling) > _LISTED:
        return f" {listed_by}"
    return f" There are: {', '.join(spelling.values())}." if spelling else ""


def no_such_file(kind: str, path: Path, pattern: str) -> UserError:
    """The error for a file that is not there; it names the files like `pattern` in the same folder."""
    if path.is_dir():
        return UserError(f"{path} is a folder, not a {kind}.{_nearest_file(path.name, path, pattern)}")
    if not path.parent.is_dir():
        return UserError(f"there is no {kind} {path}: the folder {path.parent} does not exist.")
    return UserError(f"there is no {kind} {path}.{_nearest_file(path.name, path.parent, pattern)}")


def exits_cleanly(main: Callable[P, R]) -> Callable[P, R]:
    """Let a script's `main` end with one line on stderr where a traceback would not help.

    Exit status 2: a `UserError` or an error of Gymnasium, such as an unknown environment. 1: `RunFailed`, or
    the machine refused a file (permission, full disk, …). 128 + signal: ended by Ctrl-C (130), SIGTERM (143) or
    SIGHUP (129), which all raise `Interrupted` in `main`. The rest keeps its traceback.
    """

    @functools.wraps(main)
    def guarded(*args: P.args, **kwargs: P.kwargs) -> R:
        _write_anything(sys.stdout)
        try:
            with _ending_signals_raise():
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
            leave_interrupted(error)
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


def _nearest_file(name: str, folder: Path, pattern: str) -> str:
    names = sorted(path.name for path in folder.glob(pattern))
    return nearest(name, names, f"{folder} holds {len(names)} such files.")


def _refusal(error: OSError) -> str:
    reason = error.strerror or str(error)
    return reason if error.filename is None else f"{os.fsdecode(error.filename)}: {reason}"


@contextmanager
def _ending_signals_raise() -> Generator[None]:
    """Turn SIGINT, SIGTERM and SIGHUP into `Interrupted`; what the process was told to ignore stays ignored."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    terminals = [fd for fd in (0, 1, 2) if os.isatty(fd)]
    last = -_SAME

    def interrupt(signum: int, frame: FrameType | None) -> None:
        nonlocal last
        _leave_closed(terminals)
        if time.monotonic() - last >= _SAME:
            last = time.monotonic()
            raise Interrupted(signum)

    before = {signum: signal.getsignal(signum) for signum in _ENDING}
    taken = {signum: handler for signum, handler in before.items() if handler not in (signal.SIG_IGN, None)}
    try:
        for signum in taken:
            signal.signal(signum, interrupt)
        yield
    except KeyboardInterrupt:
        end_undisturbed()
        raise
    finally:
        for signum, handler in taken.items():
            if signal.getsignal(signum) is interrupt:
                signal.signal(signum, handler)


def _leave_closed(terminals: Iterable[int]) -> None:
    """Send what is still printed nowhere where the terminal was closed: writing there would fail."""
    for fd in terminals:
        if not os.isatty(fd):
            nowhere = os.open(os.devnull, os.O_RDWR)
            os.dup2(nowhere, fd)
            os.close(nowhere)


def end_undisturbed() -> None:
    """From here on the process ends: ignore further signals that ask for it, so that nothing is left half done."""
    if threading.current_thread() is threading.main_thread():
        for signum in _ENDING:
            signal.signal(signum, signal.SIG_IGN)


def leave_interrupted(error: KeyboardInterrupt) -> NoReturn:
    """End an interrupted process; further signals do not disturb its end."""
    end_undisturbed()
    status = 128 + getattr(error, "signum", signal.SIGINT)
    if getattr(error, "told", False):
        sys.exit(status)
    _leave("interrupted", status)


def _is_gymnasium_s(error: Exception) -> bool:
    """Whether it is an error of Gymnasium's own, such as an unknown environment."""
    gymnasium = sys.modules.get("gymnasium")  # who has not imported it meets none
    return gymnasium is not None and isinstance(error, gymnasium.error.Error)


def _leave(message: str, status: int) -> NoReturn:
    lines = message.splitlines()
    more = [f"  … and {len(lines) - _SCREEN + 1} lines more"] if len(lines) > _SCREEN else []
    print("\n".join(["error: " + "\n".join(lines[: _SCREEN - len(more)]), *more]), file=sys.stderr)
    sys.exit(status)
