"""Files: written so that a crash or a full disk never leaves half of one; JSON and archives read within bounds."""

import contextlib
import json
import math
import os
import re
import zipfile
from pathlib import Path
from typing import Any

UNPACKED = 2**30
"""Bytes that an archive may unpack to; one that is larger itself, as many as it has."""
DESCRIBED = 2**24
"""The same for a member that becomes Python objects, a pickle or JSON, which take many times the memory."""


def write_atomically(path: Path, content: bytes, *, make_folders: bool = True) -> None:
    """Put `content` at `path`, all or nothing; missing folders are made, unless they are known to have been there.

    Errors: `OSError` that names `path` (disk full, permission, …); the file that was there before survives.
    """
    temporary = draft_of(path)
    try:
        if make_folders:
            path.parent.mkdir(parents=True, exist_ok=True)
        _write_durably(temporary, content)
        os.replace(temporary, path)
    except OSError as error:
        raise OSError(error.errno, f"cannot write this file: {error.strerror}", str(path)) from error
    finally:
        _discard(temporary)


def _write_durably(path: Path, content: bytes) -> None:
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def draft_of(path: Path) -> Path:
    """Where this process writes what is to become the file at `path`."""
    return path.with_name(f".{path.name}.{os.getpid()}.tmp")


def remove_drafts(folder: Path) -> None:
    """Remove drafts that processes left in a folder, and in those in it, when they were killed."""
    for path in [*folder.glob(".*"), *folder.glob("*/.*")]:
        draft = re.fullmatch(r"\..+\.(\d{1,9})\.(tmp|mp4)", path.name)
        if draft and not _is_running(int(draft[1])):
            _discard(path)


def _is_running(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:  # it belongs to somebody else
        return True
    return True


def append_whole(path: Path, content: bytes) -> None:
    """Add `content` to the end of the file at `path`, all or nothing; a part that was written is cut off again.

    Errors: `OSError` where it cannot be added.
    """
    with path.open("ab", buffering=0) as file:
        end, rest = file.seek(0, os.SEEK_END), memoryview(content)
        try:
            while rest:
                rest = rest[file.write(rest) :]
        except OSError:
            with contextlib.suppress(OSError):
                file.truncate(end)
            raise


def _discard(path: Path) -> None:
    """Remove `path` if it is there; where its folder is missing or closed to us, nothing was written."""
    try:
        path.unlink(missing_ok=True)
    except OSError:
        return


def check_unpacked(archive: zipfile.ZipFile, size: int) -> None:
    """Refuse, before anything is read, an archive of `size` bytes that declares to unpack to far more.

    What torch and this suite write is not compressed, so that it is never refused, however large.

    Errors: ValueError, in one line, with the size and the limit.
    """
    members = archive.infolist()
    _check_size("it unpacks", sum(member.file_size for member in members), max(UNPACKED, size))
    for member in members:
        if member.filename.rpartition("/")[-1] in ("data.pkl", "data"):
            _check_size(f"its part {member.filename[:60]!r} unpacks", member.file_size, max(DESCRIBED, size))


def _check_size(what: str, size: int, most: int) -> None:
    if size > most:
        raise ValueError(f"{what} to {size:,} bytes, and at most {most:,} are read")


def parse_json(content: bytes | str) -> Any:
    """Strict JSON as plain data.

    Errors: ValueError, in one line, for what is no JSON, no UTF-8 or nested too deeply, and for numbers that a float
    cannot hold (`Infinity`, `NaN`, 1e999, integers of hundreds of digits).
    """
    try:
        return json.loads(content, parse_int=_integer, parse_float=_float, parse_constant=_float)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def _integer(text: str) -> int:
    _float(text)
    return int(text)


def _float(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"{text[:20]}{'…' * (len(text) > 20)} is no finite number")
    return number
