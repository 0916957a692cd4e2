"""The scripts as their users call them: training, resuming, evaluating, and what they say when something is wrong."""

import json
import os
import re
import runpy
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import gymnasium
import imageio.v2 as imageio
import numpy as np
import pytest
import torch
from stable_baselines3 import PPO
from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize
from wandb.sdk.launch.sweeps import utils as wandb_sweeps
from wandb.sdk.lib import config_util

import metarl
from envs.hopper import params
from envs.point import GoalTask, goal_space
from metarl import runs
from metarl.commands import render
from metarl.experiment.builders import make_vector_env
from metarl.figures.video import GAP
from metarl.jobs.sweep import Sweep
from metarl.results.report import run_data, videos
from metarl.results.report.run_data import tasks_of
from metarl.runs import checkpoints, tracking

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


def test_training_lists_its_own_videos_alone(script, tiny, tmp_path, capsys):
    run = tmp_path / "run"
    filming = ("--run-dir", run, "--evaluation.videos", 1)
    assert script("train.py", tiny, *filming, "--iterations", 1) == 0
    assert f"video          {run / 'videos' / 'task-00.mp4'}" in capsys.readouterr().out
    (run / "videos" / "task-00.mp4").rename(run / "videos" / "report-held-out-easiest.mp4")
    assert script("train.py", "--run-dir", run, "--resume") == 0
    assert "task-00.mp4" in (output := capsys.readouterr().out)
    assert "easiest" not in output


def test_training_starts_from_a_model_of_stable_baselines(script, tiny, tmp_path, capsys):
    """From its actor, also where training stops and the file is no longer there; one that does not fit is refused."""
    assert script("train.py", tiny, "--run-dir", tmp_path / "first") == 0
    metarl.load(tmp_path / "first").export_sb3(tmp_path / "model.zip")
    start = ("train.py", tiny, "--start_from", tmp_path / "model.zip", "--seed", 1)
    assert script(*start, "--run-dir", tmp_path / "run", "--iterations", 0) == 0
    first, run = metarl.load(tmp_path / "first"), metarl.load(tmp_path / "run")
    observations = np.random.default_rng(0).normal(size=(50, 2))
    actions = first.act(observations, deterministic=True)
    np.testing.assert_allclose(run.act(observations, deterministic=True), actions, atol=1e-6)
    assert "observation_mean" not in run.params  # it learned from observations as they are, and goes on so
    assert script(*start, "--run-dir", tmp_path / "wide", "--policy.hidden_sizes", "[8]") == 2
    assert "16" in capsys.readouterr().err
    assert not (tmp_path / "wide").exists()
    (tmp_path / "model.zip").unlink()
    assert script("train.py", "--run-dir", tmp_path / "run", "--resume", "--iterations", 1) == 0
    assert script(*start, "--run-dir", tmp_path / "later") == 2
    assert "model.zip" in capsys.readouterr().err


def test_training_starts_from_a_model_behind_vec_normalize(script, tiny, tmp_path, capsys):
    env = VecNormalize(DummyVecEnv([lambda: gymnasium.make("envs:metarl/PointNav-v0")]))
    PPO("MlpPolicy", env, n_steps=64, policy_kwargs={"net_arch": [16]}, device="cpu").save(tmp_path / "model.zip")
    env.reset()
    for _ in range(20):
        env.step(np.ones((1, 2), np.float32))
    env.save(tmp_path / "statistics.pkl")
    statistics = ("--start_from_statistics", tmp_path / "statistics.pkl")
    start = ("train.py", tiny, "--start_from", tmp_path / "model.zip", *statistics, "--run-dir", tmp_path / "run")
    assert script(*start, "--iterations", 0) == 0
    begun = params_of(tmp_path / "run")
    np.testing.assert_allclose(begun["observation_mean"], env.obs_rms.mean, rtol=1e-6)
    assert script("train.py", "--run-dir", tmp_path / "run", "--resume", "--iterations", 1) == 0
    assert params_of(tmp_path / "run")["observation_count"] > begun["observation_count"]
    assert script("train.py", tiny, *statistics, "--run-dir", tmp_path / "other") == 2
    assert "start_from_statistics without start_from" in capsys.readouterr().err


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
    assert "error" not in output
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
    for policy in ("returns", "deterministic"):
        for returns in report[policy].values():
            assert torch.tensor(returns).shape == (4, 3)
    for summary in report["summary"].values():
        gain = summary[1]["gain"]
        assert gain["spread_over_tasks"] > 0
    assert (run / "evaluation-held-out.png").read_bytes().startswith(b"\x89PNG")

    assert script("evaluate.py", *arguments, "--json", tmp_path / "again.json") == 0
    assert json.loads((tmp_path / "again.json").read_text()) == report


def test_an_evaluation_of_another_kind_is_replaced_only_on_demand(script, trained, capsys):
    small = (trained, "--tasks", 2, "--steps", 1, "--episodes", 2)
    numbers = trained / "evaluation-held-out.json"
    for _ in range(2):  # the same again is no loss
        assert script("evaluate.py", *small) == 0
    before = numbers.read_bytes()
    other = (trained, "--tasks", 3, "--steps", 1, "--episodes", 2, "--seed", 1)
    assert script("evaluate.py", *other) == 2
    assert f"{numbers} holds an evaluation with tasks = 2, not 3; seed = 0, not 1." in capsys.readouterr().err
    assert numbers.read_bytes() == before
    assert script("evaluate.py", *other, "--replace") == 0
    assert len(json.loads(numbers.read_bytes())["tasks"]) == 3


def test_evaluating_the_best_checkpoint(script, tiny, tmp_path, capsys):
    """It is the one of the highest return in the test; to be sure which, the latest one is another."""
    run = tmp_path / "run"
    assert script("train.py", tiny, "--run-dir", run) == 0
    best = checkpoints.load(run / "best.pt")
    tested = [row["validation/return_1_steps"] for row in metrics_of(run) if "validation/return_1_steps" in row]
    assert best["return_after_adaptation"] == max(tested)
    assert best["iteration"] == (0, 2, 3)[tested.index(max(tested))]
    checkpoints.save(run / "best.pt", checkpoints.load(run / "checkpoint.pt") | {"iteration": 1})
    capsys.readouterr()
    small = (run, "--tasks", 2, "--steps", 1, "--episodes", 2)
    assert script("evaluate.py", *small) == 0
    assert "latest checkpoint, iteration 3" in capsys.readouterr().out
    assert script("evaluate.py", *small, "--checkpoint", "best") == 0
    output = capsys.readouterr().out
    assert "best checkpoint, iteration 1" in output
    assert "is biased upwards" in output
    for file, checkpoint, iterations in (("held-out", "latest", 3), ("held-out-best", "best", 1)):
        record = json.loads((run / f"evaluation-{file}.json").read_text())
        assert (record["checkpoint"], record["training"]["iterations"]) == (checkpoint, iterations)
    (run / "best.pt").unlink()
    assert script("evaluate.py", *small, "--checkpoint", "best") == 2
    assert "there is no checkpoint" in capsys.readouterr().err


def test_a_run_is_recorded_in_wandb(script, tiny, tmp_path, recorded):
    """Two iterations with a test before the first and after the last, two of its three tasks filmed in each."""
    run = tmp_path / "some-run"
    filmed = ("--evaluation.videos", 2, "--evaluation.film", "always")
    arguments = ("--iterations", 2, *filmed, "--tracking.mode", "auto", "--env.horizon", 5, "--seed", 3)
    own = ("--algorithm.first_order", True, "--tracking.tags", "mine")
    assert script("train.py", tiny, "--run-dir", run, *arguments, *own) == 0
    (wandb_run,) = (run / "wandb").glob("offline-run-*")
    (about,) = recorded(wandb_run, "run")
    assert about["run_group"] == "PointNav-v0/maml_trpo, first order"
    assert (about["display_name"], about["job_type"]) == ("some-run-seed3", "train")
    assert about["tags"] == ["PointNav-v0", "maml_trpo", "first order", "validation", "mine"]

    rows = [row["item"] for row in recorded(wandb_run, "history")]
    logged = {key.split(".")[0] for row in rows for key in row if not key.startswith("_")}
    assert {"train/return_before", "train/return_after", "validation/gain", "validation/returns"} <= logged
    assert {"rollouts/task-00", "rollouts/task-02", "update/kl", "time/sampling_s", "figures/learning"} <= logged
    documented = {name.replace("SPLIT", "validation") for name in re.findall(r"(\S+)/\S", tracking.__doc__)}
    assert {key.split("/")[0] for key in logged} <= documented | {"iteration", "environment_steps"}
    assert all({"iteration", "environment_steps"} <= row.keys() for row in rows)
    trained = [row for row in rows if "train/return_after" in row]
    assert [row["iteration"] for row in trained] == [0, 1]
    assert [row["environment_steps"] for row in trained] == [0, 2 * 3 * 4 * 5]

    films = [row["rollouts/tasks"] for row in metrics_of(run) if "rollouts/tasks" in row]
    assert films[0]["columns"] == ["task", "return before", "return after", "gain", "video"]
    tested = [row["validation/returns"]["rows"] for row in metrics_of(run) if "validation/returns" in row]
    for film, test in zip(films, tested, strict=True):
        numbers = [[task, before, after, after - before] for task, before, after in (test[0], test[2])]
        assert [row[:4] for row in film["rows"]] == numbers
        assert [row[4] for row in film["rows"]] == ["videos/task-00.mp4", "videos/task-02.mp4"]
    assert [row["iteration"] for row in rows if "rollouts/tasks._type" in row] == [0, 2]
    assert len(list((wandb_run / "files").rglob("*.mp4"))) == 2 * 2
    assert len(list((run / "videos").iterdir())) == 2


def test_a_resumed_run_goes_on_in_wandb(script, tiny, tmp_path, recorded, capsys):
    """Offline in a second part that W&B joins to the first, because it has the same id; the clock of steps goes on."""
    run = tmp_path / "run"
    assert script("train.py", tiny, "--run-dir", run, "--tracking.mode", "offline", "--iterations", 2) == 0
    capsys.readouterr()
    time.sleep(1.1)  # W&B names the parts of a run after the second
    assert script("train.py", "--run-dir", run, "--resume", "--iterations", 4) == 0
    parts = sorted((run / "wandb").glob("offline-run-*"))
    assert shlex.join(["sync", *map(str, parts)]) in capsys.readouterr().out
    first, second = ([record for record in recorded(part, "run")] for part in parts)
    same = ("run_id", "run_group", "display_name", "job_type", "tags", "project")
    assert [[record[key] for key in same] for record in first] == [[record[key] for key in same] for record in second]
    trained = [[row["item"] for row in recorded(part, "history") if "update/kl" in row["item"]] for part in parts]
    each = 2 * 3 * 4 * 20
    assert [[row["iteration"] for row in rows] for rows in trained] == [[0, 1], [2, 3]]
    assert [[row["environment_steps"] for row in rows] for rows in trained] == [[0, each], [2 * each, 3 * each]]


@pytest.mark.parametrize("flags", [[], ["--policy.latent_size", "2"]], ids=["plain", "latent"])
def test_the_number_of_threads_changes_nothing(script, tiny, tmp_path, flags):
    for threads in (1, 2):
        assert script("train.py", tiny, *flags, "--run-dir", tmp_path / str(threads), "--threads", threads) == 0
    assert_same_run(tmp_path / "1", tmp_path / "2")


def test_a_misspelt_key_in_a_config(script, tiny, tmp_path, capsys):
    tiny.write_text(TINY.replace("horizon", "horizont"))
    assert script("train.py", tiny, "--run-dir", tmp_path / "run") == 2
    assert "env.horizont: no such setting. Did you mean 'horizon'?" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_a_config_that_does_not_exist(script, capsys):
    assert script("train.py", ROOT / "configs" / "point_nav" / "maml_trop.yaml") == 2
    assert "Did you mean 'maml_trpo.yaml'?" in capsys.readouterr().err


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
    before = (run / "config.yaml").read_bytes()
    assert script("train.py", "--run-dir", run, "--resume", "--seed", 5) == 2
    assert "seed: it has 0, not 5" in capsys.readouterr().err
    assert (run / "config.yaml").read_bytes() == before
    assert script("train.py", "--run-dir", run, "--resume", "--iterations", 2) == 0
    assert runs.read_experiment(run).iterations == 2
    assert script("evaluate.py", run, "--tasks", 2) == 0


def test_a_run_is_named_after_what_it_trains(script, tiny, tmp_path, monkeypatch, capsys):
    """After its config, or after its family and algorithm where these are others."""
    monkeypatch.chdir(tmp_path)
    for flags, name in (
        ((), f"{tmp_path.name}-tiny-seed0"),
        (("--algorithm", "promp"), "PointNav-v0-promp-seed0"),
        (("--env.id", "HalfCheetahVel", "--seed", 3), "HalfCheetahVel-v0-maml_trpo-seed3"),
    ):
        assert script("train.py", tiny, "--iterations", 0, *flags) == 0
        (run,) = (tmp_path / "runs").glob(f"{name}-*")
        output = capsys.readouterr().out
        assert f"metarl evaluate {run.relative_to(tmp_path)}" in output
        assert "learning.png" not in output or (run / "learning.png").exists()
    assert runs.read_experiment(run).env.id == "envs:metarl/HalfCheetahVel-v0"


def test_each_of_several_starts_at_once_has_a_folder(tiny, tmp_path):
    words = command("train.py", tiny, "--iterations", 0)
    alone = {**os.environ, "PYTHONPATH": str(ROOT)}
    starts = [subprocess.Popen(words, cwd=tmp_path, env=alone, stdout=subprocess.DEVNULL) for _ in range(3)]
    assert [process.wait(timeout=120) for process in starts] == [0, 0, 0]
    assert len(list((tmp_path / "runs").glob("*/checkpoint.pt"))) == 3


def test_a_mistake_leaves_no_run_behind(script, tiny, tmp_path, monkeypatch):
    run = tmp_path / "run"
    for wrong in (("--env.id", "nowhere:metarl/X-v0"), ("--sampling.split", "nope"), ("--evaluation.split", "nope")):
        assert script("train.py", tiny, "--run-dir", run, *wrong) == 2
        assert not run.exists()
    monkeypatch.setenv("WANDB_MODE", "garbage")
    assert script("train.py", tiny, "--run-dir", run, "--tracking.mode", "auto") == 2
    assert not run.exists()
    assert script("train.py", tiny, "--run-dir", run, "--resume") == 2
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
        (["--env.id", "CartPole-v1"], "not a family of tasks"),
        (["--env.options.velocity_rnage", "1"], "velocity_rnage"),
        (["--sampling.tasks", "0"], "sampling.tasks = 0"),
        (["--env.horizon", "0"], "env.horizon = 0"),
        (["--algorithm.inner.step_size", "0"], "algorithm.inner.step_size = 0"),
        (["--algorithm.inner.step_size", "nan"], "algorithm.inner.step_size"),
        (["--algorithm.max_kl", "-1"], "algorithm.max_kl = -1"),
        (["--algorithm.inner.steps", "-1"], "algorithm.inner.steps = -1"),
        (["--iterations", "many"], "iterations"),
        (["--evaluation.split", "heldout"], "held-out"),
        (["--sampling.split", "test"], "train"),
        (["--sampling.split", "iid"], "training would see the test tasks"),
        (["--policy.hidden_sizes", "-5"], "policy.hidden_sizes"),
        (["--policy.initial_std", "0.0001"], "initial_std = 0.0001 must be above min_std"),
        (
            ["--evaluation.tasks", "3", "--env.id", "envs:metarl/HalfCheetahDir-v0", "--evaluation.split", "train"],
            "only 2",
        ),
        (["--algorthm.max_kl", "0.1"], "--algorithm.max-kl"),
        (["--algorithm", "mamltrpo"], "Did you mean 'maml_trpo'?"),
        (["--algorithm", "anil"], "E-MAML are settings of maml_trpo: first_order, inner.last_layer_only"),
        (["--algorithm.inner.lr", "1"], "Here it is --algorithm.inner.step-size."),
        (["--algorithm.learning_rate", "1"], "Here it is --algorithm.max-kl."),
        (["--lr", "1"], "Here it is --algorithm.inner.step-size or --algorithm.max-kl."),
        (["--device", "cuda"], "Everything runs on the CPU"),
        (["--inner-lr", "1"], "The step size of the inner loop is --algorithm.inner.step-size"),
        (["--algorithm.outer_lr", "1"], "of maml_trpo, --algorithm.max-kl"),
        (["--hidden", "64"], "Here it is --policy.hidden-sizes."),
        (["--num-envs", "8"], "--sampling.tasks times --sampling.episodes robots"),
        (["--total-timesteps", "1000"], "The length of training is --iterations"),
        (["--env.id", "HalfCheetahVle"], "Did you mean 'HalfCheetahVel'?"),
        (["--env.id", "metarl/HalfCheetahVle-v0"], "Did you mean 'HalfCheetahVel'?"),
        (["--env.id", "metarl/HalfCheetahVel-v7"], "Did you mean 'HalfCheetahVel'?"),
        (["--iterations", "99999999999999999999"], "iterations = 99999999999999999999: should be an integer"),
        (["--policy.initial_std", "1e300"], "policy.initial_std = 1e+300: should be less than"),
        (["--env.horizon", "1", "--sampling.gae_lambda", "0.9"], "have no later ones (env.horizon = 1)"),
        (["--policy.latent_size", "1", "--algorithm.inner.loss", "dice"], "with the loss ratio or reinforce"),
        (["--policy.latent_size", "1", "--algorithm", "reptile", "--algorithm.inner.name", "ppo"], "inner.name sgd"),
        (["--policy.latent_size", "-1"], "policy.latent_size = -1"),
        (
            ["--policy.latent_size", "1", "--algorithm.exploration_credit", "1", "--algorithm.inner.loss", "reinforce"],
            "the credit is that of independent episodes",
        ),
        (["--seed", "１"], "'１' is no whole number"),
        (["--seed", "1_0"], "'1_0' is no whole number"),
        (["--threads", "1000000000"], "threads = 1000000000"),
        (["--tracking.project", ""], "tracking.project = ''"),
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
    assert "algorithm.max_kl: it has 0.01, not 0.5" in capsys.readouterr().err
    assert script("train.py", *resume, "--iterations", 2, "--threads", 1, "--evaluation.film", "always") == 0


@pytest.mark.parametrize("script_name", ["train.py", "evaluate.py"])
@pytest.mark.parametrize("damage", ["truncated", "foreign"])
def test_a_damaged_checkpoint_is_refused(script, tiny, tmp_path, capsys, damage, script_name):
    run = tmp_path / "run"
    assert script("train.py", tiny, "--run-dir", run, "--iterations", 1) == 0
    whole = (run / "checkpoint.pt").read_bytes()
    (run / "checkpoint.pt").write_bytes(whole[: len(whole) // 2] if damage == "truncated" else b"not a checkpoint")
    arguments = ("--run-dir", run, "--resume") if script_name == "train.py" else (run,)
    assert script(script_name, *arguments) == 2
    error = capsys.readouterr().err
    assert "checkpoint.pt cannot be read as a checkpoint" in error
    assert f"copy it to {runs.CHECKPOINT} and resume training from it" in error
    assert script("evaluate.py", run, "--checkpoint", "best", "--tasks", 2) == 0
    (run / runs.CHECKPOINT).write_bytes((run / runs.BEST).read_bytes())
    assert script("train.py", "--run-dir", run, "--resume", "--iterations", 2) == 0
    assert done(run) == 2


def test_evaluating_what_is_no_run(script, tmp_path, capsys):
    assert script("evaluate.py", tmp_path / "nothing") == 2
    assert "holds no run" in capsys.readouterr().err


def test_training_that_diverges_keeps_the_checkpoint(script, tiny, tmp_path, capsys):
    tiny.write_text(TINY.replace("sampling:", "algorithm: {inner: {step_size: 1.0e+6}}\nsampling:"))
    assert script("train.py", tiny, "--run-dir", tmp_path / "wild", "--evaluation.steps", 0) == 1
    error = capsys.readouterr().err
    assert "not finite" in error
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


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--render", "x.png"], "name it first"),
        (["HalfCheetahVel", "--render", "x.pgn"], "Did you mean '.png'?"),
        (["HalfCheetahVel", "--render", "x"], "There are: .eps, "),
        (["HalfCheetahVel", "--render", "x.png", "--count", "1000000000"], "count = 1000000000: should be less than"),
    ],
)
def test_tasks_that_cannot_be_drawn_end_in_one_message(script, tmp_path, capsys, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    assert script("tasks.py", *arguments) == 2
    printed = capsys.readouterr()
    assert message in printed.err
    assert printed.out == ""
    assert list(tmp_path.iterdir()) == []


def test_each_of_a_few_tasks_is_drawn_once(script, tmp_path):
    assert script("tasks.py", "HalfCheetahDir", "--render", tmp_path / "two.svg") == 0
    assert (tmp_path / "two.svg").read_text().count("<image ") == 2


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


def test_numbers_do_not_go_to_a_folder(script, trained, tmp_path, capsys):
    before = {*trained.iterdir()}
    (tmp_path / "folder.json").mkdir()
    assert script("evaluate.py", trained, "--json", tmp_path / "folder.json") == 2
    assert "folder.json is a folder" in capsys.readouterr().err
    assert {*trained.iterdir()} == before


def test_reporting_a_run(script, tiny, tmp_path, capsys):
    """The page grows with what is known of the run; what was filmed is not filmed again."""
    run = tmp_path / "<img src=x onerror=alert(1)>"
    assert script("train.py", tiny, "--run-dir", run, "--env.horizon", 5) == 0
    assert script("report.py", run) == 0
    assert capsys.readouterr().out.endswith(f"report    {run / 'report.html'}\n")
    assert "no evaluation yet" in (run / "report.html").read_text()

    assert script("evaluate.py", run, "--tasks", 4, "--steps", 2, "--episodes", 3) == 0
    assert script("report.py", run) == 0
    page = (run / "report.html").read_text()
    assert "go to a hidden place in a square of 1 m side" in page
    assert "<img" not in page
    assert "&lt;img src=x onerror=alert(1)&gt;" in page
    assert page.count("<video") == 3
    assert len(page) < 10_000_000
    filmed = {path: path.stat().st_mtime_ns for path in (run / "videos").glob("report-held-out-*.mp4")}
    assert len(filmed) == 3

    assert script("report.py", run) == 0
    assert (run / "report.html").read_text() == page
    assert {path: path.stat().st_mtime_ns for path in filmed} == filmed
    assert script("evaluate.py", run, "--tasks", 4, "--steps", 1, "--episodes", 3, "--replace") == 0
    assert script("report.py", run) == 0
    assert all(path.stat().st_mtime_ns > before for path, before in filmed.items())


def test_a_run_whose_learner_collects_its_own_episodes_is_filmed(script, tiny, tmp_path):
    tiny.write_text(f"{TINY}\nalgorithm: {{name: reptile, inner: sb3_ppo}}\n")
    run = tmp_path / "run"
    assert script("train.py", tiny, "--run-dir", run, "--iterations", 1) == 0
    policy, task = metarl.load(run), GoalTask((0.3, -0.2))
    path = render.adapted(policy, make_vector_env(policy.experiment.env, 4, 1), task, 2, seed=0)
    assert [each.adaptation_steps for each in path] == [0, 1, 2]
    assert torch.equal(path[0].params["w0"], policy.params["w0"])
    assert not torch.equal(path[2].params["w0"], path[1].params["w0"])
    assert script("render.py", run, "--task", "goal=0.3,-0.2", "--out", tmp_path / "film.mp4") == 0
    assert (tmp_path / "film.mp4").stat().st_size > 1000


@pytest.mark.parametrize("algorithm", ["maml_trpo", "{name: reptile, inner: sb3_ppo}"])
def test_what_is_filmed_is_what_was_measured(script, tiny, tmp_path, algorithm):
    tiny.write_text(f"{TINY}\nalgorithm: {algorithm}\n")
    run = tmp_path / "run"
    assert script("train.py", tiny, "--run-dir", run) == 0
    assert script("evaluate.py", run, "--tasks", 4, "--steps", 2, "--episodes", 3, "--seed", 5) == 0
    found = run_data.read(run)
    assert found.record
    tasks = tasks_of(found.record, make_vector_env(found.experiment.env, 1, 1))
    _, result = videos.adapt_again(found, found.record, tasks)
    assert result.means.tolist() == found.record.returns["meta-learned"].tolist()


def test_a_report_on_a_machine_that_cannot_film(script, tiny, tmp_path):
    run = tmp_path / "run"
    assert script("train.py", tiny, "--run-dir", run, "--iterations", 1) == 0
    assert script("evaluate.py", run) == 0
    alone = {**os.environ, "PYTHONPATH": str(ROOT), "MUJOCO_GL": "disable"}  # is read when mujoco is imported
    done = subprocess.run(command("report.py", run), env=alone, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    page = (run / "report.html").read_text()
    assert "<video" not in page
    assert page.count("No videos: ") == done.stdout.count("No videos: ") == 1
    assert "turns pictures off" in page


def test_a_report_of_what_is_no_run(script, tiny, tmp_path, capsys):
    assert script("report.py", tmp_path / "nothing") == 2
    assert "holds no run" in capsys.readouterr().err
    run = tmp_path / "run"
    assert script("train.py", tiny, "--run-dir", run, "--iterations", 1) == 0
    (run / "evaluation-held-out.json").write_text("{torn")
    assert script("report.py", run) == 2
    assert "evaluation-held-out.json is no evaluation: it cannot be read" in capsys.readouterr().err
    (run / "checkpoint.pt").unlink()
    assert script("report.py", run) == 2
    assert "there is no checkpoint" in capsys.readouterr().err
    assert not (run / "report.html").exists()


@pytest.fixture
def trained(script, tiny, tmp_path) -> Path:
    """A run of one iteration."""
    assert script("train.py", tiny, "--run-dir", tmp_path / "run", "--iterations", 1) == 0
    return tmp_path / "run"


def test_a_task_is_filmed_before_and_after_adaptation(script, trained, tmp_path, capsys):
    file = trained / "videos" / "goal-0.3_-0.2.mp4"
    assert script("render.py", trained, "--task", "goal=0.3,-0.2", "--steps", 2) == 0
    assert str(file) in capsys.readouterr().out
    frames = np.stack(imageio.mimread(file, memtest=False))
    assert frames.shape == (21, 480, 2 * 480 + GAP, 3)
    assert not np.array_equal(frames[-1, 100:, :480], frames[-1, 100:, -480:])
    assert script("render.py", trained, "--task", "goal=0.3,-0.2", "--steps", 0, "--out", tmp_path / "mine.mp4") == 0
    same = np.stack(imageio.mimread(tmp_path / "mine.mp4", memtest=False)).astype(int)
    assert np.abs(same[-1, 100:, :480] - same[-1, 100:, -480:]).mean() < 1
    (trained / "checkpoint.pt").unlink()
    best = ("--task", "goal=0.3,-0.2", "--checkpoint", "best", "--steps", 0, "--out", tmp_path / "best.mp4")
    assert script("render.py", trained, *best) == 0


def test_without_a_task_a_few_of_the_test_are_filmed(script, tiny, tmp_path):
    """The first, the middle and the last of its test tasks, which are others where the test has more of them."""
    run, test = tmp_path / "run", ("--iterations", 1, "--evaluation.tasks", 5)
    tiny.write_text(TINY.replace("PointNav-v0", "HalfCheetahVel-v0"))
    assert script("train.py", tiny, "--run-dir", run, *test) == 0
    assert script("render.py", run) == 0
    velocities = [task["velocity"] for task in checkpoints.load(run / "checkpoint.pt")["test_tasks"]]
    expected = {f"velocity-{velocities[m]:.4g}.mp4" for m in (0, 2, 4)}
    assert {path.name for path in (run / "videos").iterdir()} == expected


def test_the_film_shows_what_the_adaptation_leads_to(trained):
    policy = metarl.load(trained)
    env, task = make_vector_env(policy.experiment.env, 4, threads=1), GoalTask((0.3, -0.2))
    path = render.adapted(policy, env, task, 2, seed=5)
    assert [each.adaptation_steps for each in path] == [0, 1, 2]
    for name, p in policy.adapt(env, steps=2, episodes=4, seed=5).params.items():
        assert torch.equal(p, path[2].params[name])


def test_a_video_is_named_after_its_task():
    assert render.named(goal_space(), GoalTask((0.25, -0.123456))) == "goal-0.25_-0.1235"
    space = params().task_space
    assert render.named(space, space.parse(["mass=2"])) == "mass-x-2.00-inertia-x-1.00-friction-x-1.00-damping-x-1.00"


def test_videos_are_added_to_the_run_in_wandb(script, tiny, tmp_path, recorded, capsys):
    run, tracked = tmp_path / "run", ("--iterations", 2, "--tracking.mode", "auto")
    assert script("train.py", tiny, "--run-dir", run, *tracked) == 0
    [trained] = (run / "wandb").glob("offline-run-*")
    metrics = (run / "metrics.jsonl").read_bytes()
    time.sleep(1.1)  # W&B names the parts of a run after the second
    assert script("render.py", run, "--task", "goal=0.3,-0.2", "--steps", 1, "--wandb") == 0
    [added] = {*(run / "wandb").glob("offline-run-*")} - {trained}
    assert str(added) in capsys.readouterr().out
    assert recorded(added, "run")[0]["run_id"] == recorded(trained, "run")[0]["run_id"] == runs.read_id(run)
    [row] = [row["item"] for row in recorded(added, "history")]
    assert any(key.startswith("rollouts/goal-0.3_-0.2") for key in row)
    assert (row["iteration"], row["environment_steps"]) == (2, 2 * 2 * 3 * 4 * 20)
    [video] = (added / "files").rglob("*.mp4")
    assert video.read_bytes() == (run / "videos" / "goal-0.3_-0.2.mp4").read_bytes()
    assert (run / "metrics.jsonl").read_bytes() == metrics


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--task", "gaol=0.3,0"], "Did you mean 'goal'(.*\n)+held-out: (.*\n)+.*goal=X,X \\[m\\]"),
        (["--task", "goal=3,0"], "lies in no split"),
        (["--out", "x.mp4"], "choose it with --task"),
        (["--task", "goal=1e300,0"], r"\(goal = \(1.00e\+300, 0.00\) m\) lies in no split"),
        (["--steps", "1000000000"], "steps = 1000000000: should be less than or equal to 1000"),
        (["--checkpoint", "bset"], "invalid choice 'bset'"),
        (["--out", "x.avi"], "name it x.mp4"),
        (["--viewer", "--wandb"], "--viewer makes none"),
        (["--task", "goal=0.3,0", "--wandb"], "tracking is disabled"),
        (["--task", "goal=0.3,0", "--viewer"], "neither DISPLAY nor WAYLAND_DISPLAY is set.*a video instead"),
    ],
)
def test_what_cannot_be_filmed_ends_in_one_message(script, trained, capsys, monkeypatch, flags, message):
    for display in ("DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(display, raising=False)
    assert script("render.py", trained, *flags) == 2
    error = capsys.readouterr().err
    assert re.search(message, error)
    assert "Traceback" not in error
    assert not (trained / "videos").exists()


@pytest.mark.skipif(sys.platform != "linux", reason="EGL is how Linux renders")
@pytest.mark.parametrize(
    ("broken", "message"),
    [
        ({"IMAGEIO_FFMPEG_EXE": "/nowhere/ffmpeg"}, "pip install imageio-ffmpeg"),
        ({"MUJOCO_GL": "disable"}, "MUJOCO_GL = 'disable' turns pictures off"),
    ],
)
def test_a_machine_that_makes_no_videos_says_what_to_install(trained, broken, message):
    environment = {**os.environ, "PYTHONPATH": str(ROOT), **broken}
    film = command("render.py", trained, "--task", "goal=0.3,-0.2")
    process = subprocess.run(film, env=environment, capture_output=True, text=True, timeout=60)
    assert process.returncode == 2
    assert message in process.stderr
    assert "Traceback" not in process.stderr


def test_filming_a_run_that_is_being_trained_leaves_its_wandb_run_alone(script, tiny, tmp_path, capsys):
    tiny.write_text(TINY.replace("disabled", "offline"))
    process = start_and_wait(tiny, tmp_path / "run", 1)
    assert script("render.py", tmp_path / "run", "--task", "goal=0.3,-0.2", "--steps", 0, "--wandb") == 2
    assert "another process" in capsys.readouterr().err
    process.kill()
    process.communicate()


ALGORITHMS = {
    "maml_ppo": "algorithm: maml_ppo",
    "maml_sgd": "algorithm: {name: maml_sgd, exploration_credit: 0.01, inner: {loss: reinforce}}",
    "promp": "algorithm: {name: promp, adaptive_kl_penalty: true, inner: {steps: 2}}",
    "reptile": "algorithm: {name: reptile, optimizer: adam, anneal_iterations: 4}",
    "reptile over ppo": "algorithm: {name: reptile, inner: ppo}",
    "reptile over sb3's ppo": "algorithm: {name: reptile, inner: sb3_ppo}",
    "reptile over sb3's a2c": "algorithm: {name: reptile, inner: {name: sb3_a2c, steps: 2}}",
    "meta-sgd": "algorithm: {inner: {learned_step_sizes: true}}",
    "anil, fomaml": "algorithm: {first_order: true, inner: {last_layer_only: true}}",
    "dice": "algorithm: {inner: {loss: dice}}",
}


@pytest.mark.parametrize("algorithm", ALGORITHMS.values(), ids=ALGORITHMS)
def test_every_algorithm_trains_resumes_bit_exactly_and_is_evaluated(script, tiny, tmp_path, algorithm):
    """What an algorithm remembers (moments of Adam, penalties, epsilon) comes back with the checkpoint."""
    tiny.write_text(f"{TINY}\n{algorithm}\n")
    assert script("train.py", tiny, "--run-dir", tmp_path / "whole", "--iterations", 4) == 0
    assert script("train.py", tiny, "--run-dir", tmp_path / "parts", "--iterations", 2) == 0
    assert script("train.py", "--run-dir", tmp_path / "parts", "--resume", "--iterations", 4) == 0
    assert_same_run(tmp_path / "whole", tmp_path / "parts")
    assert script("evaluate.py", tmp_path / "whole", "--steps", 2, "--tasks", 2) == 0


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ("algorithm: {name: reptile, inner: {loss: dice}}", "dice differs from ratio in the second derivative alone"),
        ("algorithm: {name: promp, inner: ppo}", "'ppo' cannot be differentiated through"),
        (
            "algorithm: {inner: {last_layer_only: true}}\npolicy: {hidden_sizes: []}",
            "a linear policy has no layer below",
        ),
        ("algorithm: {first_order: true, inner: {loss: dice}}", "Choose inner.loss ratio, or first_order: false"),
        ("algorithm: {exploration_credit: 1}", "would count twice. Choose inner.loss reinforce"),
        (
            "algorithm: {exploration_credit: 1, inner: {loss: reinforce, steps: 0}}",
            "no episodes before adaptation to be credited",
        ),
        ("algorithm: {name: reptile, final_step_size: 0.1}", "say over how many iterations to anneal"),
        ("algorithm: prompt", "Did you mean 'promp'?"),
    ],
)
def test_settings_that_make_no_sense_together_end_in_one_message(script, tiny, tmp_path, capsys, settings, message):
    own = TINY.replace("policy: {hidden_sizes: [16]}\n", "") if "policy" in settings else TINY
    tiny.write_text(f"{own}\n{settings}\n")
    assert script("train.py", tiny, "--run-dir", tmp_path / "run") == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


SHORT = ("--iterations", 30, "--test_every", 10, "--tracking.mode", "disabled")


@pytest.mark.parametrize("algorithm", ["maml", "fomaml", "reptile"])
def test_the_lesson_on_sinusoids(script, tmp_path, capsys, algorithm):
    run = tmp_path / "run"
    assert script("sinusoid.py", "--algorithm", algorithm, *SHORT, "--run-dir", run) == 0
    output = capsys.readouterr().out
    assert f"{algorithm}, step size 0.01" in output
    assert "pretrained, step size" in output
    assert (run / "sinusoid.png").read_bytes().startswith(b"\x89PNG")
    rows = metrics_of(run)
    assert [row["iteration"] for row in rows] == [10, 20, 30]
    assert {"test/error_after_1_steps", "test/error_after_10_steps"} <= rows[0].keys()


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--algorithm", "mamal"], "Did you mean 'maml'?"),
        (["--algorithm.inner.step_size", "-1"], "algorithm.inner.step_size = -1"),
        (["--algorithm.innr.step_size", "1"], "--algorithm.inner.step-size"),
        (["--tasks", "1000000000000"], "tasks = 1,000,000,000,000 with points = 10"),
        (["--points", "1000000000000"], "choose fewer tasks, fewer points or smaller layers"),
        (["--hidden_sizes", "500000", "500000"], "hidden_sizes = [500000, 500000] take at least"),
    ],
)
def test_a_wrong_setting_of_the_lesson_ends_in_one_message(script, tmp_path, capsys, flags, message):
    assert script("sinusoid.py", *SHORT, "--run-dir", tmp_path / "run", *flags) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_a_sweep_is_drawn_from_runs_that_are_done_once(script, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(ROOT)
    sweep = tmp_path / "sweep.yaml"
    text = (ROOT / "configs" / "sweeps" / "sinusoid.yaml").read_text()
    text = text.replace("[0.0003, 0.001, 0.003, 0.01, 0.03]", "[0.001, 0.01]").replace("seed: {values: [0, 1]}", "")
    sweep.write_text(text.replace("[0.0001, 0.0003, 0.001, 0.003, 0.01]", "[0.01]"))
    few = ("--iterations=6", "--test_every=2", "--tracking.mode=disabled")
    assert script("sweep.py", sweep, "--out", tmp_path / "out", *few) == 0
    assert "test/error_after_10_steps" in capsys.readouterr().out
    assert (tmp_path / "out" / "heat-map.png").read_bytes().startswith(b"\x89PNG")
    done = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").glob("*/metrics.jsonl")}
    assert len(done) == 2
    assert script("sweep.py", sweep, "--out", tmp_path / "out", *few) == 0
    assert {path: path.stat().st_mtime_ns for path in done} == done
    assert script("sweep.py", sweep, "--out", tmp_path / "out", "--iterations=7") == 2
    assert "was filled by other commands" in capsys.readouterr().err


def test_a_sweep_with_early_stops_goes_on_from_checkpoints(script, tiny, tmp_path, capsys, monkeypatch):
    """Of three cells two go on after the second of four tests, and end with the bits of a run without a stop."""
    monkeypatch.chdir(ROOT)
    (tmp_path / "sweep.yaml").write_text(
        "program: scripts/train.py\nmethod: grid\nmetric: {name: validation/return_1_steps, goal: maximize}\n"
        "parameters: {policy.hidden_sizes: {values: [[4], [8], [8, 8]]}}\n"
        "early_terminate: {type: hyperband, min_iter: 2, eta: 2}\n"
        f"command: [{tiny}, --evaluation.every=1, '${{args}}']\n"
    )
    asked = (tmp_path / "sweep.yaml", "--out", tmp_path / "out", "--reach=0")
    assert script("sweep.py", *asked) == 0
    told = capsys.readouterr().out
    assert told.count("stopped at test 2") == 1
    assert told.count("never") == 3
    assert (tmp_path / "out" / "curves.png").read_bytes().startswith(b"\x89PNG")
    (one, _) = [path.parent for path in sorted((tmp_path / "out").glob("*/finished.json"))]
    sizes = runs.read_experiment(one).policy.hidden_sizes
    flags = ("--policy.hidden_sizes", *sizes, "--evaluation.every", 1)
    assert script("train.py", tiny, "--run-dir", tmp_path / "whole", *flags) == 0
    assert_same_run(one, tmp_path / "whole")
    done = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").glob("*/metrics.jsonl")}
    capsys.readouterr()
    assert script("sweep.py", *asked) == 0
    assert {path: path.stat().st_mtime_ns for path in done} == done
    assert capsys.readouterr().out.splitlines()[0] in told


@pytest.mark.slow
def test_results_at_equal_environment_steps(script, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(ROOT)
    asked = ("--families", "point_nav", "--algorithms", "maml_trpo", "reptile", "--budget", 120_000, "--seeds", 1)
    assert script("results.py", *asked, "--out", tmp_path) == 0
    assert "reptile" in capsys.readouterr().out
    table = (tmp_path / "results.md").read_text().splitlines()
    assert table[0].startswith(
        "| PointNav-v0, 0.2 M environment steps, 40 held-out tasks, 1 seed | adapts with | 0 steps |"
    )
    assert [row.split(" |")[0] for row in table[2:5]] == ["| `maml_trpo`", "| `reptile`", "| random initialization"]
    assert table[-1].endswith("on 10 validation tasks.")
    reports = [json.loads(path.read_text()) for path in sorted(tmp_path.glob("point_nav/*/evaluation-held-out.json"))]
    assert [report["training"]["environment_steps"] for report in reports] == [160_000, 120_000]  # whole iterations
    mean = torch.tensor(reports[0]["returns"]["meta-learned"]).mean(0)
    assert f"| {mean[0]:.1f} | {mean[1]:.1f} [" in table[2]
    assert (tmp_path / "figures" / "point_nav" / "adaptation.png").is_file()


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--families", "point_naw"], "Did you mean 'point_nav'?"),
        (["--algorithms", "reptil"], "Did you mean 'reptile'?"),
        (
            ["--families", "reacher_goal", "--algorithms", "promp", "--rl2"],
            "no configs/rl2/reacher_goal.yaml. There are",
        ),
    ],
)
def test_results_of_what_does_not_exist(script, tmp_path, capsys, flags, message):
    assert script("results.py", *flags, "--out", tmp_path / "out") == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_how_alike_tasks_may_be(script, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(ROOT)
    assert script("breadth.py", "--seeds", 1, "--iterations", 1, "--out", tmp_path) == 0
    assert "one policy for all tasks" in capsys.readouterr().out
    assert (tmp_path / "breadth.png").read_bytes().startswith(b"\x89PNG")
    joint, adapting = (
        json.loads((tmp_path / f"wide-{kind}-seed0" / "evaluation-held-out.json").read_text())
        for kind in ("joint", "adapting")
    )
    assert joint["training"]["environment_steps"] == adapting["training"]["environment_steps"]


def agent_command(sweep: dict, values: dict[str, object]) -> list[str]:
    """What a W&B agent runs for one choice of values: its own parts, put in where its documentation says."""
    macros = wandb_sweeps.create_sweep_command_args({"args": {name: {"value": v} for name, v in values.items()}})
    macros |= {"env": ["/usr/bin/env"], "interpreter": ["python"], "program": [sweep["program"]]}
    words = wandb_sweeps.create_sweep_command(sweep["command"])
    return [part for word in words for part in (macros[word[2:-1]] if word.startswith("${") else [word])]


def agent_environment(sweep: dict, values: dict[str, object], folder: Path) -> dict[str, str]:
    """What a W&B agent tells a run beside its command; offline here."""
    chosen = folder / "config-of-agent.yaml"
    config_util.save_config_file_from_dict(str(chosen), {name: {"value": v} for name, v in values.items()})
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    own = {"WANDB_SWEEP_ID": "sweep1", "WANDB_RUN_ID": "ofagent", "WANDB_SWEEP_PARAM_PATH": str(chosen)}
    return {**os.environ, **own, "WANDB_PROJECT": sweep["project"], "PATH": path, "PYTHONPATH": str(ROOT)}


FEW = {
    "point_nav": [
        "--iterations=2",
        "--evaluation.every=1",
        "--evaluation.tasks=2",
        "--sampling.tasks=2",
        "--threads=1",
    ],
    "sinusoid": ["--iterations=2", "--test_every=1"],
}
FEW["algorithms"] = FEW["point_nav"]


@pytest.mark.parametrize("name", FEW)
def test_an_agent_of_wandb_can_run_a_sweep(tmp_path, recorded, monkeypatch, name):
    """The command that it forms is accepted, the run is the agent's, and what the sweep compares is in it."""
    sweep = wandb_sweeps.load_sweep_config(str(ROOT / "configs" / "sweeps" / f"{name}.yaml"))
    values = {key: parameter["values"][-1] for key, parameter in sweep["parameters"].items()}
    ours = Sweep.read(ROOT / "configs" / "sweeps" / f"{name}.yaml")
    assert [values[axis] for axis in ours.axes] == [axis[-1] for axis in ours.values]  # 1e-3 is a word in W&B's YAML
    for folder in ("scripts", "configs"):
        (tmp_path / folder).symlink_to(ROOT / folder)
    command = [*agent_command(sweep, values), *FEW[name], "--tracking.mode=offline"]
    assert f"--algorithm.inner.step_size={values['algorithm.inner.step_size']}" in command
    environment = agent_environment(sweep, values, tmp_path)
    process = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120)
    assert process.returncode == 0, process.stderr

    (wandb_run,) = (tmp_path / "runs").glob("*/wandb/offline-run-*")
    (about,) = recorded(wandb_run, "run")
    algorithm = "maml_ppo" if name == "algorithms" else "maml_sgd"
    group = f"{'sinusoid' if name == 'sinusoid' else 'PointNav-v0'}/{algorithm}"
    own = {"run_id": "ofagent", "sweep_id": "sweep1", "project": "metarl", "run_group": group}
    assert own.items() <= about.items()
    assert about["tags"][:2] == group.split("/")
    assert f"seed{values['seed']}" in about["display_name"]
    found = about["config"]["update"]
    assert {key: found[key] for key in values} == values
    assert found["seed"] == values["seed"]
    assert found["algorithm"]["step_size"] == values.get("algorithm.step_size", found["algorithm"]["step_size"])
    assert found["algorithm"]["inner"]["step_size"] == values["algorithm.inner.step_size"]
    compared = [row["item"] for row in recorded(wandb_run, "history") if sweep["metric"]["name"] in row["item"]]
    assert len(compared) >= 2
