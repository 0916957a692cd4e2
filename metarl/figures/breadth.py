"""Figure of the returns on narrow and wide ranges of tasks, with and without adaptation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from metarl.figures.style import BLUE, GREEN, INK, VERMILLION, Target, columns, empty, note, reach, save, style
from metarl.statistics import Curve

STROKES = ((GREEN, "s"), (VERMILLION, "o"), (BLUE, "o"))


def draw(target: Target, ranges: Sequence[str], curves: Mapping[str, Curve], title: str, remark: str) -> None:
    """Draw the returns of up to three policies on every range.

    Args:
        ranges: labels of the ranges.
        curves: label of a policy -> an estimate of its return for each range.
        remark: explains the bars, under the title.
    """
    figure = empty(6.0, 3.8)
    axes = style(figure.add_subplot(), "range of hidden velocities", "return on held-out tasks")
    for i, ((label, curve), (colour, marker)) in enumerate(zip(curves.items(), STROKES, strict=False)):
        x = np.arange(len(ranges)) + 0.14 * (i - (len(curves) - 1) / 2)
        axes.errorbar(
            x, columns(curve)[0], reach(curve), fmt=marker, color=colour, markersize=6, capsize=3, linewidth=1.4,
            label=label,
        )  # fmt: skip
    axes.set_xticks(range(len(ranges)), ranges)
    axes.legend(frameon=False, fontsize=9, labelcolor=INK)
    note(axes, remark)
    save(figure, target, title)
