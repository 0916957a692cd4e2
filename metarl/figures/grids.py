"""Pictures of sweeps: heat maps, and learning curves of which the best are labelled."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm, Normalize
from matplotlib.ticker import EngFormatter

from metarl.figures.style import CURVES, FAINT, INK, Array, Target, empty, label_ends, note, save, style

LABELLED = 5
"""Learning curves that are coloured and labelled."""


@dataclass(frozen=True)
class Grid:
    """A number for each pair of settings; NaN where the run failed or diverged."""

    name: str
    values: Array
    """(rows, columns)"""
    more_is_better: bool
    logarithmic: bool = False


def heat_maps(
    target: Target,
    grids: Sequence[Grid],
    rows: Sequence[str],
    columns: Sequence[str],
    labels: tuple[str, str],
    title: str,
) -> None:
    """Draw a heat map of each grid, with the number in each cell; better numbers are brighter.

    Args:
        rows, columns: values of the two settings.
        labels: names of the two settings.
    """
    figure = empty(1.6 + (0.9 * len(columns) + 1.2) * len(grids), 1.8 + 0.5 * len(rows))
    panels = figure.subplots(1, len(grids), squeeze=False, sharey=True)[0]
    for axes, grid in zip(panels, grids, strict=True):
        style(axes, labels[1], labels[0] if axes is panels[0] else "")
        axes.set_title(grid.name, fontsize=10, color=INK)
        axes.set_xticks(range(len(columns)), list(columns))
        axes.set_yticks(range(len(rows)), list(rows))
        axes.grid(visible=False)
        _draw(axes, grid)
    figure.supxlabel("the brighter, the better", fontsize=8, color="#777777")
    save(figure, target, title)


def ranked_curves(
    target: Target,
    curves: Sequence[tuple[str, Array, Array]],
    labels: tuple[str, str],
    title: str,
    wanted: float | None = None,
) -> None:
    """Learning curves, the best first: a few in colours with labels, the others grey. The axis fits the coloured ones.

    Args:
        curves: label, (J,) steps and (J,) the metric at them; none is empty.
        labels: of the two axes.
        wanted: drawn as a level.
    """
    figure = empty(8.4, 4.2)
    axes, ends = style(figure.add_subplot(), *labels), []
    axes.xaxis.set_major_formatter(EngFormatter(sep=""))
    for _, steps, values in curves[LABELLED:]:
        axes.plot(steps, values, color=FAINT, linewidth=0.8)
    for i, (label, steps, values) in reversed([*enumerate(curves[:LABELLED])]):
        axes.plot(steps, values, color=CURVES[i], linewidth=1.8, marker="o", markersize=3)
        ends.append((float(values[-1]), f"{i + 1}  {label}", CURVES[i]))
    levels = np.concatenate([values for _, _, values in curves[:LABELLED]] + ([[wanted]] if wanted is not None else []))
    if (known := levels[np.isfinite(levels)]).size:
        margin = 0.1 * (known.max() - known.min()) or 1.0
        axes.set_ylim(known.min() - margin, known.max() + margin)
    if wanted is not None:
        axes.axhline(wanted, color=INK, linestyle=":", linewidth=1.0)
    if len(curves) > LABELLED:
        note(axes, f"the best {LABELLED} of {len(curves)}; lines that end early were stopped")
    label_ends(axes, ends)
    save(figure, target, title)


def _draw(axes: Axes, grid: Grid) -> None:
    finite = grid.values[np.isfinite(grid.values)]
    low, high = (float(finite.min()), float(finite.max())) if len(finite) else (0.0, 1.0)
    positive = grid.logarithmic and low > 0
    norm = (LogNorm if positive else Normalize)(low, max(high, low * 1.001 if positive else low + 1e-9))
    colours = "viridis" if grid.more_is_better else "viridis_r"
    axes.imshow(np.where(np.isfinite(grid.values), grid.values, np.nan), cmap=colours, norm=norm, aspect="auto")
    for (row, column), value in np.ndenumerate(grid.values):
        goodness = float(np.asarray(norm(value))) if np.isfinite(value) else 0.0
        bright = (goodness if grid.more_is_better else 1 - goodness) > 0.55
        text = f"{value:z.3g}" if np.isfinite(value) else "diverged"
        axes.text(
            column, row, text, ha="center", va="center", fontsize=8,
            color="black" if bright or not np.isfinite(value) else "white",
        )  # fmt: skip
