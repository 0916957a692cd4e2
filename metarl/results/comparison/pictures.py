"""The figures of a comparison."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from metarl.errors import warns_only
from metarl.figures import adaptation, comparison
from metarl.results.comparison.entries import Entry
from metarl.results.comparison.tables import family, steps, title
from metarl.runs.publish import learning
from metarl.statistics import Curve, estimate, performance_profile, shown_as

NUMBERS = "comparison.json"
FIGURES = ("adaptation.png", "profile.png", "learning.png", "tasks.png", "splits.png")
"""All figures; the last three are not in every comparison."""
THRESHOLDS = 201
"""Number of points of a performance profile."""
WIDTH = 24
"""Characters in a line of a label."""


def draw(entries: Sequence[Entry], folder: Path, elsewhere: Sequence[Entry] | None = None) -> list[Path]:
    """Draw all figures as PNG files in `folder`, and remove other figures of an older comparison there.

    Args:
        elsewhere: the same entries on another split; None: without the figure of two splits.

    Returns:
        The paths of the figures. One that cannot be drawn is left out, with a warning.
    """
    parameter, label = entries[0].record.parameter()
    pictures: dict[str, Callable[[Path], None]] = {
        "adaptation.png": lambda path: draw_adaptation(entries, path),
        "profile.png": lambda path: draw_profile(entries, path),
    }
    if learned := learning_curves(entries):
        pictures["learning.png"] = lambda path: draw_learning(entries, learned, path)
    if parameter is not None and isinstance(label, str):
        pictures["tasks.png"] = lambda path: draw_tasks(entries, parameter, label, path)
    if elsewhere is not None:
        pictures["splits.png"] = lambda path: draw_splits(entries, elsewhere, path)
    drawn = []
    for name, draw_picture in pictures.items():
        with warns_only(f"no picture {folder / name}"):
            draw_picture(folder / name)
            drawn.append(folder / name)
    if (folder / NUMBERS).exists():
        for stale in {folder / name for name in FIGURES} - set(drawn):
            stale.unlink(missing_ok=True)
    return drawn


def draw_adaptation(entries: Sequence[Entry], path: Path) -> None:
    """Draw mean return after 0..K steps."""
    curves = {_wrapped(entry): [estimate(x) for x in np.moveaxis(entry.returns, -1, 0)] for entry in entries}
    remark = f"band: {_shown(entries)}"
    adaptation.adaptation_curve(path, curves, title(entries), remark=remark)


def draw_profile(entries: Sequence[Entry], path: Path) -> None:
    """Draw the share of runs and tasks above each return, after K steps."""
    after = {_wrapped(entry): entry.returns[..., -1] for entry in entries}
    finite = [x[np.isfinite(x)] for x in after.values() if np.isfinite(x).any()] or [np.array([0.0, 1.0])]
    low, high = float(min(map(np.min, finite))), float(max(map(np.max, finite)))
    thresholds = np.linspace(low - 0.02 * (high - low), high, THRESHOLDS)
    curves = {label: performance_profile(x, thresholds) for label, x in after.items()}
    several = any(len(entry.seeds) > 1 for entry in entries)
    remark = "band: 95% interval over seeds" if several else "one seed each"
    comparison.performance_profile(path, thresholds, curves, title(entries), _axis(entries), remark)


def learning_curves(entries: Sequence[Entry]) -> dict[str, tuple[NDArray[np.floating], Curve]]:
    """Label -> environment steps (J,) at the tests during training, and the mean over seeds of the return in them.

    Empty where the runs were tested in different ways, or have fewer than two tests or different numbers of them.
    """
    curves = {}
    for entry in entries:
        if any(run.experiment.evaluation != entries[0].runs[0].experiment.evaluation for run in entry.runs):
            return {}
        learned = [learning(run.experiment, run.run_dir) for run in entry.runs]
        tests = [run.tested for run in learned if run is not None]
        if len(tests) < len(learned) or len({*map(len, tests)}) > 1 or len(tests[0]) < 2:
            return {}
        steps = np.mean([run.tested_at for run in learned if run is not None], axis=0)
        values = np.array([[test.value for test in own] for own in tests])  # (seeds, J)
        curves[_wrapped(entry)] = steps, [estimate(x[:, None]) for x in values.T]
    return curves


def draw_learning(
    entries: Sequence[Entry], curves: Mapping[str, tuple[NDArray[np.floating], Curve]], path: Path
) -> None:
    """Draw the return in the tests during training against environment steps."""
    test = entries[0].runs[0].experiment.evaluation
    several = any(len(entry.seeds) > 1 for entry in entries)
    remark = "mean of seeds, band: 95% interval over seeds" if several else "one seed each"
    after = f"return after {test.steps} step{'s' * (test.steps != 1)}, {test.split} tasks"
    comparison.learning_curves(path, curves, family(entries), after, remark)


def draw_tasks(entries: Sequence[Entry], parameter: NDArray[np.floating], label: str, path: Path) -> None:
    """Draw return after K steps against the number that distinguishes the tasks, (M,)."""
    curves = {_wrapped(entry): _of_each_task(entry.returns[..., -1]) for entry in entries}
    several = any(len(entry.seeds) > 1 for entry in entries)
    remark = "mean of seeds, band: 95% interval over seeds" if several else "one seed each"
    comparison.return_per_parameter(path, parameter, curves, title(entries), label, _axis(entries), remark)


def draw_splits(entries: Sequence[Entry], elsewhere: Sequence[Entry], path: Path) -> None:
    """Draw mean return after K steps on two splits."""
    both = zip(entries, elsewhere, strict=True)
    curves = {_wrapped(pair[0]): [estimate(entry.returns[..., -1]) for entry in pair] for pair in both}
    splits = entries[0].record.split, elsewhere[0].record.split
    remark = f"bar: {_shown(entries)}"
    comparison.in_and_out_of_range(path, curves, splits, family(entries), _axis(entries), remark)


def _of_each_task(x: NDArray[np.floating]) -> Curve:
    """(tasks,) mean over seeds on each task, with its interval over seeds, of x (seeds, tasks)."""
    return [estimate(x[:, m : m + 1]) for m in range(x.shape[1])]


def _shown(entries: Sequence[Entry]) -> str:
    return shown_as(*(len(entry.seeds) for entry in entries))


def _axis(entries: Sequence[Entry]) -> str:
    return f"return {steps(entries[0])[-1]}"


def _wrapped(entry: Entry) -> str:
    return "\n".join(textwrap.wrap(entry.label, WIDTH))
