"""Progress: a bar on a terminal, lines elsewhere."""

import io
import os
import subprocess
import sys

import pytest
from rich.console import Console

from metarl.runs import console
from metarl.runs.console import PartProgress, TrainingProgress


def shown(terminal, **settings):
    """What is printed while two parts of three are done."""
    text = io.StringIO()
    console = Console(file=text, force_terminal=terminal, width=100)
    with PartProgress("adapting", 3, console=console, **settings) as progress:
        progress.advance()
        progress.advance()
    return text.getvalue()


@pytest.mark.parametrize("settings", [{}, {"lines": False}])
def test_a_bar_appears_on_a_terminal_and_is_removed_at_the_end(settings):
    text = shown(terminal=True, **settings)
    assert "adapting" in text
    assert text.rstrip().endswith("\x1b[2K")  # the line is erased


def test_there_is_no_bar_where_all_is_done_before_patience_ends():
    assert shown(terminal=True, patience=60.0) == ""


def test_without_a_terminal_lines_tell_what_is_done_and_the_time_left(monkeypatch):
    assert shown(terminal=False) == ""  # it took less than INTERVAL
    monkeypatch.setattr(console, "INTERVAL", 0.0)
    first, second = shown(terminal=False).splitlines()
    assert first.startswith("adapting 1/3  left 0.0 min")
    assert second.startswith("adapting 2/3  left 0.0 min")
    assert shown(terminal=False, lines=False) == ""


@pytest.mark.parametrize(("steps", "text"), [(12.3, "12 steps/s"), (43_210.0, "43,210 steps/s")])
def test_the_speed_of_any_run_is_told(steps, text):
    terminal = Console(file=io.StringIO(), width=100)
    metrics = {"train/return_before": -1.0, "train/return_after": 2.0, "time/environment_steps_per_s": steps}
    with TrainingProgress(2, 0, terminal) as progress:
        progress.show(1, metrics)
    assert f"iteration 1/2  return -1.0 → 2.0  {text}" in terminal.file.getvalue()


@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
def test_a_terminal_without_arrows_is_told_all_the_same(encoding):
    script = (
        "from metarl.errors import exits_cleanly\n"
        "from metarl.runs.console import TrainingProgress\n"
        "@exits_cleanly\n"
        "def main():\n"
        "    with TrainingProgress(1, 0) as progress:\n"
        "        progress.note('return 1 → 2')\n"
        "    print('in a folder n\\udcff')\n"
        "main()\n"
    )
    environment = {**os.environ, "PYTHONIOENCODING": encoding}
    process = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, check=True)
    assert process.stdout.split(b"\n") == [b"return 1 \\u2192 2", b"in a folder n\\udcff", b""]


def test_names_in_brackets_are_no_markup():
    text = io.StringIO()
    terminal = Console(file=text, force_terminal=True, color_system=None, width=100)
    with TrainingProgress(1, 0, terminal) as progress:
        progress.note("run [/x] and [bold]")
    with PartProgress("task [/y]", 1, console=terminal) as bar:
        bar.advance()
    assert "run [/x] and [bold]" in text.getvalue()
    assert "task [/y]" in text.getvalue()
