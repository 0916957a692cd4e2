"""The runs of a comparison: reading them, checking that they are comparable, and grouping their seeds."""

from __future__ import annotations

import itertools
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from metarl import config, runs
from metarl.algorithms import in_short
from metarl.errors import UserError, nearest
from metarl.experiment import Experiment
from metarl.results import records
from metarl.results.records import META, Record

HELD_OUT, OUT_OF_RANGE = "held-out", "out-of-range"
VISIBLE = "goal_visible"
"""The option of a family by which an oracle sees its task; in all else it is tested like the others."""
NOT_TRAINING = ("seed", "threads", "tracking", "evaluation")
"""Settings in which the runs of one entry may differ."""
OF_SPLIT = ("split", "number of test tasks", "test task")
"""Parts of the protocol that depend on the split."""
NAMED = 4
"""Greatest number of differences that a message lists."""


@dataclass(frozen=True)
class Run:
    """One evaluated run."""

    run_dir: Path
    experiment: Experiment
    record: Record

    @property
    def settings(self) -> dict[str, Any]:
        """The settings that training depends on, without the seed."""
        own = config.to_dict(self.experiment) | {"iterations": self.record.training.iterations}
        return {key: value for key, value in own.items() if key not in NOT_TRAINING}

    @property
    def protocol(self) -> dict[str, Any]:
        """Name -> value of all that must be equal in two runs that are compared."""
        env, record = self.settings["env"], self.record
        return {
            "env.id": env["id"].rpartition(":")[2],
            "env.options": {name: value for name, value in env["options"].items() if name != VISIBLE},
            "env.horizon": env["horizon"],
            "split": record.split,
            "number of test tasks": len(record.tasks),
            "episodes": record.episodes,
            "adaptation steps": record.steps,
            "step size of later steps": "chosen" if record.tuned else record.later_steps,
            "tasks that step sizes were chosen on": record.tuned_on,
            "seed of the evaluation": record.seed,
            **{f"test task {m}": task for m, task in enumerate(record.tasks)},
        }


@dataclass(frozen=True)
class Entry:
    """Runs that differ only in their seed."""

    label: str
    runs: tuple[Run, ...]
    """In the order of their seeds."""

    @property
    def record(self) -> Record:
        """The evaluation of the first run; all runs have the same protocol."""
        return self.runs[0].record

    @property
    def is_oracle(self) -> bool:
        """Whether its policies see their task."""
        return bool(self.runs[0].settings["env"]["options"].get(VISIBLE))

    @property
    def seeds(self) -> list[int]:
        return [run.record.training.seed for run in self.runs]

    @property
    def environment_steps(self) -> list[int]:
        """Environment steps of training, of each run."""
        return [run.record.training.environment_steps for run in self.runs]

    def adapts_with(self, initialization: str = META) -> list[str]:
        """The settings of adaptation that were chosen for its runs, in words, each once; empty where none were."""
        tuned = [run.record.tuned.get(initialization) for run in self.runs]
        return list(dict.fromkeys(each.in_words for each in tuned if each))

    @property
    def returns(self) -> NDArray[np.floating]:
        """(seeds, tasks, K+1): return of the stochastic policy after 0..K adaptation steps."""
        return np.stack([run.record.returns[META] for run in self.runs])

    @property
    def deterministic(self) -> NDArray[np.floating]:
        """(seeds, tasks, K+1): return of the deterministic policy after 0..K adaptation steps."""
        return np.stack([run.record.deterministic[META] for run in self.runs])


def load(run_dirs: Sequence[Path], split: str = HELD_OUT, labels: Sequence[str] | None = None) -> list[Entry]:
    """Read the evaluations of runs on a split, and group runs that differ only in their seed.

    Args:
        run_dirs: run directories with an evaluation on the split; at least one.
        labels: of the entries, in the order of their first runs; None: the algorithm, or the folder where two entries
            have the same algorithm.

    Errors: UserError where a run was not evaluated, was evaluated in another way than the first, or is given twice.
    """
    evaluated: list[Run] = []
    for run_dir in run_dirs:
        evaluated.append(read_run(run_dir, split, like=evaluated[0].record if evaluated else None))
        check_comparable(evaluated[0], evaluated[-1])
    groups: dict[str, list[Run]] = {}
    for run in evaluated:
        groups.setdefault(json.dumps(run.settings, sort_keys=True), []).append(run)
    grouped = [_by_seed(group) for group in groups.values()]
    folders = [[run.run_dir for run in group] for group in grouped]
    if labels is None:
        labels = default_labels([group[0].experiment for group in grouped], [own[0] for own in folders])
    check_labels(labels, folders)
    return [Entry(label, group) for label, group in zip(labels, grouped, strict=True)]


def read_run(run_dir: Path, split: str, like: Record | None = None) -> Run:
    """A run with its evaluation on a split.

    Errors: UserError where it has none, with the command that makes one with the options of the record `like`.
    """
    experiment, file = runs.read_experiment(run_dir), records.file_of(run_dir, split)
    if not file.is_file():
        present = [path.name for path in run_dir.glob("evaluation-*.json")]
        raise UserError(
            f"{run_dir} was not evaluated on {split} tasks: there is no {file.name}.{nearest(file.name, present)} "
            f"Make it with\n  {records.command(run_dir, split, like)}"
        )
    return Run(run_dir, experiment, records.read(file))


def on_split(entries: Sequence[Entry], split: str) -> list[Entry]:
    """The same entries on another split.

    Errors: UserError where a run was not evaluated there, was evaluated in another way, or was trained in between.
    """
    others = [
        Entry(entry.label, tuple(read_run(run.run_dir, split, like=run.record) for run in entry.runs))
        for entry in entries
    ]
    for entry, other in zip(entries, others, strict=True):
        for here, there in zip(entry.runs, other.runs, strict=True):
            _check_same_training(here, there)
            check_comparable(here, there, but=OF_SPLIT)
            check_comparable(others[0].runs[0], there)
    return others


def not_evaluated(entries: Sequence[Entry], split: str) -> list[Path]:
    """The directories of runs without an evaluation on a split."""
    folders = [run.run_dir for entry in entries for run in entry.runs]
    return [folder for folder in folders if not records.file_of(folder, split).is_file()]


def check_comparable(first: Run, other: Run, but: tuple[str, ...] = ()) -> None:
    """Raise UserError where the protocols of two runs differ, except in names that begin with one of `but`."""
    a, b = first.protocol, other.protocol
    wrong = [
        f"{name}: {a.get(name)!r} and {b.get(name)!r}"
        for name in a | b
        if a.get(name) != b.get(name) and not name.startswith(but)
    ]
    if not wrong:
        return
    if wrong[0].startswith("env."):
        way_out = "Compare runs of one family, with the same options and horizon."
    else:
        again = records.command(other.run_dir, other.record.split, first.record)
        way_out = f"Evaluate the second with the options of the first:\n    {again} --replace"
    more = [f"… and {len(wrong) - NAMED} more"] * (len(wrong) > NAMED)
    what = f"{first.run_dir} and {other.run_dir} were not tested in the same way:"
    raise UserError("\n  ".join([what, *wrong[:NAMED], *more, way_out]))


def _check_same_training(here: Run, there: Run) -> None:
    """Raise UserError where a run was trained between its evaluations on two splits."""
    a, b = here.record, there.record
    if a.training != b.training:
        again = [f"{records.command(here.run_dir, record.split, a)} --replace" for record in (a, b)]
        when = [f"on {record.split} tasks after {record.training.iterations} iterations" for record in (a, b)]
        raise UserError(
            "\n  ".join([f"{here.run_dir} was evaluated {' and '.join(when)}. Evaluate it again on both:", *again])
        )


def _by_seed(group: Sequence[Run]) -> tuple[Run, ...]:
    """Runs in the order of their seeds. Errors: UserError where two have the same seed: they are the same run."""
    ordered = sorted(group, key=lambda run: run.record.training.seed)
    for run, following in itertools.pairwise(ordered):
        if run.record.training.seed == following.record.training.seed:
            raise UserError(
                f"{run.run_dir} and {following.run_dir} are the same run: all their settings are equal, and both have "
                f"seed {run.record.training.seed}. Give one of them."
            )
    return tuple(ordered)


def default_labels(experiments: Sequence[Experiment], folders: Sequence[Path]) -> list[str]:
    """The algorithm in short; where two entries have the same, the name of the folder; where that too, its path."""
    choices = (
        [in_short(experiment.algorithm) for experiment in experiments],
        [folder.resolve().name for folder in folders],
        [str(folder) for folder in folders],
    )
    return [next(labels[i] for labels in choices if labels.count(labels[i]) == 1) for i in range(len(folders))]


def check_labels(labels: Sequence[str], folders: Sequence[Sequence[Path]]) -> None:
    """Raise UserError unless each of the entries in `folders` has a label of its own."""
    if len(labels) != len(folders):
        lines = [", ".join(map(str, own)) for own in folders]
        given = f"--labels {', '.join(labels)}: {len(labels)} for {len(folders)} entries. Give one for each of"
        raise UserError("\n  ".join([given, *lines]))
    if twice := [label for label in labels if labels.count(label) > 1]:
        raise UserError(f"the label {twice[0]!r} is given twice: give each entry its own")
