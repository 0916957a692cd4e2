"""A run directory of version 0.1.0, of before policies normalised observations, is still read by every command.

tests/data/run-0.1.0: PointNav, a policy of 4 hidden units, two iterations, evaluated and compared with PPO then.
"""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

import metarl
from metarl import runs
from metarl.commands import baseline, evaluate, render, report, train
from metarl.results import records
from metarl.runs import checkpoints

OLD = Path(__file__).parent / "data" / "run-0.1.0"


@pytest.fixture
def run(tmp_path):
    """A copy of it."""
    return shutil.copytree(OLD, tmp_path / "run")


def test_its_numbers_are_still_those_that_were_measured(run):
    """Evaluated again in the way of then: the same tasks, and the same returns bit for bit."""
    then = records.read(records.file_of(run, "held-out"))
    (run / "evaluation-held-out.json").unlink()
    evaluate.main([str(run), "--steps", "2"])
    now = records.read(records.file_of(run, "held-out"))
    assert now.tasks == then.tasks
    for name, returns in then.returns.items():
        np.testing.assert_array_equal(now.returns[name], returns)
        np.testing.assert_array_equal(now.deterministic[name], then.deterministic[name])


def test_it_goes_on(run, capsys):
    train.main(["--run-dir", str(run), "--resume", "--iterations", "3"])
    said = "its policy goes on without normalized observations, and its tasks are drawn in strata from here on."
    assert said in capsys.readouterr().out
    assert "normalize_observations: false" in (run / runs.CONFIG).read_text()
    experiment = runs.read_experiment(run)
    state = runs.load(run, experiment)
    assert state.iteration == 3
    assert "observation_mean" not in state.params  # it began without statistics, and goes on so
    lines = (run / runs.METRICS).read_text().splitlines()
    trained = [row["iteration"] for row in map(json.loads, lines) if "train/return_after" in row]
    assert trained == [0, 1, 2]
    train.main(["--run-dir", str(run), "--resume", "--iterations", "4"])
    assert said not in capsys.readouterr().out


def test_it_is_reported_with_what_it_was_compared_with(run):
    report.main([str(run)])
    page = (run / "report.html").read_text(encoding="utf-8")
    for text in ("PointNav", "MAML-TRPO", "PPO from scratch"):
        assert text in page


def test_it_is_compared_again(run, capsys):
    baseline.main([str(run), "--tasks", "2", "--rollouts", "1", "--workers", "1", "--tune", "1"])
    assert "PPO from scratch" in capsys.readouterr().out


def test_its_policy_acts_and_adapts_as_before(run):
    policy = metarl.load(run)
    params = checkpoints.load(run / runs.CHECKPOINT)["params"]
    assert policy.params.keys() == params.keys()
    action = policy.act([0.1, -0.2], deterministic=True)
    hidden = np.tanh(np.array([0.1, -0.2]) @ params["w0"].numpy() + params["b0"].numpy())
    expected = np.clip(0.1 * (hidden @ params["w1"].numpy() + params["b1"].numpy()), -1, 1)
    np.testing.assert_allclose(action, expected, atol=1e-6)
    assert metarl.load(run, checkpoint="best").params.keys() == params.keys()


def test_it_is_filmed(run):
    render.main([str(run), "--task", "goal=0.3,-0.2", "--steps", "1"])
    assert list((run / "videos").glob("*.mp4"))
