"""Labels of entries."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from metarl.algorithms import in_short
from metarl.errors import UserError
from metarl.experiment import Experiment


def default_labels(experiments: Sequence[Experiment], folders: Sequence[Path]) -> list[str]:
    """The algorithm in short; where two entries have the same, the name of the folder; where that too, its path."""
    choices = (
        [in_short(experiment.algorithm) for experiment in experiments],
        [folder.resolve().name for folder in folders],
        [str(folder) for folder in folders],
    )
    return [next(labels[i] for labels in choices if labels.count(labels[i]) == 1) for i in range(len(folders))]


def check(labels: Sequence[str], folders: Sequence[Sequence[Path]]) -> None:
    """Raise UserError unless each of the entries in `folders` has a label of its own."""
    if len(labels) != len(folders):
        lines = [", ".join(map(str, own)) for own in folders]
        given = f"--labels {', '.join(labels)}: {len(labels)} for {len(folders)} entries. Give one for each of"
        raise UserError("\n  ".join([given, *lines]))
    if twice := [label for label in labels if labels.count(label) > 1]:
        raise UserError(f"the label {twice[0]!r} is given twice: give each entry its own")
