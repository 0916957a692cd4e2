"""What an evaluation says: the numbers as JSON, the table for the terminal, the figure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.table import Table

from metarl import figures
from metarl.statistics import Estimate, estimate, interquartile_mean
from metarl.tasks import TaskSpace

FORMAT, VERSION = "metarl-evaluation", 1
META, RANDOM = "meta-learned", "random init"


@dataclass(frozen=True)
class Report:
    """Returns after 0..K adaptation steps on the same test tasks, from two initializations."""

    about: Mapping[str, Any]
    """Run, environment, split, seed, episodes, environment steps, versions: what the numbers belong to."""
    task_space: TaskSpace
    tasks: Sequence[Any]
    returns: Mapping[str, NDArray[np.floating]]
    """Initialization -> (tasks, K+1) mean return over episodes."""

    def to_json(self) -> dict[str, Any]:
        """Everything as plain data, with a format name and version."""
        return {
            "format": FORMAT,
            "version": VERSION,
            **self.about,
            "tasks": [dict(self.task_space.to_dict(task)) for task in self.tasks],
            "returns": {name: [[_finite(v) for v in row] for row in x.tolist()] for name, x in self.returns.items()},
            "summary": {name: _plain(summary(x)) for name, x in self.returns.items()},
        }

    def table(self) -> Table:
        """Mean, interquartile mean and gain after each adaptation step, with 95% intervals over tasks."""
        about = self.about
        title = f"{about['environment']}, {len(self.tasks)} {about['split']} tasks, {about['episodes']} episodes a step"
        caption = "[95% interval over tasks], IQM: interquartile mean, gain: paired by task"
        width = max(len(title), len(caption))
        table = Table(title=title, caption=caption, box=None, padding=(0, 2, 0, 0), pad_edge=False, min_width=width)
        for column in ("after steps", "mean return", "IQM of return", "gain"):
            table.add_column(column, justify="right", no_wrap=True)
        for name, x in self.returns.items():
            table.add_row(f"[bold]{name}")
            for row in summary(x):
                gain = str(row["gain"]) if row["steps"] else ""
                table.add_row(str(row["steps"]), str(row["mean"]), str(row["iqm"]), gain)
        return table

    def draw(self, path: Path) -> None:
        """The adaptation curve, and the return per task before and after, as one PNG."""
        curves = {name: curve([estimate(x[:, k]) for k in range(x.shape[1])]) for name, x in self.returns.items()}
        meta = self.returns[META]
        returns = figures.TaskReturns(meta[:, 0], meta[:, -1], *parameter(self.task_space, self.tasks))
        title = (
            f"{self.about['environment'].split('/')[-1]}: adaptation to {len(self.tasks)} {self.about['split']} tasks"
        )
        figures.evaluation_figure(path, curves, returns, title)


def summary(x: NDArray[np.floating]) -> list[dict[str, Any]]:
    """For each number of adaptation steps: mean, interquartile mean (IQM), and gain, paired by task."""
    return [
        {
            "steps": k,
            "mean": estimate(x[:, k]),
            "iqm": estimate(x[:, k], interquartile_mean),
            "gain": estimate(x[:, k] - x[:, 0]),
        }
        for k in range(x.shape[1])
    ]


def _plain(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Estimates as dictionaries of value, low and high."""

    def plain(x: Any) -> Any:
        return {name: _finite(v) for name, v in vars(x).items()} if isinstance(x, Estimate) else x

    return [{key: plain(x) for key, x in row.items()} for row in rows]


def _finite(value: float) -> float | None:
    """The number as JSON has it: null where it is undefined."""
    return value if np.isfinite(value) else None


def curve(estimates: Sequence[Estimate]) -> figures.Curve:
    """Estimates as a line with its band."""
    value, low, high = (np.array([getattr(e, part) for e in estimates]) for part in ("value", "low", "high"))
    return figures.Curve(value, low, high)


def parameter(space: TaskSpace, tasks: Sequence[Any]) -> tuple[NDArray[np.floating] | None, str | tuple[str, str]]:
    """What to draw tasks against: their one number or their point in the plane; else nothing."""
    (name, values), *others = space.array(tasks).items()
    unit = f" [{space.units[name]}]" if space.units[name] else ""
    if others or values.shape[1:] not in ((), (2,)):
        return None, "task"
    return values, f"{name}{unit}" if values.ndim == 1 else (f"{name} x{unit}", f"{name} y{unit}")
