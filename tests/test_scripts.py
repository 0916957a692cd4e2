"""The scripts as their users call them: training, resuming, evaluating, and what they say when something is wrong."""

import json
import os
import runpy
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from metarl import checkpoints

ROOT = Path(__file__).parents[1]
TINY = """
env: {id: "envs:metarl/PointNav-v0", horizon: 20}
policy: {hidden_sizes: [16]}
sampling: {tasks: 3, episodes: 4}
evaluation: {every: 2, tasks: 3, steps: 1, episodes: 2, videos: 0}
tracking: {mode: disabled}
iterations: 3
"""

Script = Callable[..., int]


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> Script:
    """Run a script in this process and return its exit status."""

    def run(name: str, *args: object) -> int:
        monkeypatch.setattr(sys, "argv", [name, *map(str, args)])
        try:
            runpy.run_path(str(ROOT / "scripts" / name), run_name="__main__")
        except SystemExit as stop:
            return stop.code if isinstance(stop.code, int) else 0
        return 0

    return run


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    path = tmp_path / "tiny.yaml"
    path.write_text(TINY)
    return path


def command(name: str, *args: object) -> list[str]:
    return [sys.executable, str(ROOT / "scripts" / name), *map(str, args)]


def params_of(run_dir: Path) -> dict[str, torch.Tensor]:
    return checkpoints.load(run_dir / "checkpoint.pt")["params"]


def metrics_of(run_dir: Path) -> list[dict]:
    """Every logged row, without what depends on the clock."""
    rows = map(json.loads, (run_dir / "metrics.jsonl").read_text().splitlines())
    return [{key: value for key, value in row.items() if not key.startswith("time/")} for row in rows]


def assert_same_run(left: Path, right: Path) -> None:
    for name, value in params_of(left).items():
        assert torch.equal(value, params_of(right)[name]), name
    assert metrics_of(left) == metrics_of(right)


def test_resuming_equals_never_having_stopped(script, tiny, tmp_path):
    assert script("train.py", tiny, "--run-dir", tmp_path / "whole", "--iterations", 6) == 0
    assert script("train.py", tiny, "--run-dir", tmp_path / "parts") == 0
    assert checkpoints.load(tmp_path / "parts" / "checkpoint.pt")["iteration"] == 3
    assert script("train.py", "--run-dir", tmp_path / "parts", "--resume", "--iterations", 6) == 0
    assert_same_run(tmp_path / "whole", tmp_path / "parts")


def test_another_seed_is_another_run(script, tiny, tmp_path):
    for seed in (0, 1):
        assert script("train.py", tiny, "--run-dir", tmp_path / str(seed), "--seed", seed) == 0
    assert not torch.equal(params_of(tmp_path / "0")["w0"], params_of(tmp_path / "1")["w0"])


def done(run_dir: Path) -> int:
    """Iterations that the run has saved; -1 before its first checkpoint."""
    path = run_dir / "checkpoint.pt"
    return checkpoints.load(path)["iteration"] if path.exists() else -1


def start_and_wait(tiny: Path, run_dir: Path, iterations: int) -> subprocess.Popen[str]:
    """A training process that has done at least so many iterations and is still at it."""
    process = subprocess.Popen(
        command("train.py", tiny, "--run-dir", run_dir, "--iterations", 100_000),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        cwd=run_dir.parent,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        # A shell starts background jobs with SIGINT ignored, and children inherit that.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and process.poll() is None:
        if done(run_dir) >= iterations:
            return process
        time.sleep(0.05)
    process.kill()
    raise AssertionError(process.communicate()[0])


def test_a_killed_run_resumes_bit_exactly(script, tiny, tmp_path):
    process = start_and_wait(tiny, tmp_path / "killed", 3)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    end = checkpoints.load(tmp_path / "killed" / "checkpoint.pt")["iteration"] + 2
    with (tmp_path / "killed" / "metrics.jsonl").open("a") as file:
        file.write('{"iteration": 99, "torn')
    assert script("train.py", "--run-dir", tmp_path / "killed", "--resume", "--iterations", end) == 0
    assert script("train.py", tiny, "--run-dir", tmp_path / "whole", "--iterations", end) == 0
    assert_same_run(tmp_path / "killed", tmp_path / "whole")


def test_interrupting_says_how_to_go_on(tiny, tmp_path):
    process = start_and_wait(tiny, tmp_path / "run", 2)
    process.send_signal(signal.SIGINT)
    output = process.communicate(timeout=60)[0]
    assert process.returncode == 130
    assert "--run-dir run --resume" in output
    assert "Traceback" not in output


def test_evaluating_a_run(script, tiny, tmp_path, capsys):
    run = tmp_path / "run"
    assert script("train.py", tiny, "--run-dir", run) == 0
    arguments = (run, "--tasks", 4, "--steps", 2, "--episodes", 3)
    assert script("evaluate.py", *arguments) == 0
    assert "gain" in capsys.readouterr().out
    report = json.loads((run / "evaluation-held-out.json").read_text())
    assert len(report["tasks"]) == 4
    assert set(report["returns"]) == {"meta-learned", "random init"}
    for returns in report["returns"].values():
        assert torch.tensor(returns).shape == (4, 3)
    for summary in report["summary"].values():
        gain = summary[1]["gain"]
        assert gain["low"] <= gain["value"] <= gain["high"]
    assert (run / "evaluation-held-out.png").read_bytes().startswith(b"\x89PNG")

    assert script("evaluate.py", *arguments, "--json", tmp_path / "again.json") == 0
    assert json.loads((tmp_path / "again.json").read_text()) == report


def history(wandb_run: Path, kind: str) -> list[dict]:
    """What W&B's own reader finds in a recorded run."""
    reader = [sys.executable, "-m", "wandb", "leet", "inspect", "--json", str(wandb_run)]
    lines = subprocess.run(reader, capture_output=True, text=True, check=True, timeout=60).stdout.splitlines()
    return [record[kind] for record in map(json.loads, lines) if record["type"] == kind]


def test_a_run_is_recorded_in_wandb(script, tiny, tmp_path, monkeypatch):
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    run = tmp_path / "run"
    arguments = ("--iterations", 2, "--evaluation.videos", 2, "--tracking.mode", "auto", "--env.horizon", 5)
    assert script("train.py", tiny, "--run-dir", run, *arguments) == 0
    (wandb_run,) = (run / "wandb").glob("offline-run-*")
    rows = [row["item"] for row in history(wandb_run, "history")]
    logged = {key.split("._")[0] for row in rows for key in row}
    assert {"train/return_before", "train/return_after", "held_out/gain", "held_out/returns"} <= logged
    assert {"rollouts/task-00", "rollouts/task-02", "update/kl", "time/sampling_s"} <= logged
    assert all({"iteration", "environment_steps"} <= row.keys() for row in rows)
    trained = [row for row in rows if "train/return_after" in row]
    assert [row["iteration"] for row in trained] == [0, 1]
    assert [row["environment_steps"] for row in trained] == [0, 2 * 3 * 4 * 5]
    assert len(list((wandb_run / "files").rglob("*.mp4"))) == 2
    assert history(wandb_run, "artifact")


def test_the_number_of_threads_changes_nothing(script, tiny, tmp_path):
    for threads in (1, 2):
        assert script("train.py", tiny, "--run-dir", tmp_path / str(threads), "--threads", threads) == 0
    assert_same_run(tmp_path / "1", tmp_path / "2")


def test_a_misspelt_key_in_a_config(script, tiny, tmp_path, capsys):
    tiny.write_text(TINY.replace("horizon", "horizont"))
    assert script("train.py", tiny, "--run-dir", tmp_path / "run") == 2
    assert "env.horizont: no such setting. Did you mean 'horizon'?" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_a_config_that_does_not_exist(script, capsys):
    assert script("train.py", ROOT / "configs" / "point_naw.yaml") == 2
    assert "Did you mean 'point_nav.yaml'?" in capsys.readouterr().err


def test_a_run_without_a_checkpoint(script, tiny, tmp_path, capsys):
    run = tmp_path / "run"
    assert script("train.py", tiny, "--run-dir", run, "--iterations", 1) == 0
    (run / "checkpoint.pt").unlink()
    assert script("evaluate.py", run) == 2
    assert "there is no checkpoint" in capsys.readouterr().err
    logged = (run / "metrics.jsonl").read_bytes()
    assert script("train.py", "--run-dir", run, "--resume") == 2
    assert "metrics but no checkpoint.pt" in capsys.readouterr().err
    assert (run / "metrics.jsonl").read_bytes() == logged
    (run / "metrics.jsonl").unlink()  # as after a kill before the first iteration
    assert script("train.py", "--run-dir", run, "--resume") == 0


def test_a_mistake_leaves_no_run_behind(script, tiny, tmp_path, monkeypatch):
    run = tmp_path / "run"
    for wrong in (("--env.id", "nowhere:metarl/X-v0"), ("--sampling.split", "nope"), ("--evaluation.split", "nope")):
        assert script("train.py", tiny, "--run-dir", run, *wrong) == 2
        assert not run.exists()
    monkeypatch.setenv("WANDB_MODE", "garbage")
    assert script("train.py", tiny, "--run-dir", run, "--tracking.mode", "auto") == 2
    assert not run.exists()


def test_a_refused_resume_changes_nothing(script, tiny, tmp_path, monkeypatch, capsys):
    run = tmp_path / "run"
    assert script("train.py", tiny, "--run-dir", run) == 0
    before = {path.name: path.read_bytes() for path in run.iterdir() if path.is_file()}
    resume = ("train.py", "--run-dir", run, "--resume")
    assert script(*resume, "--iterations", 1) == 2
    assert "the run has done 3 already" in capsys.readouterr().err
    monkeypatch.setenv("WANDB_MODE", "garbage")
    assert script(*resume, "--iterations", 9, "--tracking.mode", "auto") == 2
    assert {path.name: path.read_bytes() for path in run.iterdir() if path.is_file()} == before


def test_two_processes_do_not_train_one_run(script, tiny, tmp_path, capsys):
    process = start_and_wait(tiny, tmp_path / "run", 1)
    assert script("train.py", "--run-dir", tmp_path / "run", "--resume", "--iterations", 200_000) == 2
    assert "another process" in capsys.readouterr().err
    process.kill()
    process.communicate()


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--env.id", "envs:metarl/HalfCheetahVle-v0"], "HalfCheetahVel"),
        (["--env.id", "CartPole-v1"], "no batched family"),
        (["--env.options.velocity_rnage", "1"], "velocity_rnage"),
        (["--sampling.tasks", "0"], "sampling.tasks = 0"),
        (["--env.horizon", "0"], "env.horizon = 0"),
        (["--algorithm.inner_step_size", "0"], "algorithm.inner_step_size = 0"),
        (["--algorithm.inner_step_size", "nan"], "algorithm.inner_step_size"),
        (["--algorithm.max_kl", "-1"], "algorithm.max_kl = -1"),
        (["--algorithm.inner_steps", "-1"], "algorithm.inner_steps = -1"),
        (["--iterations", "many"], "iterations"),
        (["--evaluation.split", "heldout"], "held-out"),
        (["--sampling.split", "test"], "train"),
        (["--policy.hidden_sizes", "-5"], "policy.hidden_sizes"),
        (["--policy.initial_std", "0.0001"], "initial_std = 0.0001 must be above min_std"),
        (
            ["--evaluation.tasks", "3", "--env.id", "envs:metarl/HalfCheetahDir-v0", "--evaluation.split", "train"],
            "only 2",
        ),
        (["--algorthm.max_kl", "0.1"], "algorithm.max_kl"),
    ],
)
def test_a_wrong_setting_ends_in_one_message(script, tiny, tmp_path, capsys, flags, message):
    assert script("train.py", tiny, "--run-dir", tmp_path / "run", *flags) == 2
    error = capsys.readouterr().err
    assert message in error
    assert "Traceback" not in error


def test_a_parameter_of_another_family_is_refused(script, tiny, tmp_path, capsys):
    tiny.write_text(TINY.replace("horizon: 20", "horizon: 20, options: {velocity_range: [0, 3]}"))
    assert script("train.py", tiny, "--run-dir", tmp_path / "run") == 2
    assert "velocity_range" in capsys.readouterr().err


def test_a_family_without_held_out_tasks_says_so(script, tiny, tmp_path, capsys):
    direction = ("--env.id", "envs:metarl/HalfCheetahDir-v0")
    assert script("train.py", tiny, "--run-dir", tmp_path / "run", *direction) == 2
    assert "only two tasks exist" in capsys.readouterr().err


def test_a_folder_with_another_run_is_refused(script, tiny, tmp_path, capsys):
    assert script("train.py", tiny, "--run-dir", tmp_path / "run", "--iterations", 1) == 0
    before = (tmp_path / "run" / "checkpoint.pt").read_bytes()
    assert script("train.py", tiny, "--run-dir", tmp_path / "run") == 2
    assert "--resume" in capsys.readouterr().err
    assert (tmp_path / "run" / "checkpoint.pt").read_bytes() == before


def test_resuming_with_other_settings_is_refused(script, tiny, tmp_path, capsys):
    assert script("train.py", tiny, "--run-dir", tmp_path / "run", "--iterations", 1) == 0
    resume = ("--run-dir", tmp_path / "run", "--resume")
    assert script("train.py", *resume, "--algorithm.max_kl", 0.5) == 2
    assert "algorithm.max_kl: the checkpoint has 0.01, the config 0.5" in capsys.readouterr().err
    assert script("train.py", *resume, "--iterations", 2, "--threads", 1) == 0


@pytest.mark.parametrize("script_name", ["train.py", "evaluate.py"])
@pytest.mark.parametrize("damage", ["truncated", "foreign"])
def test_a_damaged_checkpoint_is_refused(script, tiny, tmp_path, capsys, damage, script_name):
    run = tmp_path / "run"
    assert script("train.py", tiny, "--run-dir", run, "--iterations", 1) == 0
    whole = (run / "checkpoint.pt").read_bytes()
    (run / "checkpoint.pt").write_bytes(whole[: len(whole) // 2] if damage == "truncated" else b"not a checkpoint")
    arguments = ("--run-dir", run, "--resume") if script_name == "train.py" else (run,)
    assert script(script_name, *arguments) == 2
    assert "checkpoint.pt cannot be read as a checkpoint" in capsys.readouterr().err


def test_evaluating_what_is_no_run(script, tmp_path, capsys):
    assert script("evaluate.py", tmp_path / "nothing") == 2
    assert "holds no run" in capsys.readouterr().err


def test_training_that_diverges_keeps_the_checkpoint(script, tiny, tmp_path, capsys):
    tiny.write_text(TINY.replace("sampling:", "algorithm: {inner_step_size: 1.0e+60}\nsampling:"))
    assert script("train.py", tiny, "--run-dir", tmp_path / "wild", "--evaluation.steps", 0) == 1
    error = capsys.readouterr().err
    assert "is not finite" in error
    assert "iteration 0" in error
    assert checkpoints.load(tmp_path / "wild" / "checkpoint.pt")["iteration"] == 0


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_no_permission(script, tiny, tmp_path, capsys):
    (tmp_path / "locked").mkdir(mode=0o500)
    assert script("train.py", tiny, "--run-dir", tmp_path / "locked" / "run") == 1
    assert str(tmp_path / "locked") in capsys.readouterr().err


def test_a_run_directory_that_is_a_file(script, tiny, tmp_path, capsys):
    (tmp_path / "file").write_text("mine")
    assert script("train.py", tiny, "--run-dir", tmp_path / "file") == 1
    assert str(tmp_path / "file") in capsys.readouterr().err
    assert (tmp_path / "file").read_text() == "mine"


def test_listing_the_families(script, tmp_path, capsys):
    assert script("tasks.py") == 0
    listed = capsys.readouterr().out
    assert "metarl/AntDir-v0" in listed
    assert "none, only two tasks exist" in listed
    assert script("tasks.py", "HalfCheetahVel", "--render", tmp_path / "sheet.png", "--count", 2) == 0
    assert "velocity_range" in capsys.readouterr().out
    assert (tmp_path / "sheet.png").read_bytes().startswith(b"\x89PNG")
    assert script("tasks.py", "HalfCheetahVle") == 2
    assert "Did you mean 'HalfCheetahVel'?" in capsys.readouterr().err


def test_an_oracle_sees_the_goal(script, tiny, tmp_path):
    tiny.write_text(TINY.replace("horizon: 20", "horizon: 20, options: {goal_visible: true}"))
    assert script("train.py", tiny, "--run-dir", tmp_path / "run", "--iterations", 1) == 0
    assert params_of(tmp_path / "run")["w0"].shape[0] == 4


def test_a_damaged_run_file_stops_a_resume_before_it_changes_anything(script, tiny, tmp_path, capsys):
    run = tmp_path / "run"
    assert script("train.py", tiny, "--run-dir", run, "--iterations", 1) == 0
    (run / "run.json").write_text("{torn")
    before = {path.name: path.read_bytes() for path in run.iterdir() if path.is_file()}
    assert script("train.py", "--run-dir", run, "--resume", "--iterations", 2) == 2
    assert "run.json does not name the run" in capsys.readouterr().err
    assert {path.name: path.read_bytes() for path in run.iterdir() if path.is_file()} == before


def test_the_picture_of_an_evaluation_does_not_replace_its_numbers(script, tiny, tmp_path, capsys):
    assert script("train.py", tiny, "--run-dir", tmp_path / "run", "--iterations", 1) == 0
    assert script("evaluate.py", tmp_path / "run", "--json", tmp_path / "x.png") == 2
    assert "the picture goes there" in capsys.readouterr().err
