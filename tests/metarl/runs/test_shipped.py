"""Trained policies that are shipped with the package."""

import re
from pathlib import Path

import numpy as np
import pytest
import torch

import metarl
from metarl import config, runs
from metarl.commands import compare, evaluate, render, train
from metarl.config import shipped
from metarl.errors import UserError
from metarl.experiment import Experiment
from metarl.results import records
from metarl.runs import checkpoints
from metarl.runs.directory import MAY_CHANGE
from metarl.runs.shipped import ship

NAME = "half_cheetah_vel/promp"
SMALL = ["--tasks", "2", "--episodes", "2", "--steps", "1", "--replace"]
TABLE = (shipped.POLICIES / "README.md").read_text(encoding="utf-8")


def evaluation_of(name: str) -> Path:
    """The evaluation of a shipped policy."""
    return records.file_of(runs.find(name), runs.read_experiment(runs.find(name)).evaluation.reported)


def held() -> dict[Path, bytes]:
    """What is in the folder of the shipped policies."""
    return {path: path.read_bytes() for path in shipped.POLICIES.rglob("*") if path.is_file()}


@pytest.fixture(autouse=True)
def empty_folder(tmp_path, monkeypatch):
    """The current folder of each test. No test may write into the package."""
    monkeypatch.chdir(tmp_path)
    before = held()
    yield
    assert held() == before


@pytest.mark.parametrize("name", shipped.policies())
def test_a_shipped_policy_was_trained_by_the_config_of_its_name(name):
    folder = runs.find(name)
    own = config.load(shipped.find(name), Experiment)
    changed = config.difference(own, runs.read_experiment(folder))
    assert {key for key in changed if not key.startswith((*MAY_CHANGE, "evaluation."))} == set()
    assert runs.load(folder, runs.read_experiment(folder)).iteration == own.iterations
    assert runs.read_versions(folder)["metarl-suite"]


@pytest.mark.parametrize("name", shipped.policies())
def test_a_shipped_policy_is_small_and_knows_no_other_folder(name):
    files = {path.name: path for path in runs.find(name).iterdir()}
    evaluation = evaluation_of(name).name
    assert files.keys() == {"config.yaml", "run.json", "checkpoint.pt", evaluation}
    assert sum(path.stat().st_size for path in files.values()) < 100_000
    assert checkpoints.load(files["checkpoint.pt"])["algorithm_state"] == {}
    for file in ("config.yaml", "run.json", evaluation):
        assert not re.search(r"/(tmp|home|work|root)\b", files[file].read_text()), file


@pytest.mark.parametrize("name", shipped.policies())
def test_the_table_has_the_evaluation_of_a_shipped_policy(name):
    record = records.read(evaluation_of(name))
    before, one, _, three = record.returns[records.META].mean(0)
    steps, tasks = f"{record.training.environment_steps / 1e6:.1f} M", f"{len(record.tasks)} {record.split}"
    assert f"| `{name}` | {steps} | {tasks} | {before:.1f} | {one:.1f} | {three:.1f} |\n" in TABLE


def test_the_table_has_no_other_policies():
    assert sorted(re.findall(r"^\| `(.*?)` \|", TABLE, re.MULTILINE)) == shipped.policies()


def test_a_run_becomes_a_shipped_policy_that_acts_alike(tmp_path, monkeypatch):
    small = "--sampling.tasks 2 --sampling.episodes 2 --env.horizon 10 --iterations 2 --threads 1 --evaluation.tasks 2"
    folder = Path("runs/shipped/mine/promp")
    train.main(["point_nav/promp", *small.split(), "--run-dir", str(folder), "--tracking.mode", "disabled"])
    evaluate.main([str(folder), *SMALL])
    monkeypatch.setattr("metarl.runs.shipped.POLICIES", tmp_path / "policies")
    ship("mine/promp")
    trained, policy = metarl.load(folder), metarl.load(tmp_path / "policies/mine/promp")
    for name, p in trained.params.items():
        assert torch.equal(policy.params[name], p)
    observations = np.ones((5, trained.policy.observation_size))
    assert (policy.act(observations) == trained.act(observations)).all()
    assert policy.experiment.threads == 0
    assert policy.experiment.tracking.mode == "auto"
    sizes = [(path / "checkpoint.pt").stat().st_size for path in (tmp_path / "policies/mine/promp", folder)]
    assert 2 * sizes[0] < sizes[1]  # without Adam's moments


def test_a_name_loads_what_its_copy_loads():
    by_name, copied = metarl.load(NAME), metarl.load(runs.writable(Path(NAME)))
    observations = np.random.default_rng(0).normal(size=(5, by_name.policy.observation_size))
    assert (by_name.act(observations) == copied.act(observations)).all()
    assert by_name.experiment == copied.experiment


def test_loading_by_name_writes_nothing(tmp_path):
    metarl.load(NAME)
    assert list(tmp_path.iterdir()) == []


def test_a_run_directory_of_the_same_name_wins(tmp_path):
    runs.create(Path(NAME), Experiment(seed=7))
    assert runs.find(NAME) == runs.writable(Path(NAME)) == Path(NAME)
    assert not (tmp_path / "runs").exists()


def test_an_unknown_name_gives_the_nearest():
    with pytest.raises(UserError, match=r"half_cheetah_vel/promb holds no run.* Did you mean 'half_cheetah_vel/promp'"):
        metarl.load("half_cheetah_vel/promb")


def test_commands_take_the_name(capsys):
    """They write into runs/shipped in the current folder."""
    evaluate.main([NAME, *SMALL])
    render.main([NAME, "--task", "velocity=1.7", "--episodes", "2"])
    compare.main([NAME])
    folder = Path("runs/shipped") / NAME
    written = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    assert written >= {"evaluation-held-out.json", "videos/velocity-1.7.mp4"}
    assert len(records.read(folder / "evaluation-held-out.json").tasks) == 2
    assert f"video     {folder}/videos/velocity-1.7.mp4" in capsys.readouterr().out


def test_another_run_in_the_place_of_the_copy_is_kept():
    folder = Path("runs/shipped") / NAME
    runs.create(folder, Experiment())
    before = (folder / "config.yaml").read_bytes()
    with pytest.raises(UserError, match=f"{folder} holds another run than the shipped policy {NAME}"):
        runs.writable(Path(NAME))
    assert (folder / "config.yaml").read_bytes() == before
