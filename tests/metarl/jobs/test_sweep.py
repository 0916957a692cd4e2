import json
import random
from pathlib import Path

import numpy as np
import pytest

from metarl.commands.sweep import table
from metarl.errors import UserError
from metarl.figures.grids import Grid, heat_maps, ranked_curves
from metarl.jobs.sweep import Halving, Sweep, setback, word

CONFIGS = Path(__file__).parents[3] / "configs" / "sweeps"
TEXT = """
program: scripts/train.py
method: grid
metric: {name: validation/gain, goal: maximize}
parameters:
  algorithm.inner.step_size: {values: [0.1, 0.2]}
  algorithm.step_size: {values: [1, 2, 3]}
  policy.action_scale: {value: 0.5}
  seed: {values: [4, 5]}
command: ["${env}", "${interpreter}", "${program}", demo, --evaluation.every=3, --iterations=14, "${args}"]
"""
HALVING = "early_terminate: {type: hyperband, min_iter: 2, eta: 2}\n"


@pytest.fixture
def read(tmp_path):
    """read(old, new): the sweep with a part of its text replaced."""

    def read(old="", new=""):
        assert old in TEXT
        (tmp_path / "sweep.yaml").write_text(TEXT.replace(old, new) if old else TEXT + new)
        return Sweep.read(tmp_path / "sweep.yaml")

    return read


def write(job, history, mark=True):
    """Leave a run with these values of the metric, one test every 10 environment steps."""
    job.run_dir.mkdir(exist_ok=True)
    rows = [{"iteration": i, "environment_steps": 10 * i, "validation/gain": v} for i, v in enumerate(history)]
    rows.insert(1, {"iteration": 0, "environment_steps": 0, "other": 1.0})
    (job.run_dir / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    if mark:
        (job.run_dir / job.mark_file).write_text(json.dumps(job.mark))


def test_a_run_for_every_cell_and_seed(read, tmp_path):
    sweep = read()
    cells = sweep.cells(tmp_path, ["--sampling.tasks=9"])
    assert [cell.values for cell in cells] == [(0.1, 1), (0.1, 2), (0.1, 3), (0.2, 1), (0.2, 2), (0.2, 3)]
    _, job = cells[3].jobs
    fixed = ("demo", "--evaluation.every=3", "--iterations=14", "--policy.action_scale=0.5")
    chosen = ("--algorithm.inner.step_size=0.2", "--algorithm.step_size=1", "--seed=5")
    assert job.train == ("scripts/train.py", *fixed, *chosen, "--threads=1", "--sampling.tasks=9")
    assert job.run_dir == tmp_path / "0.2_1_5"
    assert job.resumable
    assert sweep.short_axes == ("inner.step_size (α)", "step_size (β)")
    assert cells[3].tests == 6  # after 0, 3, 6, 9, 12 and 14 iterations


def test_values_of_any_kind_and_number_of_settings(read, tmp_path):
    values = "[maml_trpo, reptile]}\n  policy.hidden_sizes: {values: [[8], [16, 16], []]}\n"
    values += "  policy.normalize_observations: {values: [true, false]}\n  start_from: {values: [null]}"
    sweep = read("algorithm.step_size: {values: [1, 2, 3]}", f"algorithm.name: {{values: {values}")
    cells = sweep.cells(tmp_path, [])
    assert len(cells) == 2 * 2 * 3 * 2
    found = cells[-1].experiment
    assert (found.algorithm.name, found.policy.hidden_sizes) == ("reptile", ())
    assert found.policy.normalize_observations is False
    assert cells[-1].jobs[0].run_dir.name == "0.2_reptile_none_false_null_4"
    assert cells[2].experiment.policy.hidden_sizes == (16, 16)
    assert read("algorithm.inner.step_size: {values: [0.1, 0.2]}", "").short_axes == ("step_size (β)",)


@pytest.mark.parametrize(
    ("value", "expected"),
    [(0.1, "0.1"), (1e-05, "1e-05"), (0.12345678, "0.12345678"), (3, "3"), ([64, 64], "64-64"), ("a/b c", "a-b-c")],
)
def test_a_value_in_the_name_of_a_folder(value, expected):
    assert word(value) == expected


def test_the_best_cell_comes_first(read, tmp_path):
    """Cell n ends at n, except for one of which a seed diverged and one of which a seed never finished."""
    sweep = read()
    cells = sweep.cells(tmp_path, [])
    for n, cell in enumerate(cells):
        for seed, job in enumerate(cell.jobs):
            write(job, [0, 3 * n, n + 2 * seed - 1], mark=(n, seed) != (2, 0))
    write(cells[4].jobs[0], [0, None])
    outcomes = sweep.run(cells, lambda jobs: [])
    assert [outcome.cell for outcome in outcomes] == [cells[n] for n in (5, 3, 1, 0, 2, 4)]
    assert [outcome.state for outcome in outcomes] == ["finished"] * 4 + ["failed"] * 2
    best = outcomes[0]
    assert (best.curve.tolist(), best.steps.tolist(), best.last, best.setback) == ([0, 15, 5], [0, 10, 20], 5, 10)
    assert (best.reached(9, True), best.reached(5, True)) == (10, 10)
    assert np.isnan(best.reached(16, True))
    assert np.isnan(outcomes[-1].last)


@pytest.mark.parametrize("order", range(4))
def test_the_worse_half_is_stopped_at_each_rung_whatever_ends_first(read, tmp_path, order):
    """Rungs after 2 and 4 of 6 tests keep 3 and then 2 of 6 cells; what a cell is worth changes on the way."""
    sweep = read(new=HALVING)
    cells = sweep.cells(tmp_path, [])
    worth = {2: [5, 9, 1, 7, 3, 8], 4: [0, 2, 0, 6, 0, 4], 6: [0, 0, 0, 1, 0, 2]}
    asked = []

    def run_all(jobs):
        asked.append([(job.run_dir.name, job.mark_file) for job in jobs])
        for job in random.Random(order).sample(jobs, len(jobs)):
            n = next(n for n, cell in enumerate(cells) if job.run_dir in [own.run_dir for own in cell.jobs])
            tests = int(job.mark_file[5:-5]) if job.mark_file.startswith("rung") else 6
            write(job, [worth[2 * (t // 2)][n] if t > 1 else 0 for t in range(1, tests + 1)])
        return []

    outcomes = sweep.run(cells, run_all)
    names = [[job.run_dir.name for job in cell.jobs] for cell in cells]
    assert asked == [
        [(name, "rung-2.json") for own in names for name in own],
        [(name, "rung-4.json") for n in (1, 3, 5) for name in names[n]],
        [(name, "finished.json") for n in (3, 5) for name in names[n]],
    ]
    assert [outcome.cell for outcome in outcomes] == [cells[n] for n in (5, 3, 1, 0, 4, 2)]
    assert [outcome.state for outcome in outcomes] == ["finished"] * 2 + ["stopped"] * 4
    assert [len(outcome.curve) for outcome in outcomes] == [6, 6, 4, 2, 2, 2]
    again = sweep.run(cells, lambda jobs: asked.append([job for job in jobs if not job.finished]) or [])
    assert asked[3:] == [[], [], []]  # nothing is left to do
    assert [(a.cell, a.last) for a in again] == [(b.cell, b.last) for b in outcomes]


def test_a_run_until_a_rung(read, tmp_path):
    cell = read(new=HALVING).cells(tmp_path, [])[0]
    job, other = cell.until(4)
    assert job.train[-3:] == ("--threads=1", "--iterations=9", "--evaluation.videos=0")
    assert other.run_dir == cell.jobs[1].run_dir
    assert cell.until(6) == [*cell.jobs]
    write(job, [0] * 4)
    assert cell.until(2)[0] == job  # it has come further already


def test_rungs_as_in_wandb():
    assert Halving(eta=3, min_iter=2).rungs(20) == [2, 6, 18]
    assert Halving(eta=3, min_iter=2).rungs(18) == [2, 6]
    assert Halving(eta=3, max_iter=27, s=2).rungs(27) == [3, 9]
    assert Halving(eta=2, min_iter=9).rungs(5) == []


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
        ("{values: [1, 2, 3]}", "{min: 1, max: 2}", "needs a list"),
        ("{values: [1, 2, 3]}", "{values: []}", "needs a list"),
        ("{values: [1, 2, 3]}", "{values: [{a: 1}]}", "is a mapping"),
        ("seed: {values: [4, 5]}", "seed: {values: [0.5]}", "expected whole numbers"),
        ("metric: {name: validation/gain, goal: maximize}", "", "lacks metric"),
        ("metric: {name: validation/gain, goal: maximize}", "metric: held_out/gain", "expected {name: METRIC"),
        ("goal: maximize", "goal: maximise", "goal: minimize or maximize"),
        ("validation/gain", "held_out/gain", "Choose validation/gain"),
        ("method: grid", "method: grid\nearly_terminat: {}", "Did you mean 'early_terminate'"),
        ("method: grid", "method: grid\nearly_terminate: {type: median}", "expected {type: hyperband, min_iter: 3"),
        ("method: grid", "method: grid\n" + HALVING.replace("2,", "1,"), "at least 2"),
        ("method: grid", "method: grid\n" + HALVING.replace("min_iter: 2, ", ""), "expected {type: hyperband"),
    ],
)
def test_what_is_no_grid_is_refused(read, old, new, message):
    with pytest.raises(UserError, match=message):
        read(old, new)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (
            "algorithm.step_size",
            "algorithm.step_sise",
            r"0.1_1_4 of the sweep cannot begin: unknown flags:\n.*step-size",
        ),
        ("[1, 2, 3]", "[1, -2]", r"0.1_-2_4 of the sweep cannot begin: [^$]*step_size = -2"),
        ("demo, ", "", "names no config"),
        ("demo, ", "dema, ", "Did you mean 'demo'"),
        ("[0.1, 0.2]", "[0.1, 0.1]", "two runs of the sweep would have the folder 0.1_1_4"),
        ("scripts/train.py\n", "scripts/sinusoid.py\n" + HALVING, "early_terminate with scripts/sinusoid.py"),
    ],
)
def test_settings_that_do_not_fit_are_refused_before_anything_runs(read, tmp_path, old, new, message):
    with pytest.raises(UserError, match=message):
        read(old, new).cells(tmp_path / "out", [])


def test_a_missing_file_is_named_with_what_is_there(tmp_path):
    with pytest.raises(UserError, match=r"Did you mean 'sinusoid.yaml'"):
        Sweep.read(CONFIGS / "sinusoids.yaml")


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("*.yaml")), ids=lambda path: path.stem)
def test_the_sweeps_of_the_repository_name_programs_and_settings_that_exist(path):
    sweep = Sweep.read(path)
    root = CONFIGS.parents[1]
    assert (root / sweep.program).is_file()
    for argument in sweep.arguments:
        assert argument.startswith("--") or (root / argument).is_file()
    for cell in sweep.cells(Path("runs"), [])[::7]:
        assert len(cell.jobs) == len(sweep.seeds)


def test_a_heat_map_says_where_nothing_finished(tmp_path):
    values = np.array([[1.0, 20.0, np.nan], [300.0, 4.0, 5.0]])
    grids = [Grid("error", values, more_is_better=False, logarithmic=True), Grid("gain", -values, more_is_better=True)]
    heat_maps(tmp_path / "map.png", grids, "ab", "xyz", ("alpha", "beta"), "title")
    assert (tmp_path / "map.png").read_bytes().startswith(b"\x89PNG")
    nothing = [Grid("gain", np.full((2, 3), np.nan), more_is_better=True)]
    heat_maps(tmp_path / "nothing.png", nothing, "ab", "xyz", ("alpha", "beta"), "title")


def test_the_best_curves_are_labelled(tmp_path):
    steps = np.arange(3.0)
    curves = [(f"cell {n}", steps[: 3 - n % 2], np.array([0.0, 1.0, 2.0])[: 3 - n % 2] - n) for n in range(8)]
    curves[7] = ("diverged", steps, np.array([0.0, -1e9, np.nan]))
    for file, shown, wanted in (("all.png", curves, 1.5), ("one.png", curves[:1], None), ("bad.png", curves[7:], None)):
        ranked_curves(tmp_path / file, shown, ("environment steps", "return"), "title", wanted)
        assert (tmp_path / file).read_bytes().startswith(b"\x89PNG")


def test_cells_that_are_tested_otherwise_have_a_note_in_the_table(read):
    """Their returns are not of one protocol."""
    assert table(read(), [], None).caption is None
    other = read("algorithm.step_size", "env.horizon")
    assert "env.horizon: cells are tested in different ways" in table(other, [], None).caption
