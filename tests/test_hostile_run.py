"""A run of somebody else is data: no command that reads it executes code that comes with it."""

import base64
import contextlib
import importlib
import io
import json
import os
import pickle
import shutil
import sys
import zipfile
from pathlib import Path

import pytest
import torch

import metarl
from metarl import config
from metarl.errors import UserError
from metarl.experiment import Experiment
from metarl.runs import checkpoints
from metarl.sampling.registry import ALLOWED

TINY = """
env: {id: "envs:metarl/PointNav-v0", horizon: 5}
policy: {hidden_sizes: [4]}
sampling: {tasks: 2, episodes: 2}
evaluation: {tasks: 2, episodes: 2, videos: 0}
tracking: {mode: disabled}
iterations: 1
"""
READERS = {
    "resume": ("train", "--run-dir", "RUN", "--resume"),
    "evaluate": ("evaluate", "RUN"),
    "report": ("report", "RUN"),
    "render": ("render", "RUN"),
    "compare": ("compare", "RUN", "--split", "train"),
    "baseline": ("baseline", "RUN", "--tasks", "2", "--rollouts", "1", "--steps", "1", "--workers", "1", "--tune", "0"),
}
"""Every command that reads a run."""


def call(command: str, *args: object) -> int | str | None:
    """Run a command in this process; its exit status."""
    try:
        importlib.import_module(f"metarl.commands.{command}").main([*map(str, args)])
    except SystemExit as stop:
        return stop.code
    return 0


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A small run that was trained and evaluated."""
    folder = tmp_path_factory.mktemp("trained")
    (folder / "tiny.yaml").write_text(TINY)
    assert call("train", folder / "tiny.yaml", "--run-dir", folder / "run") == 0
    assert call("evaluate", folder / "run") == 0
    return folder / "run"


class Payload:
    """Unpickled, it leaves a canary."""

    def __init__(self, canary: Path) -> None:
        self._command = f"touch {canary}"

    def __reduce__(self):
        return os.system, (self._command,)


class Hostile:
    """A run directory, and what tells that code of it ran."""

    def __init__(self, run_dir: Path, canary: Path) -> None:
        self.run_dir, self.canary = run_dir, canary

    def configure(self, old: str, new: str) -> None:
        """Change a text of config.yaml, and the settings in the checkpoints with it."""
        file = self.run_dir / "config.yaml"
        text = file.read_text()
        assert old in text
        file.write_text(text.replace(old, new))
        with contextlib.suppress(UserError):
            settings = config.to_dict(config.load(file, Experiment))
            for name in ("checkpoint.pt", "best.pt"):
                state = checkpoints.load(self.run_dir / name)
                checkpoints.save(self.run_dir / name, {**state, "experiment": settings})

    def read_by(self, reader: str) -> int | str | None:
        name, *args = READERS[reader]
        return call(name, *[self.run_dir if arg == "RUN" else arg for arg in args])


@pytest.fixture
def hostile(trained, tmp_path, monkeypatch):
    """The run copied, with modules beside it that leave a canary when they are imported."""
    run_dir, canary = tmp_path / "run", tmp_path / "canary"
    shutil.copytree(trained, run_dir)
    for folder in (run_dir, tmp_path):
        (folder / "hostile_module.py").write_text(f"import pathlib; pathlib.Path({str(canary)!r}).touch()\n")
        monkeypatch.syspath_prepend(folder)
    monkeypatch.chdir(run_dir)
    monkeypatch.delenv(ALLOWED, raising=False)
    yield Hostile(run_dir, canary)
    sys.modules.pop("hostile_module", None)


def test_the_canaries_sing(hostile):
    pickle.loads(pickle.dumps(Payload(hostile.canary)))
    assert hostile.canary.exists()
    hostile.canary.unlink()
    import hostile_module  # noqa: F401  # ty: ignore[unresolved-import]

    assert hostile.canary.exists()


@pytest.mark.parametrize("reader", READERS)
def test_the_run_can_be_read_as_it_was(hostile, reader):
    """So that what is refused below is refused for what was changed."""
    hostile.configure("seed: 0", "seed: 0")
    if reader == "compare":  # which looks at the family only where it says that something was not evaluated
        assert call("evaluate", hostile.run_dir, "--split", "train") == 0
    assert hostile.read_by(reader) == 0


@pytest.mark.parametrize("reader", READERS)
def test_options_call_no_function(hostile, reader, capsys):
    options = {"family": "subprocess:getoutput", "cmd": f"touch {hostile.canary}"}
    hostile.configure("options: {}", f"options: {json.dumps(options)}")
    assert hostile.read_by(reader) == 2
    assert "env.options.family is no parameter of a family" in capsys.readouterr().err
    assert not hostile.canary.exists()


@pytest.mark.parametrize("name", ["num_envs", "nthread", "max_episode_steps", "id", "self", "vectorization_mode"])
def test_options_replace_no_argument_of_the_machinery(hostile, name, capsys):
    hostile.configure("options: {}", f"options: {{{name}: 1}}")
    assert hostile.read_by("evaluate") == 2
    assert f"env.options.{name} is no parameter of a family" in capsys.readouterr().err


@pytest.mark.parametrize("reader", READERS)
def test_an_id_imports_no_module(hostile, reader, capsys):
    hostile.configure("envs:metarl/PointNav-v0", "hostile_module:metarl/PointNav-v0")
    assert hostile.read_by(reader) == 2
    assert f"{ALLOWED}=hostile_module" in capsys.readouterr().err
    assert not hostile.canary.exists()


def test_a_user_can_allow_the_module(hostile, monkeypatch):
    hostile.configure("envs:metarl/PointNav-v0", "hostile_module:metarl/PointNav-v0")
    monkeypatch.setenv(ALLOWED, "hostile_module")
    assert hostile.read_by("evaluate") == 0
    assert hostile.canary.exists()


def test_a_config_that_the_user_trains_counts_as_told(hostile, tmp_path):
    hostile.configure("envs:metarl/PointNav-v0", "hostile_module:metarl/PointNav-v0")
    assert call("train", hostile.run_dir / "config.yaml", "--run-dir", tmp_path / "new") == 0
    assert hostile.canary.exists()


def test_metarl_load_runs_nothing(hostile):
    options = {"family": "subprocess:getoutput", "cmd": f"touch {hostile.canary}"}
    hostile.configure("options: {}", f"options: {json.dumps(options)}")
    hostile.configure("envs:metarl/PointNav-v0", "hostile_module:metarl/PointNav-v0")
    metarl.load(hostile.run_dir)
    assert not hostile.canary.exists()


def poisoned(canary: Path, kind: str) -> bytes:
    """A file that runs code where it is unpickled."""
    if kind == "pickle":
        return pickle.dumps(Payload(canary))
    content = io.BytesIO()
    torch.save({"state": Payload(canary), "params": Payload(canary)}, content)
    return content.getvalue()


@pytest.mark.parametrize("kind", ["pickle", "torch"])
@pytest.mark.parametrize("reader", READERS)
def test_no_file_of_a_run_is_unpickled(hostile, reader, kind):
    for name in ("checkpoint.pt", "best.pt", "baseline.json", "evaluation-held-out.json", "metrics.jsonl", "run.json"):
        (hostile.run_dir / name).write_bytes(poisoned(hostile.canary, kind))
    assert hostile.read_by(reader) not in (0, None)
    with pytest.raises(UserError):
        metarl.load(hostile.run_dir)
    assert not hostile.canary.exists()


@pytest.mark.parametrize("reader", READERS)
def test_yaml_makes_no_objects(hostile, reader, capsys):
    hostile.configure("options: {}", f"options: !!python/object/apply:os.system ['touch {hostile.canary}']")
    assert hostile.read_by(reader) == 2
    assert "config.yaml" in capsys.readouterr().err
    assert not hostile.canary.exists()


def test_a_model_to_start_from_is_not_unpickled(hostile, tmp_path):
    serialized = base64.b64encode(pickle.dumps(Payload(hostile.canary))).decode()
    data = {name: {":type:": "x", ":serialized:": serialized} for name in ("policy_class", "policy_kwargs")}
    with zipfile.ZipFile(tmp_path / "model.zip", "w") as file:
        file.writestr("data", json.dumps(data))
        file.writestr("policy.pth", poisoned(hostile.canary, "torch"))
        file.writestr("pytorch_variables.pth", poisoned(hostile.canary, "torch"))
    hostile.configure("start_from: null", f"start_from: {tmp_path / 'model.zip'}")
    for reader in READERS:
        hostile.read_by(reader)
    (hostile.run_dir / "checkpoint.pt").unlink()
    (hostile.run_dir / "metrics.jsonl").unlink()
    assert hostile.read_by("resume") == 2  # from the beginning, and so from the model
    assert not hostile.canary.exists()
