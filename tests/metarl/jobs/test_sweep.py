import json
from pathlib import Path

import numpy as np
import pytest

from metarl.errors import UserError
from metarl.figures.grids import Grid, heat_maps
from metarl.jobs.sweep import Sweep, setback

CONFIGS = Path(__file__).parents[3] / "configs" / "sweeps"
TEXT = """
program: scripts/train.py
method: grid
metric: {name: held_out/gain, goal: maximize}
parameters:
  algorithm.inner.step_size: {values: [0.1, 0.2]}
  algorithm.outer.step_size: {values: [1, 2, 3]}
  seed: {values: [4, 5]}
command: ["${env}", "${interpreter}", "${program}", configs/demo.yaml, --a=b, "${args}"]
"""


@pytest.fixture
def sweep(tmp_path):
    (tmp_path / "sweep.yaml").write_text(TEXT)
    return Sweep.read(tmp_path / "sweep.yaml")


def test_a_run_for_every_cell_and_seed(sweep, tmp_path):
    jobs = sweep.jobs(tmp_path, ["--iterations=9"])
    assert len(jobs) == 2 * 3 * 2
    cell = ("--algorithm.inner.step_size=0.2", "--algorithm.outer.step_size=1", "--seed=5")
    assert jobs[7].train == ("scripts/train.py", "configs/demo.yaml", "--a=b", *cell, "--threads=1", "--iterations=9")
    assert jobs[7].run_dir == tmp_path / "0.2_1_5"
    assert jobs[7].resumable
    assert sweep.short_axes == ("inner.step_size (α)", "outer.step_size")
    assert len({job.run_dir for job in jobs}) == len(jobs)


def test_outcomes_lie_in_their_cells(sweep, tmp_path):
    """Run n ends at n and had been 2 n above that; the third never finished, the fourth became infinite on its way."""
    jobs = sweep.jobs(tmp_path, [])
    for n, job in enumerate(jobs):
        job.run_dir.mkdir()
        history = [0, 3 * n, n] if n != 3 else [0, None, 3]
        rows = [{"iteration": i, "held_out/gain": value} for i, value in enumerate(history)]
        rows.insert(1, {"iteration": 0, "other": 1.0})
        (job.run_dir / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        if n != 2:
            (job.run_dir / "finished.json").write_text(json.dumps(job.mark))
    outcomes = sweep.outcomes(jobs)
    expected = np.arange(12.0).reshape(2, 3, 2)
    expected[0, 1, 0] = np.nan
    np.testing.assert_array_equal(outcomes.last, expected)
    falls = 2 * expected
    falls[0, 1, 1] = np.inf
    np.testing.assert_array_equal(outcomes.setback, falls)


@pytest.mark.parametrize(
    ("history", "expected"),
    [([1, 2, 3], 0), ([5, 1, 4, 2, 9], 4), ([1, 3, 2, 6, 4.5], 1.5), ([7], 0), ([1, np.nan], np.inf)],
)
def test_the_setback_is_the_largest_fall_from_the_best_so_far(history, expected):
    assert setback(np.array(history, dtype=float)) == expected


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("method: grid", "method: bayes", "only a grid"),
        ("  seed: {values: [4, 5]}", "  env.horizon: {values: [4, 5]}", "A heat map has two axes"),
        ("{values: [1, 2, 3]}", "{min: 1, max: 2}", "needs a list of numbers"),
        ("metric: {name: held_out/gain, goal: maximize}", "", "lacks metric"),
        ("metric: {name: held_out/gain, goal: maximize}", "metric: held_out/gain", "expected {name: METRIC"),
        ("goal: maximize", "goal: maximise", "goal: minimize or maximize"),
    ],
)
def test_what_cannot_be_drawn_is_refused(tmp_path, old, new, message):
    (tmp_path / "sweep.yaml").write_text(TEXT.replace(old, new))
    with pytest.raises(UserError, match=message):
        Sweep.read(tmp_path / "sweep.yaml")


def test_a_missing_file_is_named_with_what_is_there(tmp_path):
    with pytest.raises(UserError, match=r"Did you mean 'sinusoid.yaml'"):
        Sweep.read(CONFIGS / "sinusoids.yaml")


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("*.yaml")), ids=lambda path: path.stem)
def test_the_sweeps_of_the_repository_name_programs_and_settings_that_exist(path):
    sweep = Sweep.read(path)
    root = CONFIGS.parents[1]
    assert (root / sweep.program).is_file()
    for word in sweep.arguments:
        assert word.startswith("--") or (root / word).is_file()
    assert len(sweep.jobs(Path("runs"), [])) == len(sweep.values[0]) * len(sweep.values[1]) * len(sweep.seeds)


def test_a_heat_map_says_where_nothing_finished(tmp_path):
    values = np.array([[1.0, 20.0, np.nan], [300.0, 4.0, 5.0]])
    grids = [Grid("error", values, more_is_better=False, logarithmic=True), Grid("gain", -values, more_is_better=True)]
    heat_maps(tmp_path / "map.png", grids, (0.1, 1.0), (1.0, 2.0, 3.0), ("alpha", "beta"), "title")
    assert (tmp_path / "map.png").read_bytes().startswith(b"\x89PNG")
    nothing = [Grid("gain", np.full((2, 3), np.nan), more_is_better=True)]
    heat_maps(tmp_path / "nothing.png", nothing, (0.1, 1.0), (1.0, 2.0, 3.0), ("alpha", "beta"), "title")
