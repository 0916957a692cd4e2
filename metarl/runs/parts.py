"""Which rows of metrics.jsonl W&B has already recorded offline.

Each start and each resume of a run records one part of it, a folder in RUN_DIR/wandb. When a process is killed, rows
that W&B had not written yet are missing in its part. Therefore a resumed run reads the earlier parts and logs the
missing rows again. RUN_DIR/wandb/held.json lists the rows of each part that has ended or has been read once.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from metarl.system.files import parse_json, write_atomically

HELD = "held.json"
READING = 60.0  # [s] after which a part counts as unreadable
PARTS = ("offline-run-*", "run-*")
AXES = frozenset(("iteration", "environment_steps", "time/training_s"))
"""What says where a row belongs."""


class RowId(NamedTuple):
    """Identifies a row. A row that a resumed run computes again has the same id."""

    iteration: int
    environment_steps: int | None
    names: frozenset[str]
    """Names of its numbers and tables."""


def row_id(row: Mapping[str, Any]) -> RowId:
    """The id of a row of metrics.jsonl."""
    return _of(row, frozenset(row))


def _of(row: Mapping[str, Any], names: Iterable[str]) -> RowId:
    steps = row.get("environment_steps")
    return RowId(row["iteration"], steps if isinstance(steps, int) else None, frozenset(names) - AXES)


def held(wandb_dir: Path, besides: str) -> Counter[RowId]:
    """Number of times that each row is in the parts in `wandb_dir`, without the part named `besides`.

    A part that cannot be read counts as empty. Parts that held.json lists still count after they were removed, as
    `wandb sync --clean` does.
    """
    known = _known(wandb_dir)
    folders = {path.name: path for pattern in PARTS for path in wandb_dir.glob(pattern)}
    unknown = {name: _read(path) for name, path in folders.items() if name not in known and name != besides}
    if found := {name: rows for name, rows in unknown.items() if rows is not None}:
        known |= found
        _write(wandb_dir, known)
    return Counter(row for name, rows in known.items() if name != besides for row in rows)


def add(wandb_dir: Path, part: str, rows: Iterable[RowId]) -> None:
    """List the rows of a part that has ended in held.json."""
    _write(wandb_dir, _known(wandb_dir) | {part: [*rows]})


def _known(wandb_dir: Path) -> dict[str, list[RowId]]:
    """Part -> its rows, from held.json; empty where that is missing or damaged."""
    try:
        content = parse_json((wandb_dir / HELD).read_bytes())
        return {
            str(part): [
                RowId(int(iteration), None if steps is None else int(steps), frozenset(kind["names"]))
                for kind in kinds
                for iteration, steps in kind["at"]
            ]
            for part, kinds in content.items()
        }
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return {}


def _write(wandb_dir: Path, known: Mapping[str, Iterable[RowId]]) -> None:
    """Write held.json, grouped by names, which many rows share. Where that fails, the parts are read the next time."""
    if not wandb_dir.is_dir():  # the run directory was removed
        return
    content = {}
    for part, rows in known.items():
        kinds = defaultdict(list)
        for row in rows:
            kinds[row.names].append([row.iteration, row.environment_steps])
        content[part] = [{"names": sorted(names), "at": at} for names, at in kinds.items()]
    with suppress(OSError):
        write_atomically(wandb_dir / HELD, json.dumps(content).encode())


def _read(part: Path) -> list[RowId] | None:
    """The rows in a part, as far as W&B's reader can read it; None where it reads nothing."""
    reader = [sys.executable, "-m", "wandb", "leet", "inspect", "--json", str(part)]
    try:
        lines = subprocess.run(reader, capture_output=True, timeout=READING, check=False).stdout.splitlines()
    except (OSError, subprocess.SubprocessError):
        return None
    items = [item for line in lines if (item := _history(line)) is not None]
    return [row for item in items if (row := _recorded(item)) is not None] if lines else None


def _history(line: bytes) -> dict[str, Any] | None:
    """The values of one call of `log`; None for records of other kinds."""
    try:
        record = json.loads(line)
        return dict(record["history"]["item"]) if record["type"] == "history" else None
    except (ValueError, TypeError, KeyError, RecursionError):
        return None


def _recorded(item: Mapping[str, Any]) -> RowId | None:
    """The id of a row in W&B; None for single pictures and videos, which are not in metrics.jsonl."""
    kinds = {name.removesuffix("._type"): kind for name, kind in item.items() if name.endswith("._type")}
    tables = {name for name, kind in kinds.items() if kind == "table-file"}
    media = tuple(f"{name}." for name in kinds)
    names = tables | {name for name in item if not name.startswith(("_", *media))}
    if not isinstance(item.get("iteration"), int) or names <= AXES:
        return None
    return _of(item, names)
