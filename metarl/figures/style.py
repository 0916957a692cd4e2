"""What all figures have in common.

They are drawn through Matplotlib's object interface, so no global state stays changed and no display is needed.
Colours are of the Okabe-Ito palette, which colour-blind readers can tell apart.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TextIO, TypeAlias

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from numpy.typing import NDArray

BLUE, VERMILLION, GREEN = "#0072B2", "#D55E00", "#009E73"
PURPLE, ORANGE, SKY = "#CC79A7", "#E69F00", "#56B4E9"
CURVES = (BLUE, VERMILLION, GREEN, PURPLE, ORANGE, SKY)
Dashes = Literal["-", "--", ":"]
DASHES: tuple[Dashes, ...] = ("-", "--", ":")
INK, FAINT = "#333333", "#B8B8B8"
DPI = 150
LINE_HEIGHT = 0.063  # of a label at a line's end, as a share of the axes' height

Array = NDArray[np.floating]
Target: TypeAlias = Path | TextIO
"""Where a figure goes: as PNG to a path, or as SVG into a stream of text."""


@dataclass(frozen=True)
class Curve:
    """A statistic and its 95% interval, at P points (for an adaptation curve, P = K + 1)."""

    mean: Array
    """(P,)"""
    low: Array
    """(P,) lower end of the interval."""
    high: Array
    """(P,) upper end of the interval."""

    def __post_init__(self) -> None:
        check_lengths(mean=self.mean, low=self.low, high=self.high)


def empty(width: float, height: float) -> Figure:
    """An empty figure of `width` by `height` [inches]."""
    return Figure(figsize=(width, height), dpi=DPI, facecolor="white", layout="constrained")


def style(axes: Axes, xlabel: str, ylabel: str) -> Axes:
    """Labels, a faint grid and no frame."""
    axes.set_xlabel(xlabel, fontsize=10, color=INK)
    axes.set_ylabel(ylabel, fontsize=10, color=INK)
    axes.tick_params(labelsize=9, colors=INK, length=3)
    axes.grid(axis="y", color="#E6E6E6", linewidth=0.7)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color("#888888")
    return axes


def stroke(i: int) -> tuple[str, Dashes]:
    """Colour and dashes of the i-th curve: the colours in turn, and then again with other dashes."""
    return CURVES[i % len(CURVES)], DASHES[i // len(CURVES) % len(DASHES)]


def note(axes: Axes, text: str) -> None:
    """A remark under the title."""
    axes.set_title(text, fontsize=8, color="#777777", loc="left")


def label_ends(axes: Axes, ends: Sequence[tuple[float, str, str]]) -> None:
    """Write (y, text, colour) beside the right edge at height y, moved apart where labels would overlap."""
    low, high = axes.get_ylim()
    axes.set_ylim(low, high)
    ends = sorted((end for end in ends if np.isfinite(end[0])), key=lambda end: end[0])
    lines = [text.count("\n") + 1 for _, text, _ in ends]
    heights = spread([(y - low) / (high - low) for y, _, _ in ends], lines)
    for height, (_, text, colour) in zip(heights, ends, strict=True):
        axes.text(
            1.015, height, text, transform=axes.transAxes, va="center", fontsize=9, color=colour, parse_math=False
        )


def key(axes: Axes, labels: Sequence[str]) -> None:
    """What each curve in turn is, beside the axes, for curves that end at one place."""
    lines = [Line2D([], [], color=stroke(i)[0], linestyle=stroke(i)[1], linewidth=2.0) for i in range(len(labels))]
    legend = axes.legend(
        lines, labels, loc="upper left", bbox_to_anchor=(1.0, 1.0), frameon=False, fontsize=9, handlelength=1.6,
        labelcolor=[stroke(i)[0] for i in range(len(labels))],
    )  # fmt: skip
    for text in legend.get_texts():
        text.set_parse_math(False)


def spread(heights: Sequence[float], lines: Sequence[int]) -> list[float]:
    """Ascending `heights`, as shares of the axes' height, moved apart so that labels of `lines` lines fit.

    They stay beside the axes, unless there are too many of them.
    """
    spread, halves = list(heights), [LINE_HEIGHT * n / 2 for n in lines]
    inside = sum(halves) <= 0.5
    for _ in range(200):  # neighbours push each other, evenly; far more rounds than a few labels need
        if inside and spread:
            spread[0] = max(spread[0], halves[0])
            spread[-1] = min(spread[-1], 1 - halves[-1])
        for i in range(1, len(spread)):
            overlap = halves[i - 1] + halves[i] - (spread[i] - spread[i - 1])
            if overlap > 0:
                spread[i - 1] -= overlap / 2
                spread[i] += overlap / 2
    return spread


def check_lengths(**arrays: np.ndarray) -> None:
    """Refuse arrays that are not one-dimensional, not of one length, or empty."""
    shapes = {name: np.shape(array) for name, array in arrays.items()}
    shape = next(iter(shapes.values()))
    if len(shape) != 1 or shape[0] == 0 or set(shapes.values()) != {shape}:
        raise ValueError(f"one length is needed, and at least one point; got {shapes}")


def save(figure: Figure, target: Target, title: str) -> None:
    """Write the figure with its title, or without one where that is empty."""
    if title:
        figure.suptitle(title, fontsize=11, color=INK)
    if isinstance(target, Path):
        target.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(target, format="png")
        return
    nobody = dict.fromkeys(("Creator", "Date", "Format", "Type"))
    # Letters stay text, and the same figure has the same ids wherever it is drawn.
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": "metarl"}):
        figure.savefig(target, format="svg", facecolor="none", metadata=nobody)


def svg(draw: Callable[..., None], *args: Any, **kwargs: Any) -> str:
    """What `draw(target, …)`, a function of this package, draws: as SVG text, the same at every call."""
    stream = io.StringIO()
    draw(stream, *args, **kwargs)
    return stream.getvalue()
