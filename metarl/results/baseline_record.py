"""The file RUN_DIR/baseline.json: a comparison of a run with its baselines.

format, version     "metarl-baselines", 1
curves              method -> steps (P,) on the test task; mean and spread_over_tasks (P,): return after them
table               a row for each method: its label, and numbers by name; null for a return that it never reached
remarks             conclusions, in sentences
overtaking          a method that overtakes the run, and after how many steps; null or absent where none does
trained_before      run -> environment steps of its training, without those on the test tasks
returns, …          further keys, which are not read here
"""

from __future__ import annotations

import reprlib
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from metarl.errors import UserError
from metarl.results.records import META
from metarl.statistics import Curve, Estimate, plain
from metarl.system.files import parse_json

FILE, FORMAT, VERSION = "baseline.json", "metarl-baselines", 1
LONGEST = 120
"""Greatest length of the reason in an error message."""
WAY_OUT = "Run `metarl baseline` again, or move the file away."

LearningCurves = Mapping[str, tuple[NDArray[np.integer], Curve]]
"""Method -> environment steps (P,), ascending, and the return after them."""


@dataclass(frozen=True)
class BaselineRecord:
    """A run and its baselines on the same test tasks."""

    curves: LearningCurves
    table: Sequence[Mapping[str, Any]]
    """A row for each method: its label, and numbers by name; None for a return that it never reached."""
    remarks: Sequence[str] = ()
    overtaking: tuple[str, int] | None = None
    """A method that overtakes the run, and the number of steps on the task after which it does."""
    trained: int | None = None
    """Environment steps of the run's training before the comparison; None where the file lacks them."""

    def to_json(self, more: Mapping[str, Any]) -> dict[str, Any]:
        """The content of the file as plain data for strict JSON. more: its further keys."""
        curves = {label: {"steps": steps.tolist(), **_columns(curve)} for label, (steps, curve) in self.curves.items()}
        own = {"curves": curves, "table": self.table, "remarks": self.remarks, "overtaking": self.overtaking}
        return {"format": FORMAT, "version": VERSION, **plain({**own, **more})}


def read(path: Path) -> BaselineRecord:
    """The record in the file at `path`. Errors: UserError where it is damaged or of another version."""
    try:
        data = parse_json(path.read_bytes())
        found = data["format"], data["version"]
        if found != (FORMAT, VERSION):
            name, version = map(reprlib.repr, found)
            expected = f"expected {FORMAT!r} version {VERSION}"
            raise UserError(f"{path} is {name} version {version}, {expected}. {WAY_OUT}")
        return BaselineRecord(
            curves={label: _curve(values) for label, values in data.get("curves", {}).items()},
            table=[{"label": row["label"], **row} for row in data.get("table", [])],
            remarks=[str(remark) for remark in data.get("remarks", [])],
            overtaking=(str(found[0]), int(found[1])) if (found := data.get("overtaking")) else None,
            trained=data.get("trained_before", {}).get(META),
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        reason = f"it lacks {error}" if isinstance(error, KeyError) else textwrap.shorten(str(error), LONGEST)
        raise UserError(f"{path} cannot be read ({reason}). {WAY_OUT}") from error


def _columns(curve: Curve) -> dict[str, list[float]]:
    return {"mean": [e.value for e in curve], "spread_over_tasks": [e.spread for e in curve]}


def _curve(values: Mapping[str, Any]) -> tuple[NDArray[np.integer], Curve]:
    """Older files have `low` and `high`, an interval over tasks, instead of the spread: it is left out."""
    spread = values.get("spread_over_tasks", np.full(np.shape(values["mean"]), np.nan))
    steps, *columns = (np.array(x, dtype=float) for x in (values["steps"], values["mean"], spread))
    lengths = {x.shape for x in (steps, *columns)}
    if len(lengths) > 1 or steps.ndim != 1 or not np.isfinite(steps).all() or not len(steps):
        raise ValueError(f"{len(np.atleast_1d(steps))} steps with {len(np.atleast_1d(columns[0]))} values")
    return steps.astype(int), [
        Estimate(float(mean), spread=float(spread)) for mean, spread in zip(*columns, strict=True)
    ]
