"""Figures of one run: adaptation curve, return per task, learning curve, sample efficiency."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import Normalize
from matplotlib.figure import FigureBase
from matplotlib.ticker import EngFormatter, MaxNLocator
from numpy.typing import NDArray

from metarl.figures.style import (
    BLUE,
    FAINT,
    INK,
    VERMILLION,
    Array,
    Target,
    categories,
    check_lengths,
    columns,
    draw_curve,
    empty,
    label_ends,
    note,
    reach,
    save,
    stroke,
    style,
)
from metarl.statistics import Curve

BEFORE, AFTER = VERMILLION, BLUE
OVER_TASKS = "band: spread over tasks (standard deviation)"


@dataclass(frozen=True)
class TaskReturns:
    """The return on each of M tasks before and after adaptation, and the parameter of each task."""

    before: Array
    """(M,) mean return before adaptation."""
    after: Array
    """(M,) mean return after adaptation."""
    parameter: Array | None = None
    """(M,) or (M, 2) parameter of the tasks, such as a goal velocity; None: the x axis is the number of the task."""
    label: str | tuple[str, str] = "task"
    """Name of `parameter` with its unit; two names where it has two columns."""

    def __post_init__(self) -> None:
        check_lengths(before=self.before, after=self.after)
        if self.parameter is None:
            return
        if self.parameter.shape not in ((len(self.before),), (len(self.before), 2)):
            raise ValueError(f"parameter is (M,) or (M, 2) with M = {len(self.before)}, got {self.parameter.shape}")
        if (self.parameter.ndim == 2) != isinstance(self.label, tuple):
            raise ValueError(f"parameter {self.parameter.shape} needs a label for each column, got {self.label!r}")


def adaptation_curve(target: Target, curves: Mapping[str, Curve], title: str, remark: str = OVER_TASKS) -> None:
    """Draw return against gradient steps 0..K, a line for each of `curves`, with its label at the end.

    The first curve is blue, the second one, such as that of a random initialization, vermillion.
    """
    figure = empty(5.6, 3.6)
    _draw_adaptation(figure.add_subplot(), curves, remark)
    save(figure, target, title)


def return_per_task(target: Target, returns: TaskReturns, title: str) -> None:
    """Draw the return on each task before and after adaptation.

    Against a parameter (M,), or the task's number, each task has two markers that are joined by a line. A parameter
    (M, 2) gives two maps, before and after, with one colour scale.
    """
    figure = empty(5.6, 3.9 if _is_map(returns) else 3.6)
    _draw_returns(figure, returns)
    save(figure, target, title)


def evaluation_figure(target: Target, curves: Mapping[str, Curve], returns: TaskReturns, title: str) -> None:
    """Draw `adaptation_curve` on the left and `return_per_task` on the right."""
    figure = empty(10.4, 3.8)
    left, right = figure.subfigures(1, 2, squeeze=False, wspace=0.04)[0]
    _draw_adaptation(left.add_subplot(), curves)
    _draw_returns(right, returns)
    save(figure, target, title)


def learning_curve(
    target: Target,
    environment_steps: NDArray[np.integer],
    before: Array,
    after: Array,
    title: str,
    *,
    tested: tuple[NDArray[np.integer], Curve] | None = None,
    tested_on: str = "held-out",
    clock: Array | None = None,
) -> None:
    """Return on training tasks before and after adaptation, against environment steps and seconds of training.

    Args:
        environment_steps: (I,) steps taken in all tasks together, at each iteration.
        before, after: (I,) mean return; drawn faintly, with a running mean over a fiftieth of the iterations.
        tested: (J,) environment steps and the curve of J evaluations on the tasks of the split `tested_on`.
        clock: (2, C) ascending environment steps, and the seconds of training at them, for an axis above; without it
            there are steps alone.
    """
    check_lengths(environment_steps=environment_steps, before=before, after=after)
    figure = empty(5.6, 3.6)
    axes = style(figure.add_subplot(), "environment steps", "return")
    axes.xaxis.set_major_formatter(EngFormatter(sep=""))
    ends = []
    for values, label, colour in ((after, "after adaptation", AFTER), (before, "before", BEFORE)):
        smooth = _running_mean(values, max(1, len(values) // 50))
        if len(values) >= 100:
            axes.plot(environment_steps, values, color=colour, alpha=0.25, linewidth=0.7)
        axes.plot(environment_steps, smooth, color=colour, linewidth=1.8)
        ends.append((float(smooth[-1]), label, colour))
    if tested is not None:
        steps, curve = tested
        value, *_ = columns(curve)
        check_lengths(tested=steps, value=value)
        axes.errorbar(
            steps, value, reach(curve), color=INK, fmt="o-", markersize=4, linewidth=1.0, capsize=2.5, zorder=3
        )
        ends.append((float(value[-1]), f"after, {tested_on} tasks\n(bar: spread over tasks)", INK))
    label_ends(axes, ends)
    if clock is not None and clock.shape[1] > 1:
        _mark_seconds(axes, *clock)
    save(figure, target, title)


def sample_efficiency(
    target: Target,
    curves: Mapping[str, tuple[NDArray[np.integer], Curve]],
    title: str,
    xlabel: str,
    overtaking: tuple[str, int] | None = None,
) -> None:
    """Draw the return of several methods against their steps, a line for each, with its label at the right.

    The axis of steps is linear from 0 to the smallest number of steps and logarithmic above it. The line of a method
    that stops earlier goes on dotted, at its last return. The spreads of the last returns stand side by side.

    Args:
        curves: label -> steps (P,), ascending, and P estimates of the return.
        overtaking: a label and the number of steps at which it overtakes, which is marked.
    """
    figure = empty(7.2, 4.0)
    axes = style(figure.add_subplot(), xlabel, "return")
    taken = np.concatenate([steps for steps, _ in curves.values()])
    first, last = float(min(taken[taken > 0], default=1)), float(max(taken.max(), 1))
    apart, ends = max(last / first, 2.0) ** 0.03, []
    for i, (label, (steps, curve)) in enumerate(curves.items()):
        (colour, dashes), (value, *_) = stroke(i), columns(curve)
        axes.plot(steps, value, "o", linestyle=dashes, color=colour, linewidth=1.8, markersize=3.5)
        if steps[-1] < last:
            axes.plot([steps[-1], last], value[[-1, -1]], ":", color=colour, linewidth=0.9)
        at = last * apart ** (i + 1.5)
        axes.errorbar(at, value[-1], reach(curve[-1:]), fmt="_", color=colour, markersize=5, linewidth=1.4)
        ends.append((float(value[-1]), label, colour))
        if overtaking and overtaking[0] == label and overtaking[1] in steps:
            point = overtaking[1], value[list(steps).index(overtaking[1])]
            axes.plot(*point, "o", markersize=12, markerfacecolor="none", color=INK, markeredgewidth=1.2)
            axes.annotate("overtakes", point, (0, -18), textcoords="offset points", ha="center", fontsize=9, color=INK)
    axes.set_xscale("symlog", linthresh=first)
    axes.set_xlim(-0.06 * first, last * apart ** (len(curves) + 1.5))
    axes.xaxis.set_major_formatter(EngFormatter(sep=""))
    note(axes, "dotted: stays at its last return; bars at the right: spread over tasks (standard deviation) there")
    label_ends(axes, ends)
    save(figure, target, title)


def _mark_seconds(axes: Axes, steps: Array, seconds: Array) -> None:
    """Round numbers of seconds at the top, each above the steps that had been taken by then."""
    round_numbers = MaxNLocator(5).tick_values(seconds[0], seconds[-1])
    known = [second for second in round_numbers if seconds[0] <= second <= seconds[-1]]
    top = axes.secondary_xaxis("top")
    top.set_xticks(np.interp(known, seconds, steps), [EngFormatter(sep="")(second) for second in known])
    top.set_xlabel("seconds of training, tests not counted", fontsize=10, color=INK)
    top.tick_params(labelsize=9, colors=INK, length=3)
    top.spines["top"].set_color("#888888")


def _draw_adaptation(axes: Axes, curves: Mapping[str, Curve], remark: str = OVER_TASKS) -> None:
    style(axes, "gradient steps", "return")
    ends = []
    for i, (label, curve) in enumerate(curves.items()):
        end = draw_curve(axes, np.arange(len(curve)), curve, i, line=2.0, marker=4.5)
        ends.append((end, label, stroke(i)[0]))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    note(axes, remark)
    label_ends(axes, ends)


def _draw_returns(figure: FigureBase, returns: TaskReturns) -> None:
    if _is_map(returns):
        _draw_maps(figure, returns)
    else:
        _draw_pairs(figure.add_subplot(), returns)


def _draw_pairs(axes: Axes, returns: TaskReturns) -> None:
    """Two markers for each task, joined by a line."""
    style(axes, str(returns.label), "return")
    x = np.arange(len(returns.before)) if returns.parameter is None else returns.parameter
    if returns.parameter is None:
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    elif (places := categories(axes, returns.parameter)) is not None:
        x = places
    axes.vlines(x, returns.before, returns.after, color=FAINT, linewidth=1.0, zorder=1)
    hollow = axes.scatter(x, returns.before, s=22, label="before", zorder=2)
    hollow.set(facecolor="white", edgecolor=BEFORE, linewidth=1.3)
    axes.scatter(x, returns.after, s=24, color=AFTER, linewidth=0, label="after adaptation", zorder=3)
    axes.legend(
        loc="lower left", bbox_to_anchor=(0.0, 1.0), ncols=2, frameon=False, fontsize=9, borderpad=0.2,
        handletextpad=0.2, columnspacing=1.2, labelcolor=INK,
    )  # fmt: skip


def _draw_maps(figure: FigureBase, returns: TaskReturns) -> None:
    """Two maps over a two-dimensional parameter, before and after, with one colour scale below both."""
    assert returns.parameter is not None
    both = np.concatenate([returns.before, returns.after])
    finite = both[np.isfinite(both)] if np.isfinite(both).any() else np.array([0.0, 1.0])
    norm = Normalize(float(finite.min()), float(finite.max()))
    panels = figure.subplots(1, 2, sharex=True, sharey=True)
    halves = (("before", returns.before), ("after adaptation", returns.after))
    dots = []
    for axes, (name, values) in zip(panels, halves, strict=True):
        style(axes, returns.label[0], returns.label[1] if name == "before" else "")
        axes.set_title(name, fontsize=10, color=INK)
        axes.set_box_aspect(1)
        dots.append(axes.scatter(*returns.parameter.T, s=42, c=values, cmap="viridis", norm=norm))
        dots[-1].set(edgecolor=FAINT, linewidth=0.5)
    bar = figure.colorbar(dots[0], ax=panels, location="bottom", shrink=0.6, aspect=30, pad=0.03)
    bar.set_label("return", fontsize=10, color=INK)
    bar.ax.tick_params(labelsize=9, colors=INK)
    bar.outline.set_visible(False)


def _is_map(returns: TaskReturns) -> bool:
    return returns.parameter is not None and returns.parameter.ndim == 2


def _running_mean(values: Array, window: int) -> Array:
    """(I,) mean of the last `window` values up to each, without NaN."""
    return np.array([_mean(values[max(0, i + 1 - window) : i + 1]) for i in range(len(values))])


def _mean(values: Array) -> float:
    finite = values[np.isfinite(values)]
    return float(finite.mean()) if len(finite) else float("nan")
