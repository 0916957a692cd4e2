"""`metarl baseline` as its users call it, on runs that were trained."""

import json
import os
import runpy
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from metarl.baselines import ppo_jobs, prepare
from metarl.inner.sb3 import SB3PPO
from metarl.results.records import META, RANDOM, file_of, read

ROOT = Path(__file__).parents[1]
SCRIPTS = ROOT / "scripts"
TINY = """
env: {id: "envs:metarl/PointNav-v0", horizon: 10}
policy: {hidden_sizes: [8]}
sampling: {tasks: 3, episodes: 4}
evaluation: {every: 9, tasks: 3, steps: 1, episodes: 2, videos: 0}
tracking: {mode: offline}
iterations: 1
"""
JOINT = "algorithm: {inner: {steps: 0}}\n"
KINDS = {
    "meta": TINY,
    "pretrained": TINY.replace("offline", "disabled") + JOINT,
    "oracle": TINY.replace("offline", "disabled")
    .replace("horizon", "options: {goal_visible: true}, horizon")
    .replace("tasks: 3, episodes: 4", "tasks: 20, episodes: 4")
    .replace("every: 9", "every: 99")
    .replace("iterations: 1", "iterations: 12")
    + JOINT,
}
SMALL = ("--tasks", 3, "--steps", 2, "--rollouts", 3, "--tune", 0)


def script(name: str, *args: object) -> int:
    """Run a script in this process; its exit status."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", [name, *map(str, args)])
        try:
            runpy.run_path(str(SCRIPTS / name), run_name="__main__")
        except SystemExit as stop:
            return stop.code if isinstance(stop.code, int) else 0
    return 0


@pytest.fixture
def trained(recorded, tmp_path) -> dict[str, Path]:
    """A run that adapts, a pretrained one, and one that sees its task."""
    for name, settings in KINDS.items():
        (tmp_path / f"{name}.yaml").write_text(settings)
        assert script("train.py", tmp_path / f"{name}.yaml", "--run-dir", tmp_path / name) == 0
    return {name: tmp_path / name for name in KINDS}


@pytest.fixture(scope="module")
def folders(tmp_path_factory) -> Path:
    """The same runs, for those who leave them as they are."""
    folder = tmp_path_factory.mktemp("runs")
    for name, settings in KINDS.items():
        (folder / f"{name}.yaml").write_text(settings.replace("offline", "disabled"))
        assert script("train.py", folder / f"{name}.yaml", "--run-dir", folder / name) == 0
    return folder


def times(run: Path) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in (run / "baselines").iterdir()}


def test_all_learners_on_the_same_goals(trained, recorded, capsys):
    run = trained["meta"]
    [before] = (run / "wandb").glob("offline-run-*")
    others = ("--pretrained", trained["pretrained"], "--oracle", trained["oracle"])
    time.sleep(1.1)  # W&B names the parts of a run after the second
    assert script("baseline.py", run, *SMALL, *others, "--workers", 1) == 0
    output = capsys.readouterr().out
    for expected in (
        "PointNav-v0, 3 held-out tasks, 2 episodes a step",
        "steps to 90% of",
        "PPO from scratch",
    ):
        assert expected in output
    assert "Without --" not in output
    assert (run / "figures" / "baseline.png").read_bytes().startswith(b"\x89PNG")

    data = json.loads((run / "baseline.json").read_text())
    ppo = ["PPO from scratch", f"PPO from {META}", "PPO from pretrained"]
    assert list(data["curves"]) == [META, RANDOM, "pretrained", *ppo, "oracle"]
    assert [data["curves"][label]["steps"] for label in (META, ppo[0], "oracle")] == [
        [0, 20, 40],
        [0, 20, 40, 60],
        [0, 60],
    ]
    assert all(np.shape(data["returns"][label]) == (3, 4) for label in ppo)
    assert data["trained_before"] == {META: 2 * 120, "pretrained": 120, "oracle": 12 * 800}
    assert script("report.py", run) == 0
    page = (run / "report.html").read_text()
    assert "PPO from pretrained" in page
    assert data["remarks"][0].split(" on the new task")[0] in page

    # PPO begins as what it starts from, and evaluate.py measures the same
    assert script("evaluate.py", run, "--tasks", 3, "--steps", 2) == 0
    record = read(file_of(run, "held-out"))
    for label, start in ((META, ppo[1]), (RANDOM, ppo[0])):
        np.testing.assert_array_equal(data["returns"][label], record.returns[label])
        np.testing.assert_allclose(np.array(data["returns"][start])[:, 0], record.returns[label][:, 0], rtol=1e-6)
        assert (np.array(data["returns"][start])[:, 1] != record.returns[label][:, 1]).all()

    [added] = {*(run / "wandb").glob("offline-run-*")} - {before}
    assert recorded(added, "run")[0]["run_id"] == recorded(before, "run")[0]["run_id"]
    rows = [row["item"] for row in recorded(added, "history")]
    seen = [row for row in rows if "sb3/from_scratch/rollout/ep_rew_mean" in row]
    assert [row["environment_steps"] for row in seen] == [240 + 20, 240 + 40, 240 + 60]
    assert any("sb3/from_pretrained/train/value_loss" in row for row in rows)
    assert any(key.startswith("figures/baseline") for row in rows for key in row)


def test_what_is_done_is_not_done_again(folders, tmp_path, capsys):
    run = shutil.copytree(folders / "meta", tmp_path / "meta")
    few = ("--tasks", 2, "--steps", 1, "--rollouts", 2, "--workers", 1, "--tune", 0)
    assert script("baseline.py", run, *few) == 0
    output = capsys.readouterr().out
    assert "Without --pretrained, its curve is left out: metarl train point_nav/pretrained trains one" in output
    assert "Without --oracle" in output
    content, done, told = (run / "baseline.json").read_bytes(), times(run), (run / "metrics.jsonl").read_bytes()
    assert len(done) == 2 * 2
    assert b"sb3/from_scratch/rollout/ep_rew_mean" in told
    assert script("baseline.py", run, *few) == 0
    assert (times(run), (run / "baseline.json").read_bytes()) == (done, content)
    assert (run / "metrics.jsonl").read_bytes() == told  # nothing is told twice

    lost = next(path for path in done if path.name.startswith("PPO-from-scratch-001"))
    kept = lost.read_bytes()
    lost.unlink()
    assert script("baseline.py", run, *few) == 0
    assert lost.read_bytes().split(b"metrics")[0] == kept.split(b"metrics")[0]  # the rest tells the time it took
    assert (run / "baseline.json").read_bytes() == content
    assert {path for path, then in done.items() if times(run)[path] != then} == {lost}

    assert script("baseline.py", run, *few, "--pretrained", folders / "pretrained", "--learning-rate", 0.01) == 0
    assert len(times(run)) == 2 * 2 + 3 * 2
    assert (run / "baseline.json").read_bytes() != content


def test_every_learner_has_the_settings_that_are_best_for_it(folders, tmp_path, capsys):
    run = shutil.copytree(folders / "meta", tmp_path / "meta")
    few = ("--tasks", 2, "--steps", 2, "--rollouts", 1, "--workers", 1, "--tune", 2)
    assert script("baseline.py", run, *few, "--pretrained", folders / "pretrained") == 0
    output = " ".join(capsys.readouterr().out.split())
    data = json.loads((run / "baseline.json").read_text())
    sizes = {label: len(tuned["candidates"]) for label, tuned in data["tuned"].items()}
    ppo = {"PPO from scratch": 12, f"PPO from {META}": 4, "PPO from pretrained": 4}
    assert sizes == {META: 12, RANDOM: 12, "pretrained": 12, **ppo}
    for label, tuned in data["tuned"].items():
        best = max(tuned["candidates"], key=lambda candidate: candidate["return"])
        assert {**tuned["chosen"], "return": best["return"]} == best
        assert (tuned["split"], tuned["tasks"]) == ("validation", 2)
        assert f"{label}: " in output
    assert "Chosen on 2 validation tasks" in output
    [scratch] = {path for path in (run / "baselines").glob("PPO-from-scratch-000-*.json")}
    setup, chosen = prepare(run, tasks=2, steps=2, tune=2), data["tuned"]["PPO from scratch"]["chosen"]
    learner = SB3PPO(**{name: value for name, value in data["ppo"].items() if name != "name"})
    assert ppo_jobs(setup, "PPO from scratch", learner, chosen)[0].file == scratch


def test_an_interrupted_call_keeps_what_is_done(folders, tmp_path):
    """It ends at once; what other processes have done is what this one does."""
    run = shutil.copytree(folders / "meta", tmp_path / "meta")
    words = [sys.executable, SCRIPTS / "baseline.py", run, "--tasks", 20, "--rollouts", 60, "--workers", 2]
    words += ["--reward-scale", 0.5, "--tune", 0]
    process = subprocess.Popen(
        [*map(str, words)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        # A shell starts background jobs with SIGINT ignored, and children inherit that.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        start_new_session=True,
    )
    deadline = time.monotonic() + 120
    while not [*run.glob("baselines/*.json")] and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does
    output = process.communicate(timeout=60)[0]
    assert process.returncode == 130, output
    assert "Call again to learn the others" in output
    assert "Traceback" not in output
    assert not (run / "baseline.json").exists()
    done = [*run.glob("baselines/*.json")]
    assert 1 <= len(done) < 40
    ppo = SB3PPO(steps=60, learning_rate=1e-3, minibatches=1, reward_scale=0.5)
    setup = prepare(run)
    chosen = {"action_scale": 0.1, "learning_rate": 1e-3}
    [goal] = [g for label in setup.starts for g in ppo_jobs(setup, label, ppo, chosen) if g.file == done[0]]
    returns = goal.read().returns
    goal.file.unlink()
    goal.run()
    np.testing.assert_array_equal(goal.read().returns, returns)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--pretrained", "oracle"], "cannot be compared with"),
        (["--pretrained", "nothing"], "nothing holds no run"),
        (["--oracle", "pretrained"], "does not see its task"),
        (["--minibatches", "3"], "--minibatches 3 does not divide the 20 steps of a rollout"),
        (["--learning-rate", "-1"], "learning_rate = -1.0"),
        (["--reward-scale", "0"], "reward_scale = 0.0"),
        (["--split", "heldout"], "held-out"),
        (["--rollouts", "0"], "rollouts = 0: should be greater than or equal to 1"),
    ],
)
def test_what_cannot_be_compared_ends_in_one_message(folders, capsys, monkeypatch, flags, message):
    monkeypatch.chdir(folders)
    assert script("baseline.py", "meta", *SMALL, *flags) == 2
    error = capsys.readouterr().err
    assert message in error
    assert "Traceback" not in error
    assert not (folders / "meta" / "baselines").exists()
