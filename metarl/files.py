"""Files: written so that a crash or a full disk never leaves half of one; JSON and archives read within bounds."""

import json
import math
import os
import zipfile
from pathlib import Path
from typing import Any

UNPACKED = 2**30
"""Bytes that an archive may unpack to; one that is larger itself, as many as it has."""
DESCRIBED = 2**24
"""The same for a member that becomes Python objects, a pickle or JSON, which take many times the memory."""


def write_atomically(path: Path, content: bytes) -> None:
    """Put `content` at `path`, all or nothing; missing folders are made.

    Errors: `OSError` that names `path` (disk full, permission, …); the file that was there before survives.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
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
