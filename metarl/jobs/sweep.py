"""Grids over two settings, in the format of W&B's sweeps, and the results of their runs."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from metarl.config import strict_yaml
from metarl.errors import UserError, no_such_file
from metarl.jobs.runner import Job
from metarl.runs.directory import METRICS
from metarl.runs.metrics import read_metrics

REPEATS = "seed"
GOALS = ("minimize", "maximize")
SYMBOLS = {"algorithm.inner.step_size": " (α)", "algorithm.step_size": " (β)"}
"""How papers write the step sizes of the inner and of the outer loop."""
WANDB_DEFAULT = ("${env}", "${interpreter}", "${program}", "${args}")
"""The command of a sweep that names none."""


@dataclass(frozen=True)
class Sweep:
    """Two settings with their values, the seeds of each cell, and the metric that is compared."""

    name: str
    program: str
    arguments: tuple[str, ...]
    """What the command has besides the program and the values of the cell."""
    metric: str
    maximize: bool
    axes: tuple[str, str]
    values: tuple[tuple[float, ...], tuple[float, ...]]
    seeds: tuple[int, ...]

    @classmethod
    def read(cls, path: Path) -> Sweep:
        """A sweep from its file.

        Errors: UserError where there is none, or it is no grid over two numbers, with or without seeds.
        """
        if not path.is_file():
            raise no_such_file("sweep", path, "*.yaml")
        data = strict_yaml.read(path)
        if missing := [key for key in ("program", "metric", "parameters") if key not in data]:
            raise UserError(f"{path} lacks {', '.join(missing)}. The shipped sweeps/point_nav is an example.")
        if data.get("method") != "grid":
            raise UserError(f"{path}: method = {data.get('method')!r}. Without a server only a grid can be run.")
        _check_metric(path, data["metric"])
        if not isinstance(data["parameters"], Mapping):
            raise UserError(f"{path}: parameters must name settings, each with {{values: [0.01, 0.1]}}.")
        values = {name: _values(path, name, parameter) for name, parameter in data["parameters"].items()}
        seeds = values.pop(REPEATS, (0,))
        if len(values) != 2:
            varied = ", ".join(values) or "nothing"
            raise UserError(f"{path} varies {varied}. A heat map has two axes; {REPEATS} may be repeated besides.")
        (row, rows), (column, columns) = values.items()
        command = [str(word) for word in data.get("command", WANDB_DEFAULT)]
        return cls(
            name=_name(path, data.get("name", path.stem)),
            program=data["program"],
            arguments=tuple(word for word in command if not word.startswith("${")),
            metric=data["metric"]["name"],
            maximize=data["metric"].get("goal") == "maximize",
            axes=(row, column),
            values=(rows, columns),
            seeds=seeds,
        )

    @property
    def short_axes(self) -> tuple[str, str]:
        """The axes without the section that both are in, with the symbols that papers give them."""
        row, column = (name.split(".") for name in self.axes)
        common = sum(1 for _ in itertools.takewhile(lambda pair: pair[0] == pair[1], zip(row, column, strict=False)))
        row_name, column_name = (
            ".".join(name[common:]) + SYMBOLS.get(axis, "") for name, axis in zip((row, column), self.axes, strict=True)
        )
        return row_name, column_name

    def jobs(self, folder: Path, extra: Sequence[str]) -> list[Job]:
        """A run for every pair of values and every seed, in this order."""
        jobs = []
        for *pair, seed in itertools.product(*self.values, self.seeds):
            chosen = [f"--{name}={value}" for name, value in zip((*self.axes, REPEATS), (*pair, seed), strict=True)]
            name = "_".join(f"{value:g}" for value in (*pair, seed))
            trains = Path(self.program).name == "train.py"
            threads = ("--threads=1",) if trains else ()  # runs stand side by side
            train = (self.program, *self.arguments, *chosen, *threads, *extra)
            jobs.append(Job(folder / name, train, resumable=trains))
        return jobs

    def outcomes(self, jobs: Sequence[Job]) -> Outcomes:
        """What the runs of `jobs` came to; NaN for one that failed."""
        shape = (*map(len, self.values), len(self.seeds))
        pairs = np.array([self._outcome(job) for job in jobs]).reshape(*shape, 2)
        return Outcomes(pairs[..., 0], pairs[..., 1])

    def _outcome(self, job: Job) -> tuple[float, float]:
        rows = read_metrics(job.run_dir / METRICS)
        history = np.array([row[self.metric] for row in rows if self.metric in row], dtype=float)
        if not job.finished or not len(history):
            return np.nan, np.nan
        return float(history[-1]), setback(history if self.maximize else -history)


@dataclass(frozen=True)
class Outcomes:
    """The metric of every run, (first axis, second axis, seeds)."""

    last: NDArray[np.floating]
    """At the end of training."""
    setback: NDArray[np.floating]
    """The largest fall from the best value before it; 0 for a run that only ever improved."""


def setback(history: NDArray[np.floating]) -> float:
    """How far the metric, of which more is better, fell at most from its best so far, (I,) -> (); NaN counts as all."""
    if not np.isfinite(history).all():
        return float("inf")
    return float((np.maximum.accumulate(history) - history).max())


def _name(path: Path, name: Any) -> str:
    """What the sweep is called, which is part of its folder's name."""
    if not isinstance(name, str) or not name or name != Path(name).name:
        raise UserError(f"{path}: name = {name!r}, expected a word that can name a folder.")
    return name


def _check_metric(path: Path, metric: Any) -> None:
    fits = isinstance(metric, Mapping) and "name" in metric and metric.get("goal", "minimize") in GOALS
    if not fits:
        raise UserError(f"{path}: metric = {metric!r}, expected {{name: METRIC, goal: {' or '.join(GOALS)}}}.")


def _values(path: Path, name: str, parameter: Any) -> tuple[Any, ...]:
    found = parameter.get("values") if isinstance(parameter, Mapping) else None
    if not isinstance(found, list) or not found or not all(isinstance(v, int | float) for v in found):
        raise UserError(f"{path}: parameters.{name} needs a list of numbers, as in {{values: [0.01, 0.1]}}.")
    return tuple(found)
