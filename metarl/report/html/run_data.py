"""What a page tells of a run, as the run directory holds it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from metarl import runs
from metarl.errors import UserError
from metarl.experiment import Experiment
from metarl.figures.style import Curve
from metarl.report import records
from metarl.report.records import META, RANDOM, Record
from metarl.runs.directory import State
from metarl.sampling.protocols import family_name

BASELINES_FILE, BASELINES_FORMAT, BASELINES_VERSION = "baseline.json", "metarl-baselines", 1


@dataclass(frozen=True)
class Baselines:
    """Other learners on the same tasks."""

    curves: Mapping[str, tuple[NDArray[np.integer], Curve]]
    """Label -> environment steps (P,), and the return after them."""
    table: Sequence[Mapping[str, Any]]
    """A row for each learner: its label and its numbers, by name; None for what it never reached."""
    remarks: Sequence[str] = ()
    """What it comes to, in sentences."""
    trained: int | None = None
    """Environment steps of the run's training when it was compared with them; None where the file does not say."""


@dataclass(frozen=True)
class RunData:
    """A run, and what was measured of it so far."""

    folder: Path
    """The run directory, as the user named it."""
    experiment: Experiment
    config: str
    """All settings, as the YAML that can be trained from."""
    state: State
    finished: datetime
    """When the checkpoint was written."""
    versions: Mapping[str, str]
    """What it was trained with; empty where the run does not say."""
    evaluations: Mapping[Path, Record]
    """What lies in each evaluation file; that on the run's own split comes first, if there is one."""
    baselines: Baselines | None

    @property
    def name(self) -> str:
        """The run by its folder's name."""
        return self.folder.resolve().name

    @property
    def family(self) -> str:
        """The task family: `HalfCheetahVel` of `envs:metarl/HalfCheetahVel-v0`."""
        return family_name(self.experiment.env.id).rsplit("-v", 1)[0]

    @property
    def record(self) -> Record | None:
        """The first evaluation of the latest checkpoint, which the page is about; None before there is one."""
        return self.evaluations[self.file] if self.file else None

    @property
    def file(self) -> Path | None:
        """Where `record` lies."""
        return next((file for file, record in self.evaluations.items() if record.checkpoint == "latest"), None)

    @property
    def others(self) -> dict[str, Record]:
        """The further evaluations by their files' names, `out-of-range` for evaluation-out-of-range.json."""
        others = {file: record for file, record in self.evaluations.items() if file != self.file}
        return {file.stem.removeprefix("evaluation-"): record for file, record in others.items()}

    @property
    def outdated(self) -> bool:
        """Whether training went on after the evaluation."""
        return self.record is not None and self.record.training.iterations != self.state.iteration


def read(folder: Path) -> RunData:
    """The story of the run in `folder`.

    Errors: UserError where there is no run, no checkpoint, or a file that cannot be read as what it should be.
    """
    experiment = runs.read_experiment(folder)
    state = runs.load(folder, experiment)
    own = records.file_of(folder, experiment.evaluation.split)
    files = sorted(folder.glob("evaluation-*.json"), key=lambda file: (file != own, file.name))
    return RunData(
        folder=folder,
        experiment=experiment,
        config=(folder / runs.CONFIG).read_text(encoding="utf-8"),
        state=state,
        finished=datetime.fromtimestamp((folder / runs.CHECKPOINT).stat().st_mtime, UTC),
        versions=runs.read_versions(folder),
        evaluations={file: read_evaluation(file) for file in files},
        baselines=read_baselines(folder / BASELINES_FILE),
    )


def read_evaluation(file: Path) -> Record:
    """An evaluation that can be compared with a random initialization. Errors: UserError where it is none."""
    record = records.read(file)
    if RANDOM not in record.returns:
        again = records.command(record.run, record.split, record)
        raise UserError(f"{file} has no returns of {RANDOM!r} to compare with. Evaluate the run again:\n  {again}")
    return record


def read_baselines(file: Path) -> Baselines | None:
    """The other learners, if they were trained. Errors: UserError where the file is damaged or of another version."""
    if not file.exists():
        return None
    way_out = "Make it anew with scripts/baseline.py, or move it away."
    try:
        data = json.loads(file.read_bytes())
        found, version = data["format"], data["version"]
        if (found, version) != (BASELINES_FORMAT, BASELINES_VERSION):
            expected = f"expected {BASELINES_FORMAT!r} version {BASELINES_VERSION}"
            raise UserError(f"{file} is {found!r} version {version!r}, {expected}. {way_out}")
        curves = {label: _curve(values) for label, values in data.get("curves", {}).items()}
        rows = [{"label": row["label"], **row} for row in data.get("table", [])]
        remarks = [str(remark) for remark in data.get("remarks", [])]
        return Baselines(curves, rows, remarks, data.get("trained_before", {}).get(META))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        said = f"it lacks {error}" if isinstance(error, KeyError) else str(error)
        raise UserError(f"{file} cannot be read ({said}). {way_out}") from error


def _curve(values: Mapping[str, Any]) -> tuple[NDArray[np.integer], Curve]:
    steps, mean, low, high = (np.array(values[name], dtype=float) for name in ("steps", "mean", "low", "high"))
    if steps.shape != mean.shape:
        raise ValueError(f"{len(steps)} steps with {len(mean)} values")
    return steps.astype(int), Curve(mean, low, high)
