"""Colours, axes, curves with bands, labels, and saving, for all figures.

Figures use Matplotlib's object interface, which needs no display and no global state. The colours are those of the
Okabe-Ito palette, which colour-blind readers can tell apart.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal, TextIO, TypeAlias

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.text import Text
from numpy.typing import NDArray

from metarl.statistics import Curve
from metarl.system.files import write_atomically

BLUE, VERMILLION, GREEN = "#0072B2", "#D55E00", "#009E73"
PURPLE, ORANGE, SKY = "#CC79A7", "#E69F00", "#56B4E9"
CURVES = (BLUE, VERMILLION, GREEN, PURPLE, ORANGE, SKY)
Dashes = Literal["-", "--", ":"]
DASHES: tuple[Dashes, ...] = ("-", "--", ":")
INK, FAINT = "#333333", "#B8B8B8"
DPI = 150
LINE_HEIGHT = 0.063
"""Height of a line of text in a label, relative to the height of the axes."""
CATEGORIES = 2
"""With at most so many different values, an axis has categories instead of a continuous scale."""

Array = NDArray[np.floating]
Target: TypeAlias = Path | TextIO
"""Where a figure is saved: as PNG at a path, or as SVG in a text stream."""


def empty(width: float, height: float) -> Figure:
    """An empty figure of `width` by `height` [inches]."""
    return Figure(figsize=(width, height), dpi=DPI, facecolor="white", layout="constrained")


def style(axes: Axes, xlabel: str, ylabel: str) -> Axes:
    """Give axes labels and a faint grid, without a frame."""
    axes.set_xlabel(xlabel, fontsize=10, color=INK)
    axes.set_ylabel(ylabel, fontsize=10, color=INK)
    axes.tick_params(labelsize=9, colors=INK, length=3)
    axes.grid(axis="y", color="#E6E6E6", linewidth=0.7)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color("#888888")
    return axes


def columns(curve: Curve) -> tuple[Array, Array, Array]:
    """The values of P estimates, and the lower and upper ends of their intervals or spreads; (P,) each.

    Errors: ValueError where there is none.
    """
    if not len(curve):
        raise ValueError("a curve needs at least one point")
    value, low, high = np.array([(e.value, *e.band) for e in curve], dtype=float).T
    return value, low, high


def reach(curve: Curve) -> Array:
    """(2, P): distance of each value to the lower and to the upper end of its interval or spread, for error bars."""
    value, low, high = columns(curve)
    return np.stack([value - low, high - value])


def draw_curve(axes: Axes, x: np.ndarray, curve: Curve, i: int, line: float = 1.8, marker: float = 3.5) -> float:
    """Draw the i-th line of a figure, with the band of its intervals or spreads.

    Args:
        x: (P,) of the points.
        line, marker: line width and marker size [pt]; a marker size of 0: no markers.

    Returns:
        The last value of the curve.
    """
    value, low, high = columns(curve)
    check_lengths(x=x, value=value)
    colour, dashes = stroke(i)
    axes.fill_between(x, low, high, color=colour, alpha=0.18, linewidth=0)
    axes.plot(x, value, marker="o" if marker else "", linestyle=dashes, color=colour, linewidth=line, markersize=marker)
    return float(value[-1])


def categories(axes: Axes, parameter: Array) -> Array | None:
    """Give the x axis a tick for each different value; (M,) ticks 0, 1, …, or None for more than CATEGORIES values."""
    values, places = np.unique(parameter, return_inverse=True)
    if len(values) > CATEGORIES:
        return None
    axes.set_xticks(range(len(values)), [f"{value:g}".replace("-", "−") for value in values])
    axes.set_xlim(-0.6, len(values) - 0.4)
    return places.astype(float)


def stroke(i: int) -> tuple[str, Dashes]:
    """Colour and dashes of the i-th curve: all colours, then all colours with other dashes."""
    return CURVES[i % len(CURVES)], DASHES[i // len(CURVES) % len(DASHES)]


def note(axes: Axes, text: str) -> None:
    """A remark under the title."""
    axes.set_title(text, fontsize=8, color="#777777", loc="left")


def label_ends(axes: Axes, ends: Sequence[tuple[float, str, str]]) -> None:
    """Write labels (y, text, colour) at height y beside the right edge; labels that would overlap are moved apart."""
    low, high = axes.get_ylim()
    axes.set_ylim(low, high)
    ends = sorted((end for end in ends if np.isfinite(end[0])), key=lambda end: end[0])
    lines = [text.count("\n") + 1 for _, text, _ in ends]
    heights = spread([(y - low) / (high - low) for y, _, _ in ends], lines)
    for height, (_, text, colour) in zip(heights, ends, strict=True):
        axes.text(1.015, height, text, transform=axes.transAxes, va="center", fontsize=9, color=colour)


def key(axes: Axes, labels: Sequence[str]) -> None:
    """A legend beside the axes, for curves that end at one place."""
    lines = [Line2D([], [], color=stroke(i)[0], linestyle=stroke(i)[1], linewidth=2.0) for i in range(len(labels))]
    axes.legend(
        lines, labels, loc="upper left", bbox_to_anchor=(1.0, 1.0), frameon=False, fontsize=9, handlelength=1.6,
        labelcolor=[stroke(i)[0] for i in range(len(labels))],
    )  # fmt: skip


def spread(heights: Sequence[float], lines: Sequence[int]) -> list[float]:
    """Move labels apart so that they do not overlap, and do not leave the axes unless there are too many.

    Args:
        heights: ascending, relative to the height of the axes.
        lines: number of lines of each label.
    """
    spread, halves = list(heights), [LINE_HEIGHT * n / 2 for n in lines]
    inside = sum(halves) <= 0.5
    for _ in range(200):  # neighbours push each other apart; a few labels need far fewer rounds
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
    """Raise ValueError where arrays are empty, not one-dimensional, or of different lengths."""
    shapes = {name: np.shape(array) for name, array in arrays.items()}
    shape = next(iter(shapes.values()))
    if len(shape) != 1 or shape[0] == 0 or set(shapes.values()) != {shape}:
        raise ValueError(f"one length is needed, and at least one point; got {shapes}")


def save(figure: Figure, target: Target, title: str) -> None:
    """Save a figure, with a title unless it is empty. A dollar sign in a text is no mathematics.

    Errors: `OSError` where the path cannot be written.
    """
    if title:
        figure.suptitle(title, fontsize=11, color=INK)
    for text in figure.findobj(Text):
        text.set_parse_math(False)
    if isinstance(target, Path):
        png = io.BytesIO()
        figure.savefig(png, format="png")
        write_atomically(target, png.getvalue())
        return
    no_metadata = dict.fromkeys(("Creator", "Date", "Format", "Type"))
    # Letters are text, and the same figure always has the same ids.
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": "metarl"}):
        figure.savefig(target, format="svg", facecolor="none", metadata=no_metadata)


def svg(draw: Callable[..., None], *args: Any, **kwargs: Any) -> str:
    """The figure that `draw(target, …)`, a function of this package, draws, as SVG text."""
    stream = io.StringIO()
    draw(stream, *args, **kwargs)
    return stream.getvalue()
