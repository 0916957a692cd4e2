"""A bar for those who wait, and for nobody else."""

import io
import os
import subprocess
import sys

import pytest
from rich.console import Console

from metarl.runs import console
from metarl.runs.console import PatientProgress, TrainingProgress


def shown(monkeypatch, patience, **settings):
    """What two parts of three put on the terminal."""
    monkeypatch.setattr(console, "PATIENCE", patience)
    text = io.StringIO()
    with PatientProgress("adapting", 3, Console(file=text, **settings)) as progress:
        progress.advance()
        progress.advance()
    return text.getvalue()


def test_a_bar_appears_for_those_who_wait_and_goes_away(monkeypatch):
    text = shown(monkeypatch, patience=-1, force_terminal=True)
    assert "adapting" in text
    assert text.rstrip().endswith("\x1b[2K")  # the line is erased


@pytest.mark.parametrize(("patience", "terminal"), [(60, True), (-1, False)])
def test_there_is_none_where_it_is_done_soon_or_nobody_looks(monkeypatch, patience, terminal):
    assert shown(monkeypatch, patience, force_terminal=terminal) == ""


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


def test_names_in_brackets_are_no_markup(monkeypatch):
    text = io.StringIO()
    monkeypatch.setattr(console, "PATIENCE", 0.0)
    terminal = Console(file=text, force_terminal=True, color_system=None, width=100)
    with TrainingProgress(1, 0, terminal) as progress:
        progress.note("run [/x] and [bold]")
    with PatientProgress("task [/y]", 1, terminal) as bar:
        bar.advance()
    assert "run [/x] and [bold]" in text.getvalue()
    assert "task [/y]" in text.getvalue()
