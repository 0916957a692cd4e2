"""What a run is called in W&B: the config first, then W&B's variables, then what the run is; within W&B's limits."""

import os
from pathlib import Path

import pytest

from metarl.errors import UserError
from metarl.experiment import Tracking
from metarl.runs.naming import Names, check_tracking, named, names

OWN = {"group": "PointNav/maml", "name": "demo-seed0", "tags": ("PointNav", "maml")}


@pytest.fixture(autouse=True)
def _no_variables(monkeypatch):
    for name in [name for name in os.environ if name.startswith("WANDB_")]:
        monkeypatch.delenv(name)


def test_a_run_is_called_what_it_is():
    assert names(Tracking(), **OWN) == Names("metarl", "PointNav/maml", "demo-seed0", ("PointNav", "maml"), "train")


def test_the_variables_of_wandb_count_where_the_config_says_nothing(monkeypatch):
    said = {"PROJECT": "robots", "RUN_GROUP": "ours", "NAME": "first", "TAGS": "a, b,", "JOB_TYPE": "tuning"}
    for name, value in said.items():
        monkeypatch.setenv(f"WANDB_{name}", value)
    own = ("PointNav", "maml")
    assert names(Tracking(), **OWN) == Names("robots", "ours", "first", (*own, "a", "b"), "tuning")
    config = Tracking(project="mine", group="g", tags=("c",))
    assert names(config, **OWN) == Names("mine", "g", "first", (*own, "c"), "tuning")
    for name in said:
        monkeypatch.setenv(f"WANDB_{name}", "")
    assert names(Tracking(), **OWN) == Names("metarl", "PointNav/maml", "demo-seed0", own, "train")


@pytest.mark.parametrize(
    ("tracking", "message"),
    [
        ({"project": "a/b"}, r"tracking.project = 'a/b': W&B refuses / in the name of a project"),
        ({"project": "a?b:c"}, r"tracking.project = 'a\?b:c': W&B refuses : \? in"),
        ({"project": "  "}, "tracking.project = '  ': W&B needs the name of a project"),
        ({"project": "p" * 129}, "tracking.project: 'p+… has 129 characters; W&B accepts 1 to 128"),
        ({"group": "g" * 129}, "tracking.group: 'g+… has 129 characters; W&B accepts 1 to 128"),
        ({"tags": ("a", "t" * 65)}, "tracking.tags: 't+' has 65 characters; W&B accepts 1 to 64"),
        ({"tags": ("",)}, "tracking.tags: '' has 0 characters; W&B accepts 1 to 64"),
        ({"mode": "auto"}, "WANDB_MODE is 'ofline'. Did you mean 'offline'"),
    ],
)
def test_what_wandb_would_not_take_is_refused(monkeypatch, tracking, message):
    monkeypatch.setenv("WANDB_MODE", "ofline" if "mode" in tracking else "offline")
    with pytest.raises(UserError, match=message):
        check_tracking(Tracking(**tracking))
    check_tracking(Tracking(**tracking | {"mode": "disabled"}))


@pytest.mark.parametrize(
    ("variable", "value", "message"),
    [
        ("WANDB_PROJECT", "a/b", "WANDB_PROJECT = 'a/b': W&B refuses /"),
        ("WANDB_PROJECT", "p" * 129, "WANDB_PROJECT: .* has 129 characters"),
        ("WANDB_RUN_GROUP", "g" * 129, "WANDB_RUN_GROUP: .* has 129 characters"),
        ("WANDB_NAME", "n" * 129, "WANDB_NAME: .* has 129 characters"),
        ("WANDB_TAGS", "t" * 65, "WANDB_TAGS: .* has 65 characters"),
        ("WANDB_MODE", "auto", "WANDB_MODE is 'auto'. There are: online, offline, disabled"),
    ],
)
def test_what_wandb_would_not_take_is_refused_in_its_variables(monkeypatch, variable, value, message):
    monkeypatch.setenv(variable, value)
    with pytest.raises(UserError, match=message):
        check_tracking(Tracking())


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("TAGS", "a,,b"),
        ("TAGS", "t" * 65),
        ("PROJECT", "a/b"),
        ("RESUME", "yes"),
        ("SILENT", "no!"),
        ("RUN_ID", "a/b"),
    ],
)
def test_a_variable_that_stops_wandb_is_refused_whatever_the_settings_say(monkeypatch, variable, value):
    tracking = Tracking(mode="offline", project="mine", group="g", tags=("c",))
    check_tracking(tracking)
    monkeypatch.setenv(f"WANDB_{variable}", value)
    with pytest.raises(
        UserError, match=f"(?i)W&B refuses its environment variables: .*{variable.replace('_', ' ').rstrip('S')}"
    ):
        check_tracking(tracking)
    check_tracking(Tracking(mode="disabled"))


def test_names_that_nobody_chose_are_cut():
    long = names(Tracking(), group="g" * 200, name="n" * 200, tags=("t" * 70, "", "u"))
    assert long == Names("metarl", "g" * 128, "n" * 128, ("t" * 64, "u"), "train")
    assert names(Tracking(), group="g", name=named(Path(os.fsdecode(b"run\xff")), 0), tags=()).name == "run?-seed0"


def test_what_is_taken_here_is_taken_by_wandb(tmp_path, recorded):
    from metarl import runs
    from metarl.experiment import Experiment

    tracking = Tracking(mode="offline", project="p" * 128, group="g" * 128, tags=("t" * 64,))
    experiment = Experiment(tracking=tracking)
    runs.create(tmp_path / ("n" * 128), experiment)
    with runs.open_tracker(tmp_path / ("n" * 128), experiment) as tracker:
        pass
    assert tracker.wandb_dir
    [run] = recorded(tracker.wandb_dir, "run")
    assert (run["project"], run["run_group"], run["display_name"]) == ("p" * 128, "g" * 128, "n" * 128)
    assert "t" * 64 in run["tags"]
