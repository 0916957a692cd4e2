"""The data of a page: the content of the run directory, and the test tasks as objects of their environment."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from metarl import runs
from metarl.errors import UserError
from metarl.experiment import Experiment
from metarl.experiment.builders import fixed_tasks
from metarl.results import baseline_record, records
from metarl.results.baseline_record import BaselineRecord
from metarl.results.records import RANDOM, Record
from metarl.runs.directory import State
from metarl.sampling.protocols import TaskVectorEnv, family_name


@dataclass(frozen=True)
class RunData:
    """A run and its results so far."""

    folder: Path
    """The run directory, as the user named it."""
    experiment: Experiment
    config: str
    """All settings, as YAML."""
    state: State
    finished: datetime
    """Time at which the checkpoint was written."""
    versions: Mapping[str, str]
    """Versions that it was trained with; empty where run.json has none."""
    evaluations: Mapping[Path, Record]
    """Evaluation file -> its content; the one on the split that the run reports comes first."""
    baselines: BaselineRecord | None
    """The run and its baselines on the same tasks; None where baseline.json is missing."""

    @property
    def name(self) -> str:
        """The name of the run directory."""
        return self.folder.resolve().name

    @property
    def family(self) -> str:
        """The task family: `HalfCheetahVel` of `envs:metarl/HalfCheetahVel-v0`."""
        return family_name(self.experiment.env.id).rsplit("-v", 1)[0]

    @property
    def record(self) -> Record | None:
        """The first evaluation of the latest checkpoint, which the page shows; None where there is none."""
        return self.evaluations[self.file] if self.file else None

    @property
    def file(self) -> Path | None:
        """The file of `record`."""
        return next((file for file, record in self.evaluations.items() if record.checkpoint == "latest"), None)

    @property
    def others(self) -> dict[str, Record]:
        """Name -> other evaluations, such as `out-of-range` for evaluation-out-of-range.json."""
        others = {file: record for file, record in self.evaluations.items() if file != self.file}
        return {file.stem.removeprefix("evaluation-"): record for file, record in others.items()}

    @property
    def outdated(self) -> bool:
        """Whether the run was trained further after the evaluation."""
        return self.record is not None and self.record.training.iterations != self.state.iteration


def read(folder: Path) -> RunData:
    """Read the directory of a run.

    Errors: UserError where there is no run or no checkpoint, or where one of its files is damaged.
    """
    experiment = runs.read_experiment(folder)
    state = runs.load(folder, experiment)
    own = records.file_of(folder, experiment.evaluation.reported)
    baselines = folder / baseline_record.FILE
    files = sorted(folder.glob("evaluation-*.json"), key=lambda file: (file != own, file.name))
    return RunData(
        folder=folder,
        experiment=experiment,
        config=(folder / runs.CONFIG).read_text(encoding="utf-8"),
        state=state,
        finished=datetime.fromtimestamp((folder / runs.CHECKPOINT).stat().st_mtime, UTC),
        versions=runs.read_versions(folder),
        evaluations={file: read_evaluation(file) for file in files},
        baselines=baseline_record.read(baselines) if baselines.exists() else None,
    )


def read_evaluation(file: Path) -> Record:
    """Read an evaluation. Errors: UserError where it is damaged, or lacks a random initialization."""
    record = records.read(file)
    if RANDOM not in record.returns:
        again = records.command(record.run, record.split, record)
        raise UserError(f"{file} has no returns of {RANDOM!r} to compare with. Evaluate the run again:\n  {again}")
    return record


def tasks_of(record: Record, env: TaskVectorEnv) -> Sequence[Any]:
    """The M tasks of an evaluation. Errors: UserError where the family's test tasks have changed since."""
    tasks = fixed_tasks(env, record.split, len(record.tasks))
    pairs = zip(map(env.task_space.to_dict, tasks), record.tasks, strict=True)
    if not all(a.keys() == b.keys() and all(_close(a[name], b[name]) for name in a) for a, b in pairs):
        again = records.command(record.run, record.split, record)
        raise UserError(
            f"{record.run} was evaluated on other {record.split} tasks than {record.environment} has now. "
            f"Evaluate it again:\n  {again}"
        )
    return tasks


def _close(value: Any, other: Any) -> bool:
    try:
        return np.allclose(value, other)
    except (TypeError, ValueError):  # text, or arrays of other shapes
        return value == other
