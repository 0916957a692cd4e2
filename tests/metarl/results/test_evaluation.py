"""Reports of small evaluations, with numbers that can be checked by hand."""

import io
from unittest.mock import Mock

import numpy as np
import pytest
from rich.console import Console

from metarl.figures import adaptation
from metarl.results.evaluation import draw_evaluation, evaluation_table
from metarl.results.records import META, RANDOM, Record, Training
from metarl.statistics import summary

TRAINED = np.array([[1.0, 3.0, 9.0], [2.0, 8.0, 7.0], [0.0, 4.0, 5.0], [4.0, 4.0, 10.0]])
RETURNS = {META: TRAINED, RANDOM: TRAINED[:, ::-1] - 20}
DETERMINISTIC = {META: TRAINED + 50, RANDOM: TRAINED - 70}
RECORD = Record(
    run="runs/rail",
    environment="metarl/Rail-v0",
    algorithm="maml_trpo",
    split="held-out",
    episodes=7,
    horizon=50,
    later_steps=0.5,
    seed=4,
    training=Training(seed=3, iterations=10, environment_steps=1200),
    versions={},
    tasks=tuple({"place": 0.5 * m} for m in range(4)),
    units={"place": "m"},
    returns=RETURNS,
    deterministic=DETERMINISTIC,
)


@pytest.mark.parametrize("width", [80, 120])
def test_the_table_says_which_policy_its_numbers_are_of(width):
    console = Console(width=width, file=io.StringIO())
    console.print(evaluation_table(RECORD))
    lines = console.file.getvalue().splitlines()
    assert lines[0].strip() == "metarl/Rail-v0, 4 held-out tasks, 7 episodes a step"
    rows = [[cell.strip() for cell in line.split("  ") if cell.strip()] for line in lines]
    for policy, returns in (("stochastic", RETURNS), ("deterministic", DETERMINISTIC)):
        for name, x in returns.items():
            at = rows.index([name, policy]) + 1
            expected = [[str(row[key]) for key in ("steps", "mean", "iqm", "gain")] for row in summary(x[None])]
            assert rows[at : at + 3] == [expected[0][:3], *expected[1:]]


def test_the_figure_shows_the_intervals_and_the_first_and_last_returns(tmp_path, monkeypatch):
    draw = Mock()
    monkeypatch.setattr(adaptation, "evaluation_figure", draw)
    draw_evaluation(RECORD, tmp_path / "a.png")
    path, curves, returns, title = draw.call_args.args
    assert (path, title) == (tmp_path / "a.png", "Rail-v0: adaptation to 4 held-out tasks")
    for name, x in RETURNS.items():
        means = [row["mean"] for row in summary(x[None])]
        assert curves[name] == means
    np.testing.assert_array_equal(returns.before, TRAINED[:, 0])
    np.testing.assert_array_equal(returns.after, TRAINED[:, -1])
    assert (returns.parameter.tolist(), returns.label) == ([0, 0.5, 1, 1.5], "place [m]")
