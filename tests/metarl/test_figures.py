"""Figures come out at their size, show their data, and touch no global state of Matplotlib."""

import subprocess
import sys

import matplotlib
import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from metarl import figures
from metarl.figures import (
    Curve,
    TaskReturns,
    adaptation_curve,
    evaluation_figure,
    learning_curve,
    return_per_task,
)


def curve(start: float, gain: float, points: int = 4) -> Curve:
    mean = start + gain * (1 - 0.3 ** np.arange(points))
    return Curve(mean, mean - 5, mean + 5)


CURVES = {"meta-learned": curve(-80, 60), "random initialization": curve(-150, 10)}
PAIRS = TaskReturns(np.linspace(-90, -60, 12), np.linspace(-30, -20, 12))
LINE = TaskReturns(PAIRS.before, PAIRS.after, np.linspace(0, 3, 12), "goal [m/s]", {"training": (0, 2)})
PLANE = TaskReturns(PAIRS.before, PAIRS.after, np.random.default_rng(0).normal(size=(12, 2)), ("x [m]", "y [m]"))
STEPS = np.arange(1, 201) * 8000


@pytest.fixture
def drawn(monkeypatch) -> list[Figure]:
    """The figures that were saved, to look into."""
    seen = []
    save = Figure.savefig
    monkeypatch.setattr(Figure, "savefig", lambda figure, *args, **kw: (seen.append(figure), save(figure, *args, **kw)))
    return seen


def texts(figure: Figure) -> set[str]:
    return {text.get_text() for text in figure.findobj(matplotlib.text.Text)}


@pytest.mark.parametrize(
    ("draw", "size"),
    [
        (lambda path: adaptation_curve(path, CURVES, "title"), (840, 540)),
        (lambda path: return_per_task(path, PAIRS, "title"), (840, 540)),
        (lambda path: return_per_task(path, LINE, "title"), (840, 540)),
        (lambda path: return_per_task(path, PLANE, "title"), (1080, 540)),
        (lambda path: evaluation_figure(path, CURVES, LINE, "title"), (1560, 570)),
        (lambda path: evaluation_figure(path, CURVES, PLANE, "title"), (1872, 570)),
        (lambda path: learning_curve(path, STEPS, STEPS * 1e-5, STEPS * 2e-5, "title"), (840, 540)),
    ],
)
def test_a_png_of_its_size(tmp_path, draw, size):
    path = tmp_path / "new" / "figure.png"
    draw(path)
    with Image.open(path) as image:
        assert image.format == "PNG"
        assert image.size == size
        pixels = np.asarray(image.convert("RGB"))
    assert (pixels[0, 0] == 255).all()  # a white background …
    assert len(np.unique(pixels.reshape(-1, 3), axis=0)) > 50  # … with something on it
    assert path.stat().st_size < 200_000


def test_curves_are_drawn_as_given_and_labelled_at_their_ends(tmp_path, drawn):
    adaptation_curve(tmp_path / "a.png", CURVES, "the title", ylabel="mean return")
    [axes] = drawn[0].axes
    for line, expected in zip(axes.lines, CURVES.values(), strict=True):
        np.testing.assert_array_equal(line.get_xydata(), np.stack([np.arange(4), expected.mean], axis=1))
    bands = [band.get_paths()[0].vertices[:, 1] for band in axes.collections]
    assert [(band.min(), band.max()) for band in bands] == [
        (expected.low.min(), expected.high.max()) for expected in CURVES.values()
    ]
    for text, line, name in zip(reversed(axes.texts), axes.lines, CURVES, strict=True):
        assert (text.get_text(), text.get_color()) == (name, line.get_color())
    assert {"the title", "mean return", "gradient steps"} <= texts(drawn[0])


def test_tasks_lie_at_their_parameter(tmp_path, drawn):
    return_per_task(tmp_path / "a.png", LINE, "title")
    before, after = (dots.get_offsets() for dots in drawn[0].axes[0].collections[1:])
    np.testing.assert_allclose(before, np.stack([LINE.parameter, LINE.before], axis=1))
    np.testing.assert_allclose(after, np.stack([LINE.parameter, LINE.after], axis=1))
    assert {"goal [m/s]", "training", "before", "after adaptation"} <= texts(drawn[0])


def test_tasks_without_a_parameter_are_numbered(tmp_path, drawn):
    return_per_task(tmp_path / "a.png", PAIRS, "title")
    assert drawn[0].axes[0].collections[1].get_offsets()[:, 0].tolist() == list(range(12))


def test_both_maps_share_one_colour_scale(tmp_path, drawn):
    return_per_task(tmp_path / "a.png", PLANE, "title")
    before, after = (axes.collections[0] for axes in drawn[0].axes[:2])
    assert before.get_clim() == after.get_clim() == (-90, -20)
    np.testing.assert_array_equal(before.get_array(), PLANE.before)
    np.testing.assert_array_equal(after.get_array(), PLANE.after)


def test_learning_curve_shows_the_held_out_interval(tmp_path, drawn):
    held_out = (STEPS[::50], curve(0, 1))
    learning_curve(tmp_path / "a.png", STEPS, STEPS * 0.0, STEPS * 0.0 + 3, "title", tested=held_out)
    [axes] = drawn[0].axes
    [(_, _, (interval,))] = axes.containers
    for (bottom, top), low, high in zip(interval.get_segments(), held_out[1].low, held_out[1].high, strict=True):
        np.testing.assert_allclose((bottom[1], top[1]), (low, high))
    smooth = axes.lines[1].get_xydata()
    np.testing.assert_allclose(smooth, np.stack([STEPS, np.full(200, 3.0)], axis=1))


def test_running_mean_by_hand():
    smooth = figures._running_mean(np.array([1.0, 3.0, np.nan, 7.0]), 2)
    np.testing.assert_allclose(smooth, [1, 2, 3, 7])


def test_labels_that_would_overlap_are_moved_apart_evenly():
    gap = figures.LINE_HEIGHT
    np.testing.assert_allclose(figures._spread([0.2, 0.5], [1, 1]), [0.2, 0.5])
    np.testing.assert_allclose(figures._spread([0.5, 0.5], [1, 1]), [0.5 - gap / 2, 0.5 + gap / 2])
    assert np.diff(figures._spread([0.5, 0.5, 0.52], [1, 2, 1])).min() > 1.4 * gap


def test_values_that_are_not_finite_leave_gaps(tmp_path):
    hole = np.array([-1.0, np.nan, -2.0])
    adaptation_curve(tmp_path / "a.png", {"a": Curve(hole[::-1], hole, hole), "b": Curve(*[hole * np.nan] * 3)}, "t")
    learning_curve(tmp_path / "b.png", np.arange(3), hole, hole * np.nan, "t")


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: Curve(np.zeros(3), np.zeros(3), np.zeros(2)), "one length"),
        (lambda: Curve(np.zeros(0), np.zeros(0), np.zeros(0)), "at least one point"),
        (lambda: TaskReturns(np.zeros(3), np.zeros(2)), "one length"),
        (lambda: TaskReturns(np.zeros(3), np.zeros(3), np.zeros((3, 3))), r"\(M, 2\) with M = 3"),
        (lambda: TaskReturns(np.zeros(3), np.zeros(3), np.zeros((3, 2)), "goal"), "a label for each column"),
    ],
)
def test_malformed_data_is_refused(build, message):
    with pytest.raises(ValueError, match=message):
        build()


def test_pyplot_is_never_loaded_and_settings_stay(tmp_path):
    """In a process of its own, as another test may have loaded pyplot."""
    program = f"""
import sys, pathlib, matplotlib, numpy as np
settings = matplotlib.rcParams.copy()
from metarl.figures import *
flat = Curve(*[np.zeros(2)] * 3)
returns = TaskReturns(np.zeros(2), np.ones(2))
evaluation_figure(pathlib.Path({str(tmp_path)!r}) / "a.png", {{"a": flat}}, returns, "t")
assert matplotlib.rcParams.copy() == settings
assert "matplotlib.pyplot" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)
