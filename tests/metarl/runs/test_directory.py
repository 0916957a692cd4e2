"""The run directory: which state is kept as the best one, and what a run is called."""

import errno
import fcntl
import math
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from metarl import runs
from metarl.algorithms.reptile import Reptile
from metarl.errors import UserError
from metarl.experiment import Experiment
from metarl.few_shot.training import FewShot
from metarl.runs import checkpoints
from metarl.runs.directory import BEST_RETURN, State
from metarl.runs.tracking import Tracker


def state(iteration):
    return State(iteration, 10 * iteration, {"w": torch.tensor(float(iteration))}, {}, test_tasks=[{"x": 1.0}])


@pytest.mark.parametrize(
    ("tested", "best", "kept"),
    [
        ([1.0, 3.0, 2.0, -math.inf], [1, 3, 3, 3], [0, 1, 1, 1]),
        ([-5.0, math.nan, -4.0], [-5, -5, -4], [0, 0, 2]),
        ([math.nan, 2.0], [-math.inf, 2], [None, 1]),
        ([2.0, 2.0], [2, 2], [0, 1]),  # the same test again, after a crash
    ],
)
def test_the_best_state_is_that_of_the_highest_return(tmp_path, tested, best, kept):
    experiment = Experiment()
    for iteration, value in enumerate(tested):
        assert runs.keep_best(tmp_path, experiment, state(iteration), value) == best[iteration]
        assert runs.best_return(tmp_path) == best[iteration]
        if kept[iteration] is None:
            assert not (tmp_path / runs.BEST).exists()
        else:
            assert runs.load(tmp_path, experiment, runs.BEST) == state(kept[iteration])


def test_a_damaged_best_state_is_refused(tmp_path):
    (tmp_path / runs.BEST).write_bytes(b"torn")
    with pytest.raises(UserError, match=r"best.pt cannot be read as a checkpoint"):
        runs.best_return(tmp_path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"iteration": "3"}, "iteration is a str, not a int"),
        ({"environment_steps": -1}, "number of iterations or steps is negative"),
        ({"params": []}, "params is a list, not a dict"),
        ({"params": {"w0": [1.0]}}, "its parameter w0 is a list, not torch.float32"),
        ({"params": {"w0": torch.zeros(1, dtype=torch.int32)}}, "its parameter w0 is torch.int32, not torch.float32"),
        ({"algorithm_state": {"iteration": "3"}}, "algorithm_state has no whole number of iterations"),
        ({"test_tasks": None}, "test_tasks is a NoneType, not a list"),
        ({"experiment": 1}, "experiment is a int, not a dict"),
        ({"experiment": {"seed": torch.zeros(1)}}, "seed: should be plain data, not a Tensor"),
    ],
)
def test_a_checkpoint_of_other_types_is_refused(tmp_path, changes, message):
    runs.save(tmp_path, Experiment(), state(3))
    path = tmp_path / runs.CHECKPOINT
    checkpoints.save(path, checkpoints.load(path) | changes)
    with pytest.raises(UserError, match=f"checkpoint.pt.*(\n.*)?{message}"):
        runs.load(tmp_path, Experiment())


def test_a_best_return_that_is_no_number_is_refused(tmp_path):
    checkpoints.save(tmp_path / runs.BEST, {BEST_RETURN: "high"})
    with pytest.raises(UserError, match="return_after_adaptation is a str, not a number"):
        runs.best_return(tmp_path)


def test_any_checkpoint_in_its_place_is_worse_than_the_next_test(tmp_path):
    runs.save(tmp_path, Experiment(), state(3))
    (tmp_path / runs.CHECKPOINT).rename(tmp_path / runs.BEST)
    assert runs.best_return(tmp_path) == -math.inf


def test_a_run_on_sinusoids_is_told_from_one_with_robots(tmp_path):
    runs.create(tmp_path / "run", FewShot(algorithm=Reptile()))
    with pytest.raises(UserError, match=r"run holds a run without an environment, .* one of metarl sinusoid"):
        runs.read_experiment(tmp_path / "run")
    (tmp_path / "run" / runs.CONFIG).write_text("evn: {}\npoints: 3\n")
    with pytest.raises(UserError, match="Did you mean 'env'"):
        runs.read_experiment(tmp_path / "run")


@pytest.mark.parametrize(
    ("folder", "seed", "name"),
    [
        ("point_nav-promp-seed3-20260101-120000", 3, "point_nav-promp-seed3-20260101-120000"),
        ("demo", 0, "demo-seed0"),
        ("a-seed12", 1, "a-seed12-seed1"),
    ],
)
def test_the_name_of_a_run_tells_its_seed(tmp_path, monkeypatch, folder, seed, name):
    assert runs.named(tmp_path / folder, seed) == name
    (tmp_path / folder).mkdir()
    monkeypatch.chdir(tmp_path / folder)
    assert runs.named(Path(), seed) == name


def test_the_agent_of_a_sweep_has_named_its_run(tmp_path, monkeypatch):
    monkeypatch.setenv("WANDB_RUN_ID", "of-the-agent")
    runs.create(tmp_path / "a", Experiment())
    monkeypatch.setenv("WANDB_RUN_ID", "")
    runs.create(tmp_path / "b", Experiment())
    monkeypatch.delenv("WANDB_RUN_ID")
    runs.create(tmp_path / "c", Experiment())
    ids = [runs.read_id(tmp_path / name) for name in "abc"]
    assert ids[0] == "of-the-agent"
    assert len({*ids, ""}) == 4


def test_a_damaged_checkpoint_points_to_a_best_one_that_is_whole_and_to_no_other(tmp_path):
    runs.keep_best(tmp_path, Experiment(), state(3), 1.0)
    (tmp_path / runs.CHECKPOINT).write_bytes(b"torn")
    with pytest.raises(UserError, match="The best checkpoint, .*best.pt, can be read"):
        runs.load(tmp_path, Experiment())
    (tmp_path / runs.BEST).write_bytes((tmp_path / runs.BEST).read_bytes()[:-9])
    with pytest.raises(UserError, match="checkpoint.pt cannot be read") as caught:
        runs.load(tmp_path, Experiment())
    assert "whole" not in str(caught.value)


def test_a_run_that_was_removed_is_not_made_again(tmp_path):
    run = tmp_path / "run"
    runs.create(run, Experiment())
    with Tracker.open(run, {}, mode="disabled", project="", group=None, name=None, run_id="r") as tracker:
        tracker.log({"a": 1.0}, iteration=0)
        shutil.rmtree(run)
        for write in (
            lambda: tracker.log({"a": 1.0}, iteration=1),
            lambda: runs.save(run, Experiment(), state(1)),
            lambda: runs.keep_best(run, Experiment(), state(1), 1.0),
        ):
            with pytest.raises(FileNotFoundError, match="this run directory was removed while it was written to"):
                write()
    assert not run.exists()


def test_what_killed_processes_left_is_removed_when_a_run_is_taken_up_again(tmp_path):
    killed = subprocess.Popen([sys.executable, "-c", ""])
    killed.wait()
    draft = tmp_path / f".checkpoint.pt.{killed.pid}.tmp"
    draft.write_bytes(b"")
    with runs.locked(tmp_path):
        assert not draft.exists()
        draft.write_bytes(b"")
        with pytest.raises(UserError, match="by another process"), runs.locked(tmp_path):
            pass
        assert draft.exists()  # only under the lock


@pytest.mark.parametrize("code", [errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP])
def test_a_file_system_without_locks_is_warned_of(tmp_path, monkeypatch, code):
    def flock(file, operation):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(fcntl, "flock", flock)  # there is no such file system to be had in a test
    with (
        pytest.warns(UserWarning, match="has no locks .*: do not train or measure this run in a second process"),
        runs.locked(tmp_path),
    ):
        pass
