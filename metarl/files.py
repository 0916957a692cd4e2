"""Files: written so that a crash or a full disk never leaves half of one; JSON read so that nothing in it can crash."""

import json
import math
import os
from pathlib import Path
from typing import Any


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
