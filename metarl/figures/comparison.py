"""Figures that compare runs: return per task, performance profile, in range against out of range."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from matplotlib.lines import Line2D

from metarl.figures.style import (
    INK,
    Array,
    Curve,
    Target,
    check_lengths,
    empty,
    key,
    label_ends,
    note,
    save,
    stroke,
    style,
)


def return_per_parameter(
    target: Target, parameter: Array, curves: Mapping[str, Curve], title: str, xlabel: str, ylabel: str, remark: str
) -> None:
    """Return after adaptation against what distinguishes the tasks, a line for each of `curves`.

    Args:
        parameter: (M,), in any order.
        curves: M points each.
        remark: what the bands are.
    """
    figure = empty(5.6, 3.6)
    axes = style(figure.add_subplot(), xlabel, ylabel)
    order, ends = np.argsort(parameter), []
    for i, (label, curve) in enumerate(curves.items()):
        check_lengths(parameter=parameter, mean=curve.mean)
        x, (colour, dashes) = parameter[order], stroke(i)
        axes.fill_between(x, curve.low[order], curve.high[order], color=colour, alpha=0.18, linewidth=0)
        axes.plot(x, curve.mean[order], "o", linestyle=dashes, color=colour, linewidth=1.4, markersize=3.5)
        ends.append((float(curve.mean[order][-1]), label, colour))
    note(axes, remark)
    label_ends(axes, ends)
    save(figure, target, title)


def performance_profile(
    target: Target, thresholds: Array, curves: Mapping[str, Curve], title: str, xlabel: str, remark: str
) -> None:
    """The share of runs and tasks above each threshold (Agarwal et al. 2021), a line for each of `curves`.

    Args:
        thresholds: (P,), rising.
        curves: P shares each.
        remark: what the bands are.
    """
    figure = empty(5.6, 3.6)
    axes = style(figure.add_subplot(), xlabel, "share of runs and tasks above")
    for i, curve in enumerate(curves.values()):
        check_lengths(thresholds=thresholds, mean=curve.mean)
        colour, dashes = stroke(i)
        axes.fill_between(thresholds, curve.low, curve.high, color=colour, alpha=0.18, linewidth=0)
        axes.plot(thresholds, curve.mean, linestyle=dashes, color=colour, linewidth=1.8)
    axes.set_ylim(-0.02, 1.02)
    note(axes, remark)
    key(axes, list(curves))
    save(figure, target, title)


def in_and_out_of_range(
    target: Target, curves: Mapping[str, Curve], splits: tuple[str, str], title: str, xlabel: str, remark: str
) -> None:
    """Return on two splits of the tasks, a row for each of `curves`: filled on the first, hollow on the second.

    Args:
        curves: 2 points each, one for each of `splits`.
        remark: what the bars are.
    """
    figure = empty(5.6, 1.7 + 0.42 * len(curves))
    axes = style(figure.add_subplot(), xlabel, "")
    axes.grid(axis="y", visible=False)
    axes.grid(axis="x", color="#E6E6E6", linewidth=0.7)
    for row, curve in enumerate(curves.values()):
        colour, _ = stroke(row)
        for j, (face, lift) in enumerate(((colour, -0.13), ("white", 0.13))):
            reach = [[curve.mean[j] - curve.low[j]], [curve.high[j] - curve.mean[j]]]
            axes.errorbar(
                curve.mean[j], row + lift, xerr=reach, fmt="o", color=colour, markerfacecolor=face, markersize=6,
                markeredgewidth=1.4, linewidth=1.6,
            )  # fmt: skip
    axes.set_yticks(range(len(curves)), list(curves), fontsize=9, parse_math=False)
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
