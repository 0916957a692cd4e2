"""Checkpoints: tensors and plain data in one file. Writing is atomic; reading never runs code of the file."""

import io
import zipfile
from collections.abc import Collection
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from metarl.errors import UserError, no_such_file
from metarl.system.files import UNPACKED, check_unpacked, write_atomically

FORMAT = "metarl-checkpoint"
VERSION = 1

ENTRY = 64
"""[byte] that an entry of plain data takes in memory, about."""
DEEPEST = 100
"""Greatest depth of nested lists and mappings."""

_SCALARS = (str, int, float, bool, type(None))


def save(path: Path | str, state: dict[str, Any], *, make_folders: bool = True) -> None:
    """Write `state` to `path` atomically, with checksums.

    Args:
        state: tensors, dicts, lists, tuples, str, int, float, bool and None. Tensors are stored by value: on the CPU,
            without their graph, and without sharing memory.
        make_folders: whether to make missing folders.

    Errors: `TypeError` for an entry of another type, `ValueError` for an integer beyond 64 bits, which `load` could not
    read; both name the entry. `OSError` where `path` cannot be written; an older file stays as it was.
    """
    content = {"format": FORMAT, "version": VERSION, "state": _portable(state, "state")}
    buffer = io.BytesIO()
    torch.save(content, buffer)
    write_atomically(Path(path), buffer.getvalue(), make_folders=make_folders)


def load(path: Path | str) -> dict[str, Any]:
    """The state that `save` wrote to `path`, with its tensors on the CPU.

    Errors: `UserError` where the file is missing, damaged, of another program or version, or would need far more memory
    than its size.
    """
    path = Path(path)
    if not path.is_file():
        raise no_such_file("checkpoint", path, f"*{path.suffix}")
    _check_archive(path)
    content = _read(path)
    _check_content(content, path)
    return _state(content, path)


def _portable(value: Any, where: str) -> Any:
    """`value` with detached tensors. Errors: TypeError or ValueError for what `load` could not read."""
    if isinstance(value, Tensor):
        return value.detach().cpu().clone()
    if type(value) is int and not -(2**63) <= value < 2**63:
        raise ValueError(f"{where} is an integer of {value.bit_length()} bits; a checkpoint holds at most 64 bits")
    if type(value) in _SCALARS:
        return value
    if type(value) in (list, tuple):
        return type(value)(_portable(item, f"{where}[{i}]") for i, item in enumerate(value))
    if isinstance(value, dict):
        return {_plain_key(key, where): _portable(item, f"{where}[{key!r}]") for key, item in value.items()}
    raise TypeError(
        f"{where} is a {type(value).__name__}; a checkpoint holds tensors, dict, list, tuple, str, int, "
        "float, bool and None: convert it first"
    )


def _plain_key(key: Any, where: str) -> str | int:
    if type(key) not in (str, int):
        raise TypeError(f"{where} has the key {key!r}; the keys of a checkpoint are str or int")
    return key


def _check_archive(path: Path) -> None:
    """Refuse a file that is no zip archive, that is too large when unpacked, or whose checksums are wrong."""
    try:
        whole = zipfile.is_zipfile(path)
        damaged = None
        if whole:
            with zipfile.ZipFile(path) as archive:
                _check_unpacked(archive, path)
                damaged = archive.testzip()
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, EOFError, ValueError, OSError) as error:
        raise _unreadable(path, f"its contents are damaged ({error})") from error
    if not whole:
        raise _unreadable(path, f"it is cut off or was never a checkpoint ({path.stat().st_size} bytes)")
    if damaged is not None:
        raise _unreadable(path, f"its contents are damaged (checksum of {damaged})")


def _check_unpacked(archive: zipfile.ZipFile, path: Path) -> None:
    try:
        check_unpacked(archive, path.stat().st_size)
    except ValueError as error:
        raise _unreadable(path, str(error)) from error


def _read(path: Path) -> Any:
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch documents no type of exception for a foreign archive
        reason = "it holds more than tensors and plain data; none of it was run"
        raise _unreadable(path, reason) from error


def _check_content(content: Any, path: Path) -> None:
    """Refuse what `save` does not write, and data that is far larger than the file, by many references to one entry."""
    room, level = max(UNPACKED, ENTRY * path.stat().st_size), [content]
    for _ in range(DEEPEST):
        inside: list[Any] = []
        for item in level:
            held = _held(item, path)
            room -= ENTRY * (1 + len(held)) + _size(item)
            if room < 0:
                raise _unreadable(path, f"what it describes takes more than {UNPACKED:,} bytes")
            inside += held
        level = inside
    if level:
        raise _unreadable(path, f"it is nested more than {DEEPEST} levels deep")


def _held(item: Any, path: Path) -> Collection[Any]:
    """The items of a list, tuple or mapping, with its keys; empty for other entries."""
    if isinstance(item, dict):
        return [*item, *item.values()]
    if isinstance(item, list | tuple):
        return item
    if isinstance(item, Tensor) or type(item) in _SCALARS:
        return ()
    raise _unreadable(path, f"it holds more than tensors and plain data: a {type(item).__name__}")


def _size(item: Any) -> int:
    """[byte] of a tensor, as if it shared no memory, or of a text, about; 0 for other entries."""
    if isinstance(item, Tensor):
        return item.numel() * item.element_size()
    return len(item) if isinstance(item, str) else 0


def _state(content: Any, path: Path) -> dict[str, Any]:
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise _unreadable(path, "it is a torch file of another program")
    version = content.get("version")
    if version != VERSION:
        raise UserError(
            f"{path} is a checkpoint of version {version}; this metarl-suite reads version {VERSION}. "
            "Use the release that wrote it, or a newer one."
        )
    if not isinstance(content.get("state"), dict):
        raise _unreadable(path, "it holds no state")
    return content["state"]


def _unreadable(path: Path, reason: str) -> UserError:
    return UserError(f"{path} cannot be read as a checkpoint: {reason}. Use a file that metarl-suite saved.")
