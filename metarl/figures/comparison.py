"""Figures that compare runs: learning curves, return per task, performance profile, in range against out of range."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from matplotlib.lines import Line2D
from matplotlib.ticker import EngFormatter

from metarl.figures.style import (
    INK,
    Array,
    Target,
    categories,
    columns,
    draw_curve,
    empty,
    key,
    label_ends,
    note,
    reach,
    save,
    stroke,
    style,
)
from metarl.statistics import Curve


def return_per_parameter(
    target: Target, parameter: Array, curves: Mapping[str, Curve], title: str, xlabel: str, ylabel: str, remark: str
) -> None:
    """Draw return after adaptation against the parameter of the tasks, a line for each of `curves`.

    Where the parameter has one or two values, such as two directions, they are categories without lines between them.

    Args:
        parameter: (M,) parameter of each task, in any order.
        curves: label -> M estimates.
        remark: explains the bands, under the title.
    """
    figure = empty(5.6, 3.6)
    axes = style(figure.add_subplot(), xlabel, ylabel)
    note(axes, remark)
    if (places := categories(axes, parameter)) is None:
        order, ends = np.argsort(parameter), []
        for i, (label, curve) in enumerate(curves.items()):
            end = draw_curve(axes, parameter[order], [curve[m] for m in order], i, line=1.4)
            ends.append((end, label, stroke(i)[0]))
        label_ends(axes, ends)
    else:
        apart = 0.5 / len(curves)
        for i, curve in enumerate(curves.values()):
            x = places + apart * (i - (len(curves) - 1) / 2)
            axes.errorbar(x, columns(curve)[0], reach(curve), fmt="o", color=stroke(i)[0], markersize=4.5, capsize=2.5)
        key(axes, list(curves))
    save(figure, target, title)


def learning_curves(
    target: Target, curves: Mapping[str, tuple[Array, Curve]], title: str, ylabel: str, remark: str
) -> None:
    """Draw a return against environment steps of training, a line for each of `curves`.

    Args:
        curves: label -> environment steps (J,), ascending, and J estimates.
        remark: explains the bands, under the title.
    """
    figure = empty(5.6, 3.6)
    axes = style(figure.add_subplot(), "environment steps", ylabel)
    axes.xaxis.set_major_formatter(EngFormatter(sep=""))
    note(axes, remark)
    for i, (steps, curve) in enumerate(curves.values()):
        draw_curve(axes, steps, curve, i, line=1.4)
    key(axes, list(curves))
    save(figure, target, title)


def performance_profile(
    target: Target, thresholds: Array, curves: Mapping[str, Curve], title: str, xlabel: str, remark: str
) -> None:
    """Draw performance profiles (Agarwal et al. 2021): the share of runs and tasks above each threshold.

    Args:
        thresholds: (P,) returns, ascending.
        curves: label -> P estimates of the share.
        remark: explains the bands, under the title.
    """
    figure = empty(5.6, 3.6)
    axes = style(figure.add_subplot(), xlabel, "share of runs and tasks above")
    for i, curve in enumerate(curves.values()):
        draw_curve(axes, thresholds, curve, i, marker=0)
    axes.set_ylim(-0.02, 1.02)
    note(axes, remark)
    key(axes, list(curves))
    save(figure, target, title)


def in_and_out_of_range(
    target: Target, curves: Mapping[str, Curve], splits: tuple[str, str], title: str, xlabel: str, remark: str
) -> None:
    """Draw return on two splits, a row for each of `curves`: a filled marker for the first, a hollow for the second.

    Args:
        curves: label -> an estimate for each of `splits`.
        remark: explains the bars, under the title.
    """
    figure = empty(5.6, 1.7 + 0.42 * len(curves))
    axes = style(figure.add_subplot(), xlabel, "")
    axes.grid(axis="y", visible=False)
    axes.grid(axis="x", color="#E6E6E6", linewidth=0.7)
    for row, curve in enumerate(curves.values()):
        colour, _ = stroke(row)
        for point, face, lift in zip(curve, (colour, "white"), (-0.13, 0.13), strict=True):
            axes.errorbar(
                point.value, row + lift, xerr=reach([point]), fmt="o", color=colour, markerfacecolor=face, markersize=6,
                markeredgewidth=1.4, linewidth=1.6,
            )  # fmt: skip
    axes.set_yticks(range(len(curves)), list(curves), fontsize=9)
    for i, tick in enumerate(axes.get_yticklabels()):
        tick.set_color(stroke(i)[0])
    axes.set_ylim(len(curves) - 0.5, -0.5)
    faces = dict(zip(splits, (INK, "white"), strict=True))
    dots = [
        Line2D([], [], linestyle="", marker="o", color=INK, markerfacecolor=face, label=split)
        for split, face in faces.items()
    ]
    figure.legend(handles=dots, loc="outside lower right", ncols=2, frameon=False, fontsize=9, labelcolor=INK)
    note(axes, remark)
    save(figure, target, title)
