"""Records as they are written and read again, and what is said of files that are none."""

import json

import numpy as np
import pytest

from metarl.errors import UserError
from metarl.experiment.tuning import Tuned
from metarl.results import records
from metarl.results.records import META, RANDOM, Record, Training, read
from metarl.statistics import plain, summary

TRAINED = np.array([[1.0, 3.0, 9.0], [2.0, 8.0, 7.0], [0.0, 4.0, 5.0], [4.0, 4.0, 10.0]])
FIRST = TRAINED[:, ::-1] - 20


def record(**changes):
    fields = {
        "run": "runs/rail",
        "environment": "metarl/Rail-v0",
        "algorithm": "maml_trpo",
        "split": "held-out",
        "episodes": 7,
        "horizon": 50,
        "later_steps": 0.5,
        "seed": 4,
        "training": Training(seed=3, iterations=10, environment_steps=1200),
        "versions": {"python": "3.11"},
        "tasks": tuple({"place": 0.5 * m} for m in range(4)),
        "units": {"place": "m"},
        "returns": {META: TRAINED, RANDOM: FIRST},
        "deterministic": {META: TRAINED + 0.25, RANDOM: FIRST + 0.25},
    }
    return Record(**fields | changes)


def written(path, data):
    path.write_text(json.dumps(data, allow_nan=False))
    return path


def test_a_record_is_strict_json_and_reads_as_it_was(tmp_path):
    lost = TRAINED.copy()
    lost[1, 2] = np.nan
    original = record(returns={META: lost, RANDOM: FIRST})
    data = original.to_json()
    assert (data["format"], data["version"]) == ("metarl-evaluation", 2)
    assert data["training"] == {"seed": 3, "iterations": 10, "environment_steps": 1200}
    assert data["tasks"] == [{"place": 0.0}, {"place": 0.5}, {"place": 1.0}, {"place": 1.5}]
    assert data["returns"] == {META: [[1, 3, 9], [2, 8, None], [0, 4, 5], [4, 4, 10]], RANDOM: FIRST.tolist()}
    assert data["deterministic"] == {META: (TRAINED + 0.25).tolist(), RANDOM: (FIRST + 0.25).tolist()}
    again = read(written(tmp_path / "evaluation-held-out.json", data))
    assert again.to_json() == data
    assert again.steps == 2
    np.testing.assert_array_equal(again.returns[META], lost)


def test_the_noise_of_evaluation_is_read_as_it_was(tmp_path):
    noise = {META: np.array([0.1, np.nan, 0.25]), RANDOM: np.ones(3)}
    data = record(noise=noise).to_json()
    assert data["noise"][META] == [0.1, None, 0.25]
    again = read(written(tmp_path / "evaluation-held-out.json", data))
    assert again.noise_in_words == "noise of evaluation: 7 test episodes a task leave a standard error of 0.25"
    del data["noise"]  # as before it was measured
    assert read(written(tmp_path / "evaluation-held-out.json", data)).noise_in_words == ""


def test_what_was_chosen_is_read_as_it_was(tmp_path):
    tuned = {META: Tuned(chosen={"step_size": 0.2}, split="train", tasks=2, candidates=({"return": None},))}
    data = record(tuned=tuned).to_json()
    again = read(written(tmp_path / "evaluation-held-out.json", data))
    assert again.tuned == tuned
    assert again.tuned_on == "2 train tasks"
    assert records.command("runs/rail", "held-out", again).endswith("--tune 2")
    del data["tuned"]  # as before settings could be chosen
    assert read(written(tmp_path / "evaluation-held-out.json", data)).tuned_on == ""


@pytest.mark.parametrize("left_out", [0, 1, 4])
def test_the_summary_is_of_both_policies(left_out):
    trained = TRAINED.copy()
    trained[:left_out] = np.nan
    data = record(returns={META: trained, RANDOM: FIRST}).to_json()["summary"]
    for policy, x in (("stochastic", trained), ("deterministic", TRAINED + 0.25)):
        for row, expected in zip(data[META], summary(x[None]), strict=True):
            found = row if policy == "stochastic" else row[policy]
            assert row["steps"] == expected["steps"]
            for name in ("mean", "iqm", "worst_decile", "gain"):
                assert found[name] == plain(expected[name])
    assert data[RANDOM][2]["gain"]["value"] == -6.0
    assert data[RANDOM][2]["deterministic"]["mean"]["value"] == FIRST[:, 2].mean() + 0.25


@pytest.mark.parametrize(
    ("tasks", "drawn", "label"),
    [
        ([{"speed": 0.5}, {"speed": 1.0}], [0.5, 1.0], "speed [u]"),
        ([{"goal": [1.0, 2.0]}, {"goal": [3.0, 4.0]}], [[1.0, 2.0], [3.0, 4.0]], ("goal x [u]", "goal y [u]")),
        ([{"goal": [1.0, 2.0, 3.0]}] * 2, None, "task"),
        ([{"speed": 0.5, "mass": 1.0}] * 2, None, "task"),
    ],
)
def test_tasks_are_drawn_against_one_number_or_a_point_in_the_plane(tasks, drawn, label):
    both = dict.fromkeys((META, RANDOM), np.zeros((2, 1)))
    units = dict.fromkeys(tasks[0], "u")
    values, text = record(tasks=tuple(tasks), units=units, returns=both, deterministic=both).parameter()
    assert text == label
    assert (values if drawn is None else values.tolist()) == drawn


def test_a_number_without_a_unit():
    assert record(units={"place": ""}).parameter()[1] == "place"


def changed(data, **changes):
    return {key: value for key, value in (data | changes).items() if value is not ...}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"format": "metarl-comparison"}, "its format is 'metarl-comparison', expected 'metarl-evaluation'"),
        ({"format": ...}, "its format is None"),
        ({"version": 1}, "is of version 1.*metarl evaluate runs/rail --split held-out"),
        ({"version": 3}, "is of version 3, newer .*update"),
        ({"version": ...}, "is of version None"),
        ({"episodes": ...}, "\n  episodes: "),
        ({"episodes": "many"}, "\n  episodes: "),
        ({"training": {"seed": 1}}, "\n  training.iterations: .*\n  training.environment_steps: "),
        ({"tasks": [{"place": 1.0}] * 3}, r"returns of 'meta-learned' has shape \(4, 3\), not .* = \(3, 3\)"),
        ({"tasks": [*[{"place": 1.0}] * 3, {"speed": 1.0}]}, "the tasks differ in their fields"),
        ({"returns": {META: TRAINED.tolist()}}, "both need 'meta-learned', and the same others"),
        ({"returns": {RANDOM: TRAINED.tolist()}}, "returns of random init"),
        (
            {"deterministic": {META: TRAINED[:, :2].tolist(), RANDOM: TRAINED.tolist()}},
            r"deterministic of 'meta-learned' has shape \(4, 2\), not \(tasks, K\+1\) = \(4, 3\)",
        ),
        ({"returns": {META: [[1.0], [1.0, 2.0]], RANDOM: [[1.0]]}}, "\n  returns.meta-learned: "),
        ({"returns": {META: [["a"]], RANDOM: [[1.0]]}}, "\n  returns.meta-learned: "),
        ({"returns": {META: [[{"a": 1.0}]], RANDOM: [[1.0]]}}, "\n  returns.meta-learned: rows of numbers"),
        ({"tasks": [], "returns": {META: [], RANDOM: []}}, r"has shape \(0,\)"),
    ],
)
def test_a_file_that_is_no_record_is_refused(tmp_path, changes, message):
    path = written(tmp_path / "evaluation-held-out.json", changed(record().to_json(), **changes))
    with pytest.raises(UserError, match=f"(?s){path.name} .*{message}"):
        read(path)


@pytest.mark.parametrize("content", [b"", b"{torn", b"\xff\xfe", b"[1]", b"3"])
def test_a_file_of_something_else_is_refused(tmp_path, content):
    path = tmp_path / "x.json"
    path.write_bytes(content)
    with pytest.raises(UserError, match="x.json is no evaluation"):
        read(path)


def test_a_file_that_is_missing(tmp_path):
    written(tmp_path / "evaluation-held-out.json", {})
    with pytest.raises(UserError, match="Did you mean 'evaluation-held-out.json'"):
        read(tmp_path / "evaluation-heldout.json")


def test_the_command_evaluates_in_the_same_way():
    assert records.command("my run", "iid").endswith("metarl evaluate 'my run' --split iid")
    expected = "--split iid --tasks 4 --steps 2 --episodes 7 --later-steps 0.5 --seed 4"
    assert records.command("run", "iid", record()).endswith(f"metarl evaluate run {expected}")
