"""`metarl compare` as its users call it, on runs that were trained and evaluated."""

import json
import runpy
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from metarl.results import comparison
from metarl.results.comparison import pictures
from metarl.results.records import META, file_of, read
from metarl.runs.metrics import read_metrics

SCRIPTS = Path(__file__).parents[1] / "scripts"
TINY = """
env: {id: "envs:metarl/PointNav-v0", horizon: 10}
policy: {hidden_sizes: [8]}
sampling: {tasks: 3, episodes: 4}
evaluation: {every: 9, tasks: 2, steps: 1, episodes: 2, videos: 0}
tracking: {mode: disabled}
iterations: 2
"""
ALGORITHMS = {"maml": "", "reptile": "algorithm: reptile\n"}


def script(name: str, *args: object) -> int:
    """Run a script in this process; its exit status."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", [name, *map(str, args)])
        try:
            runpy.run_path(str(SCRIPTS / name), run_name="__main__")
        except SystemExit as stop:
            return stop.code if isinstance(stop.code, int) else 0
    return 0


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> list[Path]:
    """Two algorithms with two seeds each, evaluated on held-out tasks."""
    folder, made = tmp_path_factory.mktemp("runs"), []
    for name, algorithm in ALGORITHMS.items():
        (folder / f"{name}.yaml").write_text(TINY + algorithm)
        for seed in (0, 1):
            made.append(folder / f"{name}-{seed}")
            assert script("train.py", folder / f"{name}.yaml", "--run-dir", made[-1], "--seed", seed) == 0
            assert script("evaluate.py", made[-1], "--tasks", 4, "--steps", 2) == 0
    return made


def test_two_algorithms_with_two_seeds_each(trained, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert script("compare.py", *trained) == 0
    output = capsys.readouterr().out
    assert "PointNav-v0, 4 held-out tasks, 2 episodes a step" in output
    assert "return after 2 steps, compared with maml_trpo" in output
    folder = trained[0].parent / "comparison-PointNav-v0-held-out"
    assert list(tmp_path.iterdir()) == []
    for name in ("comparison.json", "adaptation.png", "profile.png", "learning.png"):
        assert str(folder / name) in output
        assert (folder / name).stat().st_size > 1000
    assert not (folder / "splits.png").exists()

    data = json.loads((folder / "comparison.json").read_text())
    assert [(entry["label"], entry["seeds"]) for entry in data["entries"]] == [
        ("maml_trpo", [0, 1]),
        ("reptile", [0, 1]),
    ]
    own = [read(file_of(run_dir, "held-out")) for run_dir in trained]
    for entry, pair in zip(data["entries"], (own[:2], own[2:]), strict=True):
        for k, row in enumerate(entry["summary"]):
            by_run = [record.returns[META][:, k].mean() for record in pair]
            assert row["mean"]["value"] == pytest.approx(np.mean(by_run))
            half = 12.706 * abs(by_run[0] - by_run[1]) / 2  # Student's interval of two runs
            assert row["mean"]["high"] - row["mean"]["value"] == pytest.approx(half)
    maml, reptile = (np.stack([record.returns[META] for record in pair]) for pair in (own[:2], own[2:]))
    wins = (reptile[:, None] > maml) + 0.5 * (reptile[:, None] == maml)  # (2, 2, tasks, K+1)
    better = [row["probability_of_improvement"]["value"] for row in data["entries"][1]["summary"]]
    assert better == pytest.approx(wins.mean((0, 1, 2)).tolist())


def test_learning_curves_are_means_over_seeds(trained):
    """Where all runs were tested in the same way."""
    entries = comparison.load(trained)
    curves = pictures.learning_curves(entries)
    assert list(curves) == ["maml_trpo", "reptile"]
    tests = [[row for row in read_metrics(run / "metrics.jsonl") if "validation/gain" in row] for run in trained[:2]]
    steps, curve = curves["maml_trpo"]
    assert steps.tolist() == [row["environment_steps"] for row in tests[0]]
    for test, *rows in zip(curve, *tests, strict=True):
        values = [row["validation/return_1_steps"] for row in rows]
        assert (test.value, test.high - test.low) == pytest.approx((np.mean(values), 12.706 * abs(np.diff(values)[0])))
    first, *others = entries[0].runs
    evaluation = replace(first.experiment.evaluation, episodes=3)
    other = replace(first, experiment=replace(first.experiment, evaluation=evaluation))
    assert pictures.learning_curves([entries[1], replace(entries[0], runs=(other, *others))]) == {}


def test_what_is_missing_for_the_picture_of_two_splits_can_be_pasted(trained, tmp_path, monkeypatch, capsys):
    capsys.readouterr()
    pair, out = trained[::2], tmp_path / "out"
    assert script("compare.py", *pair, "--out", out, "--labels", "ours", "theirs") == 0
    output = capsys.readouterr().out
    commands = [line.split("evaluate ")[1].split() for line in output.splitlines() if "metarl evaluate " in line]
    assert [Path(words[0]) for words in commands] == pair
    for words in commands:
        assert script("evaluate.py", *words) == 0
    assert script("compare.py", *pair, "--out", out, "--labels", "ours", "theirs") == 0
    assert (out / "splits.png").read_bytes().startswith(b"\x89PNG")
    assert [entry["label"] for entry in json.loads((out / "comparison.json").read_text())["entries"]] == [
        "ours",
        "theirs",
    ]
    assert script("compare.py", *pair, "--split", "out-of-range", "--out", out) == 0
    assert "4 out-of-range tasks" in capsys.readouterr().out


def test_mistakes_end_in_one_message(trained, tmp_path, capsys):
    capsys.readouterr()
    assert script("compare.py", tmp_path / "nothing") == 2
    assert "holds no run" in capsys.readouterr().err
    assert script("compare.py", *trained, "--split", "iid", "--out", tmp_path) == 2
    assert f"metarl evaluate {trained[0]} --split iid" in capsys.readouterr().err
    assert script("compare.py", *trained, "--split", "nonsense", "--out", tmp_path) == 2
    error = capsys.readouterr().err
    assert "unknown split 'nonsense': known are held-out, iid, out-of-range, train" in error
    assert "evaluate" not in error
    assert script("compare.py", *trained, "--labels", "a", "--out", tmp_path) == 2
    assert "--labels a: 1 for 2 entries" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
