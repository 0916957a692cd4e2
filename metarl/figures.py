"""Figures of adaptation as PNG files: adaptation curves, return per task, learning curves.

Drawn through Matplotlib's object interface, so no global state is touched and no display is needed.
Colours are of the Okabe-Ito palette, which colour-blind readers can tell apart.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import Normalize
from matplotlib.figure import Figure, FigureBase
from matplotlib.ticker import EngFormatter, MaxNLocator
from numpy.typing import NDArray

BLUE, VERMILLION, GREEN = "#0072B2", "#D55E00", "#009E73"
PURPLE, ORANGE, SKY = "#CC79A7", "#E69F00", "#56B4E9"
CURVES = (BLUE, VERMILLION, GREEN, PURPLE, ORANGE, SKY)
BEFORE, AFTER = VERMILLION, BLUE
BANDS = (SKY, ORANGE, PURPLE)
INK, FAINT = "#333333", "#B8B8B8"
DPI = 150
LINE_HEIGHT = 0.063  # of a label at a line's end, as a share of the axes' height

Array = NDArray[np.floating]


@dataclass(frozen=True)
class Curve:
    """A mean over tasks and its 95% interval, at P points (for an adaptation curve, P = K + 1)."""

    mean: Array
    """(P,)"""
    low: Array
    """(P,) lower end of the interval."""
    high: Array
    """(P,) upper end of the interval."""

    def __post_init__(self) -> None:
        _check_lengths(mean=self.mean, low=self.low, high=self.high)


@dataclass(frozen=True)
class TaskReturns:
    """The return on each of M tasks before and after adaptation, and where the tasks lie."""

    before: Array
    """(M,)"""
    after: Array
    """(M,)"""
    parameter: Array | None = None
    """(M,) or (M, 2) what distinguishes the tasks, e.g. a goal velocity; None: tasks are numbered."""
    label: str | tuple[str, str] = "task"
    """What `parameter` is, with its unit; two labels where it has two columns."""
    bands: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    """Named ranges of a one-dimensional parameter, e.g. `{"training": (0.0, 2.0)}`."""

    def __post_init__(self) -> None:
        _check_lengths(before=self.before, after=self.after)
        if self.parameter is None:
            return
        if self.parameter.shape not in ((len(self.before),), (len(self.before), 2)):
            raise ValueError(f"parameter is (M,) or (M, 2) with M = {len(self.before)}, got {self.parameter.shape}")
        if (self.parameter.ndim == 2) != isinstance(self.label, tuple):
            raise ValueError(f"parameter {self.parameter.shape} needs a label for each column, got {self.label!r}")


def adaptation_curve(path: Path, curves: Mapping[str, Curve], title: str, ylabel: str = "return") -> None:
    """Return against gradient steps 0..K, a line for each of `curves`, labelled at its end.

    The first curve, in blue, is the one that the figure is about; draw "random initialization" after it.
    """
    figure = _figure(5.6, 3.6)
    _draw_adaptation(figure.add_subplot(), curves, ylabel)
    _save(figure, path, title)


def return_per_task(path: Path, returns: TaskReturns, title: str, ylabel: str = "return") -> None:
    """Return on each task before and after adaptation.

    Along a one-dimensional parameter (or the task's number) two markers per task are joined by a line; over a
    two-dimensional one, before and after are two maps with one colour scale.
    """
    figure = _figure(7.2 if _is_map(returns) else 5.6, 3.6)
    _draw_returns(figure, returns, ylabel)
    _save(figure, path, title)


def evaluation_figure(
    path: Path, curves: Mapping[str, Curve], returns: TaskReturns, title: str, ylabel: str = "return"
) -> None:
    """`adaptation_curve` on the left and `return_per_task` on the right."""
    widths = [1.0, 1.4 if _is_map(returns) else 1.0]
    figure = _figure(5.2 * sum(widths), 3.8)
    left, right = figure.subfigures(1, 2, squeeze=False, width_ratios=widths, wspace=0.04)[0]
    _draw_adaptation(left.add_subplot(), curves, ylabel)
    _draw_returns(right, returns, ylabel)
    _save(figure, path, title)


def learning_curve(
    path: Path,
    environment_steps: NDArray[np.integer],
    before: Array,
    after: Array,
    title: str,
    *,
    tested: tuple[NDArray[np.integer], Curve] | None = None,
    tested_on: str = "held-out",
    ylabel: str = "return",
) -> None:
    """Return on training tasks before and after adaptation, against environment steps.

    Args:
        environment_steps: (I,) steps taken in all tasks together, at each iteration.
        before, after: (I,) mean return; drawn faintly, with a running mean over a fiftieth of the iterations.
        tested: (J,) environment steps and the curve of J evaluations on the tasks of the split `tested_on`.
    """
    _check_lengths(environment_steps=environment_steps, before=before, after=after)
    figure = _figure(5.6, 3.6)
    axes = _style(figure.add_subplot(), "environment steps", ylabel)
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
        _check_lengths(tested=steps, mean=curve.mean)
        reach = np.stack([curve.mean - curve.low, curve.high - curve.mean])
        axes.errorbar(steps, curve.mean, reach, color=INK, fmt="o-", markersize=4, linewidth=1.0, capsize=2.5, zorder=3)
        ends.append((float(curve.mean[-1]), f"after, {tested_on} tasks\n(95% interval)", INK))
    _label_ends(axes, ends)
    _save(figure, path, title)


def _draw_adaptation(axes: Axes, curves: Mapping[str, Curve], ylabel: str) -> None:
    _style(axes, "gradient steps", ylabel)
    ends = []
    for i, (label, curve) in enumerate(curves.items()):
        steps, colour = np.arange(len(curve.mean)), CURVES[i % len(CURVES)]
        axes.fill_between(steps, curve.low, curve.high, color=colour, alpha=0.18, linewidth=0)
        axes.plot(steps, curve.mean, "o-", color=colour, linewidth=2.0, markersize=4.5)
        ends.append((float(curve.mean[-1]), label, colour))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    _note(axes, "band: 95% interval over tasks")
    _label_ends(axes, ends)


def _draw_returns(figure: FigureBase, returns: TaskReturns, ylabel: str) -> None:
    if _is_map(returns):
        _draw_maps(figure, returns, ylabel)
    else:
        _draw_pairs(figure.add_subplot(), returns, ylabel)


def _draw_pairs(axes: Axes, returns: TaskReturns, ylabel: str) -> None:
    """Two markers for each task, joined by a line."""
    x = np.arange(len(returns.before)) if returns.parameter is None else returns.parameter
    _style(axes, str(returns.label), ylabel)
    for (name, (low, high)), colour in zip(returns.bands.items(), BANDS, strict=False):
        axes.axvspan(low, high, color=colour, alpha=0.14, linewidth=0, zorder=0)
        middle = ((low + high) / 2, 0.015)
        axes.annotate(name, middle, xycoords=("data", "axes fraction"), ha="center", fontsize=8, color=INK)
    axes.vlines(x, returns.before, returns.after, color=FAINT, linewidth=1.0, zorder=1)
    hollow = axes.scatter(x, returns.before, s=22, label="before", zorder=2)
    hollow.set(facecolor="white", edgecolor=BEFORE, linewidth=1.3)
    axes.scatter(x, returns.after, s=24, color=AFTER, linewidth=0, label="after adaptation", zorder=3)
    if returns.parameter is None:
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.legend(
        loc="lower left", bbox_to_anchor=(0.0, 1.0), ncols=2, frameon=False, fontsize=9, borderpad=0.2,
        handletextpad=0.2, columnspacing=1.2, labelcolor=INK,
    )  # fmt: skip


def _draw_maps(figure: FigureBase, returns: TaskReturns, ylabel: str) -> None:
    """Two maps over a two-dimensional parameter, before and after, with one colour scale."""
    assert returns.parameter is not None
    both = np.concatenate([returns.before, returns.after])
    norm = Normalize(float(np.nanmin(both)), float(np.nanmax(both)))
    panels = figure.subplots(1, 2, sharex=True, sharey=True)
    halves = (("before", returns.before), ("after adaptation", returns.after))
    dots = []
    for axes, (name, values) in zip(panels, halves, strict=True):
        _style(axes, returns.label[0], returns.label[1] if name == "before" else "")
        axes.set_title(name, fontsize=10, color=INK)
        axes.set_box_aspect(1)
        dots.append(axes.scatter(*returns.parameter.T, s=42, c=values, cmap="viridis", norm=norm))
        dots[-1].set(edgecolor="white", linewidth=0.5)
    bar = figure.colorbar(dots[0], ax=panels, shrink=0.9, pad=0.02)
    bar.set_label(ylabel, fontsize=10, color=INK)
    bar.ax.tick_params(labelsize=9, colors=INK)
    bar.outline.set_visible(False)


def _is_map(returns: TaskReturns) -> bool:
    return returns.parameter is not None and returns.parameter.ndim == 2


def _figure(width: float, height: float) -> Figure:
    """An empty figure of `width` by `height` [inches]."""
    return Figure(figsize=(width, height), dpi=DPI, facecolor="white", layout="constrained")


def _style(axes: Axes, xlabel: str, ylabel: str) -> Axes:
    axes.set_xlabel(xlabel, fontsize=10, color=INK)
    axes.set_ylabel(ylabel, fontsize=10, color=INK)
    axes.tick_params(labelsize=9, colors=INK, length=3)
    axes.grid(axis="y", color="#E6E6E6", linewidth=0.7)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color("#888888")
    return axes


def _note(axes: Axes, text: str) -> None:
    """A remark under the title."""
    axes.set_title(text, fontsize=8, color="#777777", loc="left")


def _label_ends(axes: Axes, ends: Sequence[tuple[float, str, str]]) -> None:
    """Write (y, text, colour) beside the right edge at height y, moved apart where labels would overlap."""
    low, high = axes.get_ylim()
    axes.set_ylim(low, high)
    ends = sorted((end for end in ends if np.isfinite(end[0])), key=lambda end: end[0])
    lines = [text.count("\n") + 1 for _, text, _ in ends]
    heights = _spread([(y - low) / (high - low) for y, _, _ in ends], lines)
    for height, (_, text, colour) in zip(heights, ends, strict=True):
        axes.text(1.015, height, text, transform=axes.transAxes, va="center", fontsize=9, color=colour)


def _spread(heights: Sequence[float], lines: Sequence[int]) -> list[float]:
    """Ascending `heights`, as shares of the axes' height, moved apart so that labels of `lines` lines fit."""
    spread = list(heights)
    for _ in range(50):  # neighbours push each other, evenly; far more rounds than a few labels need
        for i in range(1, len(spread)):
            overlap = LINE_HEIGHT * (lines[i - 1] + lines[i]) / 2 - (spread[i] - spread[i - 1])
            if overlap > 0:
                spread[i - 1] -= overlap / 2
                spread[i] += overlap / 2
    return spread


def _running_mean(values: Array, window: int) -> Array:
    """(I,) mean over the last `window` values, or as many as there are; NaN entries are left out."""
    return np.array([_mean(values[max(0, i + 1 - window) : i + 1]) for i in range(len(values))])


def _mean(values: Array) -> float:
    finite = values[np.isfinite(values)]
    return float(finite.mean()) if len(finite) else float("nan")


def _check_lengths(**arrays: np.ndarray) -> None:
    """Refuse arrays that are not one-dimensional, not of one length, or empty."""
    shapes = {name: np.shape(array) for name, array in arrays.items()}
    shape = next(iter(shapes.values()))
    if len(shape) != 1 or shape[0] == 0 or set(shapes.values()) != {shape}:
        raise ValueError(f"one length is needed, and at least one point; got {shapes}")


def _save(figure: Figure, path: Path, title: str) -> None:
    figure.suptitle(title, fontsize=11, color=INK)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, format="png")
