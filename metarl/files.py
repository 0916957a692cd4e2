"""Writing files so that a crash or a full disk never leaves half of one."""

import os
from pathlib import Path


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
