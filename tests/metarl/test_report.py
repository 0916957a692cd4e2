"""Reports of small evaluations, with numbers that can be checked by hand."""

import io
import json
from types import SimpleNamespace
from typing import ClassVar
from unittest.mock import Mock

import numpy as np
import pytest
import torch
from rich.console import Console

from metarl import figures
from metarl.report import META, RANDOM, Report, curve, parameter, summary
from metarl.seeding import Purpose, stream
from metarl.statistics import RESAMPLES, Estimate, estimate, interquartile_mean

ABOUT = {"environment": "metarl/Rail-v0", "split": "held-out", "episodes": 7, "seed": 4}
TRAINED = np.array([[1.0, 3.0, 9.0], [2.0, 8.0, 7.0], [0.0, 4.0, 5.0], [4.0, 4.0, 10.0]])
FIRST = TRAINED[:, ::-1] - 20


class Rail:
    """Tasks are numbers, places on a rail."""

    units: ClassVar = {"place": "m"}

    def to_dict(self, task):
        return {"place": task}

    def array(self, tasks):
        return {"place": np.array(tasks)}


def report(trained=TRAINED, first=FIRST):
    places = [0.5 * m for m in range(len(trained))]
    return Report(ABOUT, Rail(), places, {META: trained, RANDOM: first})


def test_a_summary_has_the_gain_over_no_step_paired_by_task():
    rows = summary(TRAINED)
    assert [row["steps"] for row in rows] == [0, 1, 2]
    assert [row["mean"].value for row in rows] == [1.75, 4.75, 7.75]
    assert [row["iqm"].value for row in rows] == [1.5, 4.0, 8.0]  # of the middle two
    assert [row["gain"].value for row in rows] == [0.0, 3.0, 6.0]
    paired = estimate(np.array([2.0, 6.0, 4.0, 0.0]))
    assert rows[1]["gain"] == paired
    assert paired.low > 0


def test_a_task_that_was_left_out_is_not_counted():
    lost = np.vstack([TRAINED[:2], np.full((1, 3), np.nan), TRAINED[2:]])
    assert summary(lost) == summary(TRAINED)
    once = lost.copy()
    once[2] = [7.0, np.nan, 7.0]
    assert summary(once)[1]["gain"] == summary(TRAINED)[1]["gain"]


@pytest.mark.parametrize("left_out", [0, 1, 4])
def test_a_report_is_strict_json(left_out):
    trained = TRAINED.copy()
    trained[:left_out] = np.nan
    data = report(trained).to_json()
    assert json.loads(json.dumps(data, allow_nan=False)) == data
    assert (data["format"], data["version"]) == ("metarl-evaluation", 1)
    assert ABOUT.items() <= data.items()
    assert data["tasks"] == [{"place": 0.0}, {"place": 0.5}, {"place": 1.0}, {"place": 1.5}]
    assert data["returns"][META] == [[None] * 3] * left_out + TRAINED[left_out:].tolist()
    assert data["returns"][RANDOM] == FIRST.tolist()
    for row, expected in zip(data["summary"][META], summary(trained), strict=True):
        assert row["steps"] == expected["steps"]
        for name in ("mean", "iqm", "gain"):
            e = expected[name]
            numbers = {"value": e.value, "low": e.low, "high": e.high}
            assert row[name] == (numbers if left_out < 4 else dict.fromkeys(numbers))
    assert data["summary"][RANDOM][2]["gain"]["value"] == -6.0


def test_the_table_has_a_gain_wherever_a_step_was_taken():
    console = Console(width=120, file=io.StringIO())
    console.print(report().table())
    lines = console.file.getvalue().splitlines()
    assert lines[0].strip() == "metarl/Rail-v0, 4 held-out tasks, 7 episodes a step"
    rows = [[cell.strip() for cell in line.split("  ") if cell.strip()] for line in lines]
    for name, x in ((META, TRAINED), (RANDOM, FIRST)):
        at = rows.index([name]) + 1
        expected = [[str(row["steps"]), str(row["mean"]), str(row["iqm"]), str(row["gain"])] for row in summary(x)]
        assert rows[at : at + 3] == [expected[0][:3], *expected[1:]]


def test_the_figure_shows_the_intervals_and_the_first_and_last_returns(tmp_path, monkeypatch):
    draw = Mock()
    monkeypatch.setattr(figures, "evaluation_figure", draw)
    report().draw(tmp_path / "a.png")
    path, curves, returns, title = draw.call_args.args
    assert (path, title) == (tmp_path / "a.png", "Rail-v0: adaptation to 4 held-out tasks")
    for name, x in {META: TRAINED, RANDOM: FIRST}.items():
        means = [row["mean"] for row in summary(x)]
        for part, drawn in (("value", "mean"), ("low", "low"), ("high", "high")):
            assert getattr(curves[name], drawn).tolist() == [getattr(e, part) for e in means]
        assert (curves[name].low < curves[name].high).all()
    np.testing.assert_array_equal(returns.before, TRAINED[:, 0])
    np.testing.assert_array_equal(returns.after, TRAINED[:, -1])
    assert (returns.parameter.tolist(), returns.label) == ([0, 0.5, 1, 1.5], "place [m]")


def test_a_curve_keeps_each_part_of_its_estimates():
    drawn = curve([Estimate(2, 1, 4), Estimate(5, 3, 6)])
    assert [part.tolist() for part in (drawn.mean, drawn.low, drawn.high)] == [[2, 5], [1, 3], [4, 6]]


@pytest.mark.parametrize(
    ("fields", "drawn", "label"),
    [
        ({"speed": (3,)}, True, "speed [u]"),
        ({"goal": (3, 2)}, True, ("goal x [u]", "goal y [u]")),
        ({"goal": (3, 3)}, False, "task"),
        ({"speed": (3,), "mass": (3,)}, False, "task"),
    ],
)
def test_tasks_are_drawn_against_one_number_or_a_point_in_the_plane(fields, drawn, label):
    values = {name: np.random.default_rng(0).normal(size=shape) for name, shape in fields.items()}
    space = SimpleNamespace(units=dict.fromkeys(fields, "u"), array=lambda tasks: values)
    found, text = parameter(space, [None] * 3)
    assert text == label
    assert found is (next(iter(values.values())) if drawn else None)


@pytest.mark.parametrize("statistic", [np.mean, interquartile_mean])
def test_an_interval_is_drawn_from_its_own_stream_whatever_else_was_drawn(statistic):
    np.random.seed(1)
    torch.manual_seed(1)
    x = np.random.default_rng(0).normal(size=9)
    chosen = stream(0, Purpose.BOOTSTRAP).integers(9, size=(RESAMPLES, 9))
    low, high = np.quantile([statistic(x[row]) for row in chosen], [0.025, 0.975])
    for _ in range(2):
        found = estimate(x, statistic)
        assert (found.value, found.low, found.high) == pytest.approx((statistic(x), low, high))
