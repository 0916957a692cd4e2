"""metrics.jsonl: a row of numbers, or a table, in each line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from metarl.system.files import parse_json, write_atomically

METRICS = "metrics.jsonl"
TRAINING_S = "time/training_s"
"""Name of the duration [s] of all iterations before a row, without tests."""


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """The rows of the file at `path`, without lines that a crash cut off; empty where it cannot be read."""
    try:
        lines = path.read_bytes().splitlines()
    except OSError:
        return []
    return [row for line in lines if (row := _row(line)) is not None]


def truncate_metrics(path: Path, iteration: int) -> None:
    """Keep the rows up to and including `iteration`, so that a run can be resumed after it.

    Lines that a crash cut off are removed too. The file is replaced in one step; a missing one stays missing.
    """
    if not path.exists():
        return
    kept = [line for line in path.read_bytes().splitlines() if (row := _row(line)) and row["iteration"] <= iteration]
    write_atomically(path, b"".join(line + b"\n" for line in kept))


def _row(line: bytes) -> dict[str, Any] | None:
    """The row in a line; None where the line is no whole JSON object with an iteration."""
    try:
        row = parse_json(line)
    except ValueError:
        return None
    return row if isinstance(row, dict) and isinstance(row.get("iteration"), int) else None
