"""Metrics reach the disk and a real offline W&B run, and nothing that breaks there breaks the run."""

import json
import os
import shutil
import subprocess
import sys
import time
import warnings
from pathlib import Path

import numpy as np
import pytest

from metarl.errors import UserError
from metarl.runs import wandb_run
from metarl.runs.metrics import truncate_metrics
from metarl.runs.tracking import Tracker

PIXEL_PNG = bytes.fromhex(
    "89504e470d0a1a0a0000000d4948445200000001000000010802000000907753de"
    "0000000c49444154789c63f8cfc0000003010100c9fe92ef0000000049454e44ae426082"
)


@pytest.fixture(autouse=True)
def no_account(monkeypatch, tmp_path):
    """No login and no W&B settings but those of the test; what a tracker sets is undone."""
    for name in [name for name in os.environ if name.startswith("WANDB_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("WANDB_DATA_DIR", "")
    monkeypatch.delenv("WANDB_DATA_DIR")
    monkeypatch.setenv("NETRC", str(tmp_path / "no-netrc"))
    monkeypatch.setenv("WANDB_CONFIG_DIR", str(tmp_path / "no-settings"))


def start(run_dir: Path, mode="offline", run_id="run1", **changes) -> Tracker:
    arguments = {"config": {}, "project": "suite", "group": None, "name": None} | changes
    return Tracker.open(run_dir, arguments.pop("config"), mode=mode, run_id=run_id, **arguments)


def log_three(tracker: Tracker) -> None:
    for iteration in range(3):
        tracker.log({"a": 1.0}, iteration=iteration, environment_steps=iteration)


def rows(run_dir: Path) -> list[dict]:
    return [json.loads(line) for line in (run_dir / "metrics.jsonl").read_text().splitlines()]


def inspect(wandb_dir: Path, *options: str) -> str:
    """What W&B's own reader finds in a recorded run."""
    command = [sys.executable, "-m", "wandb", "leet", "inspect", "--json", *options, str(wandb_dir)]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=30).stdout


def records(wandb_dir: Path, kind: str) -> list[dict]:
    found = [json.loads(line) for line in inspect(wandb_dir).splitlines()]
    return [record[kind] for record in found if record["type"] == kind]


def test_an_offline_run_holds_everything_logged(tmp_path):
    png, mp4, checkpoint = tmp_path / "a.png", tmp_path / "a.mp4", tmp_path / "last.pt"
    png.write_bytes(PIXEL_PNG)
    mp4.write_bytes(b"not looked into")
    checkpoint.write_bytes(b"weights")
    config = {"algorithm": {"inner_lr": 0.1}, "seed": 3}
    with start(tmp_path / "run", config=config, group="maml", name="first", tags=["b", "a", "b"]) as tracker:
        tracker.log({"train/return": 1.5}, iteration=0, environment_steps=800)
        tracker.log({"train/return": np.float32(2.5)}, iteration=1, environment_steps=1600)
        at = {"iteration": 1, "environment_steps": 1600}
        tracker.table("held_out/goals", ["goal", "return"], [[0.5, -10.0], [1.5, float("nan")]], **at)
        tracker.media("held_out/figure", png, "a caption", **at)
        tracker.media("held_out/rollout", mp4, "another", **at)
        tracker.artifact(checkpoint, "checkpoint", "model", aliases=("latest", "best"))
        tracker.summary({"held_out/final": np.float64(7.0)})
    assert tracker.wandb_dir is not None
    assert tracker.wandb_dir.is_relative_to(tmp_path / "run")

    [run] = records(tracker.wandb_dir, "run")
    expected = {"project": "suite", "run_group": "maml", "display_name": "first", "run_id": "run1"}
    expected |= {"job_type": "train", "tags": ["b", "a"]}
    assert {key: run[key] for key in expected} == expected
    history = [record["item"] for record in records(tracker.wandb_dir, "history")]
    axes = [(row["iteration"], row["environment_steps"]) for row in history]
    assert axes == [(0, 800), (1, 1600), (1, 1600), (1, 1600), (1, 1600)]
    assert [row["train/return"] for row in history[:2]] == [1.5, 2.5]
    kinds = {key.split(".")[0]: value for row in history for key, value in row.items() if key.endswith("._type")}
    assert kinds == {
        "held_out/goals": "table-file",
        "held_out/figure": "image-file",
        "held_out/rollout": "video-file",
    }
    media = {path.suffix: path.read_bytes() for path in (tracker.wandb_dir / "files/media").rglob("*.*")}
    assert media[".png"] == PIXEL_PNG
    assert media[".mp4"] == b"not looked into"

    summary = json.loads(inspect(tracker.wandb_dir, "--summary"))
    assert summary["config"] == config
    assert summary["summary"]["held_out/final"] == 7.0
    assert (summary["state"], summary["exit_code"]) == ("finished", 0)


def test_every_metric_is_plotted_against_environment_steps(tmp_path):
    with start(tmp_path) as tracker:
        pass
    defined = records(tracker.wandb_dir, "metric")
    assert [metric.get("name") for metric in defined] == ["iteration", "environment_steps", "time/training_s", None]
    assert (defined[3]["glob_name"], defined[3]["step_metric"]) == ("*", "environment_steps")


def test_every_row_says_how_long_training_took_before_it(tmp_path):
    """Also after a resume, which cuts the rows of the last iteration off; not where there is no environment."""
    for first in (0, 2):
        truncate_metrics(tmp_path / "metrics.jsonl", first - 1)
        with start(tmp_path, mode="disabled") as tracker:
            for iteration in range(first, first + 3):
                at = {"iteration": iteration, "environment_steps": 10 * iteration}
                tracker.log({"validation/return_0_steps": 0.0}, **at)
                tracker.log({"time/iteration_s": 1.5 + iteration}, **at)
            tracker.log({"validation/return_0_steps": 0.0}, iteration=first + 3, environment_steps=10 * (first + 3))
            tracker.log({"a": 0.0}, iteration=first + 3)
    seconds = [row.get("time/training_s") for row in rows(tmp_path)]
    assert seconds == [0, 0, 1.5, 1.5, 4, 4, 7.5, 7.5, 12, 12, 17.5, None]


def test_a_table_holds_videos_as_they_were(tmp_path):
    """JSON names the file, W&B keeps what was in it, also when the next test films the same task again."""
    mp4, elsewhere = tmp_path / "run" / "videos" / "a.mp4", tmp_path / "b.mp4"
    mp4.parent.mkdir(parents=True)
    elsewhere.write_bytes(b"of another folder")
    with start(tmp_path / "run") as tracker:
        for iteration, content in enumerate((b"first", b"second")):
            mp4.write_bytes(content)
            cells = [["goal 1", float("nan"), mp4], ["goal 2", 2.5, elsewhere]]
            tracker.table("films", ["task", "return", "video"], cells, iteration=iteration)
    written = [["goal 1", None, "videos/a.mp4"], ["goal 2", 2.5, str(elsewhere)]]
    assert [row["films"]["rows"] for row in rows(tmp_path / "run")] == [written] * 2
    artifacts = records(tracker.wandb_dir, "artifact")
    for artifact, content in zip(artifacts, (b"first", b"second"), strict=True):
        files = {Path(entry["path"]).name: Path(entry["local_path"]) for entry in artifact["manifest"]["contents"]}
        assert files["a.mp4"].read_bytes() == content
        assert files["b.mp4"].read_bytes() == b"of another folder"
        table = json.loads(files["films.table.json"].read_text())
        assert table["columns"] == ["task", "return", "video"]
        assert [row[:2] for row in table["data"]] == [["goal 1", None], ["goal 2", 2.5]]
        assert [row[2]["_type"] for row in table["data"]] == ["video-file"] * 2
    history = [record["item"] for record in records(tracker.wandb_dir, "history")]
    assert [(row["films._type"], row["films.nrows"]) for row in history] == [("table-file", 2)] * 2


def test_an_artifact_survives_its_file(tmp_path):
    checkpoint = tmp_path / "last.pt"
    checkpoint.write_bytes(b"old weights")
    with start(tmp_path / "run") as tracker:
        about = {"iteration": 3, "gain": -float("inf")}
        tracker.artifact(checkpoint, "checkpoint", "model", aliases=("latest", "best"), metadata=about)
        checkpoint.write_bytes(b"new weights")
    [artifact] = records(tracker.wandb_dir, "artifact")
    [content] = artifact["manifest"]["contents"]
    copy = Path(content["local_path"])
    assert (artifact["name"], artifact["type"]) == ("checkpoint", "model")
    assert set(artifact["aliases"]) == {"latest", "best"}
    assert json.loads(artifact["metadata"]) == {"iteration": 3, "gain": None}
    assert copy.read_bytes() == b"old weights"
    assert copy.is_relative_to(tmp_path / "run")


def test_an_exception_marks_the_run_failed(tmp_path):
    with pytest.raises(KeyError), start(tmp_path) as tracker:
        raise KeyError("training")
    summary = json.loads(inspect(tracker.wandb_dir, "--summary"))
    assert (summary["state"], summary["exit_code"]) == ("failed", 1)


def test_metrics_file_is_strict_json_one_row_for_each_call(tmp_path):
    with start(tmp_path, mode="disabled") as tracker:
        tracker.log({"a": float("nan"), "b": -float("inf"), "c": 3}, iteration=0, environment_steps=10)
        at = {"iteration": 0, "environment_steps": 10, "time/training_s": 0.0}
        assert rows(tmp_path) == [{**at, "a": None, "b": None, "c": 3.0}]
        tracker.table("t", ["x", "y"], [["goal", np.float64("nan")]], iteration=1, environment_steps=20)
    assert rows(tmp_path)[1]["t"] == {"columns": ["x", "y"], "rows": [["goal", None]]}


def test_disabled_leaves_wandb_alone(tmp_path):
    with start(tmp_path, mode="disabled") as tracker:
        tracker.log({"a": 1.0}, iteration=0, environment_steps=1)
    assert tracker.wandb_dir is None
    assert [path.name for path in tmp_path.iterdir()] == ["metrics.jsonl"]


def test_a_run_continues_in_the_same_files_under_the_same_id(tmp_path):
    for iteration in range(2):
        with start(tmp_path, run_id="same") as tracker:
            tracker.log({"a": 1.0}, iteration=iteration, environment_steps=iteration)
        assert records(tracker.wandb_dir, "run")[0]["run_id"] == "same"
    assert [row["iteration"] for row in rows(tmp_path)] == [0, 1]


def history(tracker: Tracker) -> list[int]:
    return [record["item"]["iteration"] for record in records(tracker.wandb_dir, "history")]


def resumed(run_dir: Path) -> Tracker:
    """A second part of a run, in which the last of three iterations and one more are computed."""
    truncate_metrics(run_dir / "metrics.jsonl", 1)
    time.sleep(1.1)  # W&B names a part after the second
    with start(run_dir) as tracker:
        for iteration in (2, 3):
            tracker.log({"a": 1.0}, iteration=iteration, environment_steps=iteration)
    return tracker


def test_a_row_that_an_earlier_part_holds_is_not_recorded_again(tmp_path):
    with start(tmp_path) as tracker:
        log_three(tracker)
    shutil.rmtree(tracker.wandb_dir)  # after a proper end it is not read; `wandb sync --clean` removes it
    assert history(resumed(tmp_path)) == [3]
    assert [row["iteration"] for row in rows(tmp_path)] == [0, 1, 2, 3]


@pytest.mark.parametrize("known", [None, b"", b"[]", b'{"offline-run-1": [{"names": 3, "at": [[1]]}]}', b"\xff"])
def test_a_part_of_which_nothing_is_known_is_read(tmp_path, known):
    with start(tmp_path) as tracker:
        log_three(tracker)
        tracker.table("t", ["x"], [[1.0]], iteration=2, environment_steps=2)
    ledger = tmp_path / "wandb" / "held.json"
    ledger.write_bytes(known) if known is not None else ledger.unlink()
    assert history(resumed(tmp_path)) == [3]


@pytest.mark.parametrize("left", [0, 7])
def test_rows_that_no_part_holds_are_recorded_by_the_next(tmp_path, left):
    with start(tmp_path) as tracker:
        tracker.log({"a": float("nan"), "b": 2.0}, iteration=0, environment_steps=0)
        tracker.table("t", ["x", "y"], [["goal", float("nan")]], iteration=0, environment_steps=0)
        log_three(tracker)
    (tmp_path / "wandb" / "held.json").unlink()
    part = next(tracker.wandb_dir.glob("*.wandb"))  # as a kill leaves it: a header, or not even that
    part.write_bytes(part.read_bytes()[:left])
    tracker = resumed(tmp_path)
    assert history(tracker) == [0, 0, 0, 1, 2, 3]
    first, table, *_ = [record["item"] for record in records(tracker.wandb_dir, "history")]
    assert (first["b"], table["t._type"], table["t.nrows"]) == (2.0, "table-file", 1)


def test_rows_that_no_tracker_wrote_stop_nothing(tmp_path):
    odd = [{"a": "text"}, {"a": {"columns": 3}}, {"a": {"columns": ["x"], "rows": [[1, 2]]}}, {"environment_steps": []}]
    content = "".join(json.dumps({"iteration": n, **row}) + "\n" for n, row in enumerate(odd))
    (tmp_path / "metrics.jsonl").write_text(content)
    with start(tmp_path) as tracker:
        tracker.log({"a": 1.0}, iteration=9, environment_steps=1)
    assert history(tracker)[-1] == 9


def test_a_picture_is_recorded_as_often_as_it_is_shown(tmp_path):
    png = tmp_path / "a.png"
    png.write_bytes(PIXEL_PNG)
    for _ in range(2):
        with start(tmp_path / "run") as tracker:
            tracker.media("figure", png, iteration=1, environment_steps=1)
        (tmp_path / "run/wandb/held.json").unlink()
        assert history(tracker) == [1]


def test_auto_without_login_is_offline_and_silent(tmp_path, capfd):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with start(tmp_path, mode="auto") as tracker:
            tracker.log({"a": 1.0}, iteration=0, environment_steps=1)
    assert tracker.wandb_dir.name.startswith("offline-run-")
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(("value", "recorded"), [("disabled", False), ("offline", True), ("dryrun", True)])
def test_auto_follows_wandb_mode(tmp_path, monkeypatch, value, recorded):
    monkeypatch.setenv("WANDB_MODE", value)
    with start(tmp_path, mode="auto") as tracker:
        assert (tracker.wandb_dir is not None) == recorded


def test_an_unknown_wandb_mode_names_the_nearest(tmp_path, monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "ofline")
    with pytest.raises(UserError, match=r"WANDB_MODE is 'ofline'.*'offline'"):
        start(tmp_path, mode="auto")


def test_a_sweep_agent_names_the_run(tmp_path, monkeypatch):
    monkeypatch.setenv("WANDB_RUN_ID", "from-agent")
    with start(tmp_path, run_id="ours") as tracker:
        pass
    assert tracker.wandb_dir.name.endswith("from-agent")


def test_online_without_login_neither_asks_nor_stops(tmp_path):
    with pytest.warns(RuntimeWarning, match="no W&B login") as caught:
        tracker = start(tmp_path, mode="online")
    tracker.close()
    assert len(caught) == 1
    assert tracker.wandb_dir.name.startswith("offline-run-")


def test_online_without_network_falls_back_to_offline(tmp_path, monkeypatch):
    """In a process of its own: W&B reads the server's address once."""
    program = f"""
import warnings
from pathlib import Path
from metarl.runs import tracking, wandb_run
wandb_run.INIT_TIMEOUT = 2.0
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    run_dir = Path({str(tmp_path)!r})
    with tracking.Tracker.open(
        run_dir, {{}}, mode="auto", project="p", group=None, name=None, run_id="r"
    ) as tracker:
        tracker.log({{"a": 1.0}}, iteration=0, environment_steps=1)
print(tracker.wandb_dir)
print(*[warning.message for warning in caught if warning.category is RuntimeWarning], sep="\\n")
"""
    monkeypatch.setenv("WANDB_API_KEY", "0" * 40)
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")  # nobody listens there
    command = [sys.executable, "-c", program]
    output = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout.splitlines()
    wandb_dir, reported = output[-2:]
    assert Path(wandb_dir).name.startswith("offline-run-")
    assert "did not start online" in reported
    assert "recorded offline" in reported
    assert sum("recorded offline" in line for line in output) == 1
    assert records(Path(wandb_dir), "history")[0]["item"]["a"] == 1.0


def test_wandb_that_cannot_start_leaves_the_metrics(tmp_path):
    with pytest.warns(RuntimeWarning, match=r"W&B did not start.*metrics\.jsonl") as caught:
        tracker = start(tmp_path, run_id="not/an/id")
    assert len(caught) == 1
    assert tracker.wandb_dir is None
    log_three(tracker)
    tracker.close()
    assert len(rows(tmp_path)) == 3


def test_wandb_that_breaks_is_reported_once_and_left(tmp_path):
    tracker = start(tmp_path)
    tracker._run.finish()  # as if W&B had ended under us: it refuses what comes next
    with pytest.warns(RuntimeWarning, match=r"W&B stopped.*metrics are still written") as caught:
        log_three(tracker)
    assert len(caught) == 1
    tracker.summary({"a": 1.0})
    tracker.close()
    assert [row["iteration"] for row in rows(tmp_path)] == [0, 1, 2]


def test_a_missing_picture_does_not_stop_the_run(tmp_path):
    with start(tmp_path) as tracker:
        log_three(tracker)
        with pytest.warns(RuntimeWarning, match="W&B stopped"):
            tracker.media("figure", tmp_path / "absent.png", iteration=2, environment_steps=2)
    assert len(records(tracker.wandb_dir, "history")) == 3
    assert json.loads(inspect(tracker.wandb_dir, "--summary"))["state"] == "failed"


def test_a_metrics_file_that_cannot_be_written_is_reported_once(tmp_path):
    (tmp_path / "metrics.jsonl").mkdir()
    with start(tmp_path, mode="disabled") as tracker:
        with pytest.warns(RuntimeWarning, match=r"cannot write .*metrics\.jsonl") as caught:
            log_three(tracker)
        assert len(caught) == 1
        (tmp_path / "metrics.jsonl").rmdir()
        tracker.log({"a": 1.0}, iteration=3, environment_steps=3)
    assert [row["iteration"] for row in rows(tmp_path)] == [3]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
def test_a_full_disk_does_not_stop_the_run(tmp_path):
    with start(tmp_path, mode="disabled") as tracker:
        (tmp_path / "metrics.jsonl").symlink_to("/dev/full")  # only now: reading it never ends
        with pytest.warns(RuntimeWarning, match="No space left"):
            tracker.log({"a": 1.0}, iteration=0, environment_steps=1)


def test_truncation_drops_later_rows_and_a_torn_line(tmp_path):
    path = tmp_path / "metrics.jsonl"
    lines = [json.dumps({"iteration": i, "a": i * 0.5}) for i in (0, 1, 1, 2, 3)]
    path.write_text("\n".join(lines) + '\n{"iteration": 1, "a": 0.')
    truncate_metrics(path, 1)
    assert path.read_text() == "\n".join(lines[:3]) + "\n"
    assert [entry.name for entry in tmp_path.iterdir()] == ["metrics.jsonl"]


def test_truncation_then_logging_gives_whole_lines(tmp_path):
    (tmp_path / "metrics.jsonl").write_text('{"iteration": 4, "a": 1.0}')  # whole, but for its line break
    truncate_metrics(tmp_path / "metrics.jsonl", 4)
    with start(tmp_path, mode="disabled") as tracker:
        tracker.log({"a": 2.0}, iteration=5, environment_steps=1)
    assert [row["a"] for row in rows(tmp_path)] == [1.0, 2.0]


def test_truncating_a_missing_file_does_nothing(tmp_path):
    truncate_metrics(tmp_path / "metrics.jsonl", 5)
    assert not list(tmp_path.iterdir())


def test_the_module_imports_without_wandb():
    """Loading W&B costs half a second, which a run without it should not pay."""
    program = "import sys, metarl.runs.tracking; sys.exit('wandb' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], timeout=30).returncode == 0


def test_an_unreachable_server_is_given_up_soon():
    assert wandb_run.INIT_TIMEOUT <= 30


def test_a_row_that_did_not_fit_on_the_disk_does_not_swallow_the_next(tmp_path):
    script = (
        "import resource, sys, warnings\n"
        "from pathlib import Path\n"
        "from metarl.runs.tracking import Tracker\n"
        "warnings.simplefilter('ignore')\n"
        "names = {'project': '', 'group': None, 'name': None, 'run_id': 'r'}\n"
        "with Tracker.open(Path(sys.argv[1]), {}, mode='disabled', **names) as tracker:\n"
        "    for iteration, most in enumerate((1000, 100, 100, 1000)):\n"
        "        resource.setrlimit(resource.RLIMIT_FSIZE, (most, -1))\n"
        "        tracker.log({'a': 1.0, 'b' * 40: 2.0}, iteration=iteration)\n"
    )
    subprocess.run([sys.executable, "-c", script, str(tmp_path)], check=True, timeout=60)
    assert [row["iteration"] for row in rows(tmp_path)] == [0, 3]
