"""Figures of few-shot regression."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FormatStrFormatter, LogLocator, NullFormatter

from metarl.figures.style import (
    BLUE,
    CURVES,
    FAINT,
    INK,
    SKY,
    VERMILLION,
    Array,
    Target,
    columns,
    draw_curve,
    empty,
    save,
    style,
)
from metarl.statistics import Curve

SHOWN = ((0, VERMILLION, ":"), (1, SKY, "-"), (10, BLUE, "-"))
"""Gradient steps after which a curve is drawn, with colour and line."""


@dataclass(frozen=True)
class Fit:
    """One sinusoid and a network that adapts to it."""

    inputs: Array
    """(G,) inputs x at which the curves are drawn."""
    true: Array
    """(G,) values of the sinusoid there."""
    few: tuple[Array, Array]
    """Inputs (P,) and values (P,) of the points that the network adapts to."""
    curves: Sequence[Array]
    """(G,) each: outputs of the network after 0, 1, 2, … gradient steps."""


def sinusoids(target: Target, fits: Mapping[str, Fit], errors: Mapping[str, Curve], title: str) -> None:
    """Draw the curve of each network before adaptation and after 1 and 10 steps, and all errors against the steps.

    Args:
        fits: network -> its fit of one sinusoid.
        errors: network -> estimates of the mean squared error after 0, 1, 2, … gradient steps.
    """
    figure = empty(4.0 * (len(fits) + 1), 3.6)
    panels = figure.subplots(1, len(fits) + 1)
    for axes, (name, fit) in zip(panels, fits.items(), strict=False):
        _draw_fit(axes, fit)
        axes.set_title(name, fontsize=10, color=INK)
        axes.set_ylim(*_range(fits))
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=5, frameon=False, fontsize=9, labelcolor=INK)
    _draw_errors(panels[-1], errors)
    save(figure, target, title)


def _draw_fit(axes: Axes, fit: Fit) -> None:
    style(axes, "x", "y")
    axes.plot(fit.inputs, fit.true, color=FAINT, linewidth=4.0, label="true")
    for steps, colour, line in SHOWN:
        if steps < len(fit.curves):
            label = f"after {steps} step{'s' * (steps != 1)}" if steps else "before"
            axes.plot(fit.inputs, fit.curves[steps], line, color=colour, linewidth=1.6, label=label)
    axes.plot(*fit.few, "^", color=INK, markersize=5, label="points seen")


def _range(fits: Mapping[str, Fit]) -> tuple[float, float]:
    """Limits of the y axis: the range of the true values, and half of it above and below."""
    true = np.concatenate([fit.true for fit in fits.values()])
    reach = max(float(true.max() - true.min()), 1.0)
    return float(true.min()) - 0.5 * reach, float(true.max()) + 0.5 * reach


def _draw_errors(axes: Axes, errors: Mapping[str, Curve]) -> None:
    """Draw errors against gradient steps, on a logarithmic scale."""
    style(axes, "gradient steps", "mean squared error")
    axes.set_yscale("log")
    axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axes.yaxis.set_major_formatter(FormatStrFormatter("%g"))
    axes.yaxis.set_minor_formatter(NullFormatter())
    for i, curve in enumerate(errors.values()):
        draw_curve(axes, np.arange(len(curve)), curve, i, marker=4)
    colours = dict(zip(errors, CURVES, strict=False))
    low, high = np.log10(axes.get_ylim())
    for name, curve in errors.items():
        height = (np.log10(columns(curve)[0][-1]) - low) / (high - low)
        axes.text(0.98, height + 0.03, name, transform=axes.transAxes, ha="right", fontsize=9, color=colours[name])
