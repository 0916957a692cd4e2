"""Grids over settings, in the format of W&B's sweeps, and the results of their runs.

Hopeless cells can be stopped early by successive halving (Jamieson and Talwalkar 2016): all cells run to the first
rung, the better 1/eta of them go on to the next one, and so on. All runs of a rung end before any is chosen, so that
the result does not depend on which run ends first.
"""

from __future__ import annotations

import itertools
import json
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from metarl import config
from metarl.config import shipped, strict_yaml
from metarl.errors import UserError, nearest, no_such_file, shortened
from metarl.experiment import Experiment
from metarl.jobs.runner import Job
from metarl.runs.directory import METRICS
from metarl.runs.metrics import read_metrics

REPEATS = "seed"
GOALS = ("minimize", "maximize")
SYMBOLS = {"algorithm.inner.step_size": " (α)", "algorithm.step_size": " (β)"}
"""How papers write the step sizes of the inner and of the outer loop."""
WANDB_DEFAULT = ("${env}", "${interpreter}", "${program}", "${args}")
"""The command of a sweep that names none."""
NEEDED = ("program", "metric", "parameters")
KNOWN = (*NEEDED, "method", "command", "early_terminate", "name", "description", "project", "entity", "run_cap")
"""Keys of a sweep; the last four are for W&B."""
REPORTED = ("held_out/", "out_of_range/")
"""Metrics of tasks that are there to be reported, not to choose settings by."""
State = Literal["finished", "stopped", "failed"]


@dataclass(frozen=True)
class Halving:
    """When cells are compared and how many go on, in the words of W&B's `early_terminate: {type: hyperband}`.

    A rung is a number of tests, that is of values of the metric, of which the first is before training.
    """

    eta: int
    min_iter: int = 0
    """Of the first rung; the others are min_iter eta, min_iter eta², …"""
    max_iter: int = 0
    """With `s`, the rungs are max_iter / eta, …, max_iter / eta^s."""
    s: int = 0

    def rungs(self, tests: int) -> list[int]:
        """In runs of this many tests, ascending."""
        if self.max_iter:
            found = {int(self.max_iter / self.eta**k) for k in range(1, self.s + 1)}
        else:
            found = {self.min_iter * self.eta**k for k in range(tests.bit_length())}
        return sorted(n for n in found if 1 < n < tests)


@dataclass(frozen=True)
class Cell:
    """One choice of values."""

    values: tuple[Any, ...]
    """One for each axis."""
    jobs: tuple[Job, ...]
    """One for each seed."""
    experiment: Experiment | None
    """The settings of its runs; None where they are of another program than `metarl train`."""

    @property
    def tests(self) -> int:
        """Tests of a run: at the start, every so many iterations, and at the end."""
        assert self.experiment is not None
        return math.ceil(self.experiment.iterations / self.experiment.evaluation.every) + 1

    def until(self, tests: int) -> list[Job]:
        """Its runs up to so many tests; up to more where they have come further already."""
        assert self.experiment is not None
        return [job if job.finished or tests >= self.tests else self._until(job, tests) for job in self.jobs]

    def _until(self, job: Job, tests: int) -> Job:
        assert self.experiment is not None
        done = [int(path.stem.removeprefix("rung-")) for path in job.run_dir.glob("rung-*.json")]
        tests = min((n for n in done if n >= tests), default=tests)
        iterations = (tests - 1) * self.experiment.evaluation.every
        train = (*job.train, f"--iterations={iterations}", "--evaluation.videos=0")
        return replace(job, train=train, mark_file=f"rung-{tests}.json")


@dataclass(frozen=True)
class Outcome:
    """What the runs of one cell came to."""

    cell: Cell
    state: State
    steps: NDArray[np.floating]
    """(J,) environment steps at each test, or iterations where there is no environment; the mean over seeds."""
    curve: NDArray[np.floating]
    """(J,) the metric at each test, the mean over seeds."""
    last: float
    """The metric at the last test; NaN where a run failed or diverged."""
    setback: float
    """The largest fall from the best value before it, the mean over seeds; NaN as in `last`."""

    def reached(self, value: float, maximize: bool) -> float:
        """Steps at the first test that is as good as `value`; NaN where none was."""
        good = self.curve >= value if maximize else self.curve <= value
        return float(self.steps[good.argmax()]) if good.any() else math.nan


@dataclass(frozen=True)
class Sweep:
    """Settings with their values, the seeds of each cell, and the metric that is compared."""

    name: str
    program: str
    arguments: tuple[str, ...]
    """What the command has besides the program and the values of the cell."""
    metric: str
    maximize: bool
    axes: tuple[str, ...]
    values: tuple[tuple[Any, ...], ...]
    """Of each axis: numbers, names, lists, true, false or null."""
    seeds: tuple[int, ...]
    halving: Halving | None = None

    @classmethod
    def read(cls, path: Path) -> Sweep:
        """A sweep from its file.

        Errors: UserError where there is none, or it is no grid.
        """
        if not path.is_file():
            raise no_such_file("sweep", path, "*.yaml")
        data = strict_yaml.read(path)
        if missing := [key for key in NEEDED if key not in data]:
            raise UserError(f"{path} lacks {', '.join(missing)}. The shipped sweeps/point_nav is an example.")
        for key in data:
            if key not in KNOWN:
                raise UserError(f"{path}: {shortened(str(key))!r} is no part of a sweep.{nearest(str(key), KNOWN)}")
        if data.get("method") != "grid":
            raise UserError(f"{path}: method = {data.get('method')!r}. Without a server only a grid can be run.")
        _check_metric(path, data["metric"])
        values, arguments = _parameters(path, data["parameters"])
        seeds = values.pop(REPEATS, (0,))
        if not values:
            raise UserError(f"{path} varies nothing: give a parameter besides {REPEATS} a list of values.")
        command = [str(word) for word in data.get("command", WANDB_DEFAULT)]
        return cls(
            name=_name(path, data.get("name", path.stem)),
            program=data["program"],
            arguments=(*(word for word in command if not word.startswith("${")), *arguments),
            metric=data["metric"]["name"],
            maximize=data["metric"].get("goal") == "maximize",
            axes=tuple(values),
            values=tuple(values.values()),
            seeds=seeds,
            halving=_halving(path, data["early_terminate"]) if "early_terminate" in data else None,
        )

    @property
    def short_axes(self) -> tuple[str, ...]:
        """The axes by their last words, or without the sections that all are in where these are the same.

        Step sizes have the symbols that papers give them.
        """
        parts = [axis.removesuffix(".name").split(".") for axis in self.axes]
        last = [names[-1] for names in parts]
        same = sum(1 for _ in itertools.takewhile(lambda names: len({*names}) == 1, zip(*parts, strict=False)))
        short = [names[-1] if last.count(names[-1]) == 1 else ".".join(names[same:]) for names in parts]
        return tuple(name + SYMBOLS.get(axis, "") for name, axis in zip(short, self.axes, strict=True))

    def cells(self, folder: Path, extra: Sequence[str]) -> list[Cell]:
        """A cell for every choice of values.

        Args:
            extra: further flags of every run.

        Errors: UserError for settings that do not exist or do not fit, and for values that would share a folder.
        """
        trains = Path(self.program).name == "train.py"
        if self.halving and not trains:
            raise UserError(f"early_terminate with {self.program}: only runs of train.py can go on after a rung.")
        threads = ("--threads=1",) if trains else ()  # runs stand side by side
        cells, taken = [], set()
        for values in itertools.product(*self.values):
            jobs = []
            for seed in self.seeds:
                pairs = zip((*self.axes, REPEATS), (*values, seed), strict=True)
                chosen = [f"--{name}={value}" for name, value in pairs]  # as an agent of W&B spells them
                name = "_".join(map(word, (*values, seed)))
                if name in taken:
                    raise UserError(f"two runs of the sweep would have the folder {name}: some values are too alike.")
                taken.add(name)
                train = (self.program, *self.arguments, *chosen, *threads, *extra)
                jobs.append(Job(folder / name, train, resumable=trains))
            cells.append(Cell(values, tuple(jobs), _experiment(jobs[0]) if trains else None))
        return cells

    def run(self, cells: Sequence[Cell], run_all: Callable[[Sequence[Job]], Sequence[Job]]) -> list[Outcome]:
        """Run what is not finished; what came of each cell, the best first.

        Args:
            run_all: runs jobs side by side and returns those that failed; it is called once for each rung.
        """
        stopped, going = [], [*cells]
        for rung in self.halving.rungs(max(cell.tests for cell in cells)) if self.halving else ():
            assert self.halving is not None
            run_all([job for cell in going for job in cell.until(rung)])
            found = sorted((self.outcome(cell, rung) for cell in going), key=self._rank)
            keep = math.ceil(len(going) / self.halving.eta)
            stopped = found[keep:] + stopped
            chosen = [outcome.cell for outcome in found[:keep]]
            going = [cell for cell in going if cell in chosen]
        run_all([job for cell in going for job in cell.jobs])
        ended = sorted((self.outcome(cell) for cell in going), key=self._rank)
        return sorted([*ended, *stopped], key=lambda outcome: outcome.state == "failed")

    def outcome(self, cell: Cell, tests: int | None = None) -> Outcome:
        """What the runs of a cell came to; up to a number of tests where it is stopped there."""
        histories = [self._history(job)[:, :tests] for job in cell.jobs]
        came = [job.finished or history.shape[1] == tests for job, history in zip(cell.jobs, histories, strict=True)]
        least = min(history.shape[1] for history in histories)
        steps, curve = np.mean([history[:, :least] for history in histories], axis=0)
        falls = [setback(history[1] if self.maximize else -history[1]) for history in histories]
        if not all(came) or not least or not np.isfinite(curve[-1]):
            return Outcome(cell, "failed", steps, curve, math.nan, math.nan)
        fall = float(np.mean(falls))
        state: State = "finished" if tests is None else "stopped"
        return Outcome(cell, state, steps, curve, float(curve[-1]), fall if math.isfinite(fall) else math.nan)

    def _history(self, job: Job) -> NDArray[np.floating]:
        """(2, J): steps and the metric at each test of a run."""
        rows = [row for row in read_metrics(job.run_dir / METRICS) if self.metric in row]
        pairs = [(row.get("environment_steps", row["iteration"]), row[self.metric]) for row in rows]
        return np.array(pairs, dtype=float).reshape(-1, 2).T

    def _rank(self, outcome: Outcome) -> float:
        """Sorts the best outcome first, and failed ones last."""
        if math.isnan(outcome.last):
            return math.inf
        return -outcome.last if self.maximize else outcome.last


def setback(history: NDArray[np.floating]) -> float:
    """How far the metric, of which more is better, fell at most from its best so far, (I,) -> (); NaN counts as all."""
    if not len(history) or not np.isfinite(history).all():
        return float("inf")
    return float((np.maximum.accumulate(history) - history).max())


def spelled(value: Any) -> str:
    """A value of a setting, as a label has it."""
    if isinstance(value, float):
        return f"{value:g}" if float(f"{value:g}") == value else repr(value)
    return value if isinstance(value, str) else json.dumps(value)


def word(value: Any) -> str:
    """A value as a part of a folder's name."""
    return re.sub(r"[^\w.+-]+", "-", spelled(value).strip("[]")) or "none"


def _experiment(job: Job) -> Experiment:
    """The settings of a run of `metarl train`, checked. Errors: UserError that names the run."""
    _, *words = job.train
    if not words or words[0].startswith("--"):
        raise UserError("the command of the sweep names no config: put one before its flags, such as demo.")
    try:
        return config.override(config.load(shipped.find(words[0]), Experiment), words[1:])
    except UserError as error:
        raise UserError(f"the run {job.run_dir.name} of the sweep cannot begin: {error}") from error


def _name(path: Path, name: Any) -> str:
    """What the sweep is called, which is part of its folder's name."""
    if not isinstance(name, str) or not name or name != Path(name).name:
        raise UserError(f"{path}: name = {name!r}, expected a word that can name a folder.")
    return name


def _check_metric(path: Path, metric: Any) -> None:
    fits = isinstance(metric, Mapping) and isinstance(metric.get("name"), str)
    if not fits or metric.get("goal", "minimize") not in GOALS:
        raise UserError(f"{path}: metric = {metric!r}, expected {{name: METRIC, goal: {' or '.join(GOALS)}}}.")
    if metric["name"].startswith(REPORTED):
        raise UserError(
            f"{path}: metric = {metric['name']!r} is of the tasks that are reported, and what is chosen by it would "
            f"look better than it is. Choose validation/{metric['name'].partition('/')[2]}."
        )


def _parameters(path: Path, parameters: Any) -> tuple[dict[str, tuple[Any, ...]], list[str]]:
    """The values of each setting that is varied, and flags for those that have one `value`."""
    if not isinstance(parameters, Mapping):
        raise UserError(f"{path}: parameters must name settings, each with {{values: [0.01, 0.1]}}.")
    varied, flags = {}, []
    for name, parameter in parameters.items():
        given = parameter if isinstance(parameter, Mapping) else {}
        if {*given} == {"value"} and name != REPEATS:
            flags.append(f"--{name}={given['value']}")
            continue
        found = given.get("values", [given["value"]] if "value" in given else None)
        if not isinstance(found, list) or not found or len(given) > 1:
            raise UserError(f"{path}: parameters.{name} needs a list, as in {{values: [0.01, 0.1]}}, and no more.")
        if name == REPEATS and not all(type(seed) is int for seed in found):
            raise UserError(f"{path}: parameters.{name} = {shortened(str(found))}, expected whole numbers.")
        if nested := [value for value in found if isinstance(value, Mapping)]:
            raise UserError(f"{path}: parameters.{name} has the value {shortened(str(nested[0]))}, which is a mapping.")
        varied[name] = tuple(found)
    return varied, flags


def _halving(path: Path, given: Any) -> Halving:
    """Of `early_terminate`. Errors: UserError where it is anything else than W&B's hyperband."""
    example = "{type: hyperband, min_iter: 3, eta: 3} or {type: hyperband, max_iter: 27, s: 2, eta: 3}"
    numbers = dict(given) if isinstance(given, Mapping) else {}
    kind, numbers = numbers.pop("type", None), {"eta": 3, **numbers}
    first = {*numbers} == {"eta", "min_iter"}
    whole = all(type(number) is int and number > 0 for number in numbers.values())
    if kind != "hyperband" or not whole or not (first or {*numbers} == {"eta", "max_iter", "s"}):
        raise UserError(f"{path}: early_terminate = {shortened(str(given))}, expected {example}.")
    if numbers["eta"] < 2 or (first and numbers["min_iter"] < 2):
        raise UserError(
            f"{path}: early_terminate = {shortened(str(given))}: eta and min_iter are at least 2. One run in eta goes "
            "on, and the first test, which min_iter counts, is before training."
        )
    return Halving(**numbers)
