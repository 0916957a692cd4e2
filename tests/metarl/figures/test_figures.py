"""Figures come out at their size, show their data, and touch no global state of Matplotlib."""

import os
import subprocess
import sys
from xml.etree import ElementTree

import matplotlib
import numpy as np
import pytest
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from PIL import Image

from metarl.figures import adaptation, breadth, comparison, grids, regression, style
from metarl.figures.adaptation import (
    TaskReturns,
    adaptation_curve,
    evaluation_figure,
    learning_curve,
    return_per_task,
    sample_efficiency,
)
from metarl.statistics import Estimate


def curve(start: float, gain: float, points: int = 4) -> list[Estimate]:
    return [Estimate(mean, mean - 5, mean + 5) for mean in start + gain * (1 - 0.3 ** np.arange(points))]


def flat(*values: float) -> list[Estimate]:
    return [Estimate(value, value, value) for value in values]


CURVES = {"meta-learned": curve(-80, 60), "random initialization": curve(-150, 10)}
PAIRS = TaskReturns(np.linspace(-90, -60, 12), np.linspace(-30, -20, 12))
LINE = TaskReturns(PAIRS.before, PAIRS.after, np.linspace(0, 3, 12), "goal [m/s]")
PLANE = TaskReturns(PAIRS.before, PAIRS.after, np.random.default_rng(0).normal(size=(12, 2)), ("x [m]", "y [m]"))
STEPS = np.arange(1, 201) * 8000
LOSS = flat(1.0, 0.1)
METHODS = {
    "meta-learned": (np.arange(4) * 2000, curve(-80, 60)),
    "from scratch": (2000 * 2 ** np.arange(12), curve(-90, 70, 12)),
}


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
        (lambda path: return_per_task(path, PLANE, "title"), (840, 585)),
        (lambda path: evaluation_figure(path, CURVES, LINE, "title"), (1560, 570)),
        (lambda path: evaluation_figure(path, CURVES, PLANE, "title"), (1560, 570)),
        (lambda path: learning_curve(path, STEPS, STEPS * 1e-5, STEPS * 2e-5, "title"), (840, 540)),
        (lambda path: sample_efficiency(path, METHODS, "title", "steps"), (1080, 600)),
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
    adaptation_curve(tmp_path / "a.png", CURVES, "the title")
    [axes] = drawn[0].axes
    for line, expected in zip(axes.lines, CURVES.values(), strict=True):
        np.testing.assert_array_equal(line.get_xydata(), np.stack([np.arange(4), [e.value for e in expected]], axis=1))
    bands = [band.get_paths()[0].vertices[:, 1] for band in axes.collections]
    assert [(band.min(), band.max()) for band in bands] == [
        (min(e.low for e in expected), max(e.high for e in expected)) for expected in CURVES.values()
    ]
    for text, line, name in zip(reversed(axes.texts), axes.lines, CURVES, strict=True):
        assert (text.get_text(), text.get_color()) == (name, line.get_color())
    assert {"the title", "return", "gradient steps"} <= texts(drawn[0])


def test_tasks_lie_at_their_parameter(tmp_path, drawn):
    return_per_task(tmp_path / "a.png", LINE, "title")
    before, after = (dots.get_offsets() for dots in drawn[0].axes[0].collections[1:])
    np.testing.assert_allclose(before, np.stack([LINE.parameter, LINE.before], axis=1))
    np.testing.assert_allclose(after, np.stack([LINE.parameter, LINE.after], axis=1))
    assert {"goal [m/s]", "before", "after adaptation"} <= texts(drawn[0])


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
    for (bottom, top), found in zip(interval.get_segments(), held_out[1], strict=True):
        np.testing.assert_allclose((bottom[1], top[1]), (found.low, found.high))
    smooth = axes.lines[1].get_xydata()
    np.testing.assert_allclose(smooth, np.stack([STEPS, np.full(200, 3.0)], axis=1))


def test_seconds_stand_above_the_steps_taken_by_then(tmp_path, drawn):
    """The second half of the steps took three times as long."""
    clock = np.array([[0, 800_000, 1_600_000], [0.0, 25.0, 100.0]])
    learning_curve(tmp_path / "a.png", STEPS, STEPS * 0.0, STEPS * 0.0, "title", clock=clock)
    (axes,) = drawn[0].axes
    (top,) = axes.child_axes
    assert [label.get_text() for label in top.get_xticklabels()] == ["0", "20", "40", "60", "80", "100"]
    np.testing.assert_allclose(top.get_xticks(), [0, 640e3, 960e3, 1173.3e3, 1386.7e3, 1600e3], rtol=1e-3)
    assert top.get_xlim() == axes.get_xlim()
    learning_curve(tmp_path / "b.png", STEPS, STEPS * 0.0, STEPS * 0.0, "title", clock=np.zeros((2, 0)))
    assert drawn[1].axes[0].child_axes == []


def test_learners_lie_at_the_steps_that_each_took(tmp_path, drawn):
    """The axis is logarithmic above the first step that was taken, and 0 has a place on it."""
    sample_efficiency(tmp_path / "a.png", METHODS, "title", "environment steps")
    [axes] = drawn[0].axes
    drawn_lines = [line for line in axes.lines if line.get_linestyle() != ":" and len(line.get_xdata()) > 1]
    for line, (steps, expected) in zip(drawn_lines, METHODS.values(), strict=True):
        np.testing.assert_array_equal(line.get_xydata(), np.stack([steps, [e.value for e in expected]], axis=1))
    left = axes.transAxes.inverted().transform(axes.transData.transform((0, 0)))[0]
    assert 0 < left < 0.05
    places = [axes.transData.transform((x, 0))[0] for x in (4000, 8000, 16000)]
    assert np.diff(places)[0] == pytest.approx(np.diff(places)[1])
    assert {"meta-learned", "from scratch", "environment steps"} <= texts(drawn[0])


def test_spreads_stand_side_by_side_and_labels_do_not_overlap(tmp_path, drawn):
    """Also of methods that end at the same return and steps; one that stops earlier goes on dotted."""
    steps = np.array([0, 10, 20])
    curves = {f"method {i}": (steps, flat(0, 1, 2)) for i in range(8)} | {"short": (steps[:2], flat(0, 1))}
    sample_efficiency(tmp_path / "a.png", curves, "title", "environment steps")
    [axes] = drawn[0].axes
    bars = [container.lines[0].get_xdata()[0] for container in axes.containers]
    assert min(np.diff(axes.transData.transform([(x, 0) for x in bars])[:, 0])) > 5
    assert min(bars) > 20
    labels = sorted(text.get_window_extent().y0 for text in axes.texts)
    assert min(np.diff(labels)) > 10
    [dotted] = [line for line in axes.lines if line.get_linestyle() == ":"]
    assert dotted.get_xydata().tolist() == [[10, 1], [20, 1]]


def test_the_point_where_a_method_overtakes_is_marked(tmp_path, drawn):
    steps = np.array([0, 10, 20])
    curves = {"a": (steps, flat(0, 1, 2)), "b": (steps, flat(0, 3, 4))}
    sample_efficiency(tmp_path / "a.png", curves, "title", "environment steps", ("b", 10))
    [axes] = drawn[0].axes
    [mark] = [line for line in axes.lines if line.get_markersize() == 12]
    assert mark.get_xydata().tolist() == [[10, 3]]
    assert "overtakes" in texts(drawn[0])


def test_a_figure_as_svg_is_its_drawing_with_letters_as_text():
    text = style.svg(adaptation_curve, CURVES, "a < b")
    assert text == style.svg(adaptation_curve, CURVES, "a < b")
    root = ElementTree.fromstring(text)
    assert root.get("viewBox") == "0 0 403.2 259.2"
    written = {"".join(node.itertext()) for node in root.iter("{http://www.w3.org/2000/svg}text")}
    assert {"a < b", "gradient steps", *CURVES} <= written
    assert "&lt;" not in style.svg(adaptation_curve, CURVES, "")


@pytest.mark.parametrize(
    ("draw", "args"),
    [
        (comparison.return_per_parameter, (np.arange(4.0), CURVES, "title", "goal [m]", "return", "remark")),
        (comparison.performance_profile, (np.arange(4.0), CURVES, "title", "return", "remark")),
        (comparison.in_and_out_of_range, ({"ours": curve(0, 1, 2)}, ("held-out", "far"), "title", "return", "remark")),
        (breadth.draw, (("a", "b", "c", "d"), CURVES, "title", "remark")),
        (grids.heat_maps, ([grids.Grid("gain", np.eye(2), True)], "ab", "cd", ("rows", "columns"), "title")),
        (
            regression.sinusoids,
            ({"net": regression.Fit(*[np.arange(3.0)] * 2, (np.zeros(1),) * 2, [np.ones(3)])}, {"net": LOSS}, "title"),
        ),
    ],
)
def test_every_figure_can_be_svg(draw, args):
    root = ElementTree.fromstring(style.svg(draw, *args))
    assert "title" in {"".join(node.itertext()) for node in root.iter("{http://www.w3.org/2000/svg}text")}


def test_a_dozen_and_a_half_curves_can_be_told_apart():
    assert [style.stroke(i)[0] for i in range(6)] == list(style.CURVES)
    assert len({style.stroke(i) for i in range(18)}) == 18


def test_a_profile_and_its_key_have_the_same_strokes(tmp_path, drawn):
    shares = {f"algorithm {i}": flat(1.0, 0.5, 0.0) for i in range(8)}
    comparison.performance_profile(tmp_path / "a.png", np.arange(3.0), shares, "title", "return", "remark")
    [axes] = drawn[0].axes
    entries = zip(axes.lines, axes.get_legend().get_lines(), axes.get_legend().get_texts(), shares, strict=True)
    for line, sample, text, label in entries:
        assert (line.get_color(), line.get_linestyle()) == (sample.get_color(), sample.get_linestyle())
        assert (text.get_text(), to_hex(text.get_color()).upper()) == (label, line.get_color())


@pytest.mark.parametrize(
    "draw",
    [
        lambda target, curves: adaptation_curve(target, curves, ""),
        lambda target, curves: comparison.performance_profile(target, np.arange(2.0), curves, "", "return", ""),
        lambda target, curves: comparison.in_and_out_of_range(target, curves, ("near", "far"), "", "return", ""),
    ],
)
@pytest.mark.parametrize("label", ["$x_{$", "$x$"])
def test_a_dollar_in_a_label_is_a_dollar(draw, label):
    root = ElementTree.fromstring(style.svg(draw, {label: curve(0, 1, 2)}))
    assert label in {"".join(node.itertext()) for node in root.iter("{http://www.w3.org/2000/svg}text")}


def test_the_first_split_is_filled_and_the_second_hollow(tmp_path, drawn):
    pair = [Estimate(5.0, 4.0, 8.0), Estimate(-5.0, -7.0, -4.0)]
    comparison.in_and_out_of_range(
        tmp_path / "a.png", {"ours": pair, "theirs": pair}, ("held-out", "far"), "title", "return", "remark"
    )
    [axes] = drawn[0].axes
    faces = {line.get_xdata()[0]: line.get_markerfacecolor() for line in axes.lines[:2]}
    assert faces == {5.0: style.BLUE, -5.0: "white"}
    reach = [(segment[0, 0], segment[1, 0]) for bar in axes.collections[:2] for segment in bar.get_segments()]
    np.testing.assert_allclose(reach, [(4, 8), (-7, -4)])
    [legend] = drawn[0].legends
    dots = zip(legend.get_texts(), legend.legend_handles, strict=True)
    keys = {text.get_text(): dot.get_markerfacecolor() for text, dot in dots}
    assert keys == {"held-out": style.INK, "far": "white"}


def test_running_mean_by_hand():
    smooth = adaptation._running_mean(np.array([1.0, 3.0, np.nan, 7.0]), 2)
    np.testing.assert_allclose(smooth, [1, 2, 3, 7])


def test_labels_that_would_overlap_are_moved_apart_evenly():
    gap = style.LINE_HEIGHT
    np.testing.assert_allclose(style.spread([0.2, 0.5], [1, 1]), [0.2, 0.5])
    np.testing.assert_allclose(style.spread([0.5, 0.5], [1, 1]), [0.5 - gap / 2, 0.5 + gap / 2])
    assert np.diff(style.spread([0.5, 0.5, 0.52], [1, 2, 1])).min() > 1.4 * gap


@pytest.mark.parametrize("height", [-0.2, 0.0, 0.4, 1.0, 1.1])
@pytest.mark.parametrize("lines", [[1], [1, 1, 2], [2, 3, 1, 2, 1]])
def test_labels_stay_beside_the_axes_without_touching(height, lines):
    middles, halves = np.array(style.spread([height] * len(lines), lines)), np.array(lines) * style.LINE_HEIGHT / 2
    assert (middles - halves).min() >= -1e-3
    assert (middles + halves).max() <= 1 + 1e-3
    assert (np.diff(middles) >= halves[1:] + halves[:-1] - 1e-3).all()


def test_values_that_are_not_finite_leave_gaps(tmp_path):
    hole = np.array([-1.0, np.nan, -2.0])
    adaptation_curve(tmp_path / "a.png", {"a": flat(*hole), "b": flat(*hole * np.nan)}, "t")
    learning_curve(tmp_path / "b.png", np.arange(3), hole, hole * np.nan, "t")


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: style.columns([]), "at least one point"),
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
from metarl.figures.adaptation import *
from metarl.figures.style import svg
from metarl.statistics import Estimate
flat = [Estimate(0, 0, 0)] * 2
returns = TaskReturns(np.zeros(2), np.ones(2))
evaluation_figure(pathlib.Path({str(tmp_path)!r}) / "a.png", {{"a": flat}}, returns, "t")
svg(evaluation_figure, {{"a": flat}}, returns, "t")
assert matplotlib.rcParams.copy() == settings
assert "matplotlib.pyplot" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)


@pytest.mark.parametrize(
    ("backend", "left"), [("module://matplotlib_inline.backend_inline", ""), ("nonsense", ""), ("svg", "svg"), ("", "")]
)
def test_a_backend_that_is_not_installed_does_not_end_the_import(backend, left):
    """Figures need none; one that is there stays for those who do."""
    script = (
        "import importlib.abc, sys\n"
        "class Missing(importlib.abc.MetaPathFinder):\n"
        "    def find_spec(self, name, path, target=None):\n"
        "        if name.startswith('matplotlib_inline'):\n"
        "            raise ModuleNotFoundError(name)\n"
        "sys.meta_path.insert(0, Missing())\n"
        "import os, metarl.figures.adaptation\n"
        "print(os.environ.get('MPLBACKEND', ''))\n"
    )
    environment = {**os.environ, "MPLBACKEND": backend}
    process = subprocess.run(
        [sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=True
    )
    assert process.stdout.strip() == left


def test_a_full_disk_names_the_picture(tmp_path):
    script = (
        "import resource, sys, warnings\n"
        "from pathlib import Path\n"
        "from matplotlib.figure import Figure\n"
        "from metarl.errors import warns_only\n"
        "from metarl.figures.style import save\n"
        "path = Path(sys.argv[1])\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))\n"
        "with warns_only(f'no picture {path}'):\n"
        "    save(Figure(), path, 'a title')\n"
    )
    path = tmp_path / "learning.png"
    process = subprocess.run([sys.executable, "-c", script, str(path)], capture_output=True, text=True, check=True)
    assert f"no picture {path}: OSError: [Errno 27] cannot write this file: File too large" in process.stderr
    assert not list(tmp_path.iterdir())
