"""Errors that end a command without a traceback: one message says what is wrong and what to do."""

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

_SCREEN = 20  # most lines of a message
_LINE = 100  # most characters of a value in a message
_WIDEST = 800  # most characters of a line: some values, such as lists of options, come into messages whole
_LISTED = 12  # most alternatives in a message, if a command lists them all
_ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)  # Ctrl-C, a scheduler, a closed terminal
_SAME = 1.0  # [s] signals within this time count as one: `timeout` sends two, people press Ctrl-C twice


class UserError(Exception):
    """A mistake of the user. Commands print only its message; the exit status is 2."""


class RunFailed(Exception):
    """A run that cannot go on. Commands print only its message; saved files stay. The exit status is 1."""


class SimulationDiverged(RunFailed):
    """So many simulations became unstable that nothing can be learned from the rest."""


class NonFinite(RunFailed, ValueError):
    """A number that training depends on became infinite or undefined."""


class Interrupted(KeyboardInterrupt):
    """A signal asked the process to end: Ctrl-C (SIGINT), SIGTERM or SIGHUP.

    Attributes:
        signum: the signal; the exit status is 128 + signum.
        told: whether the user was told what is saved and how to resume.
    """

    def __init__(self, signum: int = signal.SIGINT, *, told: bool = False) -> None:
        super().__init__()
        self.signum, self.told = signum, told

    @classmethod
    def after_telling(cls, error: KeyboardInterrupt) -> Self:
        """The same interrupt, with `told` set."""
        return cls(getattr(error, "signum", signal.SIGINT), told=True)


def shortened(text: str, most: int = _LINE) -> str:
    """The text, cut to at most `most` characters."""
    return text if len(text) <= most else f"{text[: most - 1]}…"


def nearest(name: str, names: Iterable[str], listed_by: str = "") -> str:
    """The end of an error message: ` Did you mean 'x'?`, or a list of `names`; empty without names.

    listed_by: a sentence that replaces a list of more than 12, such as `metarl configs lists them.`
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
    """The error for a missing file; it names the nearest file in the folder that matches `pattern`."""
    if path.is_dir():
        return UserError(f"{path} is a folder, not a {kind}.{_nearest_file(path.name, path, pattern)}")
    if not path.parent.is_dir():
        return UserError(f"there is no {kind} {path}: the folder {path.parent} does not exist.")
    return UserError(f"there is no {kind} {path}.{_nearest_file(path.name, path.parent, pattern)}")


def exits_cleanly(main: Callable[P, R]) -> Callable[P, R]:
    """Decorator of a command's `main`, which prints expected errors as one message without a traceback.

    Exit status 2: a `UserError` or an error of Gymnasium, such as an unknown environment. 1: `RunFailed`, or an
    `OSError` about a file (permission, full disk, …). 128 + signal: Ctrl-C (130), SIGTERM (143) or SIGHUP (129), which
    all raise `Interrupted` in `main`. Other errors keep their traceback.
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
        except BrokenPipeError:  # the reader, such as `head`, has closed the pipe
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            sys.exit(141)
        except OSError as error:
            if error.filename is None and error.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise
            _leave(_refusal(error), status=1)
        except MemoryError as error:
            _leave(f"there is not enough memory: {error}. Choose smaller sizes.", status=1)
        except KeyboardInterrupt as error:
            leave_interrupted(error)
        except Exception as error:
            if not _is_gymnasium_s(error):
                raise
            _leave(str(error), status=2)

    return guarded


@contextmanager
def warns_only(what: str) -> Generator[None]:
    """Turn an error inside into a warning that begins with `what`, so that a failed picture does not end a run."""
    try:
        yield
    except Exception as error:
        warnings.warn(f"{what}: {type(error).__name__}: {error}", stacklevel=3)


def _write_anything(stream: TextIO) -> None:
    """Make a stream write characters outside its encoding as escapes instead of failing."""
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
    """Make SIGINT, SIGTERM and SIGHUP raise `Interrupted`; signals that the process ignores stay ignored."""
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
    """Discard further output to a terminal that was closed, because writing to it would fail."""
    for fd in terminals:
        if not os.isatty(fd):
            nowhere = os.open(os.devnull, os.O_RDWR)
            os.dup2(nowhere, fd)
            os.close(nowhere)


def end_undisturbed() -> None:
    """Ignore further signals that ask the process to end, so that it ends completely."""
    if threading.current_thread() is threading.main_thread():
        for signum in _ENDING:
            signal.signal(signum, signal.SIG_IGN)


def leave_interrupted(error: KeyboardInterrupt) -> NoReturn:
    """Exit with the status of the signal; say so unless the user was told."""
    end_undisturbed()
    status = 128 + getattr(error, "signum", signal.SIGINT)
    if getattr(error, "told", False):
        sys.exit(status)
    _leave("interrupted", status)


def _is_gymnasium_s(error: Exception) -> bool:
    """Whether it is an error of Gymnasium, such as an unknown environment."""
    gymnasium = sys.modules.get("gymnasium")  # importing it takes long
    return gymnasium is not None and isinstance(error, gymnasium.error.Error)


def _printable(text: str) -> str:
    """A text whose control characters, which a terminal would obey, are escaped; line breaks stay."""
    return "".join(letter if letter.isprintable() or letter == "\n" else repr(letter)[1:-1] for letter in text)


def _leave(message: str, status: int) -> NoReturn:
    lines = [shortened(line, _WIDEST) for line in _printable(message).splitlines()]
    more = [f"  … and {len(lines) - _SCREEN + 1} lines more"] if len(lines) > _SCREEN else []
    print("\n".join(["error: " + "\n".join(lines[: _SCREEN - len(more)]), *more]), file=sys.stderr)
    sys.exit(status)
