"""Atomic writing of files; reading of JSON and checks of archives from untrusted sources."""

import contextlib
import json
import math
import os
import re
import zipfile
from pathlib import Path
from typing import Any

UNPACKED = 2**30
"""Most bytes that an archive may unpack to, unless it is larger itself."""
DESCRIBED = 2**24
"""The same for a member that is a pickle or JSON, because its Python objects take many times its size."""


def write_atomically(path: Path, content: bytes, *, make_folders: bool = True) -> None:
    """Write `content` to the file at `path` completely or not at all.

    Args:
        make_folders: create missing folders.

    Errors: `OSError`, which names `path` (disk full, permission, …); a file that was there before is unchanged.
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
    """The temporary file that this process writes before it becomes the file at `path`."""
    return path.with_name(f".{path.name}.{os.getpid()}.tmp")


def remove_drafts(folder: Path) -> None:
    """Remove temporary files of processes that were killed from a folder and its subfolders."""
    for path in [*folder.glob(".*"), *folder.glob("*/.*")]:
        draft = re.fullmatch(r"\..+\.(\d{1,9})\.(tmp|mp4)", path.name)
        if draft and not _is_running(int(draft[1])):
            _discard(path)


def _is_running(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:  # it belongs to another user
        return True
    return True


def append_whole(path: Path, content: bytes) -> None:
    """Append `content` to the file at `path` completely or not at all.

    Errors: `OSError`; what was written in part is removed again.
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
    """Remove the file at `path` if it exists and may be removed."""
    with contextlib.suppress(OSError):
        path.unlink()


def check_unpacked(archive: zipfile.ZipFile, size: int) -> None:
    """Raise ValueError, with the size and the limit, for an archive of `size` bytes that would unpack to far more.

    Archives of torch and of this suite are not compressed, so that they are never refused.
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

    Errors: ValueError, in one line, for text that is not JSON, not UTF-8 or nested too deeply, and for numbers that are
    not finite as a float (`Infinity`, `NaN`, 1e999, integers of hundreds of digits).
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
